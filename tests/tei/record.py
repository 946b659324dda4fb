#!/usr/bin/env python3
"""Asks a running text-embeddings-inference and keeps what it answers: tests/data/tei/FOLDER.json.

usage: record.py ROUTER EXPORTED_DIR [OUTPUT_DIR]

ROUTER is text-embeddings-router 1.9.3 (built with its ONNX backend; ORT_DYLIB_PATH names libonnxruntime.so),
EXPORTED_DIR is export.py's output. A folder whose router doesn't start is told and skipped.
"""
import json
import pathlib
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request

HEADERS = ["content-type", "x-compute-characters", "x-compute-tokens"]
A, B, C = "The end of it.", "the old river, café", "more 東京!"
LONG = " ".join(["the end of it"] * 300)
IDS = [2, 5, 9, 11, 3]

EVERY = [
    ("GET", "/health", None), ("GET", "/info", None), ("GET", "/ping", None),
    *[("POST", "/tokenize", body) for body in (
        {"inputs": A}, {"inputs": [A, B, C]}, {"inputs": B, "add_special_tokens": False}, {"inputs": ""},
        {"inputs": []}, {"inputs": 5}, {})],
    *[("POST", "/decode", body) for body in (
        {"ids": IDS}, {"ids": [IDS, IDS]}, {"ids": IDS, "skip_special_tokens": False}, {"ids": []},
        {"ids": [10**9]}, {"ids": [-1]}, {"ids": "a"})],
    ("POST", "/nowhere", {"inputs": A}), ("POST", "/info", {}), ("GET", "/embed", None),
]
PREDICT = [
    *[("POST", path, body) for path in ("/predict", "/") for body in ({"inputs": A}, {"inputs": [[A], [A, B]]})],
    *[("POST", "/predict", body) for body in (
        {"inputs": [A]}, {"inputs": [A, B]}, {"inputs": [[A], [B], [C]]}, {"inputs": A, "raw_scores": True},
        {"inputs": [[A, B], [B, A]], "raw_scores": True}, {"inputs": ""}, {"inputs": LONG, "truncate": True},
        {"inputs": LONG, "truncate": True, "truncation_direction": "Left"}, {"inputs": [LONG, LONG], "truncate": True},
        {"inputs": LONG, "truncate": False}, {"inputs": []}, {"inputs": [A, B, C]}, {"inputs": [[]]},
        {"inputs": [[A, B, C]]}, {"inputs": None}, {}, {"inputs": A, "raw_scores": "yes"},
        {"inputs": [[A]] * 33}, {"inputs": A, "surprise": 1})],
]
RERANK = [
    *[("POST", "/rerank", body) for body in (
        {"query": A, "texts": [A, B, C]}, {"query": A, "texts": [A, B, C], "return_text": True},
        {"query": A, "texts": [A, B, C], "raw_scores": True}, {"query": A, "texts": [B]},
        {"query": A, "texts": [A, LONG], "truncate": True}, {"query": LONG, "texts": [A, B], "truncate": True},
        {"query": A, "texts": [LONG], "truncate": True, "truncation_direction": "Left"},
        {"query": A, "texts": [LONG], "truncate": False}, {"query": A, "texts": []}, {"query": A}, {"texts": [A]},
        {"query": "", "texts": [""]}, {"query": A, "texts": [B, B]}, {"query": A, "texts": [A] * 33})],
]
RERANK_ROOT = [("POST", "/", {"query": A, "texts": [A, B, C]}), ("POST", "/", {"inputs": A})]
EMBED = [
    *[("POST", path, body) for path in ("/embed", "/") for body in ({"inputs": A}, {"inputs": [A, B, C]})],
    *[("POST", "/embed", body) for body in (
        {"inputs": [A], "normalize": False}, {"inputs": A, "dimensions": 8}, {"inputs": IDS}, {"inputs": [IDS, A]},
        {"inputs": LONG, "truncate": True}, {"inputs": LONG, "truncate": True, "truncation_direction": "Left"},
        {"inputs": LONG, "truncate": False}, {"inputs": ""}, {"inputs": []}, {"inputs": None}, {}, {"inputs": [5.5]},
        {"inputs": A, "prompt_name": "nobody"}, {"inputs": A, "dimensions": 0}, {"inputs": A, "dimensions": 10**6},
        {"inputs": [A] * 33}, {"inputs": [10**9]})],
    *[("POST", "/embed_all", body) for body in (
        {"inputs": A}, {"inputs": [A, C]}, {"inputs": IDS}, {"inputs": []}, {"inputs": LONG, "truncate": False})],
    *[("POST", "/similarity", body) for body in (
        {"inputs": {"source_sentence": A, "sentences": [A, B, C]}},
        {"inputs": {"source_sentence": A, "sentences": [B]}, "parameters": {"truncate": True}},
        {"inputs": {"source_sentence": A, "sentences": []}}, {"inputs": {"source_sentence": A}},
        {"inputs": {"source_sentence": A, "sentences": [B]}, "parameters": {"prompt_name": "nobody"}})],
    *[("POST", path, body) for path in ("/v1/embeddings", "/embeddings") for body in (
        {"input": A, "model": "any"}, {"input": [A, B], "model": "any", "encoding_format": "base64"})],
    *[("POST", "/v1/embeddings", body) for body in (
        {"input": IDS}, {"input": [IDS, IDS]}, {"input": A, "dimensions": 8}, {"input": []}, {"input": ""}, {},
        {"input": A, "encoding_format": "other"}, {"input": [A] * 33})],
]
PROMPTS = [("POST", path, {"inputs": A, "prompt_name": name}) for path in ("/embed", "/tokenize", "/embed_all")
           for name in ("query", "")]
