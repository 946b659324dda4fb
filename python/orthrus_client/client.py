"""The client: texts in, vectors out, in order."""

import collections
import concurrent.futures
import dataclasses
import http.client
import json
import random
import socket
import ssl
import threading
import time
import urllib.parse

import numpy as np

from .window import Window

# Answers that say "not now": a balancer without a replica, a replica that starts or drains.
NOT_NOW = {429, 502, 503, 504}
RETRY_MIN_S, RETRY_MAX_S = 0.05, 30.0
BYTES_PER_TOKEN = 4.0  # until the server has said otherwise
SPECIAL_TOKENS = 2     # what a text costs beside its own words


class OrthrusError(Exception):
    """Whatever a request ended with."""


class Refused(OrthrusError):
    """The server says that the request is wrong; the same one would be refused again."""

    def __init__(self, status, body):
        problem = {}
        try:
            problem = json.loads(body)
        except ValueError:
            pass
        if not isinstance(problem, dict):
            problem = {}
        self.status = status
        self.code = problem.get("code")
        self.param = problem.get("param")
        super().__init__(f"{status} {self.code or ''}: {problem.get('error', 'no JSON in the answer')}")


class Unavailable(OrthrusError):
    """The server did not answer within the patience."""


class EmbeddingSpaceChanged(OrthrusError):
    """Vectors of another model: comparing them with the earlier ones would be meaningless."""


@dataclasses.dataclass
class Stats:
    """Counts since the client was made."""

    requests: int = 0  # answered well
    retries: int = 0   # tried again, for whatever reason
    refusals: int = 0  # 429 among them
    texts: int = 0
    tokens: int = 0    # as the server counted them


class _Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body


