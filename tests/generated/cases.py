"""What every generated client is held to: each operation of the contract, called once on a running server."""
from conftest import TINY

HEADS = TINY / "heads.safetensors"
VERBS = ("get", "put", "post", "delete")
# Operations whose answer on the tiny model is not 200.
STATUS = {"rerank": 424, "shadowReport": 404, "dropShadow": 404, "promoteShadow": 404}
# Path parameters; the contract's own examples name bert-base-uncased.
PATHS = {"id": "tiny-bert", "name": "sentiment"}
# The same place in the path is a version's number here: templates that differ by a name alone are one.
PATHS_OF = {"getHeads": ["1"]}


def resolve(api, node):
    while "$ref" in node:
        target = api
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def case_of(api, path, item, verb):
    operation = item[verb]
    content = resolve(api, operation.get("requestBody", {})).get("content", {})
    parameters = [resolve(api, p) for p in operation.get("parameters", [])]
    case = {
        "operation": operation["operationId"],
        "admin": item.get("x-listener") == "admin",
        "paths": PATHS_OF.get(operation["operationId"]) or [PATHS.get(p["name"], p.get("example")) for p in parameters if p["in"] == "path"],
        "body": None,
        "schema": None,
        "bytes": "application/octet-stream" in content,
        "status": STATUS.get(operation["operationId"], 200),
        "json": False,
        "union": False,
    }
    if "application/json" in content:
        examples = list(content["application/json"].get("examples", {}).values())
        assert examples, f"{verb} {path}: its body needs an example"
        case["body"] = examples[0]["value"]
        case["schema"] = content["application/json"]["schema"]["$ref"].split("/")[-1]
    answer = resolve(api, operation["responses"].get(str(case["status"]), {}))
    case["json"] = "application/json" in answer.get("content", {})
    if case["json"]:
        schema = resolve(api, answer["content"]["application/json"]["schema"])
        case["union"] = "anyOf" in schema or "anyOf" in resolve(api, schema.get("items", {}))
    return case


def cases_of(api):
    """One call an operation, in the contract's order."""
    found = [case_of(api, path, item, verb) for path, item in api["paths"].items() for verb in VERBS if verb in item]
    assert len(found) >= 20
    return found
