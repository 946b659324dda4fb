"""What text-embeddings-inference 1.9.3 answered (tests/data/tei, recorded by tests/tei/record.py) beside our answers to the
same requests on the same folders: what it answers well, we answer in the same shape and with the same numbers; where
the status differs, it is one of DIFFERENCES, which docs/CONTRACT.md tells."""
import base64
import json
import math
import struct

import pytest
from conftest import ROOT, Server

RECORDED = sorted((ROOT / "tests" / "data" / "tei").glob("*.json"))
MODELS = ROOT / "tests" / "data" / "models"
CLOSE = 1e-4
# TEI's fields that say how it was started or built: ours has them, with values of its own.
OWN = {"model_id", "model_sha", "model_dtype", "served_model_name", "max_concurrent_requests", "max_input_length",
       "max_batch_tokens", "max_batch_requests", "max_client_batch_size", "tokenization_workers", "version", "sha",
       "docker_label", "auto_truncate", "model_type", "model"}
CONTRACT = (ROOT / "docs" / "CONTRACT.md").read_text(encoding="utf-8")


FINE_TUNED_ONLY = ("/embed", "/embed_all", "/similarity", "/v1/embeddings")


def has(case, *values):
    return case["request"] is not None and any(json.dumps(value) in json.dumps(case["request"]) for value in values)


def pairs(case):
    """Texts in pairs: the tokenizer's template knows two token types, transformers gives these folders none."""
    request = case["request"]
    if case["path"] == "/rerank" or (isinstance(request, dict) and "query" in request):
        return True
    inputs = request.get("inputs") if isinstance(request, dict) else None
    return isinstance(inputs, list) and (
        (len(inputs) == 2 and isinstance(inputs[0], str)) or any(isinstance(i, list) and len(i) == 2 for i in inputs))


# What is answered otherwise on purpose: the words of docs/CONTRACT.md's table, TEI's status, ours, when.
STATUS = [
    ("an empty text", 400, 200, lambda c, f: has(c, "")),
    ("more texts than `--max-client-batch`", 422, 413, lambda c, f: json.dumps(c["request"]).count("The end of it.") >= 33),
    ("more texts than `--max-client-batch`", 424, 413, lambda c, f: json.dumps(c["request"]).count("The end of it.") >= 33),
    ("an id outside the vocabulary", 200, 422, lambda c, f: has(c, 10**9)),
    ("an id outside the vocabulary", 424, 422, lambda c, f: has(c, 10**9)),
    ("a field that nobody knows", 200, 422, lambda c, f: has(c, "surprise")),
    ("a field twice", 200, 422, lambda c, f: isinstance(c["request"], str) and c["request"].count("inputs") == 2),
    ("vectors of a fine-tuned folder", 424, 200, lambda c, f: f.startswith("seq-") and c["path"] in FINE_TUNED_ONLY),
    ("`/predict`, `/rerank` without such a head", 424, 404, lambda c, f: f.startswith("plain")),
    ("an empty `inputs` of `/predict`", 422, 400, lambda c, f: c["path"] == "/predict" and has(c, [])),
    ("a wrong field of `/v1/embeddings`", 422, 400, lambda c, f: c["path"] == "/v1/embeddings"),
    ("`GET /ping`", 200, 404, lambda c, f: c["path"] == "/ping"),
]
# The shape is the same, the numbers are not.
NUMBERS = [
    ("offsets of `/tokenize`", lambda c, f: c["path"] == "/tokenize"),
    ("a folder of several labels", lambda c, f: f == "seq-multilabel" and c["path"] in ("/predict", "/")),
    ("pairs of a BERT folder", lambda c, f: f in ("seq-pairs", "seq-score") and pairs(c)),
]


def same(theirs, ours, path="", numbers=True):
    """None, or where ours has another shape or, in numbers, another value."""
    if isinstance(theirs, dict):
        if not isinstance(ours, dict):
            return f"{path}: no object"
        lacking = [key for key in theirs if key not in ours]
        if lacking:
            return f"{path}: without {lacking}"
        return next(filter(None, (same(theirs[key], ours[key], f"{path}.{key}", numbers)
                                  for key in theirs if key not in OWN)), None)
    if isinstance(theirs, list):
        if not isinstance(ours, list) or len(ours) != len(theirs):
            return f"{path}: not {len(theirs)} entries"
        return next(filter(None, (same(a, b, f"{path}[{i}]", numbers) for i, (a, b) in enumerate(zip(theirs, ours)))), None)
    if isinstance(theirs, bool) or not isinstance(theirs, (int, float)):
        return None if theirs == ours or (isinstance(theirs, str) and isinstance(ours, str) and not numbers) else \
            f"{path}: {ours!r}, theirs {theirs!r}"
    if not isinstance(ours, (int, float)) or isinstance(ours, bool):
        return f"{path}: no number"
    return f"{path}: {ours}, theirs {theirs}" if numbers and not math.isclose(ours, theirs, rel_tol=CLOSE, abs_tol=CLOSE) else None


def ask(server, case):
    request = case["request"]
    data = None if request is None else (request if isinstance(request, str) else json.dumps(request)).encode()
    kind = case.get("content_type", "application/json")
    headers = [("Content-Type", kind)] if data is not None and kind else []
    return server.request(case["method"], case["path"], data, headers)


@pytest.fixture(params=RECORDED, ids=lambda path: path.stem)
def recorded(request):
    told = json.loads(request.param.read_text(encoding="utf-8"))
    flags = ["--pooling", "mean", "--max-length", "512"] if told["folder"].startswith("plain") else []
    server = Server("--max-client-batch", "32", "--precision", "fp32", *flags, model=MODELS / told["folder"])
    yield server, told["cases"], told["folder"]
    server.stop()


def plain_numbers(answer):
    """base64 vectors as numbers."""
    for row in answer["data"] if isinstance(answer, dict) and "data" in answer else []:
        if isinstance(row["embedding"], str):
            raw = base64.b64decode(row["embedding"])
            row["embedding"] = list(struct.unpack(f"<{len(raw) // 4}f", raw))
    return answer


def verdict(case, reply, folder):
    """None, or how ours differs from theirs."""
    if case["status"] != reply.status:
        if any((theirs, ours) == (case["status"], reply.status) and when(case, folder) for _, theirs, ours, when in STATUS):
            return None
        return f"status {reply.status}, theirs {case['status']}: {reply.body[:160]!r}"
    if "answer" not in case:
        return None
    if case["status"] >= 300:
        # An error's fields, and its class.
        both = [answer for answer in (case["answer"], reply.json()) if isinstance(answer, dict) and "error_type" in answer]
        return None if len(both) < 2 or both[0]["error_type"] == both[1]["error_type"] else f"{both[1]['error_type']}, theirs {both[0]['error_type']}"
    numbers = not any(when(case, folder) for _, when in NUMBERS)
    return same(plain_numbers(case["answer"]), plain_numbers(reply.json()), numbers=numbers)


def test_the_table_tells_every_difference():
    for words in {difference[0] for difference in [*STATUS, *NUMBERS]}:
        assert f"| {words} |" in CONTRACT, words


def test_as_tei_answers(recorded):
    server, cases, folder = recorded
    wrong = [f"{case['method']} {case['path']} {json.dumps(case['request'])[:120]}: {told}"
             for case in cases if (told := verdict(case, ask(server, case), folder))]
    assert not wrong, "\n".join(wrong)
