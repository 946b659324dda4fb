"""The heads that ship: calibrated, named by the README as they are, and made again by heads/build (ORTHRUS_FULL=1)."""
import hashlib
import json
import os
import pathlib
import re
import struct
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "heads" / "default.safetensors"
CONFIG_MAP_MAX = 512 * 1024


def parsed(path):
    """Metadata and the tensors' bytes; without the version that made it, the only thing that another release changes."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    header["__metadata__"]["lineage"] = re.sub(r'"orthrus": "[^"]*"', "", header["__metadata__"]["lineage"])
    return header, data[8 + size:]


def test_what_ships_says_what_it_is():
    header, _ = parsed(SHIPPED)
    metadata = header["__metadata__"]
    assert SHIPPED.stat().st_size <= CONFIG_MAP_MAX
    for head in ("classifier", "sentiment"):
        assert 0.5 < float(metadata[f"{head}.temperature"]) < 2
    assert metadata["trained"] == "true" and '"data_sha256"' in metadata["lineage"]
    assert hashlib.sha256(SHIPPED.read_bytes()).hexdigest() in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.skipif(os.environ.get("ORTHRUS_FULL", "0") != "1", reason="ORTHRUS_FULL=1 fetches the data and trains")
def test_they_are_made_again(tmp_path):
    """Bit for bit where the encoder's pass is (the same instruction set as theirs: AVX-512)."""
    if "avx512f" not in pathlib.Path("/proc/cpuinfo").read_text():
        pytest.skip("the pass rounds otherwise without AVX-512")
    model = os.environ.get("ORTHRUS_TEST_MODEL")
    if not model:
        pytest.skip("ORTHRUS_TEST_MODEL names no bert-base-uncased")
    env = {**os.environ, "ORTHRUS_BIN": os.environ.get("ORTHRUS_BIN", str(ROOT / "build" / "orthrus"))}
    subprocess.run([ROOT / "heads" / "build", tmp_path, model], check=True, env=env)
    assert parsed(tmp_path / "default.safetensors") == parsed(SHIPPED)
