"""Calls every operation of the plan through the client that openapi-generator made for Python: call.py PLAN.json"""
import importlib
import inspect
import json
import pathlib
import pkgutil
import re
import sys

import openapi_client
from openapi_client import api


def snake(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def body_of(case, heads):
    if case["schema"] is None:
        return [heads] if case["bytes"] else []
    return [getattr(openapi_client, case["schema"]).from_json(json.dumps(case["body"]))]


plan = json.loads(pathlib.Path(sys.argv[1]).read_text())
heads = pathlib.Path(plan["heads"]).read_bytes()
clients = {admin: openapi_client.ApiClient(openapi_client.Configuration(
    # Admin operations have a server of their own in the contract, which this client would not fill in.
    host=plan["admin" if admin else "main"], access_token=plan["token"] if admin else None,
    ignore_operation_servers=True)) for admin in (False, True)}
methods = {}
for module in pkgutil.iter_modules(api.__path__):
    for _, kind in inspect.getmembers(importlib.import_module(f"openapi_client.api.{module.name}"), inspect.isclass):
        methods.update({name: kind for name in vars(kind) if name.endswith("_with_http_info")})
for case in plan["cases"]:
    name = f"{snake(case['operation'])}_with_http_info"
    method = getattr(methods[name](clients[case["admin"]]), name)
    names = [n for n, p in inspect.signature(method).parameters.items() if p.default is inspect.Parameter.empty]
    given = [*(int(path) if path.isdigit() else path for path in case["paths"]), *body_of(case, heads)]
    named = {}
    if len(given) > len(names):  # an optional body
        keyword = next(n for n in inspect.signature(method).parameters if n == snake(case["schema"]))
        named = {keyword: given.pop()}
    try:
        answer = method(*given, **named)
    except openapi_client.ApiException as error:
        assert error.status == case["status"], f"{case['operation']}: {error}"
        continue
    assert answer.status_code == case["status"], f"{case['operation']}: {answer.status_code}"
    assert not case["json"] or answer.data is not None, case["operation"]
print(f"{len(plan['cases'])} called")
