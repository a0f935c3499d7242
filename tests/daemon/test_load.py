# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Many clients at once, and clients that do not read."""

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from support.api import Api
from support.daemon import Daemon
from support.exec import attach, open_exec, query, run
from support.fixtures import fresh_name
from support.wait import eventually


@pytest.mark.timeout(120)
def test_two_hundred_commands_at_once(api: Api, sprite: str) -> None:
    async def one(number: int) -> None:
        async with open_exec(api, sprite, "sh", "-c", f"read line; echo {number} $line; exit 7", stdin=True) as session:
            # All of them run before the first ends.
            await started.wait() if number else None
            await session.send(b"go\n")
            result = await session.finish(100)
            assert (result.text, result.code) == (f"{number} go\n", 7), result

    started: asyncio.Event

    async def everything() -> None:
        nonlocal started
        started = asyncio.Event()
        tasks = [asyncio.create_task(one(number)) for number in range(1, 201)]
        while len(await asyncio.to_thread(api.sessions, sprite)) < 200:
            for task in tasks:
                if task.done():
                    await task
            await asyncio.sleep(0.05)
        started.set()
        await asyncio.gather(*tasks)

    asyncio.run(everything())
    eventually(lambda: not api.sessions(sprite), "every session is gone")


@pytest.mark.timeout(120)
def test_fifty_creations_at_once(daemon: Daemon) -> None:
    names = [fresh_name("load") for _ in range(50)]

    def work(name: str) -> str:
        api = daemon.api()
        assert api.create(name)["status"] == "running"
        text = run(api, name, "hostname").text
        api.destroy(name)
        return text

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(work, names)) == [f"{name}\n" for name in names]


class Lazy:
    """A client of a command that does the handshake and then reads nothing."""

    def __init__(self, api: Api, path: str) -> None:
        place = urlsplit(api.url)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect((place.hostname, place.port))
        self.socket.settimeout(20)
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {api.token}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head

    def info(self) -> dict[str, object]:
        first, length = self.exactly(2)
        assert first == 0x81
        if length == 126:
            (length,) = struct.unpack(">H", self.exactly(2))
        found: dict[str, object] = json.loads(self.exactly(length))
        return found

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += self.socket.recv(count - len(data))
        return data

    def was_cut_off(self) -> bool:
        """Reads what is left; whether the connection ended."""
        try:
            while self.socket.recv(1 << 20):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True


def test_a_client_that_does_not_read_holds_up_no_other(api: Api, sprite: str) -> None:
    async def both() -> None:
        size = 64 << 20
        script = f"read go; head -c {size} /dev/zero; exit 3"
        async with open_exec(api, sprite, "sh", "-c", script, stdin=True, detachable="true") as session:
            lazy = Lazy(api, f"/v1/sprites/{sprite}/exec/{session.id}")
            assert lazy.info()["session_id"] == session.id
            await session.send(b"go\n")
            result = await session.finish(60)
            assert (len(result.stdout), result.code) == (size, 3)
            # Far behind, it was let go, and is told so when it reads again.
            assert await asyncio.to_thread(lazy.was_cut_off)

    asyncio.run(both())


def test_a_client_that_takes_nothing_is_cut_off_and_its_detachable_command_lives_on(
    new_daemon: Callable[..., Daemon],
) -> None:
    daemon = new_daemon("--client-timeout", "1.5")
    api = daemon.api()
    name = fresh_name()
    api.create(name)
    endless = "i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done; echo end"
    lazy = Lazy(api, f"/v1/sprites/{name}/exec?{query(['sh', '-c', endless], detachable='true')}")
    session = str(lazy.info()["session_id"])
    doomed = Lazy(api, f"/v1/sprites/{name}/exec?{query(['sh', '-c', endless], max_run_after_disconnect='1s')}")
    other = str(doomed.info()["session_id"])
    eventually(lambda: "client cut off" in daemon.log.read_text(), "the client is cut off", 20)
    # Neither is lost at once; the one that does not outlive its client ends soon.
    eventually(lambda: [one["id"] for one in api.sessions(name)] == [session], f"{other} ends, {session} goes on", 20)

    async def again() -> None:
        async with attach(api, name, session) as back:
            api.call("PUT", f"/v1/sprites/{name}/fs/write", params={"path": "/tmp/stop"}, content=b"")
            result = await back.finish(30)
            assert result.text.endswith("end\n") and result.code == 0

    time.sleep(0.5)
    asyncio.run(again())
    assert lazy.was_cut_off() and doomed.was_cut_off()
