# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Runtimes layers in object storage: what cannot be read is named, and what is used together is fetched together."""

import contextlib
import ctypes
import hashlib
import mmap
import os
import shutil
import signal
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from support import logs
from support.api import Api
from support.daemon import Daemon
from support.exec import Result, run, shell
from support.objectstore import ObjectStore
from support.relays import LateClock
from support.wait import eventually

# Numbers do not repeat: each file is an object, or several, of its own.
RECIPE = """\
name: parts
script: |
  mkdir -p /opt/parts
  seq 1 900000 >/opt/parts/first
  seq 1000001 1900000 >/opt/parts/second
  seq 2000001 2900000 >/opt/parts/third
  seq 3000001 3900000 >/opt/parts/other
  for i in $(seq 50); do echo "small $i" >/opt/parts/small-$i; done
"""
COMMANDS = """\
# The use of the first three.
cat /opt/parts/first >/dev/null; sleep 0.2; cat /opt/parts/small-7 /opt/parts/second /opt/parts/third >/dev/null

cat /opt/parts/other >/dev/null
"""


@pytest.fixture(scope="module")
def built(scratch: Path, base: Path) -> Iterator[tuple[Daemon, str]]:
    """A daemon with a layer whose profile was recorded, and its version."""
    daemon = Daemon(scratch / "built", scratch / "built.log")
    daemon.import_base(base)
    daemon.start()
    recipe = scratch / "parts.yaml"
    recipe.write_text(RECIPE)
    (scratch / "commands").write_text(COMMANDS)
    first = daemon.tool("runtimes", "build", str(recipe)).split()[1]
    profile = scratch / "parts.profile"
    daemon.tool("runtimes", "profile", first, "--commands", str(scratch / "commands"), "--to", str(profile))
    recipe.write_text(RECIPE + "profile: parts.profile\n")
    second = daemon.tool("runtimes", "build", str(recipe)).split()[1]
    yield daemon, second
    daemon.finish()


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    store = ObjectStore(tmp_path / "s3")
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    store.start()
    store.make_bucket("layers")
    yield store
    store.stop()


def place(s3: ObjectStore) -> list[str]:
    return ["s3://layers/some/where", "--endpoint", s3.endpoint]


@pytest.fixture
def far(built: tuple[Daemon, str], s3: ObjectStore, new_daemon: Callable[..., Daemon]) -> Daemon:
    """Another daemon, which has the layer from the bucket and nothing of it cached."""
    daemon, version = built
    daemon.tool("runtimes", "publish", version, "--to", *place(s3))
    other = new_daemon()
    other.tool("runtimes", "pull", version, "--from", *place(s3))
    other.tool("runtimes", "use", version)
    return other


def forget(daemon: Daemon) -> None:
    """Nothing of a layer is cached: neither on the disk nor by the kernel."""
    shutil.rmtree(daemon.data_directory / "runtimes/cache", ignore_errors=True)
    Path("/proc/sys/vm/drop_caches").write_text("3")


def is_forgotten(daemon: Daemon, name: str) -> bool:
    """Forgets, and says whether nothing that was under way has brought it back."""
    forget(daemon)
    time.sleep(1)
    return cached(daemon) == 0 and in_memory(daemon, name) == 0


def cached(daemon: Daemon) -> int:
    """Bytes that came from the store."""
    return sum(path.stat().st_size for path in (daemon.data_directory / "runtimes/cache").rglob("*_*_*") if path.is_file())


def in_memory(daemon: Daemon, name: str) -> float:
    """How much of a file of the layer the kernel holds of what JuiceFS gave it, of 1."""
    (folder,) = Path(f"/proc/{daemon.pid}/root/run/sprited/{daemon.tag}/runtimes").glob("parts@*")
    (metadata,) = (daemon.data_directory / "runtimes/store/layers").glob("parts/*/meta.db")
    with contextlib.closing(sqlite3.connect(f"file:{metadata}?immutable=1", uri=True)) as database:
        ((inode,),) = database.execute("SELECT inode FROM jfs_edge WHERE CAST(name AS TEXT) = ?", [name]).fetchall()
    places = {one: rest for one, *rest in struct.iter_unpack("<4q", (folder / "layout").read_bytes())}
    part, start, size = places[inode]
    with (folder / "mount" / str(part)).open("rb") as file:
        return resident(file.fileno(), start, size)


def resident(descriptor: int, start: int, size: int) -> float:
    """How much of a part of an open file is in the kernel's memory, of 1; `start` is that of a page."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    library.mincore.argtypes = library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    pages = (ctypes.c_ubyte * ((size + mmap.PAGESIZE - 1) // mmap.PAGESIZE))()
    address = library.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, start)
    assert library.mincore(address, size, pages) == 0, os.strerror(ctypes.get_errno())
    library.munmap(address, size)
    return sum(page & 1 for page in pages) / len(pages)


def read(api: Api, name: str) -> Result:
    return run(api, "far", "sh", "-c", f"cat /opt/parts/{name} >/dev/null")


def why(api: Api) -> list[str]:
    """What the sprite's journal says about reads that failed."""
    return [one["text"] for one in logs.events(api, "far", kind="system") if one["event"] == "runtimes.unreadable"]


def test_a_profile_names_what_each_command_read(built: tuple[Daemon, str], scratch: Path) -> None:
    groups = [group.splitlines() for group in (scratch / "parts.profile").read_text().split("\n\n")]
    wanted = [[line.partition("\t") for line in group if line.startswith("/opt/parts/")] for group in groups]
    named = [[(path, blocks) for path, _, blocks in group] for group in wanted if group]
    # Units of 64 KiB of 6.2 and 7.2 megabytes.
    uses = [("first", "0-94"), ("small-7", ""), ("second", "0-109"), ("third", "0-109")]
    assert named == [
        [(f"/opt/parts/{name}", units) for name, units in uses],
        [("/opt/parts/other", "0-109")],
    ]
    daemon, version = built
    assert "whole" in daemon.tool("runtimes", "check", version)


def test_what_is_used_together_is_fetched_together(far: Daemon) -> None:
    api = far.api()
    api.create("far")
    before = cached(far)
    # One byte of the first file: the rest of it, and the others, were not asked for by anybody.
    assert run(api, "far", "sh", "-c", "head -c 1 /opt/parts/first").text == "1"
    eventually(lambda: cached(far) - before > 3 * 6_000_000, "the files of that use come", 20)
    assert cached(far) - before < 4 * 6_000_000, "what another use reads came as well"
    # And from there into the kernel's memory, where a program finds it without asking anybody.
    for name in ("first", "second", "third"):
        eventually(lambda name=name: in_memory(far, name) == 1, f"{name} is read ahead", 20)
    assert in_memory(far, "other") == 0


def test_what_cannot_be_read_is_named(far: Daemon, built: tuple[Daemon, str], s3: ObjectStore) -> None:
    version = built[1]
    api = far.api()
    api.create("far")
    folder = far.data_directory / f"runtimes/store/layers/{version.replace('@', '/')}"
    keys = [key for key in (folder / "objects").read_text().split() if key.endswith("_0_4194304")]
    url = f"http://127.0.0.1:{s3.ports['filer']}/buckets/layers/some/where/"
    content = {key: httpx.get(url + key, trust_env=False).content for key in keys}

    def put(key: str, data: bytes) -> None:
        headers = {"content-type": "application/octet-stream"}
        assert httpx.put(url + key, content=data, headers=headers, trust_env=False).status_code < 300

    def fails(*words: str) -> None:
        def named() -> bool:
            forget(far)
            names = ("first", "second", "third", "other")
            assert any(b"Input/output error" in read(api, name).stderr for name in names)
            return any(all(word in text for word in (version, *words)) for text in why(api))

        # What was not readable once is tried again after a while only.
        eventually(named, f"the journal names {words}", 60, 0.5)

    missing, damaged = keys[:2]
    s3.filer("DELETE", f"/buckets/layers/some/where/{missing}")
    fails(missing, "it is missing at s3://layers/some/where", f"publish {version} there again")
    # Publishing again brings it back.
    built[0].tool("runtimes", "publish", version, "--to", *place(s3))
    put(damaged, content[damaged][:1000] + b"damage" + content[damaged][1006:])
    fails(damaged, "it is damaged at s3://layers/some/where", f"delete it there and publish {version} again")
    put(damaged, content[damaged])
    forget(far)
    eventually(lambda: all(read(api, name).code == 0 for name in ("first", "second", "third", "other")),
               "what was put right is read", 60, 0.5)  # fmt: skip

    s3.filer("DELETE", "/buckets/layers", recursive="true")
    fails("chunks/", "there is no bucket 'layers'", "create it first")

    # A daemon whose credentials are wrong: nothing that it needs to begin, but everything that is read.
    s3.make_bucket("layers")
    api.destroy("far")
    far.terminate()
    end_juicefs(far)
    far.start(environment={"AWS_SECRET_ACCESS_KEY": "wrong"})
    api = far.api()
    api.create("far")
    fails("chunks/", "refuses the signature; check AWS_SECRET_ACCESS_KEY")


