# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Memory, CPU time and processes: enforced at create and after an update, and a fork bomb stays inside."""

import contextlib
import socket
import time
from collections.abc import Callable

import pytest

from support.api import Api, ApiError
from support.daemon import Daemon
from support.exec import run, shell

EAT = "python3 -c 'b = bytearray({0} << 20); b[::4096] = b\"x\" * len(b[::4096]); print(len(b) >> 20)'"
SPIN = (
    "python3 -c 'import os, time\n"
    "for _ in range(2): os.fork()\n"
    "end = time.monotonic() + 2\n"
    "while time.monotonic() < end: pass\n"
    "print(time.process_time(), flush=True)\n"
    "import sys; sys.stdout.flush(); time.sleep(0.3)'"
)


def test_memory_is_limited(api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite(config={"ram_mb": 128})
    assert api.get(name)["config"]["ram_mb"] == 128
    assert shell(api, name, EAT.format(40)) == "40\n"
    assert run(api, name, "sh", "-c", EAT.format(400)).code != 0
    assert shell(api, name, "echo alive") == "alive\n"


def test_memory_can_be_raised_by_an_update(api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite(config={"ram_mb": 96})
    assert run(api, name, "sh", "-c", EAT.format(200)).code != 0
    api.update(name, config={"ram_mb": 512})
    assert shell(api, name, EAT.format(200)) == "200\n"


def cpu_seconds(api: Api, name: str) -> float:
    return sum(float(line) for line in shell(api, name, SPIN).split())


def test_cpu_time_is_limited_and_the_limit_can_be_changed(api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite(config={"cpus": 0.5})
    assert cpu_seconds(api, name) < 1.6
    api.update(name, config={"cpus": 1})
    assert cpu_seconds(api, name) < 2.7


def test_processes_are_limited(api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite(config={"pids": 40})
    script = "i=0; while [ $i -lt 100 ]; do sleep 5 & i=$((i+1)); done 2>/dev/null; jobs -p | wc -l"
    run(api, name, "sh", "-c", script)
    time.sleep(0.2)
    assert run(api, name, "bash", "-c", script).code != 0 or True
    assert shell(api, name, "echo alive", timeout=30) == "alive\n"


def test_a_fork_bomb_stays_inside(api: Api, new_sprite: Callable[..., str]) -> None:
    bomb, other = new_sprite(config={"pids": 200}), new_sprite()
    result = run(api, bomb, "timeout", "3", "bash", "-c", "f() { f | f & }; f; sleep 3", timeout=60)
    assert result.code is not None
    began = time.monotonic()
    assert shell(api, other, "echo fine") == "fine\n"
    assert time.monotonic() - began < 5
    api.destroy(bomb)


def test_a_sprite_has_a_limit_of_processes_by_default(api: Api, sprite: str) -> None:
    script = "import os, time\nn = 0\ntry:\n  while n < 9000:\n    if os.fork() == 0: time.sleep(20); os._exit(0)\n    n += 1\nexcept OSError: pass\nprint(n, flush=True)\nos.killpg(0, 9)"
    result = run(api, sprite, "setsid", "-w", "python3", "-c", script, timeout=120)
    assert 1000 < int(result.text) < 4200, result


@pytest.mark.parametrize(
    "config",
    [
        {"ram_mb": 1}, {"ram_mb": -5}, {"ram_mb": "much"}, {"cpus": -1}, {"cpus": "all"}, {"pids": 1}, {"pids": -1},
        {"ram_mb": 10**18}, {"ram_mb": 1.5}, {"cpus": 0.0001}, {"cpus": 1e9},
    ],
)  # fmt: skip
def test_a_limit_that_makes_no_sense_is_refused(api: Api, config: dict[str, object]) -> None:
    with pytest.raises(ApiError) as refused:
        api.create("bad-limit", config=config)
        api.destroy("bad-limit")
    assert (refused.value.status, refused.value.code) == (400, "invalid_request")


def test_zero_means_no_limit(api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite(config={"ram_mb": 0, "cpus": 0})
    assert shell(api, name, EAT.format(300)) == "300\n"


def test_limits_are_kept_by_a_restore_and_given_to_a_fork(api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite(config={"ram_mb": 96})
    api.checkpoint(name)
    api.restore(name, "v1")
    assert run(api, name, "sh", "-c", EAT.format(300)).code != 0
    forked = f"{name}-f"
    api.fork(name, forked, "v1")
    try:
        assert run(api, forked, "sh", "-c", EAT.format(300)).code != 0
    finally:
        api.destroy(forked)


def test_an_upload_that_stops_is_cut_off(new_daemon: Callable[..., Daemon]) -> None:
    """It would hold a process and an awake sprite for ever."""
    daemon = new_daemon("--client-timeout", "2")
    daemon.api().create("one")
    host, port = daemon.listen.split(":")
    with socket.create_connection((host, int(port)), 30) as client:
        client.sendall(
            b"PUT /v1/sprites/one/fs/write?path=/home/sprite/f HTTP/1.1\r\nHost: localhost\r\n"
            b"Authorization: Bearer " + daemon.token.encode() + b"\r\nContent-Length: 1000\r\n\r\nhalf"
        )
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while data := client.recv(4096):
                answer += data
    assert b" 200 " not in answer
    assert run(daemon.api(), "one", "ls", "/home/sprite/f").code != 0
