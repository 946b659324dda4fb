"""Operations routes, headers of every reply, HEAD, CORS, request ids, raw floats."""
import json
import math
import re
import struct

import pytest

GETS = ["/", "/health", "/livez", "/readyz", "/info", "/metrics", "/openapi.yaml", "/docs", "/v1/models",
        "/v1/models/tiny-bert"]


@pytest.mark.parametrize("path", GETS)
def test_head_is_get_without_the_body(server, path):
    with server.connect() as connection:
        got = connection.request("GET", path)
        head = connection.request("HEAD", path)
        assert (head.status, head.body) == (got.status, b"") == (200, b"")
        if path != "/metrics":
            assert head.header("Content-Length") == got.header("Content-Length")
        assert head.header("Content-Type") == got.header("Content-Type")
        assert connection.request("GET", "/health").status == 200


def test_probes_and_pages(server):
    assert server.get("/health").body == b""
    assert server.get("/livez").body == b"ok\n"
    for path in ("/livez", "/readyz", "/metrics", "/info"):
        assert server.get(path, admin=True).status == 200
    for path in ("/embed", "/", "/docs"):
        assert server.get(path, admin=True).status == 404
    for path in ("/", "/docs"):
        reply = server.get(path)
        assert reply.header("Content-Type") == "text/html; charset=utf-8"
        assert "default-src 'none'" in reply.header("Content-Security-Policy")
    assert server.get("/openapi.yaml").body.startswith(b"openapi: 3.1")


def test_info(server):
    info = server.get("/info").json()
    assert info["model_id"] == "tiny-bert" and info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert info["max_client_batch_size"] == 2048 and info["auto_truncate"] is True
    assert info["heads"]["classifier"]["labels"][0] == "Expression"
    assert info["encoder"]["id"] == server.post("/embed", {"inputs": "a"}).header("X-Encoder")
    assert len(info["model_sha"]) == 64
    assert info["isa_warning"] is None  # this machine multiplies correctly


def test_models(start):
    server = start("--served-model-name", "team/my model")
    listed = server.get("/v1/models").json()
    assert [model["id"] for model in listed["data"]] == ["team/my model"]
    assert server.get("/v1/models/team/my%20model").status == 200
    assert server.get("/v1/models/team%2fmy%20model").json()["id"] == "team/my model"
    assert server.get("/v1/models/%74%65am%2Fmy%20model").json()["id"] == "team/my model"
    for other in ("team", "team/my%20models", "team/my%2", "team/my%2g", "team/my%g0model", "team%2fmy%20model%00", "%", "team/my%4Fmodel",
                  "team/my%ffmodel"):
        assert server.get(f"/v1/models/{other}").status == 404, other


def test_headers_of_a_prediction(server):
    reply = server.post("/embed", {"inputs": ["a", "b " * 200]})
    assert reply.header("Content-Type") == "application/json"
    assert reply.header("X-Truncated") == "1"
    assert int(reply.header("X-Compute-Tokens")) > 3
    assert reply.header("X-Heads") is None
    names = [part.split(";")[0] for part in reply.header("Server-Timing").split(", ")]
    assert names == ["tokenize", "queue", "encode"]
    assert server.post("/classify", {"inputs": "a"}).header("X-Heads").startswith("v1-")


@pytest.mark.parametrize("given, echoed", [
    ("abc", True), ("a b-c_d/e=~!", True), ("x" * 128, True), ("x" * 129, False), ("caf\xe9", False),
    ("a\tb", False),
])
def test_request_ids(server, given, echoed):
    with server.connect() as connection:
        for path in ("/health", "/nope"):
            connection.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: {given}\r\n\r\n".encode("latin-1"))
            reply = connection.read_reply()
            seen = reply.header("X-Request-Id")
            assert (seen == given) == echoed
            assert seen.isascii() and 8 <= len(seen) <= 128 or echoed


def test_request_ids_differ(server):
    with server.connect() as connection:
        ids = {connection.request("GET", "/health").header("X-Request-Id") for _ in range(50)}
    assert len(ids) == 50


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/metrics", "/info"])
def test_what_is_true_for_a_moment_is_not_cached(server, path):
    assert server.get(path).header("Cache-Control") == "no-store"
    if path != "/health":
        assert server.get(path, admin=True).header("Cache-Control") == "no-store"


