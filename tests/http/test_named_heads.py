"""Named heads of every kind: their routes, shapes and errors; what one may ask beside the answer."""
import json
import math
import random
import struct

import pytest
from conftest import TOKEN, Server

AUTH = [("Authorization", f"Bearer {TOKEN}")]
HIDDEN = 32
LONG = " ".join(["the", "end", "of", "it"] * 400)


def heads_file(heads, seed=1):
    """heads: {name: {"k": classes, "dense": M or None, other metadata by word}}."""
    draw = random.Random(seed)
    header, data, metadata = {}, b"", {}
    for name, head in heads.items():
        inner = head.get("dense")
        tensors = [("weight", [head["k"], inner or HIDDEN]), ("bias", [head["k"]])]
        if inner:
            tensors += [("dense.weight", [inner, HIDDEN]), ("dense.bias", [inner])]
        for tensor, shape in tensors:
            n = math.prod(shape)
            raw = struct.pack(f"<{n}f", *(draw.uniform(-1, 1) for _ in range(n)))
            header[f"{name}.{tensor}"] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
        words = {"labels": json.dumps([f"{name}-{i}" for i in range(head["k"])]), **head.get("say", {})}
        metadata |= {f"{name}.{word}": text for word, text in words.items()}
    header["__metadata__"] = metadata
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


