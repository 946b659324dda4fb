"""docs/MODELS.md's tables of fields against the program: each row with a value is set in a folder, and the row says
whether it is honoured, has no influence or ends the start."""
import json
import re
import subprocess

import pytest
from conftest import BIN, ROOT
from test_model_folders import DENSE, TRANSFORMER, POOLING, change, embed, folder, warnings, write, write_dense, write_modules

PAGE = ROOT / "docs" / "MODELS.md"
DEFAULT_FILE = "config.json"
assert folder  # a fixture


def rows():
    """(file, field, verdict, value or None) of every row of fields."""
    name = None
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            name = DEFAULT_FILE if line == "## config.json" else None
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if len(cells) == 3 and cells[0].endswith(".json"):
            name = cells[0]
        elif name and len(cells) == 3 and cells[0].startswith("`"):
            for field in re.findall(r"`([^`]+)`", cells[0]):
                value = cells[2]
                yield name, field, cells[1], json.loads(value) if value else None


ROWS = list(rows())


def full(folder):
    """A folder with every file of the tables, its Dense as wide as the encoder."""
    write_modules(folder, TRANSFORMER, POOLING, DENSE, pooling={"pooling_mode": "mean"})
    write(folder / "2_Dense" / "config.json", {"in_features": 32, "out_features": 5, "bias": True,
                                               "activation_function": "torch.nn.Tanh"})
    write_dense(folder, 0.25)
    write(folder / "sentence_bert_config.json", {})
    write(folder / "config_sentence_transformers.json", {"prompts": {}})
    write(folder / "tokenizer_config.json", {})
    return folder


def inspect(folder):
    return subprocess.run([BIN, "inspect", str(folder)], capture_output=True, text=True, timeout=60)


def test_the_page_has_its_tables():
    files = {name for name, *_ in ROWS}
    assert files == {DEFAULT_FILE, "1_Pooling/config.json", "2_Dense/config.json", "sentence_bert_config.json",
                     "config_sentence_transformers.json", "tokenizer_config.json"}
    assert all(verdict.split(":")[0].split(" ")[0].strip(",") in ("honoured", "no", "refused")
               for _, _, verdict, _ in ROWS)


def test_the_page_lacks_no_field():
    """Every field that a table of the source honours or refuses, and every field that it reads by name."""
    fields = {field for _, field, *_ in ROWS}
    for path in sorted((ROOT / "model" / "files").glob("*.c")):
        source = path.read_text()
        known = set(re.findall(r'\{"(\w+)", FIELD_(?:READ|FALSE|EMPTY)\}', source))
        known |= set(re.findall(r'\bfields_(?:get|size|float|bool|limit)\(\w+,\s*"(\w+)"', source))
        assert known <= fields, (path.name, known - fields)


@pytest.mark.parametrize(("name", "field", "verdict", "value"),
                         [row for row in ROWS if row[2].startswith("refused") and row[3] is not None])
def test_refused(folder, name, field, verdict, value):
    full(folder)
    assert inspect(folder).returncode == 0
    change(folder / name, **{field: value})
    done = inspect(folder)
    assert done.returncode == 1 and f"{name}: {field}" in done.stderr, (verdict, done.stderr)
    assert len(done.stderr.strip().splitlines()) == 1


def test_no_influence(start, folder):
    full(folder)
    before = embed(start("--precision", "fp32", model=folder))
    for name, field, verdict, value in ROWS:
        if verdict.startswith("no influence"):
            change(folder / name, **{field: value})
    server = start("--precision", "fp32", model=folder)
    assert embed(server) == before and not warnings(server)


@pytest.mark.parametrize(("name", "field", "value"),
                         [(row[0], row[1], row[3]) for row in ROWS
                          if row[2].startswith("honoured") and row[3] is not None and row[1] != "activation"])
def test_honoured(start, folder, name, field, value):
    """It starts without a word, and what makes a vector is another thing than before."""
    full(folder)
    write(folder / "tokenizer_config.json", {"do_lower_case": False})
    prompts = {"prompts": {"query": "to end: "}, "default_prompt_name": "query"}
    if field == "include_prompt":
        write(folder / "config_sentence_transformers.json", prompts)
    before = start(model=folder).get("/info").json()["embedding_space"]["id"]
    change(folder / name, **{field: value} if field != "truncate_dim" else {field: 3})
    server = start(model=folder)
    assert server.get("/info").json()["embedding_space"]["id"] != before
    assert not warnings(server)


def test_every_rule_of_the_program_is_known():
    """Fields that the program refuses are rows of the page."""
    source = (ROOT / "model" / "files" / "config_rules.c").read_text() + (ROOT / "model" / "files" / "modules.c").read_text()
    refused = set(re.findall(r'\{"([^"]+)", FIELD_(?:FALSE|EMPTY)\}', source))
    assert refused and refused <= {field for _, field, verdict, _ in ROWS if verdict.startswith("refused")}
