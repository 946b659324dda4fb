"""--cache-mib: equal texts are computed once, and no answer differs by a bit from that of a server without it."""
import json
import os
import random
import subprocess

import pytest
from conftest import BIN, ROOT, TOKEN, Connection, render
from test_named_heads import KINDS, heads_file

AUTH = [("Authorization", f"Bearer {TOKEN}")]
MODELS = ROOT / "tests" / "data" / "models"
FULL = os.environ.get("ORTHRUS_FULL") == "1"
MIB = 1 << 20


def counts(server):
    return [server.metric(f"orthrus_cache_{name}_total") for name in ("hits", "misses", "joined", "evictions")]


def test_off_unless_asked_for(server):
    server.post("/embed", {"inputs": ["a", "a"]})
    assert counts(server) == [0, 0, 0, 0]
    assert server.metric("orthrus_cache_bytes") == server.metric("orthrus_cache_bytes_limit") == 0


def test_a_hit_is_the_answer(start):
    server = start("--cache-mib", "1")
    assert server.metric("orthrus_cache_bytes_limit") == MIB
    first = server.post("/embed", {"inputs": ["hello world", "the end", "hello world"]})
    assert counts(server) == [0, 2, 1, 0]
    again = server.post("/embed", {"inputs": ["hello world", "the end", "hello world"]})
    assert again.body == first.body
    assert again.header("X-Compute-Tokens") == first.header("X-Compute-Tokens") != "0"
    assert counts(server) == [3, 2, 1, 0]
    # Heads find it too, and what was computed is told once.
    server.post("/classify", {"inputs": "the end"})
    assert counts(server)[0] == 4
    assert server.metric("orthrus_batch_texts_sum") == 2 and server.metric("orthrus_encode_seconds_count") == 1
    assert server.metric("orthrus_tokenize_seconds_count") == 3
    # Whoever reads every token's state goes past it.
    server.post("/embed_all", {"inputs": "the end"})
    server.post("/classify", {"inputs": "the end", "explain": True})
    assert counts(server)[:2] == [4, 2] and server.metric("orthrus_batch_texts_sum") == 4


def test_a_thousand_at_once(start):
    server = start("--cache-mib", "1", "--max-queue-requests", "4")
    request = render("POST", "/embed", b'{"inputs":"the end of it"}', [("Content-Type", "application/json")])
    connections = [Connection(server.address) for _ in range(900)]
    for connection in connections:
        connection.send(request)
    replies = [connection.read_reply() for connection in connections]
    for connection in connections:
        connection.close()
    assert {reply.status for reply in replies} == {200} and len({reply.body for reply in replies}) == 1
    hits, misses, joined, _ = counts(server)
    assert misses == 1 and hits + joined == 899
    assert server.metric("orthrus_batch_texts_sum") == 1


def test_the_ceiling(start):
    server = start("--cache-mib", "1")
    for i in range(60):
        reply = server.post("/embed", {"inputs": [[5 + k % 30, 5 + k // 30, 5 + i] for k in range(100)]})
        assert reply.status == 200, reply.body
        assert 0 < server.metric("orthrus_cache_bytes") <= MIB
    assert counts(server)[3] > 0


@pytest.mark.parametrize("value", ["-1", "65536", "x", "1.5"])
def test_wrong_values(value):
    run = subprocess.run([BIN, "serve", "--cache-mib", value], capture_output=True, text=True, timeout=60)
    assert run.returncode == 2 and "--cache-mib" in run.stderr


WORDS = ["the", "end", "of", "it", "café", "hello", "world", "!", "42", "東京", "un##known", ""]


def a_text(draw):
    """From few, so that they come again; some are far over every limit."""
    n = draw.choice([0, 1, 1, 2, 3, 5, 400])
    return " ".join(draw.choice(WORDS) for _ in range(n)) if n < 400 else " ".join([draw.choice(WORDS)] * 400)


def a_request(draw, prompts, pairs, heads):
    texts = [a_text(draw) for _ in range(draw.choice([1, 1, 2, 3, 20]))]
    inputs = draw.choice([texts, texts[0]])
    common = {}
    if draw.random() < 0.3:
        common["truncation_direction"] = draw.choice(["left", "right", "Left"])
    windows = {"long": "windows"} if draw.random() < 0.2 else {}
    named = {"prompt_name": draw.choice(prompts)} if prompts and draw.random() < 0.5 else {}
    ids = [[draw.randrange(5, 60) for _ in range(draw.randrange(1, 5))] for _ in range(3)]
    choices = [
        ("/embed", {"inputs": inputs, "normalize": draw.choice([True, False]), **common, **named, **windows}),
        ("/embed", {"inputs": ids}),
        ("/v1/embeddings", {"input": [t or "x" for t in texts], **named}),
        ("/embed_all", {"inputs": inputs, **named}),
        ("/similarity", {"inputs": {"source_sentence": texts[0], "sentences": texts}}),
    ]
    if pairs:
        choices += [("/predict", {"inputs": [[a_text(draw), a_text(draw)] for _ in texts]}), ("/predict", {"inputs": texts[0]})]
    if heads:
        choices += [
            ("/classify", {"inputs": inputs, **common, **windows}),
            ("/sentiment", {"inputs": inputs, "explain": True}),
            ("/heads/rank", {"inputs": inputs, **windows}),
            ("/heads/topics", {"inputs": inputs, "raw_scores": True}),
            ("/heads/tags", {"inputs": inputs}),
            ("/heads/mood", {"inputs": inputs, "abstain": True}),
            ("/rerank?head=rank", {"query": a_text(draw), "texts": texts}),
            ("/analyze", {"inputs": inputs, "tasks": ["embed", "classify", "rank", "topics"], **windows}),
            ("/analyze", {"inputs": inputs}),
        ]
    return draw.choice(choices)


@pytest.mark.parametrize("model", [None, "st-prompts", "st-dense", "seq-pairs"])
def test_the_same_bits(start, tmp_path, model):
    """Two servers are told the same; one has a cache."""
    draw = random.Random(str(model))
    tokens = tmp_path / "tokens"
    tokens.write_text(f"ops:{TOKEN}\n")
    flags = ["--precision", "fp32", "--admin-token-file", str(tokens), "--served-model-name", "m"]
    folder = {"model": MODELS / model} if model else {}
    plain, cached = start(*flags, **folder), start("--cache-mib", "1", *flags, **folder)
    prompts = []
    if model == "st-prompts":
        config = json.loads((MODELS / model / "config_sentence_transformers.json").read_text())
        prompts = [*config["prompts"], ""]
    answered = 0
    with plain.connect() as a, cached.connect() as b:
        for step in range(4000 if FULL else 250):
            if model is None and step % 25 == 0:
                body = heads_file(KINDS, step)
                one, two = (s.request("PUT", "/admin/heads", body, AUTH, admin=True) for s in (plain, cached))
                assert one.status == two.status == 200 and one.json()["sha256"] == two.json()["sha256"]
            path, value = a_request(draw, prompts, model == "seq-pairs", model is None)
            one, two = a.post(path, value), b.post(path, value)
            if one.status == 200:
                answered += 1
                assert one.body == two.body, (path, value)
            else:
                assert two.code == one.code, (path, value)
            for name in ("X-Heads", "X-Compute-Tokens", "X-Truncated", "X-Embedding-Space", "X-Windows"):
                assert one.header(name) == two.header(name), (name, path, value)
            assert one.status == two.status
    assert answered > 150
    hits, misses, joined, _ = counts(cached)
    assert hits > misses / 2 and joined > 0 and counts(plain) == [0, 0, 0, 0]