OTHERS = [("POST", "/embed", {"inputs": A}), ("POST", "/embed_all", {"inputs": A}),
          ("POST", "/similarity", {"inputs": {"source_sentence": A, "sentences": [B]}}),
          ("POST", "/v1/embeddings", {"input": A})]
RAW = [("POST", "/tokenize", body, kind) for body, kind in (
    ("{", "application/json"), ("", "application/json"), ('{"inputs": "a"}', "text/plain"), ('{"inputs": "a"}', None),
    ('{"inputs": "a", "inputs": "b"}', "application/json"), ('{"inputs": "\\ud800"}', "application/json"))]


def cases(folder):
    if folder.name.startswith("seq-"):
        single = len(json.loads((folder / "config.json").read_text())["id2label"]) == 1
        return EVERY + RAW + OTHERS + RERANK + (RERANK_ROOT + PREDICT[4:] if single else PREDICT)
    rest = [("POST", "/predict", {"inputs": A}), ("POST", "/rerank", {"query": A, "texts": [B]})]
    return EVERY + EMBED + rest + (PROMPTS if folder.name == "st-prompts" else [])


def ask(url, method, path, body, kind="application/json"):
    data = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
    headers = {"Content-Type": kind} if data is not None and kind else {}
    request = urllib.request.Request(url + path, data, headers, method=method)
    if data is not None and not kind:
        request.add_unredirected_header("Content-Type", "")
    try:
        reply = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        reply = error
    text = reply.read().decode()
    case = {"method": method, "path": path, "request": body}
    if kind != "application/json":
        case["content_type"] = kind
    case |= {"status": reply.status,
             "headers": {name: reply.headers[name] for name in HEADERS if reply.headers.get(name)}}
    try:
        return case | {"answer": json.loads(text)}
    except ValueError:
        return case | {"text": text}


def started(process, url):
    for _ in range(300):
        if process.poll() is not None:
            return False
        try:
            return urllib.request.urlopen(f"{url}/health", timeout=1).status == 200
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    return False


def record(router, folder, port=18080):
    url = f"http://127.0.0.1:{port}"
    command = [router, "--model-id", str(folder), "--hostname", "127.0.0.1", "--port", str(port)]
    if folder.name.startswith("plain"):
        command += ["--pooling", "mean"]
    with open(folder / "router.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            return [ask(url, *case) for case in cases(folder)] if started(process, url) else None
        finally:
            process.kill()
            process.wait()


def main():
    if len(sys.argv) not in (3, 4) or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    out = pathlib.Path(sys.argv[3] if len(sys.argv) == 4 else pathlib.Path(__file__).parents[1] / "data" / "tei")
    out.mkdir(exist_ok=True)
    for folder in sorted(p for p in pathlib.Path(sys.argv[2]).iterdir() if p.is_dir()):
        answers = record(sys.argv[1], folder)
        if answers is None:
            print(f"{folder.name}: the router did not start, see its router.log")
            continue
        # One case a line: a difference is a line too.
        lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in answers)
        text = f'{{"folder": {json.dumps(folder.name)}, "cases": [\n{lines}\n]}}\n'
        text = re.sub(re.escape(str(folder)), folder.name, text)
        (out / f"{folder.name}.json").write_text(text, encoding="utf-8")
        print(f"{folder.name}: {len(answers)} answers")


if __name__ == "__main__":
    main()
