# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Commands on a terminal."""

import asyncio

from support.api import Api
from support.exec import Result, Session, attach, open_exec, run
from support.wait import eventually


def on_terminal(api: Api, sprite: str, *arguments: str, **options: object) -> Session:
    return open_exec(api, sprite, *arguments, tty=True, stdin=True, **options)  # type: ignore[arg-type]


def test_a_terminal_has_a_size_colours_and_echo(api: Api, sprite: str) -> None:
    async def scenario() -> Result:
        script = "test -t 0 && test -t 1 && test -t 2 && stty size && echo $TERM && tty && read x && echo <$x>"
        async with on_terminal(api, sprite, "sh", "-c", script.replace("<$x>", '"<$x>"'), rows=40, cols=120) as session:
            assert (session.info["tty"], session.info["rows"], session.info["cols"]) == (True, 40, 120)
            await session.read_until(b"/dev/pts/")
            await session.send(b"word\n")
            return await session.finish(10)

    result = asyncio.run(scenario())
    assert result.stdout.startswith(b"40 120\r\nxterm-256color\r\n/dev/pts/")
    assert result.stdout.endswith(b"word\r\n<word>\r\n")
    assert result.code == 0


def test_the_default_size_is_80_by_24(api: Api, sprite: str) -> None:
    async def scenario() -> Result:
        async with on_terminal(api, sprite, "stty", "size") as session:
            return await session.finish(10)

    assert asyncio.run(scenario()).stdout == b"24 80\r\n"


def test_a_resize_arrives_with_its_signal(api: Api, sprite: str) -> None:
    async def scenario() -> Result:
        script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done"
        async with on_terminal(api, sprite, "sh", "-c", script) as session:
            await session.read_until(b"ready")
            await session.control(type="resize", cols=101, rows=37)
            return await session.finish(10)

    assert b"37 101" in asyncio.run(scenario()).stdout


def test_control_c_interrupts_the_foreground_only(api: Api, sprite: str) -> None:
    async def scenario() -> Result:
        async with on_terminal(api, sprite, "bash", "--norc", "-i") as session:
            await session.send(b"sleep 100\n")
            await session.read_until(b"sleep 100\r\n")
            await asyncio.sleep(0.3)
            await session.send(b"\x03")
            await session.send(b"echo code=$?\n")
            await session.read_until(b"code=130")
            await session.send(b"exit 4\n")
            return await session.finish(10)

    assert asyncio.run(scenario()).code == 4


def test_a_signal_message_goes_to_the_foreground_group(api: Api, sprite: str) -> None:
    async def scenario() -> Result:
        async with on_terminal(api, sprite, "bash", "--norc", "-i") as session:
            await session.send(b"sh -c 'echo in-$((20+3)); exec sleep 100'\n")
            await session.read_until(b"in-23")
            await session.control(type="signal", signal="INT")
            await session.send(b"echo code=$?\n")
            await session.read_until(b"code=130")
            await session.send(b"exit\n")
            return await session.finish(10)

    asyncio.run(scenario())


def test_job_control_works(api: Api, sprite: str) -> None:
    async def scenario() -> Result:
        async with on_terminal(api, sprite, "bash", "--norc", "-i") as session:
            await session.send(b"sleep 100\n")
            await session.read_until(b"sleep 100\r\n")
            await asyncio.sleep(0.3)
            await session.send(b"\x1a")
            await session.read_until(b"Stopped")
            await session.send(b"kill %1; fg; exit 6\n")
            return await session.finish(10)

    result = asyncio.run(scenario())
    assert result.code == 6
    assert b"no job control" not in result.stdout


def test_success_closes_with_1000_and_failure_with_another_code(api: Api, sprite: str) -> None:
    async def close_code(command: str) -> tuple[int | None, int | None]:
        async with on_terminal(api, sprite, "sh", "-c", command) as session:
            result = await session.finish(10)
            await session.step()
            return result.code, session.result.close_code

    assert asyncio.run(close_code("exit 0")) == (0, 1000)
    code, closed = asyncio.run(close_code("exit 3"))
    assert code == 3 and closed not in (None, 1000)


def test_a_terminal_session_survives_its_client(api: Api, sprite: str) -> None:
    async def scenario() -> Result:
        async with on_terminal(api, sprite, "bash", "--norc", "-i") as first:
            identifier = first.id
            await first.send(b"x=kept-$((40+2)); echo $x\n")
            await first.read_until(b"kept-42")
            first.drop()
        eventually(lambda: identifier in [one["id"] for one in api.sessions(sprite)], "the session is listed")
        async with attach(api, sprite, identifier) as second:
            assert second.is_terminal
            await second.read_until(b"kept-42")
            await second.send(b"echo again-$x; exit 0\n")
            await second.read_until(b"again-kept-42")
            return await second.finish(10)

    assert asyncio.run(scenario()).code == 0


def test_two_clients_see_the_same_terminal(api: Api, sprite: str) -> None:
    async def scenario() -> None:
        async with on_terminal(api, sprite, "bash", "--norc", "-i") as first:
            async with attach(api, sprite, first.id) as second:
                await first.send(b"echo one-$((1+1))\n")
                await second.read_until(b"one-2")
                await second.send(b"echo two-$((2+2))\n")
                await first.read_until(b"two-4")
                await first.send(b"exit 8\n")
                assert (await second.finish(10)).code == 8
                assert (await first.finish(10)).code == 8

    asyncio.run(scenario())


def test_the_newest_clients_size_applies(api: Api, sprite: str) -> None:
    async def scenario() -> None:
        async with on_terminal(api, sprite, "bash", "--norc", "-i", rows=20, cols=70) as first:

            async def becomes(size: str, word: int) -> None:
                wait = f'until [ "$(stty size)" = "{size}" ]; do sleep 0.05; done; echo got-$(({word}+0))\n'
                await first.send(wait.encode())
                await first.read_until(f"got-{word}\r\n".encode())

            await becomes("20 70", 1)
            async with attach(api, sprite, first.id) as second:
                # One that has said nothing of a size, such as a reader of the output, changes nothing.
                await first.control(type="resize", rows=21, cols=71)
                await becomes("21 71", 2)
                await second.control(type="resize", rows=30, cols=100)
                await becomes("30 100", 3)
                await first.control(type="resize", rows=22, cols=72)
                await second.control(type="resize", rows=31, cols=101)
                await becomes("31 101", 4)
            # The one before has its way again, with what it asked for last.
            await becomes("22 72", 5)
            await first.send(b"exit\n")
            await first.finish(10)

    asyncio.run(scenario())


def test_a_command_that_cannot_start_says_so_on_the_terminal(api: Api, sprite: str) -> None:
    async def scenario() -> Result:
        async with on_terminal(api, sprite, "no-such-command") as session:
            return await session.finish(10)

    result = asyncio.run(scenario())
    assert result.code == 127
    assert b"no-such-command" in result.stdout


def test_the_helpers_that_clients_expect(api: Api, sprite: str) -> None:
    async def scenario() -> None:
        async with on_terminal(api, sprite, "sprite-console") as session:
            await session.send(b"shopt -q login_shell && echo login-$((1+1))\n")
            await session.read_until(b"login-2\r\n")
            await session.send(b"sprite-browser http://localhost:3000/x 3000 4000; exit\n")
            await session.read_until(b"\x1b]9999;browser-open;http://localhost:3000/x;3000,4000\x1b\\")
            await session.finish(10)

    asyncio.run(scenario())
    assert run(api, sprite, "sprite-browser").code == 2
    assert b"open http://x yourself" in run(api, sprite, "sprite-browser", "http://x").stderr
