#!/usr/bin/env python3
"""A full fine-tuning step of bert-base on real sentences: orthrus train beside PyTorch, in one run.

  python3 -m venv V && V/bin/pip install torch transformers
  V/bin/python bench/training.py build/orthrus MODEL_DIR SENTENCES.txt [--batch 16] [--batches 6] [--threads N]

Both train everything with Adam and the config's dropout on the same sentences in the same order, PyTorch with dynamic
padding and, as the source notebook does, with padding to 128. Rounds alternate, because machines are noisy; the best
round of each counts. Prints seconds a step, peak memory, and the ratios.
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time


def parse():
    ap = argparse.ArgumentParser()
    ap.add_argument("orthrus")
    ap.add_argument("model")
    ap.add_argument("texts")
    ap.add_argument("--batch", type=int, default=16)
    ap.add_argument("--batches", type=int, default=6)
    ap.add_argument("--rounds", type=int, default=2)
    ap.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    ap.add_argument("--peer", choices=["longest", "max_length"], help=argparse.SUPPRESS)
    return ap.parse_args()


def rows(args):
    with open(args.texts, encoding="utf-8") as lines:
        texts = [line.rstrip("\n") for line in lines][: args.batch * args.batches]
    return [{"text": t, "classifier": i % 6, "sentiment": i % 3} for i, t in enumerate(texts)]


def run_orthrus(args):
    """Seconds a step of the best epoch, and the process's peak memory."""
    with tempfile.TemporaryDirectory() as work:
        data = os.path.join(work, "data.jsonl")
        with open(data, "w", encoding="utf-8") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows(args))
        subprocess.run(
            [args.orthrus, "train", "--model", args.model, "--data", data, "--output", work + "/out", "--epochs", "2",
             "--batch-size", str(args.batch), "--threads", str(args.threads), "--no-shuffle"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(work + "/out/report.json", encoding="utf-8") as report:
            epochs = json.load(report)["epochs"]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"step": min(e["seconds"] for e in epochs) / args.batches, "peak_kib": peak}


def run_peer(args):
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers import BertModel, BertTokenizerFast

    torch.set_num_threads(args.threads)
    tokenizer = BertTokenizerFast(vocab_file=args.model + "/vocab.txt", do_lower_case=True)
    encoder = BertModel.from_pretrained(args.model, add_pooling_layer=False).train()
    hidden = encoder.config.hidden_size
    heads = {"classifier": torch.nn.Linear(hidden, 6), "sentiment": torch.nn.Linear(hidden, 3)}
    parameters = [*encoder.parameters(), *(p for h in heads.values() for p in h.parameters())]
    optimizer = torch.optim.Adam(parameters, lr=2e-5)
    best = None
    data = rows(args)
    for _ in range(2 if args.peer == "longest" else 1):
        start = time.perf_counter()
        count = args.batches if args.peer == "longest" else min(2, args.batches)
        for at in range(0, count * args.batch, args.batch):
            part = data[at : at + args.batch]
            x = tokenizer([r["text"] for r in part], padding=args.peer, truncation=True, max_length=128,
                          return_tensors="pt")
            mask = x["attention_mask"][..., None].float()
            states = encoder(**x)[0]
            pooled = (states * mask).sum(1) / mask.sum(1)
            loss = sum(torch.nn.functional.cross_entropy(h(pooled), torch.tensor([r[name] for r in part]))
                       for name, h in heads.items())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        step = (time.perf_counter() - start) / count
        best = step if best is None else min(best, step)
    print(json.dumps({"step": best, "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


def main():
    args = parse()
    if args.peer:
        run_peer(args)
        return
    results = {}
    for _ in range(args.rounds):
        for name in ("orthrus", "longest", "max_length"):
            if name == "orthrus":
                result = run_orthrus(args)
            else:
                out = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--peer", name], check=True,
                                     capture_output=True, text=True).stdout
                result = json.loads(out.splitlines()[-1])
            if name not in results or result["step"] < results[name]["step"]:
                results[name] = result
    names = {"orthrus": "orthrus train", "longest": "PyTorch, dynamic padding",
             "max_length": "PyTorch, padded to 128"}
    for name, result in results.items():
        ratio = result["step"] / results["orthrus"]["step"]
        print(f"{names[name]:26} {result['step']:7.3f} s a step   {result['peak_kib'] / 2**20:5.2f} GiB   "
              f"{ratio:5.2f} x orthrus's time")


if __name__ == "__main__":
    main()
