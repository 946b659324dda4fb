#!/usr/bin/env python3
"""Ten times more requests than the service can answer: what comes through, how late, how fast the
rest is refused, and when all is well again.

usage: overload.py --model DIR [--seconds N] [--times N] [--shared] [--json FILE] [-- SERVE FLAGS]

The load generator (vegeta, open loop) has one CPU and the service the others; with --shared, or on
a machine with one CPU, they take it from each other, and what the generator takes is missing."""

import argparse
import base64
import contextlib
import csv
import http.client
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from conftest import BIN, PATIENCE_S  # noqa: E402
from go_tool import Missing, go_tool  # noqa: E402

VEGETA = "github.com/tsenart/vegeta/v12@v12.13.0"
PEAK_CALLERS = 32    # enough to keep every thread busy, too few to fill a queue
CONNECTIONS = 900    # below --max-connections
WARM_UP_S = 1        # at the head of a run that is not counted
PROBE_EVERY_S = 0.05
WORDS = ("the quick brown fox jumps over a lazy dog while seven wizards quietly box up every "
         "liquor jug in town and news of it travels fast").split()


def texts(n=400):
    """Sentences of 4 to 40 words."""
    choose = random.Random(4)
    return [" ".join(choose.choices(WORDS, k=choose.randint(4, 40))) for _ in range(n)]


def percentile(values, share):
    """None of nothing."""
    return sorted(values)[int(len(values) * share)] if values else None