KINDS = {
    "topics": {"k": 4, "say": {"kind": "sigmoid", "thresholds": "[0.9,0.9,0.9,0.1]"}},
    "rank": {"k": 1, "dense": 5, "say": {"kind": "score", "input": "cls", "activation": "tanh"}},
    "value": {"k": 1, "say": {"kind": "score", "function": "none"}},
    "tags": {"k": 3, "say": {"kind": "tokens", "labels": '["O","B-X","I-X"]'}},
    "mood": {"k": 3, "dense": 7, "say": {"activation": "gelu", "temperature": "2.5", "thresholds": "[1,1,1]"}},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    tokens = tmp_path_factory.mktemp("named") / "tokens"
    tokens.write_text(f"ops:{TOKEN}\n")
    server = Server("--admin-token-file", str(tokens), "--max-client-batch", "64", "--precision", "fp32")
    reply = server.request("PUT", "/admin/heads", heads_file(KINDS), AUTH, admin=True)
    assert reply.status == 200, reply.body
    yield server
    server.kill()


def ask(server, name, body, status=200):
    reply = server.post(f"/heads/{name}", body)
    assert reply.status == status, reply.body
    return reply.json()


def test_heads_lists_all(server):
    reply = server.get("/heads")
    heads = {head["name"]: head for head in reply.json()}
    assert list(heads) == sorted([*KINDS, "classifier", "sentiment"])
    assert heads["tags"] == {"name": "tags", "kind": "tokens", "input": "tokens", "labels": ["O", "B-X", "I-X"],
                             "version": 2}
    assert heads["rank"]["input"] == "cls" and heads["sentiment"]["kind"] == "softmax"
    assert reply.header("X-Heads").startswith("v2-")


def test_info_and_versions_name_the_others(server):
    heads = server.get("/info").json()["heads"]
    assert set(heads["named"]) == set(KINDS) and heads["sentiment"]["classes"] == 3
    version = server.get("/admin/heads", AUTH, admin=True).json()["versions"][0]
    assert set(version["named"]) == set(KINDS)


def test_every_kind_answers(server):
    one = ask(server, "topics", {"inputs": "a"})
    assert [e["label"] for e in sorted(one, key=lambda e: -e["score"])] == [e["label"] for e in one] and len(one) == 4
    assert abs(sum(e["score"] for e in one) - 1) > 1e-3
    raw = {e["label"]: e["score"] for e in ask(server, "topics", {"inputs": "a", "raw_scores": True})}
    assert all(abs(1 / (1 + math.exp(-raw[e["label"]])) - e["score"]) < 1e-5 for e in one)
    (rank,) = ask(server, "rank", {"inputs": "a"})
    assert rank["label"] == "rank-0" and 0 < rank["score"] < 1
    (value,) = ask(server, "value", {"inputs": "a"})
    assert value == ask(server, "value", {"inputs": "a", "raw_scores": True})[0]
    assert ask(server, "value", {"inputs": ["a"]}) == [[value]]
    assert len(ask(server, "mood", {"inputs": ["a", "b"], "top_k": 2})[1]) == 2


def test_temperature_is_not_in_raw_scores(server):
    raw = {e["label"]: e["score"] for e in ask(server, "mood", {"inputs": "hello", "raw_scores": True})}
    soft = [math.exp(x / 2.5) for x in raw.values()]
    for e in ask(server, "mood", {"inputs": "hello"}):
        assert abs(math.exp(raw[e["label"]] / 2.5) / sum(soft) - e["score"]) < 1e-5


def test_token_heads(server):
    text = "The END of it, café"
    tokens = ask(server, "tags", {"inputs": text, "aggregation_strategy": "none", "ignore_labels": []})
    assert tokens[0].keys() == {"entity", "score", "index", "word", "start", "end"} and tokens[0]["index"] == 1
    assert [text[t["start"]:t["end"]].lower() for t in tokens][:2] == ["the", "end"]
    groups = ask(server, "tags", {"inputs": [text], "parameters": {"ignore_labels": ["X"]}})
    assert all(g["entity_group"] == "O" for g in groups[0])
    for strategy in ("simple", "first", "average", "max"):
        spans = ask(server, "tags", {"inputs": text, "aggregation_strategy": strategy})
        assert all(s.keys() == {"entity_group", "score", "word", "start", "end"} for s in spans)
        assert all(s["entity_group"] == "X" for s in spans)
    assert ask(server, "tags", {"inputs": ""}) == []


def test_analyze_takes_any_tasks(server):
    body = server.post("/analyze", {"inputs": "hello", "tasks": ["topics", "tags", "sentiment", "rank"]}).json()
    (result,) = body["results"]
    assert set(result) == {"tokens", "truncated", "sentiment", "named"}
    assert set(result["named"]) == {"topics", "tags", "rank"} and isinstance(result["named"]["tags"], list)
    topics = {e["label"]: e["score"] for e in ask(server, "topics", {"inputs": "hello"})}
    assert result["named"]["topics"]["scores"] == topics
    assert server.post("/analyze", {"inputs": "a", "tasks": ["nobody"]}).code == "head_absent"
    assert set(server.post("/analyze", {"inputs": "a"}).json()["results"][0]) == {
        "tokens", "truncated", "embedding", "classify", "sentiment"}


def test_a_head_by_query(server):
    raw = server.post("/predict?head=mood", {"inputs": [["a"], ["a", "b"]], "raw_scores": True}).json()
    assert raw[0] != raw[1] and raw[0] == ask(server, "mood", {"inputs": "a", "raw_scores": True})
    assert server.post("/predict?head=tags", {"inputs": "a"}).code == "unsupported_value"
    assert server.post("/predict?head=nobody", {"inputs": "a"}).code == "head_absent"
    assert server.post(f"/predict?head={'mood' * 16}x", {"inputs": "a"}).code == "head_absent"
    twice = server.post("/predict?head=mood&head=tags", {"inputs": "a"})
    assert (twice.status, twice.code) == (422, "duplicate_field") and b"head may stand only once" in twice.body


def test_rerank(server):
    body = {"query": "the end", "texts": ["of it", "the end", "more"], "return_text": True}
    ranks = server.post("/rerank?head=rank", body).json()
    assert [r["score"] for r in ranks] == sorted((r["score"] for r in ranks), reverse=True)
    assert {r["index"]: r["text"] for r in ranks} == dict(enumerate(body["texts"]))
    pairs = server.post("/predict?head=rank", {"inputs": [["the end", t] for t in body["texts"]]}).json()
    assert {r["index"]: r["score"] for r in ranks} == {i: p[0]["score"] for i, p in enumerate(pairs)}
    assert "text" not in server.post("/rerank?head=rank", {"query": "a", "texts": ["b"]}).json()[0]
    for head in ("", "?head=topics", "?head=tags"):
        reply = server.post(f"/rerank{head}", {"query": "a", "texts": ["b"]})
        assert (reply.status, reply.code, reply.json()["error_type"]) == (424, "not_a_ranker", "Backend")
    assert server.post("/rerank?head=nobody", {"query": "a", "texts": ["b"]}).code == "head_absent"


@pytest.mark.parametrize("name, function, good", [("value", "sigmoid", False), ("value", "softmax", False), ("value", "none", True),
                                                  ("rank", "sigmoid", True), ("topics", "sigmoid", True), ("mood", "sigmoid", False)])
def test_a_function_that_is_not_the_heads_is_refused(server, name, function, good):
    reply = server.post(f"/heads/{name}", {"inputs": "a", "parameters": {"function_to_apply": function}})
    assert (reply.status == 200) == good
    assert good or (reply.code, reply.json()["param"]) == ("unsupported_value", "parameters.function_to_apply")


def test_similarity_and_token_vectors(server):
    texts = ["the end of it", "the end", "more"]
    rows = server.post("/embed", {"inputs": texts}).json()
    cosines = server.post("/similarity", {"inputs": {"source_sentence": texts[0], "sentences": texts[1:]}}).json()
    for row, cosine in zip(rows[1:], cosines, strict=True):
        assert abs(sum(a * b for a, b in zip(rows[0], row)) - cosine) < 1e-6
    (tokens,) = server.post("/embed_all", {"inputs": texts[0]}).json()
    plain = server.post("/embed", {"inputs": texts[0], "normalize": False}).json()[0]
    assert all(abs(sum(column) / len(tokens) - x) < 1e-5 for column, x in zip(zip(*tokens), plain))


def test_ids_and_back(server):
    (tokens,) = server.post("/tokenize", {"inputs": "the end"}).json()
    ids = [token["id"] for token in tokens]
    assert server.post("/embed", {"inputs": ids}).json() == server.post("/embed", {"inputs": "the end"}).json()
    mixed = server.post("/embed", {"inputs": ["the end", ids]}).json()
    assert mixed[0] == mixed[1]
    assert server.post("/embed", {"inputs": ["a", 5]}).status == 422
    assert server.post("/decode", {"ids": ids}).json() == ["the end"]
    assert server.post("/decode", {"ids": [ids, ids], "skip_special_tokens": False}).json() == ["[CLS] the end [SEP]"] * 2
    assert server.post("/decode", {"ids": [10**6]}).code == "out_of_range"


@pytest.mark.parametrize("name, method", [("sentiment", "exact"), ("topics", "exact"), ("mood", "gradient")])
def test_explain(server, name, method):
    text = "The END of it, café"
    answer = ask(server, name, {"inputs": text, "explain": True})
    assert set(answer) == {"label", "score", "scores", "explanation"}
    told = answer["explanation"]
    raw = {e["label"]: e["score"] for e in ask(server, name, {"inputs": text, "raw_scores": True})}
    assert told["method"] == method and told["label"] == answer["label"] == max(raw, key=raw.get)
    assert abs(told["bias"] + sum(t["share"] for t in told["tokens"]) - raw[told["label"]]) < 1e-5 * max(1, abs(raw[told["label"]]))
    assert told["tokens"][0]["start"] is None and told["tokens"][0]["text"] == "[CLS]"
    assert [text[t["start"]:t["end"]] for t in told["tokens"][1:3]] == ["The", "END"]


def test_explain_where_it_can_not(server):
    for name in ("rank", "tags"):
        assert server.post(f"/heads/{name}", {"inputs": "a", "explain": True}).code == "explain_unavailable"
    assert server.post("/classify", {"inputs": "a", "explain": True, "long": "windows"}).code == "explain_unavailable"


def test_abstain(server):
    answers = ask(server, "mood", {"inputs": ["a", "b"], "abstain": True})
    assert all(a["label"] is None and a["abstained"] is True and len(a["scores"]) == 3 for a in answers)
    some = ask(server, "topics", {"inputs": "a", "abstain": True})
    assert isinstance(some, dict) and {e["label"] for e in some["scores"]} <= {f"topics-{i}" for i in range(4)}
    everyone = {e["label"]: e["score"] for e in ask(server, "topics", {"inputs": "a"})}
    sure = {label for label, score in everyone.items() if score >= (0.1 if label == "topics-3" else 0.9)}
    assert {e["label"] for e in some["scores"]} == sure
    assert (some["label"] is None and some["score"] is None and some["abstained"]) if not sure else not some["abstained"]
    assert server.post("/sentiment", {"inputs": "a", "abstain": True}).code == "unsupported_value"


def test_windows(server):
    limit = server.get("/info").json()["max_input_length"]
    reply = server.post("/embed", {"inputs": [LONG, "short"], "long": "windows", "normalize": False})
    assert reply.header("X-Truncated") == "0"
    windows = int(reply.header("X-Windows"))
    assert windows - 1 >= 1600 / (limit - 2)
    assert reply.json()[1] == server.post("/embed", {"inputs": "short", "normalize": False}).json()[0]
    answer = ask(server, "topics", {"inputs": LONG, "long": "windows"})
    assert answer["windows"] == windows - 1 and set(answer) == {"label", "score", "scores", "windows"}
    spans = ask(server, "tags", {"inputs": [LONG], "long": "windows", "ignore_labels": []})
    assert spans[0]["windows"] == windows - 1
    found = spans[0]["entities"]
    assert found[0]["start"] == 0 and found[-1]["end"] == len(LONG)
    assert all(a["end"] <= b["start"] for a, b in zip(found, found[1:]))
    assert server.post("/analyze", {"inputs": LONG, "long": "windows"}).json()["results"][0]["windows"] == windows - 1
    assert server.post("/predict", {"inputs": LONG, "long": "windows"}).code == "unknown_field"
    reply = server.post("/embed", {"inputs": LONG * 40, "long": "windows"})
    assert (reply.status, reply.code) == (413, "too_many_inputs")
    assert server.post("/embed", {"inputs": [5, 6], "long": "windows"}).code == "unsupported_value"


def linear_head(name, weight, bias, metadata):
    raw = struct.pack(f"<{len(weight) + 1}f", *weight, bias)
    header = {f"{name}.weight": {"dtype": "F32", "shape": [1, len(weight)], "data_offsets": [0, len(raw) - 4]},
              f"{name}.bias": {"dtype": "F32", "shape": [1], "data_offsets": [len(raw) - 4, len(raw)]},
              "__metadata__": {f"{name}.{word}": text for word, text in metadata.items()}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + raw


def test_a_sentence_planted_anywhere_is_found(server):
    """A sigmoid head that tells a sentence from the rest finds it wherever it stands in a long text."""
    planted = " ".join(["more"] * 20)
    alone, rest = server.post("/embed", {"inputs": [planted, " ".join(LONG.split()[:80])], "normalize": False}).json()
    weight = [a - b for a, b in zip(alone, rest)]
    bias = -sum(w * (0.8 * b + 0.2 * a) for w, a, b in zip(weight, alone, rest))
    file = linear_head("planted", weight, bias, {"kind": "sigmoid", "labels": '["there"]'})
    assert server.request("PUT", "/admin/heads", file, AUTH, admin=True).status == 200
    try:
        ask_long = {"long": "windows", "raw_scores": True}
        plain = ask(server, "planted", {"inputs": LONG, **ask_long})["score"]
        assert ask(server, "planted", {"inputs": planted, "raw_scores": True})[0]["score"] > 0 > plain
        for place in (0, 100, 333, 777, 1580):
            words = LONG.split()
            words[place:place] = planted.split()
            assert ask(server, "planted", {"inputs": " ".join(words), **ask_long})["score"] > plain + 0.05 * abs(plain), place
    finally:
        reply = server.request("DELETE", "/admin/heads/planted", None, AUTH, admin=True)
        assert reply.status == 200 and reply.json()["previous"] == reply.json()["version"] - 1


def test_delete(server):
    before = server.get("/admin/heads", AUTH, admin=True).json()["versions"][0]
    reply = server.request("DELETE", "/admin/heads/mood?dry_run", None, AUTH, admin=True)
    assert reply.status == 200 and reply.json()["dry_run"] is True and "mood" in str(server.get("/heads").json())
    stale = [*AUTH, ("If-Match", f'"{"0" * 64}"')]
    assert server.request("DELETE", "/admin/heads/mood", None, stale, admin=True).status == 412
    assert server.request("DELETE", "/admin/heads/nobody", None, AUTH, admin=True).code == "head_absent"
    assert server.request("DELETE", "/admin/heads/mood?x=1", None, AUTH, admin=True).status == 422
    assert server.request("DELETE", "/admin/heads/mood", None, [*AUTH, ("If-Match", f'"{before["sha256"]}"')],
                          admin=True).status == 200
    assert server.post("/heads/mood", {"inputs": "a"}).code == "head_absent"
    assert server.request("POST", "/admin/heads/rollback", b"", AUTH, admin=True).status == 200
    assert ask(server, "mood", {"inputs": "a"})


def test_the_last_head_stays(start, token_file):
    server = start("--admin-token-file", token_file)
    assert server.request("DELETE", "/admin/heads/sentiment", None, AUTH, admin=True).status == 200
    reply = server.request("DELETE", "/admin/heads/classifier", None, AUTH, admin=True)
    assert (reply.status, reply.code) == (409, "last_head")
    assert server.post("/sentiment", {"inputs": "a"}).code == "head_absent"


def test_what_does_not_fit_the_head(server):
    for name, body in [("topics", {"aggregation_strategy": "max"}), ("topics", {"ignore_labels": ["O"]}),
                       ("tags", {"top_k": 1}), ("tags", {"abstain": True}),
                       ("topics", {"parameters": {"function_to_apply": "softmax"}}),
                       ("mood", {"parameters": {"function_to_apply": "sigmoid"}})]:
        assert server.post(f"/heads/{name}", {"inputs": "a", **body}).code == "unsupported_value", (name, body)
    for path in ("/heads/nobody", "/heads/No%20body", "/heads/embed", "/heads/" + "a" * 65):
        assert server.post(path, {"inputs": "a"}).code == "head_absent"
    assert server.get("/heads/topics").status == 405
    assert ask(server, "topics", {"inputs": ["hello"], "options": {"wait_for_model": True, "use_cache": True}})


def test_metrics_by_head(server):
    ask(server, "topics", {"inputs": "a"})
    text = server.get("/metrics").body.decode()
    assert 'orthrus_predictions_total{head="topics",label="topics-' in text
    assert 'orthrus_prediction_confidence_count{head="topics"}' in text
    assert 'orthrus_requests_total{route="/heads/{name}",code="200"}' in text


def test_token_vectors_are_bounded(start):
    server = start("--max-client-batch", "20000")
    reply = server.post("/embed_all", {"inputs": [" ".join(["a"] * 126)] * 20000})
    assert (reply.status, reply.code) == (413, "response_too_large")
