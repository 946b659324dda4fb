"""Our JSON against Python's json: whole trees of files, and what a body asks of three routes.

What Python accepts we accept, with the same values, and the other way round, but for the rows of DIFFERENCES, each of
which is counted: a difference that no text shows any more is a row too many. ORTHRUS_FULL=1 takes a hundred times as
many texts, ORTHRUS_SEED moves them; ORTHRUS_BUILD_DIR names the folder that holds json_driver."""

import collections
import json
import os
import random
import re
import struct
import subprocess

from test_safetensors import driver

FULL = os.environ.get("ORTHRUS_FULL") == "1"
TEXTS = 600_000 if FULL else 6_000
SEED = int(os.environ.get("ORTHRUS_SEED", "4"))
LIMITS = {"batch": 32, "hidden": 384, "length": 16, "vocab": 1000}  # as json_driver.c has them
DEPTH = {"file": 32, "body": 8}
LARGEST = 2**63 - 1
EMBED, CLASSIFY, OPENAI = 0, 1, 5  # of enum api_kind
FILE, PARSE = ord("f"), ord("p")

# What Python takes and we refuse; docs/TESTING.md has the same table.
DIFFERENCES = {
    "duplicate": "a name twice in one object: Python takes the last",
    "surrogate": r"\ud800 without its other half: no UTF-8 can hold it",
    "nul in a name": r"\u0000 in a name",
    "too large": "1e400: Python reads infinity",
    "large integer": "above 64 bits in an object of our own (jval_parse): Python has integers of any size",
    "depth": "more than 32 levels (bodies: 8)",
    "scalar": "a file that is a bare number, string, true, false or null",
}
# Where both accept and the values differ: an integer above 64 bits in a folder's file keeps all but its last four digits.

KEYS = ["inputs", "input", "normalize", "truncate", "truncation_direction", "dimensions", "top_k", "raw_scores", "model",
        "encoding_format", "prompt_name", "options", "user", "parameters", "a", "", "é", "\u0000", "\ud800", "x\ny", "\U0001f600"]
NUMBERS = ["0", "-0", "1", "-1", "7", "5.0", "0.5", "1e2", "1E+2", "2e-3", "999", "1000", "384", "385", "9223372036854775807",
           "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "1" + "0" * 30, "1" + "0" * 400, "1e308",
           "1e309", "-1e400", "1e-400", "4.9e-324", "0.1", "123456789.123456789", "1e-5", "100e-2", "01", "1.", ".5", "+1", "1e",
           "0x1", "NaN", "Infinity", "-Infinity", "-", "1_0", "1.0.0", "\u0661"]
STRINGS = ["", "a", "some words", "é", "\u0000", "\ud800", "\udc00\ud800", "\U0001f600", "\u2028", "\x7f", "\"\\/\b\f\n\r\t", "right",
           "left", "float", "base64", "[{", "\ufeff", "\uffff", "1"]


def python_text(draw, text, ascii_share=0.5):
    """A string literal, each character in one of its ways."""
    out = []
    for c in text:
        ways = []
        if c not in '"\\' and ord(c) >= 0x20 and not 0xD800 <= ord(c) <= 0xDFFF:
            ways.append(c)
        if draw.random() < ascii_share or not ways:
            escape = json.dumps(c)[1:-1]
            ways = [escape, escape.upper().replace("\\U", "\\u")] if escape.startswith("\\u") else [escape]
            if c == "/":
                ways.append("\\/")
        out.append(draw.choice(ways))
    return '"' + "".join(out) + '"'


def space(draw):
    return draw.choice(["", "", "", " ", "\n", "\t\r\n "])