def test_a_clock_that_is_wrong_is_named(
    built: tuple[Daemon, str], s3: ObjectStore, new_daemon: Callable[..., Daemon]
) -> None:
    daemon, version = built
    daemon.tool("runtimes", "publish", version, "--to", *place(s3))
    clock = LateClock(s3.ports["s3"])
    way = ["s3://layers/some/where", "--endpoint", f"http://127.0.0.1:{clock.port}"]
    far = new_daemon()
    clock.is_late = True
    refused = far.tool("runtimes", "pull", version, "--from", *way, expect=1)
    assert "differs from this host's; set the time of both" in refused
    clock.is_late = False
    far.tool("runtimes", "pull", version, "--from", *way)
    far.tool("runtimes", "use", version)
    api = far.api()
    api.create("far")
    clock.is_late = True
    assert b"Input/output error" in read(api, "other").stderr
    eventually(
        lambda: any(version in text and "chunks/" in text and "set the time of both" in text for text in why(api)),
        f"the journal names the clock: {why(api)}", 20)  # fmt: skip
    clock.is_late = False
    eventually(lambda: read(api, "other").code == 0, "it is read once the clock is right", 60, 0.5)
    clock.close()


def test_a_store_that_hangs_holds_nobody_up_for_long(far: Daemon, s3: ObjectStore) -> None:
    """It takes connections and requests, and answers none: worse than one that is gone."""
    api = far.api()
    api.create("far")
    shell(api, "far", "echo lives >/dev/shm/note")
    assert read(api, "first").code == 0 and read(api, "second").code == 0 and read(api, "third").code == 0
    Path("/proc/sys/vm/drop_caches").write_text("3")
    with hanging(s3):
        assert read(api, "first").code == 0, "what is cached works"
        begin = time.monotonic()
        lost = read(api, "other")
        assert b"Input/output error" in lost.stderr, lost
        # 5 s for an attempt, and few attempts; without a bound it would be for ever.
        assert time.monotonic() - begin < 120
        assert read(api, "second").code == 0
    numbers = "".join(f"{number}\n" for number in range(3000001, 3900001))
    whole = f"{hashlib.sha256(numbers.encode()).hexdigest()}  -\n"
    # What the kernel has not got is another matter: JuiceFS gives nothing more of it until it is started anew.
    eventually(
        lambda: is_forgotten(far, "other") and run(api, "far", "sh", "-c", "sha256sum </opt/parts/other").text == whole,
        "all of it is read again", 60, 0.5)  # fmt: skip

    # JuiceFS dies with a request of a reader that it has sent on, and that no answer came for.
    eventually(lambda: is_forgotten(far, "other"), "what is fetched ahead has come, and is gone", 20, 0.5)
    with hanging(s3), ThreadPoolExecutor() as threads:
        reader = threads.submit(run, api, "far", "sh", "-c", "sha256sum </opt/parts/other", timeout=180)
        eventually(lambda: waits_for(s3), "the store has a request and does not answer", 20)
        assert not reader.done()
        end_juicefs(far)
        s3.resume()
        done = reader.result()
    assert done.text == whole or b"Input/output error" in done.stderr, done
    eventually(lambda: run(api, "far", "sha256sum", "/opt/parts/other").text.split()[:1] == whole.split()[:1],
               "reading works again", 30, 0.5)  # fmt: skip
    assert shell(api, "far", "cat /dev/shm/note") == "lives\n", "the sprite was stopped"

    # The same layer with little room on this host's disk: twice as much is read through it as may be kept.
    api.destroy("far")
    far.terminate()
    end_juicefs(far)
    forget(far)
    far.options = ["--runtimes-cache", "12M"]
    api = far.start().api()
    api.create("far")
    for name, start in [("first", 1), ("second", 1000001), ("third", 2000001), ("other", 3000001)]:
        assert run(api, "far", "sh", "-c", f"head -n 1 /opt/parts/{name}; wc -l </opt/parts/{name}").text == f"{start}\n900000\n"
    eventually(lambda: 0 < cached(far) <= 12 << 20, f"the folder shrinks below its bound: {cached(far)}", 30, 0.3)


@contextlib.contextmanager
def hanging(s3: ObjectStore) -> Iterator[None]:
    s3.pause()
    try:
        yield
    finally:
        s3.resume()


def waits_for(s3: ObjectStore) -> bool:
    """Whether the kernel holds something for the store that it has not read."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # Local address, and the queues of what is sent and received, in hexadecimal; not the queue of those that listen.
    return any(
        int(row[1].split(":")[1], 16) == s3.ports["s3"] and row[3] != "0A" and int(row[4].split(":")[1], 16) > 0 for row in rows)


def end_juicefs(daemon: Daemon) -> None:
    for folder in Path("/run/sprited", daemon.tag, "runtimes").glob("*@*"):
        with_process = folder / "process"
        if with_process.exists():
            os.killpg(int(with_process.read_text().split()[0]), signal.SIGKILL)
