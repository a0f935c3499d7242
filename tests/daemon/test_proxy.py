# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""TCP connections into a sprite over WebSockets, and watching which ports are open."""

import asyncio
import hashlib
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from support import inside, programs
from support.api import Api
from support.cli import Cli
from support.daemon import Daemon
from support.exec import open_exec, shell
from support.wait import eventually

BLOCK = bytes(range(256)) * 256


def open_socket(api: Api, path: str, **options: Any) -> connect:
    return connect(
        api.url.replace("http", "ws", 1) + path, additional_headers={"Authorization": f"Bearer {api.token}"},
        compression=None, max_size=None, ping_interval=None, proxy=None, **options,
    )  # fmt: skip


def proxy(api: Api, sprite: str, query: str = "", **options: Any) -> connect:
    return open_socket(api, f"/v1/sprites/{sprite}/proxy{query}", **options)


async def begin(ws: ClientConnection, port: int, host: str = "localhost") -> None:
    await ws.send(json.dumps({"host": host, "port": port}))
    answer = json.loads(await asyncio.wait_for(ws.recv(), 20))
    assert answer == {"status": "connected", "target": f"{host or 'localhost'}:{port}"}


async def ending(ws: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            await asyncio.wait_for(ws.recv(), 20)
    assert closed.value.rcvd is not None, "there was no Close frame"
    return closed.value.rcvd.code, closed.value.rcvd.reason


@pytest.mark.parametrize(
    ("listens", "host"),
    [("127.0.0.1", "localhost"), ("127.0.0.1", ""), ("127.0.0.1", "127.0.0.1"), ("::1", "localhost"), ("::1", "::1"),
     ("0.0.0.0", "0.0.0.0")],
)  # fmt: skip
def test_bytes_go_both_ways(api: Api, sprite: str, listens: str, host: str) -> None:
    inside.start(api, sprite, "echo", 7000, listens)

    async def scenario() -> None:
        async with proxy(api, sprite) as ws:
            await begin(ws, 7000, host)
            await ws.send(b"one")
            assert await ws.recv() == b"one"
            await ws.send(b"two")
            assert await ws.recv() == b"two"

    asyncio.run(scenario())


def test_the_target_may_be_in_the_query(api: Api, sprite: str) -> None:
    inside.start(api, sprite, "echo", 7000)

    async def scenario() -> None:
        async with proxy(api, sprite, "?host=localhost&port=7000") as ws:
            assert json.loads(await ws.recv()) == {"status": "connected", "target": "localhost:7000"}
            await ws.send(b"x")
            assert await ws.recv() == b"x"

    asyncio.run(scenario())


def test_all_that_a_client_sent_arrives_before_its_close(api: Api, sprite: str) -> None:
    inside.start(api, sprite, "sink", 7000)
    data = BLOCK * 640  # 40 MiB

    async def scenario() -> None:
        async with proxy(api, sprite) as ws:
            await begin(ws, 7000)
            for start in range(0, len(data), 1 << 20):
                await ws.send(data[start : start + (1 << 20)])

    asyncio.run(scenario())
    wanted = f"{len(data)} {hashlib.sha256(data).hexdigest()}"
    eventually(lambda: wanted in shell(api, sprite, "cat /tmp/sink || true") or None, "everything arrived")


def test_all_that_a_service_sent_arrives_before_the_close(api: Api, sprite: str) -> None:
    inside.start(api, sprite, "pour", 7000)
    size = 40 << 20

    async def scenario() -> int:
        count = 0
        async with proxy(api, sprite) as ws:
            await begin(ws, 7000)
            await ws.send(b"%d\n" % size)
            try:
                async for message in ws:
                    assert isinstance(message, bytes)
                    count += len(message)
            finally:
                assert ws.close_code == 1000
        return count

    assert asyncio.run(scenario()) == size


def test_a_client_that_does_not_read_holds_the_service_back(api: Api, daemon: Daemon, sprite: str) -> None:
    inside.start(api, sprite, "pour", 7000)
    size = 300 << 20

    def resident() -> int:
        for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) >> 10
        return 0

    async def scenario() -> None:
        async with proxy(api, sprite, max_queue=1) as ws:
            await begin(ws, 7000)
            before = resident()
            await ws.send(b"%d\n" % size)
            await asyncio.sleep(2)
            assert resident() - before < 40, "the daemon took what its client did not"
            count = 0
            async for message in ws:
                count += len(message)
            assert count == size

    asyncio.run(scenario())


