# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Sessions: list, attach, kill, and what happens when a client goes away."""

import asyncio
import time

import pytest
from websockets.exceptions import InvalidStatus

from support.api import Api, ApiError
from support.exec import Result, attach, open_exec, run, shell
from support.wait import eventually


def wait_until_ended(api: Api, sprite: str, session: str, timeout: float = 10) -> None:
    eventually(lambda: session not in [one["id"] for one in api.sessions(sprite)], "the session ended", timeout)


def test_a_list_without_sessions_is_empty_not_null(api: Api, sprite: str) -> None:
    assert api.call("GET", f"/v1/sprites/{sprite}/exec").json() == {"sessions": [], "count": 0}


def test_a_running_command_is_listed_with_what_clients_look_for(api: Api, sprite: str) -> None:
    async def scenario() -> None:
        async with open_exec(api, sprite, "sleep", "30", dir="/usr") as session:
            (listed,) = api.sessions(sprite)
            assert listed["id"] == session.id
            assert listed["command"].endswith("/sleep 30")
            assert (listed["workdir"], listed["tty"]) == ("/usr", False)
            assert listed["created"].endswith("Z")
            assert isinstance(listed["bytes_per_second"], int | float)
            assert listed["is_active"] in (True, False)
            api.kill(sprite, session.id)
            assert (await session.finish(10)).code == 143

    asyncio.run(scenario())
    assert api.sessions(sprite) == []


def test_an_ended_session_is_gone(api: Api, sprite: str) -> None:
    async def ended() -> str:
        async with open_exec(api, sprite, "true") as session:
            await session.finish(10)
            return session.id

    identifier = asyncio.run(ended())
    with pytest.raises(ApiError) as gone:
        api.kill(sprite, identifier)
    assert gone.value.status in (404, 410) and gone.value.code in ("not_found", "gone")

    async def attach_to(session: str) -> None:
        async with attach(api, sprite, session):
            pass

    for session in (identifier, "999999999", "no-such-session"):
        with pytest.raises(InvalidStatus) as refused:
            asyncio.run(attach_to(session))
        assert refused.value.response.status_code in (404, 410)
        assert b"message" in (refused.value.response.body or b"")


def test_a_plain_get_of_a_session_is_not_found(api: Api, sprite: str) -> None:
    api.call("GET", f"/v1/sprites/{sprite}/exec/1", 404)


def test_both_forms_of_attach_bring_all_output_from_the_beginning(api: Api, sprite: str) -> None:
    async def scenario() -> list[Result]:
        script = "echo one; echo uno >&2; read x; echo two; echo due >&2; exit 3"
        async with open_exec(api, sprite, "sh", "-c", script, stdin=True) as first:
            await first.read_until(b"one\n")
            path = f"/v1/sprites/{sprite}/exec?id={first.id}&stdin=true&env=A%3D1&tty=true"
            from support.exec import Session

            async with attach(api, sprite, first.id) as second, Session(api, path) as third:
                assert not second.is_terminal and not third.is_terminal
                await second.send(b"\n")
                return [await one.finish(10) for one in (first, second, third)]

    for result in asyncio.run(scenario()):
        assert (result.stdout, result.stderr, result.code) == (b"one\ntwo\n", b"uno\ndue\n", 3)


@pytest.mark.parametrize("signal", ["SIGTERM", "TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2"])
def test_kill_delivers_the_signal_and_reports_the_end(api: Api, sprite: str, signal: str) -> None:
    numbers = {"HUP": 1, "INT": 2, "QUIT": 3, "KILL": 9, "USR1": 10, "USR2": 12, "TERM": 15}
    number = numbers[signal.removeprefix("SIG")]

    async def scenario() -> Result:
        async with open_exec(api, sprite, "sleep", "100") as session:
            events = await asyncio.to_thread(api.kill, sprite, session.id, signal)
            assert events[0]["type"] == "signal"
            assert events[0]["signal"] == f"SIG{signal.removeprefix('SIG')}"
            assert events[-1] == {"type": "complete", "exit_code": 128 + number}
            return await session.finish(10)

    assert asyncio.run(scenario()).code == 128 + number


def test_kill_takes_its_parameters_from_the_body_too(api: Api, sprite: str) -> None:
    async def scenario() -> None:
        async with open_exec(api, sprite, "sleep", "100") as session:
            body = {"signal": "SIGINT", "timeout": 5}
            answer = await asyncio.to_thread(
                api.call, "POST", f"/v1/sprites/{sprite}/exec/{session.id}/kill", 200, json=body
            )
            assert answer.headers["content-type"].startswith("application/x-ndjson")
            assert '"exit_code":130' in answer.text.replace(" ", "")

    asyncio.run(scenario())