class Client:
    """One server, or many behind one address. Threads may share it; use it as a context manager or
    call close().

    url               "http://host:port" or https; a path is put before the route
    connections       requests under way at most
    batch_tokens      what a request should cost
    batch_texts       texts in a request at most (the server's --max-client-batch)
    patience_s        how long one batch is tried before Unavailable
    timeout_s         of one request
    api_key           sent as a Bearer token
    embedding_space   hexadecimal, 12 digits or more: insist on it; None: all answers must agree
    """

    def __init__(self, url="http://127.0.0.1:8080", *, connections=8, batch_tokens=4096,
                 batch_texts=1024, patience_s=300.0, timeout_s=120.0, api_key=None,
                 embedding_space=None):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url must be http://host:port or https://host:port")
        if connections < 1 or batch_tokens < 1 or batch_texts < 1:
            raise ValueError("connections, batch_tokens and batch_texts must be 1 or more")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self._batch_tokens, self._batch_texts = batch_tokens, batch_texts
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._space = embedding_space.lower() if embedding_space else None
        self._insist = embedding_space is not None
        self._bytes_per_token = BYTES_PER_TOKEN
        self._idle = collections.deque()
        self._lock = threading.Lock()
        self._window = Window(connections)
        self._threads = concurrent.futures.ThreadPoolExecutor(connections, "orthrus")
        self._connections = connections
        self.stats = Stats()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._threads.shutdown(cancel_futures=True)
        while self._idle:
            self._idle.pop().close()

    @property
    def embedding_space(self):
        """The space of the answers so far, or None."""
        return self._space

    # -- embedding --

    def embed(self, texts, *, normalize=True, prompt_name=None, dimensions=None, truncate=True):
        """float32 [N,H] for a list of N texts."""
        texts = list(texts)
        parts = list(self.embed_iter(texts, normalize=normalize, prompt_name=prompt_name,
                                     dimensions=dimensions, truncate=truncate))
        return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)

    def embed_iter(self, texts, *, normalize=True, prompt_name=None, dimensions=None, truncate=True):
        """float32 [n,H] part by part, in order, for any iterable of texts; it is read only as far as
        the requests under way need. A newline at the end of a text is no part of it."""
        fields = {"normalize": normalize, "truncate": truncate}
        if prompt_name is not None:
            fields["prompt_name"] = prompt_name
        if dimensions is not None:
            fields["dimensions"] = dimensions
        waiting = collections.deque()
        batches = self._batches(texts)
        try:
            for batch in batches:
                waiting.append(self._threads.submit(self._embed_batch, batch, fields))
                while len(waiting) > 2 * self._connections or (waiting and waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _batches(self, texts):
        """Lists of texts that cost about batch_tokens, by what is known of tokens and bytes."""
        batch, cost = [], 0.0
        for text in texts:
            if not isinstance(text, str):
                raise TypeError("texts must be str")
            text = text[:-1] if text.endswith("\n") else text
            own = SPECIAL_TOKENS + len(text.encode("utf-8", "surrogatepass")) / self._bytes_per_token
            if batch and (cost + own > self._batch_tokens or len(batch) >= self._batch_texts):
                yield batch
                batch, cost = [], 0.0
            batch.append(text)
            cost += own
        if batch:
            yield batch

    def _embed_batch(self, texts, fields):
        body = json.dumps({"inputs": texts, **fields}, ensure_ascii=False)
        try:
            body = body.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError("a text holds a lone surrogate, which UTF-8 can't carry") from error
        headers = {**self._headers, "Accept": "application/octet-stream"}
        if self._insist:
            headers["If-Embedding-Space"] = self._space
        answer = self._ask("/embed", body, headers)
        if answer.status == 413 and len(texts) > 1:
            half = len(texts) // 2
            return np.concatenate([self._embed_batch(texts[:half], fields),
                                   self._embed_batch(texts[half:], fields)])
        if answer.status == 412:
            raise EmbeddingSpaceChanged(f"the server's embedding space is not {self._space}")
        if answer.status != 200:
            raise Refused(answer.status, answer.body)
        self._check_space(answer)
        self._count(texts, body, answer)
        return _vectors(answer, len(texts))

    def _check_space(self, answer):
        space = (answer.headers.get("x-embedding-space") or "").lower()
        with self._lock:
            if self._space is None:
                self._space = space or None
            elif space and not (self._space.startswith(space) or space.startswith(self._space)):
                raise EmbeddingSpaceChanged(f"the server's embedding space is {space}, not {self._space}")
            elif self._insist and not space:
                raise EmbeddingSpaceChanged("the server doesn't say which embedding space it has")

    def _count(self, texts, body, answer):
        try:
            tokens = int(answer.headers.get("x-compute-tokens", 0))
        except ValueError:
            tokens = 0
        with self._lock:
            self.stats.requests += 1
            self.stats.texts += len(texts)
            self.stats.tokens += tokens
            own = tokens - SPECIAL_TOKENS * len(texts)
            if own > 0:
                measured = min(64.0, max(0.25, len(body) / own))
                weight = 1 if self.stats.requests == 1 else 0.25
                self._bytes_per_token += (measured - self._bytes_per_token) * weight

    # -- requests --

    def _ask(self, route, body, headers):
        """One answer that is not "not now"; waits, backs off and tries again within the patience."""
        end = time.monotonic() + self._patience_s
        pause = RETRY_MIN_S
        why = "no connection"
        while True:
            began = self._window.acquire()
            refused = False
            try:
                answer = self._exchange(route, body, headers)
                if answer.status not in NOT_NOW:
                    return answer
                refused = answer.status == 429
                why = f"status {answer.status}"
                wait = max(_retry_after(answer), pause * random.uniform(0.5, 1.5))
            except (OSError, http.client.HTTPException) as error:
                why = f"{type(error).__name__}: {error}"
                wait = pause * random.uniform(0.5, 1.5)
            finally:
                self._window.release(began, refused)
            with self._lock:
                self.stats.retries += 1
                self.stats.refusals += refused
            if time.monotonic() + wait > end:
                raise Unavailable(f"{self._host}:{self._port}: {why}, for {self._patience_s:g} s")
            time.sleep(wait)
            pause = min(RETRY_MAX_S, pause * 2)

    def _exchange(self, route, body, headers):
        while True:
            connection, used = self._connection()
            try:
                connection.request("POST", self._prefix + route, body, headers)
                reply = connection.getresponse()
                answer = _Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()},
                                 reply.read())
            except (OSError, http.client.HTTPException):
                connection.close()
                if used:
                    continue  # an idle connection that the server had closed: not its refusal
                raise
            if reply.will_close:
                connection.close()
            else:
                self._idle.append(connection)
            return answer

    def _connection(self):
        """(connection, whether it was used before)."""
        try:
            return self._idle.pop(), True
        except IndexError:
            pass
        if self._secure:
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s,
                                               context=ssl.create_default_context()), False
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, False


def _retry_after(answer):
    try:
        return min(RETRY_MAX_S, max(0.0, float(answer.headers.get("retry-after", 0))))
    except ValueError:
        return 0.0


def _vectors(answer, n):
    """float32 [n,H] out of a raw answer, which says its shape."""
    try:
        rows, width = (int(part) for part in answer.headers.get("x-shape", "").split(","))
    except ValueError:
        raise OrthrusError("the answer has no X-Shape: is this an orthrus server?") from None
    if rows != n or width < 1 or len(answer.body) != rows * width * 4:
        raise OrthrusError(f"{len(answer.body)} bytes for {n} texts, but X-Shape {rows},{width}")
    return np.frombuffer(answer.body, "<f4").reshape(rows, width).astype(np.float32, copy=False)
