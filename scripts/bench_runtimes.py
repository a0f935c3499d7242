#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What a layer of language runtimes costs: first use with nothing cached, use after that, and a new sprite.

Usage: sudo scripts/bench_runtimes.py --layer FOLDER --base-tar FILE [--base NAME] [--only Python Go …]
           [--rounds 3] [--store local s3] [--latency 20] [--json]

FOLDER is where `sprited runtimes publish default --to FOLDER` put the layer, FILE the base it was
built on, NAME its name.
Cold means: the cache of the host is empty, JuiceFS has just been started, the kernel has dropped what it kept of every
disk. The store is that folder, or a real S3 server (SeaweedFS) whose answers begin after --latency milliseconds more.
Status 1 if a figure is outside its bar. Run it with the Python of the tests, against a release build.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))
os.environ.setdefault("SPRITED_BINARY", str(REPOSITORY / ".build/release/sprited"))

from support.api import Api  # noqa: E402
from support.daemon import Daemon  # noqa: E402
from support.exec import run  # noqa: E402
from support.languages import PROGRAMS, Program  # noqa: E402
from support.objectstore import ObjectStore  # noqa: E402
from support.wait import eventually  # noqa: E402

IMPORTS = "import ssl, json, asyncio"


class DelayingProxy:
    """Passes bytes on; each request waits first, so that its answer begins as much later as on a longer way.

    Answers go through a pipe in the kernel: what this costs must not be taken from what is measured.
    """

    def __init__(self, target: int, milliseconds: float) -> None:
        self.target, self.delay = target, milliseconds / 1000
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.target))
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._ask, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        """Requests are small and follow each other only after the answer: waiting before each is enough."""
        try:
            while data := client.recv(1 << 18):
                time.sleep(self.delay)
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
        except OSError:
            server.close()

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        outlet, inlet = os.pipe()
        try:
            while count := os.splice(server.fileno(), inlet, 1 << 18):
                while count:
                    count -= os.splice(outlet, client.fileno(), count)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            client.close()
        finally:
            for end in (inlet, outlet):
                os.close(end)


class Host:
    """One daemon with the layer from one store."""

    def __init__(self, daemon: Daemon, version: str) -> None:
        self.daemon, self.version = daemon, version
        self.api: Api = daemon.api()
        self.count = 0

    @property
    def mount(self) -> Path:
        """As the daemon sees it: its mounts are in a namespace of its own."""
        return Path(f"/proc/{self.daemon.pid}/root/run/sprited/{self.daemon.tag}/runtimes/{self.version}/mount")

    def processes(self) -> list[int]:
        mark = f"JFS_SUPER_COMM=/run/sprited/{self.daemon.tag}/"
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if (folder / "comm").read_text() == "juicefs\n" and mark in (folder / "environ").read_bytes().decode():
                    found.append(int(folder.name))
            except (OSError, UnicodeDecodeError):
                continue
        return found

    def sprite(self, **options: object) -> str:
        self.count += 1
        name = f"bench-{self.count}"
        self.api.create(name, **options)
        return name

    def forget(self) -> None:
        """Nothing of the layer is anywhere but in the store."""
        before = self.processes()
        for process in before:
            os.kill(process, signal.SIGKILL)
        eventually(lambda: len(set(self.processes()) - set(before)) >= 2, "JuiceFS is there again", 30)
        for entry in (self.daemon.data_directory / "runtimes/cache").iterdir():
            shutil.rmtree(entry, ignore_errors=True)
        # Twice: what the first asked for is dropped by the second.
        os.listdir(self.mount)
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
        time.sleep(1)

    def counters(self) -> dict[str, float]:
        text = (self.mount / ".stats").read_text()
        return {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if len(line.split()) == 2}

    def time(self, sprite: str, script: str) -> float:
        started = time.perf_counter()
        result = run(self.api, sprite, "sh", "-c", script)
        seconds = time.perf_counter() - started
        assert result.code == 0, (script, result)
        return seconds


def prepare(host: Host, sprite: str, program: Program) -> str:
    """Writes the program; returns the command."""
    folder = f"/home/sprite/{program.language.split()[0].lower().replace('+', 'p')}"
    write = f'mkdir -p {folder} && printf %s "$SOURCE" >{folder}/{program.file}'
    done = run(host.api, sprite, "sh", "-c", write, env={"SOURCE": program.source})
    assert done.code == 0, done
    return f"cd {folder} && {program.command} >/dev/null"


class Table:
    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    def add(self, name: str, value: float, unit: str, bar: float | None = None, note: str = "") -> None:
        met = bar is None or value <= bar
        self.rows.append({"name": name, "value": round(value, 3), "unit": unit, "bar": bar, "met": met, "note": note})
        shown = f"{value:10.3f} {unit:4} {'' if bar is None else f'bar {bar:g}':10} {'' if met else 'MISSED'} {note}"
        print(f"{name:48} {shown.rstrip()}", flush=True)


def measure_languages(host: Host, table: Table, store: str, programs: list[Program], rounds: int, bar: float) -> None:
    for program in programs:
        cold, fetched, objects = [], 0.0, 0.0
        for _ in range(rounds):
            sprite = host.sprite()
            command = prepare(host, sprite, program)
            host.time(sprite, "true")
            host.forget()
            before = host.counters()
            cold.append(host.time(sprite, command))
            after = host.counters()
            grown = {key: after[key] - before.get(key, 0) for key in after}
            fetched = sum(value for key, value in grown.items() if "object_request_data_bytes" in key and "GET" in key)
            objects = sum(
                value for key, value in grown.items()
                if "object_request_durations_histogram_seconds" in key and "GET" in key and "_total" in key)
            host.api.destroy(sprite)
        note = f"{fetched / 1e6:.1f} MB in {objects:.0f} objects"
        table.add(f"first use of {program.language}, {store}", statistics.median(cold), "s", bar, note)


