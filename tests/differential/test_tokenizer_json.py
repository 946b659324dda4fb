"""Any tokenizer.json against the reference's Tokenizer.from_file: ids, offsets, types, pairs and decoded texts equal.

By default 10,000 random files with 20 texts each, and some scalars; ORTHRUS_FULL=1 takes 100,000 files and all 1,112,064 scalars
in three contexts. ORTHRUS_SEED moves the seeds, ORTHRUS_CASES says how many files.
ORTHRUS_BUILD_DIR names the folder that holds tokenizer_json_driver.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import pickle
import resource
import struct
import subprocess
import tempfile

import pytest
import tokenizer_cases
from tokenizers import Tokenizer

FULL = os.environ.get("ORTHRUS_FULL") == "1"
COUNT = int(os.environ.get("ORTHRUS_CASES", 100_000 if FULL else 10_000))
SEED = int(os.environ.get("ORTHRUS_SEED", 20_261_127))
TEXTS = 20
CHUNK = 250
PAIR_LENGTH = 12
JUDGE_CPU_S = 120  # a chunk takes some 10 s


def driver():
    path = pathlib.Path(os.environ.get("ORTHRUS_BUILD_DIR", "build"))
    for candidate in (path / "tokenizer_json_driver", path / "tests" / "tokenizer_json_driver"):
        if candidate.is_file():
            return candidate
    pytest.fail(f"no tokenizer_json_driver in {path}: set ORTHRUS_BUILD_DIR")


def packed(text):
    encoded = text.encode()
    return struct.pack("=I", len(encoded)) + encoded


class Answer:
    """What the driver wrote."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def numbers(self, n):
        self.at += 4 * n
        return list(struct.unpack_from(f"={n}i", self.data, self.at - 4 * n))

    def text(self):
        (size,) = self.numbers(1)
        self.at += size
        return self.data[self.at - size : self.at].decode()

    def case(self, texts):
        if self.numbers(1) == [1]:
            return self.text()
        rows = []
        for _ in range(texts):
            (n,) = self.numbers(1)
            ids, starts, stops, types = (self.numbers(n) for _ in range(4))
            rows.append((ids, list(zip(starts, stops)), types, self.text(), self.text()))
        (n,) = self.numbers(1)
        return rows, (self.numbers(n), self.numbers(n))


