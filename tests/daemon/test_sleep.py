# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""How sprites are put to sleep: asked first, and for memory when it is short; and why is shown."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from support.api import Api
from support.cli import Cli
from support.daemon import Daemon
from support.exec import open_exec, shell
from support.fixtures import fresh_name
from support.logs import events
from support.wait import eventually

QUICK = {"freeze_after_seconds": 1, "stop_after_seconds": 2}


def status(api: Api, name: str) -> tuple[str, str]:
    found = api.get(name)
    return found["status"], found["status_reason"]


def test_processes_are_asked_to_end_before_a_sprite_is_stopped(api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite(config=QUICK)
    # One that takes its time, one in a group of its own, and a shell that a terminal would have.
    script = """
        trap 'sleep 0.7; echo asked > ~/slow; exit' TERM
        setsid sh -c "trap 'echo asked > ~/apart; exit' TERM; while :; do sleep 0.1; done" &
        setsid sh -c "trap '' TERM; trap 'echo hung up > ~/shell; exit' HUP; while :; do sleep 0.1; done" &
        touch ~/ready
        while :; do sleep 0.1; done
    """
    shell(api, name, f"setsid sh -c {quoted(script)} > /dev/null 2>&1 < /dev/null & while ! test -e ~/ready; do sleep 0.1; done")
    eventually(lambda: status(api, name) == ("cold", "unused"), "the sprite is stopped", 20)
    # Woken while its processes may still be ending, it waits for that.
    assert shell(api, name, "cat ~/slow ~/apart ~/shell; pgrep -c -f '[w]hile :' || true") == "asked\nasked\nhung up\n0\n"


def quoted(text: str) -> str:
    escaped = text.replace("'", "'\\''")
    return f"'{escaped}'"


def test_processes_that_do_not_end_are_killed(api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite(config=QUICK)
    shell(api, name, "setsid sh -c \"trap '' TERM HUP; while :; do sleep 0.1; done\" > /dev/null 2>&1 < /dev/null &")
    eventually(lambda: api.get(name)["status"] == "cold", "the sprite counts as stopped", 20)
    start = time.monotonic()
    assert shell(api, name, "pgrep -c -f '[w]hile :' || true") == "0\n"
    assert time.monotonic() - start < 15


def test_the_reason_is_shown(daemon: Daemon, api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite(config={"freeze_after_seconds": 1, "stop_after_seconds": 0})
    assert status(api, name) == ("running", "used lately")
    eventually(lambda: status(api, name) == ("warm", "unused"), "the sprite is frozen", 10)

    async def hold() -> None:
        async with open_exec(api, name, "sleep", "30"):
            for _ in range(100):
                if await asyncio.to_thread(status, api, name) == ("running", "in use"):
                    return
                await asyncio.sleep(0.1)
            raise AssertionError(status(api, name))

    asyncio.run(hold())
    counts = api.page()["org"]
    assert sum(counts[key] for key in ("running", "warm", "cold")) == len(api.all_sprites())


def test_frozen_sprites_make_room_when_memory_is_short(new_daemon: Callable[..., Daemon]) -> None:
    # More than any machine has: short it is for ever.
    daemon = new_daemon("--memory-reserve", "1000T")
    api = daemon.api()
    awake, older, newer, kept = (fresh_name(word) for word in ("awake", "older", "newer", "kept"))
    api.create(awake, config={"freeze_after_seconds": 0})
    api.create(kept, config={"freeze_after_seconds": 1, "stop_after_seconds": 0})
    api.create(older, config={"freeze_after_seconds": 1})
    api.create(newer, config={"freeze_after_seconds": 1})
    shell(api, newer, "true")
    for name in (older, newer):
        eventually(lambda name=name: status(api, name) == ("cold", "memory was short"), f"{name} is stopped", 20)
    eventually(lambda: status(api, kept) == ("warm", "unused"), "one that must not be stopped is only frozen")
    assert api.get(awake)["status"] == "running"
    stopped = [line for line in daemon.log.read_text().splitlines() if "memory was short" in line]
    # On a slow machine the newer one may have been stopped before it was used, and once more after.
    assert list(dict.fromkeys(name for line in stopped for name in (older, newer) if name in line)) == [older, newer]
    assert shell(api, older, "echo awake again") == "awake again\n"


def test_stop_restart_and_check(daemon: Daemon, api: Api, sprite: str, tmp_path: Path) -> None:
    cli = Cli(daemon, tmp_path)
    check = api.call("GET", f"/v1/sprites/{sprite}/check").json()
    assert (check["sprite_name"], check["sprite_id"], check["status"]) == (sprite, api.get(sprite)["id"], "running")
    shell(api, sprite, "echo kept > file; (trap 'echo asked > ended; exit' TERM; while :; do sleep 0.1; done) >/dev/null 2>&1 &")
    api.call("PUT", f"/v1/sprites/{sprite}/services/tick?duration=0s", json={"cmd": "sleep", "args": ["1000"]})
    assert b"stopped" in cli("stop", sprite).stderr
    # Looking does not wake it.
    check = api.call("GET", f"/v1/sprites/{sprite}/check").json()
    assert (check["status"], check["reason"]) == ("cold", "stopped on request")
    assert api.call("POST", f"/v1/sprites/{sprite}/stop").json()["status"] == "cold"
    assert shell(api, sprite, "cat file ended") == "kept\nasked\n"
    shell(api, sprite, "touch /tmp/gone")
    assert b"restarted" in cli("restart", "-s", sprite).stderr
    assert shell(api, sprite, "ls -A /tmp; cat file") == "kept\n"
    answer = api.call("POST", f"/v1/sprites/{sprite}/restart").json()
    assert answer["sprite_name"] == sprite and answer["machine_id"] == check["sprite_id"]
    assert api.get(sprite)["status"] == "running"
    eventually(lambda: api.call("GET", f"/v1/sprites/{sprite}/services/tick").json()["state"]["status"] == "running", "it runs")
    eventually(lambda: len(events(api, sprite, event="sprite.stopped")) == 3, "every stop is on record")
