# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The data directory as a power cut at a random moment under load leaves it: sound, and nothing acknowledged is lost.

What kind of cut this is. The data directory lies on an ext4 filesystem whose disk is a file on btrfs, and a cut is a
copy by reference (FICLONE) of that file, which is one instant: the kernel holds off every write while it is made. So
pool, registry and journal are cut together, and everything that their own filesystem had not given to its disk is lost:
dirty pages, and space that was given out and written to without its journal having been written. After the load, each
copy is mounted in the place of the original and a daemon is started on it, as after the boot that follows.

What it is not. The disk itself forgets nothing that it was given, and no write is torn: the cut is in front of a disk
without a cache of its own. `scripts/machine-test.sh` cuts whole virtual machines.
"""

import fcntl
import os
import random
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.api import Api
from support.consistency import compare_disk
from support.daemon import Daemon
from support.model import post_exec, read
from support.reboot import reboot
from support.wait import eventually

CUTS = int(os.environ.get("SPRITE_POWER_CUTS", "5"))
SEED = int(os.environ.get("SPRITE_POWER_CUT_SEED", str(random.randrange(1 << 32))))
SPRITES = 3
#: linux/fs.h
FICLONE = 0x40049409
#: Data that nobody waits for and data that is flushed, all the time.
CHURN = (
    "i=0; while :; do i=$((i+1)); head -c 200000 /dev/urandom > junk$((i % 10)); [ $((i % 3)) = 0 ] && sync junk0; "
    "sleep 0.05; done"
)


@dataclass
class Writer:
    """One sprite, what was asked of it and what of that was acknowledged."""

    name: str
    #: What its file may hold, in the order in which it was asked for; the last of `done` was acknowledged.
    states: list[str] = field(default_factory=lambda: [""])
    done: int = 1
    #: Of every checkpoint that was acknowledged what it holds, also of those that were deleted.
    checkpoints: dict[str, str] = field(default_factory=dict)
    deletions_asked: set[str] = field(default_factory=set)
    deletions_done: set[str] = field(default_factory=set)
    acknowledged: threading.Event = field(default_factory=threading.Event)

    def step(self, api: Api, chance: random.Random) -> None:
        kept = sorted(self.checkpoints.keys() - self.deletions_asked)
        choice = chance.choices(["write", "checkpoint", "restore", "delete", "fork"], [8, 6, 1, 3, 2])[0]
        if choice == "write" or len(kept) < 2:
            content = secrets.token_hex(8)
            self.states.append(content)
            post_exec(api, self.name, f"printf %s {content} > new && sync new && mv new data && sync .")
            self.done = len(self.states)
            kept = []
        if choice == "checkpoint" or len(kept) < 2:
            self.checkpoints[api.checkpoint(self.name)] = self.states[-1]
            self.acknowledged.set()
        elif choice == "restore":
            chosen = chance.choice(kept)
            self.states.append(self.checkpoints[chosen])
            api.restore(self.name, chosen)
            self.done = len(self.states)
        elif choice == "delete":
            # Not one that may be what the live disk came from, which is refused.
            chosen = min(kept, key=lambda identifier: int(identifier[1:]))
            self.deletions_asked.add(chosen)
            if api.call("DELETE", f"/v1/sprites/{self.name}/checkpoints/{chosen}", {204, 409}).status_code == 204:
                self.deletions_done.add(chosen)
        elif choice == "fork":
            api.fork(self.name, f"{self.name}-fork", chance.choice(kept))
            api.destroy(f"{self.name}-fork")


@dataclass
class Expected:
    """What must be true of one sprite after one cut."""

    writer: Writer
    checkpoints: set[str]
    deleted: set[str]
    states: list[str]

    @classmethod
    def before(cls, writer: Writer) -> "Expected":
        return cls(writer, set(writer.checkpoints), set(writer.deletions_done), writer.states[writer.done - 1 :])

    def after(self) -> None:
        """What was asked for meanwhile may have been done."""
        self.checkpoints -= self.writer.deletions_asked
        self.states = self.writer.states[self.writer.states.index(self.states[0]) :]

    def verify(self, api: Api, pool: Path) -> None:
        name = self.writer.name
        listed = {entry["id"] for entry in api.checkpoints(name)} - {"v0"}
        assert self.checkpoints <= listed, f"{name}: lost {self.checkpoints - listed}"
        assert not self.deleted & listed, f"{name}: came back {self.deleted & listed}"
        home = pool / "sprites" / api.get(name)["id"].removeprefix("sprite-")
        for identifier in listed:
            content = (home / "checkpoints" / identifier / "upper/home/sprite/data").read_text()
            assert content == self.writer.checkpoints[identifier], f"{name} {identifier} holds {content!r}"
        content = (home / "live/upper/home/sprite/data").read_text()
        assert content in self.states, f"{name} holds {content!r}, possible was {self.states}"


class Machine:
    """The disk that the data directory lies on, and copies of it of one instant each."""

    def __init__(self, directory: Path) -> None:
        self.place = directory / "host"
        self.copies = directory / "disks"
        for path in (self.place, self.copies):
            path.mkdir()
        outer = directory / "outer.img"
        _run("truncate", "-s", "24G", outer)
        _run("mkfs.btrfs", "-q", "-m", "single", "-d", "single", outer)
        _run("mount", "-o", "loop,noatime", outer, self.copies)
        self.disk = self.copies / "disk"
        _run("truncate", "-s", "6G", self.disk)
        _run("mkfs.ext4", "-q", self.disk)
        self.mount(self.disk)

    def mount(self, disk: Path) -> None:
        _run("mount", "-o", "loop,noatime", disk, self.place)

    def unmount(self) -> None:
        _run("umount", self.place)

    def cut(self, number: int) -> Path:
        copy = self.copies / f"cut-{number}"
        with self.disk.open("rb") as source, copy.open("wb") as target:
            fcntl.ioctl(target, FICLONE, source.fileno())
        return copy


def is_unmounted(place: Path) -> bool:
    if os.path.ismount(place):
        subprocess.run(["umount", place], capture_output=True)
    return not os.path.ismount(place)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    for place in (made.place, made.copies):
        # The loop device of what was unmounted before lets its file go a little later.
        eventually(lambda place=place: is_unmounted(place), f"{place} is unmounted", 20, 0.2)
    shutil.rmtree(tmp_path)


def test_a_power_cut_at_any_moment_loses_nothing_acknowledged(machine: Machine, scratch: Path, base: Path) -> None:
    daemon = Daemon(machine.place / "data", scratch / "power-cut.log", ["--pool-size", "3G"])
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    try:
        daemon.start().import_base(base)
        cuts = cut_under_load(machine, daemon, chance)
        for number, (disk, expected) in enumerate(cuts):
            reboot(daemon)
            machine.unmount()
            machine.mount(disk)
            check_pool(daemon)
            daemon.start()
            verify(daemon, expected, chance)
            print(f"cut {number}: {sum(len(one.checkpoints) for one in expected)} checkpoints were acknowledged")
        daemon.remove()
        daemon.log.unlink()
    finally:
        if daemon.data_directory.exists():
            reboot(daemon)


def cut_under_load(machine: Machine, daemon: Daemon, chance: random.Random) -> list[tuple[Path, list[Expected]]]:
    """Copies of the disk at random moments, every other one right after a checkpoint was acknowledged."""
    writers = [Writer(f"power-{number}") for number in range(SPRITES)]
    ended = threading.Event()
    cuts: list[tuple[Path, list[Expected]]] = []

    def load(writer: Writer, seed: int) -> None:
        own = random.Random(seed)
        api = daemon.api()
        while not ended.is_set():
            writer.step(api, own)

    api = daemon.api()
    for writer in writers:
        api.create(writer.name)
        churn = {"cmd": "sh", "args": ["-c", CHURN], "dir": "/home/sprite"}
        api.call("PUT", f"/v1/sprites/{writer.name}/services/churn?duration=100ms", json=churn)
        # So that every disk and checkpoint has the file.
        writer.step(api, chance)
    with ThreadPoolExecutor(len(writers)) as threads:
        running: list[Future[None]] = [threads.submit(load, writer, chance.randrange(1 << 32)) for writer in writers]
        try:
            for number in range(CUTS):
                time.sleep(chance.uniform(0.3, 1.5))
                if number % 2 == 0:
                    watched = chance.choice(writers)
                    watched.acknowledged.clear()
                    assert watched.acknowledged.wait(60), "no checkpoint was made"
                expected = [Expected.before(writer) for writer in writers]
                disk = machine.cut(number)
                for one in expected:
                    one.after()
                cuts.append((disk, expected))
                assert all(not one.done() for one in running), [one.exception() for one in running if one.done()]
        finally:
            ended.set()
    for thread in running:
        thread.result()
    return cuts


def check_pool(daemon: Daemon) -> None:
    """The pool as the cut left it, before anybody repairs it: its structure, and every block's checksum."""
    device = _run("losetup", "--find", "--show", "--read-only", daemon.data_directory / "pool.img").strip()
    try:
        _run("btrfs", "check", "--readonly", "--check-data-csum", device)
    finally:
        _run("losetup", "--detach", device)


def verify(daemon: Daemon, expected: list[Expected], chance: random.Random) -> None:
    api = daemon.api()
    # Only the daemon sees its pool.
    pool = Path(f"/proc/{daemon.pid}/root{daemon.data_directory.resolve()}/pool")
    for one in expected:
        one.verify(api, pool)
    # A fork that was under way has neither half of a disk nor half of a row.
    compare_disk(daemon, [])
    chosen = chance.choice(expected)
    identifier = chance.choice(sorted(chosen.checkpoints))
    api.restore(chosen.writer.name, identifier)
    assert read(api, chosen.writer.name) == chosen.writer.checkpoints[identifier]


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout
