# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Disks with limits: enforced, counted exactly, and everything that makes room works on a full one."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from support.api import Api, ApiError, StreamError
from support.cli import Cli
from support.daemon import Daemon
from support.exec import run, shell
from support.wait import eventually

MIB = 1 << 20
#: Fills what is left, first in large pieces, and says what the last write failed with.
FILL = (
    "cd /home/sprite; for size in 1M 64k 4k; do dd if=/dev/urandom bs=$size of=filler-$size status=none || true; done;"
    " sync; echo more > /home/sprite/more"
)


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory, base: Any) -> Any:
    """A daemon of its own: limits stay on in its pool once there was one."""
    folder = tmp_path_factory.mktemp("disk")
    daemon = Daemon(folder / "data", folder / "sprited.log", ["--pool-size", "3G"])
    daemon.start().import_base(base)
    yield daemon
    daemon.remove()


@pytest.fixture
def disks(limited: Daemon) -> Any:
    if not limited.runs:
        limited.start()
    api = limited.api()
    yield api
    for sprite in api.all_sprites():
        api.destroy(sprite["name"])


def use(api: Api, name: str) -> Any:
    return api.call("GET", f"/v1/sprites/{name}/disk").json()


def fill(api: Api, name: str) -> None:
    result = run(api, name, "sh", "-c", FILL, timeout=120)
    assert b"Disk quota exceeded" in result.stderr, result.stderr
    assert b"No space left" not in result.stderr, result.stderr


def test_a_disk_takes_no_more_than_its_limit(disks: Api) -> None:
    disks.create("small", config={"disk_mb": 64})
    disks.create("other")
    assert disks.get("small")["config"]["disk_mb"] == 64
    fill(disks, "small")
    counted = use(disks, "small")
    assert counted["limit_bytes"] == 64 * MIB
    # The kernel sets some aside for each write, so the last bytes cannot be had.
    assert 56 * MIB < counted["counted_bytes"] <= 65 * MIB, counted
    shell(disks, "other", "head -c 100000000 /dev/zero > much; sync")
    # What df shows is the pool, the same in both; the sprite's own figures are those of the API.
    size, free = (int(word) for word in shell(disks, "small", "df -B1 --output=size,avail / | tail -n1").split())
    assert size == 3 << 30 and free > 1 << 30, (size, free)
    assert str(size) in shell(disks, "other", "df -B1 --output=size / | tail -n1")
    # What is there can be read and deleted, and then there is room again.
    shell(disks, "small", "head -c 1000 filler-1M > /dev/null; rm filler-1M; sync")
    assert run(disks, "small", "sh", "-c", "head -c 10000000 /dev/urandom > again && sync").code == 0


def test_everything_that_makes_room_works_on_a_full_disk(disks: Api) -> None:
    disks.create("full", config={"disk_mb": 64})
    shell(disks, "full", "head -c 20000000 /dev/urandom > data; sha256sum data > sum; sync")
    assert disks.checkpoint("full") == "v1"
    fill(disks, "full")
    # Both only refer to what is there already.
    assert disks.checkpoint("full") == "v2"
    disks.fork("full", "fork")
    assert shell(disks, "fork", "sha256sum -c sum; head -c 20000000 /dev/urandom > mine") == "data: OK\n"
    disks.restore("full", "v1")
    assert shell(disks, "full", "sha256sum -c sum") == "data: OK\n"
    assert run(disks, "full", "sh", "-c", "head -c 30000000 /dev/urandom > x").code != 0
    # The states before still hold what was deleted; their deletion gives it back.
    disks.checkpoint("full")
    disks.destroy("fork")
    for checkpoint in disks.checkpoints("full", automatic=True):
        if checkpoint["id"] in ("v2", "auto-1"):
            disks.call("DELETE", f"/v1/sprites/full/checkpoints/{checkpoint['id']}", expect=204)

    def writable() -> bool:
        return run(disks, "full", "sh", "-c", "rm -f x; head -c 30000000 /dev/urandom > x && sync").code == 0

    eventually(writable, "what only deleted states held can be written again", 90, interval=2)
    assert shell(disks, "full", "sha256sum -c sum") == "data: OK\n"


def test_a_full_sprite_starts_again_and_can_be_emptied(limited: Daemon, disks: Api) -> None:
    disks.create("full", config={"disk_mb": 48, "stop_after_seconds": 1, "freeze_after_seconds": 0})
    fill(disks, "full")
    eventually(lambda: disks.get("full")["status"] == "cold", "the unused sprite is stopped", 30)
    assert shell(disks, "full", "rm -f filler-1M; echo up") == "up\n"
    assert run(disks, "full", "sh", "-c", "sync; head -c 10000000 /dev/urandom > again && sync").code == 0
    disks.destroy("full")


