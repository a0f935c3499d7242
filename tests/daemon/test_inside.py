# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The API inside a sprite: its own checkpoints, services and tasks, and nobody else's."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.api import Api
from support.daemon import Daemon
from support.exec import root_shell, run, shell
from support.inner import ask, env, env_json, raw
from support.roots import tiny_root
from support.wait import eventually


def shows(api: Api, sprite: str, path: str, content: str) -> None:
    """Waits until a file has this content, over restores that end whoever looks."""
    eventually(lambda: run(api, sprite, "cat", path).text == content, f"{path} has its content")


def booted(api: Api, sprite: str) -> str:
    """Tells one run of the sprite from another."""
    return shell(api, sprite, "stat -c %Y.%Z /proc/1; cat /proc/1/stat | cut -d' ' -f22")


def test_checkpoint_change_and_restore_from_inside(api: Api, sprite: str) -> None:
    shell(api, sprite, "echo first > file")
    created = env(api, sprite, "checkpoints", "create", "--comment", "the \"first\" – ünï")
    assert (created.code, created.text) == (0, "v1\n"), created
    assert env_json(api, sprite, "checkpoints", "info", "v1")["comment"] == 'the "first" – ünï'
    shell(api, sprite, "echo second > file")
    before = booted(api, sprite)
    # It waits for the end that it asked for: what follows it in a script never runs.
    done = run(api, sprite, "sh", "-c", "sprite-env restore v1 --then 'echo $SPRITE_REPLACED > then'; echo after > file",
               env={"PATH": "/.sprite/bin:/usr/bin:/bin"})
    assert done.code == 137 and "restoring v1" in done.text, done
    shows(api, sprite, "then", "auto-1\n")
    assert shell(api, sprite, "cat file") == "first\n"
    assert booted(api, sprite) != before
    assert ask(api, sprite, "GET", "/v1/restore")[1]["state"] == "done"
    assert env(api, sprite, "undo").code == 137
    shows(api, sprite, "file", "second\n")
    assert [item["id"] for item in env_json(api, sprite, "checkpoints", "list")] == ["v1", "v0"]


def test_a_refused_restore_ends_nothing(api: Api, sprite: str) -> None:
    for arguments in (["restore", "v9"], ["undo"], ["restore", "../v0"]):
        refused = env(api, sprite, *arguments)
        assert refused.code == 1 and refused.stderr, refused
    assert env(api, sprite, "restore").code == 2


def test_a_hook_in_the_disk_runs_after_a_restore(api: Api, sprite: str) -> None:
    hook = "#!/bin/sh\\nid -u > /home/sprite/hook\\necho $1 $SPRITE_RESTORED $SPRITE_REPLACED $SPRITE_RESTORE_ORIGIN >> /home/sprite/hook"
    root_shell(api, sprite, f"mkdir -p /etc/sprite; printf '{hook}\\n' > /etc/sprite/on-restore; chmod +x /etc/sprite/on-restore")
    version = api.checkpoint(sprite)
    api.restore(sprite, version)
    shows(api, sprite, "hook", f"0\n{version} {version} auto-1 outside\n")
    assert env(api, sprite, "restore", version, "--no-wait").code in (0, 137)
    shows(api, sprite, "hook", f"0\n{version} {version} auto-2 inside\n")


def test_services_from_inside(api: Api, sprite: str) -> None:
    made = env(
        api, sprite, "services", "create", "web", "--http-port", "8080", "--env", "A=1,2,B=x y", "--dir", "/tmp",
        "--duration", "1s", "--", "sh", "-c", 'echo "got $A $B in $PWD"; exec sleep 1000')  # fmt: skip
    assert (made.code, made.text) == (0, "got 1,2 x y in /tmp\n"), made
    service = env_json(api, sprite, "services", "get", "web")
    assert service["state"]["status"] == "running" and service["http_port"] == 8080
    assert "got 1,2 x y" in env(api, sprite, "logs", "web").text
    assert "running" in env(api, sprite, "services", "list").text
    assert env(api, sprite, "services", "restart", "web", "--no-stream").code == 0
    assert env(api, sprite, "services", "stop", "web").code == 0
    assert env_json(api, sprite, "services", "get", "web")["state"]["status"] == "stopped"
    assert env(api, sprite, "services", "start", "web", "--no-stream").code == 0
    assert env(api, sprite, "services", "signal", "web", "TERM").code == 0
    assert env(api, sprite, "services", "delete", "web").code == 0
    assert env_json(api, sprite, "services", "list") == []
    failing = env(api, sprite, "services", "create", "bad", "--duration", "1s", "--", "false")
    assert failing.code == 1 and b"ended with code 1" in failing.stderr
    missing = env(api, sprite, "services", "get", "nothing")
    assert missing.code == 1 and b"nothing" in missing.stderr


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["checkpoints", "nonsense"], ["checkpoints", "info"], ["services", "create", "x"], ["curl"],
     ["checkpoints", "create", "--unknown"], ["tasks", "create", "a", "b"], ["curl", "no-slash"], ["restore", "v1", "v2"]],
)  # fmt: skip
def test_wrong_usage_ends_with_2(api: Api, sprite: str, arguments: list[str]) -> None:
    done = env(api, sprite, *arguments)
    assert done.code == 2 and done.stderr.count(b"\n") == 1, done


