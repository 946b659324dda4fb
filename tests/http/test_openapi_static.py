"""openapi.yaml by itself: valid, its examples true, and in step with the tables of the source."""
import json
import pathlib
import re
import subprocess
import sys

import pytest
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = (ROOT / "openapi.yaml").read_text(encoding="utf-8")
SPEC = yaml.safe_load(TEXT)
VERBS = ("get", "put", "post", "delete", "patch", "head", "options")
ROOT_URI = "urn:orthrus"

# request.c's name of a route's grammar: the schema of its body
SCHEMAS = {
    "API_EMBED": "EmbedRequest",
    "API_CLASSIFY": "ClassifyRequest",
    "API_SENTIMENT": "ClassifyRequest",
    "API_PREDICT": "PredictRequest",
    "API_ANALYZE": "AnalyzeRequest",
    "API_OPENAI": "OpenAIRequest",
    "API_TOKENIZE": "TokenizeRequest",
    "API_HEAD": "HeadRequest",
    "API_RERANK": "RerankRequest",
    "API_SIMILARITY": "SimilarityRequest",
    "API_EMBED_ALL": "EmbedAllRequest",
    "API_DECODE": "DecodeRequest",
}


def schema(name):
    return SPEC["components"]["schemas"][name]


def resolve(node):
    while isinstance(node, dict) and "$ref" in node:
        target = SPEC
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def operations():
    for path, item in SPEC["paths"].items():
        for verb in VERBS:
            if verb in item:
                yield path, verb, item[verb]


def absolute(node):
    """The node with its references made independent of where it stands."""
    if isinstance(node, dict):
        return {k: ROOT_URI + v if k == "$ref" else absolute(v) for k, v in node.items()}
    return [absolute(v) for v in node] if isinstance(node, list) else node


def validator(node):
    whole = Resource(contents=SPEC, specification=DRAFT202012)
    return Draft202012Validator(absolute(node), registry=Registry().with_resource(ROOT_URI, whole))


def test_is_valid_openapi():
    validate(SPEC)
    assert SPEC["openapi"].startswith("3.1.")


def test_operation_ids_are_distinct():
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(ids) == len(set(ids))


def media_types():
    for path, verb, operation in operations():
        body = resolve(operation.get("requestBody", {}))
        for media in body.get("content", {}).values():
            yield f"{verb} {path}", media
        for status, response in operation["responses"].items():
            for media in resolve(response).get("content", {}).values():
                yield f"{verb} {path} {status}", media


def test_examples_fit_their_schemas():
    seen = 0
    for where, media in media_types():
        for name, example in media.get("examples", {}).items():
            errors = [e.message for e in validator(media["schema"]).iter_errors(example["value"])]
            assert not errors, f"{where}, example {name}: {errors}"
            seen += 1
    assert seen > 50


def test_every_operation_has_an_answer_for_a_wrong_method_and_a_bad_request():
    for path, verb, operation in operations():
        assert {"200", "400", "405"} <= set(operation["responses"]), f"{verb} {path}"


def test_every_reply_carries_the_request_id():
    for path, verb, operation in operations():
        for status, response in operation["responses"].items():
            headers = resolve(response)["headers"]
            assert "X-Request-Id" in headers, f"{verb} {path} {status}"
            if status in ("429", "503"):
                assert "Retry-After" in headers, f"{verb} {path} {status}"


def test_codes_are_the_problem_tables():
    source = (ROOT / "api/problem.c").read_text(encoding="utf-8")
    rows = re.findall(r'\[PROBLEM_(\w+)\] = \{(\d+), "(\w+)", "(\w+)"\}', source)
    codes = {code for kind, _, _, code in rows if kind != "NONE"}
    assert len(rows) > 30
    assert set(schema("Code")["enum"]) == codes
    assert {word for _, _, word, _ in rows} <= set(
        schema("Problem")["properties"]["error_type"]["enum"]
    )


def member_table():
    """name → (routes of the body, routes of parameters), out of request.c."""
    source = (ROOT / "api/request.c").read_text(encoding="utf-8")
    groups = {"CLASSIFIER": ["API_CLASSIFY", "API_SENTIMENT", "API_HEAD"], "VECTORS": ["API_EMBED", "API_EMBED_ALL"]}
    groups["PREDICTION"] = [*groups["CLASSIFIER"], "API_PREDICT"]
    groups["HUGGING"] = [*groups["PREDICTION"], *groups["VECTORS"], "API_SIMILARITY"]

    def routes(expression):
        found = set(re.findall(r"API_\w+", expression))
        for group, members in groups.items():
            if re.search(rf"\b{group}\b", expression):
                found.update(members)
        return found

    table = source[source.index("} members[] = {") : source.index("enum { N_MEMBERS")]
    rows = re.findall(r'\{"(\w+)",([^{]*?),([^{,]*?),\s*read_\w+,', table)
    return {name: (routes(body), routes(parameters)) for name, body, parameters in rows}