def test_a_limit_is_changed_and_outlives_the_daemon(limited: Daemon, disks: Api) -> None:
    disks.create("grown", config={"storage_gb": 1})
    assert disks.get("grown")["config"]["disk_mb"] == 1024
    disks.update("grown", config={"disk_mb": 40})
    fill(disks, "grown")
    limited.restart()
    api = limited.api()
    assert run(api, "grown", "sh", "-c", "echo x > y").code != 0
    api.update("grown", config={"disk_mb": 80})
    shell(api, "grown", "head -c 20000000 /dev/urandom > more")
    # Less than is there already: nothing is lost, and nothing more can be written.
    api.update("grown", config={"storage_gb": 0, "disk_mb": 20})
    assert run(api, "grown", "sh", "-c", "head -c 1000000 /dev/urandom > y").code != 0
    api.update("grown", config={"disk_mb": 0})
    assert "disk_mb" not in api.get("grown")["config"]
    shell(api, "grown", "head -c 120000000 /dev/zero > much; sync")


def test_a_disk_is_counted_exactly(disks: Api) -> None:
    disks.create("one", config={"disk_mb": 1024})
    before = use(disks, "one")["live"]["bytes"]
    shell(disks, "one", "head -c 8388608 /dev/urandom > a; head -c 4194304 /dev/urandom > b; sync")
    disks.checkpoint("one")
    shell(disks, "one", "rm a; head -c 2097152 /dev/urandom > c; sync")
    disks.checkpoint("one")
    shell(disks, "one", "rm c; head -c 1048576 /dev/urandom > d; sync")
    now = use(disks, "one")
    by_id = {state["id"]: state for state in now["checkpoints"]}
    # Logs and the like of the sprite itself come to less than this.
    near = pytest.approx
    assert by_id["v1"]["own_bytes"] == near(8 * MIB, abs=65536)
    assert by_id["v2"]["own_bytes"] == near(2 * MIB, abs=65536)
    assert now["live"]["own_bytes"] == near(1 * MIB, abs=65536)
    assert now["live"]["bytes"] == near(5 * MIB + before, abs=65536)
    assert now["own_bytes"] == near(15 * MIB + before, abs=131072)
    assert now["counted_bytes"] >= now["own_bytes"]
    # Deleting a checkpoint gives back what was its own, to the byte.
    disks.call("DELETE", "/v1/sprites/one/checkpoints/v1", expect=204)
    assert now["own_bytes"] - use(disks, "one")["own_bytes"] == by_id["v1"]["own_bytes"]

    shared = use(disks, "one")["shared_bytes"]
    disks.fork("one", "two")
    forked = use(disks, "two")
    assert forked["shared_bytes"] == near(5 * MIB + before, abs=131072)
    assert forked["own_bytes"] < 65536
    # The kernel counts what was written in the first one there, and in the fork only what is new.
    assert forked["counted_bytes"] < 2 * MIB
    assert use(disks, "one")["shared_bytes"] == near(shared + 5 * MIB + before, abs=131072)
    disks.destroy("two")
    assert use(disks, "one")["shared_bytes"] == near(shared, abs=65536)


def test_space_comes_back_after_deletions(disks: Api, limited: Daemon) -> None:
    def free() -> int:
        return int(re.search(r"available: +(\d+)", limited.tool("pool", "info", "--bytes")).group(1))  # type: ignore[union-attr]

    disks.create("large", config={"storage_gb": 2})
    # The first start writes some of its own.
    shell(disks, "large", "sync")
    before = free()
    shell(disks, "large", "head -c 300000000 /dev/urandom > a; sync")
    disks.checkpoint("large")
    shell(disks, "large", "rm a; sync")
    assert before - free() > 250 * MIB
    disks.destroy("large")
    eventually(lambda: before - free() < 20 * MIB, "the space of what was deleted is free again", 60, interval=1)


def test_the_command_line_limits_and_shows_disks(limited: Daemon, disks: Api, tmp_path: Any) -> None:
    cli = Cli(limited, tmp_path)
    cli("create", "--skip-console", "--disk", "1G", "cli")
    shell(disks, "cli", "head -c 5242880 /dev/urandom > a; sync")
    disks.checkpoint("cli")
    shown = cli.text("info", "cli")
    assert re.search(r"^disk limit: +1024 MiB$", shown, re.M), shown
    assert re.search(r"^disk: +5\.\d+ MiB of its own, ", shown, re.M), shown
    assert re.search(r"^v1 +5\.\d+ MiB", shown, re.M), shown
    cli("config", "update", "--disk", "2G", "cli")
    assert disks.get("cli")["config"]["storage_gb"] == 2


@pytest.mark.parametrize("value", [1, -5, 1 << 31, "10G"])
def test_limits_that_are_none_are_refused(api: Api, value: object) -> None:
    with pytest.raises((ApiError, StreamError)) as refused:
        api.create("never", config={"disk_mb": value})
    assert refused.value.status == 400  # type: ignore[union-attr]
