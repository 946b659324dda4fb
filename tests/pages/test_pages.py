"""The console and the docs page in a real browser: accessible, whole at every width, and truthful about what they leave out."""
import functools
import http.server
import json
import pathlib
import shutil
import subprocess
import threading
import time

import pytest
from conftest import TINY, TOKEN
from npm_tool import Missing, npm_packages

HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = ("playwright-core@1.65.1", "axe-core@4.14.1")


@pytest.fixture(scope="module")
def browser():
    """(path of the browser, node_modules)"""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if not path:
        pytest.skip("Chromium is not installed")
    try:
        return path, str(npm_packages("pages", *PACKAGES))
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def see(browser, tmp_path):
    def run(server, *looks, url=None):
        plan = {"url": url or f"http://{server.address}", "browser": browser[0], "modules": browser[1],
                "looks": [{"page": "/", "theme": "light", "width": 1280, **look} for look in looks]}
        (tmp_path / "plan.json").write_text(json.dumps(plan))
        done = subprocess.run(["node", HERE / "look.mjs", tmp_path / "plan.json"], capture_output=True, text=True,
                              timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)
    return run


def test_small_and_closed(server):
    sizes = {path: len(server.get(path).body) for path in
             ("/", "/docs", "/assets/orthrus.js", "/assets/orthrus.css", "/favicon.ico")}
    assert sum(sizes.values()) < 100_000, sizes
    for path in ("/", "/docs"):
        page = server.get(path)
        policy = page.header("content-security-policy")
        assert "script-src 'self'" in policy and "unsafe" not in policy
        assert b"<script>" not in page.body and b"style=" not in page.body and b"http://" not in page.body
    for path, kind in (("/assets/orthrus.js", "text/javascript"), ("/assets/orthrus.css", "text/css"),
                       ("/favicon.ico", "image/svg+xml")):
        reply = server.get(path)
        assert reply.header("content-type").startswith(kind)
        assert server.get(path, [("If-None-Match", reply.header("etag"))]).status == 304


def test_accessible_in_both_themes_at_three_widths(server, see):
    for found in see(server, *({"page": page, "theme": theme, "width": width, "axe": True}
                               for page in ("/", "/docs") for theme in ("light", "dark") for width in (390, 900, 1440))):
        where = f"{found['page']} {found['theme']} {found['width']}"
        assert found["axe"] == [], where
        assert found["errors"] == [], where
        assert found["overflow"] <= 0, where
        if found["page"] == "/docs":
            assert found["height"] < 10_000, where


OPEN_ROUTE = """({open: document.querySelectorAll("details.route[open]").length,
  rows: document.querySelectorAll("details.route[open] tbody tr").length,
  sideways: [...document.querySelectorAll(".scroll")].filter(n => n.scrollWidth > n.clientWidth).map(n => n.getAttribute("aria-label"))})"""


def test_what_is_opened_fits_a_phone(server, see):
    """Nothing has to be pushed sideways to be read, and the docs stay within their height."""
    docs, console = see(server, {"page": "/docs#post-classify", "width": 390, "axe": True, "state": OPEN_ROUTE},
                        {"width": 390, "axe": True, "click": ['button[aria-label="curl: Live"]', 'button[aria-label="JSON: Similarity"]']})
    for found in (docs, console):
        assert found["axe"] == [] and found["overflow"] <= 0 and found["height"] < 10_000
    assert docs["state"]["open"] == 1 and docs["state"]["rows"] > 10 and docs["state"]["sideways"] == []


def test_tables_of_a_route_fit_every_width(server, see):
    for found in see(server, *({"page": "/docs#post-embed", "width": width, "state": OPEN_ROUTE} for width in (820, 1170))):
        assert found["state"]["open"] == 1 and found["state"]["sideways"] == [] and found["overflow"] <= 0, found["width"]


CONSOLE = """({sentences: document.querySelectorAll("#results .sentence").length,
  heads: [...document.querySelectorAll("#results .sentence:first-of-type h3")].map(n => n.textContent),
  bars: document.querySelectorAll("#results .bars li").length,
  rows: [...document.querySelectorAll(".heat tbody th")].map(n => n.textContent),
  clipped: [...document.querySelectorAll("section")].filter(n => n.scrollHeight > n.clientHeight + 1).length,
  coloured: [...document.querySelectorAll("#results mark")].filter(n => n.style.background).length,
  charts: [...document.querySelectorAll("figure svg[role=img]")].map(n => n.getAttribute("aria-label")),
  axes: [...document.querySelectorAll("figure svg[role=img]")].every(n => n.querySelectorAll("text").length > 4),
  status: document.getElementById("status").textContent})"""


def test_console_shows_sample_results_at_once(server, see):
    [found] = see(server, {"wait": 5000, "state": CONSOLE})
    state = found["state"]
    assert state["sentences"] == 5 and state["bars"] == 5 * (6 + 3)
    assert state["heads"] == ["classifier · v1", "sentiment · v1"]
    assert state["coloured"] > 20, "words are coloured by their share of the first head's decision"
    assert len(state["rows"]) == 5 and state["rows"][0].startswith("1 On Monday")
    assert state["clipped"] == 0 and state["axes"]
    names = ["Throughput", "Latency", "Batch", "Queue", "Refusals", "Heads"]
    assert [label.split(",")[0] for label in state["charts"]] == names
    assert "p99 –" not in state["charts"][1], "the latency chart shows the request that the page itself made"
    assert state["status"].startswith("5 sentences, ")