def test_raw_floats(server):
    body = {"inputs": ["a", "some words", "more"]}
    numbers = server.post("/embed", body).json()
    for accept in ("application/octet-stream", "text/html, application/octet-stream;q=0.5",
                   "Application/Octet-Stream", "application/json;q=0.8, application/octet-stream",
                   "application/octet-stream, */*;q=0.8"):
        reply = server.post("/embed", body, [("Accept", accept)])
        assert reply.header("Content-Type") == "application/octet-stream"
        assert reply.header("X-Shape") == "3,32"
        assert list(struct.unpack("<96f", reply.body)) == [
            struct.unpack("<f", struct.pack("<f", x))[0] for row in numbers for x in row]
    for accept in ("*/*", "application/octet-stream;q=0", "application/json", "", "application/octet-stream, */*",
                   "application/json, application/octet-stream;q=0.9", "application/octet-stream;q=0.5, */*"):
        assert server.post("/embed", body, [("Accept", accept)]).json() == numbers
    assert server.post("/classify", {"inputs": "a"}, [("Accept", "application/octet-stream")]).json()


def test_post_root_is_embed(server):
    assert server.post("/", {"inputs": "a"}).json() == server.post("/embed", {"inputs": "a"}).json()


def test_predict_by_head(server):
    classifier = server.post("/predict", {"inputs": "a"}).json()
    assert classifier == server.post("/predict?head=classifier", {"inputs": "a"}).json()
    sentiment = server.post("/predict?x=1&head=sentiment", {"inputs": "a"}).json()
    assert {row["label"] for row in sentiment} == {"Neutral", "Positive", "Negative"}
    reply = server.post("/predict?head=other", {"inputs": "a"})
    assert (reply.status, reply.code) == (404, "head_absent")
    assert server.post("/predict?head=" + "x" * 100, {"inputs": "a"}).status == 404


def test_large_bodies_take_the_other_way_and_answer_the_same(server):
    texts = [f"number {i} of many texts" for i in range(1000)]
    many = server.post("/embed", {"inputs": texts}).json()
    assert len(many) == 1000
    for i in (0, 1, 500, 999):
        alone = server.post("/embed", {"inputs": texts[i]}).json()[0]
        assert all(math.isclose(a, b, abs_tol=2e-6) for a, b in zip(alone, many[i]))
    reply = server.request("POST", "/embed", b'{"inputs": "' + b"x" * 20000, [("Content-Type", "application/json")])
    assert (reply.status, reply.code) == (400, "not_json")
    assert len(server.post("/tokenize", {"inputs": "word " * 10000}).json()[0]) > 10000


