# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Secrets that requests carry and that nothing inside can read, against hosts with certificates on our own internet."""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.api import Api
from support.cli import Cli
from support.daemon import Daemon
from support.exec import Result, open_exec, run, shell
from support.fixtures import fresh_name
from support.internet import RESOLVER, SECURE, Internet
from support.logs import events, records, wait_for
from support.policy import allow, fresh_zone, internet, set_policy  # noqa: F401  (fixtures)
from support.secure import SecureHosts
from support.wait import eventually
from support.wire import Capture

SECRET = "sk-very-secret-0815"


@pytest.fixture(scope="module")
def hosts(internet: Internet, scratch: Path) -> Iterator[SecureHosts]:  # noqa: F811
    with SecureHosts(scratch / "hosts", internet) as made:
        yield made


@pytest.fixture(scope="module")
def shared_daemon(hosts: SecureHosts, scratch: Path, base: Path) -> Iterator[Daemon]:
    """In the place of the daemon of other tests: one whose operator enabled brokering."""
    settings = scratch / "broker.json"
    settings.write_text(json.dumps({"name_servers": RESOLVER, "broker_upstream_ca": str(hosts.authority)}))
    daemon = Daemon(scratch / "broker", scratch / "broker.log", ["--config", str(settings), "--credential-broker"])
    daemon.import_base(base)
    daemon.start()
    yield daemon
    daemon.finish()


def give(api: Api, sprite: str, host: str = "api.test", id: str = "main", value: str = SECRET, **fields: Any) -> None:
    api.call("PUT", f"/v1/sprites/{sprite}/secrets/{id}", 204, json={"host": host, "value": value, **fields})


REQUEST = r"""
import socket, ssl, sys
o = eval(sys.argv[1])
try:
    raw = socket.create_connection((o["connect"] or o["name"], o["port"]), 10)
    raw.settimeout(20)
    s = ssl.create_default_context().wrap_socket(raw, server_hostname=o["name"])
    s.sendall(o["request"].encode() + b"x" * o["body"])
    f = s.makefile("rb")
    status = f.readline().split()[1].decode()
    headers = {}
    while (line := f.readline().strip()):
        key, _, value = line.decode().partition(":")
        headers[key.lower()] = value.strip()
    if status == "101":
        for word in (b"one", b"two"):
            s.sendall(word + b"\n")
            print(f.readline().decode().strip())
        body = b""
    elif "chunked" in headers.get("transfer-encoding", ""):
        body = b""
        while size := int(f.readline(), 16):
            body += f.read(size)
            f.readline()
    elif "content-length" in headers:
        body = f.read(int(headers["content-length"])) if not o["request"].startswith("HEAD") else b""
    else:
        body = f.read()
    print(status, len(body) if len(body) > 4096 else body.decode().strip())
except (OSError, IndexError) as e:
    print("failed", type(e).__name__, e)
"""


def ask(
    api: Api, sprite: str, path: str = "/", name: str = "api.test", method: str = "GET", host: str = "", headers: str = "", body: int = 0,
    connect: str = "", port: int = 443, request: str = "",
) -> str:  # fmt: skip
    """Status and body of one request over TLS from inside."""
    length = f"Content-Length: {body}\r\n" if body else ""
    request = request or f"{method} {path} HTTP/1.1\r\nHost: {host or name}\r\n{headers}{length}\r\n"
    options = repr({"name": name, "connect": connect, "port": port, "request": request, "body": body})
    done = run(api, sprite, "python3", "-c", REQUEST, options, timeout=60)
    return (done.text + done.stderr.decode()).strip()


def carried(hosts: SecureHosts, path: str) -> list[str | None]:
    """What requests for a path carried as authorization."""
    return [dict(entry["headers"]).get("authorization") for entry in hosts.requests(path)]


