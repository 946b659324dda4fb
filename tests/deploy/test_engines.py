"""Spark and Ray over three replicas behind the shipped HAProxy, one of them killed in between: every row
right, none missing, none doubled. Long, and needs the engines: ORTHRUS_FULL=1, skipped where they can't be
installed. The Job's manifest is looked at always."""
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest
import yaml
from fleet import BIN, HAPROXY, TINY, fleet

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
FULL = os.environ.get("ORTHRUS_FULL") == "1"
TEXTS = int(os.environ.get("ORTHRUS_ENGINE_TEXTS", "50000"))


@pytest.fixture(scope="module")
def python():
    """A Python that has the engines: an environment of its own, made once."""
    venv = ROOT / "build-venv-engines"
    wanted = HERE / "requirements-engines.txt"
    mark = venv / "requirements.done"
    if not mark.exists() or mark.read_text() != wanted.read_text():
        done = subprocess.run([sys.executable, "-m", "venv", str(venv)], capture_output=True)
        if done.returncode == 0:
            done = subprocess.run([venv / "bin/pip", "install", "-q", "-r", str(wanted)], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"the engines can't be installed: {str(done.stderr)[-200:]}")
        mark.write_text(wanted.read_text())
    return venv / "bin/python"


@pytest.mark.skipif(not FULL, reason="runs with ORTHRUS_FULL=1 (./test --full)")
@pytest.mark.skipif(not HAPROXY, reason="haproxy is not installed")
@pytest.mark.parametrize("engine", ["spark", "ray"])
def test_every_row_once_and_right(tmp_path, python, engine):
    if engine == "spark" and subprocess.run(["sh", "-c", "command -v java"], capture_output=True).returncode != 0:
        pytest.skip("Spark needs java")
    texts = [f"row {i} {'of a corpus ' * (i % 7)}" for i in range(TEXTS)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(texts)))
    (tmp_path / "texts.txt").write_text("".join(t + "\n" for t in texts))
    done = subprocess.run([BIN, "embed", "--model", str(TINY), "--precision", "fp32", "--normalize", "--format", "npy",
                           "-i", str(tmp_path / "texts.txt"), "-o", str(tmp_path / "wanted.npy")], capture_output=True)
    assert done.returncode == 0, done.stderr
    with fleet(tmp_path, 3) as (replicas, balancer):
        timer = threading.Timer(8, lambda: replicas[1].signal(signal.SIGKILL))
        timer.start()
        done = subprocess.run([python, HERE / "engine_run.py", engine, f"http://{balancer.address}", tmp_path / "texts.jsonl",
                               tmp_path / "found.npy"], capture_output=True, text=True, timeout=900, check=False)
        timer.cancel()
        assert done.returncode == 0, done.stderr[-3000:]
        print(done.stdout.strip().splitlines()[-1], "replica restarts:", replicas[1].starts - 1)
    wanted, found = ((tmp_path / name).read_bytes() for name in ("wanted.npy", "found.npy"))
    assert found[-len(wanted) + 128:] == wanted[128:]


def test_the_job_covers_every_shard():
    job = yaml.safe_load((ROOT / "examples/kubernetes/embed-job.yaml").read_text())
    assert job["spec"]["completionMode"] == "Indexed"
    container = job["spec"]["template"]["spec"]["containers"][0]
    environment = {e["name"]: e.get("value") for e in container["env"]}
    assert int(environment["SHARDS"]) == job["spec"]["completions"]
    # What the arguments say is what the program takes.
    arguments = [a.replace("$(JOB_COMPLETION_INDEX)", "3").replace("$(SHARDS)", environment["SHARDS"])
                 for a in container["args"]]
    done = subprocess.run([BIN, *[a.replace("/data/model", "/nowhere/model") for a in arguments]], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 1 and "/nowhere/model" in done.stderr


def test_the_recipes_are_python():
    for name in ("spark_embed", "ray_embed"):
        spec = importlib.util.spec_from_file_location(name, ROOT / f"examples/{name}.py")
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
