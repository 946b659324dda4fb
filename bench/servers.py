#!/usr/bin/env python3
"""orthrus as a server beside others, under the same load: single-sentence requests from wrk on this machine.

  python3 bench/servers.py build/orthrus MODEL_DIR RESULTS_DIR
      [--peer 'NAME|URL|SHELL COMMAND']...

Each server is started, asked until it answers, loaded with 1, 8, 32 and 128 connections and ended, one server after
the other, round after round; RESULTS_DIR/servers.jsonl gets one line a server and round, to which each run adds what is
missing. A peer answers POST {"inputs": "text"} at its URL; with the word MODEL in its environment set to MODEL_DIR:

  --peer 'tei|http://127.0.0.1:8082/embed|text-embeddings-router --model-id TEI_MODEL --port 8082'
  --peer 'fastapi|http://127.0.0.1:8083/embed|V/bin/uvicorn --app-dir bench fastapi_peer:app --port 8083'

It counts only if its vector of one sentence is orthrus's own: a server with another vocabulary is fast for nothing.
"""
import argparse
import contextlib
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.request

import results

PROBE = "the river was low that summer and nobody in town would say why"
START_SECONDS = 60
COSINE_MIN = 0.995  # rounded precisions are far above it, another vocabulary far below
HERE = pathlib.Path(__file__).resolve().parent


def parse():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("orthrus")
    ap.add_argument("model")
    ap.add_argument("results", type=pathlib.Path)
    ap.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], help="of orthrus")
    ap.add_argument("--peer", action="append", default=[], metavar="NAME|URL|COMMAND")
    ap.add_argument("--connections", nargs="+", type=int, default=[1, 8, 32, 128])
    ap.add_argument("--load-seconds", type=int, default=6, help="per number of connections")
    ap.add_argument("--rounds", type=int, default=2)
    ap.add_argument("--seconds", type=float, default=3600, help="begin nothing after so long")
    ap.add_argument("--port", type=int, default=8080, help="of orthrus")
    ap.add_argument("--texts", default=results.SENTENCES)
    return ap.parse_args()


def ask(url):
    body = json.dumps({"inputs": PROBE}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=START_SECONDS) as answer:
        return json.load(answer)[0]


def first_answer(url, process):
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            return ask(url)
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"no answer from {url}")


def reference(args):
    done = subprocess.run([args.orthrus, "embed", "--model", args.model, "--precision", "fp32", "--normalize"],
                          input=PROBE + "\n", capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def load(args, url, connections):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{args.load_seconds}s", "--timeout", "30s", "-s",
               HERE / "load.lua", url, "--", args.texts]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    answered = figures["requests"] - figures["failed"]  # a refusal is none, and its time is in the quantiles
    return {"connections": connections, "requests_per_s": round(answered / figures["seconds"], 2),
            "p50_ms": figures["p50_ms"], "p99_ms": figures["p99_ms"], "failed": figures["failed"]}


def measure(args, url, command, expected):
    """Starts the server, loads it, ends it."""
    process = subprocess.Popen(command, shell=isinstance(command, str), start_new_session=True,
                               env={**os.environ, "MODEL": args.model, "HF_HUB_OFFLINE": "1"},
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        alike = cosine(first_answer(url, process), expected)
        if alike < COSINE_MIN:
            raise RuntimeError(f"{url}: cosine {alike:.4f} to orthrus; not the same model")
        load(args, url, args.connections[0])  # warms it
        return [load(args, url, connections) for connections in args.connections]
    finally:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def servers(args):
    out = {}
    for precision in args.precisions:
        out[f"orthrus-{precision}"] = (f"http://127.0.0.1:{args.port}/embed", [
            args.orthrus, "serve", "--model", args.model, "--precision", precision, "--listen",
            f"127.0.0.1:{args.port}", "--admin-listen", "off", "--log-level", "warn"])
    for peer in args.peer:
        name, url, command = peer.split("|", 2)
        out[name] = (url, command)
    return out


def main():
    args = parse()
    expected = reference(args)
    path = args.results / "servers.jsonl"
    all_servers = servers(args)
    for name in results.turns(path, list(all_servers), args.rounds, args.seconds):
        try:
            results.append(path, {"name": name, "load": measure(args, *all_servers[name], expected)})
        except (RuntimeError, subprocess.CalledProcessError) as error:
            print(f"{name}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
