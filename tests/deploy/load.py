"""Load whose every answer is checked: a catalogue of requests, the right answer to each under each
set of heads, wrk for volume and a few Python clients for variety."""

import http.client
import json
import random
import re
import subprocess
import threading
import time

from fleet import WRK, ask

TOLERANCE = 2e-6  # what INTERFACE's batch invariance allows where it is not to the last bit
WORDS = ("the quick brown fox jumps over a lazy dog while seven wizards quietly box up every "
         "liquor jug in town and news of it travels fast").split()


def catalogue(n=48):
    """[(route, body)]: every kind of prediction route, short and long, one text and several."""
    random.seed(8)
    entries = []
    for i in range(n):
        def text():
            return " ".join(random.choices(WORDS, k=random.choice((1, 4, 12, 40))))
        several = [text() for _ in range(random.choice((1, 2, 7)))]
        entries.append([
            ("/embed", {"inputs": text()}),
            ("/classify", {"inputs": several}),
            ("/sentiment", {"inputs": text(), "raw_scores": True}),
            ("/embed", {"inputs": several, "normalize": False}),
            ("/analyze", {"inputs": several}),
            ("/v1/embeddings", {"input": several, "model": "any"}),
        ][i % 6])
    return [(route, json.dumps(body)) for route, body in entries]


def heads_of(headers):
    """12 hex digits of the heads that answered; the version's number is each replica's own."""
    return headers.get("x-heads", "").rsplit("-", 1)[-1] or "-"


def normal(body):
    return re.sub(r'"v\d+-', '"v-', body)


def answers(address, entries, known=None):
    """known[i][heads] = body of every entry, by the replica at address with its present heads."""
    known = known or [{} for _ in entries]
    for i, (route, body) in enumerate(entries):
        status, headers, reply = ask(address, route, "POST", body,
                                     {"Content-Type": "application/json"})
        assert status == 200, reply
        known[i][heads_of(headers)] = normal(reply.decode())
    return known


NUMBER = re.compile(r"-?\d+\.\d+(?:[eE][-+]?\d+)?|-?\d+[eE][-+]?\d+")


def same(a, b, tolerance=TOLERANCE):
    if a == b:
        return True
    if NUMBER.sub("#", a) != NUMBER.sub("#", b):
        return False
    pairs = zip(NUMBER.findall(a), NUMBER.findall(b), strict=True)
    return all(abs(float(x) - float(y)) <= tolerance for x, y in pairs)


