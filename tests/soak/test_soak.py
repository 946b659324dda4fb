"""Days in short: mixed load, swaps, disconnects, giants and SIGHUP at once, for ORTHRUS_SOAK_S seconds (20; ./test --full
--hours N sets it). Every answer is, to the last byte, what the same text gave alone, with the heads that it names; resident
memory does not grow, descriptors and threads are as many at each pause. ORTHRUS_SOAK_RECORD names a file that gets the figures."""
import contextlib
import json
import os
import pathlib
import random
import signal
import statistics
import struct
import threading
import time

import pytest
from conftest import TOKEN, Server, render

SECONDS = float(os.environ.get("ORTHRUS_SOAK_S", "20"))
PAUSE_EVERY_S = min(20, SECONDS / 12)
WARM_AFTER_S = min(600, SECONDS / 3)
# Clients who went may have closed their half alone, so what they asked is answered: where CPU is scarce that takes a while.
PAUSE_AT_MOST_S = 180
# A slope is only worth a limit where it is taken over hours; shorter runs show a leak by what is there at the end.
SLOPE_FROM_S = 5400
SLOPE_MIB_A_DAY = 1
GROWTH_MIB = 4
JSON = [("Content-Type", "application/json")]
WORDS = "the end of it hello world some more words caf\u00e9 and then a line".split()
DRAW = random.Random(7)
TEXTS = [" ".join(DRAW.choices(WORDS, k=DRAW.randrange(1, 30))) for _ in range(300)]


def heads_file(seed):
    draw, header, data = random.Random(seed), {}, b""
    for name, k in (("classifier", 4), ("sentiment", 3)):
        for tensor, shape in (("weight", [k, 32]), ("bias", [k])):
            n = k * (32 if tensor == "weight" else 1)
            raw = struct.pack(f"<{n}f", *(draw.uniform(-1, 1) for _ in range(n)))
            header[f"{name}.{tensor}"] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
    header["__metadata__"] = {f"{name}.labels": json.dumps([f"{seed}-{name}-{i}" for i in range(k)])
                              for name, k in (("classifier", 4), ("sentiment", 3))}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


class Soak:
    def __init__(self, server):
        self.server = server
        self.files = [heads_file(seed) for seed in (1, 2, 3)]
        self.ended, self.paused = threading.Event(), threading.Event()
        self.lock = threading.Lock()
        self.counts = {"requests": 0, "texts": 0, "swaps": 0, "gone": 0, "giants": 0, "reloads": 0, "refused": 0}
        self.errors, self.samples = [], []
        self.running = 0
        self.vectors, self.scores = {}, {}
        for file in (None, *self.files):  # None: the folder's own, which a SIGHUP brings back
            sha = self.put(file) if file else server.post("/classify", {"inputs": "a"}).header("X-Heads").split("-")[1]
            self.scores[sha] = {}
            for text in TEXTS:
                reply = server.post("/classify", {"inputs": text})
                assert reply.status == 200 and reply.header("X-Heads").split("-")[1] == sha[:12]
                self.scores[sha][text] = reply.json()
        for text in TEXTS:
            self.vectors[text] = server.post("/embed", {"inputs": text}).json()[0]
        self.by_id = {sha[:12]: scores for sha, scores in self.scores.items()}
        time.sleep(0.5)
        self.quiet = self.descriptors()  # with no client

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.server.process.pid}/fd"))

    def held(self):
        """Bytes of requests that are under way."""
        return self.server.metric("orthrus_client_bytes", admin=True)

    def put(self, file):
        reply = self.server.request("PUT", "/admin/heads", file, [("Authorization", f"Bearer {TOKEN}")], admin=True)
        assert reply.status == 200, reply.body
        return reply.json()["sha256"]

    def count(self, **more):
        with self.lock:
            for name, n in more.items():
                self.counts[name] += n

    def loop(self, step, seed):
        draw = random.Random(seed)
        try:
            while not self.ended.is_set():
                if self.paused.is_set():
                    time.sleep(0.02)
                    continue
                with self.lock:
                    self.running += 1
                try:
                    step(draw)
                finally:
                    with self.lock:
                        self.running -= 1
        except Exception as error:  # noqa: BLE001: whatever it is ends the run
            self.errors.append(repr(error)[:2000])
            self.ended.set()

    def check(self, reply, texts, path):
        if reply.status == 429:
            self.count(refused=1)
            time.sleep(0.05)
            return
        assert reply.status == 200, (reply.status, reply.body[:300])
        if path == "/embed":
            assert reply.json() == [self.vectors[text] for text in texts]
        else:
            scores = self.by_id[reply.header("X-Heads").split("-")[1]]
            assert reply.json() == [scores[text] for text in texts]
        self.count(requests=1, texts=len(texts))

    def mixed(self, draw):
        with self.server.connect() as connection:
            for _ in range(draw.randrange(1, 20)):
                texts = draw.choices(TEXTS, k=draw.choice((1, 1, 1, 2, 5, 20)))
                path = draw.choice(("/embed", "/classify"))
                self.check(connection.post(path, {"inputs": texts}), texts, path)
                if self.ended.is_set() or self.paused.is_set():
                    return

    def giant(self, draw):
        texts = draw.choices(TEXTS, k=1500)
        self.check(self.server.post("/embed", {"inputs": texts}), texts, "/embed")
        self.count(giants=1)
        time.sleep(draw.random() / 2)

    def gone(self, draw):
        request = render("POST", "/embed", json.dumps({"inputs": draw.choices(TEXTS, k=draw.choice((1, 50, 500)))}).encode(), JSON)
        with contextlib.suppress(OSError), self.server.connect() as connection:
            connection.send(request[:draw.randrange(1, len(request))] if draw.random() < 0.5 else request)
            time.sleep(draw.random() / 50)
        self.count(gone=1)

    def swap(self, draw):
        file = draw.choice(self.files)
        reply = self.server.request("PUT", "/admin/heads", file, [("Authorization", f"Bearer {TOKEN}")], admin=True)
        assert reply.status == 200 or (reply.status, reply.code) == (409, "swap_in_progress"), reply.body  # a reload's turn
        self.count(swaps=reply.status == 200)
        time.sleep(0.01)

    def reload(self, draw):
        self.server.signal(signal.SIGHUP)
        self.count(reloads=1)
        time.sleep(0.5 + draw.random())

    def sample(self):
        """At a pause: nothing is under way."""
        self.paused.set()
        end = time.monotonic() + PAUSE_AT_MOST_S
        while self.running and time.monotonic() < end:
            time.sleep(0.01)
        folder = pathlib.Path(f"/proc/{self.server.process.pid}")
        time.sleep(1)
        while (self.descriptors() > self.quiet + 2 or self.held()) and time.monotonic() < end:
            time.sleep(0.1)  # clients that have gone are still being seen off, and what they asked is still computed
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
        self.samples.append((time.monotonic(), int(status["VmRSS"].split()[0]), self.descriptors(), int(status["Threads"])))
        self.paused.clear()

    def run(self):
        steps = [self.mixed, self.mixed, self.mixed, self.giant, self.gone, self.swap, self.reload]
        threads = [threading.Thread(target=self.loop, args=(step, seed)) for seed, step in enumerate(steps)]
        for thread in threads:
            thread.start()
        begin = time.monotonic()
        while time.monotonic() < begin + SECONDS and not self.ended.wait(PAUSE_EVERY_S):
            self.sample()
        self.ended.set()
        for thread in threads:
            thread.join()


