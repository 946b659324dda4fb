#!/usr/bin/env python3
"""Fetches the sources of the default heads and writes train.jsonl, eval.jsonl and test.jsonl.

usage: prepare.py OUTPUT_DIR

Sources, by their ordinary clients: the source package vaderSentiment 3.3.2 from PyPI (MIT; pip) and
Debian's packages fortunes and fortunes-min (apt-get download; nothing is installed). What each class
is made of, the thresholds and the split are told in heads/README.md. The output depends on the
sources alone: every choice is by hash, not by chance.
"""
import hashlib
import html
import io
import json
import pathlib
import re
import subprocess
import sys
import tarfile

VADER = "vaderSentiment==3.3.2"
VADER_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
DEBS = ["fortunes", "fortunes-min"]

# Mean human rating, -4 … 4: from here on a sentence is positive, to minus that negative.
SENTIMENT_THRESHOLD = 0.5
# Texts that carry a classifier label, per class: the largest sources would drown the smallest.
CLASS_MAX = 3000
WORDS_MIN, WORDS_MAX = 2, 60

REVIEWS = ["movieReviewSnippets", "amazonReviewSnippets"]
NEWS, TWEETS = "nytEditorialSnippets", "tweets"
QUOTATIONS = ["people", "wisdom", "literature", "politics", "men-women", "education", "humorists",
              "science", "art", "work", "love", "law", "sports", "paradoxum", "cookie"]
SAYINGS = ["platitudes", "fortunes"]
OTHERS = ["definitions", "songs-poems"]

ATTRIBUTION = re.compile(r"^\s*(--|—).*$", re.S | re.M)
QUESTION_MARK = re.compile(r"^\s*(Q|A|Question|Answer)\s*[:.]\s*", re.M)
SPEAKER = re.compile(r"^\s*[A-Z][\w .]{0,20}:\s+", re.M)
HEADING = re.compile(r"^FORTUNE PROVIDES QUESTIONS FOR THE GREAT ANSWERS: #\d+\n")
TERM = re.compile(r"^[^\n:]{1,60}:\s*\n")
ENUMERATION = re.compile(r"^\s*\(?\d+[.)]\s+", re.M)
HANDLE_OR_LINK = re.compile(r"@\w+|https?://\S+|\bRT\b|#")


def run(*command, cwd):
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def tidy(text):
    """One line, no overstrikes, no quotation marks around the whole."""
    text = re.sub(r".\x08", "", html.unescape(text))
    text = " ".join(text.split())
    while len(text) > 1 and text[0] in "\"'`“‘" and text[-1] in "\"'”’":
        text = text[1:-1].strip()
    return text


def fits(text):
    return WORDS_MIN <= len(text.split()) <= WORDS_MAX


def rated(folder):
    """→ (source, document, text, rating) of the human-rated sentences."""
    sdist = folder / f"{VADER.replace('==', '-')}.tar.gz"
    if not sdist.exists():
        run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", VADER,
            cwd=folder)
    raw = sdist.read_bytes()
    if hashlib.sha256(raw).hexdigest() != VADER_SHA256:
        sys.exit(f"{sdist.name}: its SHA-256 is not the expected one")
    with tarfile.open(fileobj=io.BytesIO(raw)) as outer:
        inner = outer.extractfile("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz")
        with tarfile.open(fileobj=io.BytesIO(inner.read())) as archive:
            for source in REVIEWS + [NEWS, TWEETS]:
                name = f"hutto_ICWSM_2014/{source}_GroundTruth.txt"
                for line in archive.extractfile(name).read().decode("utf-8", "replace").splitlines():
                    fields = line.split("\t", 2)
                    if len(fields) == 3:
                        # "12_3" is sentence 3 of document 12; plain ids are documents of their own.
                        yield source, fields[0].split("_")[0], fields[2], float(fields[1])


def fortunes(folder):
    """→ (file, entry) of every fortune."""
    for name in DEBS:
        if not list(folder.glob(f"{name}_*.deb")):
            run("apt-get", "download", "-q", name, cwd=folder)
        (deb,) = folder.glob(f"{name}_*.deb")
        run("dpkg-deb", "-x", deb.name, "deb", cwd=folder)
    for path in sorted((folder / "deb/usr/share/games/fortunes").iterdir()):
        if path.suffix == "":
            for entry in re.split(r"^%\n", path.read_text(encoding="utf-8", errors="replace"), flags=re.M):
                yield path.name, entry


def fortune_texts(file, entry):
    """→ (class, text) of one fortune, its give-aways stripped."""
    entry = HEADING.sub("", entry)
    if file == "riddles" or QUESTION_MARK.match(entry):
        # "A: … Q: …" puts the answer first; the order stays, the marks go.
        yield "Riddle", tidy(SPEAKER.sub("", QUESTION_MARK.sub("", ATTRIBUTION.sub("", entry))))
        return
    body = ENUMERATION.sub("", ATTRIBUTION.sub("", entry))
    if file in QUOTATIONS and ATTRIBUTION.search(entry):
        yield "Quote", tidy(body)
    elif file in SAYINGS and not ATTRIBUTION.search(entry):
        yield "Expression", tidy(body)
    elif file in OTHERS:
        yield "Other", tidy(TERM.sub("", body))


def collect(folder):
    """→ list of records {text, classifier?, sentiment?, document}, without repeated texts."""
    seen, records = set(), []

    def add(document, text, **labels):
        key = text.lower()
        if fits(text) and key not in seen:
            seen.add(key)
            records.append({"text": text, "document": document, **labels})

    for source, document, text, rating in rated(folder):
        sentiment = ("Positive" if rating >= SENTIMENT_THRESHOLD
                     else "Negative" if rating <= -SENTIMENT_THRESHOLD else "Neutral")
        kind = "Opinion" if source in REVIEWS else "News" if source == NEWS else "Other"
        if source == TWEETS:
            text = HANDLE_OR_LINK.sub(" ", text)
        add(f"{source}/{document}", tidy(text), classifier=kind, sentiment=sentiment)
    for file, entry in fortunes(folder):
        for kind, text in fortune_texts(file, entry):
            add(f"{file}/{text}", text, classifier=kind)
    return records


def rank(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def limit_classes(records):
    """Takes the classifier label from what a class has over CLASS_MAX."""
    count = {}
    for record in sorted(records, key=lambda r: rank(r["text"])):
        kind = record["classifier"]
        count[kind] = count.get(kind, 0) + 1
        if count[kind] > CLASS_MAX:
            del record["classifier"]


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    records = collect(folder)
    limit_classes(records)
    parts = {"train": [], "eval": [], "test": []}
    for record in sorted(records, key=lambda r: rank(r["text"])):
        if "classifier" in record or "sentiment" in record:
            # By document, so that no document is on both sides: 10 % test, 10 % eval.
            tenth = rank("split:" + record.pop("document")) % 10
            parts["test" if tenth == 0 else "eval" if tenth == 1 else "train"].append(record)
    for name, part in parts.items():
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in part]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        for head in ("classifier", "sentiment"):
            count = {}
            for record in part:
                if head in record:
                    count[record[head]] = count.get(record[head], 0) + 1
            print(f"{name:5} {head:10} " + ", ".join(f"{k} {v}" for k, v in sorted(count.items())))


if __name__ == "__main__":
    main()
