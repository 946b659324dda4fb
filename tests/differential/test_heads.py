"""Our loader of heads files against the reference safetensors package and the rules of INTERFACE.md,
written here a second time, on files changed at random: what one accepts the other accepts, with the
same numbers and labels. ORTHRUS_FULL=1 takes ten times as many; ORTHRUS_BUILD_DIR names the folder
that holds heads_driver.
"""

import collections
import hashlib
import json
import math
import os
import random
import struct
import subprocess

import safetensors
from test_safetensors import DTYPES, change_bytes, change_header, driver, places

FULL = os.environ.get("ORTHRUS_FULL") == "1"
FILES = 100_000 if FULL else 10_000
SEED = 5_2024
HIDDEN = 4
ENCODER = hashlib.sha256(b"an encoder").hexdigest()
POOLING = "mean"
POOLINGS = {"mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"}
CLASSES_MAX, LABEL_MAX = 1024, 256
DEFAULT_LABELS = {
    "classifier": ["Expression", "Opinion", "Quote", "Riddle", "News", "Other"],
    "sentiment": ["Neutral", "Positive", "Negative"],
}
SIZES = {"F32": 4, "F16": 2, "BF16": 2}


# Files


def number_bytes(rng, dtype, strange):
    """One number of a weight; strange: any bits at all, or those around infinity."""
    if strange and rng.random() < 0.5:
        return rng.randbytes(SIZES[dtype])
    special = rng.choice([math.inf, -math.inf, math.nan, -0.0, 65504.0, 6e-8])
    value = special if strange else rng.gauss(0, 1)
    if dtype == "F16":
        return struct.pack("<e", value)
    return struct.pack("<f", value)[4 - SIZES[dtype] :]


def labels_text(rng, classes):
    """The labels of a head in JSON as various writers make it."""
    labels = [rng.choice(["", "x", "é ", '"q" '][1:]) + str(i) for i in range(classes)]
    return json.dumps(labels, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, None, 1]))


def good_parts(rng):
    """A valid file: {name: (dtype, shape, bytes)} and its metadata."""
    tensors, metadata = {}, {}
    for head in rng.choice([DEFAULT_LABELS, DEFAULT_LABELS, ["classifier"], ["sentiment"]]):
        classes = rng.choice([2, 3, 6, len(DEFAULT_LABELS[head]), 9])
        for part, shape in (("weight", [classes, HIDDEN]), ("bias", [classes])):
            dtype = rng.choice(list(SIZES))
            data = b"".join(number_bytes(rng, dtype, False) for _ in range(math.prod(shape)))
            tensors[f"{head}.{part}"] = (dtype, shape, data)
        if classes != len(DEFAULT_LABELS[head]) or rng.random() < 0.5:
            metadata[f"{head}.labels"] = labels_text(rng, classes)
    if rng.random() < 0.4:
        metadata["encoder.sha256"] = rng.choice([ENCODER, ENCODER.upper()])
    if rng.random() < 0.4:
        metadata["pooling"] = POOLING
    if rng.random() < 0.4:
        metadata[rng.choice(["format", "note", "Encoder.sha256"])] = rng.choice(["pt", "", "[1", "é\n"])
    return tensors, metadata


def change_labels(rng, metadata):
    key = rng.choice(["classifier.labels", "sentiment.labels"])
    text = metadata.get(key) or labels_text(rng, rng.choice([1, 3, 6]))
    try:
        labels = json.loads(text)
    except ValueError:
        return
    other = ["", "x", "\x1f", "\x7f", "\u0080", "\0", "a\nb", "é" * 128, "é" * 129, "a" * 256, "a" * 257,
             "\ud800", "😀", 1, None, True, ["x"], {"x": "y"}]  # fmt: skip
    action = rng.randrange(7)
    if not isinstance(labels, list) or not labels:
        pass
    elif action == 0:
        labels[rng.randrange(len(labels))] = rng.choice(other)
    elif action == 1:
        labels.append(rng.choice(other))
    elif action == 2:
        labels.pop()
    elif action == 3:
        labels[0] = labels[-1]
    elif action == 4:
        labels = rng.choice([{}, None, "x", 3, [], [labels], dict.fromkeys(map(str, labels), 1)])
    text = json.dumps(labels)
    if action == 5:
        text = change_bytes(rng, text.encode()).decode("utf-8", "replace")
    if action == 6:
        text = rng.choice([text + " ", "\n" + text, text + ",", text + "]", "\ufeff" + text, "", "null", text[:-1],
                           text.replace("]", ",]"), text.replace('"', "'")])  # fmt: skip
    metadata[key] = text


