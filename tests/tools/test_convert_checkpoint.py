"""tools/convert-checkpoint on torch's zip format, written here byte by byte: numbers as they were, strides and
shared storages, sharded folders, and pickles that name anything else than tensors."""
import collections
import io
import json
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import types
import zipfile

import pytest
from safetensors import safe_open

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "convert-checkpoint"


@pytest.fixture
def torch(monkeypatch):
    """Modules that bear torch's names, as far as a pickle needs them."""
    module, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "HalfStorage", "LongStorage"):
        setattr(module, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*_):
        pass

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return module


class Storage:
    def __init__(self, kind, key, count):
        self.pid = ("storage", kind, key, "cpu", count)


class Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, collections.OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.pid if isinstance(value, Storage) else None


def save(path, value, storages, compression=zipfile.ZIP_STORED, **extra):
    out = io.BytesIO()
    Pickler(out, 2).dump(value)
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", out.getvalue())
        file.writestr("archive/byteorder", extra.get("byteorder", "little"))
        for key, data in storages.items():
            file.writestr(f"archive/data/{key}", data)


def convert(*arguments):
    return subprocess.run([sys.executable, str(TOOL), *map(str, arguments)], capture_output=True, text=True, timeout=60)


def tensors(path):
    with safe_open(path, "numpy") as file:
        return {name: (file.get_slice(name).get_dtype(), file.get_slice(name).get_shape()) for name in file.keys()}


def raw(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    return {name: data[8 + size + row["data_offsets"][0] : 8 + size + row["data_offsets"][1]]
            for name, row in header.items() if name != "__metadata__"}


def floats(*values):
    return struct.pack(f"<{len(values)}f", *values)


def test_numbers_stay_as_they_are(torch, tmp_path):
    weight = Storage(torch.FloatStorage, "0", 6)
    counts = Storage(torch.LongStorage, "1", 2)
    save(tmp_path / "pytorch_model.bin", collections.OrderedDict(
        whole=Tensor(weight, 0, (2, 3), (3, 1)), transposed=Tensor(weight, 0, (3, 2), (1, 3)),
        part=Tensor(weight, 2, (2,), (2,)), scalar=Tensor(weight, 5, (), ()), none=Tensor(weight, 0, (0, 3), (3, 1)),
        ids=Tensor(counts, 0, (1, 2), (2, 1))), {"0": floats(0, 1, 2, 3, 4, 5), "1": struct.pack("<2q", 7, -8)})
    done = convert(tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "model.safetensors"
    assert tensors(out)["ids"] == ("I64", [1, 2])
    assert raw(out) == {"whole": floats(0, 1, 2, 3, 4, 5), "transposed": floats(0, 3, 1, 4, 2, 5),
                        "part": floats(2, 4), "scalar": floats(5), "none": b"", "ids": struct.pack("<2q", 7, -8)}
    assert convert(tmp_path).returncode == 1  # what is there stays
    assert convert(tmp_path, "--force").returncode == 0


def test_shards_and_modules(torch, tmp_path):
    for k in (1, 2):
        save(tmp_path / f"pytorch_model-{k}.bin", {f"t{k}": Tensor(Storage(torch.FloatStorage, "0", 1), 0, (1,), (1,))},
             {"0": floats(k)})
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(
        {"weight_map": {"t1": "pytorch_model-1.bin", "t2": "pytorch_model-2.bin"}}))
    (tmp_path / "2_Dense").mkdir()
    save(tmp_path / "2_Dense" / "pytorch_model.bin",
         {"linear.weight": Tensor(Storage(torch.FloatStorage, "0", 1), 0, (1, 1), (1, 1))}, {"0": floats(9)})
    assert convert(tmp_path).returncode == 0
    assert raw(tmp_path / "model.safetensors") == {"t1": floats(1), "t2": floats(2)}
    assert raw(tmp_path / "2_Dense" / "model.safetensors") == {"linear.weight": floats(9)}


class Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("what", [(os.system, "touch {}"), (eval, "open('{}', 'w')"), (getattr, os, "system")])
def test_a_pickle_that_names_something_else_runs_nothing(torch, tmp_path, what):
    witness = tmp_path / "ran"
    arguments = [a.format(witness) if isinstance(a, str) else a for a in what[1:]]
    save(tmp_path / "pytorch_model.bin", {"a": Runs(what[0], *arguments)} if what[0] is not getattr
         else {"a": Runs(what[0], collections.OrderedDict, "popitem")}, {})
    done = convert(tmp_path)
    assert done.returncode == 1 and "makes no tensor" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not witness.exists() and not (tmp_path / "model.safetensors").exists()


def test_damage_is_one_sentence(torch, tmp_path):
    storage = Storage(torch.FloatStorage, "0", 4)
    good = {"a": Tensor(storage, 0, (4,), (1,))}
    path = tmp_path / "a.bin"
    cases = [
        (good, {"0": floats(1, 2, 3)}, {}, "size does not fit"),
        (good, {}, {}, "is missing"),
        ({"a": Tensor(storage, 1, (4,), (1,))}, {"0": floats(1, 2, 3, 4)}, {}, "larger than"),
        ({"a": Tensor(storage, 0, (1 << 60,), (1,))}, {"0": floats(1, 2, 3, 4)}, {}, "larger than"),
        ({"a": Tensor(storage, 0, (2, 2), (-1, 1))}, {"0": floats(1, 2, 3, 4)}, {}, "is not one"),
        ({"a": 3}, {}, {}, "beside named tensors"),
        ([], {}, {}, "no dictionary"),
        ({"a": Tensor(storage, 0, (1 << 40,), (0,))}, {"0": floats(1, 2, 3, 4)}, {}, "repeat their numbers"),
        ({f"t{i}": Tensor(storage, 0, (1 << 20,), (0,)) for i in range(17)}, {"0": floats(1, 2, 3, 4)}, {}, "repeat their numbers"),
        (good, {"0": floats(1, 2, 3, 4)}, {"byteorder": "big"}, "big-endian"),
        (good, {"0": floats(1, 2, 3, 4)}, {"compression": zipfile.ZIP_DEFLATED}, "compressed"),
    ]
    for value, storages, extra, said in cases:
        save(path, value, storages, **extra)
        done = convert(path)
        assert done.returncode == 1 and said in done.stderr and len(done.stderr.splitlines()) == 1, (said, done)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bin"]
    done = convert(tmp_path / "absent.bin")
    assert done.returncode == 1 and "No such file" in done.stderr and len(done.stderr.splitlines()) == 1, done
    save(path, good, {"0": floats(1, 2, 3, 4)})
    before = path.read_bytes()
    assert "give another -o" in convert(path, "-o", path, "--force").stderr and path.read_bytes() == before
    with zipfile.ZipFile(path, "w") as file:  # a string of 4 GiB that isn't there
        file.writestr("archive/data.pkl", b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f")
    done = convert(path)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done
    save(path, good, {"0": floats(1, 2, 3, 4)})
    for data in (b"", b"PK\x03\x04", b"\x80\x02}q\x00.", path.read_bytes()[:-30]):
        path.write_bytes(data)
        done = convert(path)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done
