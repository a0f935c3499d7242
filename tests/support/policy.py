# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""A daemon that asks the name servers of our own internet, and what tests of network policies share."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.api import Api
from support.daemon import Daemon
from support.exec import root_shell, run
from support.internet import RESOLVER, Internet


@pytest.fixture(scope="module")
def internet(scratch: Path) -> Iterator[Internet]:
    with Internet(scratch / "internet") as made:
        yield made


@pytest.fixture(scope="module")
def shared_daemon(internet: Internet, scratch: Path, base: Path) -> Iterator[Daemon]:
    """In the place of the daemon of other tests: one that asks our name server."""
    settings = scratch / "policy.json"
    settings.write_text(json.dumps({"name_servers": RESOLVER}))
    daemon = Daemon(scratch / "policy", scratch / "policy.log", ["--config", str(settings)])
    daemon.import_base(base)
    daemon.start()
    yield daemon
    try:
        daemon.remove()
    except BaseException:
        daemon.abandon()
        raise
    daemon.log.unlink()


@pytest.fixture(autouse=True)
def fresh_zone(internet: Internet) -> None:
    internet.set_zone({})


def allow(*domains: str) -> list[dict[str, str]]:
    return [{"domain": domain, "action": "allow"} for domain in domains]


def set_policy(api: Api, sprite: str, rules: list[dict[str, str]]) -> None:
    api.call("POST", f"/v1/sprites/{sprite}/policy/network", 204, json={"rules": rules})


@pytest.fixture
def restricted(api: Api, sprite: str) -> str:
    """A sprite that may reach allowed.test and nothing else."""
    set_policy(api, sprite, allow("allowed.test"))
    return sprite


CONNECT = r"""
import socket, sys
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]))
    s.settimeout(3)
    try:
        print(s.recv(100).decode().strip() or "connected")
    except TimeoutError:
        # Whoever listens and says nothing was reached all the same.
        print("connected")
except OSError as e:
    print("failed", type(e).__name__, e.errno)
"""

ASK = r"""
import socket, struct, sys
server, name, transport, kind = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
encoded = b"".join(bytes([len(l)]) + l.encode() for l in name.split(".") if l) + b"\0"
m = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + encoded + struct.pack("!HH", kind, 1)
try:
    if transport == "tcp":
        s = socket.create_connection((server, 53), 4)
        s.sendall(struct.pack("!H", len(m)) + m)
        f = s.makefile("rb")
        r = f.read(struct.unpack("!H", f.read(2))[0])
    else:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(4)
        s.sendto(m, (server, 53))
        r = s.recv(4096)
    print("code", r[3] & 15, "answers", struct.unpack("!H", r[6:8])[0], "cut", (r[2] >> 1) & 1)
except OSError as e:
    print("failed", type(e).__name__)
"""

REFUSED = "code 5 answers 0 cut 0"


def connect(api: Api, sprite: str, target: str, port: int = 80, timeout: float = 4) -> str:
    return run(api, sprite, "python3", "-c", CONNECT, target, str(port), str(timeout), timeout=30).text.strip()


def ask(api: Api, sprite: str, name: str, server: str = RESOLVER, transport: str = "udp", kind: int = 1) -> str:
    return run(api, sprite, "python3", "-c", ASK, server, name, transport, str(kind), timeout=30).text.strip()


def python(api: Api, sprite: str, script: str, *arguments: str) -> str:
    done = run(api, sprite, "sudo", "python3", "-c", script, *arguments, timeout=40)
    return done.text.strip() + done.stderr.decode()


def contacts(api: Api, sprite: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.call("GET", f"/v1/sprites/{sprite}/policy/network/contacts").json()
    return found


def address_of(api: Api, name: str) -> str:
    return root_shell(api, name, "ip -4 -o addr show dev eth0 | awk '{print $4}' | cut -d/ -f1").strip()