def change_metadata(rng, metadata):
    other_encoder = hashlib.sha256(b"another").hexdigest()
    key, value = rng.choice([
        ("encoder.sha256", other_encoder), ("encoder.sha256", ENCODER[:-1]), ("encoder.sha256", ENCODER + "0"),
        ("encoder.sha256", ""), ("encoder.sha256", "g" * 64), ("encoder.sha256", ENCODER[:63] + " "),
        ("pooling", "cls"), ("pooling", "max"), ("pooling", ""), ("pooling", "Mean"), ("pooling", "mean "),
        ("note", "a\0b"), ("a\0b", "note"), ("classifier.labels\0", "[]"), ("note", None), ("pooling", 1),
    ])  # fmt: skip
    metadata[key] = value


def change_tensors(rng, tensors):
    """Another shape, name, dtype or number; the file stays sound."""
    name = rng.choice(list(tensors))
    dtype, shape, data = tensors[name]
    if dtype not in SIZES or not shape or not data:
        return
    size = SIZES[dtype]
    row = size * (HIDDEN if name.endswith("weight") else 1)
    action = rng.randrange(8)
    if action <= 1:
        bad = number_bytes(rng, dtype, True)
        at = rng.randrange(math.prod(shape)) * size
        tensors[name] = dtype, shape, data[:at] + bad + data[at + size :]
    elif action == 2:
        tensors[name] = dtype, rng.choice([shape[::-1], [1, *shape], [*shape, 1], [math.prod(shape)], []]), data
    elif action == 3:
        tensors[rng.choice([name + "s", name.upper(), "bert." + name, "pooler", "classifier.weight"])] = tensors.pop(name)
    elif action == 4:
        del tensors[name]
    elif action == 5:
        other = rng.choice(["I16", "U8", "F64", "BOOL", "F8_E4M3", "I32"])
        tensors[name] = other, shape, bytes(DTYPES[other] * math.prod(shape))
    elif action == 6:
        tensors[name] = dtype, [shape[0] + 1, *shape[1:]], data + data[:row]
    else:
        head = name.split(".")[0]
        classes = rng.choice([0, 1, 1023, 1024, 1025])
        tensors[f"{head}.weight"] = "F16", [classes, HIDDEN], bytes(2 * HIDDEN * classes)
        tensors[f"{head}.bias"] = "F16", [classes], bytes(2 * classes)


def member_twice(rng, header, text):
    """The same header with a member of one of its objects written twice."""
    members = [(key, within[key]) for within, key in places(header, []) if isinstance(within, dict)]
    if not members:
        return text
    member = json.dumps(dict([rng.choice(members)]))[1:-1]
    return text.replace(member, f"{member}, {member}", 1)


def make_file(rng):
    """The bytes and whether they are a good file."""
    tensors, metadata = good_parts(rng)
    kind = rng.choice(["good", "labels", "metadata", "tensors", "tensors", "header", "twice", "bytes", "length"])
    for _ in range(rng.choice([1, 1, 1, 2])):
        if kind == "labels":
            change_labels(rng, metadata)
        elif kind == "metadata":
            change_metadata(rng, metadata)
        elif kind == "tensors" and tensors:
            change_tensors(rng, tensors)
    if kind == "tensors" and rng.random() < 0.8:
        # Labels for the rows that there are now: else they alone would be what is wrong.
        for head in DEFAULT_LABELS:
            shape = tensors[f"{head}.weight"][1] if f"{head}.weight" in tensors else []
            if shape:
                metadata[f"{head}.labels"] = labels_text(rng, shape[0])
    header, data = {}, b""
    if metadata or rng.random() < 0.5:
        header["__metadata__"] = metadata
    for name, (dtype, shape, raw) in rng.sample(list(tensors.items()), len(tensors)):
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    if kind == "header":
        change_header(rng, header)
    text = json.dumps(header, ensure_ascii=kind == "twice" or rng.random() < 0.5)
    if kind == "twice":
        text = member_twice(rng, header, text)
    text = text.encode("utf-8", "surrogatepass")
    text += b" " * rng.choice([0, -len(text) % 8])
    file = struct.pack("<Q", len(text)) + text + data
    if kind == "bytes":
        file = change_bytes(rng, file)
    if kind == "length":
        file = rng.choice([file[:-1], file + b"\0", file[: rng.randrange(len(file))], b"", file * 2])
    return file, kind == "good"


# Rules


class Refused(Exception):
    pass


def demand(holds, why):
    if not holds:
        raise Refused(why)


def without_duplicates(pairs):
    """Of two members with one name the reference takes the last: a file should not mean two things."""
    members = dict(pairs)
    demand(len(members) == len(pairs), "a member twice")
    return members


def fp32(dtype, data):
    """The numbers of a tensor as fp32 bytes."""
    if dtype == "F32":
        return data
    if dtype == "BF16":
        return b"".join(b"\0\0" + data[i : i + 2] for i in range(0, len(data), 2))
    return struct.pack(f"<{len(data) // 2}f", *struct.unpack(f"<{len(data) // 2}e", data))