def test_a_request_carries_the_secret(api: Api, sprite: str, hosts: SecureHosts) -> None:
    give(api, sprite)
    assert ask(api, sprite, "/first?query=1") == "200 hello"
    assert carried(hosts, "/first") == [f"Bearer {SECRET}"]
    # Whatever the sprite sends in its place.
    assert ask(api, sprite, "/second", headers="Authorization: Bearer mine\r\nauthorization: x\r\n") == "200 hello"
    assert carried(hosts, "/second") == [f"Bearer {SECRET}"]
    give(api, sprite, id="key", value="another", header="X-Api-Key", format="key={}")
    assert ask(api, sprite, "/third") == "200 hello"
    sent = dict(hosts.requests("/third")[0]["headers"])
    assert (sent["authorization"], sent["x-api-key"]) == (f"Bearer {SECRET}", "key=another")
    listed = api.call("GET", f"/v1/sprites/{sprite}/secrets").json()["secrets"]
    assert [(one["id"], one["host"], one["header"], one["format"]) for one in listed] == [
        ("key", "api.test", "x-api-key", "key={}"), ("main", "api.test", "authorization", "Bearer {}"),
    ]  # fmt: skip
    eventually(lambda: api.call("GET", f"/v1/sprites/{sprite}/secrets/main").json().get("last_used_at"), "its last use")
    same = {"host": "api.test", "value": "x"}
    assert "'main' has the header" in api.call("PUT", f"/v1/sprites/{sprite}/secrets/b", 409, json=same).text


def test_the_command(daemon: Daemon, api: Api, sprite: str, hosts: SecureHosts, tmp_path: Path) -> None:
    cli = Cli(daemon, tmp_path / "home")
    assert b"holds no value" in cli("secrets", "set", "-s", sprite, "main", "--host", "api.test", expect=1).stderr
    cli("secrets", "set", "-s", sprite, "main", "--host", "api.test", input=SECRET.encode() + b"\n")
    assert ask(api, sprite, "/by-the-command") == "200 hello"
    assert carried(hosts, "/by-the-command") == [f"Bearer {SECRET}"]
    listed = eventually(
        lambda: (text := cli.text("secrets", "list", "-s", sprite)).splitlines()[1].split()[-1] != "-" and text, "it was used"
    )
    assert "main" in listed and "authorization: Bearer {}" in listed and SECRET not in listed
    cli("secrets", "rm", "-s", sprite, "main")
    assert json.loads(cli.text("secrets", "list", "--json", "-s", sprite)) == []
    assert b"no secret 'main'" in cli("secrets", "rm", "-s", sprite, "main", expect=1).stderr


def test_bodies_and_answers_of_every_kind(api: Api, sprite: str, hosts: SecureHosts) -> None:
    give(api, sprite)
    digest = hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert ask(api, sprite, "/up", method="POST", body=3_000_000) == f"200 3000000 {digest}"
    pieces = "POST /pieces HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert ask(api, sprite, request=pieces).startswith("200 5 ")
    assert ask(api, sprite, "/large") == f"200 {20 << 20}"
    assert ask(api, sprite, "/events?4").splitlines() == ["200 data: 0", "", "data: 1", "", "data: 2", "", "data: 3"]
    assert ask(api, sprite, "/until-close") == "200 until the end"
    assert ask(api, sprite, "/head", method="HEAD") == "200"
    upgrade = "Connection: Upgrade\r\nUpgrade: echo\r\n"
    assert ask(api, sprite, "/upgrade", headers=upgrade).splitlines() == ["echo one", "echo two", "101"]
    paths = ("/up", "/pieces", "/large", "/events", "/until-close", "/head", "/upgrade")
    assert {value for path in paths for value in carried(hosts, path)} == {f"Bearer {SECRET}"}


def test_a_host_that_switches_protocols_unasked(api: Api, sprite: str) -> None:
    give(api, sprite)
    # Two requests at once, of which the first does not ask for it: the second must not be taken for plain bytes.
    two = "GET /upgrade HTTP/1.1\r\nHost: api.test\r\n\r\n" * 2
    assert ask(api, sprite, request=two).startswith("502 ")
    assert ask(api, sprite, "/still") == "200 hello"


def test_only_its_host_gets_it(api: Api, sprite: str, hosts: SecureHosts) -> None:
    give(api, sprite)
    # Another name of the same address is another host; asked by the address, it is reached without the broker.
    assert ask(api, sprite, "/other", name="same.test").startswith("failed SSLCertVerificationError"), "its own authority"
    assert ask(api, sprite, "/fronted", host="same.test").startswith("421 ")
    assert ask(api, sprite, request="GET /two HTTP/1.1\r\nHost: api.test\r\nHost: same.test\r\n\r\n").startswith("4")
    assert ask(api, sprite, request="GET https://same.test/absolute HTTP/1.1\r\nHost: api.test\r\n\r\n").startswith("400 ")
    # The broker speaks only for hosts of secrets.
    assert ask(api, sprite, "/via", name="same.test", connect="api.test").startswith("failed")
    assert ask(api, sprite, "/direct", connect=SECURE).startswith("failed SSLCertVerificationError")
    assert ask(api, sprite, "/port", port=80).startswith("failed ConnectionRefusedError")
    assert not [path for path in ("/other", "/fronted", "/two", "/absolute", "/via", "/direct") if hosts.requests(path)]


