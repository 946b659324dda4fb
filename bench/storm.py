#!/usr/bin/env python3
"""Closed-loop storms by wrk, which ignores Retry-After: goodput (answers 2xx a second) at each number of connections
relative to the best of them, what the refused and the accepted waited, who took the CPU, and how soon a lone request
is well again.

usage: storm.py [--connections 16,128,512,1000] [--seconds N] [--server-cpus 0,1] [--client-cpus 0,1]
                (--serve 'orthrus serve ARGUMENTS' | --command 'ANY SERVER' --address HOST:PORT)

--serve starts orthrus with a free port and reads its log for the accepted requests' times; --command starts any other
server and waits for its /health. One line of JSON for each number of connections, the last of all together."""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
TEXTS = HERE.parent / "tests/data/sentences.txt"
BODY = json.dumps({"inputs": "how long does it take"})
START_S = 120
PROBE_EVERY_S = 0.05
WAIT_S = 6  # for a lone request to be well again
TICKS = os.sysconf("SC_CLK_TCK")


def percentile(values, share):
    return round(sorted(values)[int(len(values) * share)], 4) if values else None


class Service:
    def __init__(self, options, folder):
        command = shlex.split(options.serve or options.command)
        self.address = options.address
        self.log = folder / "log"
        if options.serve:
            command += ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-format", "json"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(["taskset", "-c", options.server_cpus, *command],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + START_S
        while time.monotonic() < end and self.process.poll() is None:
            if options.serve:
                for line in self.lines(0):
                    if line.get("listener") == "main":
                        self.address = line["address"]
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.address and self.ask("GET", "/health")[0] == 200:
                    return
            time.sleep(0.1)
        self.process.kill()
        sys.exit(f"storm.py: the server is not ready: {self.log.read_text()[-2000:]}")

    def lines(self, after, until=None):
        """The log between those bytes."""
        with self.log.open("rb") as log:
            log.seek(after)
            for line in log.read(until and until - after).splitlines():
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    def ask(self, method, path, body=None, connection=None):
        begin = time.monotonic()
        connection = connection or http.client.HTTPConnection(self.address, timeout=60)
        connection.request(method, path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        reply.read()
        return reply.status, time.monotonic() - begin

    def cpu(self):
        """Seconds of CPU by the name of the thread."""
        sums = {}
        for stat in pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/stat"):
            with contextlib.suppress(OSError):
                name, fields = stat.read_text().split("(", 1)[1].rsplit(")", 1)
                fields = fields.split()
                sums[name] = sums.get(name, 0) + (int(fields[11]) + int(fields[12])) / TICKS
        return sums

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


def recovery(service, options, idle_s):
    """Seconds until a request is answered about as fast as on an idle service."""
    begin = time.monotonic()
    while time.monotonic() - begin < WAIT_S:
        status, took_s = service.ask("POST", options.route, BODY)
        if status == 200 and took_s < 2 * idle_s + 0.05:
            return round(time.monotonic() - begin, 3)
        time.sleep(PROBE_EVERY_S)
    return None


def storm(service, options, connections, idle_s):
    log_at = service.log.stat().st_size
    cpu = service.cpu()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    probes, ended = [], threading.Event()

    def probe():
        while not ended.wait(PROBE_EVERY_S * 4):
            with contextlib.suppress(OSError, http.client.HTTPException):
                probes.append(service.ask("GET", "/health")[1])

    thread = threading.Thread(target=probe)
    thread.start()
    out = subprocess.run(
        ["taskset", "-c", options.client_cpus, "wrk", "-t1", f"-c{connections}", f"-d{options.seconds}s", "--timeout",
         "60s", "-s", HERE / "load.lua", f"http://{service.address}{options.route}", "--", TEXTS],
        check=True, capture_output=True, text=True).stdout
    ended.set()
    log_end = service.log.stat().st_size
    recovered_s = recovery(service, options, idle_s)
    thread.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    total, seconds = re.search(r"(\d+) requests in ([\d.]+)s", out).groups()
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    errors = re.search(r"Socket errors:.*", out)
    refused = int(refused.group(1)) if refused else 0
    lines = [line for line in service.lines(log_at, log_end)
             if line.get("message") == "request" and line.get("status") == 200 and line.get("path") == options.route]
    accepted = [line["duration_ms"] / 1000 for line in lines]
    tokens = sum(line["tokens"] for line in lines) / max(len(lines), 1)
    now = service.cpu()
    return {"connections": connections, "goodput": round((int(total) - refused) / float(seconds), 2),
            "tokens_each": round(tokens, 1), "refused_per_s": round(refused / float(seconds), 1), "errors": errors.group(0) if errors else None,
            "accepted_p50_s": percentile(accepted, 0.5), "accepted_p99_s": percentile(accepted, 0.99),
            "accepted_max_s": max(accepted, default=None), "probe_p99_s": percentile(probes, 0.99),
            "recovered_s": recovered_s,
            "cpu_s": {name: round(now[name] - cpu.get(name, 0), 2) for name in now if now[name] - cpu.get(name, 0) > 0.02},
            "wrk_cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--serve", metavar="COMMAND")
    parser.add_argument("--command", metavar="COMMAND")
    parser.add_argument("--address", metavar="HOST:PORT")
    parser.add_argument("--connections", default="16,128,512,1000")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--server-cpus", default="0,1")
    parser.add_argument("--client-cpus", default="0,1")
    parser.add_argument("--route", default="/embed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        results = []
        service = None
        for connections in map(int, options.connections.split(",")):
            # Of ours one for each storm: what is left in the queue (clients that close are half-closed, and are
            # computed last) would have places in the next.
            service = service or Service(options, pathlib.Path(folder))
            try:
                idle_s = percentile([service.ask("POST", options.route, BODY)[1] for _ in range(11)], 0.5)
                results.append({**storm(service, options, connections, idle_s), "idle_s": idle_s})
                print(json.dumps(results[-1]), flush=True)
            finally:
                if options.serve or len(results) == len(options.connections.split(",")):
                    service.stop()
                    service = None
        best = max(result["goodput"] for result in results)
        print(json.dumps({"of_the_best": {
            result["connections"]: round(result["goodput"] / best, 3) for result in results}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
