"""tools/label-heads: metadata in, tensors untouched."""

import json
import os
import pathlib
import stat
import struct
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "label-heads"
HEADS = ROOT / "tests" / "data" / "golden" / "tiny-bert" / "heads.safetensors"


def run(*args):
    return subprocess.run([TOOL, *map(str, args)], capture_output=True, text=True, check=False)


def parts(path):
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    return length, header.pop("__metadata__", {}), header, data[8 + length :]


def test_edits_metadata_alone(tmp_path):
    out = tmp_path / "out.safetensors"
    done = run(
        *(HEADS, "-o", out, "--sentiment", "a", "é", "c", "--set", "note=x=y", "--remove", "format")
    )
    assert done.returncode == 0, done.stderr
    length, metadata, tensors, data = parts(out)
    assert length % 8 == 0
    assert metadata == {"note": "x=y", "sentiment.labels": '["a", "é", "c"]'}
    _, _, old_tensors, old_data = parts(HEADS)
    assert (tensors, data) == (old_tensors, old_data)
    assert "note: x=y" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["out.safetensors"]


def test_in_place(tmp_path):
    file = tmp_path / "heads.safetensors"
    file.write_bytes(HEADS.read_bytes())
    assert run(file, "--set", "a=1").returncode == 0
    assert run(file, "--set", "b=2", "--remove", "a").returncode == 0
    assert parts(file)[1] == {"format": "pt", "b": "2"}


def test_shows_and_leaves_alone(tmp_path):
    file = tmp_path / "heads.safetensors"
    file.write_bytes(HEADS.read_bytes())
    done = run(file)
    assert done.returncode == 0
    assert done.stdout == "format: pt\n"
    assert file.read_bytes() == HEADS.read_bytes()


def test_refuses(tmp_path):
    for args, word in [
        ((HEADS, "--sentiment", "a", "b"), "3 classes"),
        ((HEADS, "--sentiment", "a", "b", "a"), "distinct"),
        ((HEADS, "--set", "novalue"), "KEY=VALUE"),
        ((tmp_path / "absent",), "absent"),
        ((TOOL,), "not a safetensors"),
    ]:
        done = run(*args)
        assert done.returncode != 0
        assert word in done.stderr
        assert "Traceback" not in done.stderr


def test_writes_only_what_orthrus_accepts(tmp_path):
    """Checked here, without the program; test_cli has what `orthrus inspect` knows besides."""
    file = tmp_path / "heads.safetensors"
    file.write_bytes(HEADS.read_bytes())
    for args, word in [
        (("--sentiment", "a", "b", "x" * 257), "256 bytes"),
        (("--sentiment", "a", "b", "c\nd"), "control"),
        (("--set", "sentiment.labels=[1, 2, 3]"), "strings"),
        (("--set", 'sentiment.labels=["a"]'), "3 classes"),
        (("--set", "sentiment.labels=nonsense"), "JSON array"),
        (("--labels", "absent", "a"), "absent.weight"),
        (("--set", "x=\udcff"), "label-heads"),
        (("--set", "encoder.sha256=abc"), "hexadecimal"),
    ]:
        done = run(file, *args)
        assert done.returncode == 1 and word in done.stderr, (args, done.stderr)
        assert "Traceback" not in done.stderr
        assert file.read_bytes() == HEADS.read_bytes()
        assert [path.name for path in tmp_path.iterdir()] == ["heads.safetensors"]
    assert run(file, "--labels", "sentiment", "x", "y", "z").returncode == 0
    assert parts(file)[1]["sentiment.labels"] == '["x", "y", "z"]'


def test_the_program_is_asked_where_it_is_built(tmp_path):
    program = os.environ.get("ORTHRUS_BIN", str(ROOT / "build" / "orthrus"))
    if not os.access(program, os.X_OK):
        pytest.skip("orthrus is not built")
    file = tmp_path / "heads.safetensors"
    file.write_bytes(HEADS.read_bytes())
    done = run(file, "--set", "classifier.kind=wrong")
    assert done.returncode == 1 and "classifier.kind" in done.stderr and str(file) in done.stderr
    assert file.read_bytes() == HEADS.read_bytes()


def test_keeps_mode_and_links(tmp_path):
    file, link, other = tmp_path / "heads.safetensors", tmp_path / "link", tmp_path / "other"
    file.write_bytes(HEADS.read_bytes())
    file.chmod(0o600)
    link.symlink_to("heads.safetensors")
    assert run(link, "--set", "a=1").returncode == 0
    assert link.is_symlink() and parts(file)[1]["a"] == "1"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    os.link(file, other)
    assert run(file, "--set", "b=2").returncode == 0
    assert os.path.samefile(file, other) and parts(other)[1]["b"] == "2"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heads.safetensors", "link", "other"]