def test_console_on_a_model_without_heads(start, see, tmp_path):
    model = tmp_path / "bare"
    shutil.copytree(TINY, model, ignore=shutil.ignore_patterns("heads.safetensors", "variant*", "expected*"))
    [found] = see(start(model=model), {"state": CONSOLE.replace("({", '({none: document.getElementById("heads").textContent, ')})
    assert found["state"]["sentences"] == 5 and len(found["state"]["rows"]) == 5
    assert "embeds only" in found["state"]["none"]


def test_console_says_what_it_leaves_out(start, see):
    [found] = see(start("--max-client-batch", "3"), {"state": CONSOLE})
    assert found["state"]["sentences"] == 3
    assert "the last 2 lines were not sent" in found["state"]["status"]


def test_console_by_keyboard(server, see):
    [found] = see(server, {"wait": 2500, "tabs": 40})
    reached = found["tabs"]
    for name in ("text", "go", "curl: Similarity", "JSON: What the heads say", "Cosine similarity of every pair"):
        assert name in reached, reached
    assert sum(name.startswith(("Throughput", "Latency", "Queue")) for name in reached) == 3


def test_curl_commands_work_as_copied(server, see):
    looks = [{"click": [f'button[aria-label="curl: {name}"]'], "state": "navigator.clipboard.readText()"}
             for name in ("Similarity", "Tokens", "What the heads say", "Live")]
    looks.append({"page": "/docs#post-classify", "state": 'document.querySelector("details[open] pre").textContent'})
    for found in see(server, *looks):
        command = found["state"].split("\n\n")[0]
        done = subprocess.run(["bash", "-c", f"{command} --fail"], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and len(done.stdout) > 20, command


def test_docs_try_it(server, see):
    [found] = see(server, {"page": "/docs#post-classify", "click": ["details[open] button.go"], "wait": 300,
                           "state": """new Promise(done => setTimeout(() => done(
                               document.querySelector("details[open] .sheet .sheet pre").textContent), 1000))"""})
    assert json.loads(found["state"])[0].keys() == {"label", "score"}


def scrapes(running):
    text = running.get("/metrics", admin=True).body.decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith('orthrus_requests_total{route="/metrics"'))


def test_a_swap_is_marked(start, token_file, see):
    running = start("--admin-token-file", token_file)

    def swap():
        deadline = time.monotonic() + 120
        mine = 0
        while scrapes(running) <= mine and time.monotonic() < deadline:  # the page has not asked before it
            mine += 1
            time.sleep(0.5)
        body = (TINY / "heads.safetensors").read_bytes()
        running.request("PUT", "/admin/heads", body, [("Authorization", f"Bearer {TOKEN}"),
                        ("Content-Type", "application/octet-stream")], admin=True)

    thread = threading.Thread(target=swap)
    thread.start()
    [found] = see(running, {"wait": 9000, "state": """({marks: document.querySelectorAll("line.swap").length,
        said: document.querySelector("figure svg[role=img]").getAttribute("aria-label")})"""})
    thread.join()
    assert found["state"]["marks"] == 6 and " to v2" in found["state"]["said"]


PAGE_OF_ANOTHER_ORIGIN = """<!doctype html><title>an application</title><script type="module">
import OpenAI from "/openai/index.mjs";
const client = new OpenAI({baseURL: "http://SERVER/v1", apiKey: "none", maxRetries: 0, dangerouslyAllowBrowser: true});
const answer = client.embeddings.create({model: "any", input: ["hello world", "the old river"]});
window.answered = answer.then(got => got.data.map(d => d.embedding.length), error => String(error));
</script>"""


@pytest.fixture
def elsewhere(tmp_path):
    """Another origin, whose pages are the files of tmp_path/site; OpenAI's client for JavaScript among them."""
    try:
        modules = npm_packages("openai-browser", "openai@7.57.0")
    except Missing as missing:
        pytest.skip(str(missing))
    site = tmp_path / "site"
    site.mkdir()
    (site / "openai").symlink_to(modules / "openai")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        extensions_map = {".mjs": "text/javascript", ".html": "text/html"}

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield site, f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.mark.parametrize("allowed", (True, False))
def test_a_page_of_another_origin(start, see, elsewhere, allowed):
    """OpenAI's client sends headers of its own, which the browser asks for first."""
    site, origin = elsewhere
    running = start("--cors-origin", origin if allowed else "https://app.example")
    (site / "app.html").write_text(PAGE_OF_ANOTHER_ORIGIN.replace("SERVER", running.address))
    [found] = see(running, {"page": "/app.html", "wait": 500, "state": "window.answered"}, url=origin)
    assert found["state"] == [32, 32] if allowed else "Connection error" in found["state"], found
