# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""kill -9 of the daemon: processes go on, sessions are listed again, not one byte is missing."""

import asyncio
import signal
import sqlite3
import time
from collections.abc import Callable

from support.api import Api
from support.daemon import Daemon
from support.exec import Result, attach, open_exec, run, shell
from support.host import subvolumes
from support.wait import eventually

PRINTER = "i=0; while [ $i -lt {count} ]; do i=$((i+1)); echo line $i; echo error $i >&2; sleep {pause}; done; exit 9"


def expected(word: str, count: int) -> str:
    return "".join(f"{word} {number}\n" for number in range(1, count + 1))


async def start_and_crash(daemon: Daemon, api: Api, name: str, *arguments: str, wanted: bytes, **options: object) -> str:
    async with open_exec(api, name, *arguments, max_run_after_disconnect="60s", **options) as session:  # type: ignore[arg-type]
        await session.read_until(wanted)
        daemon.kill()
        result = await session.finish(10)
        assert result.code is None, "a daemon that died must not look like an exit"
        return session.id


async def collect(api: Api, name: str, session: str) -> Result:
    async with attach(api, name, session) as attached:
        return await attached.finish(60)


def test_a_printing_session_survives_without_a_gap(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    api.create("one")
    script = PRINTER.format(count=400, pause="0.01")
    identifier = asyncio.run(start_and_crash(daemon, api, "one", "sh", "-c", script, wanted=b"line 50\n"))
    time.sleep(1)
    daemon.start()
    api = daemon.api()
    (listed,) = api.sessions("one")
    assert (listed["id"], listed["tty"], "sh -c" in listed["command"]) == (identifier, False, True)
    result = asyncio.run(collect(api, "one", identifier))
    assert result.text == expected("line", 400)
    assert result.stderr.decode() == expected("error", 400)
    assert result.code == 9


def test_a_fast_printer_loses_nothing_through_many_crashes(new_daemon: Callable[..., Daemon]) -> None:
    """Several megabytes a second, ten crashes; each line is numbered, and a file inside says how far it came."""
    daemon = new_daemon()
    api = daemon.api()
    api.create("one")
    script = "i=0; while [ $i -lt 150000 ]; do i=$((i+1)); echo line $i; done; exit 3"
    identifier = asyncio.run(start_and_crash(daemon, api, "one", "sh", "-c", script, wanted=b"line 1000\n"))
    for round_number in range(9):
        daemon.start()
        time.sleep(0.05 * round_number)
        daemon.kill()
    daemon.start()
    result = asyncio.run(collect(daemon.api(), "one", identifier))
    assert result.code == 3
    assert result.text == expected("line", 150_000)


def test_a_command_that_ended_meanwhile_still_tells_its_end(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    api.create("one")
    script = "echo ready; sleep 0.5; echo last; touch /home/sprite/done; exit 5"
    identifier = asyncio.run(start_and_crash(daemon, api, "one", "sh", "-c", script, wanted=b"ready\n"))
    time.sleep(1)
    daemon.start()
    api = daemon.api()
    assert shell(api, "one", "ls done") == "done\n"
    listed = [one["id"] for one in api.sessions("one")]
    if identifier in listed:
        result = asyncio.run(collect(api, "one", identifier))
        assert (result.text, result.code) == ("ready\nlast\n", 5)


def test_input_goes_on_after_a_restart(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    api.create("one")
    identifier = asyncio.run(
        start_and_crash(daemon, api, "one", "sh", "-c", "echo ready; cat; exit 4", wanted=b"ready\n", stdin=True)
    )
    daemon.start()

    async def resume() -> Result:
        async with attach(daemon.api(), "one", identifier) as session:
            await session.send(b"after the crash\n")
            await session.end_input()
            return await session.finish(10)

    result = asyncio.run(resume())
    assert (result.text, result.code) == ("ready\nafter the crash\n", 4)


def test_a_terminal_survives_with_its_size_and_its_shell(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    api.create("one")

    async def begin() -> str:
        async with open_exec(api, "one", "bash", "--norc", "-i", tty=True, stdin=True, rows=33, cols=99) as session:
            await session.send(b"x=kept; echo sum-$((1+1))\n")
            await session.read_until(b"sum-2")
            daemon.kill()
            return session.id

    identifier = asyncio.run(begin())
    daemon.start()

    async def resume() -> Result:
        async with attach(daemon.api(), "one", identifier) as session:
            assert session.is_terminal
            await session.send(b"stty size; echo <$x>-$((2+2))\n".replace(b"<$x>", b"$x"))
            await session.read_until(b"kept-4")
            await session.control(type="resize", rows=44, cols=88)
            await session.send(b"stty size; exit 2\n")
            return await session.finish(10)

    result = asyncio.run(resume())
    assert b"sum-2" in result.stdout and b"33 99" in result.stdout and b"44 88" in result.stdout
    assert result.code == 2


def test_a_crash_during_a_checkpoint_never_leaves_a_sprite_frozen(new_daemon: Callable[..., Daemon]) -> None:
    import threading

    daemon = new_daemon()
    api = daemon.api()
    api.create("one")
    for delay in (0.0, 0.002, 0.005, 0.01, 0.02, 0.05):
        client = daemon.api()
        thread = threading.Thread(target=lambda client=client: _ignore(lambda: client.checkpoint("one")))  # type: ignore[misc]
        thread.start()
        time.sleep(delay)
        daemon.kill()
        thread.join()
        daemon.start()
        assert shell(daemon.api(), "one", "echo alive", timeout=20) == "alive\n"
    listed = daemon.api().checkpoints("one")
    for entry in listed[:3]:
        daemon.api().restore("one", entry["id"])


def _ignore(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:
        pass


def test_a_graceful_stop_ends_connections_without_an_exit_and_keeps_sprites(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    api.create("one")

    async def scenario() -> tuple[str, Result]:
        script = PRINTER.format(count=300, pause="0.01")
        async with open_exec(api, "one", "sh", "-c", script, max_run_after_disconnect="60s") as session:
            await session.read_until(b"line 20\n")
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGTERM)
            return session.id, await session.finish(20)

    identifier, result = asyncio.run(scenario())
    assert result.code is None and result.close_code in (1001, 1006, None)
    eventually(lambda: not daemon.runs, "the daemon ended", 20)
    daemon.start()
    resumed = asyncio.run(collect(daemon.api(), "one", identifier))
    assert (resumed.text, resumed.code) == (expected("line", 300), 9)


def test_the_state_of_the_machine_survives_a_restart(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    api.create("one", labels=["kept"], config={"ram_mb": 256, "pids": 100}, environment={"A": "1"})
    shell(api, "one", "echo memory > /tmp/in-memory; echo disk > file")
    api.checkpoint("one", "kept too")
    before = api.get("one")
    token = daemon.token
    daemon.restart()
    api = daemon.api()
    assert daemon.token == token
    after = api.get("one")
    for key in ("id", "name", "labels", "config", "environment", "created_at"):
        assert before[key] == after[key], key
    assert api.checkpoints("one")[0]["comment"] == "kept too"
    assert shell(api, "one", "cat /tmp/in-memory file; echo $A") == "memory\ndisk\n1\n"
    assert run(api, "one", "ping", "-c1", "-W2", "127.0.0.1").code == 0
    api.restore("one", "v1")
    assert shell(api, "one", "cat file") == "disk\n"


def test_a_disk_without_a_row_is_reported_and_stays(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    identity = api.create("lost")["id"]
    shell(api, "lost", "echo precious > file")
    api.checkpoint("lost")
    pool = daemon.data_directory / "pool"
    disks = [path for path in subvolumes(daemon.pid, pool) if identity.removeprefix("sprite-") in path]
    assert disks
    daemon.kill()
    # As after a registry that came back from an older backup.
    with sqlite3.connect(daemon.data_directory / "registry.db") as registry:
        registry.execute("PRAGMA foreign_keys = ON")
        assert registry.execute("DELETE FROM sprites WHERE name = 'lost'").rowcount == 1
    registry.close()
    daemon.start()
    api = daemon.api()
    assert api.all_sprites() == []
    line = next(line for line in daemon.log.read_text().splitlines() if "belongs to no known sprite" in line)
    assert '"level":"error"' in line and identity.removeprefix("sprite-") in line
    assert [path for path in subvolumes(daemon.pid, pool) if path in disks] == disks
    # The name is free, and the new sprite has nothing to do with it.
    assert api.create("lost")["id"] != identity
    assert shell(api, "lost", "ls") == ""