def check_header(data):
    """What we ask of a header beyond the reference; its metadata."""
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size], object_pairs_hook=without_duplicates)
    metadata = header.pop("__metadata__", {})
    demand(isinstance(metadata, dict), "metadata is no object")
    for text in (*metadata.keys(), *metadata.values()):
        demand("\0" not in text, "a NUL in the metadata")
    for info in header.values():
        demand(info.keys() == {"dtype", "shape", "data_offsets"}, "other fields in a tensor")
    return metadata


def read_labels(text, head, classes):
    if text is None:
        demand(classes == len(DEFAULT_LABELS[head]), "no labels")
        return DEFAULT_LABELS[head]
    try:
        labels = json.loads(text)
    except ValueError as problem:
        raise Refused(str(problem)) from problem
    demand(isinstance(labels, list) and len(labels) == classes, "not K labels")
    demand(all(isinstance(label, str) for label in labels), "a label is no string")
    demand(len(set(labels)) == classes, "two labels are the same")
    for label in labels:
        demand(not any("\ud800" <= c <= "\udfff" for c in label), "half a surrogate pair")
        demand(1 <= len(label.encode()) <= LABEL_MAX, "a label's length")
        demand(not any(c < " " or c == "\x7f" for c in label), "a control character")
    return labels


def read_head(head, tensors, metadata):
    """One head in our driver's words."""
    weight, bias = (tensors.get(f"{head}.{part}") for part in ("weight", "bias"))
    demand(weight and bias, "half a head")
    (classes,) = bias["shape"] if len(bias["shape"]) == 1 else [0]
    demand(weight["shape"] == [classes, HIDDEN], "shapes")
    demand(2 <= classes <= CLASSES_MAX, "classes")
    words = [head]
    for tensor in (weight, bias):
        demand(tensor["dtype"] in SIZES, "dtype")
        numbers = fp32(tensor["dtype"], bytes(tensor["data"]))
        demand(all(map(math.isfinite, struct.unpack(f"<{len(numbers) // 4}f", numbers))), "not finite")
        words.append(hashlib.sha256(numbers).hexdigest())
    labels = read_labels(metadata.get(f"{head}.labels"), head, classes)
    return " ".join(words + [label.encode().hex() for label in labels])


def is_digest(text):
    return len(text) == 64 and set(text) <= set("0123456789abcdefABCDEF")


def meant_for_another(metadata):
    encoder, pooling = metadata.get("encoder.sha256", ENCODER), metadata.get("pooling", POOLING)
    return (is_digest(encoder) and encoder.lower() != ENCODER) or pooling in POOLINGS - {POOLING}


def read_heads(tensors, metadata):
    """Each head in our driver's words."""
    heads = [head for head in DEFAULT_LABELS if any(name.startswith(head + ".") for name in tensors)]
    allowed = {f"{head}.{part}" for head in heads for part in ("weight", "bias")}
    demand(heads and tensors.keys() == allowed, "names")
    demand(is_digest(metadata.get("encoder.sha256", ENCODER)), "encoder.sha256")
    demand(metadata.get("pooling", POOLING) in POOLINGS, "pooling")
    return [read_head(head, tensors, metadata) for head in heads]


def judge(data):
    """(the verdicts that are right, the heads or why not). A file may be for another encoder and
    wrong besides: which is said first is open."""
    right = set()
    try:
        tensors = dict(safetensors.deserialize(data))
        metadata = check_header(data)
        if meant_for_another(metadata):
            right.add("other")
        return right or {"ok"}, read_heads(tensors, metadata)
    except (Refused, safetensors.SafetensorError) as why:
        return right | {"no"}, str(why)


def test_verdicts_agree():
    rng = random.Random(SEED)
    files = [make_file(rng) for _ in range(FILES)]
    records = b"".join(struct.pack("<I", len(data)) + data for data, _ in files)
    done = subprocess.run([driver("heads_driver"), str(HIDDEN), ENCODER, POOLING], input=records,
                          capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    verdicts = done.stdout.decode().splitlines()
    assert len(verdicts) == len(files)
    counts = collections.Counter()
    for (data, good), verdict in zip(files, verdicts, strict=True):
        word, *heads = verdict.split("\t")
        right, expected = judge(data)
        assert right == {"ok"} or not good, f"{expected}: {data!r}"
        assert word in right, f"we say {verdict!r}, the rules say {right}: {expected}: {data[:3000]!r}"
        assert word != "ok" or heads == expected, f"read otherwise: {data!r}"
        counts[word] += 1
    print(dict(counts))
    assert min(counts["ok"], counts["no"]) > FILES // 10 and counts["other"] > FILES // 200
