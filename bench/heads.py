#!/usr/bin/env python3
"""What heads cost beside the pass: sixteen linear ones in one /analyze beside one, and a staged set beside none. The time is the
server's own (Server-Timing: encode, the pass and the heads), the two kinds of requests take turns.

usage: heads.py --model DIR [--precision P] [--seconds N]     (ORTHRUS_BIN names the program)"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent / "tests" / "http")]
import test_named_heads  # noqa: E402
from conftest import TOKEN, Server  # noqa: E402
from test_load import resident_kib  # noqa: E402

TEXTS = (HERE.parent / "tests/data/sentences.txt").read_text(encoding="utf-8").splitlines()[:4]
SIXTEEN = {f"h{i}": {"k": 6} for i in range(16)}
ADMIN = [("Authorization", f"Bearer {TOKEN}")]
IN_A_ROW = 6


class Bench:
    def __init__(self, arguments):
        with tempfile.NamedTemporaryFile("w", suffix=".tokens", delete=False) as tokens:
            tokens.write(f"ops:{TOKEN}\n")
        self.server = Server("--admin-token-file", tokens.name, "--threads", "1", "--precision", arguments.precision,
                             model=arguments.model, drop=["request", "heads swap"])
        pathlib.Path(tokens.name).unlink()
        self.connection = self.server.connect()
        test_named_heads.HIDDEN = self.server.get("/info").json()["encoder"]["hidden"]
        self.seconds = arguments.seconds

    def admin(self, method, path, body=None):
        reply = self.server.request(method, path, body, ADMIN, admin=True)
        assert reply.status in (200, 204), reply.body

    def ask(self, tasks):
        """ms of one request's pass."""
        reply = self.connection.post("/analyze", {"inputs": TEXTS, "tasks": tasks})
        assert reply.status == 200, reply.body
        return float(reply.header("Server-Timing").split("encode;dur=")[1].split(",")[0])

    def warm(self, tasks):
        for _ in range(10):
            self.ask(tasks)

    def sixteen(self):
        self.admin("PUT", "/admin/heads", test_named_heads.heads_file({"h0": SIXTEEN["h0"]}))
        self.warm(["h0"])
        before = resident_kib(self.server)
        data = test_named_heads.heads_file(SIXTEEN)
        self.admin("PUT", "/admin/heads", data)
        self.warm(list(SIXTEEN))
        grown = resident_kib(self.server) - before
        one, all_, end = [], [], time.monotonic() + self.seconds
        while time.monotonic() < end:
            one.append(self.ask(["h0"]))
            all_.append(self.ask(list(SIXTEEN)))
        ratio = statistics.median(b / a for a, b in zip(one, all_))
        print(f"sixteen heads: {len(one)} pairs, {statistics.median(one):.3f} ms with one, {statistics.median(all_):.3f} with "
              f"sixteen, ratio of pairs {ratio:.4f}, of minima {min(all_) / min(one):.4f}; file {len(data)} bytes, resident {grown:+d} KiB")

    def shadow(self):
        data, ratios, end = test_named_heads.heads_file(SIXTEEN, 9), [], time.monotonic() + self.seconds
        best = {"staged": [], "none": []}
        while time.monotonic() < end:
            self.admin("PUT", "/admin/heads?stage=shadow", data)
            self.ask(["h0"])
            staged = [self.ask(["h0"]) for _ in range(IN_A_ROW)]
            self.admin("DELETE", "/admin/shadow")
            self.ask(["h0"])
            none = [self.ask(["h0"]) for _ in range(IN_A_ROW)]
            best["staged"] += staged
            best["none"] += none
            ratios.append(statistics.median(staged) / statistics.median(none))
        print(f"a staged set: {len(best['none'])} requests each, ratio of turns {statistics.median(ratios):.4f}, of minima "
              f"{min(best['staged']) / min(best['none']):.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--seconds", type=float, default=30)
    bench = Bench(parser.parse_args())
    bench.sixteen()
    bench.shadow()
    bench.server.kill()


if __name__ == "__main__":
    main()
