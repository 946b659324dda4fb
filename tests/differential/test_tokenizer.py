"""Our tokenizer against Hugging Face's fast BertTokenizer: ids and offsets of every text equal.

By default a slice of a few seconds; ORTHRUS_FULL=1 takes all 1,112,064 scalars in three contexts
and 100,000 random strings. ORTHRUS_BUILD_DIR names the folder that holds tokenizer_driver.
"""

import array
import os
import pathlib
import random
import struct
import subprocess

import pytest
from tokenizers import BertWordPieceTokenizer

VOCAB = pathlib.Path(__file__).parents[1] / "data" / "bert-vocab.txt"
FULL = os.environ.get("ORTHRUS_FULL") == "1"
CHUNK = 20_000
SEED = 20_240_611

# Blocks where scalars do something: the default slice takes all of them.
BUSY = [
    (0x0000, 0x0600),  # Latin, Greek, Cyrillic, combining marks, Hebrew
    (0x0F00, 0x1000),  # Tibetan: marks that decompose
    (0x1D00, 0x2100),  # phonetic, Latin and Greek extended, punctuation
    (0x2B80, 0x3100),  # Glagolitic, Coptic, supplemental and CJK punctuation
    (0xA640, 0xA800),  # Cyrillic and Latin extended
    (0xF8F0, 0x10000), # end of private use, compatibility ideographs, specials
    (0x1D100, 0x1D200), # musical symbols: nonstarters that stay
    (0x2B700, 0x2B940), # where the CJK range has a hole
]
CONTEXTS = {"alone": "%s", "between letters": "a%sb", "after a mark": "e\u0301%s\u0323z"}


def driver():
    path = pathlib.Path(os.environ.get("ORTHRUS_BUILD_DIR", "build"))
    for candidate in (path / "tokenizer_driver", path / "tests" / "tokenizer_driver"):
        if candidate.is_file():
            return candidate
    pytest.fail(f"no tokenizer_driver in {path}: set ORTHRUS_BUILD_DIR")


def ours(texts, flags=()):
    records = bytearray()
    for text in texts:
        encoded = text.encode()
        records += struct.pack("=I", len(encoded)) + encoded
    done = subprocess.run([driver(), VOCAB, *flags], input=bytes(records), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    numbers = array.array("i", done.stdout)
    at = 0
    while at < len(numbers):
        n = numbers[at]
        at += 1
        ids, starts, stops = (numbers[at + i * n : at + (i + 1) * n].tolist() for i in range(3))
        at += 3 * n
        yield ids, list(zip(starts, stops))


def reference(**options):
    """The wheel's tokenizer, and the driver's flags for the same options."""
    flags = []
    if not options.get("lowercase", True):
        flags.append("no-lower")
    if not options.get("strip_accents", options.get("lowercase", True)):
        flags.append("no-strip")
    if not options.get("handle_chinese_chars", True):
        flags.append("no-cjk")
    return BertWordPieceTokenizer(str(VOCAB), **options), flags


def compare(texts, **options):
    tokenizer, flags = reference(**options)
    mismatches = []
    count = 0
    for first in range(0, len(texts), CHUNK):
        chunk = texts[first : first + CHUNK]
        theirs = tokenizer.encode_batch(chunk)
        for text, mine, their in zip(chunk, ours(chunk, flags), theirs, strict=True):
            count += 1
            if mine != (their.ids, their.offsets):
                mismatches.append((ascii(text), mine, (their.ids, their.offsets)))
    assert count == len(texts)
    assert not mismatches, f"{len(mismatches)} of {count} differ; the first: {mismatches[:3]}"


def scalars():
    busy = set()
    for first, last in BUSY:
        busy.update(range(first, last))
    return [
        chr(c)
        for c in range(0x110000)
        if not 0xD800 <= c < 0xE000 and (FULL or c % 37 == 0 or c in busy)
    ]


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS.keys())
def test_every_scalar(context):
    compare([context % c for c in scalars()])


