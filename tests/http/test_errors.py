"""Every row of INTERFACE.md's error table, as a client reads it."""
import json
import pathlib
import signal
import struct

import pytest
from conftest import KEY, TINY, TOKEN, render

JSON = [("Content-Type", "application/json")]


def check(reply, status, code, param=None):
    assert reply.status == status, reply.body
    body = reply.json()
    assert set(body) == {"error", "error_type", "code", "param", "request_id"}
    assert body["code"] == code
    assert body["param"] == param
    assert body["request_id"] == reply.header("X-Request-Id")
    assert body["error"] and "\n" not in body["error"]
    assert reply.header("Content-Type") == "application/json"


@pytest.mark.parametrize("body, status, code", [
    (b"{", 400, "not_json"),
    (b"", 400, "empty_body"),
    (b'{"inputs": "\xff"}', 400, "not_utf8"),
    (b'{"inputs": ' + b"[" * 20 + b"]" * 20 + b"}", 400, "too_deep"),
    (b'{"inputs": []}', 400, "empty_inputs"),
    (b"{}", 422, "missing_field"),
    (b'{"inputs": 5}', 422, "wrong_type"),
    (b'{"inputs": "a", "dimensions": 0}', 422, "out_of_range"),
    (b'{"inputs": "a", "input": "b"}', 422, "unknown_field"),
    (b'{"inputs": "a", "inputs": "b"}', 422, "duplicate_field"),
    (b'{"inputs": "a", "prompt_name": "query"}', 422, "unsupported_value"),
])
def test_body_errors(server, body, status, code):
    reply = server.request("POST", "/embed", body, JSON)
    assert (reply.status, reply.code) == (status, code)


def test_too_long_without_truncation_names_the_text(server):
    reply = server.post("/embed", {"inputs": ["a", "word " * 500], "truncate": False})
    check(reply, 422, "input_too_long", "inputs[1]")


def test_too_many_texts(server):
    reply = server.post("/embed", {"inputs": ["a"] * 2049})
    check(reply, 413, "too_many_inputs", "inputs")


def test_values_are_never_echoed(server):
    secret = "s3cr3t-value"
    for value in ({"inputs": 5, secret * 9: 1}, {"inputs": "a", "dimensions": secret},
                  {"inputs": [secret, 7]}):
        assert secret.encode() not in server.post("/embed", value).body
    for path in (f"/{secret}", f"/embed/{secret}", f"/v1/models/{secret}"):
        assert secret.encode() not in server.get(path).body


@pytest.mark.parametrize("path", ["/nope", "/embed/", "//embed", "/EMBED", "/%65mbed", "/admin/heads",
                                  "/v1", "/embed%00", "*"])
def test_unknown_routes(server, path):
    check(server.get(path), 404, "route_unknown")


def test_an_admin_route_on_the_main_listener(server, start):
    for path in ("/admin/heads", "/admin/heads/rollback", "/admin/shadow"):
        reply = server.get(path)
        check(reply, 404, "route_unknown")
        assert "--admin-listen" in reply.json()["error"], path
        assert server.admin not in reply.json()["error"]
    assert "--admin-listen" not in server.get("/admin").json()["error"]
    alone = start("--admin-listen", "off")
    check(alone.get("/admin/heads"), 404, "route_unknown")
    assert "--admin-listen" not in alone.get("/admin/heads").json()["error"]


@pytest.mark.parametrize("method, path, allow", [
    ("GET", "/embed", "POST"),
    ("DELETE", "/embed", "POST"),
    ("PUT", "/", "GET, HEAD, POST"),
    ("POST", "/health", "GET, HEAD"),
    ("OPTIONS", "/embed", "POST"),
    ("PATCH", "/v1/models/x", "GET, HEAD"),
])
def test_wrong_method(server, method, path, allow):
    reply = server.request(method, path)
    assert reply.status == 405
    assert reply.header("Allow") == allow
    error = reply.json()
    assert (error["error"]["code"] if path.startswith("/v1") else error["code"]) == "method_not_allowed"


