"""What the scripts here share: result files, whose turn it is, and `orthrus bench` as a function.

A result file holds one JSON object a line and only grows: measuring again, at a quieter hour, adds rounds, and the best
of all rounds counts. So a long comparison may be done in several short runs."""
import json
import os
import pathlib
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
SENTENCES = ROOT / "tests/data/sentences.txt"
PRECISIONS = ["fp32", "bf16", "int8"]


def read(path):
    path = pathlib.Path(path)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def append(path, record):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as out:
        out.write(json.dumps(record) + "\n")
    print(json.dumps(record), flush=True)


def turns(path, names, rounds, seconds, key="name"):
    """Yields whichever of names has the fewest records in the file, until all have `rounds` or the time is over: so
    that what is compared alternates, also when a run goes on where another one stopped. A name that yields no record
    is not asked again."""
    end = time.monotonic() + seconds
    asked = {}
    while time.monotonic() < end:
        done = {name: sum(r[key] == name for r in read(path)) for name in names}
        left = [n for n in names if done[n] < rounds and asked.get(n) != done[n]]
        if not left:
            return
        name = min(left, key=lambda n: done[n])
        asked[name] = done[name]
        yield name


def texts_of(path, count):
    with open(path, encoding="utf-8") as lines:
        return [line.rstrip("\n") for line in lines][:count]


def orthrus_bench(orthrus, model, texts, precision, *flags):
    """The figures of `orthrus bench` over texts; None where this machine lacks the precision."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as source:
        source.writelines(text + "\n" for text in texts)
        source.flush()
        command = [orthrus, "bench", "--json", "--model", model, "-i", source.name, "--precision", precision, *flags]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 2 or "can't multiply" in done.stderr:
        return None
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout)


def threads():
    return len(os.sched_getaffinity(0))
