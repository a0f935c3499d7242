# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Checkpoints that nobody asks for, and pins."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.api import Api, ApiError, Json
from support.daemon import Daemon
from support.exec import shell
from support.fixtures import fresh_name
from support.roots import tiny_root
from support.wait import eventually


def by_policy(api: Api, sprite: str) -> list[Json]:
    return [entry for entry in api.checkpoints(sprite, automatic=True) if entry["reason"] == "policy"]


def set_policy(api: Api, sprite: str, **policy: object) -> None:
    api.call("POST", f"/v1/sprites/{sprite}/policy/checkpoints", 204, json=policy)


def test_before_each_command_and_only_when_something_changed(api: Api, sprite: str) -> None:
    assert api.call("GET", f"/v1/sprites/{sprite}/policy/checkpoints").json() == {"before_exec": False, "every_minutes": 0}
    shell(api, sprite, "echo zero > file")
    assert by_policy(api, sprite) == []
    set_policy(api, sprite, before_exec=True)
    shell(api, sprite, "echo one > file")
    shell(api, sprite, "true")
    # The second was made before `true`, since the first changed the file; `true` changed nothing.
    made = len(by_policy(api, sprite))
    assert made == 2
    for _ in range(3):
        shell(api, sprite, "true")
    assert len(by_policy(api, sprite)) == made
    first = by_policy(api, sprite)[-1]
    assert first["comment"] == "before: sh -c echo one > file"
    # Never counted, and nothing descends from it.
    assert api.checkpoint(sprite) == "v1"
    assert api.call("GET", f"/v1/sprites/{sprite}/checkpoints/v1").json()["history"] == ["v0"]
    set_policy(api, sprite, before_exec=False)
    api.restore(sprite, first["id"])
    assert shell(api, sprite, "cat file") == "zero\n"


def test_every_so_often_while_it_is_used(api: Api, sprite: str) -> None:
    set_policy(api, sprite, every_minutes=0.05)
    shell(api, sprite, "echo one > file")
    eventually(lambda: len(by_policy(api, sprite)) == 1, "a checkpoint is made", 20)
    assert by_policy(api, sprite)[0]["comment"] == "every 3 seconds; last: sh -c echo one > file"


def test_pinned_ones_stay(api: Api, sprite: str) -> None:
    api.checkpoint(sprite)
    api.checkpoint(sprite)
    pinned = api.call("POST", f"/v1/sprites/{sprite}/checkpoints/v1/pin").json()
    assert (pinned["id"], pinned["pinned"]) == ("v1", True)
    with pytest.raises(ApiError) as refused:
        api.call("DELETE", f"/v1/sprites/{sprite}/checkpoints/v1", 204)
    assert (refused.value.status, "pinned" in refused.value.message) == (409, True)
    shell(api, sprite, "echo x > file")
    api.restore(sprite, "v1")
    kept = next(entry["id"] for entry in api.checkpoints(sprite, automatic=True) if entry["is_auto"])
    api.call("POST", f"/v1/sprites/{sprite}/checkpoints/{kept}/pin")
    for _ in range(12):
        api.restore(sprite, "v2")
    listed = api.checkpoints(sprite, automatic=True)
    assert kept in {entry["id"] for entry in listed}
    assert len([entry for entry in listed if entry["is_auto"]]) <= 12
    api.call("DELETE", f"/v1/sprites/{sprite}/checkpoints/v1/pin")
    api.call("DELETE", f"/v1/sprites/{sprite}/checkpoints/v1", 204)


