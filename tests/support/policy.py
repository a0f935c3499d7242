# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""A daemon that asks the name servers of our own internet, and what tests of network policies share."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.api import Api
from support.daemon import Daemon
from support.exec import root_shell, run, shell
from support.internet import RESOLVER, WEB, Internet
from support.wait import eventually
from support.wire import Capture


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
    daemon.finish()


@pytest.fixture(autouse=True)
def fresh_zone(internet: Internet) -> None:
    internet.set_zone({})
    internet.begin()


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


def from_host(script: str, *arguments: str) -> str:
    """The same probe as in a sprite, from where no policy holds: what it is told there shows that the probe works."""
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60)
    return done.stdout.strip() + done.stderr


def connect_from_host(target: str, port: int = WEB) -> str:
    return from_host(CONNECT, target, str(port), "4")


def ask_from_host(name: str, server: str = RESOLVER, transport: str = "udp", kind: int = 1) -> str:
    return from_host(ASK, server, name, transport, str(kind))


def assert_cut_off(
    api: Api, internet: Internet, sprite: str, target: str, port: int = WEB, name: str | None = None, timeout: float = 4
) -> None:
    """Nothing of an attempt to connect to an address gets there: neither a connection nor a packet.

    Afterwards the host does the same, and it is seen in both places: so it would have been seen before. With a `name`,
    the sprite connects to that.
    """
    before = len(internet.accepted(target, port))
    with Capture(internet.outer) as wire:
        said = connect(api, sprite, name or target, port, timeout)
        assert said.startswith("failed"), f"{name or target} port {port}: {said}"
        assert not wire.begun_to(target), f"packets to {target} left the host"
        assert connect_from_host(target, port) == f"hello from {target}", "the far end is there"
        assert wire.begun_to(target, port), "a packet to it would have been seen"
    arrived = eventually(lambda: internet.accepted(target, port)[before:], "a connection to it would have been noted")
    assert len(arrived) == 1, arrived


def python(api: Api, sprite: str, script: str, *arguments: str) -> str:
    done = run(api, sprite, "sudo", "python3", "-c", script, *arguments, timeout=40)
    return done.text.strip() + done.stderr.decode()


def contacts(api: Api, sprite: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.call("GET", f"/v1/sprites/{sprite}/policy/network/contacts").json()
    return found


def address_of(api: Api, name: str) -> str:
    return root_shell(api, name, "ip -4 -o addr show dev eth0 | awk '{print $4}' | cut -d/ -f1").strip()


def names_asked(internet: Internet) -> set[str]:
    """What the name servers outside were asked for, by whomever."""
    return {entry["text"] for entry in internet.seen("question", "")}


SEND = r"""
import socket, sys
for word in sys.argv[1:]:
    way, _, data = word.partition("=")
    data = bytes.fromhex(data)
    if way == "frame":
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        s.bind(("eth0", 0))
        s.send(data)
    else:
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        # Another packet's refusal may be told here.
        try: s.sendto(data, (way, 0))
        except OSError as e: print(e)
print("sent")
"""


def send_frames(api: Api, sprite: str, *frames: bytes) -> None:
    """Onto the wire as they are, by root inside."""
    words = [f"frame={frame.hex()}" for frame in frames]
    assert python(api, sprite, SEND, *words) == "sent"


def send_packets(api: Api, sprite: str, *packets: bytes) -> None:
    """IPv4 packets through a raw socket, by root inside."""
    words = [f"{'.'.join(map(str, packet[16:20]))}={packet.hex()}" for packet in packets]
    assert python(api, sprite, SEND, *words).endswith("sent")


def gateway_of(api: Api, name: str) -> str:
    """The host, as the sprite sees it: the address of the bridge."""
    return shell(api, name, "ip route | awk '/default/ {print $3}'").strip()


LISTEN = r"""
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("0.0.0.0", int(sys.argv[1])))
s.listen()
with open("/tmp/accepted", "w", buffering=1) as seen:
    print("listening", file=seen)
    while True:
        connection, peer = s.accept()
        print(peer[0], file=seen)
        connection.sendall(b"hello from inside\n")
        connection.close()
"""


def listen_inside(api: Api, sprite: str, port: int) -> None:
    """A service in a sprite; returns once it listens."""
    shell(api, sprite, f"cat > /tmp/listen.py <<'END'{LISTEN}END")
    shell(api, sprite, f"setsid -f sudo python3 /tmp/listen.py {port} </dev/null >/tmp/listen.log 2>&1")
    ready = "grep -q listening /tmp/accepted || { cat /tmp/listen.log; false; }"
    eventually(lambda: run(api, sprite, "sh", "-c", ready).code == 0, "the service inside listens")


def accepted_inside(api: Api, sprite: str) -> list[str]:
    """Addresses of all whose connection to that service was made."""
    return shell(api, sprite, "cat /tmp/accepted").split()[1:]