def test_the_socket_reaches_its_own_sprite_only(api: Api, new_sprite: Callable[..., str]) -> None:
    mine, other = new_sprite(), new_sprite()
    api.checkpoint(other, "theirs")
    for method, path in [
        ("GET", f"/v1/sprites/{other}"), ("GET", "/v1/sprites"), ("GET", f"/v1/sprites/{mine}/checkpoints"),
        ("POST", "/v1/sprites"), ("DELETE", f"/v1/sprites/{other}"), ("GET", f"/v1/../v1/sprites/{other}"),
        ("GET", f"/v1/checkpoints/..%2F..%2F{other}%2Fcheckpoints"), ("GET", f"/v1/services/..%2F..%2F{other}"),
        ("GET", f"http://{other}/v1/sprites/{other}"), ("GET", f"/v1/tasks/%2e%2e/{other}"), ("GET", "//v1/sprites"),
        ("GET", f"/v1/checkpoints/../../{other}/checkpoints"), ("GET", "/v1/exec"), ("POST", "/v1/fork"),
        ("GET", "/v1/control"), ("GET", "/v1/proxy"), ("GET", "/v1/fs/read?path=/etc/shadow"), ("GET", "/v1/upgrade"),
    ]:
        status, answer = ask(api, mine, method, path)
        assert status in (404, 405), (method, path, status, answer)
        assert "theirs" not in str(answer)
    # No header says who asks; names of hosts and tokens mean nothing.
    for fields in [
        {"Host": f"{other}.sprites.localhost"}, {"Authorization": f"Bearer {api.token}"}, {"X-Sprite": other},
        {"Forwarded": f"host={other}"}, {"X-HTTP-Method-Override": "DELETE"},
    ]:
        assert ask(api, mine, "GET", "/v1/info", **fields)[1]["name"] == mine
    smuggled = raw(api, mine, f"GET /v1/info HTTP/1.1\r\nHost: {other}.sprites.localhost\r\nConnection: close\r\n\r\n".encode())
    assert f'"name":"{mine}"'.encode() in smuggled
    # The sprite's own settings are not for it to change.
    for method, path, body in [
        ("PUT", "/v1/info", {"labels": ["x"]}), ("DELETE", "/v1/info", None),
        ("POST", "/v1/policy/network", {"rules": []}), ("DELETE", "/v1/policy/privileges", None),
        ("POST", "/v1/policy/resources", {}),
    ]:
        assert ask(api, mine, method, path, body)[0] == 405
    assert ask(api, mine, "GET", "/v1/policy/network")[1] == {"rules": []}


def test_the_journal_is_its_own(api: Api, new_sprite: Callable[..., str]) -> None:
    mine, other = new_sprite(), new_sprite()
    if api.http.get(f"/v1/sprites/{mine}/logs").status_code == 404:
        pytest.skip("this server keeps no journal")
    shell(api, other, "echo a secret of another")
    shell(api, mine, "echo words of mine")
    assert env(api, mine, "checkpoints", "create").code == 0
    eventually(lambda: "words of mine" in env(api, mine, "logs", "-n", "1000").text, "the journal has what was printed")
    assert env(api, mine, "restore", "v1").code == 137
    eventually(lambda: "a restore was asked for inside" in run(api, mine, "sprite-env", "logs", "--kind", "checkpoint").text,
               "the journal shows who asked")
    restored = env_json(api, mine, "logs", "--kind", "checkpoint")["records"]
    assert [one["fields"]["origin"] for one in restored if one.get("event") == "sprite.restored"] == ["inside"]
    assert "secret of another" not in env(api, mine, "logs", "-n", "1000").text
    for query in (f"sprite={other}", f"sprite={mine}&sprite={other}"):
        assert ask(api, mine, "GET", f"/v1/logs?{query}")[0] == 400


