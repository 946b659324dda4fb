"""CHANGELOG.md says what breaks since 0.1: each point of that list is asked for here, or names the test that asks."""
import json
import os
import re
import shutil
import subprocess

import pytest
from conftest import BIN, ROOT, TINY, TOKEN, render

JSON = [("Content-Type", "application/json")]
AUTH = [("Authorization", f"Bearer {TOKEN}")]
MODELS = ROOT / "tests" / "data" / "models"


def points():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    listed = text.split("### What breaks")[1].split("###")[0]
    return [" ".join(re.sub(r"[*`.:]", " ", point[:60]).split()) for point in re.split(r"^- ", listed, flags=re.M)[1:]]


def orthrus(*command, text=b"a plain sentence\n"):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ORTHRUS_")}
    return subprocess.run([BIN, *map(str, command)], input=text, capture_output=True, timeout=60, check=False, env=environment)


def folder_of(source, to, **changes):
    shutil.copytree(source, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**config, **changes}))
    return to


def folders(start, tmp_path, token_file):
    refused = folder_of(TINY, tmp_path / "refused", position_embedding_type="relative_key")
    done = orthrus("serve", "--model", refused, "--listen", "127.0.0.1:0", "--admin-listen", "off")
    assert done.returncode == 1 and b"position_embedding_type" in done.stderr
    server = start("--drain-timeout-s", "4", model=folder_of(TINY, tmp_path / "unknown", made_up_key=1))
    assert any(line["level"] == "warn" and "made_up_key" in json.dumps(line) for line in server.lines)


def tokenizer(start, tmp_path, token_file):
    folder = folder_of(MODELS / "st-distilbert", tmp_path / "m")
    before = orthrus("tokenize", "--model", folder).stdout
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    words = sorted(vocab, key=vocab.get)
    plain = [i for i, word in enumerate(words) if re.fullmatch("[a-z]+", word)]
    for i, j in zip(plain, reversed(plain), strict=True):
        if i < j:
            words[i], words[j] = words[j], words[i]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    after = orthrus("tokenize", "--model", folder)
    assert after.returncode == 0 and after.stdout == before


def limits(start, tmp_path, token_file):
    assert start("--drain-timeout-s", "4").get("/info").json()["max_input_length"] == min(
        128, json.loads((TINY / "config.json").read_text())["max_position_embeddings"])
    folder = folder_of(MODELS / "st-distilbert", tmp_path / "m")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 17}')
    assert start("--drain-timeout-s", "4", model=folder).get("/info").json()["max_input_length"] == 17
    assert start("--drain-timeout-s", "4", "--max-length", "9", model=folder).get("/info").json()["max_input_length"] == 9


def normalizes(start, tmp_path, token_file):
    def length(*flags):
        vector = json.loads(orthrus("embed", "--model", TINY, "--precision", "fp32", *flags).stdout)
        return sum(x * x for x in vector) ** 0.5
    assert abs(length() - 1) < 1e-5 < abs(length("--no-normalize") - 1)


def train(start, tmp_path, token_file):
    data, out = tmp_path / "data.jsonl", tmp_path / "out"
    data.write_text('{"text": "a", "sentiment": 0}\n{"text": "b", "sentiment": 1}\n' * 4)
    flags = ["train", "--model", TINY, "--data", data, "--output", out, "--head", "sentiment", "--freeze", "backbone", "--eval-split", "0"]
    assert orthrus(*flags).returncode == 0
    done = orthrus(*flags)
    assert done.returncode == 1 and b"--overwrite" in done.stderr and b"--resume" in done.stderr
    assert orthrus(*flags, "--overwrite").returncode == 0


def metrics(start, tmp_path, token_file):
    server = start("--drain-timeout-s", "4", "--admin-token-file", token_file)
    server.post("/embed", {"inputs": "a"})
    for _ in range(3):
        server.get("/info")
        server.post("/embed", {"inputs": 1})
    text = server.get("/metrics").body.decode()
    assert re.search(r"^orthrus_request_duration_seconds_count 1$", text, re.M)
    assert len(re.findall(r"^orthrus_request_duration_seconds_bucket\{le=", text, re.M)) > 20


