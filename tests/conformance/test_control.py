# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The official Python SDK in control mode, where commands share connections."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator

import pytest
from sprites import AsyncSprite, AsyncSpritesClient, Sprite, SpritesClient


@pytest.fixture
def box(server: tuple[str, str], name: str) -> Iterator[Sprite]:
    url, token = server
    with SpritesClient(token, base_url=url, control_mode=True) as client:
        sprite = client.create_sprite(name)
        yield sprite
        assert sprite.use_control_mode(), "the SDK fell back to the other way"
        client.delete_sprite(name)


def test_many_commands_in_a_row(box: Sprite) -> None:
    for number in range(100):
        done = box.run("sh", "-c", f"echo {number}; echo e{number} >&2; exit {number}", capture_output=True)
        assert (done.stdout, done.stderr) == (f"{number}\n".encode(), f"e{number}\n".encode())
        assert done.returncode == number
    assert box.has_control_connection()


def test_input_output_and_what_is_not_found(box: Sprite) -> None:
    data = bytes(range(256)) * 20_000
    assert box.command("cat", stdin=io.BytesIO(data)).output() == data
    assert box.run("no-such-command", capture_output=True).returncode == 127
    assert box.run("bash", "-c", "echo $A; pwd", capture_output=True, env={"A": "1"}, cwd="/tmp").stdout == b"1\n/tmp\n"


def test_a_terminal(box: Sprite) -> None:
    done = box.run("sh", "-c", "test -t 1 && stty size; exit 6", capture_output=True, tty=True, tty_rows=31, tty_cols=77)
    assert (done.stdout, done.returncode) == (b"31 77\r\n", 6)
    assert box.run("echo", "x", capture_output=True).stdout == b"x\n"


def test_a_timeout_does_not_spoil_the_next_command(box: Sprite) -> None:
    """The SDK gives its connection back without telling the server that it gave up.

    The abandoned command is quiet until the next one has begun: what is already on its way cannot be taken back.
    """
    for number in range(3):
        with pytest.raises(TimeoutError):
            box.run("sh", "-c", "sleep 1.5; while :; do echo noise; sleep 0.01; done", timeout=0.3)
        assert box.run("sh", "-c", f"sleep 2; echo {number}", capture_output=True).stdout == f"{number}\n".encode()


def with_sprite(server: tuple[str, str], name: str, scenario: Callable[[AsyncSprite], Awaitable[None]]) -> None:
    async def run() -> None:
        async with AsyncSpritesClient(server[1], base_url=server[0], control_mode=True) as client:
            sprite = await client.create_sprite(name)
            try:
                await scenario(sprite)
                assert sprite.use_control_mode(), "the SDK fell back to the other way"
            finally:
                await client.delete_sprite(name)

    asyncio.run(run())


def test_many_commands_at_once_asynchronously(server: tuple[str, str], name: str) -> None:
    """Commands last longer than connecting all of them takes.

    The SDK's pool takes a connection for free when the result has come, and frees it again a moment later, when it may
    have been given to another command, which then never ends. So none may begin while another ends.
    """

    async def scenario(box: AsyncSprite) -> None:
        for _ in range(2):
            results = await asyncio.gather(
                *(box.run("sh", "-c", f"sleep 2; echo {n}; exit {n}", capture_output=True) for n in range(20))
            )
            for number, done in enumerate(results):
                assert (done.stdout, done.returncode) == (f"{number}\n".encode(), number)

    with_sprite(server, name, scenario)


def test_timeouts_asynchronously(server: tuple[str, str], name: str) -> None:
    async def scenario(box: AsyncSprite) -> None:
        for number in range(5):
            with pytest.raises(TimeoutError):
                await box.run("sleep", "30", timeout=0.3)
            done = await box.run("echo", str(number), capture_output=True)
            assert done.stdout == b"%d\n" % number

    with_sprite(server, name, scenario)
