"""orthrus embed as a user meets it: any input and output, every format, shards, and deaths at any point."""
import functools
import hashlib
import json
import os
import pathlib
import random
import re
import resource
import socket
import struct
import subprocess
import threading
import time

import pytest
from conftest import kill_until_done

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("ORTHRUS_BIN", str(ROOT / "build/orthrus"))
TINY = ROOT / "tests/data/golden/tiny-bert"
FULL = os.environ.get("ORTHRUS_FULL") == "1"
KILLS = int(os.environ.get("ORTHRUS_KILLS", "1000" if FULL else "12"))
WIDTH = 32
NOTE = b"normalized, as /embed does"


def command(*args):
    return [BIN, "embed", "--model", str(TINY), *map(str, args)]


def embed(*args, **options):
    options.setdefault("timeout", 120)
    return subprocess.run(command(*args), capture_output=True, **options)


def said(done):
    """stderr but for the line every thirty seconds, which a slow machine sees."""
    return "".join(line for line in done.stderr.decode().splitlines(True) if not line.startswith("embedding:"))


def good(*args, **options):
    done = embed("--normalize", *args, **options)
    assert done.returncode == 0 and said(done) == "", done.stderr
    return done.stdout


def failed(status, *args, **options):
    done = embed(*args, **options)
    text = said(done)
    assert done.returncode == status and text.count("\n") == 1, (done.returncode, text)
    return text


def write_lines(path, n, seed=1):
    draw = random.Random(seed)
    words = "the river was low that summer and nobody in town would say why".split()
    path.write_text("".join(f"{i} {' '.join(draw.choices(words, k=draw.randint(0, 12)))}\n" for i in range(n)))
    return path


def read_npy(raw):
    assert raw[:8] == b"\x93NUMPY\x01\x00"
    header = raw[10:128].decode()
    assert header.endswith("\n")
    entry = eval(header)  # a literal that numpy itself evaluates
    return entry["descr"], entry["shape"], raw[128:]


def test_normalizes_as_the_route_does_and_says_so_once(tmp_path, server):
    texts = ["hello world", "", "a third line, longer than the others"]
    plain = embed("--precision", "fp32", input="\n".join(texts).encode())
    assert plain.returncode == 0 and plain.stderr.count(b"\n") == 1 and NOTE in plain.stderr
    assert plain.stdout == good("--precision", "fp32", input="\n".join(texts).encode())
    raw = embed("--no-normalize", "--precision", "fp32", input="\n".join(texts).encode())
    assert raw.stderr == b"" and raw.stdout != plain.stdout
    for normalize, lines in ((True, good(input="\n".join(texts).encode())),
                             (False, embed("--no-normalize", input="\n".join(texts).encode()).stdout)):
        route = server.post("/embed", {"inputs": texts, "normalize": normalize}).json()
        assert [json.loads(line) for line in lines.splitlines()] == route
    assert "--no-normalize" in failed(2, "--normalize", "--no-normalize", input=b"x\n")


def test_what_stands_in_the_manifests_place_is_told_before_anything_is_computed(tmp_path):
    (tmp_path / "out.manifest.json").mkdir()
    assert "out.manifest.json: stands" in failed(1, "--normalize", "-i", write_lines(tmp_path / "in", 3), "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_standard_input_is_descriptor_0_wherever_it_stands(tmp_path):
    source = tmp_path / "in.txt"
    source.write_text("header\nfirst\nsecond\n")
    wanted = good(input=b"first\nsecond\n")
    shell = 'read -r header; exec "$@"'
    for redirect in (f"< {source}", f"cat {source} |"):
        script = f"{redirect} bash -c '{shell}' x \"$@\"" if "|" in redirect else f"bash -c '{shell}' x \"$@\" {redirect}"
        done = subprocess.run(["bash", "-c", script, "x", *command("--normalize", "-i", "-")], capture_output=True)
        assert done.stdout == wanted, (redirect, done.stderr)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"first\nsecond\n")
        ours.shutdown(socket.SHUT_WR)
        assert good(stdin=theirs.fileno()) == wanted
    # /dev/stdin can't be opened by path where another user owns it; descriptor 0 is all we use.
    with open(source, "rb") as file:
        file.seek(len("header\n"))
        os.lseek(file.fileno(), len("header\n"), os.SEEK_SET)
        assert good("-o", "-", stdin=file.fileno()) == wanted


