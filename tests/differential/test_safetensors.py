"""Our safetensors reader against the reference implementation, on files changed at random.

Whatever we accept the reference accepts too, with the same tensors. We may refuse more (duplicate
keys, unknown fields, too many dimensions), but never a plain good file. ORTHRUS_FULL=1 takes a
hundred times as many; ORTHRUS_BUILD_DIR names the folder that holds safetensors_driver.
"""

import hashlib
import json
import os
import pathlib
import random
import struct
import subprocess

import pytest
import safetensors

FULL = os.environ.get("ORTHRUS_FULL") == "1"
FILES = 300_000 if FULL else 3_000
SEED = 7_1969
DTYPES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2,
    "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8,
}  # fmt: skip
NUMBERS = [0, 1, 2, 3, 4, 7, 8, 9, -1, 255, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64]
OTHERS = [None, True, 1.0, 1e300, "", "F32", "x", [], {}, [[]], {"a": 1}, "\u0000", "é"]


def driver(name):
    path = pathlib.Path(os.environ.get("ORTHRUS_BUILD_DIR", "build"))
    for candidate in (path / name, path / "tests" / name):
        if candidate.exists():
            return candidate
    pytest.fail(f"no {name} in {path}: set ORTHRUS_BUILD_DIR")
    return None


def good_header(rng):
    """A valid header and the size of its data."""
    header, at = {}, 0
    if rng.random() < 0.4:
        header["__metadata__"] = {"format": "pt", "note": rng.choice(["", "x", "é\n", "[1]"])}
    tensors = []
    for i in range(rng.randrange(5)):
        shape = [rng.randrange(4) for _ in range(rng.randrange(4))]
        dtype = rng.choice(list(DTYPES))
        size = DTYPES[dtype]
        for dimension in shape:
            size *= dimension
        info = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        tensors.append((rng.choice(["w", "a.b", "é", "x y", "_"]) + str(i), info))
        at += size
    rng.shuffle(tensors)
    return {**header, **dict(tensors)}, at


def places(value, found):
    """Every (container, key) below a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, below in list(items):
        found.append((value, key))
        if isinstance(below, (dict, list)):
            places(below, found)
    return found


def change_header(rng, header):
    """Puts something else at a random place."""
    found = places(header, [])
    if not found:
        return
    container, key = rng.choice(found)
    action = rng.randrange(5)
    if action == 0:
        del container[key]
    elif action == 1:
        container[key] = rng.choice(NUMBERS)
    elif action == 2:
        container[key] = rng.choice(OTHERS)
    elif action == 3 and isinstance(container[key], int):
        container[key] += rng.choice([-1, 1, 4])
    elif isinstance(container, dict):
        container[rng.choice(["extra", "", "dtype", "w0", "__metadata__"])] = container[key]
    else:
        container.insert(key, rng.choice(NUMBERS))


def change_bytes(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        action = rng.randrange(4)
        at = rng.randrange(len(data)) if data else 0
        if action == 0 and data:
            data[at] = rng.randrange(256)
        elif action == 1:
            data[at:at] = bytes(rng.choice(b'{}[]",:0123456789-+eE.\\ \t\n\0') for _ in range(1))
        elif action == 2 and data:
            del data[at : at + rng.choice([1, 1, 2, 9])]
        elif data:
            data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def make_file(rng):
    """The bytes and whether they are a good file that both must accept."""
    header, size = good_header(rng)
    kind = rng.random()
    good = kind < 0.1
    if kind >= 0.5:
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            change_header(rng, header)
    text = json.dumps(header, ensure_ascii=rng.random() < 0.5).encode()
    text += b" " * rng.choice([0, -len(text) % 8])
    length = len(text)
    if 0.1 <= kind < 0.2:
        length += rng.choice([-1, 1, 8, 2**32, 2**63, 100_000_000 - length, 100_000_001 - length])
    if 0.2 <= kind < 0.25:
        size = max(0, size + rng.choice([-1, 1, 4]))
    data = struct.pack("<Q", length % 2**64) + text + rng.randbytes(size)
    if 0.25 <= kind < 0.5:
        data = change_bytes(rng, data)
    return data, good


def reference(data):
    """The reference's tensors in our driver's words, or None where it refuses."""
    try:
        tensors = safetensors.deserialize(data)
    except safetensors.SafetensorError:
        return None
    described = []
    for name, info in tensors:
        digest = hashlib.sha256(bytes(info["data"])).hexdigest()
        shape = "x".join(map(str, info["shape"]))
        described.append(f"{name.encode().hex()} {info['dtype']} {shape}".rstrip() + f" {digest}")
    return sorted(described)


def test_accepts_only_what_the_reference_accepts():
    rng = random.Random(SEED)
    files = [make_file(rng) for _ in range(FILES)]
    records = b"".join(struct.pack("<I", len(data)) + data for data, _ in files)
    done = subprocess.run([driver("safetensors_driver")], input=records, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    verdicts = done.stdout.decode().splitlines()
    assert len(verdicts) == len(files)
    both = stricter = 0
    for (data, good), verdict in zip(files, verdicts, strict=True):
        expected = reference(data)
        word, *tensors = verdict.split("\t")
        if word == "ok":
            assert expected is not None, f"only we accept {data!r}"
            assert sorted(tensors) == expected, f"read otherwise: {data!r}"
            both += 1
        else:
            assert not good, f"refused with {verdict!r}: {data!r}"
            stricter += expected is not None
    print(f"{both} accepted by both, {stricter} refused by us alone, of {len(files)}")
    assert both > FILES // 10  # the changes leave enough good files to mean something
