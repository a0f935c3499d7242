# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Random work of every kind on many sprites for a long time; in the end everything is where it was.

`make soak` runs it for two hours with 50 sprites, as fast as it goes; a run of all tests takes ten minutes of it.
Namespaces live through processes, descriptors and mounts only, so none is left where none of these is.
"""

import os
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support import logs
from support.api import Api, ApiError, StreamError
from support.daemon import Daemon
from support.exec import run, shell
from support.host import HostState, host_state, resident_kib, subvolumes
from support.wait import eventually

SECONDS = float(os.environ.get("SPRITE_SOAK_SECONDS", "45"))
SPRITES = int(os.environ.get("SPRITE_SOAK_SPRITES", "10"))
WORKERS = int(os.environ.get("SPRITE_SOAK_WORKERS", "5"))
#: Seconds between two operations of a worker, on average.
PAUSE = float(os.environ.get("SPRITE_SOAK_PAUSE", "0"))
SEED = int(os.environ.get("SPRITE_SOAK_SEED", str(random.randrange(1 << 32))))
#: The allocator keeps what a burst took; a leak of 1 KiB an operation shows in an hour.
RESIDENT_GROWTH_KIB_MAX = 96 << 10


@dataclass
class Footprint:
    """What the daemon holds while no sprite is there."""

    descriptors: list[str]
    threads: list[str]
    mounts: list[str]
    subvolumes: list[str]
    host: HostState

    @staticmethod
    def of(daemon: Daemon) -> "Footprint":
        process = Path(f"/proc/{daemon.pid}")
        return Footprint(
            descriptors=list(targets(process / "fd")), threads=list(names(process / "task")),
            mounts=[line.split(maxsplit=4)[4] for line in (process / "mountinfo").read_text().splitlines()],
            subvolumes=subvolumes(daemon.pid, daemon.data_directory / "pool"),
            host=host_state(daemon.tag, daemon.data_directory),
        )  # fmt: skip


def targets(folder: Path) -> Iterator[str]:
    """What descriptors lead to, without the numbers that tell sockets and pipes apart."""
    for one in folder.iterdir():
        with suppress(FileNotFoundError):
            yield re.sub(r":\[\d+\]", "", os.readlink(one))


def names(folder: Path) -> Iterator[str]:
    """Names of threads; one that ends meanwhile is none."""
    for one in folder.iterdir():
        with suppress(OSError):
            yield (one / "comm").read_text().strip()


class Worker:
    """Works on some sprites that nobody else touches, so that every answer can be foretold."""

    def __init__(self, daemon: Daemon, number: int, seed: int) -> None:
        self.daemon = daemon
        self.api = daemon.api()
        self.chance = random.Random(seed)
        self.names = [f"soak-{number}-{index}" for index in range(max(1, SPRITES // WORKERS))]
        self.marks: dict[str, str] = {}
        self.checkpoints: dict[str, dict[str, str]] = {}
        self.counts: dict[str, int] = {}

    def step(self) -> None:
        name = self.chance.choice(self.names)
        if name not in self.marks:
            self.api.create(name)
            self.marks[name], self.checkpoints[name] = "", {}
            return self._count("create")
        weights = {
            self.write: 6, self.check: 6, self.checkpoint: 4, self.restore: 3, self.fork: 2, self.destroy: 1, self.service: 2, self.policy: 1,
            self.files: 3, self.proxy: 2, self.url: 2, self.sleep: 2, self.session: 2, self.refused: 1,
        }  # fmt: skip
        operation = self.chance.choices(list(weights), list(weights.values()))[0]
        operation(name)
        self._count(operation.__name__)

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def write(self, name: str) -> None:
        mark = f"{self.chance.randrange(1 << 40):x}"
        shell(self.api, name, f"echo {mark} > mark; head -c {self.chance.randrange(1 << 20)} /dev/urandom > data")
        self.marks[name] = mark

    def check(self, name: str) -> None:
        assert shell(self.api, name, "cat mark 2>/dev/null || echo").strip() == self.marks[name], name

    def checkpoint(self, name: str) -> None:
        made = self.api.checkpoint(name)
        self.checkpoints[name][made] = self.marks[name]
        if len(self.checkpoints[name]) > 8:
            oldest = next(iter(self.checkpoints[name]))
            if self.api.http.delete(f"/v1/sprites/{name}/checkpoints/{oldest}").status_code == 204:
                del self.checkpoints[name][oldest]

    def restore(self, name: str) -> None:
        if not self.checkpoints[name]:
            return
        chosen = self.chance.choice(sorted(self.checkpoints[name]))
        self.api.restore(name, chosen)
        self.marks[name] = self.checkpoints[name][chosen]
        self.check(name)

    def fork(self, name: str) -> None:
        other = f"{name}-fork"
        chosen = self.chance.choice([None, *self.checkpoints[name]])
        self.api.fork(name, other, chosen)
        wanted = self.marks[name] if chosen is None else self.checkpoints[name][chosen]
        assert shell(self.api, other, "cat mark 2>/dev/null || echo").strip() == wanted
        self.api.destroy(other)

    def destroy(self, name: str) -> None:
        self.api.destroy(name)
        del self.marks[name], self.checkpoints[name]

    def service(self, name: str) -> None:
        path = f"/v1/sprites/{name}/services/tick"
        body = {"cmd": "sh", "args": ["-c", "while :; do echo tick; sleep 1; done"]}
        told = self.api.call("PUT", f"{path}?duration=0.1s", json=body).text
        listed = self.api.call("GET", f"/v1/sprites/{name}/services").json()
        assert [one["name"] for one in listed] == ["tick"], f"{name} was told {told} and has {listed}"
        if self.chance.random() < 0.7:
            self.api.call("DELETE", path, {200, 204})

    def policy(self, name: str) -> None:
        path = f"/v1/sprites/{name}/policy/network"
        rules = [{"domain": f"{self.chance.randrange(99)}.example.org", "action": "allow"}, {"domain": "*", "action": "deny"}]
        self.api.call("POST", path, {200, 204}, json={"rules": self.chance.choice([[], rules])})

    def files(self, name: str) -> None:
        content = self.chance.randbytes(self.chance.randrange(1 << 18))
        where = {"path": "/home/sprite/blob"}
        self.api.call("PUT", f"/v1/sprites/{name}/fs/write", params=where, content=content)
        assert self.api.call("GET", f"/v1/sprites/{name}/fs/read", params=where).content == content

    def proxy(self, name: str) -> None:
        url = self.api.url.replace("http", "ws", 1) + f"/v1/sprites/{name}/proxy"
        with connect(url, additional_headers={"Authorization": f"Bearer {self.api.token}"}, proxy=None) as socket:
            socket.send('{"host":"localhost","port":9}')
            with pytest.raises(ConnectionClosed, match="nothing listens there"):
                socket.recv(timeout=30)

    def url(self, name: str) -> None:
        host = {"Host": f"{name}.sprites.localhost"}
        assert self.api.http.get("/", headers=host).status_code == 502

    def sleep(self, name: str) -> None:
        """Frozen, and in the end stopped, by the clock; the next use wakes it."""
        self.api.update(name, config={"freeze_after_seconds": 1, "stop_after_seconds": self.chance.choice([2, 600])})

    def session(self, name: str) -> None:
        """One that its client leaves, and that is killed afterwards or by itself."""
        url = self.api.url.replace("http", "ws", 1) + f"/v1/sprites/{name}/exec?cmd=sleep&cmd=3&tty=true"
        with connect(url, additional_headers={"Authorization": f"Bearer {self.api.token}"}, proxy=None) as socket:
            socket.recv(timeout=30)
        for one in self.api.sessions(name):
            if self.chance.random() < 0.5:
                self.api.http.post(f"/v1/sprites/{name}/exec/{one['id']}/kill")

    def refused(self, name: str) -> None:
        self.api.call("POST", "/v1/sprites", 409, json={"name": name})
        with pytest.raises((ApiError, StreamError)):
            self.api.restore(name, "v99999")
        assert run(self.api, name, "false").code == 1

    def finish(self) -> None:
        for name in list(self.marks):
            self.check(name)
            self.destroy(name)
        self.api.close()


def work(daemon: Daemon, seconds: float, chance: random.Random) -> dict[str, int]:
    """All workers at once; what each did, together."""
    deadline = time.monotonic() + seconds
    stop = threading.Event()

    def load(worker: Worker) -> None:
        try:
            while time.monotonic() < deadline and not stop.is_set():
                worker.step()
                stop.wait(worker.chance.uniform(0, 2 * PAUSE))
            worker.finish()
        except BaseException:
            stop.set()
            raise

    workers = [Worker(daemon, number, chance.randrange(1 << 32)) for number in range(WORKERS)]
    with ThreadPoolExecutor(WORKERS) as pool:
        for future in [pool.submit(load, worker) for worker in workers]:
            future.result()
    counts: dict[str, int] = {}
    for worker in workers:
        for name, count in worker.counts.items():
            counts[name] = counts.get(name, 0) + count
    return counts


@pytest.mark.timeout(SECONDS * 1.5 + 600)
def test_a_long_run_leaves_everything_where_it_was(new_daemon: Callable[..., Daemon]) -> None:
    chance = random.Random(SEED)
    daemon = new_daemon()
    print(f"seed {SEED}, {SPRITES} sprites, {SECONDS} s")
    # Caches, pools of threads and what is made ahead grow to their size first.
    work(daemon, min(20.0, SECONDS / 4), chance)
    before = settled(daemon)
    resident = resident_kib(daemon.pid)
    counts = work(daemon, SECONDS, chance)
    print(f"{sum(counts.values())} operations: {dict(sorted(counts.items()))}")
    marker(daemon)
    # Ended commands hold their files until the journal has read them, which on a busy machine takes its time.
    left: dict[str, object] = {}

    def is_given_back() -> bool:
        left.clear()
        left.update(differences(before, Footprint.of(daemon)))
        return not left

    with suppress(AssertionError):
        eventually(is_given_back, "everything is given back", 60, 1)
    assert not left, f"not given back: {left}"
    grown = resident_kib(daemon.pid) - resident
    print(f"resident memory grew by {grown} KiB to {resident + grown} KiB")
    assert grown < RESIDENT_GROWTH_KIB_MAX, f"resident memory grew by {grown} KiB"
    assert not [line for line in daemon.log.read_text().splitlines() if '"level":"error"' in line], daemon.tail()


def marker(daemon: Daemon) -> None:
    """The journal is not behind: what is printed now can be read at once."""
    api = daemon.api()
    api.create("soak-marker")
    shell(api, "soak-marker", "echo all is written")
    logs.wait_for(api, "soak-marker", "all is written", 10)
    api.destroy("soak-marker")
    eventually(lambda: waiting(api) == 0, "no record waits to be written", 10)
    api.close()


def waiting(api: Api) -> int:
    found = re.search(r"^sprited_journal_waiting (\d+)$", api.call("GET", "/metrics").text, re.MULTILINE)
    assert found
    return int(found[1])


def settled(daemon: Daemon) -> Footprint:
    """Once two looks in a row agree: what is deleted goes in the background."""
    last = Footprint.of(daemon)

    def agrees() -> bool:
        nonlocal last
        now = Footprint.of(daemon)
        same, last = differences(last, now) == {}, now
        return same

    eventually(agrees, "what was deleted is gone", 60, 1)
    return last


def differences(before: Footprint, after: Footprint) -> dict[str, object]:
    """What there is more of; threads of pools come and go by a few."""
    found: dict[str, object] = {}
    for kind, slack in (("descriptors", 4), ("threads", 4), ("mounts", 0), ("subvolumes", 0)):
        old, new = getattr(before, kind), getattr(after, kind)
        if len(new) > len(old) + slack:
            more = (Counter(new) - Counter(old)).most_common(20)
            found[kind] = f"{len(old)} before, {len(new)} now, with more of {more}"
    left = after.host.added_since(before.host)
    # The shelf is filled again with other names.
    added = {kind: names for kind, names in left.items() if len(names) > len(getattr(before.host, kind) - getattr(after.host, kind))}
    return found | added

