"""The admin routes: list, swap, roll back, download. (What swaps do under load has its own tests.)"""
import concurrent.futures
import hashlib
import json
import pathlib
import random
import signal
import struct
import time

import pytest
from conftest import TINY, TOKEN, render

AUTH = [("Authorization", f"Bearer {TOKEN}")]
HIDDEN = 32


def heads_file(classes=(6, 3), seed=1, metadata=None, hidden=HIDDEN, names=("classifier", "sentiment")):
    """A heads file as safetensors, written by hand."""
    draw = random.Random(seed)
    header, data = {}, b""
    for name, k in zip(names, classes):
        for tensor, shape in (("weight", [k, hidden]), ("bias", [k])):
            n = k * (hidden if tensor == "weight" else 1)
            raw = struct.pack(f"<{n}f", *(draw.uniform(-1, 1) for _ in range(n)))
            header[f"{name}.{tensor}"] = {"dtype": "F32", "shape": shape,
                                          "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
    if metadata:
        header["__metadata__"] = metadata
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture
def admin(start, token_file):
    return start("--admin-token-file", token_file)


def put(server, data, query="", headers=()):
    return server.request("PUT", f"/admin/heads{query}", data, [*AUTH, *headers], admin=True)


def versions(server):
    return server.get("/admin/heads", AUTH, admin=True).json()["versions"]


def active(server):
    return server.post("/classify", {"inputs": "a"}).header("X-Heads")


def test_list(admin):
    reply = server_list = admin.get("/admin/heads", AUTH, admin=True)
    body = server_list.json()
    assert body["managed"] is False and body["refused"] is None
    (only,) = body["versions"]
    assert only["active"] and only["version"] == 1
    assert reply.header("ETag") == f'"{only["sha256"]}"'
    assert only["classifier"]["weight"] == [6, HIDDEN] and only["sentiment"]["bias"] == [3]
    assert only["sentiment"]["labels"] == ["Neutral", "Positive", "Negative"]
    assert only["loaded_at"].endswith("Z") and only["source"]
    assert hashlib.sha256((TINY / "heads.safetensors").read_bytes()).hexdigest() == only["source_sha256"]


def test_swap_and_back(admin):
    before = admin.post("/classify", {"inputs": "a"}).json()
    data = heads_file()
    digest = hashlib.sha256(data).hexdigest()
    reply = put(admin, data)
    assert reply.status == 200, reply.body
    assert reply.json() == {"version": 2, "sha256": digest, "source_sha256": digest, "previous": 1}
    assert active(admin) == f"v2-{digest[:12]}" == reply.header("X-Heads")
    assert admin.post("/classify", {"inputs": "a"}).json() != before
    assert [v["version"] for v in versions(admin)] == [2, 1]
    assert admin.get("/admin/heads/2", AUTH, admin=True).body == data
    reply = admin.request("POST", "/admin/heads/rollback", None, AUTH, admin=True)
    assert reply.status == 200 and reply.json()["previous"] == 2
    assert admin.post("/classify", {"inputs": "a"}).json() == before
    reply = admin.request("POST", "/admin/heads/rollback", b'{"version": 2}', AUTH, admin=True)
    assert reply.status == 200 and reply.json()["sha256"] == digest


def test_other_labels_swap_in(admin):
    data = heads_file((2, 4), metadata={"classifier.labels": '["yes","no"]',
                                        "sentiment.labels": '["a","b","c","d"]'})
    assert put(admin, data).status == 200
    answer = admin.post("/analyze", {"inputs": "a"}).json()["results"][0]
    assert set(answer["classify"]["scores"]) == {"yes", "no"}
    assert set(answer["sentiment"]["scores"]) == {"a", "b", "c", "d"}
    assert admin.get("/info").json()["heads"]["classifier"]["labels"] == ["yes", "no"]


def test_one_head_is_merged(admin):
    old = versions(admin)[0]
    data = heads_file((5,), names=("classifier",), metadata={"classifier.labels": '["1","2","3","4","5"]'})
    reply = put(admin, data)
    assert reply.status == 200, reply.body
    body = reply.json()
    assert body["source_sha256"] == hashlib.sha256(data).hexdigest() != body["sha256"]
    now = versions(admin)[0]
    assert now["classifier"]["weight"] == [5, HIDDEN] and now["sentiment"] == old["sentiment"]
    whole = admin.get(f"/admin/heads/{body['version']}", AUTH, admin=True)
    assert hashlib.sha256(whole.body).hexdigest() == body["sha256"] == whole.header("ETag").strip('"')


def test_dry_run_changes_nothing(admin):
    reply = put(admin, heads_file(), "?dry_run=true")
    assert reply.status == 200 and reply.json()["dry_run"] is True
    assert active(admin).startswith("v1-") and len(versions(admin)) == 1
    assert put(admin, b"nonsense", "?dry_run=true").status == 422
    reply = put(admin, heads_file(), "?dry_run=maybe")
    assert (reply.status, reply.code) == (422, "unsupported_value")
    assert put(admin, heads_file(), "?dry_run=false").json()["version"] == 2


DRY = ("dry_run", "dry_run=true", "dry_run=1", "&dry_run&")
WET = ("", "dry_run=false", "dry_run=0", "&")
WRONG = ("dry_run=", "dry_run=maybe", "dry_run=TRUE", "dry_run=true%20", "dry-run=true", "dry-run", "dryrun=1",
         "dry%5Frun=true", "Dry_run=1", "dry_run=false&dry_run=true", "dry_run=1&dry_run=1", "dry_run=1&x", "force=1",
         "=", "dry_run=" + "1" * 300)


@pytest.mark.parametrize("call", ["put", "rollback"])
def test_a_query_is_understood_or_refused(admin, call):
    """A mistyped dry run must never be a swap."""
    assert put(admin, heads_file()).status == 200

    def ask(query):
        if call == "put":
            return put(admin, heads_file(seed=2), "?" + query)
        return admin.request("POST", "/admin/heads/rollback?" + query, None, AUTH, admin=True)

    for query in (*DRY, *WRONG):
        reply = ask(query)
        if query in DRY:
            assert reply.status == 200 and reply.json()["dry_run"] is True, query
        else:
            assert reply.status == 422 and "=" not in reply.json()["error"], (query, reply.body)
        assert [v["version"] for v in versions(admin)] == [2, 1], query
    for i, query in enumerate(WET):
        reply = ask(query)
        assert reply.status == 200 and "dry_run" not in reply.json(), query
        assert reply.json()["version"] == (3 + i if call == "put" else (1, 2)[i % 2])


def test_rollback_is_guarded_by_if_match(admin):
    first = versions(admin)[0]["sha256"]
    now = put(admin, heads_file()).json()["sha256"]

    def rollback(match):
        return admin.request("POST", "/admin/heads/rollback", None, [*AUTH, ("If-Match", match)], admin=True)

    for match in (f'"{first}"', f'"{"0" * 64}"', now, f'W/"{now}"', '""'):
        reply = rollback(match)
        assert (reply.status, reply.code) == (412, "precondition_failed"), match
        assert versions(admin)[0]["sha256"] == now
    assert rollback(f'"{now}"').json()["sha256"] == first
    assert rollback("*").json()["sha256"] == now


def test_if_match(admin):
    now = versions(admin)[0]["sha256"]
    reply = put(admin, heads_file(), headers=[("If-Match", f'"{"0" * 64}"')])
    assert (reply.status, reply.code) == (412, "precondition_failed")
    for bad in (now, f'W/"{now}"', f'"{now[:-1]}"', f'"{now}", "{now}"', '"' + "x" * 64 + '"', '"'):
        reply = put(admin, heads_file(), headers=[("If-Match", bad)])
        assert (reply.status, reply.code) == (412, "precondition_failed"), bad
    assert active(admin).startswith("v1-")
    assert put(admin, heads_file(), headers=[("If-Match", "*")]).status == 200
    now = versions(admin)[0]["sha256"]
    assert put(admin, heads_file(seed=2), headers=[("If-Match", f'"{now}"')]).status == 200


@pytest.mark.parametrize("data, status, code", [
    (b"", 400, "empty_body"),
    (b"nonsense", 422, "heads_invalid"),
    (heads_file(hidden=16), 422, "heads_invalid"),
    (heads_file((1, 3)), 422, "heads_invalid"),
    (heads_file((6, 3), names=("classifier", "other")), 422, "heads_invalid"),
    (heads_file()[:-1], 422, "heads_invalid"),
    (heads_file((7, 3)), 422, "heads_invalid"),
    (heads_file(metadata={"encoder.sha256": "0" * 64}), 409, "other_encoder"),
    (heads_file(metadata={"pooling": "cls"}), 409, "other_encoder"),
])
def test_refused_files_change_nothing(admin, data, status, code):
    reply = put(admin, data)
    assert (reply.status, reply.code) == (status, code), reply.body
    assert active(admin).startswith("v1-") and len(versions(admin)) == 1


def test_rollback_errors(admin):
    for body, status, code in ((b"{", 400, "not_json"), (b"[]", 422, "unsupported_value"),
                               (b'{"version": 1, "version": 1}', 422, "duplicate_field"),
                               (b'{"version": "1"}', 422, "unsupported_value"),
                               (b'{"version": 0}', 422, "unsupported_value"),
                               (b'{"other": 1}', 422, "unsupported_value"),
                               (b'{"version": 99}', 404, "version_unknown"),
                               (b"{}", 404, "version_unknown")):
        reply = admin.request("POST", "/admin/heads/rollback", body, AUTH, admin=True)
        assert (reply.status, reply.code) == (status, code), reply.body


@pytest.mark.parametrize("version", ["0", "2", "01x", "-1", "x", "99999999999999999999999", "1/"])
def test_unknown_versions(admin, version):
    reply = admin.get(f"/admin/heads/{version}", AUTH, admin=True)
    assert (reply.status, reply.code) == (404, "version_unknown")


def test_eight_versions_are_kept(admin):
    for seed in range(10):
        assert put(admin, heads_file(seed=seed)).status == 200
    assert [v["version"] for v in versions(admin)] == list(range(11, 3, -1))
    assert admin.get("/admin/heads/3", AUTH, admin=True).status == 404


def test_one_of_two_wins(admin):
    """Many at once: each is either done or told that another is under way, and the last one stands."""
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda seed: put(admin, heads_file(seed=seed)), range(64)))
    done = [reply.json() for reply in replies if reply.status == 200]
    busy = [reply for reply in replies if reply.status != 200]
    assert done and {(reply.status, reply.code) for reply in busy} <= {(409, "swap_in_progress")}
    assert sorted(d["version"] for d in done) == list(range(2, len(done) + 2))
    last = max(done, key=lambda d: d["version"])
    assert versions(admin)[0]["sha256"] == last["sha256"]


