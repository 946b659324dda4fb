"""The cross-built daemon answers under qemu-user on three kinds of arm64 CPU, with this machine's vectors.

Needs the preset arm64 built (build-arm64) and qemu-aarch64; skipped without them."""

import math
import shutil
import subprocess

import conftest
import pytest

ROOT = conftest.ROOT
BIN = ROOT / "build-arm64/orthrus"
SYSROOT = ROOT / "build-arm64-sysroot"
TEXTS = ["hello world", "", "the quick brown fox jumps over the lazy dog, and is not seen again", "résumé 你好"]

pytestmark = pytest.mark.skipif(not BIN.exists() or not shutil.which("qemu-aarch64"),
                                reason="no arm64 build or no qemu-aarch64 here")


@pytest.fixture
def on(start, monkeypatch, tmp_path):
    """on(cpu, *flags) starts the arm64 daemon on that kind of CPU."""

    def run(cpu, *flags):
        wrapper = tmp_path / f"orthrus-{cpu}"
        wrapper.write_text(f'#!/bin/sh\nexec qemu-aarch64 -cpu {cpu} -L "{SYSROOT}" "{BIN}" "$@"\n')
        wrapper.chmod(0o755)
        with monkeypatch.context() as patch:
            patch.setattr(conftest, "BIN", str(wrapper))
            return start("--threads", "2", *flags)

    return run


def vectors(server):
    reply = server.post("/embed", {"inputs": TEXTS})
    assert reply.status == 200, reply.body
    return reply.json()


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


@pytest.fixture(scope="module")
def here():
    server = conftest.Server("--precision", "fp32")
    found = vectors(server)
    server.stop()
    return found


@pytest.mark.parametrize("cpu,isa,precision", [("max", "neonbf16", "bf16"), ("neoverse-n1", "neondot", "fp32"),
                                               ("cortex-a53", "neon", "fp32")])
def test_auto_takes_what_the_cpu_has(on, here, cpu, isa, precision):
    server = on(cpu)
    info = server.get("/info").json()
    assert (info["isa"], info["precision"]) == (isa, precision)
    least = 0.999 if precision == "bf16" else 0.9999999
    assert all(cosine(a, b) >= least for a, b in zip(vectors(server), here))


@pytest.mark.parametrize("cpu", ["max", "neoverse-n1"])
def test_int8(on, here, cpu):
    assert all(cosine(a, b) >= 0.998 for a, b in zip(vectors(on(cpu, "--precision", "int8")), here))


def test_fp32_is_close_to_this_machine(on, here):
    for a, b in zip(vectors(on("max", "--precision", "fp32")), here):
        assert max(abs(x - y) for x, y in zip(a, b)) <= 2e-6


def test_a_set_that_the_cpu_lacks_is_refused():
    done = subprocess.run(["qemu-aarch64", "-cpu", "cortex-a53", "-L", str(SYSROOT), str(BIN), "serve", "--model",
                           str(conftest.TINY), "--isa", "neonbf16"], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 1
    assert "neonbf16" in done.stderr
