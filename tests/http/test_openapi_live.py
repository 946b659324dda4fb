"""openapi.yaml against the running server: its routes and limits, and schemathesis with all checks."""
import copy
import gzip
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

yaml = pytest.importorskip("yaml")
ROOT = pathlib.Path(__file__).resolve().parents[2]
FULL = os.environ.get("ORTHRUS_FULL", "0") == "1"
SANITIZED = "san" in os.environ.get("ORTHRUS_BIN", "")
VERBS = ["get", "put", "post", "delete", "patch"]


@pytest.fixture(scope="module")
def api():
    return yaml.load((ROOT / "openapi.yaml").read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)


def operations(api):
    for path, item in api["paths"].items():
        for verb in VERBS:
            if verb in item:
                yield path, verb, item[verb], item.get("x-listener") == "admin"


def test_the_served_contract_is_the_file(server):
    for name in ("openapi.yaml", "openapi.json"):
        assert server.get(f"/{name}").body == (ROOT / name).read_bytes()


def test_pages_are_kept_until_they_change(server):
    for path in ("/", "/docs", "/openapi.yaml", "/openapi.json"):
        etag = server.get(path).header("etag")
        assert re.fullmatch(r'"[0-9a-f]{32}"', etag)
        for known in (etag, f'"other", W/{etag}', "*"):
            reply = server.get(path, [("If-None-Match", known)])
            assert (reply.status, reply.body, reply.header("etag")) == (304, b"", etag)
            assert reply.header("content-type") is None
        assert server.get(path, [("If-None-Match", '"other"')]).status == 200
        assert server.request("HEAD", path, headers=[("If-None-Match", etag)]).status == 304


def test_pages_are_packed_for_who_unpacks_them(server):
    """Each form has its own ETag, of equal bytes the same; caches are told what it depends on."""
    for path in ("/", "/docs", "/openapi.yaml", "/openapi.json", "/assets/orthrus.js", "/assets/orthrus.css", "/favicon.ico"):
        plain, packed = server.get(path), server.get(path, [("Accept-Encoding", "gzip, deflate, br")])
        assert plain.header("content-encoding") is None and packed.header("content-encoding") == "gzip"
        assert gzip.decompress(packed.body) == plain.body and packed.body[4:8] == bytes(4)
        assert len(packed.body) < len(plain.body)
        assert plain.header("content-type") == packed.header("content-type")
        assert plain.header("vary") == packed.header("vary") == "Accept-Encoding"
        assert re.fullmatch(r'"[0-9a-f]{32}"', packed.header("etag")) and plain.header("etag") != packed.header("etag")
        assert server.get(path, [("Accept-Encoding", "gzip;q=0")]).body == plain.body
        known = [("If-None-Match", packed.header("etag"))]
        assert server.get(path, known).status == 200
        again = server.get(path, [*known, ("Accept-Encoding", "gzip")])
        assert (again.status, again.body, again.header("content-encoding")) == (304, b"", None)
        head = server.request("HEAD", path, headers=[("Accept-Encoding", "gzip")])
        assert int(head.header("content-length")) == len(packed.body) and head.header("content-encoding") == "gzip"


def test_every_route_answers_and_no_other_method_does(server, api):
    for path, item in api["paths"].items():
        admin = item.get("x-listener") == "admin"
        concrete = re.sub(r"\{[^}]+\}", "1", path)
        allowed = {v.upper() for v in VERBS if v in item} | ({"HEAD"} if "get" in item else set())
        for verb in ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"]:
            reply = server.request(verb, concrete, b"" if verb in ("PUT", "POST", "PATCH") else None, admin=admin)
            if verb in allowed:
                assert reply.status != 405, f"{verb} {path}"
                assert reply.status != 404 or "{" in path, f"{verb} {path}"
            else:
                assert reply.status == 405, f"{verb} {path}: {reply.status}"
                assert {m.strip() for m in reply.header("allow").split(",")} - {"OPTIONS"} == allowed