SPECIALS = ["[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]", "[cls]", "[MASK", "[[SEP]]", "##ing"]
SPACES = list(" \t\n\r\v\f\0\x1c\x7f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000\ufeff\u200b\xad\ufffd")
WORDS = """the of and Embedding TOKENIZATION unaffable naïve Ångström İstanbul ΌΔΟΣ straße Ελλάδα
московский שָׁלוֹם العَرَبِيَّة हिन्दी தமிழ் ไทย한국어 日本語 東京 ガギグ ﬁnance Ⅷ ǅ ẞ don't e-mail 3.14 #1 c++""".split()
RANGES = [
    (0x20, 0x7F), (0xA0, 0x250), (0x250, 0x370), (0x370, 0x530), (0x530, 0x600), (0x600, 0x860),
    (0x8A0, 0xE00), (0xE00, 0x1100), (0x1100, 0x1200), (0x1200, 0x1AB0), (0x1AB0, 0x1B00),
    (0x1B00, 0x1D00), (0x1D00, 0x1E00), (0x1E00, 0x2000), (0x2000, 0x2100), (0x2100, 0x2C00),
    (0x2C00, 0x2E80), (0x3000, 0x3100), (0x4E00, 0x4F00), (0xA000, 0xAC00), (0xAC00, 0xD7B0),
    (0xF900, 0xFB00), (0xFB00, 0x10000), (0x10000, 0x12000), (0x1D100, 0x1D200),
    (0x1E000, 0x1E030), (0x1E900, 0x1E960), (0x1F300, 0x1FB00), (0x20000, 0x20100),
    (0x2F800, 0x2FA20), (0xE0000, 0xE01F0),
]  # fmt: skip
# Combining classes of all sorts, among them those that the reference keeps; and what lies between.
MARKS = [0x0300, 0x0301, 0x0315, 0x0316, 0x0323, 0x0327, 0x0328, 0x0334, 0x0338, 0x0345, 0x034F,
         0x05B0, 0x05BC, 0x064B, 0x0651, 0x08D4, 0x08E1, 0x094D, 0x0F71, 0x0F72, 0x0F73, 0x0F81,
         0x1B44, 0x1DFB, 0x302A, 0x302E, 0x302F, 0x3099, 0xA953, 0x1D165, 0x1D166, 0x1D16D,
         0x1D16E, 0x1D172, 0x1D17B, 0x1D15E, 0x1D160, 0x1D164, 0x1D1C0, 0x1E000, 0x1E944,
         0x0344, 0x0000, 0x00AD, 0x200D, 0x09CB, 0x0DDD, 0x1F82]  # fmt: skip


def any_scalar(rng):
    first, last = rng.choice(RANGES)
    return chr(rng.randrange(first, last))


def piece(rng):
    kind = rng.randrange(10)
    if kind == 0:
        return rng.choice(SPECIALS)
    if kind == 1:
        return rng.choice(SPACES) * rng.randrange(1, 3)
    if kind in (2, 3):
        word = rng.choice(WORDS)
        return rng.choice([word, word.upper(), word.lower(), word.title()]) + " "
    if kind == 4:
        first, last = rng.choice(RANGES)
        return "".join(chr(rng.randrange(first, last)) for _ in range(rng.randrange(1, 9)))
    if kind == 5:
        return "".join(chr(rng.choice(MARKS)) for _ in range(rng.randrange(1, 12)))
    if kind == 6:
        return any_scalar(rng) + "".join(chr(rng.choice(MARKS)) for _ in range(rng.randrange(4)))
    if kind == 7:
        return rng.choice(["👩‍👩‍👧", "🏳️‍🌈", "👍🏽", "🇩🇪", "☃️", "1️⃣"])
    if kind == 8 and rng.random() < 0.2:
        # Around the longest word that is looked up.
        letters = rng.choice(["a", "unaffable", "é", "한", "가", "\u1d165", "x\U0001d165", "İ"])
        return (letters * 120)[: rng.randrange(95, 106)] + chr(rng.choice(MARKS))
    return "".join(chr(rng.randrange(0x20, 0x7F)) for _ in range(rng.randrange(1, 8)))


def random_text(rng):
    text = "".join(piece(rng) for _ in range(rng.randrange(1, 12)))
    return "".join(c for c in text if not 0xD800 <= ord(c) < 0xE000)


def random_texts(count, seed):
    rng = random.Random(seed)
    return [random_text(rng) for _ in range(count)]


def test_random_texts():
    compare(random_texts(100_000 if FULL else 3_000, SEED))


@pytest.mark.parametrize(
    "options",
    [
        {"lowercase": False},
        {"lowercase": False, "strip_accents": True},
        {"lowercase": True, "strip_accents": False},
        {"handle_chinese_chars": False},
    ],
    ids=lambda options: ",".join(f"{k}={v}" for k, v in options.items()),
)
def test_options(options):
    compare(random_texts(20_000 if FULL else 1_000, SEED + 1), **options)
    compare(["a%sb" % c for c in scalars()], **options)


def long_runs():
    """Rows of combining marks far longer than a word, in ascending, descending and mixed order."""
    rng = random.Random(SEED + 2)
    kept = [0x302E, 0x1D165, 0x1D16D, 0x1DFB, 0x1E000, 0x08D4]
    for size in (5, 90, 99, 100, 101, 102, 300, 2000):
        for scalars_of_run in (kept, MARKS, [0x300, 0x1D165], [0x1D165, 0x1D16D]):
            marks = [chr(rng.choice(scalars_of_run)) for _ in range(size)]
            for start in ("", "x", " ", "é", "\U0001d160", "[SEP]", "中", "!"):
                yield start + "".join(marks) + rng.choice(["", "y", " z", "\U0001d15e"])


def test_long_runs_of_marks():
    compare(list(long_runs()))
