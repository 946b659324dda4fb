"""The accuracy that docs/BENCHMARKS.md promises, on 1,000 real sentences (--full): the rounded precisions beside fp32,
which tests/golden holds against PyTorch's answers."""
import os
import pathlib
import struct
import subprocess

import pytest
import safetensors

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("ORTHRUS_BIN", str(ROOT / "build/orthrus"))
MODEL = os.environ.get("ORTHRUS_TEST_MODEL")
MINILM = os.environ.get("ORTHRUS_TEST_MINILM")
SENTENCES = ROOT / "tests/data/sentences.txt"
HEADS = ["classifier", "sentiment"]

pytestmark = pytest.mark.skipif(os.environ.get("ORTHRUS_FULL") != "1" or not MODEL,
                                reason="1,000 sentences: ./test --full")


def embed(precision, folder, model=MODEL, isa="auto"):
    """[N][H], as heads read them; skips where this machine can't multiply the precision so."""
    out = folder / f"{precision}.npy"
    done = subprocess.run([BIN, "embed", "--model", model, "--precision", precision, "--isa", isa, "-i", SENTENCES, "-o", out,
                           "--format", "npy", "--no-normalize"], capture_output=True, text=True)
    if "can't run" in done.stderr or "can't multiply" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    raw = out.read_bytes()[128:]
    width = len(raw) // 4 // 1000
    return [struct.unpack_from(f"<{width}f", raw, i * width * 4) for i in range(1000)]


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    return embed("fp32", tmp_path_factory.mktemp("fp32"))


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def cosines(vectors, reference):
    return sorted(dot(a, b) / (dot(a, a) * dot(b, b)) ** 0.5 for a, b in zip(vectors, reference))


def labels(vectors):
    """head → each vector's label under the heads that ship with the project."""
    tensors = dict(safetensors.deserialize((ROOT / "heads/default.safetensors").read_bytes()))
    out = {}
    for head in HEADS:
        weight, bias = (struct.unpack(f"<{len(tensors[name]['data']) // 4}f", tensors[name]["data"])
                        for name in (f"{head}.weight", f"{head}.bias"))
        width = len(weight) // len(bias)
        logits = [[dot(v, weight[i * width:(i + 1) * width]) + b for i, b in enumerate(bias)] for v in vectors]
        out[head] = [row.index(max(row)) for row in logits]
    return out


def expect_close(found, mean, first_percentile, least):
    assert sum(found) / len(found) >= mean
    assert found[len(found) // 100] >= first_percentile
    assert found[0] >= least


# Without bf16 int8's attention is fp32.
@pytest.mark.parametrize("precision, isa, mean, first_percentile, least", [
    ("bf16", "auto", 0.99999, 0.9999, 0.9995),
    ("int8", "auto", 0.9999, 0.9997, 0.998),
    ("int8", "avx512vnni", 0.9999, 0.9997, 0.998),
])
def test_rounded_precisions_stay_close(precision, isa, mean, first_percentile, least, exact, tmp_path):
    vectors = embed(precision, tmp_path, isa=isa)
    expect_close(cosines(vectors, exact), mean, first_percentile, least)
    mine, theirs = labels(vectors), labels(exact)
    for head in HEADS:
        flips = sum(a != b for a, b in zip(mine[head], theirs[head]))
        assert flips <= 0.005 * len(vectors), f"{head}: {flips} other labels"


@pytest.mark.skipif(not MINILM, reason="ORTHRUS_TEST_MINILM is not set")
def test_a_narrow_model_in_int8_stays_as_close(tmp_path):
    exact = embed("fp32", tmp_path, MINILM)
    expect_close(cosines(embed("int8", tmp_path, MINILM), exact), 0.9999, 0.9997, 0.998)
