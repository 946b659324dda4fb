"""One system call of a bulk run or a training run fails or is its last: the result is right or not there, and the next run
makes it. See tests/fault/shim.c."""
import errno
import os
import pathlib
import shutil
import subprocess

import fault_shim
import pytest
from conftest import BIN, TINY
from fault_shim import (ACCESS, CLOSE, FCHMOD, FSYNC, KILL_AFTER, KILL_BEFORE, KILL_HALFWAY, LOCK, MKDIR, MMAP, OPEN, OPENDIR, READ,
                        READDIR, RENAME, SHORT, STAT, THREAD, TRUNCATE, UNLINK, WRITE_FILE)
from test_embed import write_lines
from test_trainer import jsonl, rows

pytestmark = pytest.mark.skipif(not fault_shim.available(), reason="a build without the shim, or with a sanitizer")
FULL = os.environ.get("ORTHRUS_FULL", "0") == "1"
ERRORS = (errno.EIO, errno.ENOSPC, errno.EINTR, errno.EAGAIN) if FULL else (errno.EIO,)
AT_MOST = 400 if FULL else 1  # of one call
AT_MOST_STAT = 400 if FULL else 8  # what a --resume compares is among the last
CALLS = (OPEN, READ, STAT, ACCESS, MMAP, OPENDIR, READDIR, MKDIR, LOCK, TRUNCATE, WRITE_FILE, FCHMOD, FSYNC, CLOSE, RENAME, UNLINK, THREAD)
LAST = (OPEN, TRUNCATE, WRITE_FILE, FCHMOD, FSYNC, CLOSE, RENAME, UNLINK)
NAMES = {value: name for name, value in vars(fault_shim).items() if name.isupper() and isinstance(value, int) and value > 0}


class Work:
    def __init__(self, command, folder, shim, *flags):
        self.shim, self.out = shim, folder / "out"
        output = self.out / "vectors" if command == "embed" else self.out
        self.start = [BIN, command, "--model", str(TINY), *map(str, flags), "--output", str(output)]
        self.again = "--resume" if command == "embed" else "--overwrite"
        self.command = command
        assert self.run().returncode == 0
        self.whole = self.files()

    def files(self):
        """Times stand in reports and in the checkpoint."""
        return {path.relative_to(self.out): b"" if path.name.startswith(("report", "checkpoint")) else path.read_bytes()
                for path in self.out.rglob("*") if path.is_file()}

    def run(self, *more):
        self.out.mkdir(exist_ok=True)
        return subprocess.run([*self.start, *more], capture_output=True, text=True, timeout=150, env={**os.environ, **self.shim.env})

    def resume(self):
        checkpoint = self.command == "train" and (self.out / "checkpoint.safetensors").exists()
        return self.run("--resume" if checkpoint else self.again)

    def step(self, call, error, at):
        """True where the call came."""
        name = (self.command, NAMES[call], errno.errorcode.get(error, error), at)
        shutil.rmtree(self.out)
        with self.shim.fail(call, at=at, error=error):
            done = self.run()
            struck = self.shim.struck
        if error < 0 and struck:
            assert done.returncode == -9, name
        elif done.returncode == 0:
            assert self.files() == self.whole, name
        else:
            assert done.returncode == 1 and f"orthrus {self.command}: " in done.stderr, (name, done.returncode, done.stderr)
        for path, data in self.files().items():  # whatever bears a result's name is one, and the log is a beginning of it
            whole = self.whole.get(path, data)
            assert data == (whole[:len(data)] if path.name == "train.jsonl" else whole), (name, path)
        if done.returncode != 0:
            done = self.resume()
            assert done.returncode == 0 and self.files() == self.whole, (name, done.stderr, set(self.files()) ^ set(self.whole))
        return struck


@pytest.fixture(params=("npy", "ndjson", "heads", "encoder"))
def work(request, tmp_path):
    kind, shim = request.param, fault_shim.Shim(tmp_path)
    if kind in ("npy", "ndjson"):
        return Work("embed", tmp_path, shim, "--format", kind, "--input", write_lines(tmp_path / "lines", 300))
    frozen = ("--freeze", "backbone", "--embedding-cache", tmp_path / "cache") if kind == "heads" else ()
    return Work("train", tmp_path, shim, "--data", jsonl(tmp_path / "data.jsonl", rows(60)), "--head", "topic", "--epochs", "2",
                "--eval-split", "0.1", "--batch-size", "8", *frozen)


def sweep(work, calls, errors):
    struck = 0
    for call in calls:
        for error in errors:
            for at in range(1, (AT_MOST_STAT if call == STAT else AT_MOST) + 1):
                if not work.step(call, error, at):
                    break
                struck += 1
    return struck


def test_every_call_fails(work):
    struck = sweep(work, CALLS, ERRORS) + sweep(work, (READ, WRITE_FILE), [SHORT])
    print(f"{struck} failing calls of {work.command}")
    assert struck >= 8


@pytest.mark.skipif(not FULL, reason="ORTHRUS_FULL=1: kills at random are made by default")
def test_each_call_is_the_last(work):
    kills = sweep(work, LAST, (KILL_BEFORE, KILL_AFTER)) + sweep(work, [WRITE_FILE], [KILL_HALFWAY])
    print(f"{kills} kills of {work.command}")
    assert kills > 20
