"""What linters of OpenAPI say of the contract: nothing."""
import json
import subprocess

import pytest
from conftest import ROOT
from npm_tool import Missing, npm_packages

CONTRACT = ROOT / "openapi.yaml"


@pytest.fixture(scope="module")
def programs():
    try:
        return npm_packages("openapi-linters", "@stoplight/spectral-cli@6.16.3", "@redocly/cli@2.77.0") / ".bin"
    except Missing as missing:
        pytest.skip(str(missing))


def test_spectral(programs, tmp_path):
    (tmp_path / "rules.yaml").write_text('extends: ["spectral:oas"]\n')
    done = subprocess.run([programs / "spectral", "lint", "-q", "-f", "json", "-r", "rules.yaml", CONTRACT],
                          cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout or "[]") == []


def test_redocly(programs, tmp_path):
    (tmp_path / "redocly.yaml").write_text("extends: [recommended]\ntelemetry: off\n")
    done = subprocess.run([programs / "redocly", "lint", "--config", "redocly.yaml", "--format", "json", CONTRACT],
                          cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}
