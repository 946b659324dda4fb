"""Clients of openapi-generator (ORTHRUS_FULL=1), in six languages by two releases: made, compiled, and every route
called."""
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from cases import HEADS, cases_of
from conftest import ROOT, TOKEN
from npm_tool import Missing, npm_packages

HERE = pathlib.Path(__file__).resolve().parent
CONTRACT = ROOT / "openapi.json"
CASES = cases_of(json.loads(CONTRACT.read_text(encoding="utf-8")))
# Arrays inside unions, which two of the languages can't write without what docs/CONTRACT.md tells; the last two
# Java can't hold.
SEVERAL = [{**case, "body": body} for operation, body in (
    ("embed", {"inputs": ["a text", [101, 102]]}),
    ("classify", {"inputs": ["a text", "another"]}),
    ("openaiEmbeddings", {"input": ["a text", "another"]}),
    ("openaiEmbeddings", {"input": [[101, 102], [101, 102]]}),
    ("decode", {"ids": [[101, 102], [101, 102]]}),
) for case in CASES if case["operation"] == operation]
CARGO = """[package]
name = "calls"
version = "0.1.0"
edition = "2021"
[dependencies]
openapi = { path = "../client" }
serde = "1"
serde_json = "1"
tokio = { version = "1", features = ["macros", "rt"] }
"""
VERSIONS = ("7.12.0", "7.17.0")
pytestmark = pytest.mark.skipif(os.environ.get("ORTHRUS_FULL", "0") != "1", reason="ORTHRUS_FULL=1 generates these")


def run(command, folder, **environment):
    done = subprocess.run([str(c) for c in command], cwd=folder, capture_output=True, text=True, timeout=1500,
                          env={**os.environ, **environment})
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="session", params=VERSIONS)
def generator(request):
    """The generator's jar, from Maven."""
    for program in ("java", "mvn"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    version = request.param
    done = subprocess.run(["mvn", "-q", "dependency:get", "-Dtransitive=false",
                           f"-Dartifact=org.openapitools:openapi-generator-cli:{version}"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("mvn could not fetch openapi-generator")
    return pathlib.Path.home() / ".m2/repository/org/openapitools/openapi-generator-cli" / version / f"openapi-generator-cli-{version}.jar"


@pytest.fixture
def make(generator, tmp_path):
    def generate(language):
        run(["java", "-jar", generator, "generate", "-i", CONTRACT, "-g", language, "-o", tmp_path / "client"], tmp_path)
        return tmp_path / "client"
    return generate


@pytest.fixture
def plan(start, token_file, tmp_path):
    server = start("--admin-token-file", token_file, "--drain-timeout-s", "4")
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({"main": f"http://{server.address}", "admin": f"http://{server.admin}",
                                "token": TOKEN, "heads": str(HEADS), "cases": CASES}))
    return file


def test_python(make, plan, tmp_path):
    client = make("python")
    run([sys.executable, "-m", "venv", tmp_path / "venv"], tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run([python, "-m", "pip", "install", "-q", "-r", client / "requirements.txt"], tmp_path)
    run([python, "-m", "compileall", "-q", "openapi_client"], client)
    said = run([python, HERE / "openapi-generator" / "call.py", plan], client, PYTHONPATH=str(client))
    assert said.strip() == f"{len(CASES)} called"


def test_typescript_fetch(make, plan, tmp_path):
    client = make("typescript-fetch")
    try:
        modules = npm_packages("typescript", "typescript@5.9.3")
    except Missing as missing:
        pytest.skip(str(missing))
    (tmp_path / "package.json").write_text('{"type": "commonjs"}')
    run([modules / ".bin" / "tsc", "--target", "es2022", "--module", "commonjs", "--lib", "es2022,dom", "--strict",
         "--outDir", tmp_path / "out" / "client", client / "index.ts"], tmp_path)
    shutil.copy(HERE / "openapi-generator" / "call.mjs", tmp_path / "out")
    assert run(["node", tmp_path / "out" / "call.mjs", plan], tmp_path).strip() == f"{len(CASES)} called"


def test_go(make, plan):
    if not shutil.which("go"):
        pytest.skip("go is not installed")
    client = make("go")
    shutil.rmtree(client / "test")
    shutil.copy(HERE / "openapi-generator" / "call_test.go", client)
    run(["go", "mod", "tidy"], client)
    run(["go", "vet", "."], client)
    run(["go", "test", "."], client, PLAN=str(plan))


def test_java(make, plan):
    """With the lines of docs/CONTRACT.md that have Gson write arrays inside unions."""
    sent = json.loads(plan.read_text())
    sent["cases"] += SEVERAL[:3]
    plan.write_text(json.dumps(sent))
    client = make("java")
    run(["mvn", "-q", "-DskipTests", "compile", "dependency:copy-dependencies", "-DoutputDirectory=lib"], client)
    said = run(["java", "-cp", "target/classes:lib/*", HERE / "openapi-generator" / "Call.java", plan], client)
    assert said.strip() == f"{len(sent['cases'])} called"


def test_rust(generator, plan, tmp_path, tmp_path_factory):
    """As docs/CONTRACT.md tells: of the contract with oneOf in the place of anyOf; 7.12 takes uploads as bytes."""
    if not shutil.which("cargo"):
        pytest.skip("cargo is not installed")
    sent = json.loads(plan.read_text())
    sent["cases"] += SEVERAL
    plan.write_text(json.dumps(sent))
    (tmp_path / "contract.json").write_text(CONTRACT.read_text(encoding="utf-8").replace('"anyOf"', '"oneOf"'))
    upload = ["--type-mappings", "file=Vec<u8>"] if "7.12" in generator.name else []
    run(["java", "-jar", generator, "generate", "-i", tmp_path / "contract.json", "-g", "rust", *upload, "-o", tmp_path / "client"], tmp_path)
    calls = tmp_path / "calls"
    (calls / "src").mkdir(parents=True)
    shutil.copy(HERE / "openapi-generator" / "call.rs", calls / "src" / "main.rs")
    (calls / "Cargo.toml").write_text(CARGO)
    said = run(["cargo", "run", "-q", "--", plan], calls, CARGO_TARGET_DIR=str(tmp_path_factory.getbasetemp() / "cargo"))
    assert said.strip() == f"{len(sent['cases'])} called"
