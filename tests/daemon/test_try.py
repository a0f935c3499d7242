# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Commands that can be undone, races of forks, and the search for what broke."""

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from support.api import Api, ApiError, Json, StreamError
from support.daemon import Daemon
from support.exec import shell
from support.host import subvolumes
from support.wait import eventually


def lines(api: Api, sprite: str, operation: str, **body: Any) -> tuple[list[Json], Json]:
    answer = api.call("POST", f"/v1/sprites/{sprite}/{operation}", json=body)
    found = [json.loads(line) for line in answer.text.splitlines()]
    if found[-1]["type"] == "error":
        raise StreamError(found[-1]["error"])
    assert found[-1]["type"] == "complete", found[-1]
    return found[:-1], found[-1]


def printed(events: list[Json], stream: str = "stdout") -> str:
    return "".join(event["data"] for event in events if event["type"] == stream)


def changed(events: list[Json]) -> list[tuple[str, str]]:
    return [(event["change"]["change"], event["change"]["path"]) for event in events if event["type"] == "change"]


def names(api: Api) -> set[str]:
    return {one["name"] for one in api.all_sprites()}


# A try


def test_what_succeeds_is_kept_and_can_still_be_undone(api: Api, sprite: str) -> None:
    events, end = lines(api, sprite, "try", command="echo said; echo complained >&2; echo x > file", check=["test", "-s", "file"])
    assert (printed(events), printed(events, "stderr")) == ("said\n", "complained\n")
    assert changed(events) == [("added", "/home/sprite/file")]
    assert (end["outcome"], end["exit_code"], end["check_exit_code"]) == ("kept", 0, 0)
    assert shell(api, sprite, "cat file") == "x\n"
    api.restore(sprite, end["checkpoint_id"])
    assert shell(api, sprite, "ls") == ""


def test_what_fails_is_rolled_back_and_told(api: Api, sprite: str) -> None:
    shell(api, sprite, "echo good > file")
    events, end = lines(api, sprite, "try", command="sudo rm -rf /usr/share /etc/issue; echo bad > file; exit 7")
    assert (end["outcome"], end["exit_code"]) == ("rolled_back", 7)
    assert ("removed", "/etc/issue") in changed(events) and ("changed", "/home/sprite/file") in changed(events)
    assert len(changed(events)) == 1000 < end["stat"]["removed"]
    assert shell(api, sprite, "cat file; ls -d /usr/share /etc/issue") == "good\n/etc/issue\n/usr/share\n"
    api.undo(sprite)
    assert shell(api, sprite, "cat file") == "bad\n"


def test_a_check_that_fails_rolls_back_too(api: Api, sprite: str) -> None:
    _, end = lines(api, sprite, "try", command=["touch", "file"], check="false")
    assert (end["outcome"], end["exit_code"], end["check_exit_code"]) == ("rolled_back", 0, 1)
    assert shell(api, sprite, "ls") == ""


def test_a_dry_run_shows_everything_and_touches_nothing(api: Api, sprite: str) -> None:
    before = names(api)
    events, end = lines(api, sprite, "try", command="hostname; sudo rm -rf /etc/apt; echo x > file", dry_run=True)
    assert printed(events) == f"{sprite}\n"
    assert ("removed", "/etc/apt") in changed(events) and ("added", "/home/sprite/file") in changed(events)
    assert all(path.startswith(("/etc/apt", "/home/sprite/file")) for _, path in changed(events))
    assert (end["outcome"], end["exit_code"]) == ("dropped", 0)
    assert shell(api, sprite, "ls; ls -d /etc/apt") == "/etc/apt\n"
    assert names(api) == before
    assert api.checkpoints(sprite, automatic=True)[0]["id"] == "v0"


def test_a_command_that_takes_too_long_is_killed_and_rolled_back(api: Api, sprite: str) -> None:
    with pytest.raises(StreamError, match="did not end within"):
        lines(api, sprite, "try", command="touch file; sleep 60", timeout_seconds=0.5)
    assert shell(api, sprite, "ls; pgrep sleep || :") == ""