def measure_imports(host: Host, table: Table, store: str) -> None:
    sprite = host.sprite()
    host.forget()
    before = host.counters()
    host.time(sprite, f"python3 -c '{IMPORTS}'")
    after = host.counters()

    def grown(*words: str) -> float:
        return sum(value - before.get(key, 0) for key, value in after.items() if all(word in key for word in words))

    fetched = grown("object_request_data_bytes", "GET")
    read = grown("fuse_read_size_bytes_sum")
    note = f"{fetched / 1e6:.2f} / {read / 1e6:.2f} MB"
    table.add(f"fetched / read, python3 -c '{IMPORTS}', {store}", fetched / read, "", 1.5, note)
    host.api.destroy(sprite)


def measure_create(host: Host, table: Table, count: int) -> None:
    times: dict[str, list[float]] = {"with": [], "without": []}
    host.api.destroy(host.sprite())
    for _ in range(count):
        for kind in times:
            started = time.perf_counter()
            sprite = host.sprite(**({} if kind == "with" else {"runtimes": "none"}))
            times[kind].append((time.perf_counter() - started) * 1000)
            host.api.destroy(sprite)
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    note = f"{medians['with']:.1f} / {medians['without']:.1f} ms"
    table.add("create: with the layer minus without", medians["with"] - medians["without"], "ms", 5, note)


def measure_warm(host: Host, table: Table, programs: list[Program], rounds: int) -> None:
    """The same sprite runs the same files, once from the layer and once from a copy on its own disk."""
    sprites = {"layer": host.sprite(), "disk": host.sprite()}
    # A change of each file's time makes overlayfs copy it up, and nothing else.
    copy = "find /usr /opt /etc /var/lib -xdev -type f -print0 | xargs -0 -n 500 touch -c -a -r / 2>/dev/null; true"
    # It copies gigabytes.
    assert run(host.api, sprites["disk"], "sudo", "sh", "-c", copy, timeout=1800).code == 0
    for program in programs:
        commands = {kind: prepare(host, sprite, program) for kind, sprite in sprites.items()}
        times: dict[str, list[float]] = {kind: [] for kind in sprites}
        for round_number in range(rounds + 2):
            for kind, sprite in sprites.items():
                seconds = host.time(sprite, commands[kind])
                if round_number > 1:
                    times[kind].append(seconds)
        layer, disk = statistics.median(times["layer"]), statistics.median(times["disk"])
        note = f"{layer * 1000:.0f} / {disk * 1000:.0f} ms"
        table.add(f"warm {program.language}, layer / disk", layer / disk, "", 1.15, note)
    for sprite in sprites.values():
        host.api.destroy(sprite)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--layer", required=True, type=Path)
    parser.add_argument("--base-tar", required=True, type=Path)
    parser.add_argument("--base", default="debian")
    parser.add_argument("--name", default="default")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--parts", nargs="*", default=["create", "imports", "cold", "warm"])
    parser.add_argument("--store", nargs="*", default=["local", "s3"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    programs = [program for program in PROGRAMS if not options.only or program.language in options.only]
    table = Table()
    scratch = Path(tempfile.mkdtemp(prefix="sprite-bench-", dir="/var/tmp"))
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            del os.environ[name]
    try:
        for store in options.store:
            s3 = None
            daemon = Daemon(scratch / f"{store}-data", scratch / f"{store}.log")
            place = [str(options.layer)]
            if store == "s3":
                s3 = ObjectStore(scratch / "s3")
                os.environ.update(s3.environment)
                s3.start()
                s3.make_bucket("layers")
                proxy = DelayingProxy(s3.ports["s3"], options.latency)
                place = ["s3://layers/bench", "--endpoint", f"http://127.0.0.1:{proxy.port}"]
            daemon.import_base(options.base_tar, options.base)
            if s3:
                copier = Daemon(scratch / "copy-data", scratch / "copy.log")
                # What is published has to be here first; links make that cheap.
                shutil.copytree(options.layer, copier.data_directory / "runtimes/store", copy_function=os.link)
                there = ["--to", place[0], "--endpoint", s3.endpoint]
                copier.tool("runtimes", "publish", options.name, *there, timeout=600)
            version = daemon.tool("runtimes", "pull", options.name, "--from", *place).split()[1].rstrip(":")
            daemon.tool("runtimes", "use", version)
            daemon.start()
            try:
                host = Host(daemon, version)
                info = json.loads(daemon.tool("runtimes", "list", "--json"))[0]
                if store == options.store[0]:
                    table.add("metadata", info["metadata_bytes"] / 1e6, "MB", 10)
                    if "create" in options.parts:
                        measure_create(host, table, 25)
                if "imports" in options.parts:
                    measure_imports(host, table, store)
                if "cold" in options.parts:
                    measure_languages(host, table, store, programs, options.rounds, 2 if s3 else 1)
                if "warm" in options.parts and store == options.store[0]:
                    measure_warm(host, table, programs, options.rounds)
            finally:
                daemon.remove()
                if s3:
                    s3.stop()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if options.json:
        print(json.dumps(table.rows, indent=1))
    return 0 if all(row["met"] for row in table.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
