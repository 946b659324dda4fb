"""Heads that are staged: they see the texts, answer none, and are compared with those in service."""
import pytest
from conftest import TOKEN
from test_named_heads import heads_file

AUTH = [("Authorization", f"Bearer {TOKEN}")]
SENTIMENT = {"sentiment": {"k": 3, "say": {"labels": '["Neutral","Positive","Negative"]'}}}


@pytest.fixture
def admin(start, token_file):
    return start("--admin-token-file", token_file)


def call(server, method, path, body=None, headers=()):
    return server.request(method, path, body, [*AUTH, *headers], admin=True)


def stage(server, seed=1, query=""):
    reply = call(server, "PUT", f"/admin/heads?stage=shadow{query}", heads_file(SENTIMENT, seed))
    assert reply.status == 200, reply.body
    return reply.json()


def test_nothing_staged(admin):
    for method, path in (("GET", "/admin/shadow"), ("DELETE", "/admin/shadow"), ("POST", "/admin/shadow/promote")):
        reply = call(admin, method, path, b"" if method == "POST" else None)
        assert (reply.status, reply.code) == (404, "shadow_absent")


def test_a_staged_head_sees_and_does_not_answer(admin):
    before = admin.post("/sentiment", {"inputs": "the end"}).json()
    staged = stage(admin)
    assert staged["version"] is None and staged["previous"] == 1
    reply = admin.post("/sentiment", {"inputs": ["the end", "more"]})
    assert reply.json()[0] == before and reply.header("X-Heads").startswith("v1-")
    admin.post("/analyze", {"inputs": "hello"})
    admin.post("/classify", {"inputs": "hello"})
    report = call(admin, "GET", "/admin/shadow").json()
    sentiment = report["heads"]["sentiment"]
    assert report["sha256"] == staged["sha256"] and report["since"].endswith("Z")
    assert sentiment["texts"] == 3 and report["texts"] == 5
    assert sum(sum(row.values()) for row in sentiment["table"].values()) == 3
    assert sum(row.get(label, 0) for label, row in sentiment["table"].items()) == sentiment["agree"]
    assert abs(sentiment["agreement"] - sentiment["agree"] / 3) < 1e-5 and 0 < sentiment["confidence"]["shadow"] <= 1
    # The classifier came along from the active set: always of one mind.
    assert report["heads"]["classifier"]["agreement"] == 1
    text = admin.get("/metrics").body.decode()
    assert f'orthrus_shadow_texts_total{{head="sentiment",agrees="true"}} {sentiment["agree"]}' in text
    assert 'orthrus_abstained_total{head="sentiment"} 0' in text


def test_promote(admin):
    staged = stage(admin)
    active = call(admin, "GET", "/admin/heads").header("ETag")
    assert call(admin, "POST", "/admin/shadow/promote", b"", [("If-Match", f'"{"0" * 64}"')]).status == 412
    assert call(admin, "POST", "/admin/shadow/promote?dry_run", b"").json()["dry_run"] is True
    reply = call(admin, "POST", "/admin/shadow/promote", b"", [("If-Match", active)])
    assert reply.status == 200 and reply.json()["version"] == 2 and reply.json()["sha256"] == staged["sha256"]
    assert admin.post("/sentiment", {"inputs": "a"}).header("X-Heads").startswith("v2-")
    assert call(admin, "GET", "/admin/shadow").code == "shadow_absent"


def test_a_change_in_between(admin):
    stage(admin)
    assert call(admin, "PUT", "/admin/heads", heads_file(SENTIMENT, 7)).status == 200
    admin.post("/sentiment", {"inputs": "a"})
    assert call(admin, "GET", "/admin/shadow").json()["texts"] == 0
    reply = call(admin, "POST", "/admin/shadow/promote", b"")
    assert (reply.status, reply.code) == (409, "shadow_stale")
    assert call(admin, "DELETE", "/admin/shadow").json()["version"] is None
    assert call(admin, "GET", "/admin/shadow").code == "shadow_absent"


def test_arguments(admin):
    for query in ("?stage=light", "?stage", "?stage=shadow&x=1", "?stage=shadow&dry_run=maybe"):
        assert call(admin, "PUT", f"/admin/heads{query}", heads_file(SENTIMENT)).status == 422, query
    assert call(admin, "DELETE", "/admin/heads/sentiment?stage=shadow").status == 422
    assert stage(admin, query="&dry_run=true")["dry_run"] is True
    assert call(admin, "GET", "/admin/shadow").code == "shadow_absent"


def test_a_managed_folder_stages_and_does_not_promote(start, token_file, tmp_path):
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "1.safetensors").write_bytes(heads_file(SENTIMENT, 3))
    server = start("--admin-token-file", token_file, "--heads-dir", str(tmp_path / "heads"))
    stage(server)
    reply = call(server, "POST", "/admin/shadow/promote", b"")
    assert (reply.status, reply.code) == (409, "managed")
