"""Model folders as today's libraries save them against those libraries' own answers: what /embed gives
beside SentenceTransformer(folder).encode or a plain mean, and the ids behind it.

tests/data/models holds a handful of such folders with their answers (expected.json); ORTHRUS_MODEL_CASES names
another folder of that layout. ORTHRUS_FULL=1 saves tiny models of every kind with the installed transformers and
sentence-transformers (tests/differential/make_models.py) and compares those too."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from conftest import BIN

ROOT = pathlib.Path(__file__).resolve().parent.parent
FULL = os.environ.get("ORTHRUS_FULL") == "1"
VECTOR_TOLERANCE = 2e-5


def folders():
    """[(folder, its expectations)] of the committed sample, and of ORTHRUS_MODEL_CASES."""
    roots = [ROOT / "data" / "models"]
    if os.environ.get("ORTHRUS_MODEL_CASES"):
        roots.append(pathlib.Path(os.environ["ORTHRUS_MODEL_CASES"]))
    for root in roots:
        for name, expected in json.loads((root / "expected.json").read_text()).items():
            if expected["kind"] in ("embed", "mean"):
                yield pytest.param(root / name, expected, id=name)


def worst(vectors, expected):
    assert len(vectors) == len(expected) and len(vectors[0]) == len(expected[0])
    return max(abs(a - b) for x, y in zip(vectors, expected) for a, b in zip(x, y))


def cut(ids, limit):
    """Ids as a limit leaves them: the closing special stays."""
    return ids if len(ids) <= limit else ids[: limit - 1] + ids[-1:]


def check(server, expected):
    texts = expected["texts"]
    limit = server.get("/info").json()["max_input_length"]
    assert limit == expected["max_length"]
    reply = server.post("/embed", {"inputs": texts, "normalize": expected["kind"] == "embed"})
    assert reply.status == 200, reply.body
    assert worst(reply.json(), expected["embeddings"]) <= VECTOR_TOLERANCE
    if expected.get("ids"):
        tokens = server.post("/tokenize", {"inputs": texts}).json()
        ids = [cut([token["id"] for token in row], limit) for row in tokens]
        assert ids == expected["ids"]
    for name, vectors in expected.get("prompts", {}).items():
        body = {"inputs": expected["prompt_texts"], "prompt_name": name}
        assert worst(server.post("/embed", body).json(), vectors) <= VECTOR_TOLERANCE


@pytest.mark.parametrize(("folder", "expected"), folders())
def test_vectors_and_ids(start, folder, expected):
    check(start("--precision", "fp32", model=folder), expected)


def libraries():
    """The Python that has the libraries; skips where there is none."""
    python = os.environ.get("ORTHRUS_MODELS_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import torch, transformers, sentence_transformers"], capture_output=True).returncode:
        pytest.skip("not installed: pip install transformers sentence-transformers (or ORTHRUS_MODELS_PYTHON)")
    return [python, str(pathlib.Path(__file__).with_name("make_models.py"))]


@pytest.mark.skipif(not FULL, reason="ORTHRUS_FULL=1 loads a trained folder with the installed libraries")
def test_a_trained_folder_loads_in_the_libraries(start, tmp_path):
    maker = libraries()
    data, out = tmp_path / "data.jsonl", tmp_path / "out"
    data.write_text("".join(json.dumps({"text": f"the end of {word}", "classifier": label}) + "\n"
                            for word, label in (("it", "a"), ("that", "b"), ("this", "a"), ("much", "b"))))
    subprocess.run([BIN, "train", "--model", str(ROOT / "data" / "models" / "st-dense"), "--data", str(data), "--output",
                    str(out), "--head", "classifier", "--epochs", "1", "--lr", "1e-3"], check=True, capture_output=True)
    expected = json.loads(subprocess.run([*maker, "--expect", str(out)], check=True, capture_output=True).stdout)
    before = start("--precision", "fp32", model=ROOT / "data" / "models" / "st-dense")
    after = start("--precision", "fp32", model=out)
    check(after, expected)
    text = {"inputs": "the end of it"}
    assert worst(before.post("/embed", text).json(), after.post("/embed", text).json()) > 1e-4


@pytest.mark.skipif(not FULL, reason="ORTHRUS_FULL=1 saves models of every kind with the installed libraries")
def test_every_kind_that_the_libraries_save(start, tmp_path):
    subprocess.run([*libraries(), str(tmp_path), os.environ.get("ORTHRUS_SEED", "1")], check=True, capture_output=True)
    failed = []
    for name, expected in json.loads((tmp_path / "expected.json").read_text()).items():
        server = start("--precision", "fp32", model=tmp_path / name)
        try:
            check(server, expected)
        except AssertionError as wrong:
            failed.append(f"{name}: {wrong}")
        server.stop()
    assert not failed, "\n".join(failed)
