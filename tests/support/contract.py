# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Holds every answer of the daemon against docs/openapi.yaml: path, method, status, type and body."""

import functools
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import yaml
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.protocols import Validator

DESCRIPTION = Path(__file__).parents[2] / "docs" / "openapi.yaml"
METHODS = ("get", "put", "post", "delete")

Json = dict[str, Any]


@functools.cache
def description() -> Json:
    loaded: Json = yaml.safe_load(DESCRIPTION.read_text())
    return loaded


@functools.cache
def _paths() -> list[tuple[re.Pattern[str], str]]:
    """Templates with the fewest parameters first, so that `/services/signal` is not taken for a service."""
    templates = sorted(description()["paths"], key=lambda path: path.count("{"))
    return [(re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path.replace(".", r"\.")) + "/?"), path) for path in templates]


def _resolve(node: Json) -> Json:
    while "$ref" in node:
        found: Any = description()
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        node = found
    return node


def operation(method: str, path: str) -> tuple[str, Json] | None:
    """The operation of a request, with its name; nil for a path or method that the description does not have."""
    path = re.sub(r"//+$", "/", path)
    for pattern, template in _paths():
        if pattern.fullmatch(path) and (found := description()["paths"][template].get(method.lower())):
            return f"{method.upper()} {template}", found
    return None


def validator(schema: Json) -> Validator:
    # The references in a schema are relative to the whole description.
    whole = {**schema, "components": description()["components"]}
    return Draft202012Validator(whole, format_checker=FormatChecker())


def _check_value(schema: Json, value: Any, where: str) -> None:
    problems = [f"{error.json_path}: {error.message[:300]}" for error in validator(schema).iter_errors(value)]
    assert not problems, f"{where} breaks the description: {problems}"


def check_request(method: str, path: str, query: list[tuple[str, str]], body: bytes | None, kind: str) -> list[str]:
    """What of a request the description does not allow: an answer of success to it would be undocumented."""
    found = operation(method, path)
    if found is None:
        return []
    name, details = found
    shared = next(item.get("parameters", []) for template, item in description()["paths"].items() if name.endswith(f" {template}"))
    known = {_resolve(one)["name"] for one in [*details.get("parameters", []), *shared]}
    problems = [f"{name} has no parameter '{key}'" for key, _ in query if key.removesuffix("[]") not in known]
    if body and kind == "application/json":
        content = _resolve(details.get("requestBody", {})).get("content", {})
        if "application/json" not in content:
            return [*problems, f"{name} has no JSON body"]
        try:
            value = json.loads(body)
        except ValueError:
            return [*problems, f"the body of {name} is not JSON"]
        errors = validator(content["application/json"]["schema"]).iter_errors(value)
        problems += [f"the body of {name}: {error.json_path}: {error.message[:200]}" for error in errors]
    return problems


def check_head(method: str, path: str, status: int, headers: httpx.Headers) -> Json | None:
    """Checks a status and its headers; the schema for the body, if there is one."""
    assert headers.get("x-request-id") and headers.get("sprite-version"), f"{method} {path}: {headers}"
    if method == "HEAD":
        if status == 405:
            return None
        method = "GET"
    found = operation(method, path)
    if found is None:
        assert status in (400, 401, 404, 405, 413, 431), f"{method} {path} is not described and was answered {status}"
        return {"$ref": "#/components/schemas/Error"}
    name, details = found
    assert str(status) in details["responses"], f"{name} was answered {status}, which is not described for it"
    content = _resolve(details["responses"][str(status)]).get("content")
    if not content:
        return None
    kind = headers.get("content-type", "").split(";")[0].strip()
    assert kind in content, f"{name} was answered {status} with {kind!r}; described are {sorted(content)}"
    schema: Json = content[kind].get("schema", {})
    return schema


def check(request: httpx.Request, response: httpx.Response) -> None:
    """Checks a request and its whole answer."""
    method, path = request.method, request.url.raw_path.decode("ascii").split("?")[0]
    schema = check_head(method, path, response.status_code, response.headers)
    where = f"the answer {response.status_code} to {method} {unquote(path)}"
    if 200 <= response.status_code < 300:
        kind = request.headers.get("content-type", "").split(";")[0]
        body = request.content if kind == "application/json" else None
        problems = check_request(method, path, request.url.params.multi_items(), body, kind)
        assert not problems, f"a request that is not described was accepted: {problems}"
    if schema is None or method == "HEAD" or response.status_code == 204:
        assert not response.content, f"{where} has a body that is not described: {response.content[:200]!r}"
        return
    kind = response.headers["content-type"].split(";")[0].strip()
    if kind == "application/x-ndjson":
        for line in response.text.splitlines():
            assert len(line) < 64 << 10, f"{where} has a line of {len(line)} characters"
            _check_value(schema, json.loads(line), where)
    elif kind == "application/json":
        _check_value(schema, response.json(), where)


class CheckedClient(httpx.Client):
    """A client that fails a test whose request is answered otherwise than described."""

    def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:
        response = super().send(request, stream=stream, **options)
        # The sprites' own URLs answer what the services in them like.
        if ".sprites.localhost" in request.headers.get("host", ""):
            return response
        if stream:
            path = request.url.raw_path.decode("ascii").split("?")[0]
            check_head(request.method, path, response.status_code, response.headers)
        else:
            check(request, response)
        return response
