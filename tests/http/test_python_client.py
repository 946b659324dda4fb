"""python/orthrus_client against the running server, and against one that misbehaves as servers do."""
import http.server
import json
import pathlib
import sys
import threading

import pytest

np = pytest.importorskip("numpy", reason="numpy is not installed")
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))

from orthrus_client import Client, EmbeddingSpaceChanged, OrthrusError, Refused, Unavailable  # noqa: E402
from orthrus_client.window import Window  # noqa: E402

TEXTS = [f"text number {i} {'word ' * (i % 23)}" for i in range(700)]


def test_vectors_are_those_of_the_route_in_order(server):
    with Client(f"http://{server.address}", batch_tokens=256, connections=4) as client:
        vectors = client.embed(TEXTS)
        assert vectors.dtype == np.float32 and vectors.shape[0] == len(TEXTS)
        some = [0, 1, 350, 699]
        wanted = server.post("/embed", {"inputs": [TEXTS[i] for i in some]}).json()
        assert vectors[some].tolist() == np.array(wanted, np.float32).tolist()
        plain = client.embed(TEXTS[:3], normalize=False, dimensions=8)
        assert plain.shape == (3, 8)
        assert client.stats.texts == len(TEXTS) + 3 and client.stats.requests > 10 and client.stats.tokens > 700
        assert client.embed([]).shape[0] == 0


def test_the_running_servers_space_is_known_and_insisted_on(server):
    space = server.get("/info").json()["embedding_space"]["id"]
    with Client(f"http://{server.address}") as client:
        client.embed(["x"])
        assert space.startswith(client.embedding_space) and len(client.embedding_space) >= 12
    with Client(f"http://{server.address}", embedding_space=space[:16].upper()) as client:
        assert client.embed(["x"]).shape[0] == 1
    with Client(f"http://{server.address}", embedding_space="0" * 12) as client, pytest.raises(EmbeddingSpaceChanged):
        client.embed(["x"])


def test_any_iterable_is_read_as_far_as_needed(server):
    taken = []

    def lines():
        for i in range(5000):
            taken.append(i)
            yield f"line {i}\n"

    with Client(f"http://{server.address}", batch_tokens=64, connections=2) as client:
        parts = client.embed_iter(lines())
        first = next(parts)
        assert len(taken) < 1000
        assert np.array_equal(first[0], client.embed(["line 0"])[0])
        parts.close()


def test_batches_follow_what_the_server_counted(server):
    with Client(f"http://{server.address}", batch_tokens=512, connections=1) as client:
        client.embed(["unfathomable antidisestablishmentarianism"] * 400)
        per_request = client.stats.tokens / client.stats.requests
        assert 250 < per_request < 900


def test_a_wrong_request_says_what_is_wrong(server):
    with Client(f"http://{server.address}") as client:
        with pytest.raises(Refused) as refused:
            client.embed(["x"], dimensions=100000)
        assert refused.value.status == 422 and refused.value.code and "dimensions" in str(refused.value)
        with pytest.raises(TypeError):
            client.embed([3])
        with pytest.raises(ValueError):
            client.embed(["\ud800"])
    with pytest.raises(ValueError):
        Client("ftp://x")


def test_too_many_texts_are_cut(start):
    server = start("--max-client-batch", "16")
    with Client(f"http://{server.address}", batch_tokens=100000) as client:
        assert np.array_equal(client.embed(TEXTS[:100]), Client(f"http://{server.address}", batch_texts=7).embed(TEXTS[:100]))


class Moody(http.server.BaseHTTPRequestHandler):
    """Answers by the script of its server: a list of (status, headers) before it is good."""
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.connections.add(self.client_address)
            server.asked.append(dict(self.headers))
            status, headers = server.script.pop(0) if server.script else (200, {})
        if status == "close":
            self.close_connection = True
            return
        n = len(body["inputs"])
        data = np.array([[len(t), 1] for t in body["inputs"]], "<f4").tobytes() if status == 200 else b"{}"
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Shape", f"{n},2")
        self.send_header("X-Compute-Tokens", str(n * 5))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def moody():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Moody)
    server.lock, server.script, server.asked, server.connections = threading.Lock(), [], [], set()
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def lengths(client, n=50):
    return client.embed(["x" * i for i in range(n)])[:, 0].tolist() == list(range(n))


def test_refusals_and_broken_connections_are_tried_again(moody):
    moody.script = [(429, {"Retry-After": "0"}), ("close", {}), (503, {"Retry-After": "0"}), (502, {}), (504, {})]
    with Client(moody.url, batch_texts=5, connections=3) as client:
        assert lengths(client)
        assert client.stats.retries >= 4 and client.stats.refusals == 1
        assert len(moody.connections) < len(moody.asked)  # kept alive
        assert moody.asked[0]["Accept"] == "application/octet-stream"


def test_retry_after_is_honoured_and_patience_ends(moody):
    moody.script = [(429, {"Retry-After": "1"})]
    with Client(moody.url) as client:
        import time
        start = time.monotonic()
        assert lengths(client, 1)
        assert time.monotonic() - start >= 1
    moody.script = [(503, {"Retry-After": "7"})] * 3
    with Client(moody.url, patience_s=0.5) as client, pytest.raises(Unavailable):
        client.embed(["x"])


def test_an_embedding_space_is_one(moody):
    moody.script = [(200, {"X-Embedding-Space": "aaaabbbbcccc"}), (200, {"X-Embedding-Space": "000011112222"})]
    with Client(moody.url) as client:
        client.embed(["x"])
        assert client.embedding_space == "aaaabbbbcccc"
        with pytest.raises(EmbeddingSpaceChanged):
            client.embed(["x"])
    moody.script = [(412, {})]
    with Client(moody.url, embedding_space="AAAABBBBCCCC") as client, pytest.raises(EmbeddingSpaceChanged):
        client.embed(["x"])
    assert moody.asked[-1]["If-Embedding-Space"] == "aaaabbbbcccc"


def test_a_server_of_another_kind_is_told(moody):
    moody.script = [(200, {"X-Shape": "nonsense"})]
    with Client(moody.url) as client, pytest.raises(OrthrusError):
        client.embed(["x", "y"])


def test_the_window_halves_once_a_round_and_grows_by_one():
    window = Window(16, start=8)
    began = [window.acquire() for _ in range(8)]
    for round_ in began[:4]:
        window.release(round_, refused=True)
    assert window.size == 4
    for round_ in began[4:]:
        window.release(round_, refused=False)
    assert 4.9 < window.size < 5.01
    for _ in range(40):
        window.release(window.acquire(), refused=True)
    assert window.size == 1