def test_nothing_listens(api: Api, sprite: str) -> None:
    async def scenario() -> None:
        async with proxy(api, sprite) as ws:
            await ws.send('{"host":"localhost","port":7001}')
            code, reason = await ending(ws)
            assert code == 1011 and reason.startswith("Failed to connect"), (code, reason)

    asyncio.run(scenario())


def test_the_host_of_the_daemon_is_not_reached(api: Api, daemon: Daemon, sprite: str) -> None:
    """Its loopback is another than the sprite's."""
    port = int(daemon.url.rsplit(":", 1)[1])

    async def scenario() -> None:
        for host in ("localhost", "127.0.0.1", "::1", "sprite.invalid", "/etc/passwd"):
            async with proxy(api, sprite) as ws:
                await ws.send(json.dumps({"host": host, "port": port}))
                code, reason = await ending(ws)
                assert code == 1011 and reason.startswith("Failed to connect"), (host, code, reason)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "first",
    ["", "{", "[]", "7000", '{"host":"localhost"}', '{"port":0}', '{"port":65536}', '{"port":-1}', '{"port":"7000"}',
     '{"port":1.5}', '{"host":7,"port":7000}', '{"host":"' + "a" * 300 + '","port":80}', b"bytes"],
)  # fmt: skip
def test_a_first_frame_that_means_nothing(api: Api, sprite: str, first: str | bytes) -> None:
    async def scenario() -> None:
        async with proxy(api, sprite) as ws:
            await ws.send(first)
            assert (await ending(ws))[0] == 1003

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ["proxy", "control", "ports/watch"])
def test_without_a_websocket_there_is_nothing(api: Api, sprite: str, path: str) -> None:
    answer = api.call("GET", f"/v1/sprites/{sprite}/{path}", 426).json()
    assert answer["error"] == "upgrade_required"
    api.call("GET", f"/v1/sprites/no-such-sprite/{path}", 404)
    api.call("POST", f"/v1/sprites/{sprite}/{path}", 405)


@pytest.mark.parametrize("path", ["proxy", "control", "ports/watch"])
def test_strangers_are_refused(api: Api, sprite: str, path: str) -> None:
    async def status(token: str, name: str) -> int:
        url = f"{api.url.replace('http', 'ws', 1)}/v1/sprites/{name}/{path}"
        with pytest.raises(InvalidStatus) as refused:
            async with connect(url, additional_headers={"Authorization": f"Bearer {token}"}, proxy=None):
                pass
        return refused.value.response.status_code

    assert asyncio.run(status("wrong", sprite)) == 401
    assert asyncio.run(status(api.token, "no-such-sprite")) == 404


def test_many_connections_at_once(api: Api, sprite: str) -> None:
    inside.start(api, sprite, "echo", 7000)

    async def one(number: int) -> None:
        async with proxy(api, sprite) as ws:
            await begin(ws, 7000)
            for step in range(10):
                text = b"%d %d" % (number, step)
                await ws.send(text)
                assert await ws.recv() == text

    async def scenario() -> None:
        await asyncio.gather(*(one(number) for number in range(60)))

    asyncio.run(scenario())


# Ports


def test_ports_are_watched(api: Api, sprite: str) -> None:
    inside.start(api, sprite, "echo", 7000)

    async def scenario() -> None:
        async with open_socket(api, f"/v1/sprites/{sprite}/ports/watch") as ws:
            first = json.loads(await asyncio.wait_for(ws.recv(), 10))
            assert first["type"] == "port_list"
            assert [(one["port"], one["address"]) for one in first["ports"]] == [(7000, "127.0.0.1")]
            pid = first["ports"][0]["pid"]
            assert (await asyncio.to_thread(shell, api, sprite, f"cat /proc/{pid}/comm")).startswith("python3")
            await asyncio.to_thread(inside.start, api, sprite, "echo", 7001, "0.0.0.0")
            opened = json.loads(await asyncio.wait_for(ws.recv(), 10))
            assert (opened["type"], opened["port"], opened["address"]) == ("port_opened", 7001, "0.0.0.0")
            await asyncio.to_thread(shell, api, sprite, f"kill {pid}")
            closed = json.loads(await asyncio.wait_for(ws.recv(), 10))
            assert closed == {"type": "port_closed", "port": 7000, "address": "127.0.0.1", "pid": pid}

    asyncio.run(scenario())


