"""The docs page reads openapi.yaml with its own small parser: it must see what PyYAML sees."""
import json
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
TRICKY = r"""
info:
  title: x # a comment
  description: |
    Line one: with colon
      indented

    last
  folded: >-
    a b
    c

    d
list:
- a: 1
  b: [1, "two", {x: y, 'z': null}]
- - nested
  - 2.5e-3
- {plain: text}
  
"quoted key": "a \"b\" \u00e9 # no comment"
empty: {}
multi: this is
  continued here
/path/{id}:
  get: {summary: hi there, tags: [a, b]}
flow: [
  1,
  2]
pattern: '^[0-9a-f]{12}-(fp32|bf16)$'
"200":
  description: ok
"""


def parse_in_page(text):
    page = (ROOT / "server/routes/pages/docs.html").read_text(encoding="utf-8")
    parser = re.search(r'<script id="yaml">(.*?)</script>', page, re.S).group(1)
    program = parser + (
        '\nprocess.stdout.write(JSON.stringify(parseYaml(require("fs").readFileSync(0, "utf8"))));'
    )
    run = subprocess.run(["node", "-e", program], input=text.encode(), capture_output=True)
    return run.returncode, run.stdout, run.stderr.decode()


needs_node = pytest.mark.skipif(not shutil.which("node"), reason="Node.js is not installed")


@needs_node
@pytest.mark.parametrize("source", ["tricky", "openapi.yaml"])
def test_page_reads_yaml_as_pyyaml_does(source):
    text = TRICKY if source == "tricky" else (ROOT / source).read_text(encoding="utf-8")
    code, out, err = parse_in_page(text)
    assert code == 0, err
    expected = yaml.load(text, Loader=yaml.CSafeLoader)
    assert json.loads(out) == json.loads(json.dumps(expected))


@needs_node
@pytest.mark.parametrize("text", ["a: &x 1\nb: *x\n", "a: 1\na: 2\n", "a: [1, 2\n", "a: 1\n   b: 2\n"])
def test_page_refuses_what_it_does_not_know(text):
    code, _, err = parse_in_page(text)
    assert code != 0 and "openapi.yaml line" in err
