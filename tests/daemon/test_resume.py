# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""A client whose connection was lost goes on where it stopped: no byte missing, none twice, the right exit code."""

import asyncio
from typing import Any
from urllib.parse import urlencode

import pytest
from websockets.exceptions import InvalidStatus

from support.api import Api
from support.daemon import Daemon
from support.exec import Result, Session, open_exec
from support.wait import eventually

NUMBERS = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo out $i; echo err $i >&2; sleep 0.03; done; exit 7"


def resumed(api: Api, sprite: str, session: str, *, old_form: bool = False, **point: Any) -> Session:
    path = f"/v1/sprites/{sprite}/exec"
    if old_form:
        return Session(api, f"{path}?{urlencode({'id': session, **point})}")
    return Session(api, f"{path}/{session}?{urlencode(point)}")


def point_of(first: Session) -> dict[str, Any]:
    """Where whoever has read so much goes on."""
    return {
        "instance": first.info["instance"],
        "stdout_offset": first.info["stdout_offset"] + len(first.result.stdout),
        "stderr_offset": first.info["stderr_offset"] + len(first.result.stderr),
    }


async def read_some(session: Session, wanted: bytes = b"out 10\n") -> None:
    await session.read_until(wanted)
    session.drop()


def status_of(api: Api, sprite: str, session: str, **point: Any) -> int:
    async def scenario() -> int:
        try:
            async with resumed(api, sprite, session, **point):
                return 101
        except InvalidStatus as refused:
            assert b"message" in (refused.response.body or b"")
            return refused.response.status_code

    return asyncio.run(scenario())


def check(first: Session, rest: Result) -> None:
    assert (first.result.stdout + rest.stdout).decode().split("\n") == [f"out {i}" for i in range(1, 61)] + [""]
    assert (first.result.stderr + rest.stderr).decode().split("\n") == [f"err {i}" for i in range(1, 61)] + [""]
    assert rest.code == 7


@pytest.mark.parametrize("old_form", [False, True])
def test_a_cut_connection_goes_on_where_it_stopped(api: Api, sprite: str, old_form: bool) -> None:
    async def scenario() -> None:
        async with open_exec(api, sprite, "sh", "-c", NUMBERS) as first:
            await read_some(first)
        async with resumed(api, sprite, first.id, old_form=old_form, **point_of(first)) as second:
            assert second.info["instance"] == first.info["instance"]
            assert second.info["stdout_offset"] == len(first.result.stdout)
            assert second.info["stderr_offset"] == len(first.result.stderr)
            check(first, await second.finish(20))

    asyncio.run(scenario())


def test_a_killed_daemon_goes_on_where_it_stopped(daemon: Daemon, api: Api, sprite: str) -> None:
    async def scenario() -> None:
        async with open_exec(api, sprite, "sh", "-c", NUMBERS) as first:
            await first.read_until(b"out 10\n")
            await asyncio.to_thread(daemon.kill)
            first.drop()
        await asyncio.to_thread(daemon.start)
        async with resumed(api, sprite, first.id, **point_of(first)) as second:
            check(first, await second.finish(20))

    asyncio.run(scenario())


def test_a_command_that_ended_meanwhile_gives_the_rest_and_its_code(daemon: Daemon, api: Api, sprite: str) -> None:
    async def scenario(is_killed: bool) -> None:
        async with open_exec(api, sprite, "sh", "-c", NUMBERS) as first:
            await first.read_until(b"out 10\n")
            if is_killed:
                await asyncio.to_thread(daemon.kill)
            first.drop()
        await asyncio.sleep(3)
        if is_killed:
            await asyncio.to_thread(daemon.start)
        async with resumed(api, sprite, first.id, **point_of(first)) as second:
            check(first, await second.finish(20))

    asyncio.run(scenario(False))
    asyncio.run(scenario(True))


def test_an_exit_code_that_did_not_arrive_is_told_again(api: Api, sprite: str) -> None:
    async def scenario() -> str:
        async with open_exec(api, sprite, "sh", "-c", "echo all; exit 7") as first:
            await asyncio.sleep(1)  # All of it was sent, and lies in the socket.
            first.drop()
        point = {"instance": first.info["instance"], "stdout_offset": 1}
        async with resumed(api, sprite, first.id, **point) as again:
            await asyncio.sleep(0.3)
            again.drop()
        async with resumed(api, sprite, first.id, **point) as last:
            assert (await last.finish(10)).stdout == b"ll\n"
            assert last.result.code == 7

        return first.id

    # Whoever has read all of it and closed was the last.
    session = asyncio.run(scenario())
    eventually(lambda: status_of(api, sprite, session, stdout_offset=1) == 404, "the session is gone", 5)


def test_fast_output_waits_for_a_lost_client(api: Api, sprite: str) -> None:
    async def scenario() -> None:
        async with open_exec(api, sprite, "sh", "-c", "echo go; sleep 0.5; head -c 30000000 /dev/zero; exit 3") as first:
            await first.read_until(b"go\n")
            first.drop()
        await asyncio.sleep(1.5)
        async with resumed(api, sprite, first.id, **point_of(first)) as second:
            rest = await second.finish(30)
        assert len(first.result.stdout + rest.stdout) == 30000003 and rest.code == 3

    asyncio.run(scenario())


def test_what_is_not_kept_is_status_of(api: Api, sprite: str) -> None:
    async def start() -> Session:
        script = "head -c 20000000 /dev/zero; echo end; sleep 100"
        async with open_exec(api, sprite, "sh", "-c", script, detachable="true") as first:
            await asyncio.wait_for(first.read_until(b"end\n"), 30)
        return first

    first = asyncio.run(start())

    def given_up() -> bool:
        async def begins() -> int:
            async with resumed(api, sprite, first.id, stderr_offset=0) as second:
                return int(second.info["stdout_offset"])

        return asyncio.run(begins()) > 0

    # The journal reads it first.
    eventually(given_up, "the beginning is no longer kept", 20)
    assert status_of(api, sprite, first.id, stdout_offset=0) == 410
    assert status_of(api, sprite, first.id, stdout_offset=20000005) == 410
    assert status_of(api, sprite, first.id, instance="1.1", stdout_offset=20000004) == 410
    for value in ("-1", "x", "1e3", "99999999999999999999", "+1"):
        assert status_of(api, sprite, first.id, stdout_offset=value) == 400
        assert status_of(api, sprite, first.id, stderr_offset=value) == 400
    assert status_of(api, sprite, "999999", stdout_offset=0) == 404
    api.kill(sprite, first.id, "KILL")