class Clients:
    """Python clients on kept connections, each request checked, until stop()."""

    def __init__(self, address, entries, known, n=2, pause_s=0.002, tolerance=TOLERANCE):
        self.address, self.entries, self.known, self.pause_s = address, entries, known, pause_s
        self.tolerance = tolerance
        self.done, self.failures, self.slowest_s = 0, [], 0.0
        self.heads = set()
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in range(n)]
        for thread in self.threads:
            thread.start()

    def _one(self, connection, choose):
        i = choose.randrange(len(self.entries))
        route, body = self.entries[i]
        begin = time.monotonic()
        connection.request("POST", route, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        text = reply.read().decode()
        heads = heads_of({k.lower(): v for k, v in reply.getheaders()})
        took = time.monotonic() - begin
        wrong = None
        if reply.status != 200:
            wrong = f"{route}: {reply.status} {text[:200]}"
        elif heads not in self.known[i]:
            wrong = f"{route}: unknown heads {heads}"
        elif not same(normal(text), self.known[i][heads], self.tolerance):
            wrong = f"{route}: another answer under {heads}: {text[:200]}"
        with self.lock:
            self.done += 1
            self.slowest_s = max(self.slowest_s, took)
            self.heads.add(heads)
            if wrong:
                self.failures.append(wrong)

    def _run(self, index):
        choose = random.Random(index)
        host, port = self.address.rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        while not self.ended.is_set():
            try:
                self._one(connection, choose)
            except (OSError, http.client.HTTPException) as problem:
                with self.lock:
                    self.done += 1
                    self.failures.append(repr(problem))
                connection.close()
            time.sleep(self.pause_s)
        connection.close()

    def stop(self):
        self.ended.set()
        for thread in self.threads:
            thread.join(90)


# wrk tells a response nothing of its request, so the request's number travels as X-Request-Id,
# which orthrus echoes.
LUA = """
local entries = {%s}
local known = {%s}
local n, requests = 0, {}
local threads = {}

function setup(thread) table.insert(threads, thread) end

function init(args)
  wrong, example = 0, ""
  for i, entry in ipairs(entries) do
    requests[i] = wrk.format("POST", entry[1], {["Content-Type"] = "application/json",
                             ["X-Request-Id"] = tostring(i)}, entry[2])
  end
end

function request()
  n = n + 1
  return requests[(n - 1) %% #requests + 1]
end

local function same(a, b)
  if a == b then return true end
  local pattern = "-?%%d+%%.?%%d*[eE]?[-+]?%%d*"
  if a:gsub(pattern, "#") ~= b:gsub(pattern, "#") then return false end
  local next_of_b = b:gmatch(pattern)
  for x in a:gmatch(pattern) do
    local y = next_of_b()
    if x ~= y and not (math.abs(tonumber(x) - tonumber(y)) <= %g) then return false end
  end
  return true
end

function response(status, headers, body)
  if status ~= 200 then
    wrong, example = wrong + 1, status .. " " .. body:sub(1, 200)
    return
  end
  local id, heads
  for name, value in pairs(headers) do
    local lower = name:lower()
    if lower == "x-request-id" then id = tonumber(value)
    elseif lower == "x-heads" then heads = value:match("[^-]+$") end
  end
  local right = id and known[id][heads or "-"]
  if not right or not same(body:gsub('"v%%d+%%-', '"v-'), right) then
    wrong, example = wrong + 1, "another answer: " .. body:sub(1, 200)
  end
end

function done(summary, latency, all)
  local bad, text = 0, ""
  for _, thread in ipairs(threads) do
    bad = bad + thread:get("wrong")
    if thread:get("example") ~= "" then text = thread:get("example") end
  end
  local e = summary.errors
  io.write(string.format("\\nRESULT %%d %%d %%d %%d %%d %%d %%d %%.3f\\n", summary.requests, bad,
           e.connect, e.read, e.write, e.timeout, latency.max, summary.duration / 1e6))
  io.write(string.format("LATENCY %%d %%d %%d\\n", latency:percentile(50), latency:percentile(99),
           latency:percentile(99.9)))
  io.write("EXAMPLE " .. text .. "\\n")
end
"""


def lua_string(text):
    return '"' + re.sub(r'[\\"\n\r\0]', lambda m: f"\\{ord(m[0]):03d}", text) + '"'


def wrk_script(path, entries, known):
    rows = ", ".join(f"{{{lua_string(r)}, {lua_string(b)}}}" for r, b in entries)
    right = ", ".join("{" + ", ".join(f"[{lua_string(h)}] = {lua_string(b)}"
                                      for h, b in by_heads.items()) + "}" for by_heads in known)
    path.write_text(LUA % (rows, right, TOLERANCE))


class Volume:
    """wrk in the background for a number of seconds; result() waits for its end."""

    def __init__(self, address, script, seconds, connections=24, threads=1):
        self.process = subprocess.Popen(
            [WRK, f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "-s",
             str(script), f"http://{address}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def running(self):
        return self.process.poll() is None

    def result(self):
        output, _ = self.process.communicate()
        match = re.search(r"^RESULT (.*)$", output, re.M)
        assert match, output
        numbers = [float(x) for x in match[1].split()]
        names = ("requests", "wrong", "connect", "read", "write", "timeout", "slowest_us",
                 "seconds")
        result = dict(zip(names, numbers, strict=True))
        percentiles = re.search(r"^LATENCY (\d+) (\d+) (\d+)$", output, re.M)
        result.update(zip(("p50_us", "p99_us", "p999_us"), map(int, percentiles.groups()),
                          strict=True))
        result["failed"] = int(sum(result[k] for k in names[1:6]))
        result["example"] = re.search(r"^EXAMPLE (.*)$", output, re.M)[1]
        return result