@pytest.mark.parametrize("value, ok", [
    ("application/json", True),
    ("Application/JSON; charset=utf-8", True),
    ('application/json;charset="UTF-8"', True),
    ("application/json; profile=x; charset=utf-8", True),
    ("application/json; charset=utf8", True),
    ("application/vnd.api+json", True),
    ("Application/LD+JSON; charset=UTF8", True),
    ("application/+json", False),
    ("text/x+json", False),
    ("application/json; charset", False),
    ("application/json; charset=", False),
    ("application/json; charsets=utf-8", False),
    (None, False),
    ("application/x-www-form-urlencoded", False),
    ("application/json; charset=latin-1", False),
    ("application/jsonx", False),
    ("text/plain", False),
])
def test_content_type(server, value, ok):
    headers = [("Content-Type", value)] if value else []
    reply = server.request("POST", "/embed", b'{"inputs":"a"}', headers)
    if ok:
        assert reply.status == 200
    else:
        check(reply, 415, "unsupported_media_type")
        assert "-H 'Content-Type: application/json'" in reply.json()["error"]


def test_content_encoding(server):
    body = b'{"inputs":"a"}'
    reply = server.request("POST", "/embed", body, [*JSON, ("Content-Encoding", "gzip")])
    check(reply, 415, "unsupported_content_encoding")
    reply = server.request("POST", "/embed", body, [*JSON, ("Content-Encoding", "identity")])
    assert reply.status == 200


@pytest.mark.parametrize("value", ["0", "-1", "abc", "1.5", "+5", " ", "000", "5 5"])
def test_bad_timeout_header(server, value):
    reply = server.post("/embed", {"inputs": "a"}, [("X-Request-Timeout-Ms", value)])
    check(reply, 400, "bad_header", "X-Request-Timeout-Ms")


@pytest.mark.parametrize("name, value, other, route", [
    ("X-Request-Timeout-Ms", "1000", "1", "/embed"),
    ("If-Embedding-Space", None, "0" * 12, "/embed"),
])
def test_white_space_behind_a_value_is_no_part_of_it_and_two_values_are_none(server, name, value, other, route):
    value = value or server.get("/info").json()["embedding_space"]["id"][:12]
    for shown in (f"{value} ", f"{value}\t", f"\t{value} \t "):
        assert server.post(route, {"inputs": "a"}, [(name, shown)]).status == 200, shown
    for values in ((value, other), (other, value)):
        reply = server.post(route, {"inputs": "a"}, [(name, v) for v in values])
        check(reply, 400, "bad_framing")
        assert name in reply.json()["error"]


@pytest.mark.parametrize("value", ["60000", "60001", "99999999999999999999", "0060001"])
def test_a_longer_timeout_than_the_most_counts_as_the_most(server, value):
    assert server.post("/embed", {"inputs": "a"}, [("X-Request-Timeout-Ms", value)]).status == 200


def test_deadline(start):
    server = start("--max-wait-us", "1000000")
    reply = server.post("/embed", {"inputs": "a"}, [("X-Request-Timeout-Ms", "60000")])
    assert reply.status == 200
    # A big request keeps the only way busy; what waits behind it runs out of time.
    statuses = {server.post("/embed", {"inputs": ["some words here"] * 2048},
                            [("X-Request-Timeout-Ms", "1")]).status for _ in range(3)}
    assert statuses == {504}


def test_api_key(start, key_file):
    server = start("--api-key-file", key_file)
    body = {"inputs": "a"}
    reply = server.post("/embed", body)
    check(reply, 401, "key_missing")
    assert reply.header("WWW-Authenticate") == "Bearer"
    check(server.post("/embed", body, [("Authorization", "Basic abc")]), 401, "key_missing")
    check(server.post("/embed", body, [("Authorization", "Bearer nope")]), 401, "key_wrong")
    check(server.post("/embed", body, [("Authorization", f"Bearer {KEY}x")]), 401, "key_wrong")
    assert server.post("/embed", body, [("Authorization", f"Bearer {KEY}")]).status == 200
    assert server.post("/embed", body, [("authorization", f"bearer  {KEY[::-1]}")]).status == 200
    assert server.get("/health").status == 200
    nested = server.post("/v1/embeddings", {"input": "a"})
    assert nested.status == 401
    assert nested.json()["error"]["type"] == "authentication_error"
    server.stop()
    assert KEY not in server.log() and "nope" not in server.log()
    assert server.find_log("request", key="team-a", status=200)
    assert server.find_log("wrong token")