def test_limits_in_the_contract_are_the_defaults(server, api):
    info = server.get("/info").json()["limits"]
    text = api["info"]["description"]
    assert f"| client_batch | {info['max_client_batch']} texts" in text
    assert f"| body_bytes | {info['max_body_bytes']} bytes of a body (admin: {info['admin_max_body_bytes']})" in text
    assert f"| request_timeout_ms | {info['request_timeout_ms']} |" in text
    marked = {}

    def walk(node):
        if isinstance(node, dict):
            if "x-limit" in node:
                marked.setdefault(node["x-limit"], set()).add(node.get("maxItems", node.get("maximum")))
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(api["paths"])
    walk(api["components"])
    assert marked["client_batch"] == {info["max_client_batch"]}


def for_model(api, server, admin):
    """The contract with this model's numbers in place of bert-base-uncased's, one listener's routes alone."""
    info = server.get("/info").json()
    values = {"hidden": info["encoder"]["hidden"], "vocab_last_id": info["encoder"]["vocab"] - 1,
              "client_batch": info["limits"]["max_client_batch"]}
    api = copy.deepcopy(api)
    api["paths"] = {p: i for p, i in api["paths"].items() if (i.get("x-listener") == "admin") == admin}
    for item in api["paths"].values():
        item.pop("servers", None)

    def walk(node):
        if isinstance(node, dict):
            if node.get("x-limit") in values:
                for bound in ("maxItems", "maximum"):
                    if bound in node:
                        node[bound] = values[node["x-limit"]]
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(api)
    api["components"]["schemas"]["PromptName"]["maxLength"] = 0  # this folder has no prompts
    # Not in the contract itself: the Go generator can't compile a bound on bytes.
    api["components"]["schemas"]["HeadsFile"]["minLength"] = 1
    if not admin:  # schemathesis reads YAML before it looks at the schema, which says bytes
        for media in api["paths"]["/openapi.yaml"]["get"]["responses"]["200"]["content"].values():
            media.pop("schema")
    return api


CONFIGURATION = """
[checks]
# An array over the limit is 413, a body that is no JSON 400, another type 415: refused all the same.
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 406, 408, 409, 412, 413, 415, 422, 428, 431, 501]
# What the contract can't say in JSON Schema: a version that is not kept, heads that do not fit, a head that ranks nothing.
positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 409, 412, 413, 422, 424, 504]
# A deadline of one millisecond is valid and may rightly end in 504.
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 504]

# OpenAI answers 400 where the other routes say 422: here to a prompt beside token ids, which the schema can't forbid.
[[operations]]
include-path-regex = "embeddings$"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 403, 404, 409, 412, 413, 422, 424, 504]
"""

# Unknown headers are not an error in HTTP, whatever a parameter list says.
HOOKS = """
import schemathesis

@schemathesis.hook
def filter_case(context, case):
    return not any(name.lower().startswith("x-schemathesis-unknown") for name in case.headers or {})
"""


@pytest.mark.parametrize("listener", ["main", "admin"])
def test_schemathesis_finds_nothing(start, api, tmp_path, token_file, listener):
    pytest.importorskip("schemathesis")
    from conftest import TOKEN
    admin = listener == "admin"
    running = start("--admin-token-file", token_file, "--drain-timeout-s", "4")
    (tmp_path / "openapi.json").write_text(json.dumps(for_model(api, running, admin)))
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    (tmp_path / "orthrus_hooks.py").write_text(HOOKS)
    address = running.admin if admin else running.address
    examples = 400 if FULL else 10 if SANITIZED else 20
    command = [sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", f"http://{address}",
               "--checks", "all", "--max-examples", str(examples), "--phases", "examples,coverage,fuzzing",
               "--continue-on-failure", "--suppress-health-check", "all", "--warnings", "off", "--seed", "42",
               "--no-color"]
    if admin:
        command += ["--header", f"Authorization: Bearer {TOKEN}"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1500,
                         env={**os.environ, "SCHEMATHESIS_HOOKS": "orthrus_hooks", "PYTHONPATH": str(tmp_path)})
    print(run.stdout[-1500:])
    assert run.returncode == 0, run.stdout[-12000:] + run.stderr[-2000:]