def test_cors(start):
    origin = "https://app.example"
    server = start("--cors-origin", origin)
    reply = server.request("OPTIONS", "/embed", None, [
        ("Origin", origin), ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type")])
    assert reply.status == 204
    assert reply.header("Access-Control-Allow-Origin") == origin
    assert "POST" in reply.header("Access-Control-Allow-Methods")
    assert "content-type" in reply.header("Access-Control-Allow-Headers")
    # A client's library sends headers of its own; a preflight that asks for something else is told the usual ones.
    for asked, told in (("authorization,content-type,x-stainless-arch,x-stainless-retry-count", None),
                        ("x" * 1025, "Accept, Authorization"), ("a;b", "Accept, Authorization"), ("", "Accept, Authorization")):
        reply = server.request("OPTIONS", "/v1/embeddings", None, [
            ("Origin", origin), ("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", asked)])
        assert reply.status == 204
        assert reply.header("Access-Control-Allow-Headers").startswith(told or asked)
    reply = server.post("/embed", {"inputs": "a"}, [("Origin", origin)])
    assert reply.header("Access-Control-Allow-Origin") == origin
    # What a browser's code may read: every header of ours that the contract names.
    named = server.get("/openapi.json").json()["components"]["headers"]
    exposed = set(reply.header("Access-Control-Expose-Headers").split(", "))
    assert exposed == {name for name in named if name.startswith("X-")} | {"Retry-After", "Server-Timing"}
    assert server.get("/nope", [("Origin", origin)]).header("Access-Control-Allow-Origin") == origin
    for other in ("https://evil.example", "null", origin + ".evil"):
        reply = server.request("OPTIONS", "/embed", None, [("Origin", other)])
        assert reply.header("Access-Control-Allow-Origin") is None
        assert reply.header("Access-Control-Allow-Methods") is None
        assert reply.header("Vary") == "Origin"
    assert server.get("/livez", [("Origin", origin)], admin=True).header("Access-Control-Allow-Origin") is None


def test_no_cors_by_default(server):
    reply = server.post("/embed", {"inputs": "a"}, [("Origin", "https://app.example")])
    assert reply.header("Access-Control-Allow-Origin") is None


def test_a_get_may_bring_a_body(server):
    with server.connect() as connection:
        assert connection.request("GET", "/health", b"x" * 100_000).status == 200
        assert connection.request("GET", "/livez").status == 200


def test_access_log(start):
    server = start("--log-level", "debug")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    server.post("/embed", {"inputs": ["a", "b"]}, [("traceparent", trace), ("X-Request-Id", "r1")])
    server.get("/health")
    server.get("/x\x7f\"{}" + "y" * 300)
    server.post("/embed", {"inputs": 1}, [("traceparent", "00-" + "0" * 32 + "-b7ad6b7169203331-01"),
                                         ("X-Request-Id", "r2")])
    server.stop()
    line = server.find_log("request", request_id="r1")
    assert line["status"] == 200 and line["texts"] == 2 and line["tokens"] > 4
    assert line["route"] == "/embed" and line["traceparent"] == trace and line["level"] == "info"
    assert line["bytes_in"] == len(json.dumps({"inputs": ["a", "b"]})) and line["bytes_out"] > 100
    assert line["duration_ms"] > 0 and line["remote"].startswith("127.0.0.1:")
    assert server.find_log("request", path="/health")["level"] == "debug"
    odd = server.find_log("request", status=404)
    assert len(odd["path"]) < 200 and odd["route"] is None
    bad = server.find_log("request", request_id="r2")
    assert bad["code"] == "wrong_type" and "traceparent" not in bad


def test_info_and_metrics_say_what_was_built(start):
    server = start("--drain-timeout-s", "4", env={"ORTHRUS_REVISION": "abc123", "ORTHRUS_DOCKER_LABEL": "v1 bad"})
    info, text = server.get("/info").json(), server.get("/metrics").body.decode()
    # A checkout's own revision counts more than what the environment says.
    assert re.fullmatch("[0-9a-f]{40}|abc123", info["sha"])
    assert info["docker_label"] is None
    assert f'orthrus_build_info{{version="{info["version"]}",revision="{info["sha"]}"}} 1' in text
    assert (f'orthrus_model_info{{encoder="{info["encoder"]["id"]}",precision="{info["precision"]}",'
            f'isa="{info["isa"]}"}} 1') in text
    server = start("--drain-timeout-s", "4", env={"ORTHRUS_DOCKER_LABEL": "v1"})
    assert server.get("/info").json()["docker_label"] == "v1"


def gauge(server, name):
    return server.metric(name, admin=True)


def test_gauges_have_their_limits_beside_them(start):
    server = start("--drain-timeout-s", "4", "--max-connections", "77", "--max-queue-requests", "55")
    assert gauge(server, "orthrus_connections_limit") == 77
    assert gauge(server, "orthrus_queue_requests_limit") == 55
    assert gauge(server, "orthrus_queue_tokens_limit") == server.get("/info").json()["limits"]["max_queue_tokens"]
    assert gauge(server, "orthrus_admin_connections") == 1
    with server.connect() as a, server.connect() as b:
        for connection in (a, b):
            assert connection.request("GET", "/health").status == 200
        assert gauge(server, "orthrus_connections") == 2


def test_durations_are_of_predictions_that_were_answered(start):
    server = start("--drain-timeout-s", "4", "--max-body-bytes", "1000")
    counted = "orthrus_request_duration_seconds_count"
    for _ in range(3):
        assert server.post("/embed", {"inputs": "a"}).status == 200
    assert server.post("/classify", {"inputs": "a"}).status == 200
    assert server.post("/embed", {"inputs": 1}).status == 422
    assert server.post("/embed", {"inputs": "x" * 2000}).status == 413
    assert server.post("/tokenize", {"inputs": "a"}).status == 200
    assert server.get("/health").status == 200
    assert gauge(server, counted) == 4
    assert "route" not in [line for line in server.get("/metrics").body.decode().splitlines()
                           if line.startswith(counted)][0]


def test_metrics_count_what_was_answered(start):
    server = start()
    for _ in range(3):
        server.post("/embed", {"inputs": "a"})
    server.get("/nope")
    text = server.get("/metrics").body.decode()
    assert 'orthrus_requests_total{route="/embed",code="200"} 3' in text
    assert 'orthrus_requests_total{route="other",code="404"} 1' in text