class Service:
    def __init__(self, folder, model, cpus, flags=()):
        self.log = folder / "service.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", ",".join(map(str, cpus)), BIN, "serve", "--model", str(model),
                 "--log-format", "json", "--listen", "127.0.0.1:0", "--admin-listen",
                 "127.0.0.1:0", *flags], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE_S
        self.address = None
        while time.monotonic() < end and self.process.poll() is None:
            lines = [json.loads(line) for line in self.log.read_text().splitlines()]
            if any(line["message"] == "ready" for line in lines):
                self.address = next(line["address"] for line in lines
                                    if line.get("listener") == "main")
                return
            time.sleep(0.1)
        self.process.kill()
        raise AssertionError(f"not ready: {self.log.read_text()}")

    def cpu_seconds(self):
        """(of the compute threads, of all others)."""
        sums = [0.0, 0.0]
        for stat in pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/stat"):
            name, fields = stat.read_text().split("(", 1)[1].rsplit(")", 1)
            fields = fields.split()
            compute = name == "compute"
            sums[not compute] += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return sums

    def ask(self, connection, method, path, body=None):
        """(status, seconds) on a connection that stays."""
        begin = time.monotonic()
        connection.request(method, path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        reply.read()
        return reply.status, time.monotonic() - begin

    def stop(self):
        self.process.terminate()
        return self.process.wait(PATIENCE_S)


class Caller:
    """One request after another in a thread, each noted as (begin, status, seconds)."""

    def __init__(self, service, method, path, body=None, pause_s=PROBE_EVERY_S):
        self.calls = []
        self.ended = threading.Event()
        self.service, self.request, self.pause_s = service, (method, path, body), pause_s
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        with contextlib.closing(http.client.HTTPConnection(self.service.address,
                                                           timeout=PATIENCE_S)) as connection:
            while not self.ended.wait(self.pause_s):
                begin = time.time()
                self.calls.append((begin, *self.service.ask(connection, *self.request)))

    def stop(self):
        self.ended.set()
        self.thread.join()
        return self.calls


class Attack:
    """vegeta for a number of seconds; calls: [(begin, status, seconds)]."""

    def __init__(self, folder, address, rate, workers, seconds, cpus):
        targets = folder / "targets.json"
        with targets.open("w") as file:
            for text in texts():
                body = base64.b64encode(json.dumps({"inputs": text}).encode()).decode()
                print(json.dumps({"method": "POST", "url": f"http://{address}/embed", "body": body,
                                  "header": {"Content-Type": ["application/json"]}}), file=file)
        results = folder / "results.bin"
        subprocess.run(["taskset", "-c", ",".join(map(str, cpus)), go_tool(VEGETA), "attack",
                        "-format=json", f"-targets={targets}", f"-rate={rate}",
                        f"-max-workers={workers}", f"-duration={seconds}s", "-timeout=60s",
                        f"-output={results}"], check=True)
        rows = subprocess.run([go_tool(VEGETA), "encode", "-to", "csv", results], check=True,
                              capture_output=True, text=True).stdout.splitlines()
        csv.field_size_limit(1 << 30)
        self.calls = [(int(row[0]) / 1e9, int(row[1]), int(row[2]) / 1e9)
                      for row in csv.reader(rows)]
        self.seconds = seconds
        self.begin = min(call[0] for call in self.calls)
        self.last = max(call[0] for call in self.calls)

    def goodput(self):
        """Answers a second, without the first second."""
        begin, end = self.begin + WARM_UP_S, self.begin + self.seconds
        done = [1 for at, status, took in self.calls
                if status == 200 and begin <= at + took < end]
        return len(done) / (end - begin)


def measure(folder, model, seconds=20, times=10, shared=False, flags=()):
    """Peak, overload, peak again; a dictionary of what came out. Times are in seconds."""
    cpus = sorted(os.sched_getaffinity(0))
    shared = shared or len(cpus) == 1
    ours, theirs = (cpus, cpus) if shared else (cpus[-1:], cpus[:-1])
    os.sched_setaffinity(0, ours)
    service = Service(folder, model, theirs, flags)
    try:
        peaks = [Attack(folder, service.address, 0, PEAK_CALLERS, seconds // 2, ours).goodput()]
        with contextlib.closing(http.client.HTTPConnection(service.address)) as connection:
            body = json.dumps({"inputs": "how long does it take"})
            idle = percentile([service.ask(connection, "POST", "/embed", body)[1]
                               for _ in range(21)], 0.5)
        rate = max(1, round(peaks[0] * times))
        probe = Caller(service, "GET", "/livez")
        lone = Caller(service, "POST", "/embed", body, 0.02)
        before = service.cpu_seconds()
        over = Attack(folder, service.address, rate, CONNECTIONS, seconds, ours)
        after = service.cpu_seconds()
        time.sleep(1)
        probes = [took for at, _, took in probe.stop() if at < over.last]
        # Well again: a lone request is answered about as fast as on an idle service.
        well = [at + took for at, status, took in lone.stop()
                if at > over.last and status == 200 and took < 2 * idle + 0.05]
        peaks.append(Attack(folder, service.address, 0, PEAK_CALLERS, seconds // 2, ours).goodput())
    finally:
        status = service.stop()
        os.sched_setaffinity(0, cpus)
    accepted = [took for _, code, took in over.calls if code == 200]
    refused = [took for _, code, took in over.calls if code == 429]
    peak = sum(peaks) / len(peaks)
    return {
        "service_cpus": len(theirs), "shared": shared, "peak_rps": peak, "peaks_rps": peaks,
        "offered_rps": len(over.calls) / seconds, "wanted_rps": rate,
        "goodput_rps": over.goodput(), "goodput_of_peak": over.goodput() / peak,
        "accepted": len(accepted), "accepted_p50_s": percentile(accepted, 0.5),
        "accepted_p99_s": percentile(accepted, 0.99),
        "refused": len(refused), "refused_p50_s": percentile(refused, 0.5),
        "refused_p99_s": percentile(refused, 0.99),
        "failed": len(over.calls) - len(accepted) - len(refused),
        "probe_p50_s": percentile(probes, 0.5), "probe_p99_s": percentile(probes, 0.99),
        "recovery_s": well[0] - over.last if well else None,
        # Of the service's CPUs: what everything but computing took.
        "handling_share": (after[1] - before[1]) / seconds / len(theirs),
        "exit_status": status,
    }


def rounded(result):
    return {key: round(value, 4) if isinstance(value, float) else value
            for key, value in result.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--model", metavar="DIR", required=True)
    parser.add_argument("--seconds", type=int, default=20, help="of the overload (default: 20)")
    parser.add_argument("--times", type=float, default=10, help="the peak (default: 10)")
    parser.add_argument("--shared", action="store_true", help="generator and service share CPUs")
    parser.add_argument("--json", metavar="FILE", help="write the result there too")
    parser.add_argument("flags", nargs="*", metavar="FLAG", help="of serve")
    options = parser.parse_args()
    try:
        go_tool(VEGETA)
    except Missing as reason:
        sys.exit(f"overload.py: {reason}")
    with tempfile.TemporaryDirectory(prefix="orthrus-overload-") as folder:
        result = rounded(measure(pathlib.Path(folder), options.model, options.seconds,
                                 options.times, options.shared, options.flags))
    print(json.dumps(result, indent=2))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
