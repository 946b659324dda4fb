#!/usr/bin/env python3
"""Held-out macro-F1 of the default heads beside baselines on the same split, as a Markdown table.

usage: baselines.py DATA_DIR MODEL_DIR HEADS [ORTHRUS]

DATA_DIR is prepare.py's output, HEADS the trained heads file, ORTHRUS the program (build/orthrus).
Needs numpy, scikit-learn and vaderSentiment. Baselines: the majority class; for sentiment the
vaderSentiment lexicon with its own thresholds (compound ±0.05); scikit-learn's LogisticRegression on
the same embeddings (standardized, C chosen on eval.jsonl from 0.001 … 1).
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

LABELS = {"classifier": ["Expression", "Opinion", "Quote", "Riddle", "News", "Other"],
          "sentiment": ["Neutral", "Positive", "Negative"]}


def macro_f1(truth, guess, head):
    return 100 * f1_score(truth, guess, labels=LABELS[head], average="macro", zero_division=0)


def embed(orthrus, model, texts):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, "out.npy")
        subprocess.run([orthrus, "embed", "--model", model, "--format", "npy",
                        "-o", out], input="\n".join(texts).encode(), check=True)
        return np.load(out)


def predict(orthrus, model, heads, texts):
    run = subprocess.run([orthrus, "predict", "--model", model, "--heads", heads],
                         input="\n".join(texts).encode(), check=True, stdout=subprocess.PIPE)
    return [json.loads(line) for line in run.stdout.splitlines()]


def logistic_regression(x, parts, head):
    rows = {name: [i for i, r in enumerate(part) if head in r] for name, part in parts.items()}
    y = {name: [parts[name][i][head] for i in rows[name]] for name in parts}
    scale = StandardScaler().fit(x["train"][rows["train"]])
    z = {name: scale.transform(x[name][rows[name]]) for name in parts}
    best = None
    for c in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1):
        fitted = LogisticRegression(C=c, max_iter=2000).fit(z["train"], y["train"])
        score = macro_f1(y["eval"], fitted.predict(z["eval"]), head)
        if best is None or score > best[0]:
            best = (score, c, fitted)
    return macro_f1(y["test"], best[2].predict(z["test"]), head), best[1]


def main():
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    data, model, heads = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    orthrus = sys.argv[4] if len(sys.argv) == 5 else "build/orthrus"
    parts = {name: [json.loads(line) for line in (data / f"{name}.jsonl").open(encoding="utf-8")]
             for name in ("train", "eval", "test")}
    x = {name: embed(orthrus, model, [r["text"] for r in part]) for name, part in parts.items()}
    answers = predict(orthrus, model, heads, [r["text"] for r in parts["test"]])
    lexicon = SentimentIntensityAnalyzer()
    print("| head | sentences | majority | lexicon | LogisticRegression | orthrus |")
    print("| --- | --- | --- | --- | --- | --- |")
    for head in LABELS:
        rows = [i for i, r in enumerate(parts["test"]) if head in r]
        truth = [parts["test"][i][head] for i in rows]
        known = [r[head] for r in parts["train"] if head in r]
        majority = max(set(known), key=known.count)
        word = "–"
        if head == "sentiment":
            compound = [lexicon.polarity_scores(parts["test"][i]["text"])["compound"] for i in rows]
            word = f"{macro_f1(truth, ['Positive' if c >= .05 else 'Negative' if c <= -.05 else 'Neutral' for c in compound], head):.1f}"
        regression, c = logistic_regression(x, parts, head)
        own = macro_f1(truth, [answers[i][head]["label"] for i in rows], head)
        print(f"| {head} | {len(rows)} | {macro_f1(truth, [majority] * len(rows), head):.1f} | {word} | "
              f"{regression:.1f} (C {c}) | {own:.1f} |")


if __name__ == "__main__":
    main()
