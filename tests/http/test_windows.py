"""No text unseen: windows over 8,192 tokens, and the sums of explanations at every precision."""
import json
import os
import random
import struct

import pytest
from conftest import TOKEN, Server
from test_named_heads import AUTH, heads_file

FULL = os.environ.get("ORTHRUS_FULL", "0") == "1"
REST = ["the", "end", "of", "it"]
PLANTED = ["more"] * 14  # less than the quarter that two windows share
TOKENS = 8192
PRECISIONS = ["fp32", "bf16", "int8"]


def two_numbers(name, weight, bias, kind, labels):
    """A head of two rows: the second is the direction, the first is nothing."""
    rows = [*([0.0] * len(weight)), *weight, 0.0, bias] if kind == "tokens" else [*weight, bias]
    k = 2 if kind == "tokens" else 1
    raw = struct.pack(f"<{len(rows)}f", *rows)
    cut = 4 * k * len(weight)
    header = {f"{name}.weight": {"dtype": "F32", "shape": [k, len(weight)], "data_offsets": [0, cut]},
              f"{name}.bias": {"dtype": "F32", "shape": [k], "data_offsets": [cut, len(raw)]},
              "__metadata__": {f"{name}.kind": kind, f"{name}.labels": json.dumps(labels)}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + raw


def put(server, data):
    reply = server.request("PUT", "/admin/heads", data, AUTH, admin=True)
    assert reply.status == 200, reply.body


def mean(rows):
    return [sum(column) / len(rows) for column in zip(*rows)]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


@pytest.fixture(scope="module", params=PRECISIONS)
def server(request, tmp_path_factory):
    tokens = tmp_path_factory.mktemp("windows") / "tokens"
    tokens.write_text(f"ops:{TOKEN}\n")
    server = Server("--admin-token-file", str(tokens), "--precision", request.param)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def text():
    draw = random.Random(15)
    return [draw.choice(REST) for _ in range(TOKENS - 2 - len(PLANTED))]


def separate(yes, no):
    """A direction and a bias that are positive for every row of yes, negative for every one of no (a perceptron)."""
    middle = mean([*yes, *no])
    rows = [([x - m for x, m in zip(row, middle)], 1) for row in yes]
    rows += [([x - m for x, m in zip(row, middle)], -1) for row in no]
    weight, bias = [0.0] * len(middle), 0.0
    for _ in range(2000):
        wrong = 0
        for row, sign in rows:
            if sign * (dot(weight, row) + bias) < 1:
                weight, bias, wrong = [w + sign * x for w, x in zip(weight, row)], bias + sign, wrong + 1
        if not wrong:
            return weight, bias - dot(weight, middle)
    raise AssertionError("not separable")


@pytest.fixture(scope="module")
def finders(server, text):
    """A sigmoid head and a token head that tell the planted sentence from the rest."""
    def vectors(texts):
        return server.post("/embed", {"inputs": texts, "normalize": False}).json()

    windows = [" ".join(text[i:i + 60]) for i in range(0, len(text), 45)]
    planted = [[*text[i:i + at], *PLANTED, *text[i + at:i + 46]] for i in range(0, 900, 90) for at in (0, 11, 23, 46)]
    there = [" ".join(PLANTED), *map(" ".join, planted)]
    put(server, two_numbers("there", *separate(vectors(there), vectors(windows)), "sigmoid", ["there"]))
    rows = {True: [], False: []}
    for words in [PLANTED, *planted[::4], *(w.split() for w in windows[:30])]:
        for word, row in zip(words, server.post("/embed_all", {"inputs": " ".join(words)}).json()[0][1:-1], strict=True):
            rows[word == PLANTED[0]].append(row)
    put(server, two_numbers("seen", *separate(rows[True], rows[False]), "tokens", ["O", "B-IT"]))


def test_a_sentence_planted_anywhere_is_found(server, text, finders):
    ask = {"long": "windows", "raw_scores": True}
    assert server.post("/heads/there", {"inputs": " ".join(PLANTED), **ask}).json()["score"] > 0
    assert server.post("/heads/there", {"inputs": " ".join(text), **ask}).json()["score"] < 0
    draw = random.Random(16)
    places = [0, 1, 46, 47, 62, len(text) - 1, len(text), *(draw.randrange(len(text)) for _ in range(60 if FULL else 12))]
    for place in places:
        words = [*text[:place], *PLANTED, *text[place:]]
        whole = " ".join(words)
        at = len(" ".join(words[:place])) + (place > 0)
        answer = server.post("/heads/there", {"inputs": whole, **ask}).json()
        assert answer["score"] > 0 and answer["windows"] > TOKENS // 62, place
        found = server.post("/heads/seen", {"inputs": whole, "long": "windows"}).json()["entities"]
        inside = [e["word"] for e in found if at <= e["start"] and e["end"] <= at + len(" ".join(PLANTED))]
        assert len(" ".join(inside).split()) >= len(PLANTED) // 2, place


def test_every_token_is_seen_once(server, text, finders):
    whole = " ".join([*text[:700], "anonymously, 東京!", *text[700:1400]])
    tokens = [t for t in server.post("/tokenize", {"inputs": whole}).json()[0] if not t["special"]]
    ask = {"inputs": whole, "long": "windows", "ignore_labels": [], "aggregation_strategy": "none"}
    entities = server.post("/heads/seen", ask).json()["entities"]
    assert [(e["start"], e["end"]) for e in entities] == [(t["start"], t["stop"]) for t in tokens]
    assert [e["index"] for e in entities] == list(range(1, len(tokens) + 1))


def test_a_span_longer_than_what_windows_share_is_whole(server, text, finders):
    """Every window says the same of all its tokens: one span, whose word is the text."""
    put(server, two_numbers("all", [0.0] * 32, 1.0, "tokens", ["O", "ALL"]))
    whole = " ".join(text[:1000])
    for strategy in ("simple", "first", "average", "max"):
        ask = {"inputs": [whole], "long": "windows", "aggregation_strategy": strategy}
        (answer,) = server.post("/heads/all", ask).json()
        (span,) = answer["entities"]
        assert (span["start"], span["end"], span["word"]) == (0, len(whole), whole)
        assert abs(span["score"] - 0.7310586) < 1e-5
    assert server.post("/heads/all", {"inputs": whole}).json()[0]["end"] < len(whole)


EXPLAINED = {"mood": {"k": 3}, "topics": {"k": 4, "say": {"kind": "sigmoid"}}, "value": {"k": 1, "say": {"kind": "score"}},
             **{f"deep-{a}": {"k": 3, "dense": 7, "say": {"activation": a, "temperature": "2"}} for a in ("tanh", "relu", "gelu")}}


def test_explanations_add_up(server):
    """bias + Σ share = the logit before temperature, within 1e-5 relative, whatever multiplies."""
    put(server, heads_file(EXPLAINED, 3))
    texts = ["", "the end", "The END of it, café 東京!", " ".join(REST * 30)]
    for name, head in EXPLAINED.items():
        raw = server.post(f"/heads/{name}", {"inputs": texts, "raw_scores": True}).json()
        told = server.post(f"/heads/{name}", {"inputs": texts, "explain": True}).json()
        for text, logits, answer in zip(texts, raw, told, strict=True):
            why = answer["explanation"]
            logit = {e["label"]: e["score"] for e in logits}[why["label"]]
            parts = [why["bias"], *(t["share"] for t in why["tokens"])]
            assert why["method"] == ("gradient" if "dense" in head else "exact")
            assert abs(sum(parts) - logit) <= 1e-5 * max(abs(logit), sum(map(abs, parts)) / len(parts), 1e-3), (name, text)
