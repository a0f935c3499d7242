# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""A full pool: ENOSPC inside, clear refusals outside, deleting works, nothing is damaged."""

from collections.abc import Callable

import pytest

from support import logs
from support.api import Api, ApiError, StreamError
from support.daemon import Daemon
from support.exec import run, shell
from support.wait import eventually


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises((ApiError, StreamError)) as refused:
        call()
    if isinstance(refused.value, ApiError):
        assert (refused.value.status, refused.value.code) == (507, "no_space")
        return refused.value.message
    return str(refused.value)


def told(api: Api) -> set[str]:
    return {record["event"] for record in logs.events(api)}


def fill(api: Api, name: str) -> None:
    for size in ("1M", "4k"):
        result = run(api, name, "sh", "-c", f"dd if=/dev/urandom bs={size} >> filler-{size}; sync", timeout=300)
        assert b"No space left on device" in result.stderr, result.stderr


@pytest.mark.timeout(900)
def test_a_full_pool_damages_nothing(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon("--pool-size", "1G")
    api = daemon.api()
    api.create("kept")
    shell(api, "kept", "head -c 20000000 /dev/urandom > data; sha256sum data > sum; sync")
    api.checkpoint("kept")
    api.create("greedy")
    fill(api, "greedy")

    # What would need space is refused, in words; the first that still finds some fills the pool a little more.
    made = 0

    def one_more() -> None:
        nonlocal made
        for made in range(200):
            api.checkpoint("greedy")
            api.create(f"more-{made}")
            fill(api, "greedy")

    message = refusal(one_more)
    assert ("space" in message or "full" in message) and "internal" not in message, message
    # Which of the two depends on how fast it was filled; test_pool_growth.py has one after the other.
    eventually(lambda: {"pool.low", "pool.full"} & told(api), "the journal says that space runs out", 30)

    assert shell(api, "kept", "sha256sum -c sum") == "data: OK\n"
    daemon.restart()
    api = daemon.api()
    assert shell(api, "kept", "sha256sum -c sum") == "data: OK\n"
    api.destroy("greedy")
    for one in api.all_sprites(prefix="more-"):
        api.destroy(one["name"])

    def writable() -> bool:
        return run(api, "kept", "sh", "-c", "head -c 50000000 /dev/zero > again && rm again").code == 0

    eventually(writable, "the space of the deleted sprite is free again", 60, interval=1)
    api.checkpoint("kept")
    api.restore("kept", "v1")
    assert shell(api, "kept", "sha256sum -c sum") == "data: OK\n"
    api.create("after")
    assert shell(api, "after", "echo fine") == "fine\n"
    eventually(lambda: "pool.recovered" in told(api), "the journal says that there is space again", 60)