def test_many_wrong_keys_are_no_overload_and_few_log_lines(start, key_file):
    server = start("--api-key-file", key_file)
    with server.connect() as connection:
        for _ in range(150):
            check(connection.post("/embed", {"inputs": "a"}, [("Authorization", "Bearer wrong")]), 401, "key_wrong")
        assert connection.post("/embed", {"inputs": "a"},
                               [("Authorization", f"Bearer {KEY}")]).status == 200
    assert sum(line["message"] == "wrong token" for line in server.lines) < 20
    assert b'code="429"' not in server.get("/metrics").body


def test_an_emptied_key_file_revokes_every_key(start, key_file):
    server = start("--api-key-file", key_file)
    auth = [("Authorization", f"Bearer {KEY}")]
    assert server.post("/embed", {"inputs": "a"}, auth).status == 200
    pathlib.Path(key_file).write_text("# nobody\n")
    server.signal(signal.SIGHUP)
    assert server.wait_log("the file holds no token: all revoked", flag="--api-key-file")["tokens"] == 0
    check(server.post("/embed", {"inputs": "a"}, auth), 401, "key_wrong")
    # What can't be read is a mistake, not a revocation.
    pathlib.Path(key_file).write_text(f"team-a:{KEY}\n")
    server.signal(signal.SIGHUP)
    server.wait_log("tokens reloaded", flag="--api-key-file")
    pathlib.Path(key_file).unlink()
    server.signal(signal.SIGHUP)
    server.wait_log("tokens not reloaded; the old ones stay", flag="--api-key-file")
    assert server.post("/embed", {"inputs": "a"}, auth).status == 200


def test_admin_is_off_without_tokens(server):
    reply = server.get("/admin/heads", admin=True)
    check(reply, 403, "admin_disabled")
    assert "--admin-token-file" in reply.json()["error"]


def test_body_over_the_limit_is_answered(start):
    server = start("--max-body-bytes", "1000")
    body = json.dumps({"inputs": "x" * 2000}).encode()
    with server.connect() as connection:
        check(connection.request("POST", "/embed", body, JSON), 413, "body_too_large")
        # The rest was read, so the connection goes on.
        assert connection.post("/embed", {"inputs": "a"}).status == 200
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in
                      (body[:600], body[600:1200], body[1200:])) + b"0\r\n\r\n"
    with server.connect() as connection:
        connection.send(render("POST", "/embed", None, [*JSON, ("Transfer-Encoding", "chunked")]))
        connection.send(chunks)
        check(connection.read_reply(), 413, "body_too_large")


@pytest.mark.parametrize("chunked", [False, True])
def test_64_mib_upload_reads_its_413(server, chunked):
    size = 64 << 20
    block = b"x" * (1 << 20)
    framing = [("Transfer-Encoding", "chunked")] if chunked else [("Content-Length", str(size))]
    with server.connect() as connection:
        connection.send(render("POST", "/embed", None, [*JSON, *framing]))
        for _ in range(64):
            connection.send(b"%x\r\n%s\r\n" % (len(block), block) if chunked else block)
        if chunked:
            connection.send(b"0\r\n\r\n")
        check(connection.read_reply(), 413, "body_too_large")


def test_endless_upload_ends(server):
    """Past 64 MiB the answer is sent anyway and the connection closed."""
    with server.connect() as connection:
        connection.send(render("POST", "/embed", None, [*JSON, ("Content-Length", str(1 << 40))]))
        block = b"x" * (1 << 20)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(200):
                connection.send(block)


def test_expect_is_answered_at_once(server):
    for path, length, type_, status in (("/embed", 1 << 30, "application/json", 413),
                                        ("/embed", 10, "text/plain", 415),
                                        ("/nope", 10, "application/json", 404)):
        with server.connect() as connection:
            connection.send(render("POST", path, None, [
                ("Content-Type", type_), ("Content-Length", str(length)), ("Expect", "100-continue")]))
            assert connection.read_reply().status == status
            assert connection.closed()
    with server.connect() as connection:
        body = b'{"inputs":"a"}'
        connection.send(render("POST", "/embed", None, [
            *JSON, ("Content-Length", str(len(body))), ("Expect", "100-continue")]))
        assert connection.read_reply().status == 100
        connection.send(body)
        assert connection.read_reply().status == 200


