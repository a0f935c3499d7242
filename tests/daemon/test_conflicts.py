# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What excludes what: each pair has its documented answer, and nothing is left half done."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from support.api import Api, ApiError, StreamError
from support.daemon import Daemon
from support.exec import shell
from support.fixtures import fresh_name


def outcome(call: Callable[[], object]) -> str:
    """`ok`, or the code of the refusal."""
    try:
        call()
    except ApiError as error:
        assert error.message, error
        return error.code
    except StreamError as error:
        return f"stream: {error}"
    return "ok"


def all_at_once(*calls: Callable[[], object]) -> list[str]:
    gate = threading.Barrier(len(calls))

    def start(call: Callable[[], object]) -> str:
        gate.wait()
        return outcome(call)

    with ThreadPoolExecutor(len(calls)) as pool:
        futures: list[Future[str]] = [pool.submit(start, call) for call in calls]
        return [future.result() for future in futures]


def is_refusal(text: str) -> bool:
    return text == "conflict" or (text.startswith("stream: ") and "restore" in text)


def test_of_two_restores_at_once_one_is_refused_or_they_follow_each_other(daemon: Daemon, api: Api, sprite: str) -> None:
    shell(api, sprite, "echo one > file")
    api.checkpoint(sprite)
    shell(api, sprite, "echo two > file")
    refusals = 0
    for _ in range(10):
        results = all_at_once(*(lambda: daemon.api().restore(sprite, "v1") for _ in range(4)))
        assert "ok" in results, results
        assert all(one == "ok" or is_refusal(one) for one in results), results
        refusals += sum(is_refusal(one) for one in results)
        assert shell(api, sprite, "cat file") == "one\n"
    assert refusals > 0, "no two restores met: nothing was tested"


def test_a_checkpoint_during_a_restore_is_refused_or_whole(daemon: Daemon, api: Api, sprite: str) -> None:
    shell(api, sprite, "echo one > file")
    api.checkpoint(sprite)
    for _ in range(10):
        results = all_at_once(
            lambda: daemon.api().restore(sprite, "v1"), *(lambda: daemon.api().checkpoint(sprite) for _ in range(3))
        )
        assert all(one == "ok" or is_refusal(one) for one in results), results
    for entry in api.checkpoints(sprite)[:8]:
        if entry["id"] != "v0":
            api.restore(sprite, entry["id"])
            assert shell(api, sprite, "cat file") == "one\n", entry


def test_checkpoints_at_once_are_all_different(daemon: Daemon, api: Api, sprite: str) -> None:
    made: list[str] = []
    results = all_at_once(*(lambda: made.append(daemon.api().checkpoint(sprite)) for _ in range(8)))
    assert results == ["ok"] * 8, results
    assert sorted(made, key=lambda name: int(name[1:])) == [f"v{number}" for number in range(1, 9)]


def test_of_many_creates_of_one_name_exactly_one_succeeds(daemon: Daemon, api: Api) -> None:
    name = fresh_name("race")
    results = all_at_once(*(lambda: daemon.api().create(name) for _ in range(8)))
    assert sorted(results) == ["already_exists"] * 7 + ["ok"]
    assert shell(api, name, "echo fine") == "fine\n"
    api.destroy(name)


def test_a_delete_during_everything_wins_in_the_end(daemon: Daemon, api: Api) -> None:
    for _ in range(5):
        name = fresh_name("gone")
        api.create(name)
        api.checkpoint(name)
        results = all_at_once(
            lambda name=name: daemon.api().destroy(name),  # type: ignore[misc]
            lambda name=name: daemon.api().checkpoint(name),  # type: ignore[misc]
            lambda name=name: daemon.api().restore(name, "v1"),  # type: ignore[misc]
            lambda name=name: shell(daemon.api(), name, "sleep 0.2") if False else None,  # type: ignore[misc]
        )
        assert results[0] in ("ok", "conflict"), results
        assert all(one in ("ok", "not_found", "conflict") or one.startswith("stream: ") for one in results), results
        if results[0] == "conflict":
            api.destroy(name)
        assert outcome(lambda name=name: api.get(name)) == "not_found"  # type: ignore[misc]


def test_of_two_deletes_at_once_both_end_with_the_sprite_gone(daemon: Daemon, api: Api) -> None:
    name = fresh_name("gone")
    api.create(name)
    results = all_at_once(*(lambda: daemon.api().destroy(name) for _ in range(4)))
    assert "ok" in results and set(results) <= {"ok", "not_found", "conflict"}, results
    assert outcome(lambda: api.get(name)) == "not_found"


def test_commands_that_meet_a_restore_end_or_run_but_never_hang(daemon: Daemon, api: Api, sprite: str) -> None:
    from support.exec import run_async

    api.checkpoint(sprite)

    async def scenario() -> list[object]:
        restore = asyncio.create_task(asyncio.to_thread(daemon.api().restore, sprite, "v1"))
        results = await asyncio.gather(
            *(run_async(api, sprite, "sh", "-c", "sleep 0.05; echo x", timeout=30) for _ in range(20)),
            return_exceptions=True,
        )
        await restore
        return list(results)

    for result in asyncio.run(scenario()):
        code = getattr(result, "code", "refused")
        assert code in (0, 137, 143, 129, None, "refused"), result
        assert not isinstance(result, TimeoutError), "a command hung"
        if code == 0:
            assert getattr(result, "stdout", b"") == b"x\n"
    assert shell(api, sprite, "echo fine") == "fine\n"
