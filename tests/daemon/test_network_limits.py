# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Bandwidth and connections of a sprite: limited both ways, changed live, gone with the sprite."""

import contextlib
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import logs
from support.api import Api
from support.daemon import Daemon
from support.exec import run, shell
from support.internet import ALLOWED, Internet
from support.wait import eventually

#: Sends to a server that echoes, for some seconds; prints how many kilobytes a second came back.
ECHO = """
import socket, sys, threading, time
s = socket.create_connection((sys.argv[1], 80), 5)
begin = time.monotonic()
end = begin + float(sys.argv[2])
def send():
    while time.monotonic() < end: s.sendall(b"x" * 16384)
threading.Thread(target=send, daemon=True).start()
count = 0
while time.monotonic() < end: count += len(s.recv(65536))
print(int(count / 1000 / (time.monotonic() - begin)))
"""
OPEN = """
import socket, sys
opened = []
for _ in range(int(sys.argv[2])):
    try: opened.append(socket.create_connection((sys.argv[1], 80), 2))
    except OSError: pass
print(len(opened))
"""


@pytest.fixture(scope="module")
def internet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    with Internet(tmp_path_factory.mktemp("internet")) as made:
        yield made


def rate(api: Api, name: str) -> int:
    return int(shell(api, name, f"timeout 20 python3 -c '{ECHO}' {ALLOWED} 3", timeout=40))


def opened(api: Api, name: str, count: int) -> int:
    return int(shell(api, name, f"timeout 60 python3 -c '{OPEN}' {ALLOWED} {count}", timeout=90))


def hits(api: Api, name: str) -> Counter[str]:
    """How often the journal says of which limit that the sprite reached it."""
    found = logs.events(api, name, event="sprite.network_limit")
    assert all(one["level"] == "warn" for one in found)
    return Counter(one["fields"]["limit"] for one in found)


def init_of(argument: str) -> int | None:
    """The first process of the sprite in which a program with this argument runs; None while there is none."""
    namespace = None
    for program in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if argument.encode() in (program / "cmdline").read_bytes().split(b"\0"):
                namespace = os.readlink(program / "ns/pid")
                break
    for process in Path("/proc").glob("[0-9]*") if namespace else ():
        with contextlib.suppress(OSError):
            numbers = re.search(r"^NSpid:(.*)$", (process / "status").read_text(), re.MULTILINE)
            if numbers and numbers[1].split()[-1] == "1" and os.readlink(process / "ns/pid") == namespace:
                return int(process.name)
    return None


def chains(daemon: Daemon) -> list[str]:
    listed = subprocess.run(["nft", "list", "table", "inet", f"sprited_{daemon.tag}"], capture_output=True, text=True)
    return re.findall(r"chain ((?:up|down)_\S+)", listed.stdout)


def test_bandwidth_is_limited_and_the_limit_changes_live(
    api: Api, daemon: Daemon, internet: Internet, new_sprite: Callable[..., str]
) -> None:
    name, free = new_sprite(config={"bandwidth_mbit": 8}), new_sprite()
    assert api.get(name)["config"]["bandwidth_mbit"] == 8
    # 8 Mbit/s are 1000 kB a second, and a second's worth more at the beginning.
    slow = rate(api, name)
    assert 300 < slow < 1500, slow
    assert rate(api, free) > 2 * slow, "another sprite is not held up"
    assert hits(api, name) == {"bandwidth": 1} and hits(api, free) == {}
    api.update(name, config={"bandwidth_mbit": 80})
    assert rate(api, name) > 2 * slow
    api.update(name, config={"bandwidth_mbit": 0})
    assert "bandwidth_mbit" not in api.get(name)["config"]
    assert chains(daemon) == []


def test_connections_are_limited(
    api: Api, daemon: Daemon, internet: Internet, new_sprite: Callable[..., str]
) -> None:
    name, free = new_sprite(config={"connections": 20}), new_sprite()
    internet.begin()
    assert opened(api, name, 40) == 20
    # A connection is made before the server takes it, so counting takes a moment.
    eventually(lambda: len(internet.accepted(ALLOWED)) == 20, "as many arrived")
    assert opened(api, free, 40) == 40
    eventually(lambda: len(internet.accepted(ALLOWED)) == 60, "as many more arrived")
    assert len(internet.accepted(ALLOWED, wait=0.3)) == 60
    # Twenty were refused; that it happens is said once a minute.
    assert hits(api, name) == {"connections": 1} and hits(api, free) == {}
    # Those that have ended count no more.
    assert opened(api, name, 10) == 10
    api.update(name, config={"connections": 30})
    assert opened(api, name, 40) == 30
    api.destroy(name)
    assert chains(daemon) == []


def test_limits_outlive_the_daemon_and_a_restart(
    new_daemon: Callable[..., Daemon], internet: Internet
) -> None:
    daemon = new_daemon()
    api = daemon.api()
    api.create("one", config={"connections": 5, "stop_after_seconds": 0, "freeze_after_seconds": 0})
    daemon.restart()
    api = daemon.api()
    assert opened(api, "one", 10) == 5
    api.checkpoint("one")
    api.restore("one", "v1")
    assert opened(api, "one", 10) == 5
    assert run(api, "one", "true").code == 0


def test_limits_of_a_sprite_that_goes_while_no_daemon_runs_are_removed(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    for name in ("gone", "stays"):
        api.create(name, config={"connections": 5, "stop_after_seconds": 0, "freeze_after_seconds": 0})
        shell(api, name, "true")
    assert len(chains(daemon)) == 4
    run(api, "gone", "sh", "-c", "sleep 7654321 >/dev/null 2>&1 &")
    init = eventually(lambda: init_of("7654321"), "the program runs in the sprite", 20)
    daemon.kill()
    subprocess.run(["kill", "-9", str(init)], check=True)
    eventually(lambda: not Path(f"/proc/{init}").exists(), "the sprite has ended", 10)
    daemon.start()
    api = daemon.api()
    eventually(lambda: len(chains(daemon)) == 2, "only chains of the one that runs are there", 10)
    assert api.get("gone")["status"] == "cold"
    for name in ("gone", "stays"):
        shell(api, name, "true")
    assert len(chains(daemon)) == 4


def test_limits_come_with_a_fork(api: Api, internet: Internet, new_sprite: Callable[..., str], tmp_path: Path) -> None:
    name = new_sprite(config={"connections": 5})
    fork = f"{name}-fork"
    api.fork(name, fork)
    try:
        assert api.get(fork)["config"]["connections"] == 5
        assert opened(api, fork, 10) == 5
        assert opened(api, name, 10) == 5
    finally:
        api.destroy(fork)