def test_two_at_once(admin):
    """Two uploads that end at the same moment: one is done, the other told that it came in between. So
    large that the first is still being read; tried again where the machine held one up for so long."""
    files = [heads_file(seed=seed, metadata={"note": "x" * (1 << 24)}) for seed in (1, 2)]
    digests = [hashlib.sha256(data).hexdigest() for data in files]
    for attempt in range(5):
        with admin.connect(admin=True) as one, admin.connect(admin=True) as other:
            for connection, data in zip((one, other), files):
                connection.send(render("PUT", "/admin/heads", data, AUTH)[:-1])
            for connection, data in zip((one, other), files):
                connection.send(data[-1:])
            replies = [one.read_reply(), other.read_reply()]
        statuses = [reply.status for reply in replies]
        if sorted(statuses) == [200, 409]:
            break
        assert statuses == [200, 200]
    else:
        pytest.fail("never at once")
    winner = statuses.index(200)
    assert replies[1 - winner].code == "swap_in_progress"
    assert replies[winner].json()["sha256"] == digests[winner] == versions(admin)[0]["sha256"]
    line = admin.find_log("heads swap", result="busy")
    assert line["by"] == "ops" and line["what"] == "put" and line["error"]


def test_every_attempt_is_audited(start, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text(f"ops:{TOKEN}\nnight-shift:{TOKEN[::-1]}\n")
    server = start("--admin-token-file", str(tokens))
    first = versions(server)[0]["sha256"]
    good, bad = heads_file(), heads_file(hidden=16)
    other = heads_file(metadata={"encoder.sha256": "0" * 64})
    digest = {data: hashlib.sha256(data).hexdigest() for data in (good, bad, other)}
    assert put(server, good, "?dry_run=true").status == 200
    assert put(server, good).status == 200
    assert put(server, bad).status == 422
    assert put(server, other).status == 409
    assert put(server, good, headers=[("If-Match", f'"{first}"')]).status == 412
    for body, status in ((b"", 200), (b'{"version": 9}', 404)):
        reply = server.request("POST", "/admin/heads/rollback", body, admin=True,
                               headers=[("Authorization", f"Bearer {TOKEN[::-1]}")])
        assert reply.status == status
    assert put(server, good, headers=[("Authorization", "Bearer " + "x" * 40)]).status in (400, 401)
    expected = [("ops", "put", digest[good], "dry_run"), ("ops", "put", digest[good], "ok"),
                ("ops", "put", digest[bad], "refused"), ("ops", "put", digest[other], "other_encoder"),
                ("ops", "put", digest[good], "precondition"), ("night-shift", "rollback", first, "ok"),
                ("night-shift", "rollback", None, "unknown")]
    server.stop()
    lines = [line for line in server.lines if line["message"] == "heads swap"]
    assert [(x["by"], x["what"], x.get("sha256"), x["result"]) for x in lines] == expected
    for line in lines:
        assert isinstance(line["us"], int) and line["us"] < 60_000_000
        assert bool(line.get("error")) == (line["result"] not in ("ok", "dry_run"))
        assert line["level"] == ("warn" if line.get("error") else "info")
    assert TOKEN not in server.log() and TOKEN[::-1] not in server.log()


def test_large_uploads(start, token_file):
    server = start("--admin-token-file", token_file, "--admin-max-body-bytes", "5000")
    assert put(server, heads_file()).status == 200
    reply = put(server, b"x" * 5001)
    assert (reply.status, reply.code) == (413, "body_too_large")


def test_state_dir_outlives_a_restart(start, token_file, tmp_path):
    flags = ("--admin-token-file", token_file, "--state-dir", str(tmp_path / "state"))
    server = start(*flags)
    digest = put(server, heads_file()).json()["sha256"]
    server.stop()
    server = start(*flags)
    assert versions(server)[0]["sha256"] == digest
    server.kill()
    assert versions(start(*flags))[0]["sha256"] == digest


def test_heads_dir_rules(start, token_file, tmp_path):
    folder = tmp_path / "heads"
    folder.mkdir()
    (folder / "a.safetensors").write_bytes(heads_file(seed=5))
    server = start("--admin-token-file", token_file, "--heads-dir", str(folder))
    for reply in (put(server, heads_file()),
                  server.request("POST", "/admin/heads/rollback", None, AUTH, admin=True)):
        assert (reply.status, reply.code) == (409, "managed")
    assert server.get("/admin/heads", AUTH, admin=True).json()["managed"] is True
    (folder / "b.safetensors").write_bytes(b"nonsense")
    deadline = time.monotonic() + 10
    while not (refused := server.get("/admin/heads", AUTH, admin=True).json()["refused"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert refused.count("b.safetensors") == 1


def test_sighup_reloads_the_heads_file(start, token_file, tmp_path):
    path = pathlib.Path(tmp_path / "heads.safetensors")
    path.write_bytes(heads_file(seed=1))
    server = start("--admin-token-file", token_file, "--heads", str(path))
    digest = hashlib.sha256(heads_file(seed=2)).hexdigest()
    path.write_bytes(heads_file(seed=2))
    server.signal(signal.SIGHUP)
    server.wait_log("tokens reloaded")
    for _ in range(100):
        if versions(server)[0]["sha256"] == digest:
            break
    assert versions(server)[0]["sha256"] == digest
