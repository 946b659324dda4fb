"""The heads that fine-tuned folders bring, beside what transformers says of the same folders.

tests/data/models holds folders saved by transformers 5.24 and its answers (heads-expected.json): logits, the
text-classification pipeline's scores, logits of pairs, the token-classification pipeline's five strategies. ORTHRUS_FULL=1
saves more of every kind with the installed library (make_models.py --heads; ORTHRUS_SEED moves its seed)."""
import json
import os
import pathlib
import subprocess

import pytest
from conftest import Server
from test_models import FULL, libraries

MODELS = pathlib.Path(__file__).resolve().parents[1] / "data" / "models"
EXPECTED = json.loads((MODELS / "heads-expected.json").read_text(encoding="utf-8"))
LOGITS, SCORES, SPANS = 2e-4, 2e-5, 2e-4


@pytest.fixture(params=EXPECTED)
def case(request):
    server = Server("--precision", "fp32", "--admin-listen", "off", model=MODELS / request.param)
    yield request.param, EXPECTED[request.param], server
    server.stop()


def near(found, wanted, most):
    for entry in found:
        want = wanted[entry["label"]]
        assert abs(entry["score"] - want) <= most * max(1, abs(want)), (entry, want)
    assert len(found) == len(wanted)


def check(expected, server):
    if "strategies" in expected:
        for strategy, answers in expected["strategies"].items():
            body = {"inputs": expected["strategy_texts"], "aggregation_strategy": strategy}
            found = server.post("/heads/tagger", body).json()
            for spans, wanted in zip(found, answers, strict=True):
                assert [s | {"score": 0} for s in spans] == [w | {"score": 0} for w in wanted], strategy
                assert all(abs(s["score"] - w["score"]) <= SPANS for s, w in zip(spans, wanted))
        return
    labels = expected["labels"]
    texts = [[text] for text in expected["texts"]]
    for row, logits in zip(server.post("/predict", {"inputs": texts, "raw_scores": True}).json(), expected["logits"],
                           strict=True):
        near(row, dict(zip(labels, logits)), LOGITS)
    for row, scores in zip(server.post("/predict", {"inputs": texts}).json(), expected["scores"], strict=True):
        if scores:
            near(row, scores, SCORES)
    for pair, logits in zip(expected.get("pairs", []), expected.get("pair_logits", []), strict=True):
        near(server.post("/predict", {"inputs": pair, "raw_scores": True}).json(), dict(zip(labels, logits)), LOGITS)
    assert server.post("/sentiment", {"inputs": "a"}).code == "head_absent"


def test_the_folders_own_head(case):
    _, expected, server = case
    check(expected, server)


@pytest.mark.skipif(not FULL, reason="ORTHRUS_FULL=1 saves models of every kind with the installed libraries")
def test_every_head_that_the_library_saves(tmp_path):
    subprocess.run([*libraries(), "--heads", str(tmp_path), os.environ.get("ORTHRUS_SEED", "1")], check=True, capture_output=True)
    failed = []
    for name, expected in json.loads((tmp_path / "heads-expected.json").read_text()).items():
        server = Server("--precision", "fp32", "--admin-listen", "off", model=tmp_path / name)
        try:
            check(expected, server)
        except (AssertionError, KeyError, ValueError) as wrong:
            failed.append(f"{name}: {wrong!r:.400}")
        server.stop()
    assert not failed, "\n".join(failed)


def test_the_root_is_what_the_folder_is_for(case):
    name, expected, server = case
    kind = server.get("/info").json()["model_type"]
    if "strategies" in expected:
        assert set(kind) == {"embedding"} and len(server.post("/", {"inputs": "a"}).json()[0]) == 32
    elif len(expected["labels"]) == 1:
        assert kind["reranker"]["label2id"] == {expected["labels"][0]: 0}
        query, text = expected["pairs"][0]
        ranks = server.post("/", {"query": query, "texts": [text, "another"], "raw_scores": True}).json()
        found = {rank["index"]: rank["score"] for rank in ranks}
        assert abs(found[0] - expected["pair_logits"][0][0]) <= LOGITS * max(1, abs(found[0]))
    else:
        assert kind["classifier"]["id2label"] == {str(i): label for i, label in enumerate(expected["labels"])}
        answer = server.post("/", {"inputs": expected["texts"][0]}).json()
        assert {entry["label"] for entry in answer} == set(expected["labels"])