def slope(points):
    """KiB a second: the median over all pairs (Theil and Sen), and the regression by least squares. Below 16 MiB what a burst
    leaves free stays resident until the next one, so a pause in ten or so sees some MiB more; least squares follow those."""
    n = len(points)
    pairs = [(b[1] - a[1]) / (b[0] - a[0]) for i, a in enumerate(points) for b in points[i + 1:]]
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    squares = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
    return statistics.median(pairs), squares


@pytest.mark.skipif(os.environ.get("ORTHRUS_FULL") != "1", reason="ORTHRUS_FULL is not set")
def test_soak(start, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text(f"ops:{TOKEN}\n")
    server = start("--admin-token-file", str(tokens), "--precision", "fp32", "--max-client-batch", "2048",
                   "--state-dir", str(tmp_path / "state"), "--drain-timeout-s", "10", drop=["request", "heads swap"])
    soak = Soak(server)
    soak.run()
    assert not soak.errors, soak.errors
    later = [sample for sample in soak.samples if sample[0] > soak.samples[0][0] + WARM_AFTER_S]
    resident = [kib / 1024 for _, kib, _, _ in later]
    part = max(1, len(later) // 5)
    grown = statistics.median(resident[-part:]) - statistics.median(resident[:part])
    rate, squares = (x * 86400 / 1024 for x in slope([(t, kib) for t, kib, _, _ in later]))
    figures = {"seconds": round(SECONDS), **soak.counts, "resident_mib": [round(f(resident), 1) for f in (min, statistics.median, max)],
               "grown_mib": round(grown, 2), "slope_mib_a_day": round(rate, 2), "least_squares": round(squares, 2), "pauses": len(later),
               "descriptors": sorted({fds for _, _, fds, _ in later}), "threads": sorted({n for *_, n in later})}
    print(json.dumps(figures))
    if os.environ.get("ORTHRUS_SOAK_RECORD"):
        with open(os.environ["ORTHRUS_SOAK_RECORD"], "a") as file:
            file.write(json.dumps(figures) + "\n")
    assert len(set(figures["threads"])) == 1 and max(figures["descriptors"]) - min(figures["descriptors"]) <= 2, figures
    assert grown < GROWTH_MIB, figures
    if SECONDS >= SLOPE_FROM_S:
        assert rate < SLOPE_MIB_A_DAY, figures