def test_policy_and_pins_outlive_the_daemon(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    api.create("one")
    set_policy(api, "one", before_exec=True)
    shell(api, "one", "echo x > file")
    identifier = by_policy(api, "one")[0]["id"]
    api.call("POST", f"/v1/sprites/one/checkpoints/{identifier}/pin")
    daemon.kill()
    daemon.start()
    api = daemon.api()
    entry = next(entry for entry in api.checkpoints("one", automatic=True) if entry["id"] == identifier)
    assert entry["pinned"] and entry["reason"] == "policy"
    before = len(by_policy(api, "one"))
    shell(api, "one", "true")
    assert len(by_policy(api, "one")) == before + 1


HOUR = 3600


def test_they_are_thinned_by_age(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    api.create("one")
    set_policy(api, "one", before_exec=True)
    for number in range(14):
        shell(api, "one", f"echo {number} > file")
    made = [entry["id"] for entry in reversed(by_policy(api, "one"))]
    assert len(made) == 14
    asked = api.checkpoint("one")
    for pinned in (made[0], made[3]):
        api.call("POST", f"/v1/sprites/one/checkpoints/{pinned}/pin")
    daemon.terminate()
    now = time.time()
    day, hour = (now - 3 * 24 * HOUR) // (24 * HOUR) * 24 * HOUR, (now - 5 * HOUR) // HOUR * HOUR
    # Oldest first: two over a month, four of one day, four of one hour, the rest as young as they are.
    ages = [now - 40 * 24 * HOUR, now - 39 * 24 * HOUR, *(day + n for n in range(4)), *(hour + n for n in range(4))]
    with sqlite3.connect(daemon.data_directory / "registry.db") as registry:
        for identifier, made_at in zip(made, ages):
            registry.execute("UPDATE checkpoints SET created_at = ? WHERE id = ?", (int(made_at * 1e9), identifier))
        registry.execute("UPDATE checkpoints SET created_at = ? WHERE id = ?", (int((now - 90 * 24 * HOUR) * 1e9), asked))
    registry.close()
    daemon.start()
    api = daemon.api()
    shell(api, "one", "true")
    left = [entry["id"] for entry in reversed(by_policy(api, "one"))]
    # The pinned two, the newest of the day and of the hour, all of the last hour, and the one just made.
    assert left == [made[0], made[3], made[5], made[9], *made[10:], f"auto-{len(made) + 1}"]
    assert asked in {entry["id"] for entry in api.checkpoints("one")}
    api.restore("one", made[5])
    assert shell(api, "one", "cat file") == "4\n"


def test_they_are_thinned_when_the_pool_is_nearly_full(new_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    daemon = new_daemon(started=False, with_base=False)
    daemon.options = ["--pool-size", "256M"]
    daemon.start().import_base(tiny_root(tmp_path / "root.tar"))
    api = daemon.api()
    api.create("one")
    set_policy(api, "one", before_exec=True)
    for number in range(9):
        shell(api, "one", f"echo {number} > file")
    made = [entry["id"] for entry in reversed(by_policy(api, "one"))]
    assert len(made) == 9
    asked = api.checkpoint("one")
    api.call("POST", f"/v1/sprites/one/checkpoints/{made[1]}/pin")
    set_policy(api, "one", before_exec=False)
    shell(api, "one", "dd if=/dev/urandom of=big bs=1M 2>/dev/null || :; sync; dd if=/dev/null of=big bs=1M seek=200 2>/dev/null; sync")
    set_policy(api, "one", before_exec=True)
    for _ in range(3):
        shell(api, "one", "date > file")
    left = [entry["id"] for entry in reversed(by_policy(api, "one"))]
    assert made[1] in left and not {made[0], made[2], made[3]} & set(left) and set(made[6:]) <= set(left), left
    assert asked in {entry["id"] for entry in api.checkpoints("one")}


def test_a_fork_takes_the_policy_over_and_what_is_dropped_does_not(api: Api, sprite: str) -> None:
    policy = {"before_exec": True, "every_minutes": 30}
    set_policy(api, sprite, **policy)
    name = fresh_name()
    api.fork(sprite, name)
    try:
        assert api.call("GET", f"/v1/sprites/{name}/policy/checkpoints").json() == policy
        shell(api, name, "echo x > file")
        shell(api, name, "true")
        assert by_policy(api, name)
        # Each for itself from now on.
        set_policy(api, sprite, before_exec=False)
        assert api.call("GET", f"/v1/sprites/{name}/policy/checkpoints").json() == policy
    finally:
        api.destroy(name)


@pytest.mark.parametrize("policy", [{"every_minutes": -1}, {"every_minutes": 1e9}, {"before_exec": "yes"}, {"often": True}])
def test_a_policy_that_means_nothing_is_refused(api: Api, sprite: str, policy: Json) -> None:
    with pytest.raises(ApiError) as refused:
        set_policy(api, sprite, **policy)
    assert refused.value.status == 400
