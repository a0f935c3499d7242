# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Idle sprites are frozen, then stopped, and wake when they are used."""

import asyncio
from collections.abc import Callable

import pytest

from support.api import Api, ApiError
from support.exec import open_exec, shell
from support.wait import eventually


def status(api: Api, name: str) -> str:
    return api.get(name)["status"]


def test_an_unused_sprite_is_frozen_and_goes_on_where_it_was(api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite(config={"freeze_after_seconds": 1, "stop_after_seconds": 0})
    assert api.get(name)["config"]["freeze_after_seconds"] == 1
    shell(api, name, "(while sleep 0.05; do date +%s%N > beat; done) >/dev/null 2>&1 & echo $! > pid")
    eventually(lambda: status(api, name) == "warm", "it was frozen", 30)
    shell(api, name, "kill -0 $(cat pid)")
    assert status(api, name) == "running"


def test_a_sprite_unused_for_longer_is_stopped_and_starts_on_use(api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite(config={"freeze_after_seconds": 1, "stop_after_seconds": 3})
    shell(api, name, "echo kept > file; echo lost > /tmp/file")
    eventually(lambda: status(api, name) == "cold", "it was stopped", 30)
    assert shell(api, name, "cat file; cat /tmp/file || true") == "kept\n"


def test_an_attached_client_keeps_it_awake(api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite(config={"freeze_after_seconds": 1, "stop_after_seconds": 2})

    async def quiet() -> None:
        async with open_exec(api, name, "sh", "-c", "sleep 5; echo done") as session:
            result = await session.finish(30)
            assert (result.code, result.stdout) == (0, b"done\n")

    asyncio.run(quiet())


def test_a_frozen_sprite_can_be_checkpointed_restored_and_destroyed(api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite(config={"freeze_after_seconds": 1, "stop_after_seconds": 0})
    shell(api, name, "echo before > file")
    eventually(lambda: status(api, name) == "warm", "it was frozen", 30)
    version = api.checkpoint(name)
    assert status(api, name) == "warm", "a checkpoint does not wake it"
    api.restore(name, version)
    assert shell(api, name, "cat file") == "before\n"
    eventually(lambda: status(api, name) == "warm", "it was frozen again", 30)
    api.destroy(name)


@pytest.mark.parametrize("value", [-1, 604801, "1"])
def test_bad_idle_times_are_refused(api: Api, value: object) -> None:
    with pytest.raises(ApiError) as refused:
        api.create("never-made", config={"freeze_after_seconds": value})
    assert refused.value.status == 400


def test_policies_come_back_as_they_were_posted(api: Api, sprite: str) -> None:
    path = f"/v1/sprites/{sprite}/policy/network"
    assert api.call("GET", path).json() == {"rules": []}
    rules = {"rules": [
        {"domain": "*.example.com", "action": "allow"}, {"include": "defaults"}, {"domain": "*", "action": "deny"},
    ]}
    api.call("POST", path, 204, json=rules)
    assert api.call("GET", path).json() == rules
    for bad in [
        {}, {"rules": [{}]}, {"rules": [{"domain": "x"}]}, {"rules": [{"domain": "x", "include": "defaults"}]},
        {"rules": [], "more": 1}, {"rules": [{"domain": "x", "action": "maybe"}]}, {"rules": [{"include": "others"}]},
        {"rules": [{"domain": "a b", "action": "allow"}]}, {"rules": None}, [],
    ]:
        with pytest.raises(ApiError) as refused:
            api.call("POST", path, 204, json=bad)
        assert refused.value.status == 400
    assert api.call("GET", path).json() == rules
