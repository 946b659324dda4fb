#!/usr/bin/env python3
"""orthrus beside the engines that one would take instead, offline: throughput, latency, accuracy.

  python3 -m venv V
  V/bin/pip install torch transformers tokenizers onnx onnxruntime openvino ctranslate2 safetensors
  V/bin/python bench/peers.py accuracy build/orthrus MODEL_DIR WORK_DIR RESULTS_DIR
  V/bin/python bench/peers.py speed build/orthrus MODEL_DIR WORK_DIR RESULTS_DIR

speed: each engine in a process of its own, one after the other, round after round (machines are noisy; the best round
counts): tokens/s over sentences sorted by length on all threads, and the median time of one sentence alone.
accuracy: mean-pooled vectors of all sentences against PyTorch fp32 (cosine; largest error), and how many sentences get
another label from the default heads. WORK_DIR keeps the converted models and the vectors; RESULTS_DIR gets speed.jsonl
and accuracy.jsonl, to which each run adds what is missing: --seconds ends a run early.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import engines
import numpy as np
import results

ORTHRUS = ["orthrus-" + precision for precision in results.PRECISIONS]
LENGTH_MAX = 128
ALONE = 64
REFERENCE = "torch"


def parse():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("what", choices=["speed", "accuracy"])
    ap.add_argument("orthrus")
    ap.add_argument("model")
    ap.add_argument("work", type=pathlib.Path)
    ap.add_argument("results", type=pathlib.Path)
    ap.add_argument("--texts", default=results.SENTENCES, help="one sentence a line")
    ap.add_argument("--max", type=int, help="sentences; default 128 for speed, all for accuracy")
    ap.add_argument("--engines", nargs="+", default=[*engines.NAMES, *ORTHRUS], metavar="ENGINE")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--passes", type=int, default=2, help="of one engine in one round, behind one to warm up")
    ap.add_argument("--seconds", type=float, default=3600, help="begin nothing after so long")
    ap.add_argument("--threads", type=int, default=results.threads())
    ap.add_argument("--batch-tokens", default="512", help="of orthrus bench")
    ap.add_argument("--child", help=argparse.SUPPRESS)
    args = ap.parse_args()
    if args.max is None:
        args.max = 128 if args.what == "speed" else 1 << 30
    return args


def token_ids(args, texts):
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer(os.path.join(args.model, "vocab.txt"), lowercase=True)
    tokenizer.enable_truncation(LENGTH_MAX)
    return [encoding.ids for encoding in tokenizer.encode_batch(texts)]


def cut(ids, size):
    """Batches of like length: token ids, and the order in which the texts stand in them."""
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
    return [[ids[i] for i in order[at : at + size]] for at in range(0, len(order), size)], order


def measure_peer(args):
    """In the child: one engine, one round."""
    engine = engines.create(args.child, args.model, args.work, args.threads)
    ids = token_ids(args, results.texts_of(args.texts, args.max))
    batches, _ = cut(ids, engine.batch)
    seconds = []
    for _ in range(args.passes + 1):
        start = time.perf_counter()
        engine.many(batches)
        seconds.append(time.perf_counter() - start)
    alone = []
    step = len(ids) // min(ALONE, len(ids))
    engine.one(ids[0])
    for text in ids[:: step][:ALONE]:
        start = time.perf_counter()
        engine.one(text)
        alone.append((time.perf_counter() - start) * 1e3)
    tokens = sum(map(len, ids))
    return {"tokens_per_s": round(tokens / min(seconds[1:])), "median_ms_alone": round(statistics.median(alone), 2)}


def encode_peer(args):
    """In the child: the vectors of all texts, in their order, into WORK_DIR."""
    engine = engines.create(args.child, args.model, args.work, args.threads)
    batches, order = cut(token_ids(args, results.texts_of(args.texts, args.max)), engine.batch)
    vectors = engine.many(batches)
    in_order = np.empty_like(vectors)
    in_order[order] = vectors
    np.save(args.work / f"vectors-{args.child}.npy", in_order)
    return {}


def child(args, name):
    command = [sys.executable, __file__, args.what, args.orthrus, args.model, args.work, args.results, "--child", name,
               "--texts", args.texts, "--max", args.max, "--passes", args.passes, "--threads", args.threads]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        print(f"{name}: {lines[-1] if lines else done.returncode}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def speed(args):
    path = args.results / "speed.jsonl"
    for name in results.turns(path, args.engines, args.rounds, args.seconds):
        if name in ORTHRUS:
            figures = results.orthrus_bench(args.orthrus, args.model, results.texts_of(args.texts, args.max),
                                            name.split("-")[1], "--passes", str(args.passes), "--threads",
                                            str(args.threads), "--max-length", str(LENGTH_MAX), "--batch-tokens",
                                            args.batch_tokens)
        else:
            figures = child(args, name)
        if figures:
            results.append(path, {"name": name, "threads": args.threads, **figures})


def encode_orthrus(args, name):
    path = args.work / f"vectors-{name}.npy"
    texts = "".join(text + "\n" for text in results.texts_of(args.texts, args.max))
    done = subprocess.run([args.orthrus, "embed", "--model", args.model, "--precision", name.split("-")[1],
                           "--max-length", str(LENGTH_MAX), "--threads", str(args.threads), "--format", "npy", "--no-normalize",
                           "-o", str(path)], input=texts, text=True, capture_output=True)
    if done.returncode:
        print(done.stderr.strip(), file=sys.stderr)
    return done.returncode == 0


def labels(vectors):
    """The default heads' choices, [heads][N]."""
    from safetensors.numpy import load_file

    heads = load_file(results.ROOT / "heads/default.safetensors")
    return [(vectors @ heads[f"{head}.weight"].T + heads[f"{head}.bias"]).argmax(axis=1)
            for head in ("classifier", "sentiment")]


def compare(vectors, reference):
    cosine = (vectors * reference).sum(axis=1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(reference, axis=1)
    flips = [int((mine != theirs).sum()) for mine, theirs in zip(labels(vectors), labels(reference))]
    return {"sentences": len(vectors), "cosine_min": round(float(cosine.min()), 7),
            "cosine_p1": round(float(np.percentile(cosine, 1)), 7), "cosine_mean": round(float(cosine.mean()), 8),
            "max_abs_error": float(f"{np.abs(vectors - reference).max():.3g}"),
            "flips_classifier": flips[0], "flips_sentiment": flips[1]}


def accuracy(args):
    path = args.results / "accuracy.jsonl"
    for name in results.turns(path, [REFERENCE, *(n for n in args.engines if n != REFERENCE)], 1, args.seconds):
        encoded = encode_orthrus(args, name) if name in ORTHRUS else child(args, name) is not None
        if encoded:
            vectors, reference = (np.load(args.work / f"vectors-{n}.npy").astype(np.float64) for n in (name, REFERENCE))
            results.append(path, {"name": name, **compare(vectors, reference)})


def main():
    os.environ["HF_HUB_OFFLINE"] = "1"
    args = parse()
    if args.child:
        print(json.dumps(measure_peer(args) if args.what == "speed" else encode_peer(args)))
    else:
        {"speed": speed, "accuracy": accuracy}[args.what](args)


if __name__ == "__main__":
    main()