def test_a_window_is_answered_before_the_next_is_awaited():
    process = subprocess.Popen(command("--normalize"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    for lines in (1, 3, 1024, 1500):
        process.stdin.write(b"some words\n" * lines)
        process.stdin.flush()
        for _ in range(lines):
            assert process.stdout.readline().startswith(b"[")
    process.stdin.close()
    assert process.stdout.read() == b"" and process.wait(60) == 0
    watchdog.cancel()
    process.stdout.close()


def test_every_format_and_dtype(tmp_path):
    source = write_lines(tmp_path / "in.txt", 300)
    rows = [json.loads(line) for line in good("-i", source).splitlines()]
    raw = {}
    for dtype, code in (("fp32", "<f4"), ("fp16", "<f2"), ("ubinary", "|u1")):
        out = tmp_path / f"{dtype}.npy"
        assert good("-i", source, "-o", out, "--format", "npy", "--dtype", dtype) == b""
        # A pipe from a file: the rows are counted first. A redirected file: the header comes last.
        assert good("-i", source, "--format", "npy", "--dtype", dtype) == out.read_bytes()
        with open(tmp_path / "redirected", "wb") as target:
            done = subprocess.run(command("--normalize", "--format", "npy", "--dtype", dtype), stdout=target,
                                  input=source.read_bytes())
        assert done.returncode == 0 and (tmp_path / "redirected").read_bytes() == out.read_bytes()
        descr, shape, raw[dtype] = read_npy(out.read_bytes())
        assert descr == code and shape == (300, WIDTH // 8 if dtype == "ubinary" else WIDTH)
    flat = [x for row in rows for x in row]
    floats = struct.unpack(f"<{len(flat)}f", raw["fp32"])
    assert [struct.unpack("<f", struct.pack("<f", x))[0] for x in flat] == list(floats)
    assert raw["fp16"] == struct.pack(f"<{len(flat)}e", *floats)
    packed = bytes(sum((floats[i + k] > 0) << (7 - k) for k in range(8)) for i in range(0, len(flat), 8))
    assert raw["ubinary"] == packed
    for dtype, wanted in (("fp16", struct.unpack(f"<{len(flat)}e", raw["fp16"])), ("ubinary", tuple(packed))):
        lines = [json.loads(line) for line in good("-i", source, "--dtype", dtype).splitlines()]
        assert tuple(x for row in lines for x in row) == pytest.approx(wanted, rel=1e-7, abs=0)
    assert "--dtype" in failed(2, "--dtype", "int4", input=b"x\n")
    assert "pipe" in failed(2, "--format", "npy", input=b"x\n")


def test_fields_and_ids_of_json_lines(tmp_path):
    objects = [{"body": "first", "key": 7}, {"body": "zwei\n", "key": "b\"\u00e4\n"}, {"body": "", "key": -1}]
    source = tmp_path / "in.jsonl"
    source.write_text("\n\n".join(json.dumps(o) for o in objects) + "\n  \n")
    plain = [json.loads(line) for line in good("-i", source, "--field", "body").splitlines()]
    with_ids = [json.loads(line) for line in good("-i", source, "--field", "body", "--id-field", "key").splitlines()]
    assert with_ids == [{"id": o["key"], "embedding": row} for o, row in zip(objects, plain)]
    source.write_text('{"text": "a", "id": "x"}\n{"text": 1}\n')
    assert f"{source}:2" in failed(1, "--normalize", "-i", source, "--field", "text")
    source.write_text('{"text": "a", "id": "x"}\n{"text": "b"}\n')
    assert f"{source}:2" in failed(1, "--normalize", "-i", source, "--id-field", "id")
    source.write_text('{"text": "a"}\nno json\n')
    assert f"{source}:2" in failed(1, "--normalize", "-i", source, "--field", "text")
    assert "--id-field" in failed(2, "-i", source, "--id-field", "id", "--format", "npy")


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    source, marked = tmp_path / "in.txt", tmp_path / "marked.txt"
    source.write_text("first\n\ufeffsecond\n", encoding="utf-8")
    marked.write_text("\ufefffirst\n\ufeffsecond\n", encoding="utf-8")
    assert good("-i", marked) == good("-i", source) == good(input=marked.read_bytes())
    tokens = subprocess.run([BIN, "tokenize", "--model", str(TINY), "-i", str(marked)], capture_output=True).stdout
    assert json.loads(tokens.splitlines()[0])["offsets"][1][0] == 0
    marked.write_text('\ufeff{"text": "first"}\n', encoding="utf-8")
    assert good("-i", marked, "--field", "text") == good("-i", source).splitlines(True)[0]


def test_a_switch_may_say_false(tmp_path):
    source = write_lines(tmp_path / "in.txt", 20)
    unit, plain = good("-i", source, "--normalize=true"), embed("-i", source, "--no-normalize").stdout
    assert unit != plain
    for flag, wanted in (("--normalize=false", plain), ("--normalize=0", plain), ("--no-normalize=true", plain),
                         ("--no-normalize=false", unit)):
        done = embed("-i", source, flag)
        assert done.stdout == wanted and said(done) == "", flag
    for flags in (("--normalize", "--no-normalize"), ("--normalize=false", "--no-normalize=false")):
        assert "--no-normalize" in failed(2, "-i", source, *flags)


def test_what_is_json_but_refused_is_not_called_broken(tmp_path):
    source = tmp_path / "in.jsonl"
    for line, wanted in (('{"text": "a", "text": "b"}', "a name twice"), ('{"text": "a", "id": 18446744073709551616}', "too large"),
                         ('{"text": "a"', "not valid JSON")):
        source.write_text(line + "\n")
        assert wanted in failed(1, "--normalize", "-i", source, "--field", "text")


@pytest.mark.parametrize("flags", [(), ("--field", "text")])
def test_shards_cover_every_line_once(tmp_path, flags):
    source = tmp_path / "in"
    lines = [f"line {i}" if i % 7 else "" for i in range(100)]
    source.write_text("".join((json.dumps({"text": x}) if flags and x else x) + "\n" for x in lines))
    whole = good("-i", source, *flags).splitlines()
    kept = [i for i, x in enumerate(lines) if x or not flags]
    assert len(whole) == len(kept)
    for shard in range(3):
        part = good("-i", source, *flags, "--shard", f"{shard}/3").splitlines()
        assert part == [row for i, row in zip(kept, whole) if i % 3 == shard]
    assert good("-i", source, *flags, "--shard", "100/101") == b""
    for wrong in ("3/3", "0/0", "-1/3", "1", "1/", "a/b", "1/2/3", "1/2000000"):
        assert "--shard" in failed(2, "-i", source, "--shard", wrong)


def test_input_and_output_are_two_files(tmp_path):
    source = write_lines(tmp_path / "in.txt", 10)
    before = source.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(source)
    assert "same file" in failed(2, "-i", source, "-o", source)
    assert "same file" in failed(2, "-i", link, "-o", source)
    with open(source, "rb") as file:
        assert "same file" in failed(2, "-o", link, stdin=file)
    with open(source, "ab") as out:
        done = subprocess.run(command("-i", source), stdout=out, stderr=subprocess.PIPE)
    assert done.returncode == 2 and b"same file" in done.stderr
    assert source.read_bytes() == before


def test_an_input_that_shrinks_is_no_crash(tmp_path):
    source = write_lines(tmp_path / "in.txt", 60000)
    process = subprocess.Popen(command("--normalize", "-i", source), stdout=subprocess.PIPE)
    process.stdout.readline()
    os.truncate(source, 100)
    process.stdout.read()
    process.stdout.close()
    assert process.wait(60) == 0
    write_lines(source, 60000)
    process = subprocess.Popen(command("--normalize", "--format", "npy", "-i", source), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    process.stdout.read(200)
    os.truncate(source, 100)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1 and b"shrank" in error


def test_bad_lines_name_file_and_line(tmp_path):
    source = tmp_path / "in.txt"
    source.write_bytes(b"good\nbad \xff\n")
    assert f"{source}:2" in failed(1, "--normalize", "-i", source)
    assert "standard input:2" in failed(1, "--normalize", input=b"good\nbad \xff\n")


def test_a_stream_that_is_not_there_is_an_error(tmp_path):
    source = write_lines(tmp_path / "in.txt", 3000)

    def shell(script):
        done = subprocess.run(["bash", "-c", script, "x", *command("--normalize")], capture_output=True, timeout=120)
        assert done.returncode == 1, done
        return said(done)

    assert "standard input" in shell('exec "$@" <&-')
    assert "standard output" in shell(f'exec "$@" -i {source} >&-')
    assert "large" in shell(f'ulimit -f 10; exec "$@" -i {source} -o {tmp_path}/out')
    assert str(tmp_path) in failed(1, "-i", tmp_path)


def test_an_output_is_complete_or_not_there(tmp_path):
    source, out = tmp_path / "in.txt", tmp_path / "out.ndjson"
    out.write_text("old\n")
    source.write_bytes(b"good\n" * 3000 + b"\xff\n")
    failed(1, "--normalize", "-i", source, "-o", out)
    assert out.read_text() == "old\n"
    source.write_bytes(b"good\n" * 3000)
    good("-i", source, "-o", out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.txt", "out.ndjson", "out.ndjson.manifest.json"]
    manifest = json.loads((tmp_path / "out.ndjson.manifest.json").read_text())
    assert manifest["rows"] == 3000 and manifest["lines"] == 3000 and manifest["dimensions"] == WIDTH
    assert manifest["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert manifest["bytes"] == out.stat().st_size
    assert out.read_bytes() == good("-i", source)
    assert re.fullmatch("[0-9a-f]{12,64}", manifest["embedding_space"])
    assert "/nowhere" in failed(1, "--normalize", "-i", source, "-o", "/nowhere/out")


def test_vectors_that_are_not_finite_are_an_error(tmp_path):
    raw = (TINY / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    name = next(k for k in header if k.endswith("embeddings.LayerNorm.weight") or k.endswith("embeddings.LayerNorm.gamma"))
    begin, end = header[name]["data_offsets"]
    broken = bytearray(raw)
    broken[8 + size + begin:8 + size + end] = struct.pack("<f", 3e38) * ((end - begin) // 4)
    folder = tmp_path / "model"
    folder.mkdir()
    for file in TINY.iterdir():
        if file.is_file() and file.name != "model.safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / "model.safetensors").write_bytes(broken)
    for verb in ("embed", "predict"):
        done = subprocess.run([BIN, verb, "--model", str(folder), "--precision", "fp32",
                               *(["--no-normalize"] if verb == "embed" else [])], input=b"a text\n",
                              capture_output=True)
        assert done.returncode == 1 and done.stdout == b"", done
        assert b"finite" in done.stderr or b"no heads" in done.stderr


def test_resume_after_kill_9_gives_the_same_bytes(tmp_path):
    draw = random.Random(os.environ.get("ORTHRUS_SEED", "7"))
    source = write_lines(tmp_path / "in.txt", 20000)
    survived = 0
    while survived < KILLS:
        for flags in (("--format", "npy", "--dtype", "fp16"), ("--shard", "1/2"), ()):
            whole, out = tmp_path / "whole", tmp_path / "out"
            for path in tmp_path.glob("out*"):
                path.unlink()
            good("-i", source, "-o", whole, *flags)
            resume = functools.partial(command, "--normalize", "-i", source, "-o", out, "--resume", *flags)
            survived += kill_until_done(resume, draw, 0.25, 8)
            assert out.read_bytes() == whole.read_bytes()
            assert sorted(p.name for p in tmp_path.glob("out*")) == ["out", "out.manifest.json"]
            print(f"survived {survived} kills")
            ours, wanted = (json.loads(p.with_name(p.name + ".manifest.json").read_text()) for p in (out, whole))
            assert ours["sha256"] == wanted["sha256"] and ours["rows"] == wanted["rows"]


def test_resume_refuses_what_was_made_differently(tmp_path):
    source, out = write_lines(tmp_path / "in.txt", 50000), tmp_path / "out"
    process = subprocess.Popen(command("--normalize", "-i", source, "-o", out))
    while not (tmp_path / "out.partial").exists() or (tmp_path / "out.partial").stat().st_size < 100000:
        time.sleep(0.01)
    # Nobody else may write there in the meantime.
    assert "another process" in failed(1, "--normalize", "-i", source, "-o", out, "--resume")
    process.kill()
    process.wait()
    assert "--normalize" in failed(1, "--no-normalize", "-i", source, "-o", out, "--resume")
    assert "--dtype" in failed(1, "--normalize", "--dtype", "fp16", "-i", source, "-o", out, "--resume")
    assert "--resume" in failed(2, "--normalize", "--resume", input=b"x\n")
    good("-i", source, "-o", out, "--resume")
    assert out.read_bytes() == good("-i", source)
    # A job that is tried again finds its work done.
    done = embed("--normalize", "-i", source, "-o", out, "--resume")
    assert done.returncode == 0 and b"complete" in done.stderr
    source.write_text("another input\n")
    good("-i", source, "-o", out, "--resume")
    assert out.read_bytes() == good("-i", source)


def peak_kib(lines):
    """Peak memory of embedding so many lines that come through a pipe."""
    script = f"yes 'some words of a line' | head -n {lines} | exec \"$@\" > /dev/null"
    process = subprocess.Popen(["bash", "-c", script, "x", *command("--normalize", "--threads", "2")])
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss if not usage.ru_maxrss else usage.ru_maxrss


@pytest.mark.skipif("asan" in BIN or "tsan" in BIN, reason="sanitizers keep freed memory")
def test_memory_is_flat():
    small = peak_kib(10_000)
    large = peak_kib(10_000_000 if FULL else 200_000)
    print(f"peak {small} KiB for 10,000 lines, {large} KiB")
    assert large < 1.15 * small


def test_a_prompt_stands_before_every_text(tmp_path):
    for file in TINY.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": "passage"}))

    def vectors(text, *flags):
        done = subprocess.run([BIN, "embed", "--model", str(tmp_path), "--normalize", *flags], input=text, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    plain = vectors(b"query: a\npassage: a\na\n", "--prompt-name", "").splitlines()
    assert vectors(b"a\n", "--prompt-name", "query").splitlines() == plain[:1]
    assert vectors(b"a\n").splitlines() == plain[1:2]
    assert "are: query, passage" in subprocess.run([BIN, "embed", "--model", str(tmp_path), "--prompt-name", "x"], input=b"a\n",
                                                   capture_output=True, text=False).stderr.decode()
    assert "are: none" in failed(2, "--prompt-name", "x", input=b"a\n")
    assert vectors(b"a\n", "--prompt-name", "").splitlines() == plain[2:]
    done = subprocess.run([BIN, "embed", "--model", str(tmp_path), "--prompt-name", "other"], input=b"a\n", capture_output=True)
    assert done.returncode == 2 and b"--prompt-name" in done.stderr
