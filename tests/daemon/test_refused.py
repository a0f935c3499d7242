# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The table of refused inputs: every operation of docs/openapi.yaml has its rows, and none may be forgotten."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support.api import Api
from support.contract import description
from support.daemon import Daemon
from support.exec import shell
from support.fixtures import fresh_name

LONG = "x" * 5000
#: Bodies that no operation takes.
BAD_BODIES = [b"{", b"[]", b'"text"', b"\xff", b'{"a":' * 200]

#: By operation: query, body and the statuses that are right. What lacks a body here has none.
ROWS: dict[str, list[tuple[dict[str, Any], Any, set[int]]]] = {
    "listSprites": [
        ({"max_results": "0"}, None, {400}), ({"max_results": "-1"}, None, {400}), ({"max_results": "many"}, None, {400}),
        ({"continuation_token": "!"}, None, {400}),
    ],
    "createSprite": [
        ({}, {}, {400}), ({}, {"name": ""}, {400}), ({}, {"name": "A"}, {400}), ({}, {"name": "-a"}, {400}),
        ({}, {"name": "x" * 64}, {400}), ({}, {"name": 1}, {400}), ({}, {"name": "x", "labels": [""]}, {400}),
        ({}, {"name": "x", "config": {"ram_mb": -1}}, {400}), ({}, {"name": "x", "config": {"cpus": 1e9}}, {400}),
        ({}, {"name": "x", "config": {"pids": 1}}, {400}), ({}, {"name": "x", "config": {"disk_mb": 1}}, {400}),
        ({}, {"name": "x", "config": {"storage_gb": -1}}, {400}), ({}, {"name": "x", "config": {"autostart": "x"}}, {400}),
        ({}, {"name": "x", "config": {"bandwidth_mbit": -1}}, {400}), ({}, {"name": "x", "config": {"connections": 10**9}}, {400}),
        ({}, {"name": "x", "config": {"stop_after_seconds": -1}}, {400}),
        ({}, {"name": "x", "url_settings": {"auth": "all"}}, {400}), ({}, {"name": "x", "base": "none-such"}, {404}),
    ],
    "updateSprite": [
        ({}, {"labels": ["x"] * 65}, {400}), ({}, {"labels": "x"}, {400}), ({}, {"config": {"ram_mb": 1}}, {400}),
        ({}, {"config": {"disk_mb": -1}}, {400}), ({}, {"config": {"storage_gb": 1 << 40}}, {400}),
        ({}, {"config": {"freeze_after_seconds": 10**9}}, {400}), ({}, {"url_settings": {"auth": 5}}, {400}),
    ],
    "forkSprite": [
        ({}, {}, {400}), ({}, {"name": "A B"}, {400}), ({}, {"name": "x", "checkpoint": "v99"}, {404}),
        ({}, {"name": "x", "checkpoint": "../v0"}, {404}), ({}, {"name": 7}, {400}),
    ],
    "execOverHTTP": [
        ({}, None, {400}), ({"cmd": ""}, None, {400}), ({"cmd": "true", "env": "=x"}, None, {400}),
        ({"cmd": "true", "tty": "true"}, None, {400}), ({"cmd": "true", "id": "1"}, None, {400}),
        ({"cmd": "true", "detachable": "true"}, None, {400}),
        ({"cmd": "true", "max_run_after_disconnect": "soon"}, None, {400}),
    ],
    "attachSession": [({}, None, {404})],
    "killSession": [
        ({"signal": "NONE"}, None, {400}), ({"timeout": "2h"}, None, {400}), ({"timeout": "-1s"}, None, {400}),
        ({}, {"signal": 99}, {400}), ({}, None, {404}),
    ],
    "getDiskUse": [],
    "createCheckpoint": [({}, {"comment": "x" * 4097}, {400}), ({}, {"comment": 5}, {400})],
    "getCheckpoint": [({}, None, {404})],
    "deleteCheckpoint": [({}, None, {404})],
    "restoreCheckpoint": [({}, None, {404})],
    "undoRestore": [({}, None, {404})],
    "signalService": [
        ({}, {}, {400}), ({}, {"name": "none", "signal": "BAD"}, {400}), ({}, {"name": "none", "signal": "TERM"}, {404}),
    ],
    "getService": [({}, None, {404})],
    "defineService": [
        ({}, {}, {400}), ({}, {"cmd": ""}, {400}), ({}, {"cmd": "x", "needs": ["none"]}, {400}),
        ({}, {"cmd": "x", "http_port": 0}, {400}), ({}, {"cmd": "x", "http_port": 70000}, {400}),
        ({}, {"cmd": "x", "env": {"": "1"}}, {400}), ({}, {"cmd": "x", "args": "a"}, {400}),
        ({"duration": "long"}, {"cmd": "x"}, {400}), ({}, {"cmd": "x", "args": ["\0"]}, {400}),
    ],
    "deleteService": [({}, None, {404})],
    "startService": [({}, None, {404}), ({"duration": "x"}, None, {400, 404})],
    "restartService": [({}, None, {404}), ({"duration": "-5s"}, None, {400, 404})],
    "stopService": [({}, None, {404}), ({"timeout": "2h"}, None, {400, 404})],
    "serviceLogs": [({}, None, {404}), ({"lines": "-1"}, None, {400, 404}), ({"lines": "all"}, None, {400, 404})],
    "createTask": [
        ({}, {}, {400}), ({}, {"name": ""}, {400}), ({}, {"name": "x", "expire": "never"}, {400}),
        ({}, {"name": "x", "expire": -1}, {400}), ({}, {"name": LONG, "expire": 5}, {400}),
    ],
    "setNamedTask": [({}, {}, {400}), ({}, {"name": "x", "expire": "x"}, {400})],
    "getTask": [({}, None, {404})],
    "setTask": [({}, {"expire": "x"}, {400}), ({}, {"expire": -1}, {400})],
    "deleteTask": [({}, None, {404})],
    "getSecret": [({}, None, {404})],
    "setSecret": [
        ({}, {}, {400}), ({}, {"host": "a.test"}, {400}), ({}, {"value": "x"}, {400}), ({}, {"host": "*.a.test", "value": "x"}, {400}),
        ({}, {"host": "203.0.113.7", "value": "x"}, {400}), ({}, {"host": "a.test:80", "value": "x"}, {400}),
        ({}, {"host": "a.test", "value": ""}, {400}), ({}, {"host": "a.test", "value": "a\r\nb: c"}, {400}),
        ({}, {"host": "a.test", "value": "x" * 7169}, {400}), ({}, {"host": "a.test", "value": "x", "header": "host"}, {400}),
        ({}, {"host": "a.test", "value": "x", "header": "a b"}, {400}), ({}, {"host": "a.test", "value": "x", "format": "Bearer"}, {400}),
        ({}, {"host": "a.test", "value": "x", "format": "{}{}"}, {400}), ({}, {"host": "a.test", "value": "x", "more": 1}, {400}),
        # The operator has to enable it.
        ({}, {"host": "a.test", "value": "x"}, {501}),
    ],
    "deleteSecret": [({}, None, {404})],
    "setNetworkPolicy": [
        ({}, {}, {400}), ({}, {"rules": 1}, {400}), ({}, {"rules": [{}]}, {400}),
        ({}, {"rules": [{"domain": "a.b"}]}, {400}), ({}, {"rules": [{"domain": "a b", "action": "allow"}]}, {400}),
        ({}, {"rules": [{"domain": "a", "action": "maybe"}]}, {400}), ({}, {"rules": [{"include": "all"}]}, {400}),
        ({}, {"rules": [{"domain": "a", "include": "defaults", "action": "allow"}]}, {400}),
        ({}, {"rules": [], "more": 1}, {400}), ({}, {"rules": [{"include": "defaults"}] * 1001}, {400}),
    ],
    "setPrivilegesPolicy": [({}, {"profile": 1}, {400}), ({}, {"devices": "all"}, {400})],
    "setResourcesPolicy": [({}, {"memory": 5}, {400})],
    "control": [({}, None, {426})],
    "proxy": [({}, None, {426}), ({"port": "x"}, None, {400, 426})],
    "watchPorts": [({}, None, {426})],
    "readFile": [
        ({}, None, {400}), ({"path": ""}, None, {400}), ({"path": LONG}, None, {400}), ({"path": "/home"}, None, {400}),
        ({"path": "/none"}, None, {404}), ({"path": "/etc/shadow"}, None, {403}), ({"path": "a\0b"}, None, {400}),
        ({"path": "/etc/hostname/x"}, None, {400}), ({"path": "/dev/zero"}, None, {400}),
    ],
    "listFiles": [({"path": "/none"}, None, {404}), ({"path": "/root"}, None, {403}), ({"path": LONG}, None, {400})],
    "writeFile": [
        ({}, b"x", {400}), ({"path": "/etc/x"}, b"x", {403}), ({"path": "/tmp"}, b"x", {400}),
        ({"path": "/tmp/x", "mode": "9"}, b"x", {400}), ({"path": "/tmp/x", "mode": "777777"}, b"x", {400}),
        ({"path": "/tmp/none/x", "mkdirParents": "false"}, b"x", {404}), ({"path": "/tmp/" + "x" * 300}, b"x", {400}),
    ],
    "deleteFile": [
        ({}, None, {400}), ({"path": "/none"}, None, {404}), ({"path": "/"}, None, {400, 403, 409}),
        ({"path": "/etc/hostname"}, None, {400, 403, 409}), ({"path": "/home/sprite"}, None, {400, 403, 409}),
    ],
    "renameFile": [
        ({}, {}, {400}), ({}, {"source": "/none", "dest": "/tmp/x"}, {404}), ({}, {"source": "", "dest": "x"}, {400}),
        ({}, {"source": "/tmp", "dest": "/tmp/x"}, {400, 403}), ({}, {"source": "/tmp/x"}, {400}),
    ],
    "copyFile": [
        ({}, {}, {400}), ({}, {"source": "/none", "dest": "/tmp/x"}, {404}), ({}, {"source": "/etc", "dest": "/tmp/x"}, {400}),
        ({}, {"source": 1, "dest": 2}, {400}), ({}, {"source": "/etc/hostname", "dest": "/etc/x"}, {403}),
    ],
    "changeMode": [
        ({}, {}, {400}), ({}, {"path": "/etc/passwd", "mode": "0777"}, {403}), ({}, {"path": "/none", "mode": "0644"}, {404}),
        ({}, {"path": "/tmp", "mode": "rwx"}, {400}), ({}, {"path": "/tmp", "mode": 99999999}, {400}),
    ],
    "changeOwner": [
        ({}, {}, {400}), ({}, {"path": "/none", "uid": 0}, {403, 404}), ({}, {"path": "/etc/passwd", "uid": "nobody"}, {403}),
        ({}, {"path": "/home/sprite", "uid": "no such user"}, {400, 404}), ({}, {"path": "/tmp", "uid": -5}, {400, 403}),
    ],
    "watchFiles": [({}, None, {426})],
    "downloadDirectory": [({}, None, {400}), ({"path": "/none"}, None, {404}), ({"path": "/etc/hostname"}, None, {400})],
    "uploadDirectory": [
        ({}, b"", {400}), ({"path": "/tmp/x"}, b"no archive, but longer than one block" * 50, {400}),
        ({"path": "/etc/x"}, bytes(1024), {403}),
    ],
    "sendModelContext": [],
    "endModelContext": [],
    "upgradeBase": [({}, {"base": 5}, {400}), ({}, {"base": "none-such"}, {404}), ({}, {"base": "A B"}, {400})],
    "pinCheckpoint": [({}, None, {404})],
    "unpinCheckpoint": [({}, None, {404})],
    "diff": [
        ({}, None, {400}), ({"from": "v77"}, None, {404}), ({"from": "v0", "to": "../v0"}, None, {404}),
        ({"from": "v0", "limit": "-1"}, None, {400}), ({"from": "v0", "path": "a\0b"}, None, {400}),
    ],
    "tryCommand": [
        ({}, {}, {400}), ({}, {"command": []}, {400}), ({}, {"command": 5}, {400}),
        ({}, {"command": ["true"], "timeout_seconds": -1}, {400}), ({}, {"command": ["true"], "env": 5}, {400}),
    ],
    "race": [
        ({}, {}, {400}), ({}, {"command": ["true"], "count": 0}, {400}), ({}, {"command": ["true"], "count": 1000}, {400}),
        ({}, {"command": ["true"], "checkpoint": "v77"}, {404}),
    ],
    "bisect": [
        ({}, {}, {400}), ({}, {"command": ["true"]}, {400}), ({}, {"command": ["true"], "good": "v77", "bad": "v78"}, {404}),
    ],
    "setCheckpointsPolicy": [({}, {"every_minutes": -1}, {400}), ({}, {"every_minutes": "x"}, {400}), ({}, {"more": 1}, {400})],
    "getLogs": [
        ({"since": "yesterday"}, None, {400}), ({"kind": "none"}, None, {400}), ({"limit": "-1"}, None, {400}),
        ({"cursor": "!"}, None, {400}), ({"order": "up"}, None, {400}), ({"regex": "("}, None, {400}),
        ({"level": "loud"}, None, {400}), ({"stream": "x"}, None, {400}), ({"trace": "1"}, None, {400}),
    ],
    "getSpriteLogs": [({"until": "x"}, None, {400}), ({"limit": "many"}, None, {400}), ({"follow": "perhaps"}, None, {400})],
    "queryLogs": [
        ({}, {}, {400}), ({}, {"sql": ""}, {400}), ({}, {"sql": "delete from log"}, {400}), ({}, {"sql": "nonsense"}, {400}),
        ({}, {"sql": "attach 'x' as y"}, {400}), ({}, {"sql": "select 1", "limit": -1}, {400}),
    ],
    "getTrace": [({}, None, {404})],
    "getSpriteTrace": [({}, None, {404})],
}  # fmt: skip
#: Of these nothing can be wrong but who asks, for what sprite, and how.
PLAIN = {
    "getHealth", "getSprite", "destroySprite", "upgradeSprite", "stopSprite", "restartSprite", "checkSprite", "exec", "listCheckpoints", "listServices", "listTasks",
    "getCheckpointsPolicy", "deleteCheckpointsPolicy", "listNetworkContacts", "suggestNetworkPolicy", "listSecrets", "getMetrics",
    "getNetworkPolicy", "getPrivilegesPolicy", "deletePrivilegesPolicy", "getResourcesPolicy", "deleteResourcesPolicy",
}  # fmt: skip


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in description()["paths"].items():
        for method, details in item.items():
            if method in ("get", "put", "post", "delete"):
                yield method.upper(), path, details


