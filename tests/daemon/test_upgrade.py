# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""A new daemon in the place of the old one under load, and a host that was rebooted.

Both are the same build, unless `SPRITE_OLD_SPRITED_BINARY` names an earlier one.
"""

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from support import logs, programs
from support.api import Api
from support.daemon import Daemon
from support.exec import attach, open_exec, run, shell
from support.reboot import reboot
from support.wait import eventually

OLD = Path(os.environ["SPRITE_OLD_SPRITED_BINARY"]) if "SPRITE_OLD_SPRITED_BINARY" in os.environ else None
COUNTER = "i=0; while :; do i=$((i+1)); echo $i > /home/sprite/count; sleep 0.05; done"
#: With the modules of a minimal Python.
SERVER = (
    "import os, socket\n"
    "server = socket.socket(); server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
    "server.bind(('0.0.0.0', 8080)); server.listen(64)\n"
    "while True:\n"
    "    client, _ = server.accept()\n"
    "    with client:\n"
    "        client.recv(65536)\n"
    "        text = str(os.getpid()).encode()\n"
    "        client.sendall(b'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n%s' % (len(text), text))\n"
)
#: Every value a byte can have, 2 KiB at a time.
BINARY = (
    "import os, sys, time\n"
    "for n in range(1500):\n"
    "    os.write(1, (n * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, 'big') * 256)\n"
    "    time.sleep(0.004)\n"
    "sys.exit(3)\n"
)


class Load:
    """Asks for something over and over, and keeps when it was answered, and how."""

    def __init__(self, ask: Callable[[], str]) -> None:
        self.ask = ask
        self.answers: list[tuple[float, str]] = []
        self.wrong: list[tuple[float, str]] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self.ended.is_set():
            began = time.monotonic()
            try:
                self.answers.append((time.monotonic(), self.ask()))
            except Exception as error:
                self.wrong.append((began, repr(error)))
            time.sleep(0.02)

    def end(self) -> None:
        self.ended.set()
        self.thread.join(60)

    @property
    def longest_break(self) -> float:
        times = [at for at, _ in self.answers]
        return max(b - a for a, b in zip(times, times[1:], strict=False))


def define(api: Api, sprite: str, name: str, *arguments: str, **others: Any) -> None:
    body = {"cmd": arguments[0], "args": list(arguments[1:]), **others}
    api.call("PUT", f"/v1/sprites/{sprite}/services/{name}?duration=100ms", json=body)


def runs(api: Api, sprite: str) -> dict[str, tuple[str, int]]:
    """Of each service its status, and how often it was started again."""
    listed = api.call("GET", f"/v1/sprites/{sprite}/services").json()
    return {one["name"]: (one["state"]["status"], one["state"]["restart_count"]) for one in listed}


def processes_of(daemon: Daemon) -> dict[str, set[int]]:
    """Process ids, as the host has them, of the daemon itself and of what runs in the sprite, by what they are."""
    marks = {"daemon": f"serve --data-dir {daemon.data_directory}", "counter": COUNTER, "web": SERVER}
    found: dict[str, set[int]] = {what: set() for what in marks}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            ours = f"{command} {(folder / 'cgroup').read_text()}"
        except OSError:
            continue
        for what, mark in marks.items():
            if mark in command and (daemon.tag in ours or str(daemon.data_directory) in ours):
                found[what].add(int(folder.name))
    return found


def test_a_new_daemon_takes_over_under_load(new_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    daemon = new_daemon(started=False)
    daemon.program = OLD
    daemon.start()
    api = daemon.api()
    api.create("one")
    define(api, "one", "counter", "sh", "-c", COUNTER)
    define(api, "one", "web", "python3", "-c", SERVER, http_port=8080)
    address, token = daemon.url, daemon.token

    def visit() -> str:
        answer = httpx.get(
            address, headers={"host": "one.sprites.localhost", "authorization": f"Bearer {token}"}, timeout=10
        )
        assert answer.status_code == 200, (answer.status_code, answer.text[:200])
        return answer.text

    def answers() -> bool:
        try:
            return bool(visit())
        except AssertionError:
            return False

    eventually(answers, "the service of the sprite answers", 30)
    counted = int(shell(api, "one", "cat count"))
    before = runs(api, "one")
    assert before == {"counter": ("running", 0), "web": ("running", 0)}
    copy = tmp_path / "elsewhere" / "sprited-new"
    copy.parent.mkdir()
    shutil.copy(programs.sprited(), copy)

    def one_of_each() -> dict[str, set[int]] | None:
        found = processes_of(daemon)
        # A shell's child looks like the shell until it runs its program.
        return found if all(len(those) == 1 for those in found.values()) else None

    processes = eventually(one_of_each, "there is one process of each kind", 10) or {}

    async def begin() -> list[str]:
        script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; echo error $i >&2; sleep 0.002; done; exit 7"
        alone = {"max_run_after_disconnect": "120s"}
        async with (
            open_exec(api, "one", "sh", "-c", script, **alone) as lines,
            open_exec(api, "one", "python3", "-c", BINARY, **alone) as binary,
            open_exec(api, "one", "sh", "-c", "cat; exit 5", stdin=True, **alone) as waiting,
        ):
            await waiting.send(b"before\n")
            await waiting.read_until(b"before\n")
            await lines.read_until(b"line 100\n")
            asyncio.get_running_loop().run_in_executor(None, upgrade)
            sessions = [lines, binary, waiting]
            for result in await asyncio.gather(*(one.finish(60) for one in sessions)):
                assert result.code is None, "an upgrade must not look like an exit"
            return [one.id for one in sessions]

    times: dict[str, float] = {}

    def upgrade() -> None:
        times["asked"] = time.monotonic()
        daemon.terminate()
        daemon.program = copy
        daemon.start()
        times["serves"] = time.monotonic()

    loads = [Load(visit), Load(lambda: run(daemon.api(), "one", "echo", "fine", timeout=20).text)]
    try:
        time.sleep(1)
        identifiers = asyncio.run(begin())
        eventually(lambda: "serves" in times, "the new daemon serves", 60)
        time.sleep(2)
    finally:
        for load in loads:
            load.end()
    api = daemon.api()
    # The new one alone, and the services' own processes, not others like them.
    wanted = {**processes, "daemon": {daemon.pid}}
    eventually(lambda: processes_of(daemon) == wanted, f"there are these processes: {wanted}", 5)
    assert f"{copy}" in Path(f"/proc/{daemon.pid}/cmdline").read_bytes().decode()

    async def collect() -> Any:
        async with (
            attach(api, "one", identifiers[0]) as lines,
            attach(api, "one", identifiers[1]) as binary,
            attach(api, "one", identifiers[2]) as waiting,
        ):
            await waiting.send(b"after\n")
            await waiting.end_input()
            return await asyncio.gather(*(one.finish(60) for one in (lines, binary, waiting)))

    # Not one line is missing, and the end is the command's own.
    result, binary, waiting = asyncio.run(collect())
    assert result.text == "".join(f"line {n}\n" for n in range(1, 3001))
    assert result.stderr.decode() == "".join(f"error {n}\n" for n in range(1, 3001))
    assert result.code == 7
    assert binary.stdout == b"".join((n * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big") * 256 for n in range(1500))
    assert binary.code == 3
    assert (waiting.text, waiting.code) == ("before\nafter\n", 5)
    # Services never stopped; the web server also answers with its process id, always the same.
    assert runs(api, "one") == before
    count = int(shell(api, "one", "cat count") or 0)
    assert count > counted, (count, counted)
    eventually(lambda: int(shell(api, "one", "cat count") or 0) > count, "the service counts on", 10)
    restart = times["serves"] - times["asked"]
    for load in loads:
        assert len({text for _, text in load.answers}) == 1, "every answer is right"
        outside = [one for one in load.wrong if not times["asked"] - 1 < one[0] < times["serves"]]
        assert not outside, outside
        # As long as the restart, and what one request may take on a busy machine.
        assert load.longest_break < restart + 5, (load.longest_break, restart)
    print(f"restart {restart:.2f} s, longest break " + ", ".join(f"{load.longest_break:.2f} s" for load in loads))


def test_sprites_come_back_after_a_reboot(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    api.create("asleep")
    api.create("early", config={"autostart": True})
    assert api.get("early")["config"]["autostart"] is True
    for name in ("asleep", "early"):
        define(api, name, "counter", "sh", "-c", COUNTER)
        shell(api, name, "echo kept > file; sync")
        api.checkpoint(name)
    eventually(lambda: shell(api, "early", "cat count"), "the service counts", 10)
    reboot(daemon)
    daemon.start()
    api = daemon.api()
    assert api.get("asleep")["status"] == "cold"
    eventually(lambda: api.get("early")["status"] == "running", "the other one starts with the daemon", 30)
    eventually(lambda: logs.events(api, "early", event="sprite.autostarted"), "it is recorded why it runs", 20)
    eventually(lambda: runs(api, "early")["counter"][0] == "running", "the service runs", 5)
    assert runs(api, "early")["counter"][0] == "running"
    assert api.get("asleep")["status"] == "cold"
    for name in ("asleep", "early"):
        assert shell(api, name, "cat file") == "kept\n"
        eventually(lambda name=name: runs(api, name)["counter"][0] == "running", f"the service of {name} runs", 5)
        api.restore(name, "v1")
        assert shell(api, name, "cat file") == "kept\n"


def test_autostart_is_switched_off_again(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    api.create("one", config={"autostart": True})
    api.update("one", config={"autostart": False})
    assert "autostart" not in api.get("one")["config"]
    daemon.terminate()
    daemon.tool("cleanup")
    daemon.start()
    time.sleep(1)
    assert daemon.api().get("one")["status"] == "cold"