def test_what_is_not_passed_on(api: Api, sprite: str, hosts: SecureHosts) -> None:
    give(api, sprite)
    assert ask(api, sprite, "/trace", method="TRACE").startswith("405 ")
    assert ask(api, sprite, "/long", headers=f"X: {'x' * 40_000}\r\n").startswith("431 ")
    assert ask(api, sprite, request="GET /old HTTP/1.0\r\nHost: api.test\r\n\r\n").startswith("505 ")
    assert ask(api, sprite, request="no request\r\n\r\n").startswith("400 ")
    assert not [path for path in ("/trace", "/long", "/old") if hosts.requests(path)]
    wait_for(api, sprite, "TRACE api.test/trace: TRACE is not passed on to hosts of secrets")


def test_a_host_with_a_bad_certificate_gets_nothing(api: Api, sprite: str, hosts: SecureHosts) -> None:
    give(api, sprite, host="untrusted.test")
    answer = ask(api, sprite, "/bad", name="untrusted.test")
    assert answer.startswith("502 ") and "certificate" in answer and SECRET not in answer
    assert not hosts.requests("/bad")


@pytest.mark.parametrize("target", ["172.31.77.10", "127.0.0.1", "169.254.169.254"])
def test_a_name_that_turns_private_gets_nothing(api: Api, sprite: str, internet: Internet, target: str) -> None:  # noqa: F811
    give(api, sprite)
    internet.set_zone({"api.test": [["A", target]]})
    with Capture(internet.outer) as wire:
        assert ask(api, sprite, "/private").startswith("403 ")
        assert not wire.begun_to(target, wait=0.2), "not a packet of the broker's went there"
        internet.set_zone({})
        assert ask(api, sprite, "/public") == "200 hello"
        assert wire.begun_to(SECURE, 443), "one would have been seen"


def test_other_sprites_and_forks_do_not_have_it(api: Api, sprite: str, new_sprite: Callable[[], str], hosts: SecureHosts) -> None:
    give(api, sprite)
    other = new_sprite()
    assert ask(api, other, "/stranger").startswith("failed SSLCertVerificationError"), "the real host, whose authority is not public"
    gateway = shell(api, sprite, "ip route show default").split()[2]
    assert ask(api, other, "/stranger", connect=gateway).startswith("failed")
    fork = fresh_name("fork")
    api.fork(sprite, fork)
    try:
        assert ask(api, fork, "/stranger", connect=gateway).startswith("failed")
        assert api.call("GET", f"/v1/sprites/{fork}/secrets").json() == {"secrets": []}
    finally:
        api.destroy(fork)
    assert not hosts.requests("/stranger")
    # Beside one's own secret, another's is as far away.
    give(api, other, value="of-the-other")
    assert ask(api, other, "/own") == "200 hello"
    assert carried(hosts, "/own") == ["Bearer of-the-other"]


def test_it_is_nowhere_inside_and_not_in_the_journal(api: Api, daemon: Daemon, sprite: str) -> None:
    give(api, sprite)
    assert ask(api, sprite, "/used?a=b").startswith("200")
    api.checkpoint(sprite, "with a secret")
    script = """
grep -sl sk-ve[r] /proc/[0-9]*/environ /proc/[0-9]*/cmdline
grep -srl --exclude-dir=proc --exclude-dir=sys --exclude-dir=dev sk-ve[r] /.sprite /etc /home /root /tmp /var /run
env | grep sk-ve[r]
true
"""
    assert run(api, sprite, "sudo", "sh", "-c", script, timeout=60).text == ""
    # The socket inside has no such path.
    script = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/.sprite/api.sock'); "
    script += "s.sendall(b'GET /v1/secrets HTTP/1.1\\r\\nHost: s\\r\\n\\r\\n'); print(s.recv(9999).decode())"
    inside = run(api, sprite, "sudo", "python3", "-c", script).text
    assert inside.startswith("HTTP/1.1 404") and SECRET not in inside
    wait_for(api, sprite, "GET api.test/used -> 200")
    kept = json.dumps(records(api, sprite))
    assert "secret.set" in kept and SECRET not in kept
    files = [path for path in daemon.data_directory.rglob("*") if path.is_file() and path.stat().st_size < 64 << 20]
    holding = {path.name for path in files if SECRET.encode() in path.read_bytes()}
    assert holding <= {"registry.db", "registry.db-wal"}, holding
    assert all(path.stat().st_mode & 0o077 == 0 for path in files if path.name in holding)
    assert SECRET not in daemon.log.read_text()