def test_only_root_and_the_user_may_use_it(api: Api, sprite: str) -> None:
    assert env(api, sprite, "info", user="root").code == 0
    refused = env(api, sprite, "checkpoints", "create", user="nobody")
    assert refused.code == 1 and b"may not use" in refused.stderr
    assert len(api.checkpoints(sprite)) == 1


def test_others_may_use_it_where_the_operator_says_so(new_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    daemon = new_daemon(started=False, with_base=False)
    daemon.import_base(tiny_root(tmp_path / "root.tar"))
    daemon.options = ["--inside-users", "any"]
    api = daemon.start().api()
    api.create("open")
    assert env(api, "open", "checkpoints", "create", user="65534").text == "v1\n"


def test_hostile_bytes(api: Api, sprite: str) -> None:
    assert b" 400 " in raw(api, sprite, b"\x00\x01\x02 nonsense\r\n\r\n")
    assert b" 431 " in raw(api, sprite, b"GET /v1/info HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (100 << 10) + b"\r\n\r\n")
    assert b" 431 " in raw(api, sprite, b"GET /" + b"a" * (100 << 10) + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    # Said to be a gigabyte: refused before a byte of it is read; sent without saying so: cut off.
    huge = b"POST /v1/checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n"
    assert b" 413 " in raw(api, sprite, huge)
    pour = r'''
import socket
s = socket.socket(socket.AF_UNIX); s.settimeout(30); s.connect("/.sprite/api.sock")
s.sendall(b"POST /v1/checkpoint HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
sent = 0
try:
    while sent < 1 << 40:
        s.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n"); sent += 65536
except OSError: print("cut off")
'''
    assert shell(api, sprite, f"python3 -c '{pour}'") == "cut off\n"
    # Half a body, half a head, nothing at all: given up after a while. Meanwhile others are served.
    slow = r'''
import socket, time
def conn(data):
    s = socket.socket(socket.AF_UNIX); s.settimeout(40); s.connect("/.sprite/api.sock"); s.sendall(data); return s
begin = time.time()
held = [conn(b"GET /v1/info HTTP/1.1\r\n"), conn(b""), conn(b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")]
drip = conn(b"")
closed = False
while time.time() - begin < 20 and not closed:
    try: drip.sendall(b"G")
    except OSError: closed = True
    time.sleep(1)
print(closed, [len(s.recv(1000)) >= 0 for s in held], time.time() - begin < 20)
'''
    assert shell(api, sprite, f"python3 -c '{slow}'", timeout=60) == "True [True, True, True] True\n"
    assert env(api, sprite, "info").code == 0


def test_many_connections_and_requests(api: Api, sprite: str) -> None:
    script = r'''
import socket
def conn():
    s = socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect("/.sprite/api.sock"); return s
held = [conn() for _ in range(100)]
open_, shut = 0, 0
for s in held:
    try:
        s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        if s.recv(100): open_ += 1
        else: shut += 1
    except OSError: shut += 1
for s in held: s.close()
s = conn()
# A thousand requests in one go: answered in order, and refused from some point on.
s.sendall(b"GET /v1/tasks HTTP/1.1\r\nHost: x\r\n\r\n" * 999 + b"GET /v1/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
data = b""
while piece := s.recv(65536): data += piece
print(open_, shut, data.count(b"HTTP/1.1 200"), data.count(b"HTTP/1.1 429"))
'''
    opened, shut, answered, refused = map(int, shell(api, sprite, f"python3 -c '{script}'", timeout=60).split())
    assert opened == 32 and shut == 68
    assert answered + refused == 1000 and refused > 300, (answered, refused)
    # Others do not notice.
    assert api.get(sprite)["status"] == "running"
    eventually(lambda: env(api, sprite, "info").code == 0, "its requests are answered again")


def test_it_outlives_the_daemon(daemon: Daemon, api: Api, sprite: str) -> None:
    shell(api, sprite, "setsid -f sh -c 'sleep 1; /.sprite/bin/sprite-env checkpoints create --comment later' > out 2>&1")
    daemon.kill()
    time.sleep(1.5)
    daemon.start()
    again = daemon.api()
    eventually(lambda: shell(again, sprite, "cat out") == "v1\n", "a client waited for the daemon")
    assert env(again, sprite, "checkpoints", "info", "v1").code == 0
    again.restore(sprite, "v1")
    assert env(again, sprite, "checkpoints", "create").text == "v2\n"


def test_starting_the_client_takes_less_than_10_ms(api: Api, sprite: str) -> None:
    script = r'''
import os, time
took = []
for _ in range(30):
    begin = time.perf_counter()
    os.waitpid(os.posix_spawn("/.sprite/bin/sprite-env", ["sprite-env", "--version"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]), 0)
    took.append((time.perf_counter() - begin) * 1000)
print(*took)
'''
    took = [float(word) for word in shell(api, sprite, f"python3 -c '{script}'").split()]
    assert statistics.median(took) < 10, took


def test_tasks_hold_a_sprite_awake(daemon: Daemon, api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite(config={"freeze_after_seconds": 1, "stop_after_seconds": 2})
    status, task = ask(api, name, "POST", "/v1/tasks", {"name": "agent", "expire": "8s"})
    assert status == 201 and task["name"] == "agent" and task["started_at"] < task["expires_at"]
    assert ask(api, name, "POST", "/v1/tasks", {"name": "agent"})[0] == 409
    assert [one["name"] for one in api.call("GET", f"/v1/sprites/{name}/tasks").json()["tasks"]] == ["agent"]
    # Also over a crash of the daemon.
    daemon.restart()
    fresh = daemon.api()
    until = time.monotonic() + 4
    while time.monotonic() < until:
        assert fresh.get(name)["status"] == "running"
        time.sleep(0.3)
    eventually(lambda: fresh.get(name)["status"] != "running", "it sleeps once the task has expired", 20)
    assert fresh.call("GET", f"/v1/sprites/{name}/tasks").json() == {"tasks": []}


def test_tasks_from_inside_and_outside(api: Api, sprite: str) -> None:
    assert "awake until" in env(api, sprite, "tasks", "create", "agent", "--expire", "30m").text
    first = env_json(api, sprite, "tasks", "get", "agent")
    prolonged = env_json(api, sprite, "tasks", "set", "agent", "--expire", "1h")
    assert prolonged["started_at"] == first["started_at"] and prolonged["expires_at"] > first["expires_at"]
    assert ask(api, sprite, "PUT", "/v1/tasks/other", {"expire": 300})[0] == 200
    assert "other" in env(api, sprite, "tasks", "list").text
    assert env(api, sprite, "tasks", "delete", "agent").code == 0
    assert env(api, sprite, "tasks", "delete", "agent").code == 1
    api.call("DELETE", f"/v1/sprites/{sprite}/tasks/other", 204)
    assert api.call("PUT", f"/v1/sprites/{sprite}/tasks/mine", json={}).json()["name"] == "mine"
    for body in [{"expire": "2h"}, {"expire": 0}, {"expire": -1}, {"expire": "soon"}, {"expire": 3601}, {"expire": []}]:
        assert ask(api, sprite, "PUT", "/v1/tasks/bad", body)[0] == 400, body
    for bad in ["", ".", "..", "a b", "x" * 101, "ä"]:
        assert ask(api, sprite, "POST", "/v1/tasks", {"name": bad})[0] == 400, bad
    for number in range(99):
        assert api.call("PUT", f"/v1/sprites/{sprite}/tasks/t{number}", json={})
    assert api.call("PUT", f"/v1/sprites/{sprite}/tasks/one-more", 429, json={}).json()["error"] == "limit_reached"


def test_states_from_inside(api: Api, sprite: str) -> None:
    shell(api, sprite, "echo one > file")
    assert env(api, sprite, "checkpoints", "create").text == "v1\n"
    shell(api, sprite, "echo three > file")
    assert env(api, sprite, "checkpoints", "diff", "v1").text == "M  /home/sprite/file  content\n"
    assert "+three" in env(api, sprite, "diff", "v1", "--patch", "/home").text
    done = env(api, sprite, "restore", "v1", "--path", "/home/sprite/file")
    assert done.code == 0 and shell(api, sprite, "cat file") == "one\n", done
    assert env(api, sprite, "undo").code == 0
    assert shell(api, sprite, "cat file") == "three\n"
    done = env(api, sprite, "try", "--check", "grep -q 4 file", "--", "sh", "-c", "echo 4 > file; printf '\\377'")
    assert (done.code, done.stdout) == (0, b"\xff") and b"kept" in done.stderr, done
    done = env(api, sprite, "try", "--dry-run", "--", "sh", "-c", "rm file; exit 3")
    assert done.code == 3 and b"D  /home/sprite/file" in done.stderr, done
    assert shell(api, sprite, "cat file") == "4\n"
    # What fails ends everything, the caller too; what it did is gone.
    assert env(api, sprite, "try", "--", "sh", "-c", "rm file; exit 3").code != 0
    eventually(lambda: shell(api, sprite, "cat file || :") == "4\n", "the state is rolled back", 20)
