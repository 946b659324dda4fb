"""tools/label-heads: metadata in, tensors untouched."""

import json
import pathlib
import struct
import subprocess

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
