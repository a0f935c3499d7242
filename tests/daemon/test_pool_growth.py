# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Pools that grow, refuse in time, and survive that the disk below them is full."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import logs, programs
from support.api import Api, ApiError, StreamError
from support.daemon import Daemon
from support.exec import run, shell
from support.wait import eventually

MIB = 1 << 20


def facts(daemon: Daemon) -> dict[str, str]:
    lines = daemon.tool("pool", "info", "--bytes").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def write(api: Api, name: str, file: str, mib: int) -> int | None:
    return run(api, name, "sh", "-c", f"head -c {mib * MIB} /dev/urandom > {file} && sync {file}", timeout=300).code


def test_a_pool_grows_while_sprites_run(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon("--pool-size", "1G")
    api = daemon.api()
    api.create("one")
    shell(api, "one", "head -c 20000000 /dev/urandom > data; sha256sum data > sum; sync")
    before = int(facts(daemon)["size"])
    assert "2048 MiB" in daemon.tool("pool", "grow", "2G")
    after = facts(daemon)
    assert (before, int(after["size"])) == (1 << 30, 2 << 30)
    assert write(api, "one", "more", 1100) == 0
    daemon.restart()
    api = daemon.api()
    assert int(facts(daemon)["size"]) == 2 << 30
    assert shell(api, "one", "sha256sum -c sum") == "data: OK\n"
    daemon.tool("pool", "grow", "2G")
    with pytest.raises(AssertionError, match="cannot shrink"):
        daemon.tool("pool", "grow", "1G")


def test_a_pool_that_runs_low_says_so_while_everything_still_works(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon("--pool-size", "1G")
    api = daemon.api()
    api.create("one")

    def told() -> list[str]:
        events = ("pool.low", "pool.full", "pool.recovered")
        return [event for event in events for _ in logs.events(api, event=event)]

    assert told() == []
    pool = facts(daemon)
    # Less than a tenth is left, and more than the fiftieth that is kept for what runs.
    assert write(api, "one", "filler", (int(pool["available"]) - int(pool["size"]) * 8 // 100) // MIB) == 0
    eventually(lambda: told() == ["pool.low"], "it is recorded that space runs out, and nothing else", 30)
    api.create("two")
    assert shell(api, "two", "echo fine") == "fine\n"
    shell(api, "one", "rm filler; sync")
    recovered = ["pool.low", "pool.recovered"]
    eventually(lambda: told() == recovered, "it is recorded that there is space again", 90, interval=1)


def test_a_nearly_full_pool_refuses_what_is_new_and_lets_go(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon("--pool-size", "1G")
    api = daemon.api()
    api.create("one")
    api.checkpoint("one")
    free = int(facts(daemon)["available"]) // MIB
    # Into the reserve, but not to the end.
    assert write(api, "one", "filler", free - 12) == 0
    refused: list[Callable[[], object]] = [
        lambda: api.create("two"), lambda: api.fork("one", "two", "v1"), lambda: api.checkpoint("one"),
    ]  # fmt: skip
    for call in refused:
        with pytest.raises((ApiError, StreamError), match="nearly full"):
            call()
    # What runs goes on, and what makes room works.
    shell(api, "one", "echo fine > small; sync small")
    eventually(lambda: logs.events(api, event="pool.full"), "it is recorded that the pool is full", 30)
    shell(api, "one", "rm filler; sync")
    eventually(lambda: logs.events(api, event="pool.recovered"), "it is recorded that there is space again", 90, interval=1)
    api.checkpoint("one")
    api.create("two")


@pytest.fixture
def small_host(tmp_path: Path) -> Iterator[Path]:
    """A small filesystem that other programs fill as well."""
    image, place = tmp_path / "host.img", tmp_path / "host"
    place.mkdir()
    image.touch()
    subprocess.run(["truncate", "-s", "1500M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def fill(place: Path) -> Path:
    """Somebody else takes everything that is left."""
    ballast = place / "ballast"
    subprocess.run(["sh", "-c", f"head -c 4G /dev/zero > {ballast}"], check=False, stderr=subprocess.DEVNULL)
    return ballast


def test_deleting_on_a_full_host_filesystem(small_host: Path, scratch: Path, base: Path) -> None:
    """Deleting needs some space before it gives any back: it is done, or refused in words and done later."""
    daemon = Daemon(small_host / "data", scratch / "small-host-deleting.log", ["--pool-size", "4G"])
    daemon.start().import_base(base)
    try:
        api = daemon.api()
        for name in ("kept", "greedy", "other"):
            api.create(name)
            shell(api, name, "head -c 30000000 /dev/urandom > data; sha256sum data > sum; sync")
            api.checkpoint(name)
            shell(api, name, "head -c 30000000 /dev/urandom > more; sync")
        # The live state no longer descends from the first.
        api.checkpoint("other")
        ballast = fill(small_host)
        gone, messages = set(), []
        for what, delete in (
            ("v1", lambda: api.call("DELETE", "/v1/sprites/other/checkpoints/v1")),
            ("greedy", lambda: api.destroy("greedy")),
            ("other", lambda: api.destroy("other")),
        ):
            try:
                delete()
                gone.add(what)
            except (ApiError, StreamError) as error:
                messages.append(str(error))
        assert all("no_space" in message and "free some space" in message for message in messages), messages
        assert len(gone) + len(messages) == 3
        assert daemon.runs

        ballast.unlink()
        daemon.terminate()
        daemon.tool("cleanup")
        daemon.start()
        api = daemon.api()
        left = {one["name"] for one in api.all_sprites()}
        assert left.isdisjoint(gone), "what was deleted is back"
        for name in left - {"kept"}:
            api.destroy(name)
        assert shell(api, "kept", "sha256sum -c sum") == "data: OK\n"
        api.restore("kept", "v1")
        assert shell(api, "kept", "sha256sum -c sum") == "data: OK\n"
        before = int(facts(daemon)["available"])
        assert before > 200 * MIB, "what was deleted takes no space"
        daemon.remove()
    finally:
        daemon.abandon()
        if daemon.data_directory.exists():
            daemon.tool("cleanup")


def test_a_full_host_filesystem_damages_nothing(small_host: Path, scratch: Path, base: Path) -> None:
    """The image is sparse, so what it still promises may be gone: the pool stops, and all that was kept is there."""
    daemon = Daemon(small_host / "data", scratch / "small-host.log", ["--pool-size", "4G"])
    daemon.start().import_base(base)
    try:
        api = daemon.api()
        api.create("kept")
        shell(api, "kept", "head -c 20000000 /dev/urandom > data; sha256sum data > sum; sync")
        api.checkpoint("kept")
        ballast = fill(small_host)
        # Data that nothing on the host has room for, until the filesystem's structure cannot be written either.
        run(api, "kept", "sh", "-c", "head -c 300000000 /dev/urandom > lost; sync; for i in 1 2 3 4 5 6 7 8; do "
            "mkdir -p d$i; touch d$i/f; sync; done", timeout=120)  # fmt: skip
        with pytest.raises((ApiError, StreamError)) as refused:
            api.create("two")
        assert "nearly full" in str(refused.value) or "read-only" in str(refused.value), refused.value
        # Told how to go on, or not yet affected.
        seen = subprocess.run(
            [programs.sprited(), "pool", "info", "--data-dir", daemon.data_directory], capture_output=True, text=True
        )
        assert seen.returncode == 0 or ("read-only" in seen.stderr and "sprited cleanup" in seen.stderr), seen

        ballast.unlink()
        if daemon.runs:
            daemon.terminate()
        daemon.tool("cleanup")
        daemon.start()
        api = daemon.api()
        assert int(facts(daemon)["available"]) > 100 * MIB
        assert shell(api, "kept", "sha256sum -c sum") == "data: OK\n"
        api.restore("kept", "v1")
        assert shell(api, "kept", "sha256sum -c sum") == "data: OK\n"
        api.create("two")
        assert shell(api, "two", "echo fine") == "fine\n"
        daemon.remove()
    finally:
        daemon.abandon()
        if daemon.data_directory.exists():
            daemon.tool("cleanup")
