# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The disk of the journal is full: sprites and the daemon go on, and what is missing afterwards is told."""

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.api import Api
from support.daemon import Daemon
from support.exec import run, shell
from support.fixtures import fresh_name
from support.logs import all_output, database, events, output, records, wait_for
from support.wait import eventually

#: Prints a number every few milliseconds, for ever.
COUNTER = "i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.02; done"
#: More than the 256 MiB that wait for the journal.
FLOOD_BYTES = 300_000_000
CALLS = 40


class SmallDisk:
    """A file system of its own in a file, so small that it can be filled."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.image = folder / f"{kind}.img"
        self.place = folder / f"{kind}-disk"
        size = 160 << 20
        with self.image.open("wb") as file:
            file.truncate(size)
        # Of btrfs the room for data is full, not that for its structure: without that it cannot even write in place, and a
        # store to the mapped index of SQLite's log may end the daemon.
        options = ["-q", "-m", "0"] if kind == "ext4" else ["-q", "-m", "single"]
        subprocess.run([f"mkfs.{kind}", *options, str(self.image)], check=True)
        self.place.mkdir()
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.place)], check=True)

    def fill(self) -> None:
        """Not one more byte."""
        for size in (1 << 20, 4096, 512):
            try:
                with (self.place / f"filler-{size}").open("ab", buffering=0) as file:
                    while file.write(b"\xa5" * size) == size:
                        pass
            except OSError:
                subprocess.run(["sync", "-f", str(self.place)], check=False)

    def free(self) -> None:
        for one in self.place.glob("filler-*"):
            one.unlink()

    def remove(self) -> None:
        subprocess.run(["umount", str(self.place)], check=True)
        self.place.rmdir()
        self.image.unlink()


@pytest.fixture(params=["ext4", "btrfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    one = SmallDisk(tmp_path, request.param)
    yield one
    one.remove()


def writable(api: Api) -> bool:
    return "sprited_journal_writable 1\n" in api.call("GET", "/metrics").text


def test_a_full_disk_of_the_journal(
    disk: SmallDisk, new_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"journal_rate_per_session": "64K"}))
    daemon = new_daemon(started=False)
    daemon.options = ["--config", str(settings)]
    (daemon.data_directory / "journal.db").symlink_to(disk.place / "journal.db")
    api = daemon.start().api()
    name = fresh_name()
    api.create(name)
    api.call("PUT", f"/v1/sprites/{name}/services/ticks?duration=100ms", json={"cmd": "sh", "args": ["-c", COUNTER]})
    wait_for(api, name, "tick 10", service="ticks", limit=100)
    disk.fill()
    eventually(lambda: (disk.fill(), not writable(api))[1], "the journal cannot be written", 20, 0.2)

    # Nobody waits for it, and what was recorded can be read.
    assert shell(api, name, "echo the sprite goes on") == "the sprite goes on\n"
    flood = f"head -c {FLOOD_BYTES} /dev/zero; touch /tmp/over; exec sleep 600"
    api.call("PUT", f"/v1/sprites/{name}/services/flood?duration=100ms", json={"cmd": "sh", "args": ["-c", flood]})
    eventually(lambda: run(api, name, "test", "-e", "/tmp/over").code == 0, "nothing held it up", 30, 0.2)
    api.checkpoint(name)
    assert output(api, name, service="ticks", limit=10)
    # Records for which there may be no room. (There may: SQLite writes its log again from the beginning now and then.)
    for _ in range(CALLS):
        api.call("GET", f"/v1/sprites/{name}/check")
    # Only what is older than the commit interval is promised to outlive a kill.
    time.sleep(3)
    # Nor does a daemon that starts now.
    daemon.restart()
    assert shell(api, name, "echo and goes on") == "and goes on\n"
    assert not writable(api)
    disk.free()

    eventually(lambda: writable(api), "the journal can be written", 20)
    assert eventually(lambda: records(api, event="journal.resumed"), "it says so")
    wait_for(api, name, "and goes on", order="desc", stream="stdout")

    def accounted() -> bool:
        asked = [one for one in records(api, name, kind="api") if f"/v1/sprites/{name}/check" in one["text"]]
        lost = events(api, event="journal.dropped")
        assert all(one["level"] == "error" for one in lost)
        return len(asked) + sum(one["fields"]["count"] for one in lost) >= CALLS

    eventually(accounted, "every call is recorded, or counted as missing")
    ticks = [one["text"] for one in all_output(api, name, service="ticks")]
    assert ticks == [f"tick {number}" for number in range(len(ticks))]
    with contextlib.closing(database(daemon.data_directory)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    def told() -> int:
        dropped = sum(one["fields"]["bytes"] for one in events(api, name, event="output.dropped"))
        taken = sum(one["fields"].get("binary_bytes", 0) for one in output(api, name, service="flood"))
        return int(dropped + taken)

    eventually(lambda: told() == FLOOD_BYTES, "every byte is recorded or counted", 30)
    assert events(api, name, event="output.dropped")
