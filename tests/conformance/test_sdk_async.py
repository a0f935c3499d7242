# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The asynchronous client of the official SDK."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sprites import AsyncSprite, AsyncSpritesClient, NotFoundError
from sprites.exceptions import ExitError, SpriteError


def with_sprite(server: tuple[str, str], name: str, scenario: Callable[[AsyncSprite], Awaitable[None]]) -> None:
    async def run() -> None:
        async with AsyncSpritesClient(server[1], base_url=server[0]) as client:
            box = await client.create_sprite(name)
            try:
                await scenario(box)
            finally:
                await client.delete_sprite(name)
            with pytest.raises(NotFoundError):
                await client.get_sprite(name)

    asyncio.run(run())


def test_commands(server: tuple[str, str], name: str) -> None:
    async def scenario(box: AsyncSprite) -> None:
        done = await box.run("sh", "-c", "echo out; echo err >&2; exit 3", capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
        with pytest.raises(ExitError):
            await box.run("false", check=True)
        assert await box.command("echo", "x").output() == b"x\n"

    with_sprite(server, name, scenario)


def test_many_commands_at_once(server: tuple[str, str], name: str) -> None:
    async def scenario(box: AsyncSprite) -> None:
        results = await asyncio.gather(
            *(box.run("sh", "-c", f"echo {n}; exit {n}", capture_output=True) for n in range(40))
        )
        for number, done in enumerate(results):
            assert (done.stdout, done.returncode) == (f"{number}\n".encode(), number)

    with_sprite(server, name, scenario)


def test_a_terminal(server: tuple[str, str], name: str) -> None:
    async def scenario(box: AsyncSprite) -> None:
        done = await box.run("stty", "size", capture_output=True, tty=True, tty_rows=40, tty_cols=120)
        assert (done.stdout, done.returncode) == (b"40 120\r\n", 0)

    with_sprite(server, name, scenario)


def test_checkpoints(server: tuple[str, str], name: str) -> None:
    async def scenario(box: AsyncSprite) -> None:
        await box.run("sh", "-c", "echo one > file", check=True)
        created = await collect(box.create_checkpoint("first"))
        assert created[-1].type == "complete"
        await box.run("sh", "-c", "echo two > file", check=True)
        assert "v1" in [one.id for one in await box.list_checkpoints()]
        assert (await box.get_checkpoint("v1")).comment == "first"
        restored = await collect(box.restore_checkpoint("v1"))
        assert restored[-1].type == "complete"
        assert (await box.run("cat", "file", capture_output=True)).stdout == b"one\n"
        with pytest.raises(SpriteError):
            await box.get_checkpoint("v9")

    with_sprite(server, name, scenario)


def test_sessions(server: tuple[str, str], name: str) -> None:
    async def scenario(box: AsyncSprite) -> None:
        task = asyncio.create_task(box.run("sleep", "60"))
        for _ in range(200):
            if listed := await box.list_sessions():
                break
            await asyncio.sleep(0.05)
        assert "sleep 60" in listed[0].command
        done = await box.run("pkill", "-TERM", "sleep")
        assert done.returncode == 0
        assert (await asyncio.wait_for(task, 10)).returncode == 143

    with_sprite(server, name, scenario)


async def collect(stream):  # type: ignore[no-untyped-def]
    """The messages of a stream, whether it is awaited first or iterated at once."""
    if hasattr(stream, "__await__"):
        stream = await stream
    if hasattr(stream, "__aiter__"):
        return [message async for message in stream]
    return list(stream)
