#!/usr/bin/env python3
"""Runs the fuzz targets of the preset `fuzz` for a while; exit 1 where one of them fails.

    tests/fuzz/run.py [--build FOLDER] [--seconds S] [--max-len N] [--record] [TARGET]...

S seconds (60) are shared by all targets, or those that are named. Seeds are tests/fuzz/seeds/TARGET and what the table below
names; what is found stays in FOLDER/corpus. --record adds executions, time and coverage to tests/fuzz/state.json, the
sum of all recorded runs. A failing input is printed as a command that runs it again.

For many executions: --build build-fuzz-fast (no comparisons traced, 1.5 times as fast) --max-len 128, and now and then the
usual build and length on the same corpus."""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HERE = ROOT / "tests/fuzz"
STATE = HERE / "state.json"
# target: (longest input, dictionary, further seeds)
TARGETS = {
    "fuzz_config": (4096, "config.dict", ["tests/data/golden/tiny-bert/*.json"]),
    "fuzz_framing": (4096, "http.dict", []),
    "fuzz_heads": (8192, "safetensors.dict", ["tests/data/golden/heads-*.safetensors"]),
    "fuzz_http": (4096, "http.dict", []),
    "fuzz_request": (4096, "json.dict", []),
    "fuzz_rows": (4096, "rows.dict", []),
    "fuzz_safetensors": (8192, "safetensors.dict", []),
    "fuzz_tokenizer": (2048, None, []),
    "fuzz_tokenizer_json": (16384, "json.dict", []),
}
DEFAULT = (8192, None, [])
LARGEST_SEED = 64 * 1024
# Freed memory is kept back for a while all the same; 256 MiB of it cost more than they find in inputs this small.
ASAN = "quarantine_size_mb=4:thread_local_quarantine_size_kb=16"


def seeds(target, corpus):
    _, _, more = TARGETS.get(target, DEFAULT)
    files = [p for p in (HERE / "seeds" / target).glob("*") if p.is_file()]
    files += [p for pattern in more for p in ROOT.glob(pattern)]
    for index, file in enumerate(sorted(files)):
        if file.stat().st_size <= LARGEST_SEED:
            shutil.copy(file, corpus / f"seed-{index}")


def figure(output, pattern):
    found = re.findall(pattern, output)
    return int(found[-1]) if found else 0


def run(target, build, seconds, max_len):
    """(ok, {executions, seconds, edges})."""
    length, dictionary, _ = TARGETS.get(target, DEFAULT)
    length = max_len or length
    corpus = build / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    seeds(target, corpus)
    command = [str(build / "tests" / target), f"-max_total_time={seconds}", f"-max_len={length}", "-timeout=25",
               "-rss_limit_mb=3072", "-reload=0", "-print_final_stats=1", f"-artifact_prefix={build}/{target}-"]
    if dictionary:
        command.append(f"-dict={HERE / dictionary}")
    start = time.monotonic()
    done = subprocess.run([*command, str(corpus)], capture_output=True, text=True, errors="replace",
                          env={"ASAN_OPTIONS": ASAN, **os.environ})
    found = {
        "executions": figure(done.stderr, r"stat::number_of_executed_units: (\d+)"),
        "seconds": round(time.monotonic() - start),
        "edges": figure(done.stderr, r" cov: (\d+)"),
    }
    print(f"{target}: {found['executions']:,} executions in {found['seconds']} s, {found['edges']} edges", flush=True)
    if done.returncode != 0:
        print(done.stderr[-4000:])
        for artifact in re.findall(r"Test unit written to (\S+)", done.stderr):
            print(f"again: {build}/tests/{target} {artifact}")
    return done.returncode == 0, found


def record(results):
    state = json.loads(STATE.read_text()) if STATE.exists() else {}
    for target, found in results.items():
        sums = state.setdefault(target, {"executions": 0, "seconds": 0, "edges": 0})
        sums["executions"] += found["executions"]
        sums["seconds"] += found["seconds"]
        sums["edges"] = max(sums["edges"], found["edges"])
    STATE.write_text(json.dumps(dict(sorted(state.items())), indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description="Runs the fuzz targets for a while.")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build-fuzz")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--max-len", type=int, help="of an input, instead of the target's own")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("targets", nargs="*")
    args = parser.parse_args()
    there = sorted(p.stem for p in HERE.glob("fuzz_*.c"))
    unknown = set(args.targets) - set(there)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    targets = args.targets or there
    results, failed = {}, []
    for target in targets:
        ok, results[target] = run(target, args.build.resolve(), max(1, args.seconds // len(targets)), args.max_len)
        if not ok:
            failed.append(target)
    if args.record:
        record(results)
    print(f"fuzz targets: {len(targets) - len(failed)} passed, {len(failed)} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