def write(draw, value):
    """JSON text of a tree; ("number", text) stands for a number as it is written."""
    s = lambda: space(draw)  # noqa: E731
    if isinstance(value, tuple):
        return value[1]
    if isinstance(value, str):
        return python_text(draw, value)
    if isinstance(value, Object):
        return "{" + ",".join(s() + python_text(draw, k, 0.2) + s() + ":" + s() + write(draw, v) + s() for k, v in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(s() + write(draw, item) + s() for item in value) + (s() if not value else "") + "]"
    return json.dumps(value)


class Object(list):
    """Pairs, so that a name can stand twice."""


def tree(draw, depth=0):
    kind = draw.random()
    if depth < 5 and kind < 0.25:
        return Object((draw.choice(KEYS), tree(draw, depth + 1)) for _ in range(draw.choice((0, 1, 2, 3))))
    if depth < 5 and kind < 0.45:
        return [tree(draw, depth + 1) for _ in range(draw.choice((0, 1, 2, 4)))]
    if kind < 0.7:
        return ("number", draw.choice(NUMBERS[:28] if draw.random() < 0.9 else NUMBERS))
    return draw.choice((True, False, None)) if kind < 0.8 else draw.choice(STRINGS)


def ids(draw):
    return [("number", draw.choice(("0", "1", "7", "999", "1000", "5.0", "-1", "1e2"))) for _ in range(draw.choice((1, 3, 20)))]


def body(draw, how):
    """Mostly what a client could mean."""
    right = "input" if how == OPENAI else "inputs"
    texts = [draw.choice(STRINGS) for _ in range(draw.choice((0, 1, 2, 33)))]
    made = Object()
    if draw.random() < 0.95:
        texts_or_ids = (draw.choice(STRINGS[:2]), draw.choice(STRINGS), texts[:2], texts, ids(draw), [ids(draw), ids(draw)],
                        [*texts, ids(draw)], tree(draw))
        made.append((right if draw.random() < 0.9 else draw.choice(KEYS), draw.choice(texts_or_ids)))
    for name, values in (("normalize", (True, False, None, "x")), ("truncate", (True, False, None, ("number", "1"))),
                         ("truncation_direction", ("left", "Right", None, "up")),
                         ("dimensions", [("number", n) for n in NUMBERS[:20]] + [None]),
                         ("top_k", [("number", n) for n in NUMBERS[:20]] + [None]), ("raw_scores", (True, False, None)),
                         ("model", ("m", None, ("number", "1"))), ("encoding_format", ("float", "base64", None, "x")),
                         ("user", ("u", None)), ("options", (Object(), None, [])), (draw.choice(KEYS), [tree(draw)])):
        if draw.random() < 0.06:
            made.append((name, draw.choice(values)))
    draw.shuffle(made)
    return made


def nested(draw):
    n = draw.choice((7, 8, 9, 31, 32, 33, 200))
    text = "".join(draw.choice(("[", '{"a":')) for _ in range(n))
    return text + "0" + "".join("]" if c == "[" else "}" for c in reversed(text.replace('{"a":', "{")))


def change(draw, data):
    data = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        at = draw.randrange(len(data) + 1)
        action = draw.randrange(4)
        if action == 0 and at < len(data):
            data[at] = draw.randrange(256)
        elif action == 1:
            data[at:at] = draw.choice((b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\x80",
                                       b"\xf4\x90\x80\x80", b"\x00", b"\x1f", b" ", b"//", b"null", b"NaN", b"0", b"-", b"e", b"."))
        elif action == 2:
            del data[at:at + draw.choice((1, 1, 2, 9))]
        elif at < len(data):
            data[at] ^= 1 << draw.randrange(8)
    return bytes(data)


def make(draw):
    """(how, bytes)."""
    how = draw.choice((FILE, PARSE, EMBED, CLASSIFY, OPENAI, OPENAI, EMBED))
    kind = draw.random()
    if kind < 0.03:
        text = nested(draw)
    elif how in (FILE, PARSE) or kind < 0.15:
        text = write(draw, tree(draw, draw.choice((0, 4))))
    else:
        text = write(draw, body(draw, how))
    data = (space(draw) + text + space(draw)).encode("utf-8", "surrogatepass")
    return how, change(draw, data) if draw.random() < 0.35 else data


class Integer(int):
    """With the digits that were there: a tree of files tells 2 ** 63 from what it was written as."""


def parse(data, notes, how=FILE):
    """Python's value, with objects as lists of pairs; notes gets what we may refuse. ValueError where Python does."""
    def constant(word):
        raise ValueError(word)

    def integer(text):
        digits = text.lstrip("-")
        if len(digits) > len(str(LARGEST)) or int(digits) > LARGEST + (text[0] == "-" and how != FILE):
            notes.add("large integer")
            if len(digits) > 312:  # softened, too large all the same
                notes.add("too large")
            return ("large", text)
        return int(text)

    def real(text):
        value = float(text)
        if value in (float("inf"), float("-inf")):
            notes.add("too large")
        return value

    def pairs(items):
        if len({name for name, _ in items}) < len(items):
            notes.add("duplicate")
        if any("\0" in name for name, _ in items):
            notes.add("nul in a name")
        return Object(items)

    text = data.decode()
    value = json.loads(text, parse_constant=constant, parse_int=integer, parse_float=real, object_pairs_hook=pairs)
    if surrogates(value):
        notes.add("surrogate")
    if not isinstance(value, list):
        notes.add("scalar")
    return value


def surrogates(value):
    if isinstance(value, str):
        return any(0xD800 <= ord(c) <= 0xDFFF for c in value)
    if isinstance(value, Object):
        return any(surrogates(k) or surrogates(v) for k, v in value)
    return isinstance(value, list) and any(map(surrogates, value))


def depth(data):
    """The deepest bracket outside strings, by Python's own scanner where it parses and by the same rule where it does not."""
    text = re.sub(rb'"(?:\\.|[^"\\])*(?:"|$)', b"", data, flags=re.S)
    now = deepest = 0
    for c in text:
        if c in b"[{":
            now += 1
            deepest = max(deepest, now)
        elif c in b"]}" and now:
            now -= 1
    return deepest


def described(value):
    """A tree in json_driver's words."""
    if isinstance(value, str):
        return "s" + value.encode().hex()
    if value is None or isinstance(value, bool):
        return {None: "n", True: "t", False: "f"}[value]
    if isinstance(value, int):
        return f"i{value}"
    if isinstance(value, float):
        return "d%.17g" % value
    if isinstance(value, tuple):
        return "d%.17g" % float(value[1][:-4] + "e+04")
    if isinstance(value, Object):
        return "{" + "".join(k.encode().hex() + ":" + described(v) + "," for k, v in value) + "}"
    return "[" + "".join(described(item) + "," for item in value) + "]"


class Refused(Exception):
    pass


def need(holds):
    if not holds:
        raise Refused


def whole(value, least, most):
    """JSON Schema's integer."""
    if isinstance(value, tuple):
        raise Refused
    need(not isinstance(value, bool) and isinstance(value, (int, float)) and value == int(value) and least <= value <= most)
    return int(value)


def token_ids(value):
    need(isinstance(value, list) and not isinstance(value, Object) and value)
    found = [whole(item, 0, LIMITS["vocab"] - 1) for item in value]
    return found[:LIMITS["length"]]


def is_number(value):
    return isinstance(value, (int, float, tuple)) and not isinstance(value, bool)


def is_whole(value):
    return isinstance(value, tuple) or (is_number(value) and value == int(value))


def read_inputs(how, value):
    """[(kind, value)], single."""
    if isinstance(value, str):
        need(value or how != OPENAI)
        return [value], True
    need(isinstance(value, list) and not isinstance(value, Object) and value)
    if how == CLASSIFY:
        need(len(value) <= LIMITS["batch"] and all(isinstance(item, str) for item in value))
        return value, False
    if is_whole(value[0]):
        return [token_ids(value)], True
    need(len(value) <= LIMITS["batch"])
    if how == EMBED:
        return [item if isinstance(item, str) else token_ids(item) for item in value], False
    if isinstance(value[0], str):
        need(all(isinstance(item, str) and item for item in value))
        return value, False
    return [token_ids(item) for item in value], False


def asked(how, members):
    """json_driver's line of a body that is right, by openapi.yaml; Refused for one that is not."""
    need(isinstance(members, Object))
    found = {"truncate": 1, "left": 0, "normalize": 1, "dimensions": 0, "top_k": 0, "raw": 0, "base64": 0}
    inputs = None
    for name, value in members:
        known = {
            EMBED: ("inputs", "normalize", "truncate", "truncation_direction", "dimensions", "prompt_name", "encoding_format", "options",
                    "parameters", "long"),
            CLASSIFY: ("inputs", "raw_scores", "top_k", "truncate", "truncation_direction", "options", "parameters", "long"),
            OPENAI: ("input", "model", "encoding_format", "dimensions", "user", "prompt_name", "long"),
        }[how]
        if name not in known:
            need(how == OPENAI)
        elif value is None:
            pass
        elif name in ("inputs", "input"):
            inputs, single = read_inputs(how, value)
        elif name in ("normalize", "truncate", "raw_scores"):
            need(isinstance(value, bool))
            found["raw" if name == "raw_scores" else name] = int(value)
        elif name == "truncation_direction":
            need(value in ("left", "Left", "right", "Right"))
            found["left"] = int(value in ("left", "Left"))
        elif name == "dimensions":
            found["dimensions"] = whole(value, 1, LIMITS["hidden"])
        elif name == "top_k":
            found["top_k"] = whole(value, 1, 2**31 - 1)
        elif name == "encoding_format":
            need(value == "float" or (value == "base64" and how == OPENAI))
            found["base64"] = int(value == "base64")
        elif name in ("model", "user"):
            need(isinstance(value, str))
        elif name == "options":
            need(isinstance(value, Object))
        elif name == "prompt_name":
            need(value == "" and inputs is not None or value == "")
            found["prompt"] = True
        else:
            return None  # parameters and long: other tests know them
    need(inputs is not None)
    need(not found.pop("prompt", False) or all(isinstance(item, str) for item in inputs))
    words = " ".join(f"{k}={v}" for k, v in {"single": int(single), **found, "special": 1}.items())
    return "\t".join(["ok", words, *("s" + item.encode().hex() if isinstance(item, str) else "i" + "".join(f"{n}," for n in item)
                                     for item in inputs)])


def judge_file(how, data, line, seen):
    notes = set()
    try:
        value = parse(data, notes, how)
    except (ValueError, RecursionError):
        value = notes = None
    if depth(data) > DEPTH["file"]:
        seen["depth"] += value is not None
        return line == "no"
    if value is None:
        return line == "no"
    if how == FILE:
        notes.discard("large integer")
    for note in notes:
        seen[note] += 1
    return line == "no" if notes else line == "ok\t" + described(value)


JSON_CODES = ("not_json", "not_utf8", "too_deep", "empty_body")


def judge_body(how, data, line, seen):
    code = line.split("\t")[0]
    if not data:
        return code == "empty_body"
    try:
        data.decode()
    except UnicodeDecodeError:
        return code == "not_utf8"
    if depth(data) > DEPTH["body"]:
        seen["depth"] += 1
        return code == "too_deep"
    notes = set()
    try:
        value = parse(data, notes)
    except ValueError:
        # Both see what stands first: a name twice before the place that is no JSON.
        return code in ("not_json", "duplicate_field", "unknown_field", "out_of_range")
    notes -= {"scalar", "large integer"}
    for note in notes:
        seen[note] += 1
    if notes:
        wanted = {"duplicate": "duplicate_field", "surrogate": "not_json", "nul in a name": "unknown_field", "too large": "out_of_range"}
        # OpenAI's routes ignore what they do not know, whatever its name holds.
        return code in [wanted[note] for note in notes] or (how == OPENAI and "nul in a name" in notes and code not in JSON_CODES)
    try:
        expected = asked(how, value)
    except Refused:
        return code not in ("ok", *JSON_CODES)
    return expected is None or line == expected


def test_json_is_what_python_reads():
    draw = random.Random(SEED)
    texts = [make(draw) for _ in range(TEXTS)]
    records = b"".join(struct.pack("<IB", len(data), how) + data for how, data in texts)
    done = subprocess.run([driver("json_driver")], input=records, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.decode().splitlines()
    assert len(lines) == len(texts)
    seen, accepted, wrong = collections.Counter(), collections.Counter(), []
    for (how, data), line in zip(texts, lines, strict=True):
        accepted[chr(how) if how > 20 else how] += line.startswith("ok")
        if not (judge_file if how in (FILE, PARSE) else judge_body)(how, data, line, seen):
            wrong.append((how, data, line))
    print(f"{TEXTS} texts, accepted {dict(accepted)}, refused by us alone {dict(seen)}")
    assert not wrong, f"{len(wrong)}, the first: {wrong[:5]}"
    assert set(seen) == set(DIFFERENCES)
    assert min(accepted.values()) > TEXTS // 100  # the changes leave enough good ones to mean something
