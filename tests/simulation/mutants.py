#!/usr/bin/env python3
"""Builds each mutant of mutants.txt and runs the simulation until an invariant breaks.

usage: mutants.py [--seeds N] [--jobs N] [--only NUMBER]...

A mutant is killed when an invariant breaks, a CHECK ends the program, or it runs for more than 60 s.
Exit status: 0 when at least 95 % are killed. Survivors are printed."""

import argparse
import concurrent.futures
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
QUEUE = ROOT / "server/queue"
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O1", "-w"]
PATIENCE_S = 60


def table():
    """[(file, old, new)]"""
    rows = []
    for line in (HERE / "mutants.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            cells = re.split(r"(?<!\\)\|", line)
            rows.append([cells[0].strip(), *(cell.strip(" ").replace("\\|", "|").replace("\\n", "\n")
                                             for cell in cells[1:])])
    return rows


def mutate(row, folder):
    """The mutated file's path."""
    file, old, new = row
    text = (QUEUE / file).read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise ValueError(f"{file}: {old!r} stands there {text.count(old)} times, not once")
    path = folder / file
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def compile_file(source, out):
    subprocess.run(["cc", *FLAGS, "-I", ROOT, "-c", source, "-o", out], check=True)
    return out


def try_mutant(row, seeds, objects):
    """How it was killed, or None."""
    with tempfile.TemporaryDirectory(prefix="orthrus-mutant-") as name:
        folder = pathlib.Path(name)
        mutated = mutate(row, folder)
        others = [path for path in objects if path.name != mutated.name + ".o"]
        subprocess.run(["cc", compile_file(mutated, folder / "mutated.o"), *others, "-o",
                        folder / "simulate", "-lm"], check=True)
        try:
            run = subprocess.run([folder / "simulate", "--seeds", str(seeds)], capture_output=True,
                                 text=True, timeout=PATIENCE_S, check=False)
        except subprocess.TimeoutExpired:
            return "does not end"
    if run.returncode == 0:
        return None
    found = re.search(r"broken: ([^:]*)", run.stdout)
    return found.group(1) if found else f"ended by signal {-run.returncode}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", type=int, action="append", help="number in the table, from 1")
    options = parser.parse_args()
    rows = [(number, row) for number, row in enumerate(table(), 1)
            if not options.only or number in options.only]
    killed = 0
    with tempfile.TemporaryDirectory(prefix="orthrus-mutants-") as folder, \
            concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        sources = [QUEUE / "policy.c", QUEUE / "entries.c", ROOT / "base/check.c",
                   *sorted(HERE.glob("*.c"))]
        objects = [compile_file(path, pathlib.Path(folder) / (path.name + ".o"))
                   for path in sources]
        tries = [pool.submit(try_mutant, row, options.seeds, objects) for _, row in rows]
        for (number, (file, old, new)), one in zip(rows, tries):
            result = one.result()
            killed += result is not None
            print(f"{number:3} {result or 'SURVIVES'}", flush=True)
            if not result:
                print(f"    {file}: {old!r} -> {new!r}", flush=True)
    print(f"{killed} of {len(rows)} killed")
    return killed < 0.95 * len(rows)


if __name__ == "__main__":
    sys.exit(main())
