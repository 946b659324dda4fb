"""Clients made from openapi.json by code generators: they are made without a warning, compile, and call every route."""
import importlib
import inspect
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from cases import HEADS, cases_of
from conftest import ROOT, TOKEN
from go_tool import Missing, go_tool

CONTRACT = ROOT / "openapi.json"
CASES = cases_of(json.loads(CONTRACT.read_text(encoding="utf-8")))
HERE = pathlib.Path(__file__).resolve().parent
FULL = os.environ.get("ORTHRUS_FULL", "0") == "1"
OGEN = "github.com/ogen-go/ogen/cmd/ogen@v1.24.0"
OAPI_CODEGEN = "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2"
CONFIGURATION = "post_hooks: []\n"
OAPI_CONFIGURATION = "package: main\ngenerate: {client: true, models: true}\noutput: api.go\n"


@pytest.fixture
def served(start, token_file):
    """A server of one's own, since the admin routes change it."""
    return start("--admin-token-file", token_file, "--drain-timeout-s", "4")


@pytest.fixture
def plan(served, tmp_path):
    """For clients in other languages: everything they need as one JSON file."""
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({"main": f"http://{served.address}", "admin": f"http://{served.admin}",
                                "token": TOKEN, "heads": str(HEADS), "cases": CASES}))
    return file


def run(command, folder, **environment):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900,
                          env={**os.environ, **environment})
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done


def python_body(function, case):
    kind = inspect.signature(function).parameters["body"].annotation
    if case["bytes"]:
        types = importlib.import_module("generated.types")
        return types.File(payload=io.BytesIO(HEADS.read_bytes()), mime_type="application/octet-stream")
    kinds = [k for k in getattr(kind, "__args__", [kind]) if hasattr(k, "from_dict")]
    return kinds[0].from_dict(case["body"])


def test_openapi_python_client(served, tmp_path, monkeypatch):
    pytest.importorskip("openapi_python_client")
    (tmp_path / "config.yml").write_text(CONFIGURATION)
    said = run([sys.executable, "-m", "openapi_python_client", "generate", "--path", str(CONTRACT), "--meta", "none",
                "--output-path", "generated", "--config", "config.yml"], tmp_path)
    # It leaves the types of a YAML and of an SVG answer out, and nothing else.
    assert [line for line in said.stderr.splitlines() if line.startswith("WARNING")] == [
        f"WARNING parsing GET {path} within operations." for path in ("/openapi.yaml", "/favicon.ico")], said.stderr
    monkeypatch.syspath_prepend(str(tmp_path))
    generated = importlib.import_module("generated")
    main = generated.Client(base_url=f"http://{served.address}")
    admin = generated.AuthenticatedClient(base_url=f"http://{served.admin}", token=TOKEN)
    modules = {file.stem.replace("_", ""): f"generated.api.{file.parent.name}.{file.stem}"
               for file in (tmp_path / "generated" / "api").glob("*/*.py")}
    for case in CASES:
        function = importlib.import_module(modules[case["operation"].lower()]).sync_detailed
        arguments = {"client": admin if case["admin"] else main}
        if case["body"] is not None or case["bytes"]:
            arguments["body"] = python_body(function, case)
        answer = function(*case["paths"], **arguments)
        assert answer.status_code == case["status"], f"{case['operation']}: {answer.content[:300]}"
        if case["json"]:
            assert answer.parsed is not None, case["operation"]
            assert case["status"] >= 400 or "Problem" not in type(answer.parsed).__name__, case["operation"]


def go_client(tool, name, tmp_path):
    """The generator, and a copy of the folder with the program that calls what it makes."""
    try:
        generator = go_tool(tool)
    except Missing as missing:
        pytest.skip(str(missing))
    return generator, shutil.copytree(HERE / name, tmp_path / "client")


def test_oapi_codegen(plan, tmp_path):
    generator, folder = go_client(OAPI_CODEGEN, "oapi-codegen", tmp_path)
    (folder / "config.yaml").write_text(OAPI_CONFIGURATION)
    run([generator, "-config", "config.yaml", str(CONTRACT)], folder)
    run(["go", "vet", "."], folder)
    said = run(["go", "run", ".", str(plan)], folder)
    assert said.stdout.strip() == f"{len(CASES)} called"


@pytest.mark.skipif(not FULL, reason="ORTHRUS_FULL=1 builds ogen")
def test_ogen(plan, tmp_path):
    generator, folder = go_client(OGEN, "ogen", tmp_path)
    # It reads the types that the contract names out of the module in which it runs.
    run([generator, "--target", "api", "--package", "api", str(CONTRACT)], folder)
    run(["go", "vet", "./..."], folder)
    assert run(["go", "run", ".", str(plan)], folder).stdout.strip() == f"{len(CASES)} called"