def ours(cases, folder):
    """For each (json, texts): rows and the pair's answer, or the message of a refusal."""
    records = b"".join(packed(made) + struct.pack("=I", len(texts)) + b"".join(map(packed, texts)) for made, texts in cases)
    done = subprocess.run([driver(), folder], input=records, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    answer = Answer(done.stdout)
    return [answer.case(len(texts)) for _, texts in cases]


def attempt(function, *arguments):
    """What the reference answers; None where it panics, which its own oddities make it do now and then."""
    try:
        return function(*arguments)
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return None


def theirs(made, texts):
    """The same by the reference; None where it refuses the file."""
    tokenizer = attempt(Tokenizer.from_str, made)
    if tokenizer is None:
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rows = []
    for text in texts:
        encoding = attempt(tokenizer.encode, text)
        rows.append(None if encoding is None else [
            encoding.ids, encoding.offsets, encoding.type_ids,
            attempt(lambda ids: tokenizer.decode(ids, skip_special_tokens=False), encoding.ids),
            attempt(tokenizer.decode, encoding.ids)])  # fmt: skip
    tokenizer.enable_truncation(PAIR_LENGTH)
    encoding = attempt(tokenizer.encode, texts[0], texts[1])
    return rows, None if encoding is None else (encoding.ids, encoding.type_ids)


NAMES = ("ids", "offsets", "types", "decoded", "decoded without specials")


def difference(made, texts, mine, their):
    """One sentence where they differ, or None."""
    if isinstance(mine, str) and mine.endswith(("reads as nothing", "read alike")):
        return None  # the reference panics later, or takes one of the two at random
    if isinstance(mine, str) or their is None:
        return None if isinstance(mine, str) and their is None else f"one refuses: {mine!s:.300} / {their!s:.300}\n{made}"
    for text, row, expected in zip(texts, mine[0], their[0], strict=True):
        for name, a, b in zip(NAMES, row, expected or [None] * len(NAMES)):
            if b is not None and a != b:
                return f"{name} of {ascii(text)}: {a} instead of {b}\n{made}"
    return None if their[1] in (None, mine[1]) else f"pair {ascii(texts[:2])}: {mine[1]} instead of {their[1]}\n{made}"


def judge(made, texts, mine):
    """Difference or None, refused, panics of one file."""
    their = theirs(made, texts)
    panics = sum(row is None for row in their[0]) if their else 0
    return difference(made, texts, mine, their), isinstance(mine, str), panics


def judge_apart(cases, answers):
    """judge for all, in a process of its own, begun anew behind a file that it did not survive: a few make the reference's Strip ask
    for all memory there is, which ends the process, or loop for ever. Such a file counts as a panic of all its texts."""
    verdicts = []
    while len(verdicts) < len(cases):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
            resource.setrlimit(resource.RLIMIT_CPU, (JUDGE_CPU_S, JUDGE_CPU_S))
            with os.fdopen(write, "wb") as out:
                for (made, texts), mine in list(zip(cases, answers, strict=True))[len(verdicts) :]:
                    pickle.dump(judge(made, texts, mine), out)
                    out.flush()
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as answer, contextlib.suppress(EOFError, pickle.UnpicklingError):
            while True:
                verdicts.append(pickle.load(answer))
        _, status = os.waitpid(child, 0)
        if status != 0:
            verdicts.append((None, False, TEXTS))
    assert len(verdicts) == len(cases)
    return verdicts


def run_chunk(first):
    """Differences, refusals and panics of the files from `first` on."""
    cases = [tokenizer_cases.case(f"{SEED}-{i}", TEXTS) for i in range(first, min(first + CHUNK, COUNT))]
    with tempfile.TemporaryDirectory() as folder:
        answers = ours(cases, folder)
    differences, refused, panics = zip(*judge_apart(cases, answers), strict=True)
    return [found for found in differences if found], sum(refused), sum(panics)


def test_random_files():
    """In processes of their own: the reference's panics write pages to stderr."""
    os.environ["RUST_BACKTRACE"] = "0"
    differences, refused, panics = [], 0, 0
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        for chunk in pool.map(run_chunk, range(0, COUNT, CHUNK)):
            differences += chunk[0]
            refused += chunk[1]
            panics += chunk[2]
    assert not differences, f"{len(differences)} of {COUNT} differ; the first: {differences[0]}"
    assert refused < COUNT / 10 and panics < COUNT * TEXTS / 50


# --- Folders as libraries save them -----------------------------------------------------------------------------------------

DATA = pathlib.Path(__file__).parents[1] / "data" / "tokenizers"
EXPECTED = json.loads((DATA / "expected.json").read_text(encoding="utf-8"))
SCRIPTS = """The quick brown fox jumps over the lazy dog.|Съешь ещё этих мягких французских булок, да выпей чаю.
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.|שלום עולם, מה נשמע היום?|مرحبا بالعالم، كيف حالك اليوم؟|नमस्ते दुनिया, आज आप कैसे हैं?|ওহে বিশ্ব, কেমন আছো আজ?
வணக்கம் உலகம், இன்று எப்படி இருக்கிறீர்கள்?|హలో ప్రపంచం, ఈరోజు ఎలా ఉన్నారు?|ಹಲೋ ವಿಶ್ವ, ಇಂದು ಹೇಗಿದ್ದೀರಿ?|ഹലോ ലോകം, ഇന്ന് സുഖമാണോ?|สวัสดีชาวโลก วันนี้เป็นอย่างไรบ้าง
ສະບາຍດີຊາວໂລກ|မင်္ဂလာပါ ကမ္ဘာလောက|សួស្តី​ពិភពលោក|გამარჯობა მსოფლიო, როგორ ხარ?|Բարեւ աշխարհ, ինչպե՞ս ես այսօր:|ሰላም ዓለም፣ ዛሬ እንዴት ነህ?
こんにちは世界、ｶﾞｷﾞｸﾞ。元気ですか？|안녕하세요 세계, 오늘 어때요?|你好，世界！今天怎么样？|བཀྲ་ཤིས་བདེ་ལེགས།|ආයුබෝවන් ලෝකය|Xin chào thế giới, hôm nay thế nào?
👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷 1️⃣ ☃️ ﷺ ㍿ Ⅷ ½ ﬃ ｆｕｌｌ ⓐ""".replace("\n", "|").split("|")
CONTEXTS = ["%s", "a%sb", "e\u0301%s\u0323 z"]


def compare(name, texts, folder):
    made = (DATA / name / "tokenizer.json").read_text(encoding="utf-8")
    for first in range(0, len(texts), 20_000):
        chunk = texts[first : first + 20_000]
        (mine,) = ours([(made, chunk)], folder)
        found = difference(made, chunk, mine, theirs(made, chunk))
        assert not found, found[:2000]


@pytest.mark.parametrize("name", EXPECTED)
def test_saved_folders(name, tmp_path):
    """The ids that transformers and sentence-transformers gave, and the reference's everything."""
    made = (DATA / name / "tokenizer.json").read_text(encoding="utf-8")
    texts, ids = zip(*EXPECTED[name])
    (mine,) = ours([(made, list(texts))], tmp_path)
    assert [row[0] for row in mine[0]] == list(ids)
    compare(name, [*texts, *SCRIPTS, " ".join(SCRIPTS)], tmp_path)


@pytest.mark.parametrize("name", ["unigram", "byte-level"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_every_scalar(name, context, tmp_path):
    scalars = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and (FULL or c % 211 == 0 or c < 0x600)]
    compare(name, [context % c for c in scalars], tmp_path)