def queries(start, tmp_path, token_file):
    server = start("--drain-timeout-s", "4", "--admin-token-file", token_file)
    with server.connect(admin=True) as connection:
        heads = (TINY / "heads.safetensors").read_bytes()
        for query, status in (("dry_run", 200), ("dry_run=true", 200), ("dry_run=1", 200), ("dry_run=yes", 422), ("dryrun=1", 422)):
            assert connection.request("PUT", f"/admin/heads?{query}", heads, AUTH).status == status, query
        back = [*AUTH, *JSON, ("If-Match", f'"{"0" * 64}"')]
        assert connection.request("POST", "/admin/heads/rollback", b"{}", back).status == 412
        for _ in range(40):
            assert connection.request("GET", "/admin/heads", None, [("Authorization", "Bearer wrong")]).status == 401


def accept(start, tmp_path, token_file):
    server = start("--drain-timeout-s", "4")
    for weights, kind in (("application/octet-stream", "application/octet-stream"), ("application/octet-stream, */*", "application/json"),
                          ("application/json;q=0.5, application/octet-stream", "application/octet-stream")):
        assert server.post("/embed", {"inputs": "a"}, [("Accept", weights)]).header("content-type") == kind, weights


def timeout(start, tmp_path, token_file):
    server = start("--drain-timeout-s", "4")
    assert server.post("/embed", {"inputs": "a"}, [("X-Request-Timeout-Ms", "99999999999999999999")]).status == 200
    assert server.post("/embed", {"inputs": "a"}, [("X-Request-Timeout-Ms", "0")]).status == 400


def origin(start, tmp_path, token_file):
    done = orthrus("serve", "--model", TINY, "--listen", "127.0.0.1:0", "--cors-origin", "https://app.example/")
    assert done.returncode == 2 and b"--cors-origin" in done.stderr


def once(start, tmp_path, token_file):
    server = start("--drain-timeout-s", "4")
    for name, value in (("X-Request-Timeout-Ms", "5000"), ("If-Embedding-Space", "0" * 12)):
        assert server.post("/embed", {"inputs": "a"}, [(name, value)] * 2).status == 400
    assert server.post("/predict?head=classifier&head=sentiment", {"inputs": "a"}).status == 422


def state(start, tmp_path, token_file):
    (tmp_path / "state").write_text("no folder")
    done = orthrus("serve", "--model", TINY, "--listen", "127.0.0.1:0", "--admin-listen", "off", "--state-dir", tmp_path / "state")
    assert done.returncode == 1 and b"state" in done.stderr


def zero_byte(start, tmp_path, token_file):
    server = start("--drain-timeout-s", "4")
    with server.connect() as connection:
        connection.send(render("POST", "/embed", b'{"inputs": "a", "dimensions": 4\0}', JSON))
        assert connection.read_reply().status == 400


def contract(start, tmp_path, token_file):
    api = json.loads((ROOT / "openapi.json").read_text(encoding="utf-8"))
    assert "SlowBody" in api["components"]["responses"] and "RequestTimeout" not in api["components"]["responses"]
    assert api["components"]["schemas"]["Vector"]["items"]["format"] == "float"
    assert api["components"]["schemas"]["RootAnswer"]["items"] == {"$ref": "#/components/schemas/RootRow"}


def alert(start, tmp_path, token_file):
    rule = (ROOT / "docker/prometheus/alerts.yml").read_text().split("OrthrusVersionsMixed")[1][:200]
    assert "revision" in rule
    assert re.search(r"^\s*option forwardfor", (ROOT / "docker/haproxy.cfg").read_text(), re.M)


CHECKS = {
    "Folders that were served before": folders,
    "tokenizer json is the truth": tokenizer,
    "Token limits": limits,
    "orthrus embed normalizes by default": normalizes,
    "orthrus train refuses": train,
    "Metrics": metrics,
    "Admin queries": queries,
    "Accept on /embed": accept,
    "X-Request-Timeout-Ms above": timeout,
    "--cors-origin": origin,
    "X-Request-Timeout-Ms and If-Embedding-Space": once,
    "A state folder that can't be read": state,
    "A zero byte": zero_byte,
    "--heads-dir": "tests/unit/test_headstore.c",
    "--max-client-bytes": "tests/http/test_client_bytes.py",
    "openapi yaml": contract,
    "The alert OrthrusVersionsMixed": alert,
}


def test_every_point_is_asked_for():
    left = points()
    assert len(left) > 10
    for name in CHECKS:
        (point,) = [point for point in left if point.startswith(name)]
        left.remove(point)
    assert not left
    assert all((ROOT / where).exists() for where in CHECKS.values() if isinstance(where, str))


@pytest.mark.parametrize("name", [name for name, check in CHECKS.items() if callable(check)])
def test_what_breaks(start, tmp_path, token_file, name):
    CHECKS[name](start, tmp_path, token_file)