def test_a_process_that_ignores_the_signal_is_killed_in_the_end(api: Api, sprite: str) -> None:
    async def scenario() -> None:
        async with open_exec(api, sprite, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done") as session:
            await session.read_until(b"ready")
            events = await asyncio.to_thread(api.kill, sprite, session.id, "TERM", "500ms")
            assert [event["type"] for event in events][-1] == "complete"
            assert "killed" in [event["type"] for event in events]
            assert events[-1]["exit_code"] == 137

    asyncio.run(scenario())


def test_kill_without_a_wait_delivers_and_returns(api: Api, sprite: str) -> None:
    async def scenario() -> Result:
        script = "trap 'echo got' USR1; echo ready; for i in 1 2 3 4 5 6 7 8; do sleep 0.1; done; exit 4"
        async with open_exec(api, sprite, "sh", "-c", script) as session:
            await session.read_until(b"ready")
            await asyncio.to_thread(api.kill, sprite, session.id, "USR1", "0s")
            return await session.finish(10)

    result = asyncio.run(scenario())
    assert b"got" in result.stdout and result.code == 4


def test_an_unknown_signal_is_refused(api: Api, sprite: str) -> None:
    async def scenario() -> None:
        async with open_exec(api, sprite, "sleep", "100") as session:
            with pytest.raises(ApiError) as refused:
                await asyncio.to_thread(api.kill, sprite, session.id, "NONSENSE")
            assert (refused.value.status, refused.value.code) == (400, "invalid_request")
            await asyncio.to_thread(api.kill, sprite, session.id)

    asyncio.run(scenario())


def test_a_dropped_connection_is_no_exit_and_ends_the_command_in_time(api: Api, sprite: str) -> None:
    async def scenario() -> tuple[str, Result]:
        options = {"max_run_after_disconnect": "1s"}
        async with open_exec(api, sprite, "sh", "-c", "echo ready; sleep 300", **options) as session:
            await session.read_until(b"ready")
            session.drop()
            return session.id, await session.finish(5)

    began = time.monotonic()
    identifier, result = asyncio.run(scenario())
    assert result.code is None
    wait_until_ended(api, sprite, identifier, 15)
    assert time.monotonic() - began > 0.9
    eventually(lambda: run(api, sprite, "pgrep", "-x", "sleep").code == 1, "the command was stopped")


def test_a_command_that_handles_the_signal_may_clean_up(api: Api, sprite: str) -> None:
    async def scenario() -> str:
        script = "trap 'echo cleaned > /home/sprite/mark; exit 0' TERM HUP; echo ready; while :; do sleep 0.1; done"
        async with open_exec(api, sprite, "sh", "-c", script, max_run_after_disconnect="500ms") as session:
            await session.read_until(b"ready")
            session.drop()
            return session.id

    wait_until_ended(api, sprite, asyncio.run(scenario()), 15)
    assert shell(api, sprite, "cat /home/sprite/mark") == "cleaned\n"


def test_within_the_time_one_can_attach_again_and_miss_nothing(api: Api, sprite: str) -> None:
    async def scenario() -> Result:
        script = "for i in $(seq 1 200); do echo line $i; sleep 0.01; done; exit 3"
        async with open_exec(api, sprite, "sh", "-c", script) as first:
            await first.read_until(b"line 20\n")
            first.drop()
            identifier = first.id
        async with attach(api, sprite, identifier) as second:
            return await second.finish(20)

    result = asyncio.run(scenario())
    assert result.text == "".join(f"line {number}\n" for number in range(1, 201))
    assert result.code == 3


def test_no_limit_lets_a_command_go_on(api: Api, sprite: str) -> None:
    async def scenario() -> None:
        script = "sleep 3; echo done > /home/sprite/mark"
        async with open_exec(api, sprite, "sh", "-c", script, max_run_after_disconnect="0") as session:
            session.drop()

    asyncio.run(scenario())
    eventually(lambda: run(api, sprite, "cat", "/home/sprite/mark").text == "done\n", "the command went on", 15)


def test_the_sprites_delete_ends_its_sessions_promptly(api: Api, sprite: str) -> None:
    async def scenario() -> Result:
        async with open_exec(api, sprite, "sleep", "300") as session:
            deleting = asyncio.create_task(asyncio.to_thread(api.destroy, sprite))
            result = await session.finish(15)
            await deleting
            return result

    assert asyncio.run(scenario()).code != 0
