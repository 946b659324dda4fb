#!/usr/bin/env python3
"""Runs the simulation on seeds that it has never run and adds what was done to total.json.

usage: long_run.py [--requests N] [--jobs N]   (default: 100,000,000 on every CPU)

ORTHRUS_BUILD_DIR names the build, else build-release. Exit status: 1 where an invariant broke."""

import argparse
import concurrent.futures
import datetime
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TOTAL = HERE / "total.json"
SEEDS = 2000  # at a time


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--requests", type=int, default=100_000_000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    program = pathlib.Path(os.environ.get("ORTHRUS_BUILD_DIR", HERE.parents[1] / "build-release"),
                           "tests/simulate")
    total = json.loads(TOTAL.read_text(encoding="utf-8"))
    done = 0

    def run(first):
        return subprocess.run([program, "--from", str(first), "--seeds", str(SEEDS)],
                              capture_output=True, text=True, check=False)

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        while done < options.requests:
            firsts = [total["next_seed"] + i * SEEDS for i in range(options.jobs)]
            for one in pool.map(run, firsts):
                if one.returncode:
                    print(one.stdout or one.stderr, file=sys.stderr)
                    return 1
                result = json.loads(one.stdout)
                done += result["requests"]
                for name in ("seeds", "requests", "computed", "batches", "events", "virtual_s"):
                    total[name] += int(result[name])
                total["cpu_s"] = round(total["cpu_s"] + result["cpu_s"], 1)
                total["next_seed"] += SEEDS
            total["date"] = datetime.date.today().isoformat()
            TOTAL.write_text(json.dumps(total, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(total))
    return 0


if __name__ == "__main__":
    sys.exit(main())
