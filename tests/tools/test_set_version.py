"""tools/set-version: every file names the same version, and one command changes it everywhere."""
import json
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(root, *arguments):
    return subprocess.run([sys.executable, root / "tools" / "set-version", *arguments], capture_output=True, text=True, check=False)


def test_every_file_names_the_same_version():
    done = run(ROOT)
    assert done.returncode == 0, done.stderr
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(done.stdout.strip())}\b", changes, re.M), "CHANGELOG.md has a section for it"


def test_one_command_changes_it_everywhere(tmp_path):
    files = ("tools/set-version", "tools/openapi-json", "CMakeLists.txt", "openapi.yaml", "openapi.json", "docker/Dockerfile",
             "docker/kubernetes/base/kustomization.yaml", "python/pyproject.toml")
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    assert run(tmp_path, "9.8.7").returncode == 0
    assert run(tmp_path).stdout == "9.8.7\n"
    assert json.loads((tmp_path / "openapi.json").read_text(encoding="utf-8"))["info"]["version"] == "9.8.7"
    (tmp_path / "docker" / "Dockerfile").write_text("ARG VERSION=1.0.0\n")
    done = run(tmp_path)
    assert done.returncode == 1 and "docker/Dockerfile names 1.0.0, CMakeLists.txt 9.8.7" in done.stderr
    assert run(tmp_path, "2.0").returncode == 2