def test_a_client_that_goes_gets_its_state_back(api: Api, sprite: str) -> None:
    with httpx.stream(
        "POST", f"{api.url}/v1/sprites/{sprite}/try", json={"command": "touch file; echo ready; sleep 60"},
        headers={"Authorization": f"Bearer {api.token}"}, timeout=30, trust_env=False,
    ) as answer:  # fmt: skip
        for line in answer.iter_lines():
            if "ready" in line:
                break
        with pytest.raises((ApiError, StreamError)):
            lines(api, sprite, "try", command="true")
    eventually(lambda: shell(api, sprite, "ls") == "", "the state is rolled back", 20)
    assert lines(api, sprite, "try", command="true")[1]["outcome"] == "kept"


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("try", {}), ("try", {"command": []}), ("try", {"command": [""]}), ("try", {"command": "a\0b"}), ("try", {"command": 3}),
        ("try", {"command": "x", "timeout_seconds": 0}), ("race", {"command": "x", "count": 0}), ("race", {"command": "x", "count": 17}),
        ("bisect", {"command": "x"}), ("bisect", {"command": "x", "good": "v0", "bad": "v0"}),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused(api: Api, sprite: str, operation: str, body: Json) -> None:
    with pytest.raises(ApiError) as refused:
        lines(api, sprite, operation, **body)
    assert refused.value.status == 400, refused.value


# A race


def test_a_race_ranks_and_the_best_can_take_the_place(api: Api, sprite: str) -> None:
    shell(api, sprite, "echo origin > file")
    before = names(api)
    command = "echo $SPRITE_RACE_INDEX > won; [ $SPRITE_RACE_INDEX != 4 ]"
    events, end = lines(api, sprite, "race", command=command, count=4, score="expr 10 - $(cat won)")
    racers = {event["racer"]["index"]: event["racer"] for event in events if event["type"] == "racer"}
    assert end["ranking"] == [1, 2, 3, 4] and racers[1]["score"] == 9
    assert "ended with 1" in racers[4]["problem"] and racers[2]["stat"]["added"] == 1
    assert shell(api, sprite, "ls") == "file\n" and names(api) == before
    _, end = lines(api, sprite, "race", command=command, count=3, score="cat won", lowest=False, promote=True)
    assert end["ranking"] == [3, 2, 1]
    assert shell(api, sprite, "cat file won; hostname") == f"origin\n3\n{sprite}\n"
    api.undo(sprite)
    assert shell(api, sprite, "ls") == "file\n"
    assert names(api) == before


def test_a_race_without_a_winner_promotes_nothing(api: Api, sprite: str) -> None:
    with pytest.raises(StreamError, match="none of the 2 commands succeeded"):
        lines(api, sprite, "race", command="touch x; false", promote=True)
    assert shell(api, sprite, "ls") == "" and names(api) & {sprite} == {sprite}


# A bisection


def test_a_bisection_finds_what_broke_it(api: Api, sprite: str) -> None:
    for number in range(1, 9):
        shell(api, sprite, f"echo {number} > n")
        api.checkpoint(sprite)
    before = names(api)
    events, end = lines(api, sprite, "bisect", command="[ $(cat n) -lt 6 ]", good="v1", bad="v8")
    assert (end["first_bad"], end["last_good"]) == (["v6"], "v5")
    assert len([event for event in events if event["type"] == "tested"]) <= 3
    # 125: cannot be told; then it is one of several.
    events, end = lines(api, sprite, "bisect", command="[ $(cat n) != 5 ] || exit 125; [ $(cat n) -lt 5 ]", good="v1", bad="v8")
    assert (end["first_bad"], end["last_good"]) == (["v5", "v6"], "v4")
    with pytest.raises(StreamError, match="ended with 200"):
        lines(api, sprite, "bisect", command="exit 200", good="v1", bad="v8")
    assert names(api) == before


# Forks that must not stay


def test_throw_away_forks_do_not_outlive_a_killed_daemon(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    api.create("one")
    body = {"command": "sleep 60", "count": 3}
    thread = threading.Thread(target=lambda: _ignoring(lambda: daemon.api().call("POST", "/v1/sprites/one/race", json=body)))
    thread.start()
    eventually(lambda: len(names(api)) == 4, "the forks run", 30)
    daemon.kill()
    thread.join()
    daemon.start()
    api = daemon.api()
    assert names(api) == {"one"}
    identifier = api.get("one")["id"].removeprefix("sprite-")
    left = [path for path in subvolumes(daemon.pid, daemon.data_directory / "pool") if "sprites/" in path and identifier not in path]
    assert left == []


def _ignoring(body: Callable[[], object]) -> None:
    try:
        body()
    except Exception:  # The daemon is killed under it.
        pass