@pytest.mark.parametrize("kind", SCHEMAS)
def test_fields_are_the_member_tables(kind):
    table = member_table()
    assert len(table) >= 16
    properties = schema(SCHEMAS[kind])["properties"]
    assert set(properties) == {name for name, (body, _) in table.items() if kind in body}
    inner = {name for name, (_, parameters) in table.items() if kind in parameters}
    if "parameters" in properties:
        assert set(resolve(properties["parameters"])["properties"]) == inner
    else:
        assert not inner


def test_routes_are_the_servers():
    source = (ROOT / "server/routes/routes.c").read_text(encoding="utf-8")
    served = set()
    for path, verb, listener in re.findall(r'\{"(/[^"]*)", HTTP_(\w+),\s*(\w+),', source):
        if path == "/v1/models/":
            path += "{id}"
        if path == "/heads/":
            path += "{name}"
        if path == "/admin/heads/":
            path += "{name}"
        served.add((path, verb.lower()))
        assert (SPEC["paths"][path].get("x-listener") == "admin") == (listener == "LISTENER_ADMIN")
    assert served == {(path, verb) for path, verb, _ in operations()}


def test_configurable_limits_are_marked():
    """Every bound that a flag or the model moves says so; the table in the description explains each."""
    marks = set()

    def walk(node):
        if isinstance(node, dict):
            if "x-limit" in node:
                assert "maximum" in node or "maxItems" in node
                marks.add(node["x-limit"])
            if node.get("maxItems", 0) > 8 or node.get("maximum", 0) in (768, 30521, 60000):
                assert "x-limit" in node, node
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(SPEC)
    described = set(re.findall(r"^\| (\w+) \|", SPEC["info"]["description"], re.M))
    assert marks and marks <= described


def test_the_json_is_the_yaml():
    done = subprocess.run([sys.executable, ROOT / "tools/openapi-json", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((ROOT / "openapi.json").read_text(encoding="utf-8")) == SPEC


def schemas(node, where=""):
    """Every schema with the place where it stands."""
    if isinstance(node, dict):
        for key, value in node.items():
            inner = f"{where}/{key}"
            if key in ("schema", "items") or (key == "additionalProperties" and isinstance(value, dict)):
                yield inner, value
            if key in ("properties", "schemas"):
                yield from ((f"{inner}/{name}", child) for name, child in value.items())
            if key == "anyOf":
                yield from ((f"{inner}/{i}", child) for i, child in enumerate(value))
            if key not in ("example", "examples", "enum"):
                yield from schemas(value, inner)
    elif isinstance(node, list):
        for i, child in enumerate(node):
            yield from schemas(child, f"{where}/{i}")


def test_generators_can_read_it():
    """docs/CONTRACT.md: what makes code generators stumble though it is valid."""
    for where, node in schemas(SPEC):
        assert "oneOf" not in node, f"{where}: anyOf, not oneOf"
        if "$ref" in node or "anyOf" in node:
            continue
        kind = node.get("type")
        assert kind and kind != "null", f"{where}: every schema has a type"
        kinds = kind if isinstance(kind, list) else [kind]
        if "integer" in kinds:
            assert node.get("format") == "int64", f"{where}: an integer needs format: int64"
        assert "const" not in node or kind == "string", f"{where}: const on strings alone"
        assert node.get("format") != "binary" or "minLength" not in node, f"{where}: no bounds on bytes"
        if "enum" in node:
            words = [w.lower() for w in node["enum"] if w is not None]
            assert len(words) == len(node["enum"]) == len(set(words)), f"{where}: an enum of distinct words, no null"
            assert "default" not in node, f"{where}: an enum with a default; use a pattern"
        named = where.count("/") == 3 and where.startswith("/components/schemas/")
        if re.search(r"/(schema|anyOf/\d+)$", where) and not named:
            assert not {"array", "object"} & set(kinds), f"{where}: an array or an object needs a name"
        if where.endswith("/items"):
            assert not {"array"} & set(kinds), f"{where}: an array of arrays is two names"


def test_unions_are_told_apart_by_json_type():
    """docs/CONTRACT.md, rule 13: ogen has no other way, and takes what says x-ogen-type as it came."""
    seen = 0

    def kinds(node):
        kind = resolve(node).get("type", "union")
        return kind if isinstance(kind, list) else [kind]

    def walk(node, names):
        nonlocal seen
        if isinstance(node, list):
            for value in node:
                walk(value, names)
        elif isinstance(node, dict) and "$ref" in node:
            if node["$ref"] not in names:
                names.add(node["$ref"])
                walk(resolve(node), names)
        elif isinstance(node, dict) and "x-ogen-type" not in node:
            if "anyOf" in node:
                found = [kind for each in node["anyOf"] for kind in kinds(each)]
                assert len(found) == len(set(found)) and "union" not in found, node
                seen += 1
            for value in node.values():
                walk(value, names)

    walk(SPEC["paths"], set())
    assert seen > 3


def test_a_name_means_one_thing():
    seen = {}
    for kind in ("schemas", "responses", "parameters", "headers", "requestBodies"):
        for name in SPEC["components"][kind]:
            seen.setdefault(name.replace("-", "").lower(), []).append(f"{kind}/{name}")
    assert not [places for places in seen.values() if len(places) > 1]
