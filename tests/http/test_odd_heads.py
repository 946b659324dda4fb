"""Heads files that nobody should send: each is refused whole and by its reason, or served; nothing in service changes."""
import json
import random
import struct

import pytest
from conftest import TOKEN, Server
from test_named_heads import AUTH, HIDDEN, KINDS, heads_file

TWO = {"k": 2}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    tokens = tmp_path_factory.mktemp("odd") / "tokens"
    tokens.write_text(f"ops:{TOKEN}\n")
    server = Server("--admin-token-file", str(tokens), "--max-client-batch", "64")
    yield server
    server.stop()


def put(server, data, query=""):
    return server.request("PUT", f"/admin/heads{query}", data, AUTH, admin=True)


def says(**words):
    return heads_file({"x": {"k": 2, "say": words}})


def constant(weight, bias, **words):
    raw = struct.pack(f"<{2 * HIDDEN + 2}f", *[weight] * (2 * HIDDEN), *bias)
    header = {"x.weight": {"dtype": "F32", "shape": [2, HIDDEN], "data_offsets": [0, 8 * HIDDEN]},
              "x.bias": {"dtype": "F32", "shape": [2], "data_offsets": [8 * HIDDEN, len(raw)]},
              "__metadata__": {"x.labels": '["a","b"]', **{f"x.{word}": text for word, text in words.items()}}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + raw


REFUSED = {
    "no classes": heads_file({"x": {"k": 0}}), "softmax of one": heads_file({"x": {"k": 1}}),
    "tokens of one": heads_file({"x": {"k": 1, "say": {"kind": "tokens"}}}),
    "score of two": says(kind="score"), "65 heads": heads_file({f"h{i}": TWO for i in range(65)}),
    "1025 classes": heads_file({"x": {"k": 1025}}),
    "dense of nothing": heads_file({"x": {"k": 2, "dense": 0, "say": {"activation": "tanh"}}}),
    **{f"labels {text[:20]}": says(labels=text) for text in (
        '["a","a"]', '["","a"]', '["a\\u0000b","c"]', '["\\ud800","c"]', '["a\\nb","c"]', json.dumps(["a" * 257, "c"]),
        '{"a":1}', "[1,2]", '["a","b","c"]', "[[" * 1000, "")},
    **{f"temperature {text}": says(temperature=text) for text in (
        "0", "-1", "nan", "inf", "1e400", "1e-9", "1e9", "", "1 ", "0x1p3", "1,5", "true", "[1]")},
    **{f"thresholds {text}": says(thresholds=text) for text in (
        "[-0.1,0.5]", "[0.5,1.01]", "[0.5]", "0.5", "[nan,0.5]", "[1e999,0]", "[true,false]", "[null,null]", '["0.5","0.5"]')},
    **{f"name {name}": heads_file({name: TWO}) for name in (
        "a/b", "..", "a.b", "a b", "é", "", "Shadow", "_x", "9x", "a" * 65, "embed", "classify", "pooler", "encoder", "pooling",
        "shadow", "staged", "promote", "rollback")},
    "infinite": constant(3e38, [0, 0]), "infinite by temperature": constant(1e37, [3e38, -3e38], temperature="0.001"),
    "zeros": b"\0" * 8, "noise": random.Random(1).randbytes(1000), "huge header": struct.pack("<Q", 2**63) + b"{}",
    "nothing": struct.pack("<Q", 2) + b"{}",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(server, name):
    before = server.post("/sentiment", {"inputs": "a"}).header("X-Heads")
    for query in ("", "?dry_run", "?stage=shadow"):
        reply = put(server, REFUSED[name], query)
        assert (reply.status, reply.code) == (422, "heads_invalid"), reply.body
    assert server.post("/sentiment", {"inputs": "a"}).header("X-Heads") == before


def test_served_whatever_the_labels_say(server):
    labels = ["é\u2028", '東京 "q" \\', "</script>"]
    data = heads_file({name: {"k": 3, "say": {"labels": json.dumps(labels)}} for name in ("analyze", "health", "dense", "weight", "a" * 64)})
    reply = put(server, data)
    assert reply.status == 200, reply.body
    for name in ("analyze", "health", "dense", "weight", "a" * 64):
        assert {e["label"] for e in server.post(f"/heads/{name}", {"inputs": "a"}).json()} == set(labels)
    text = server.get("/metrics").body.decode()
    assert 'orthrus_predictions_total{head="dense",label="東京 \\"q\\" \\\\"}' in text
    assert server.get("/health").status == 200 and server.get("/info").json()["heads"]["named"]["dense"]["labels"] == labels


def test_a_query_says_each_thing_once(server):
    for query in ("?stage=shadow&stage=shadow", "?stage=shadow&stage=", "?dry_run&dry_run", "?dry_run&stage=shadow&dry_run=1"):
        assert put(server, heads_file({"x": TWO}), query).code == "duplicate_field", query
    for query in ("?stage=", "?stage=Shadow", "?stage", "?dry_run=2", "?dry_run=TRUE"):
        assert put(server, heads_file({"x": TWO}), query).code == "unsupported_value", query
    assert put(server, heads_file({"x": TWO}), "?%73tage=shadow").code == "unknown_field"
    assert server.get("/admin/shadow", AUTH, admin=True).code == "shadow_absent"


def test_odd_requests_are_answered(server):
    """Nothing is an error of the server's, and every refusal has its whole body."""
    assert put(server, heads_file(KINDS)).status == 200
    paths = ["/heads/topics", "/heads/tags", "/heads/rank", "/classify", "/predict", "/predict?head=tags", "/predict?head=",
             "/predict?head=a%2fb", "/rerank", "/rerank?head=rank", "/analyze", "/heads/", "/heads/%00", "/heads/topics/",
             "/embed_all", "/similarity", "/decode"]
    inputs = [None, [], [[]], [None], {"a": 1}, True, [["a", "b"]], [2**31], [-1], [0] * 5000, "\x00a\x00"]
    a = {"inputs": "a"}
    bodies = [None, {}, [], *({"inputs": value} for value in inputs),
              *({**a, "top_k": value} for value in (0, -1, 2**70, 1.5)),
              *({**a, "parameters": value} for value in ({}, [], {"parameters": {}})),
              *({**a, "long": value} for value in ("x", True, None)), {**a, "abstain": 1}, {**a, "explain": "true"},
              {**a, "ignore_labels": "O"}, {**a, "ignore_labels": ["O"] * 10000}, {**a, "aggregation_strategy": "MAX"},
              {"query": "a", "texts": []}, {"query": "a", "texts": "b"}, {"query": "", "texts": [""]},
              {"query": "a" * 20000, "texts": ["b" * 20000]}, {**a, "tasks": []}, {**a, "tasks": ["topics"] * 100},
              {"inputs": {"source_sentence": "", "sentences": [""]}}, {"ids": []}, {"ids": [[]]}, {"ids": [-1]},
              {"ids": [2**40]}, {"ids": [[1], 2]}, {"inputs": "the end " * 3000, "long": "windows", "explain": True},
              {"inputs": ["", ""], "long": "windows", "abstain": True}]
    for path in paths:
        for body in bodies:
            reply = server.post(path, body)
            assert reply.status < 500, (path, body, reply.body)
            if reply.status != 200:
                assert {"error", "error_type", "code", "param", "request_id"} <= set(reply.json())
