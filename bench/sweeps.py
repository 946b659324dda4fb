#!/usr/bin/env python3
"""What one text costs against its length, and what the encoder yields against the size of its batches.

  python3 bench/sweeps.py build/orthrus MODEL_DIR RESULTS_DIR

Texts of exactly so many tokens, by `orthrus bench`; RESULTS_DIR/sweeps.jsonl gets one line a measurement, to which each
run adds what is missing.
"""
import argparse
import pathlib

import results

LENGTHS = [8, 16, 32, 64, 128, 256, 512]
BATCHES = [32, 64, 128, 256, 512, 1024, 2048, 4096]
BATCH_TEXT = 32  # tokens of a text in the sweep over batches
TOKENS = 2048  # of a measurement, at least
SPECIAL_TOKENS = 2  # [CLS] and [SEP]


def parse():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("orthrus")
    ap.add_argument("model")
    ap.add_argument("results", type=pathlib.Path)
    ap.add_argument("--precisions", nargs="+", default=results.PRECISIONS)
    ap.add_argument("--rounds", type=int, default=1)
    ap.add_argument("--seconds", type=float, default=3600, help="begin nothing after so long")
    ap.add_argument("--lengths", nargs="+", type=int, default=LENGTHS)
    ap.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    ap.add_argument("--tokens", type=int, default=TOKENS, help="of one measurement, at least")
    return ap.parse_args()


def texts_of_length(tokens, count):
    return ["the " * (tokens - SPECIAL_TOKENS)] * count


def measure(args, sweep, precision, value):
    """One point: a text's length, or the tokens of a batch."""
    length = value if sweep == "length" else BATCH_TEXT
    batch = max(value, length)
    total = max(args.tokens, batch * results.threads())
    texts = texts_of_length(length, max(total // length, 2))
    figures = results.orthrus_bench(args.orthrus, args.model, texts, precision, "--passes", "1", "--max-length",
                                    str(length), "--batch-tokens", str(batch if sweep == "batch" else max(512, length)))
    if figures is None:
        return None
    wanted = ["isa", "threads", "tokens_per_s", "peak_share", "median_ms_alone", "median_ms_one_thread"]
    return {"sweep": sweep, "precision": precision, "value": value, **{key: figures[key] for key in wanted}}


def main():
    args = parse()
    points = {f"{sweep}-{precision}-{value}": (sweep, precision, value)
              for sweep, values in (("length", args.lengths), ("batch", args.batches))
              for precision in args.precisions for value in values}
    path = args.results / "sweeps.jsonl"
    for name in results.turns(path, list(points), args.rounds, args.seconds):
        figures = measure(args, *points[name])
        if figures:
            results.append(path, {"name": name, **figures})


if __name__ == "__main__":
    main()
