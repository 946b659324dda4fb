"""orthrus train, eval, calibrate, merge-heads and inspect as a data scientist meets them: results that are
usable or not written, data as people have it."""
import csv
import fcntl
import functools
import json
import os
import pathlib
import pty
import random
import re
import signal
import struct
import subprocess
import termios
import time

import pytest
from conftest import kill_until_done

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("ORTHRUS_BIN", str(ROOT / "build/orthrus"))
TINY = ROOT / "tests/data/golden/tiny-bert"
KILLS = int(os.environ.get("ORTHRUS_KILLS", "200" if os.environ.get("ORTHRUS_FULL") == "1" else "6"))
WORDS = {"sport": "goal match team player win league", "art": "paint canvas museum sculpture color line",
         "tech": "chip code network data server cache"}
FROZEN = ("--freeze", "backbone", "--embedding-cache", "off")


def run(command, *args, **options):
    options.setdefault("timeout", 120)
    model = [] if command in ("inspect", "merge-heads", "man", "completion") else ["--model", str(TINY)]
    return subprocess.run([BIN, command, *model, *map(str, args)], capture_output=True, **options)


def good(command, *args, **options):
    done = run(command, *args, **options)
    assert done.returncode == 0, done.stderr.decode()
    return done


def failed(status, command, *args, **options):
    done = run(command, *args, **options)
    text = done.stderr.decode()
    assert done.returncode == status, (done.returncode, text)
    return text.splitlines()[-1]


def header(path):
    raw = pathlib.Path(path).read_bytes()
    return json.loads(raw[8:8 + struct.unpack("<Q", raw[:8])[0]])