def test_queue_full_is_429_for_one_and_for_many(start):
    server = start("--max-queue-requests", "1", "--max-batch-tokens", "64", "--threads", "1")
    busy = [server.connect() for _ in range(8)]
    body = json.dumps({"inputs": ["some words that take their time " * 8] * 2048}).encode()
    for connection in busy:
        connection.send(render("POST", "/embed", body, JSON))
    replies = [connection.read_reply() for connection in busy]
    refused = [reply for reply in replies if reply.status == 429]
    assert refused and any(reply.status == 200 for reply in replies)
    for reply in refused:
        check(reply, 429, "overloaded")
        assert int(reply.header("Retry-After")) >= 1
    for connection in busy:
        connection.close()


def test_openai_errors_are_nested(server):
    for body, code in (({"input": ""}, None), ({"input": [999999]}, None), ({}, "missing_field")):
        reply = server.post("/v1/embeddings", body)
        assert reply.status == 400, reply.body
        error = reply.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert set(error) == {"message", "type", "param", "code"}
        if code:
            assert error["code"] == code
    reply = server.get("/v1/models/other")
    assert reply.status == 404 and reply.json()["error"]["code"] == "model_unknown"


def test_not_ready_is_503(tmp_path, start):
    """The listeners open before the model is there."""
    fifo_model = tmp_path / "model"
    fifo_model.mkdir()
    tiny = pathlib.Path(__file__).parents[1] / "data" / "golden" / "tiny-bert"
    for file in tiny.iterdir():
        if file.name != "config.json":
            (fifo_model / file.name).symlink_to(file)
    import os
    os.mkfifo(fifo_model / "config.json")
    server = start(model=fifo_model, wait_ready=False)
    try:
        assert server.get("/livez").status == 200
        assert server.get("/docs").status == 200
        assert server.get("/metrics").status == 200
        for path in ("/health", "/readyz", "/info", "/v1/models"):
            assert server.get(path).status == 503
        reply = server.post("/embed", {"inputs": "a"})
        check(reply, 503, "not_ready")
        assert int(reply.header("Retry-After")) >= 1
        assert server.post("/v1/embeddings", {"input": "a"}).status == 503
    finally:
        server.kill()


def test_admin_key(start, token_file):
    server = start("--admin-token-file", token_file)
    check(server.get("/admin/heads", admin=True), 401, "key_missing")
    check(server.get("/admin/heads", [("Authorization", f"Bearer {TOKEN}z")], admin=True), 401,
          "key_wrong")
    assert server.get("/admin/heads", [("Authorization", f"Bearer {TOKEN}")], admin=True).status == 200
    assert server.get("/admin/heads", [("Authorization", f"Bearer {TOKEN}")]).status == 404


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_is_no_number_is_an_error_at_every_precision(start, tmp_path, precision):
    """Weights so large that LayerNorm gives NaN; int8 once answered 200 with numbers made of nothing."""
    model = tmp_path / "model"
    model.mkdir()
    for file in TINY.iterdir():
        if file.is_file() and file.name != "heads.safetensors":
            (model / file.name).write_bytes(file.read_bytes())
    path = model / "model.safetensors"
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    (name,) = [n for n in header if n.endswith("embeddings.word_embeddings.weight")]
    begin, end = header[name]["data_offsets"]
    assert header[name]["dtype"] == "F32"
    data[8 + size + begin:8 + size + end] = struct.pack("<f", 3e38) * ((end - begin) // 4)
    path.write_bytes(data)
    server = start("--precision", precision, "--drain-timeout-s", "4", model=model)
    for route in ("/embed", "/v1/embeddings"):
        reply = server.post(route, {"input" if "v1" in route else "inputs": "some words"})
        assert reply.status == 500, reply.body
        assert b"not finite" in reply.body
