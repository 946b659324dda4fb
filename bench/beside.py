#!/usr/bin/env python3
"""One sentence beside others: what a lone client waits beside two that send a hundred texts a request, and beside a
process that spins on one CPU, with one thread and with two.

usage: beside.py --model DIR [--precisions fp32,bf16,int8] [--seconds N] [--only bulk,neighbour]"""

import argparse
import http.client
import json
import pathlib
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
from conftest import PATIENCE_S, Server

TEXTS = (HERE.parent / "tests/data/sentences.txt").read_text(encoding="utf-8").splitlines()
BULK_CLIENTS, BULK_TEXTS = 2, 100
PAUSE_S = 0.02
SETTLE_S = 1  # not counted: the first passes tell the queue how fast teams are


def percentile(values, share):
    return round(sorted(values)[int(len(values) * share)] * 1000, 1) if values else None


def ask(connection, texts):
    begin = time.monotonic()
    connection.request("POST", "/embed", json.dumps({"inputs": texts}), {"Content-Type": "application/json"})
    reply = connection.getresponse()
    reply.read()
    return reply.status, time.monotonic() - begin


def lone(address, seconds):
    """Times of single sentences, one after the other."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    took = []
    begin = time.monotonic()
    while (now := time.monotonic() - begin) < seconds + SETTLE_S:
        status, one_s = ask(connection, TEXTS[len(took) % len(TEXTS)])
        if status == 200 and now > SETTLE_S:
            took.append(one_s)
        time.sleep(PAUSE_S)
    return {"n": len(took), "p50_ms": percentile(took, 0.5), "p90_ms": percentile(took, 0.9),
            "p99_ms": percentile(took, 0.99)}


def beside_bulk(address, seconds):
    done, end = [], time.monotonic() + seconds + SETTLE_S

    def run():
        connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
        at = 0
        while time.monotonic() < end:
            texts = (TEXTS[at:] + TEXTS[:at])[:BULK_TEXTS]
            done.append(ask(connection, texts)[0])
            at = (at + BULK_TEXTS) % len(TEXTS)

    threads = [threading.Thread(target=run) for _ in range(BULK_CLIENTS)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    result = lone(address, seconds)
    for thread in threads:
        thread.join()
    result["bulk_texts_per_s"] = round(done.count(200) * BULK_TEXTS / (time.monotonic() - begin), 1)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--model", metavar="DIR", required=True, type=pathlib.Path)
    parser.add_argument("--precisions", default="fp32,bf16,int8")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--only", default="bulk,neighbour")
    options = parser.parse_args()
    for precision in options.precisions.split(","):
        for threads in (2, 1):
            server = Server("--precision", precision, "--threads", str(threads), model=options.model)
            try:
                if "bulk" in options.only and threads == 2:
                    print(json.dumps({"beside": "bulk", "precision": precision,
                                      **beside_bulk(server.address, 2 * options.seconds)}), flush=True)
                if "neighbour" in options.only:
                    row = {"beside": "nobody", "precision": precision, "threads": threads}
                    print(json.dumps({**row, **lone(server.address, options.seconds / 2)}), flush=True)
                    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as spinner:
                        row["beside"] = "a spinner"
                        print(json.dumps({**row, **lone(server.address, options.seconds)}), flush=True)
                        spinner.kill()
            finally:
                server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
