# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What only Python has: the asyncio client, and types that check."""

import os
import subprocess
import sys
import textwrap
import time

import pytest
from sdk import languages

ASYNC = """
import asyncio, time
from sprite_env import AsyncClient, CommandTimeout, NotFound, Options

async def main():
    async with AsyncClient(options=Options(connections_max=100)) as sprites:
        sprite = await sprites.create("NAME")
        try:
            results = await asyncio.gather(*(sprite.command(["echo", str(n)]).run() for n in range(300)))
            assert [int(result.stdout) for result in results] == list(range(300))

            async with await sprite.command("cat; echo bye >&2").start() as process:
                await process.stdin.write(b"one\\ntwo")
                await process.stdin.close()
                assert [line async for line in process.stdout] == [b"one\\n", b"two"]
                assert await process.stderr.read() == b"bye\\n"
                assert await process.wait() == 0

            # A cancelled task ends its command.
            task = asyncio.create_task(sprite.command(["sleep", "77"]).run())
            while not [s for s in await sprite.sessions() if "77" in s.command]:
                await asyncio.sleep(0.02)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
            started = time.monotonic()
            while await sprite.sessions():
                await asyncio.sleep(0.02)
            assert time.monotonic() - started < 3, "the command went on"

            # So does a limit from outside.
            try:
                await asyncio.wait_for(sprite.command("sleep 88").run(), 0.3)
                raise AssertionError("it was not ended")
            except asyncio.TimeoutError:
                pass
            assert (await sprite.command("echo whole").run()).stdout == b"whole\\n"
            assert [one.name async for one in sprites.list(prefix="NAME")] == ["NAME"]
        finally:
            await sprite.destroy()
        try:
            await sprite.refresh()
            raise AssertionError("it is still there")
        except NotFound:
            pass
    print("all is well")

asyncio.run(main())
"""


@pytest.mark.skipif("python" not in languages.chosen(), reason="SPRITE_SDKS leaves Python out")
@pytest.mark.parametrize("language", ["python"], scope="session")
def test_asyncio(installed: languages.Installed, server: dict[str, str]) -> None:
    program = ASYNC.replace("NAME", f"async-{os.getpid()}-{int(time.time())}")
    done = subprocess.run(
        [installed.driver[0], "-c", program], env={**os.environ, **server}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout == "all is well\n", done.stdout + done.stderr


@pytest.mark.skipif("python" not in languages.chosen(), reason="SPRITE_SDKS leaves Python out")
@pytest.mark.parametrize("language", ["python"], scope="session")
def test_interrupting_a_waiting_program_ends_its_command(
    installed: languages.Installed, server: dict[str, str]
) -> None:
    program = textwrap.dedent("""
        import os, signal, threading, time
        from sprite_env import Client
        with Client() as sprites:
            sprite = sprites.create("NAME")
            try:
                threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
                try:
                    sprite.command("sleep 66").run()
                except KeyboardInterrupt:
                    limit = time.monotonic() + 3
                    while sprite.sessions() and time.monotonic() < limit:
                        time.sleep(0.05)
                    print(len(sprite.sessions()))
            finally:
                sprite.destroy()
    """).replace("NAME", f"interrupt-{os.getpid()}-{int(time.time())}")
    done = subprocess.run(
        [installed.driver[0], "-c", program], env={**os.environ, **server}, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "0\n", done.stdout + done.stderr


def test_types_check() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy"], cwd=languages.SDKS / "python", capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout
