"""The command line as a user meets it: help, exit statuses, errors of one line, files in and out."""
import contextlib
import json
import os
import pathlib
import platform
import re
import shutil
import socket
import struct
import subprocess
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("ORTHRUS_BIN", str(ROOT / "build/orthrus"))
TINY = ROOT / "tests/data/golden/tiny-bert"
COMMANDS = ["serve", "embed", "predict", "tokenize", "train", "eval", "calibrate", "merge-heads", "inspect",
            "health", "bench", "man", "completion"]
TEXTS = json.loads((TINY / "texts.json").read_text(encoding="utf-8"))["texts"]
LINES = [t for t in TEXTS if "\n" not in t and "\r" not in t]


def run(*args, input=None, env=None, cwd=None):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ORTHRUS_")}
    environment.update(env or {})
    return subprocess.run([BIN, *map(str, args)], input=input, capture_output=True, env=environment,
                          cwd=cwd, timeout=120)


def one_line(stderr):
    text = stderr.decode()
    assert text.endswith("\n") and text.count("\n") == 1, text
    return text


def read_safetensors(path):
    raw = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    out = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            data = raw[8 + size + begin:8 + size + end]
            out[name] = (entry["shape"], struct.unpack(f"<{len(data) // 4}f", data))
    return out


def test_help_and_version():
    assert run("--help").returncode == 0
    assert re.fullmatch(rb"orthrus \d+\.\d+\.\d+\n", run("--version").stdout)
    assert run().returncode == 2
    assert run("frobnicate").returncode == 2
    for flag in ("--help", "--version"):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([BIN, flag], stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 1 and b"standard output" in done.stderr, flag


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    done = run(command, "--help")
    assert done.returncode == 0 and done.stderr == b""
    assert f"orthrus {command}".encode() in done.stdout


def test_serve_help_names_every_flag_with_default_and_environment():
    text = run("serve", "--help").stdout.decode()
    for flag in ["model", "heads", "heads-dir", "state-dir", "listen", "admin-listen",
                 "admin-token-file", "api-key-file", "precision", "threads", "max-length", "pooling",
                 "max-batch-tokens", "max-wait-us", "max-queue-tokens", "max-queue-requests",
                 "max-client-batch", "max-body-bytes", "admin-max-body-bytes", "max-connections",
                 "served-model-name", "request-timeout-ms", "drain-delay-ms", "drain-timeout-s",
                 "log-format", "log-level", "cors-origin"]:
        at = text.index(f"--{flag} ")
        block = text[at:at + 600]
        assert "default:" in block
        assert "ORTHRUS_" + flag.upper().replace("-", "_") in block


def help_of(command):
    """{flag: (short letter or None, default line or None)} of --help."""
    found, flag = {}, None
    for line in run(command, "--help").stdout.decode().splitlines():
        named = re.match(r"  (?:-(\w), |    )--([a-z-]+)", line)
        if named:
            flag = named[2]
            found[flag] = [named[1], None]
        elif flag and line.strip().startswith("default: "):
            found[flag][1] = line.strip().removeprefix("default: ")
        elif not line.startswith("  "):
            flag = None
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_of_help_ends_in_a_space(command):
    assert b" \n" not in run(command, "--help").stdout


def test_commands_of_help_are_all():
    assert re.findall(r"^  ([a-z-]+) ", run("--help").stdout.decode(), re.M) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_the_manual_page_and_completions_say_what_help_says(command):
    flags = help_of(command)
    assert "help" in flags
    page = run("man", command).stdout.decode().replace("\\-", "-").replace("\\fR", "").replace("\\fB", "").replace("\\fI", "")
    options = page[page.index(".SH OPTIONS"):]
    told = {names.split("--")[-1].split(" ")[0]: text for names, text in
            re.findall(r"^\.TP\n((?:-\w, )?--[a-z-]+[^\n]*)\n(.*?)(?=^\.TP|^\.SH|\Z)", options, re.M | re.S)}
    assert set(told) == set(flags)
    for flag, (short, default) in flags.items():
        assert not short or f"-{short}, --{flag}" in options, flag
        if default:
            assert f"Default: {default.split('; ORTHRUS_')[0]}." in told[flag], flag
        variable = re.search(r"ORTHRUS_\w+", default or "")
        assert not variable or f"Environment: {variable[0]}." in told[flag], flag
    fish = run("completion", "fish").stdout.decode()
    assert set(re.findall(f"__fish_seen_subcommand_from {command}' .*?-l ([a-z-]+)", fish)) == set(flags)
    takes_files = re.search(r"Usage: orthrus .*(FILE|PATH)", run(command, "--help").stdout.decode()) is not None
    assert (f"__fish_seen_subcommand_from {command}' -F\n" in fish) == takes_files
    zsh = re.search(rf"^    {command}\) _arguments (.*) ;;$", run("completion", "zsh").stdout.decode(), re.M)[1]
    assert set(re.findall(r"'(?:\(.*?\))?-*(?:\{.*?\})?--([a-z-]+)", zsh)) == set(flags)
    script = run("completion", "bash").stdout.decode()
    typed = f"{script}\nCOMP_WORDS=(orthrus {command} --); COMP_CWORD=2; _orthrus; echo ${{COMPREPLY[@]}}"
    offered = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert sorted(offered) == sorted(f"--{flag}" for flag in flags)


@pytest.mark.parametrize("args, names", [
    (["serve", "--port", "1"], "--port"),
    (["serve", "--threads", "0"], "--threads"),
    (["serve", "--threads", "many"], "--threads"),
    (["serve", "--threads"], "--threads"),
    (["serve", "--heads-dir", "a", "--state-dir", "b"], "--heads-dir"),
    (["embed", "--format", "csv"], "--format"),
    (["embed", "extra"], "extra: an argument too many; usage"),
    (["frobnicate"], "frobnicate: no such command"),
    (["--frobnicate"], "--frobnicate: no such flag"),
    (["serve", "--pooling", "max"], "--pooling: mean or cls is allowed"),
    (["serve", "--log-format", "xml"], "--log-format: text or json is allowed"),
    (["serve", "--isa", "mmx"], "--isa: generic, "),
    (["serve", "--precision", "fp64"], "--precision: auto, fp32, bf16 or int8 is allowed"),
    (["serve", "--max-body-bytes", "1KB"], "--max-body-bytes: a whole number from 1 to 1073741824, or one with KiB, MiB or GiB"),
    (["train", "--output", "x"], "--data: must be a file of labelled texts"),
    (["inspect"], "usage"),
    (["embed", "--model", TINY, "--precision", "fp64"], "--precision"),
    (["embed", "--model", TINY, "--isa", "mmx"], "--isa"),
    (["health", "https://localhost"], "https"),
])
def test_wrong_usage_is_status_2_and_one_line(args, names):
    done = run(*args)
    assert done.returncode == 2, done.stderr
    assert names in one_line(done.stderr)


def test_flag_beats_environment_beats_default():
    done = run("serve", env={"ORTHRUS_THREADS": "none"})
    assert done.returncode == 2 and "ORTHRUS_THREADS" in one_line(done.stderr)
    done = run("embed", "--model", TINY, input=b"x\n", env={"ORTHRUS_MODEL": "/nowhere"})
    assert done.returncode == 0
    done = run("embed", input=b"x\n", env={"ORTHRUS_MODEL": str(TINY)})
    assert done.returncode == 0
    assert run("embed", "--model", TINY, input=b"x\n", env={"ORTHRUS_THREADS": ""}).returncode == 0


def test_missing_model_names_the_file():
    done = run("embed", "--model", "/nowhere/model", input=b"x\n")
    assert done.returncode == 1 and "/nowhere/model" in one_line(done.stderr)


def test_embed_matches_pytorch_in_both_formats(tmp_path):
    shape, expected = read_safetensors(TINY / "expected.safetensors")["embeddings"]
    rows = [expected[i * shape[1]:(i + 1) * shape[1]] for i in range(shape[0])]
    wanted = [r for t, r in zip(TEXTS, rows) if t in LINES]
    source = tmp_path / "in.txt"
    source.write_text("\n".join(LINES), encoding="utf-8")
    # The golden file truncates at 64, the tiny model's positions.
    done = run("embed", "--model", TINY, "-i", source, "--max-length", "64", "--precision", "fp32",
               "--no-normalize")
    assert done.returncode == 0, done.stderr
    vectors = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(vectors) == len(wanted)
    worst = max(abs(a - b) for v, w in zip(vectors, wanted) for a, b in zip(v, w))
    assert worst <= 1e-5

    out = tmp_path / "out.npy"
    done = run("embed", "--model", TINY, "-i", source, "--max-length", "64", "--precision", "fp32",
               "-o", out, "--format", "npy", "--no-normalize")
    assert done.returncode == 0 and done.stdout == b""
    raw = out.read_bytes()
    assert raw[:8] == b"\x93NUMPY\x01\x00"
    header = raw[10:10 + struct.unpack("<H", raw[8:10])[0]].decode()
    assert f"'shape': ({len(wanted)}, {shape[1]})" in header
    data = struct.unpack(f"<{len(wanted) * shape[1]}f", raw[128:])
    assert data == tuple(struct.unpack("<f", struct.pack("<f", x))[0] for v in vectors for x in v)


def test_embed_normalize_gives_unit_vectors():
    done = run("embed", "--model", TINY, "--normalize", input="one\ntwo words\n\n".encode())
    vectors = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(vectors) == 3
    assert all(abs(sum(x * x for x in v) - 1) < 1e-5 for v in vectors)


def test_the_shipped_heads_are_named_by_a_plain_path(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("heads.safetensors"))
    done = run("predict", "--model", folder, input=b"a\n")
    told = one_line(done.stderr)
    assert "heads/default.safetensors: " in told and "/../" not in told


def test_embed_of_nothing_is_nothing():
    for nothing in (b"", b"\xef\xbb\xbf"):
        done = run("embed", "--model", TINY, input=nothing)
        assert done.returncode == 0 and done.stdout == b"", nothing
    done = run("embed", "--model", TINY, input=b"\xef\xbb\xbf\n")
    assert done.returncode == 0 and done.stdout.count(b"\n") == 1


def test_embed_refuses_invalid_utf8_with_its_line():
    done = run("embed", "--model", TINY, input=b"fine\n\xff\xfe\n")
    assert done.returncode == 1 and "standard input:2" in one_line(done.stderr)


def test_embed_reports_a_full_output():
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    done = run("embed", "--model", TINY, "-o", "/dev/full", input=b"x\n")
    assert done.returncode == 1 and b"/dev/full: write: No space" in done.stderr


def test_predict_gives_both_heads():
    done = run("predict", "--model", TINY, input="a \"quoted\" text\n".encode())
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["text"] == 'a "quoted" text'
    for head, classes in [("classifier", 6), ("sentiment", 3)]:
        scores = answer[head]["scores"]
        assert len(scores) == classes and abs(sum(scores.values()) - 1) < 1e-5
        assert answer[head]["score"] == max(scores.values()) == scores[answer[head]["label"]]


def test_predict_with_heads_of_another_width_names_both():
    done = run("predict", "--model", TINY, "--heads", ROOT / "tests/data/golden/heads-init.safetensors", input=b"x\n")
    text = one_line(done.stderr)
    assert done.returncode == 1 and "32" in text and "768" in text


def test_tokenize_gives_ids_tokens_offsets():
    done = run("tokenize", "--model", TINY, input="hello\n\n".encode())
    assert done.returncode == 0, done.stderr
    first, empty = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(first["ids"]) == len(first["tokens"]) == len(first["offsets"])
    assert first["tokens"][0] == "[CLS]" and first["tokens"][-1] == "[SEP]"
    assert empty["tokens"] == ["[CLS]", "[SEP]"]


def test_inspect_folder_and_heads():
    done = run("inspect", TINY)
    text = done.stdout.decode()
    assert done.returncode == 0 and "hidden 32, layers 2" in text and "[413, 32]" in text
    assert re.search(r"encoder sha256 [0-9a-f]{64}\n", text)
    done = run("inspect", TINY / "heads.safetensors")
    text = done.stdout.decode()
    assert "6 classes over 32: Expression, Opinion" in text
    assert re.search(r"sha256 [0-9a-f]{64}\n", text)


def test_inspect_refuses_a_truncated_file(tmp_path):
    whole = (TINY / "heads.safetensors").read_bytes()
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(whole[:-5])
    done = run("inspect", broken)
    assert done.returncode == 1 and "broken.safetensors" in one_line(done.stderr)


@pytest.mark.parametrize("command", [["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"], ["embed"], ["predict"], ["tokenize"],
                                     ["bench"], ["eval", "--heads", "h", "--data", "d"], ["calibrate", "--heads", "h", "--data", "d"],
                                     ["train", "--data", "d", "--output", "o"]], ids=lambda command: command[0])
def test_a_missing_model_names_the_tool_that_fetches_one(tmp_path, command):
    done = run(*command, "--model", tmp_path / "absent", cwd=tmp_path)
    assert done.returncode == 1
    assert b"config.json" in done.stderr and b"tools/fetch-model" in done.stderr


def test_health_waits_no_longer_than_it_was_told():
    """A listener that sends a byte now and then; each wait by itself is short."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def dribble():
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                for byte in b"HTTP/1.1 20":
                    connection.send(bytes([byte]))
                    time.sleep(0.5)
                time.sleep(60)

        threading.Thread(target=dribble, daemon=True).start()
        begin = time.monotonic()
        done = run("health", "--timeout-ms", "700", f"127.0.0.1:{listener.getsockname()[1]}")
        assert time.monotonic() - begin < 4
    assert done.returncode == 1 and "no answer within 700 ms" in one_line(done.stderr)


def test_health_of_nobody_is_status_1():
    done = run("health", "127.0.0.1:1")
    assert done.returncode == 1 and "127.0.0.1:1" in one_line(done.stderr)
    done = run("health", "nobody.invalid:1")
    assert done.returncode == 1 and "nobody.invalid" in one_line(done.stderr) and b"route" not in done.stderr
    done = run("health", env={"ORTHRUS_ADMIN_LISTEN": "127.0.0.1:0"})
    assert done.returncode == 2 and "ORTHRUS_ADMIN_LISTEN" in one_line(done.stderr)


@pytest.mark.parametrize("answer, wanted", [(b"", "without an answer"), (b"SSH-2.0-OpenSSH\r\n", "no HTTP"), (b"HTTP", "no HTTP")])
def test_health_of_somebody_else_says_so(answer, wanted):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def reply():
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        threading.Thread(target=reply, daemon=True).start()
        done = run("health", f"127.0.0.1:{listener.getsockname()[1]}")
    assert done.returncode == 1 and wanted in one_line(done.stderr)


def test_bench_json_has_its_figures():
    done = run("bench", "--model", TINY, "--json", "--threads", "2", "--passes", "1")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["tokens_per_s"] > 0 and figures["gflops"] > 0
    assert figures["median_ms_alone"] > 0 and figures["median_ms_one_thread"] > 0
    assert 0.5 < sum(figures["phases"].values()) <= 1.01
    if platform.machine() == "x86_64":
        # Nothing is faster than the limit; the tiny model is far from it.
        assert 0 < figures["peak_share"] < 1
        assert figures["peak_share"] == pytest.approx(figures["gflops"] / figures["peak_gflops"], abs=1e-2)
    else:
        assert figures["peak_gflops"] is None and figures["peak_share"] is None


def test_bench_of_one_text_longer_than_allowed_is_cut(tmp_path):
    source = tmp_path / "in.txt"
    source.write_text("word " * 500, encoding="utf-8")
    done = run("bench", "--model", TINY, "-i", source, "--max-length", "16", "--json", "--passes", "1")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tokens"] == 16


@pytest.mark.parametrize("command", ["embed", "predict", "tokenize", "inspect", "bench", "eval", "calibrate", "train"])
def test_what_a_folder_warns_of_is_told_once(tmp_path, command):
    folder = tmp_path / "model"
    shutil.copytree(TINY, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_dropout_porb": 0.2}))
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "a", "classifier": 0, "sentiment": 1}\n' * 4)
    args = {"inspect": [folder], "bench": ["--model", folder, "--passes", "1"],
            "train": ["--model", folder, "--data", data, "--output", tmp_path / "out", "--epochs", "1", "--freeze", "backbone",
                      "--embedding-cache", "off"],
            "eval": ["--model", folder, "--data", data], "calibrate": ["--model", folder, "--data", data]}
    done = run(command, *args.get(command, ["--model", folder]), input=b"a\n")
    said = [line for line in done.stderr.decode().splitlines() if "hidden_dropout_porb" in line]
    assert done.returncode == 0 and len(said) == 1 and "warning" in said[0], done


@pytest.mark.parametrize("kind", ["", "Foo"])
def test_a_decoder_of_no_known_type_is_a_warning_that_lists_the_known_ones(tmp_path, kind):
    folder = tmp_path / "model"
    shutil.copytree(ROOT / "tests/data/models/st-roberta", folder)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "decoder": {"type": kind}}))
    done = run("tokenize", "--model", folder, input=b"a\n")
    assert done.returncode == 0 and "Replace, Fuse, " in one_line(done.stderr), done