def test_removing_it_has_effect_at_once(api: Api, sprite: str, hosts: SecureHosts) -> None:
    give(api, sprite)
    request = "GET /events?300 HTTP/1.1\r\nHost: api.test\r\n\r\n"
    options = repr({"name": "api.test", "connect": "", "port": 443, "request": request, "body": 0})

    async def cut() -> Result:
        async with open_exec(api, sprite, "python3", "-c", REQUEST, options) as session:
            eventually(lambda: hosts.requests("/events"), "the long answer")
            api.call("DELETE", f"/v1/sprites/{sprite}/secrets/main", 204)
            return await session.finish(timeout=15)

    assert not asyncio.run(cut()).text.startswith("200"), "the answer was cut"
    assert ask(api, sprite, "/after").startswith("failed")
    assert not hosts.requests("/after")
    api.call("DELETE", f"/v1/sprites/{sprite}/secrets/main", 404)


def test_the_policy_decides_as_well(api: Api, sprite: str, hosts: SecureHosts) -> None:
    give(api, sprite)
    set_policy(api, sprite, allow("allowed.test"))
    gateway = shell(api, sprite, "ip route show default").split()[2]
    assert ask(api, sprite, "/denied").startswith("failed gaierror")
    assert ask(api, sprite, "/denied", connect=gateway).startswith("403 ")
    assert not hosts.requests("/denied")
    set_policy(api, sprite, allow("api.test"))
    assert ask(api, sprite, "/allowed") == "200 hello"
    assert carried(hosts, "/allowed") == [f"Bearer {SECRET}"]
    # What the policy never named stays closed, the address of the host as well.
    assert ask(api, sprite, "/closed", connect=SECURE).startswith("failed")


def test_it_survives_kill_of_the_daemon_and_a_stop(api: Api, daemon: Daemon, sprite: str, hosts: SecureHosts) -> None:
    give(api, sprite)
    daemon.kill()
    daemon.start()
    api = daemon.api()
    assert ask(api, sprite, "/again") == "200 hello"
    api.call("POST", f"/v1/sprites/{sprite}/restart", {200, 204})
    assert ask(api, sprite, "/again") == "200 hello"
    assert carried(hosts, "/again") == [f"Bearer {SECRET}"] * 2
    api.destroy(sprite)
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in daemon.data_directory.glob("registry.db"))


def test_limits(api: Api, sprite: str) -> None:
    for number in range(32):
        give(api, sprite, host=f"h{number}.test", id=f"s{number}")
    api.call("PUT", f"/v1/sprites/{sprite}/secrets/more", 429, json={"host": "more.test", "value": "x"})
    give(api, sprite, host="api.test", id="s0")
    script = """
import socket, ssl, sys
def open():
    raw = socket.create_connection(("api.test", 443), 10)
    raw.settimeout(10)
    return ssl.create_default_context().wrap_socket(raw, server_hostname="api.test")
held = [open() for _ in range(64)]
s = open()
s.sendall(b"GET / HTTP/1.1\\r\\nHost: api.test\\r\\n\\r\\n")
print(s.recv(4096).decode().split()[1])
del held
"""
    assert run(api, sprite, "python3", "-c", script, timeout=60).text.strip() == "503"


HOLD = """
import socket
held = []
for _ in range(12):
    try: held.append(socket.create_connection(("api.test", 443), 2))
    except OSError: pass
print(len(held))
"""


def test_limits_of_the_network_hold_for_requests_with_secrets(
    api: Api, new_sprite: Callable[..., str], hosts: SecureHosts
) -> None:
    """The broker on the host answers these: they are connections to it, and not forwarded ones."""
    name = new_sprite(config={"connections": 5, "bandwidth_mbit": 8})
    give(api, name)
    assert ask(api, name, "/limited") == "200 hello"
    assert carried(hosts, "/limited") == [f"Bearer {SECRET}"]
    # 6 MB at 1 MB/s, with a second's worth at once.
    begin = time.monotonic()
    assert ask(api, name, "/upload", method="POST", body=6_000_000).startswith("200")
    assert time.monotonic() - begin > 3
    assert int(shell(api, name, f"timeout 60 python3 -c '{HOLD}'", timeout=90)) == 5
    hits = {one["fields"]["limit"] for one in events(api, name, event="sprite.network_limit")}
    assert hits == {"connections", "bandwidth"}