def rows(n=240, seed=1):
    draw = random.Random(seed)
    out = []
    for i in range(n):
        topic = draw.choice(list(WORDS))
        tags = [w for w in WORDS if w == topic or draw.random() < 0.3]
        out.append({"text": f"{' '.join(draw.choices(WORDS[topic].split(), k=5))} {i}", "topic": topic, "tags": tags,
                    "stars": round(draw.random(), 3), "doc": i // 4})
    return out


def jsonl(path, data):
    path.write_text("".join(json.dumps(row) + "\n" for row in data))
    return path


@pytest.fixture
def data(tmp_path):
    return jsonl(tmp_path / "data.jsonl", rows())


def train(data, out, *args, **options):
    return run("train", "--data", data, "--output", out, "--head", "topic", *FROZEN, *args, **options)


def test_any_heads_from_any_format_serve(tmp_path, data, start):
    heads = ("--head", "topic:dense=8,gelu", "--head", "tags:sigmoid", "--head", "stars:score")
    settings = (*FROZEN, *heads, "--epochs", "3", "--lr", "0.01", "--batch-size", "16", "--eval-split", "0.2")
    good("train", "--data", data, "--output", tmp_path / "a", *settings)
    table = tmp_path / "data.csv"
    with open(table, "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "body", "subject", "tags", "stars"])
        for i, row in enumerate(rows()):
            out.writerow([i, row["text"], row["topic"], "|".join(row["tags"]), row["stars"]])
    good("train", "--data", table, "--output", tmp_path / "b", *settings, "--text-column", "body",
         "--label-column", "topic=subject")
    a, b = header(tmp_path / "a/heads.safetensors"), header(tmp_path / "b/heads.safetensors")
    lineage = json.loads(a["__metadata__"].pop("lineage"))
    b["__metadata__"].pop("lineage")
    assert a == b and (tmp_path / "a/heads.safetensors").read_bytes()[-400:] == (tmp_path / "b/heads.safetensors").read_bytes()[-400:]
    assert a["__metadata__"]["topic.labels"] == '["art","sport","tech"]'
    assert a["__metadata__"]["tags.kind"] == "sigmoid" and a["__metadata__"]["stars.kind"] == "score"
    assert float(a["__metadata__"]["topic.temperature"]) > 0
    assert lineage["epoch"] == 3 and lineage["metrics"]["topic"]["labelled"] == 48
    server = start("--heads", str(tmp_path / "a/heads.safetensors"))
    assert {h["name"] for h in server.get("/heads").json()} == {"topic", "tags", "stars"}
    done = good("predict", "--heads", tmp_path / "a/heads.safetensors", input=b"goal match\n")
    assert {"topic", "tags", "stars"} <= set(json.loads(done.stdout))


@pytest.mark.parametrize("rate", ["1e3", "1000"])
def test_a_run_that_diverges_leaves_nothing(tmp_path, data, rate):
    text = failed(1, "train", "--data", data, "--output", tmp_path / "out", "--head", "topic", *FROZEN, "--lr", rate)
    assert "diverged" in text and "--lr" in text
    assert not (tmp_path / "out/heads.safetensors").exists()
    assert "nan" not in (tmp_path / "out/train.jsonl").read_text().lower()
    for line in (tmp_path / "out/train.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(word))


def test_divergence_keeps_the_last_good_epoch(tmp_path, data):
    out = tmp_path / "out"
    assert train(data, out, "--epochs", "2", "--batch-size", "16", "--lr", "1e-3").returncode == 0
    before = (out / "heads.safetensors").read_bytes()
    text = failed(1, "train", "--data", data, "--output", out, "--head", "topic", *FROZEN, "--overwrite", "--lr", "1000")
    assert "diverged" in text and (out / "heads.safetensors").read_bytes() == before


def test_an_evaluation_that_nothing_can_be_judged_by(tmp_path, data):
    other = jsonl(tmp_path / "eval.jsonl", [{"text": "x", "stars": 1}])
    for flags in (("--patience", "1"), ("--keep", "best")):
        text = failed(1, "train", "--data", data, "--output", tmp_path / "out", "--head", "topic", *FROZEN,
                      "--eval-data", other, *flags)
        assert "eval.jsonl" in text and flags[0] in text


def test_a_frozen_head_without_values_is_left_out(tmp_path, data):
    done = train(data, tmp_path / "out", "--head", "tags:sigmoid", "--freeze", "tags", "--epochs", "1")
    assert done.returncode == 0 and b"tags is frozen" in done.stderr
    assert not any(name.startswith("tags") for name in header(tmp_path / "out/heads.safetensors"))
    assert "--freeze" in failed(2, "train", "--data", data, "--output", tmp_path / "no", "--freeze", "all")
    assert not (tmp_path / "no").exists()


def test_whole_numbers_that_could_be_two_things(tmp_path):
    stars = jsonl(tmp_path / "stars.jsonl", [{"text": f"t{i}", "stars": 1 + i % 5} for i in range(20)])
    flags = ("train", "--data", stars, "--output", tmp_path / "out", *FROZEN, "--head", "stars")
    assert "stars.jsonl:" in failed(1, *flags)
    assert "names" in failed(1, *flags, "--labels", "stars=1,2,3,4,5")
    jsonl(stars, [{"text": f"t{i}", "stars": str(1 + i % 5)} for i in range(20)])
    good(*flags, "--epochs", "1")
    assert header(tmp_path / "out/heads.safetensors")["__metadata__"]["stars.labels"] == '["1","2","3","4","5"]'


def test_another_runs_folder_is_not_overwritten_unasked(tmp_path, data):
    out = tmp_path / "out"
    assert train(data, out, "--epochs", "1").returncode == 0
    assert "--overwrite" in failed(1, "train", "--data", data, "--output", out, "--head", "topic", *FROZEN)
    assert train(data, out, "--epochs", "1", "--overwrite").returncode == 0
    lock = os.open(out, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert "another run" in failed(1, "train", "--data", data, "--output", out, "--head", "topic", *FROZEN, "--overwrite")
    os.close(lock)


def test_labelled_texts_are_never_written_over(tmp_path, data):
    heads, wanted, out = TINY / "heads.safetensors", data.read_bytes(), tmp_path / "run"
    out.mkdir()
    for name in ("train.jsonl", "report.json"):  # what a run writes bears these names
        mine = out / name
        mine.write_bytes(wanted)
        for flags in (("--data", mine), ("--data", data, "--eval-data", mine)):
            for more in ((), ("--overwrite",)):
                assert name in failed(2, "train", *flags, "--output", out, "--head", "topic", *FROZEN, *more)
        assert mine.read_bytes() == wanted
        mine.unlink()
    # calibrate: neither result takes the place of the texts, nor one of the other.
    labelled = jsonl(tmp_path / "labelled.jsonl", [{"text": f"{w} {i}", "sentiment": w} for i in range(4)
                                                  for w in ("Positive", "Negative", "Neutral")])
    wanted = labelled.read_bytes()
    (tmp_path / "link").symlink_to(labelled)
    given = ("calibrate", "--heads", heads, "--data", labelled)
    for name in (labelled, tmp_path / "link"):
        assert "--output" in failed(2, *given, "-o", name)
        assert "--svg" in failed(2, *given, "--svg", name)
    assert "--svg" in failed(2, *given, "-o", tmp_path / "c.safetensors", "--svg", tmp_path / "c.safetensors")
    assert labelled.read_bytes() == wanted and not (tmp_path / "c.safetensors").exists()


def test_a_device_or_pipe_is_not_replaced(tmp_path):
    heads, pipe = TINY / "heads.safetensors", tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "no regular file" in failed(1, "merge-heads", heads, "-o", pipe)
    assert pipe.is_fifo()
    terminal, other = pty.openpty()  # a character device that may be lost
    name = os.ttyname(other)
    link = tmp_path / "null"
    link.symlink_to(name)
    good("merge-heads", heads, "-o", link)
    assert link.is_symlink() and link.is_char_device()
    os.close(terminal)
    os.close(other)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_resume_goes_on_to_the_same_bits(tmp_path, data, number):
    # A deep run: its epochs take long enough to be stopped within one.
    flags = ["--data", data, "--head", "topic", "--epochs", "6", "--eval-split", "0.1", "--batch-size", "2"]
    good("train", "--output", tmp_path / "whole", *flags)
    out = tmp_path / "parts"
    stopped = 0
    for attempt in range(20):
        process = subprocess.Popen([BIN, "train", "--model", str(TINY), "--output", str(out), *map(str, flags),
                                    *(["--resume"] if stopped else [])], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 30
        while process.poll() is None and not (out / "train.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.1 + 0.05 * attempt)
        if stopped < 3:
            process.send_signal(number)
        _, error = process.communicate(timeout=120)
        if process.returncode == 0:
            break
        assert process.returncode == 1 and b"--resume" in error, error
        stopped += 1
    assert stopped >= 1
    for name in ("heads.safetensors", "model.safetensors", "train.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_head_that_nothing_teaches_is_not_written(tmp_path, data):
    """Random numbers, a PUT would put them in service."""
    out = tmp_path / "out"
    two = ("train", "--data", data, "--output", out, "--head", "topic", "--head", "tags:sigmoid", "--epochs", "1", *FROZEN)
    done = good(*two, "--loss-weights", "tags=0")
    assert b"no such head" in done.stderr and "tags.weight" not in header(out / "heads.safetensors")
    weightless = jsonl(tmp_path / "zero.jsonl", [{**row, "weight": 0} for row in rows(20)])
    assert "no line" in failed(1, "train", "--data", weightless, "--output", tmp_path / "zero", "--head", "topic", *FROZEN)
    for flags in (("--lr", "0"), ("--class-weights", "topic=0,0,0")):
        assert flags[0] in failed(2, *two, "--overwrite", *flags)


def test_a_table_says_once_what_a_column_is(tmp_path):
    table = tmp_path / "data.csv"
    for text, wanted in (("text,topic,topic\na,x,y\nb,y,x\n", 'two columns "topic"'), ("", "is empty")):
        table.write_text(text)
        assert wanted in failed(1, "train", "--data", table, "--output", tmp_path / "out", "--head", "topic", *FROZEN)


def test_a_result_goes_to_a_file_and_errors_name_the_command(tmp_path, data):
    out = tmp_path / "out"
    good("train", "--data", data, "--output", out, "--head", "topic", "--epochs", "1", *FROZEN)
    heads = out / "heads.safetensors"
    assert "--output" in failed(2, "calibrate", "--heads", heads, "--data", data, "-o", "-", cwd=tmp_path)
    assert "--output" in failed(2, "merge-heads", heads, "-o", "-", cwd=tmp_path)
    assert not (tmp_path / "-").exists()
    with open("/dev/full", "wb") as full:
        done = subprocess.run([BIN, "inspect", str(heads)], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1 and done.stderr.startswith(b"orthrus inspect: ")
    # A disk without room: the error is told, and nothing half written stays.
    done = subprocess.run(["bash", "-c", 'ulimit -f 4; exec "$@"', "x", BIN, "train", "--model", str(TINY), "--data", str(data),
                           "--output", str(tmp_path / "full"), "--head", "topic"], capture_output=True)
    assert done.returncode == 1 and b"large" in done.stderr, done
    assert not list((tmp_path / "full").glob("*.tmp-*"))
    assert "port" in subprocess.run([BIN, "health", "127.0.0.1:99999"], capture_output=True, text=True).stderr


def resume(out, *flags):
    """The command that goes on from what is there."""
    how = "--resume" if (out / "checkpoint.safetensors").exists() else "--overwrite"
    return [BIN, "train", "--model", str(TINY), "--output", str(out), *map(str, flags), how]


def test_resume_after_kill_9_gives_the_same_bytes(tmp_path, data):
    draw = random.Random(os.environ.get("ORTHRUS_SEED", "7"))
    common = ["--data", data, "--head", "topic", "--eval-split", "0.1", "--batch-size", "8"]
    survived = 0
    while survived < KILLS:
        for name, flags in (("deep", ["--epochs", "10"]), ("heads", ["--epochs", "100", *FROZEN])):
            whole, out = tmp_path / f"{name}-whole", tmp_path / f"{name}-{survived}"
            if not whole.exists():
                good("train", "--output", whole, *common, *flags)
            survived += kill_until_done(functools.partial(resume, out, *common, *flags), draw, 0.5, 6)
            print(f"survived {survived} kills")
            for path in whole.iterdir():
                # Times stand in the reports and in the checkpoint.
                if path.is_file() and not path.name.startswith(("report", "checkpoint")):
                    assert (out / path.name).read_bytes() == path.read_bytes(), (name, path.name)
            assert not [p.name for p in out.iterdir() if p.name not in {q.name for q in whole.iterdir()}]


def test_no_checkpoint_writes_none(tmp_path, data):
    assert train(data, tmp_path / "out", "--epochs", "1", "--no-checkpoint").returncode == 0
    assert not (tmp_path / "out/checkpoint.safetensors").exists()


def test_a_second_trial_takes_the_vectors_from_the_cache(tmp_path, data):
    flags = ("train", "--data", data, "--head", "topic", "--freeze", "backbone", "--epochs", "1",
             "--embedding-cache", tmp_path / "cache")
    first = good(*flags, "--output", tmp_path / "a")
    second = good(*flags, "--output", tmp_path / "b")
    assert b"cache" not in first.stderr and b"come from the cache" in second.stderr
    assert (tmp_path / "a/heads.safetensors").read_bytes() == (tmp_path / "b/heads.safetensors").read_bytes()
    kept = next((tmp_path / "cache").iterdir())
    whole = kept.read_bytes()
    at = len(whole) * 2 // 3
    for name, damaged in (("c", whole[:-4]), ("d", whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])):
        kept.write_bytes(damaged)
        assert b"come from the cache" not in good(*flags, "--output", tmp_path / name).stderr
        assert kept.read_bytes() == whole


def test_accumulated_batches_are_one_large_batch(tmp_path, data):
    flags = ("train", "--data", data, "--head", "topic", "--head", "tags:sigmoid", *FROZEN, "--epochs", "2", "--lr", "1e-2")
    losses = []
    for name, split in (("a", ("--batch-size", "12")), ("b", ("--batch-size", "4", "--grad-accumulation", "3"))):
        good(*flags, "--output", tmp_path / name, *split)
        losses.append([json.loads(line)["loss"] for line in (tmp_path / name / "train.jsonl").read_text().splitlines()])
    assert len(losses[0]) == 40 and losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_groups_and_classes_are_kept_in_splits(tmp_path, data):
    flags = ("train", "--data", data, "--head", "topic", *FROZEN, "--epochs", "1", "--eval-split", "0.25")
    done = good(*flags, "--output", tmp_path / "a", "--stratify", "topic")
    assert b"training data too" not in done.stderr
    report = json.loads((tmp_path / "a/report.json").read_text())
    total = {w: sum(r["topic"] == w for r in rows()) for w in WORDS}
    for row in report["eval"]["topic"]["classes"]:
        assert abs(row["support"] - total[row["label"]] / 4) < 1
    # Every text twice, in one group: never on both sides.
    jsonl(data, [row for r in rows() for row in (r, r)])
    done = good(*flags, "--output", tmp_path / "b")
    assert b"evaluation texts are in the training data too" in done.stderr
    done = good(*flags, "--output", tmp_path / "c", "--split-by", "doc")
    assert b"training data too" not in done.stderr


def test_a_folder_with_another_limit_is_told(tmp_path, data):
    flags = ("--data", data, "--head", "topic", "--epochs", "1", "--batch-size", "64", "--no-checkpoint")
    for model, more, read, says in ((ROOT / "tests/data/models/seq-pairs", (), 512, 128), (TINY, ("--max-length", "20"), 20, 64),
                                    (TINY, (), 64, 64)):
        out = tmp_path / f"{model.name}{read}"
        done = good("train", "--model", model, *flags, *more, "--output", out)
        assert json.loads(good("inspect", "--json", out).stdout)["max_length"] == says
        assert (f"--max-length {read} serves it" in done.stderr.decode()) == (read != says), done.stderr


def test_calibrate_and_merge_heads(tmp_path, data):
    assert train(data, tmp_path / "out", "--epochs", "4", "--lr", "0.05", "--batch-size", "16").returncode == 0
    heads = tmp_path / "out/heads.safetensors"
    done = good("calibrate", "--heads", heads, "--data", data, "-o", tmp_path / "c.safetensors")
    assert b"ECE" in done.stdout and b"Brier" in done.stdout
    assert "<svg" in (tmp_path / "c.safetensors.svg").read_text()
    assert float(header(tmp_path / "c.safetensors")["__metadata__"]["topic.temperature"]) > 0
    losses = [json.loads(good("eval", "--heads", path, "--data", data, "--json").stdout)["topic"]["loss"]
              for path in (heads, tmp_path / "c.safetensors")]
    assert losses[1] <= losses[0] + 1e-6
    good("merge-heads", heads, TINY / "heads.safetensors", "-o", tmp_path / "m.safetensors")
    merged = json.loads(good("inspect", "--json", tmp_path / "m.safetensors").stdout)
    assert [h["name"] for h in merged["heads"]] == ["classifier", "sentiment", "topic"]
    # The set is meant for what its files are meant for, whichever of them says so, and serves.
    meant = {key: header(heads)["__metadata__"][key] for key in ("encoder.sha256", "encoder.tokenizer", "pooling")}
    for k, files in enumerate(((heads, TINY / "heads.safetensors"), (TINY / "heads.safetensors", heads), (heads, heads))):
        good("merge-heads", *files, "-o", tmp_path / f"m{k}.safetensors")
        written = header(tmp_path / f"m{k}.safetensors")["__metadata__"]
        assert {key: written[key] for key in meant} == meant
        good("predict", "--heads", tmp_path / f"m{k}.safetensors", input=b"a text\n")
    assert "--output" in failed(2, "merge-heads", heads)
    changed = bytearray(heads.read_bytes())
    at = changed.index(b'"encoder.sha256":"') + len(b'"encoder.sha256":"')
    changed[at:at + 4] = b"0000" if changed[at:at + 4] != b"0000" else b"1111"
    (tmp_path / "other.safetensors").write_bytes(changed)
    assert "encoder.sha256" in failed(1, "merge-heads", heads, tmp_path / "other.safetensors", "-o", tmp_path / "x")


@pytest.mark.parametrize("folder", ["seq-pairs", "seq-multilabel", "seq-score", "seq-roberta", "seq-distilbert"])
def test_predict_asks_a_folders_own_head(folder, start):
    model = ROOT / "tests/data/models" / folder
    texts = ["hello world", "", "one two three four five six seven eight nine ten " * 9]
    done = subprocess.run([BIN, "predict", "--model", model, "--precision", "fp32"], capture_output=True,
                          input="\n".join(texts).encode())
    assert done.returncode == 0, done.stderr
    said = [json.loads(line)["classifier"] for line in done.stdout.splitlines()]
    served = start("--precision", "fp32", model=model).post("/analyze", {"inputs": texts, "tasks": ["classifier"]}).json()
    for mine, theirs in zip(said, served["results"], strict=True):
        theirs = theirs["named"]["classifier"]
        assert mine["label"] == theirs["label"] and mine["scores"] == pytest.approx(theirs["scores"], abs=1e-6)


def test_what_a_command_cannot_ask_is_told(tmp_path, data):
    models = ROOT / "tests/data/models"

    def last_line(*args):
        done = subprocess.run([BIN, *map(str, args)], capture_output=True, text=True, input="a\n")
        assert done.returncode == 1 and done.stdout == "", done
        return done.stderr.splitlines()[-1]

    assert "tagger labels tokens" in last_line("predict", "--model", models / "tokens-six")
    for command in ("eval", "calibrate"):
        assert "classifier reads the first token" in last_line(command, "--model", models / "seq-pairs", "--data", data)
    # Beside a head that can be asked it is a line, and the rest is answered.
    meta = {"topic.labels": '["art","sport","tech"]', "names.labels": '["O","PER"]', "names.kind": "tokens"}
    size, parts = 0, {}
    for name, shape in (("topic.weight", [3, 32]), ("topic.bias", [3]), ("names.weight", [2, 32]), ("names.bias", [2])):
        end = size + 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        parts[name], size = {"dtype": "F32", "shape": shape, "data_offsets": [size, end]}, end
    text = json.dumps({"__metadata__": meta, **parts}).encode()
    (tmp_path / "h.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    done = good("predict", "--heads", tmp_path / "h.safetensors", input=b"a\n")
    assert b"names labels tokens and is left out" in done.stderr and list(json.loads(done.stdout)) == ["text", "topic"]
    assert b"names" in good("eval", "--heads", tmp_path / "h.safetensors", "--data", data).stderr


def test_inspect_prints_no_control_characters(tmp_path):
    text = json.dumps({"__metadata__": {"note": "\u001b[31mred\u009b\r\n", "classifier.labels": '["a","b"]'},
                       "classifier.weight": {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]},
                       "classifier.bias": {"dtype": "F32", "shape": [2], "data_offsets": [32, 40]}},
                      ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    path = tmp_path / "h.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(40))
    shown = good("inspect", path).stdout.decode()
    assert not any(ord(c) < 32 and c != "\n" or 127 <= ord(c) < 160 for c in shown)
    assert json.loads(good("inspect", "--json", path).stdout)["metadata"]["note"] == "\u001b[31mred\u009b\r\n"


@pytest.mark.parametrize("key, value", [("pooling", "median"), ("encoder.sha256", "zz"), ("encoder.tokenizer", "0" * 63)])
def test_inspect_refuses_what_serve_refuses(tmp_path, key, value):
    text = json.dumps({"__metadata__": {key: value}, "sentiment.weight": {"dtype": "F32", "shape": [3, 32], "data_offsets": [0, 384]},
                       "sentiment.bias": {"dtype": "F32", "shape": [3], "data_offsets": [384, 396]}}).encode()
    path = tmp_path / "h.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(396))
    assert key in failed(1, "inspect", path)
    assert key in failed(1, "merge-heads", path, "-o", tmp_path / "x")
    label = ROOT / "tools/label-heads"
    before = path.read_bytes()
    done = subprocess.run([label, path, "--set", "note=x"], capture_output=True, text=True, env={**os.environ, "ORTHRUS_BIN": BIN})
    assert done.returncode == 1 and key in done.stderr and path.read_bytes() == before, done


def test_mistyped_words_are_answered_with_the_likely_one():
    done = subprocess.run([BIN, "trian"], capture_output=True)
    assert done.returncode == 2 and b"did you mean train" in done.stderr
    assert "did you mean --epochs" in failed(2, "train", "--epoch", "3")
    assert "did you mean --max-wait-us" in failed(2, "serve", "--max-wait", "3")
    assert "did you mean --max-wait-us" in failed(2, "serve", "--max-wait=3")
    assert "did you mean" not in failed(2, "serve", "--waiting", "3")


@pytest.mark.parametrize("columns", [80, 30])
def test_the_bar_fits_the_terminal(tmp_path, columns):
    source = tmp_path / "in.txt"
    source.write_text("some words\n" * 60000)
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen([BIN, "embed", "--model", str(TINY), "--normalize", "-i", str(source), "-o", "/dev/null"],
                               stderr=follower, env={**os.environ, "TERM": "xterm"})
    os.close(follower)
    seen = b""
    try:
        while chunk := os.read(leader, 65536):
            seen += chunk
    except OSError:
        pass
    assert process.wait(60) == 0
    draws = [part for part in seen.decode().replace("\r\n", "").split("\r\x1b[K") if part]
    assert draws and all(len(part) < columns for part in draws)
    os.close(leader)
