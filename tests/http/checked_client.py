"""A client in a process of its own that asks the same questions over and over and compares each
answer with the one of the heads that the answer names. test_swaps_live.py starts some of these."""
import itertools
import json
import multiprocessing
import random
import time

from conftest import Connection, render

# Other rows in a batch may change the last bits where the kernels are a library's.
TOLERANCE = 2e-6
CONNECTIONS = 3

QUESTIONS = [(route, {"inputs": inputs, **options}) for (route, options), inputs in itertools.product(
    (("/classify", {}), ("/sentiment", {}), ("/sentiment", {"raw_scores": True}),
     ("/analyze", {"tasks": ["classify", "sentiment"]})),
    ("hello world", ["one text", "another, somewhat longer text", ""]))]


def question(route, body):
    return render("POST", route, json.dumps(body).encode(), [("Content-Type", "application/json")])


def without_heads(reply):
    """The heads that a reply names, and its body without their name."""
    heads = reply.header("X-Heads")
    return heads, reply.body.replace(f'"{heads}"'.encode(), b'"HEADS"')


def alike(a, b):
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= TOLERANCE
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    return a == b


def problem_of(reply, by_heads):
    """What is wrong with a reply, or None. by_heads: the body by the 12 digits of X-Heads."""
    if reply is None or reply.status != 200:
        return "closed" if reply is None else f"{reply.status}: {reply.body[:200]}"
    heads, body = without_heads(reply)
    expected = by_heads.get(heads.split("-")[-1])
    if expected is None:
        return f"unknown heads {heads}"
    if body != expected and not alike(json.loads(body), json.loads(expected)):
        return f"not what {heads} answers: {body[:200]}"
    return None


def _ask(address, questions, known, pause_s, seed, stopping, asked, results):
    """known[i][12 digits of a set's SHA-256]: the body that answers questions[i]."""
    draw = random.Random(seed)
    rendered = [question(*entry) for entry in questions]
    connections = [Connection(address) for _ in range(CONNECTIONS)]
    heads, problems, times = set(), [], []
    while not stopping.is_set() and len(problems) < 10:
        chosen = [draw.randrange(len(questions)) for _ in connections]
        begin = time.monotonic()
        for connection, i in zip(connections, chosen):
            connection.send(rendered[i])
        for connection, i in zip(connections, chosen):
            reply = connection.read_reply()
            times.append((begin, time.monotonic() - begin))
            problem = problem_of(reply, known[i])
            if problem:
                problems.append(f"{questions[i]}: {problem}")
            else:
                heads.add(reply.header("X-Heads"))
        asked.value += len(connections)
        if pause_s:
            time.sleep(pause_s)
    results.put((heads, problems, times))


class CheckedClients:
    """n clients until stop(), which leaves `heads` (every X-Heads seen), `problems` and `times` (begin
    and duration in seconds, one pair a request)."""

    def __init__(self, address, known, n=2, pause_s=0, questions=QUESTIONS):
        context = multiprocessing.get_context("spawn")
        self.stopping = context.Event()
        self.results = context.Queue()
        self.counts = [context.Value("Q", 0, lock=False) for _ in range(n)]
        self.processes = [context.Process(target=_ask, args=(address, questions, known, pause_s, seed, self.stopping,
                                                             self.counts[seed], self.results), daemon=True)
                          for seed in range(n)]
        for process in self.processes:
            process.start()

    def asked(self):
        return sum(count.value for count in self.counts)

    def wait_asked(self, n):
        while self.asked() < n:
            assert all(process.is_alive() for process in self.processes), "a client has ended early"
            time.sleep(0.01)

    def stop(self):
        self.stopping.set()
        heads, problems, times = zip(*(self.results.get(timeout=60) for _ in self.processes))
        for process in self.processes:
            process.join()
        self.heads = set().union(*heads)
        self.problems = sum(problems, [])
        self.times = sum(times, [])