def filled(path: str, sprite: str) -> str:
    return (
        path.replace("{name}", sprite).replace("{service}", "none").replace("{task}", "none").replace("{secret}", "none").replace("{trace}", "0" * 31 + "1")
        .replace("/checkpoints/{id}", "/checkpoints/v77").replace("{id}", "77")
    )  # fmt: skip


ALL = [pytest.param(*one, id=one[2]["operationId"]) for one in operations()]


@pytest.fixture(scope="module")
def target(shared_daemon: Daemon) -> Iterator[str]:
    name = fresh_name("refused")
    api = shared_daemon.api()
    api.create(name)
    before = shell(api, name, "find /home /etc | sort")
    yield name
    # After everything that was refused it is as it was, but that an archive's directory is made before it is read.
    assert api.call("GET", f"/v1/sprites/{name}/services").json() == []
    assert [one["id"] for one in api.checkpoints(name)] == ["v0"]
    assert shell(api, name, "rmdir /tmp/x; ls -A /tmp; find /home /etc | sort") == before
    api.destroy(name)
    api.close()


@pytest.mark.parametrize(("method", "path", "details"), ALL)
def test_what_is_refused(api: Api, target: str, method: str, path: str, details: dict[str, Any]) -> None:
    name = details["operationId"]
    # Later operations of others bring their rows along.
    if name in PLAIN:
        return
    for query, body, expected in ROWS.get(name, []):
        options: dict[str, Any] = {"params": query}
        if isinstance(body, bytes):
            options["content"] = body
        elif body is not None:
            options["json"] = body
        answer = api.http.request(method, filled(path, target), **options)
        row = f"{name} {str(query)[:200]} {str(body)[:200]}"
        assert answer.status_code in expected, f"{row} was answered {answer.status_code} {answer.text[:300]}"
        refusal = answer.json()
        assert refusal["error"] and (refusal.get("message") or refusal.get("code")), f"{row}: {refusal}"
    if "application/json" in details.get("requestBody", {}).get("content", {}) and name != "sendModelContext":
        for body in BAD_BODIES:
            answer = api.http.request(method, filled(path, target), content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 400, f"{name} {body[:50]!r} was answered {answer.status_code} {answer.text[:300]}"
        answer = api.http.request(method, filled(path, target), content=b'{"name":"' + b"x" * (2 << 20))
        assert answer.status_code == 413, f"{name} was answered {answer.status_code} to 2 MiB"


@pytest.mark.parametrize(("method", "path", "details"), ALL)
def test_strangers_and_wrong_methods(daemon: Daemon, api: Api, method: str, path: str, details: dict[str, Any]) -> None:
    nobody = filled(path, fresh_name("nobody"))
    if path != "/health":
        with httpx.Client(base_url=daemon.url, trust_env=False) as stranger:
            assert stranger.request(method, nobody).status_code == 401
    if "{name}" in path:
        body = {"json": {"name": "x", "cmd": "x", "signal": "TERM", "rules": [], "expire": 5}} if method in ("POST", "PUT") else {}
        if path.endswith("/policy/network") and method == "POST":
            body = {"json": {"rules": []}}
        if "/fs/" in path:
            body = {"params": {"path": "/tmp"}} | ({"json": {"path": "/a", "source": "/a", "dest": "/b", "mode": "0644"}} if method == "POST" else {})
        if path.endswith("/exec"):
            body = {"params": {"cmd": "true"}}
        if path.endswith("/diff"):
            body = {"params": {"from": "v0"}}
        if path.endswith(("/try", "/race", "/bisect")):
            body = {"json": {"command": ["true"], "good": "v0", "bad": "v1"}}
        if path.endswith("/secrets/{secret}") and method == "PUT":
            body = {"json": {"host": "a.test", "value": "x"}}
        if path.endswith("/policy/checkpoints") and method == "POST":
            body = {"json": {}}
        answer = api.http.request(method, nobody, **body)
        assert answer.status_code == 404, f"{details['operationId']} of no sprite: {answer.status_code} {answer.text[:300]}"
    answer = api.http.request("PATCH", nobody)
    assert answer.status_code == 405 and method in answer.headers["allow"], f"{answer.status_code} {answer.headers}"


def test_no_operation_is_forgotten() -> None:
    names = {details["operationId"] for _, _, details in operations()}
    assert names - set(ROWS) - PLAIN == set(), "these have no row in the table of refused inputs"
    assert (set(ROWS) | PLAIN) - names == set(), "these are not described any more"