@pytest.mark.parametrize("tty", [True, False])
def test_a_session_is_told_of_its_own_ports_only(api: Api, sprite: str, tty: bool) -> None:
    script = 'python3 -c "$0" echo 127.0.0.1 7100 & p=$!; read x; kill $p; wait; read y'

    async def scenario() -> None:
        async with open_exec(api, sprite, "sh", "-c", script, inside.SERVER, tty=tty, stdin=True) as session:
            await asyncio.to_thread(inside.start, api, sprite, "echo", 7000)

            async def message() -> dict[str, Any]:
                known = len(session.result.messages)
                while len(session.result.messages) == known:
                    assert await asyncio.wait_for(session.step(), 15)
                return session.result.messages[-1]

            opened = await message()
            assert (opened["type"], opened["port"], opened["address"]) == ("port_opened", 7100, "127.0.0.1")
            assert isinstance(opened["pid"], int)
            await session.send(b"\n")
            assert await message() == opened | {"type": "port_closed"}
            await session.send(b"\n")
            result = await session.finish(10)
            assert all(one.get("port") != 7000 for one in result.messages)

    asyncio.run(scenario())


# The command


@pytest.fixture
def cli(daemon: Daemon, tmp_path: Path) -> Cli:
    return Cli(daemon, tmp_path)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def forwarding(cli: Cli, sprite: str, free_port: int) -> Iterator[int]:
    command = [str(programs.sprite()), "proxy", "-s", sprite, f"{free_port}:7000"]
    with subprocess.Popen(command, env=cli.environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert f"127.0.0.1:{free_port}" in process.stderr.readline()
        yield free_port
        process.terminate()


def test_sprite_proxy_forwards_ports(api: Api, sprite: str, forwarding: int) -> None:
    inside.start(api, sprite, "echo", 7000)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", forwarding), timeout=10) as one:
            one.sendall(b"there and back")
            assert one.recv(100) == b"there and back"


def test_sprite_proxy_ends_with_the_service(api: Api, sprite: str, forwarding: int) -> None:
    inside.start(api, sprite, "pour", 7000)
    with socket.create_connection(("127.0.0.1", forwarding), timeout=10) as one:
        one.sendall(b"5000000\n")
        count = 0
        while data := one.recv(1 << 16):
            count += len(data)
        assert count == 5_000_000


def test_sprite_proxy_on_standard_streams(api: Api, cli: Cli, sprite: str) -> None:
    inside.start(api, sprite, "echo", 7000)
    assert cli("proxy", "-s", sprite, "-W", ":7000", input=b"ping").stdout == b"ping"
    cli("proxy", "-s", sprite, "-W", ":7009", expect=1)
    for wrong in (["-W", "7000"], ["0:0"], ["x"], ["1:2:3"], [], ["8080", "-W", ":1"]):
        cli("proxy", "-s", sprite, *wrong, expect=2)


def test_sprite_exec_forwards_what_its_command_opens(cli: Cli, sprite: str, free_port: int) -> None:
    script = f'exec python3 -c "$0" echo 127.0.0.1 {free_port}'
    command = [str(programs.sprite()), "exec", "-s", sprite, "--", "sh", "-c", script, inside.SERVER]
    with subprocess.Popen(command, env=cli.environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert f"http://127.0.0.1:{free_port}" in process.stderr.readline()
        with socket.create_connection(("127.0.0.1", free_port), timeout=10) as one:
            one.sendall(b"hello")
            assert one.recv(100) == b"hello"
        process.terminate()
