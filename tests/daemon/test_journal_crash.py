# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Nothing is lost silently: killed daemons, output while nobody was there, a full disk of the journal."""

import contextlib
import itertools
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from support.api import Api
from support.daemon import Daemon
from support.exec import shell
from support.fixtures import fresh_name
from support.logs import all_output, database, events, output, records, texts, wait_for
from support.wait import eventually

#: How often the daemon is killed under full load.
ROUNDS = int(os.environ.get("SPRITE_JOURNAL_ROUNDS", "4"))
#: What is this much older than the kill must be in the database; the documented 100 ms with room for a busy machine.
OLD_ENOUGH = 1.0
#: Prints numbered lines for ever, in bursts.
COUNTER = "import sys,time\ni=0\nwhile 1:\n sys.stdout.write(''.join('line %d of the counter\\n'%(i+k) for k in range(200)))\n sys.stdout.flush()\n i+=200\n time.sleep(0.002)"


def start_service(api: Api, sprite: str, name: str, *command: str) -> None:
    api.call("PUT", f"/v1/sprites/{sprite}/services/{name}?duration=100ms", json={"cmd": command[0], "args": command[1:]})


class Caller:
    """Runs one command after the other, whoever is there to take it, and notes which were answered when."""

    def __init__(self, api: Api, sprite: str) -> None:
        self.answered: dict[str, float] = {}
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(api, sprite), daemon=True)
        self._thread.start()

    def _run(self, api: Api, sprite: str) -> None:
        with httpx.Client(base_url=api.url, headers=api.http.headers, trust_env=False, timeout=30) as client:
            for number in itertools.count():
                if self._ends.is_set():
                    return
                word = f"call-{number}"
                try:
                    answer = client.post(f"/v1/sprites/{sprite}/exec", params=[("cmd", "echo"), ("cmd", word)])
                    if answer.status_code == 200:
                        self.answered[word] = time.monotonic()
                except httpx.TransportError:
                    time.sleep(0.02)

    def end(self) -> None:
        self._ends.set()
        self._thread.join(60)


def counted(connection: sqlite3.Connection, sprite: str) -> Iterator[int]:
    """The numbers that a counter printed, as the journal has them."""
    question = (
        "SELECT text, partial FROM log WHERE sprite = ? AND service = 'counter' AND stream = 'stdout' ORDER BY id"
    )
    begun = ""
    for text, goes_on in connection.execute(question, [sprite]):
        lines = (begun + text).split("\n")
        begun = lines.pop() if goes_on else ""
        for line in lines:
            yield int(line.split()[1])


@pytest.mark.timeout(240 + 20 * ROUNDS)
def test_kill_under_load_loses_and_repeats_nothing(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    names = [fresh_name(), fresh_name()]
    for name in names:
        api.create(name)
        start_service(api, name, "counter", "python3", "-c", COUNTER)
    caller = Caller(api, names[0])
    safe: set[str] = set()
    started = 0.0
    for round_number in range(ROUNDS):
        time.sleep(OLD_ENOUGH + 0.1 * (1 + round_number % 5))
        safe |= {word for word, at in caller.answered.items() if started < at < time.monotonic() - OLD_ENOUGH}
        daemon.kill()
        with contextlib.closing(database(daemon.data_directory)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            rows = connection.execute("SELECT text FROM log WHERE event = 'exec.started'")
            missing = safe - {text.split()[-1] for (text,) in rows}
            assert not missing
        time.sleep(0.1)
        daemon.start()
        started = time.monotonic()
    caller.end()
    time.sleep(0.3)
    for name in names:
        api.call("POST", f"/v1/sprites/{name}/services/signal", 204, json={"name": "counter", "signal": "STOP"})
    eventually(lambda: "sprited_journal_output_waiting_bytes 0\n" in api.call("GET", "/metrics").text, "all is recorded", 30)
    with contextlib.closing(database(daemon.data_directory)) as connection:
        for name in names:
            expected = 0
            for number in counted(connection, name):
                assert number == expected, f"{number} came where {expected} was expected"
                expected += 1
            assert expected > 1000
            assert not events(api, name, event="output.dropped")
        said = [text for (text,) in connection.execute("SELECT text FROM log WHERE text LIKE 'call-%' AND stream = 'stdout'")]
    assert len(said) == len(set(said)), "a command's output is there twice"
    missing = safe - set(said)
    assert len(safe) >= ROUNDS and not missing


def test_what_was_printed_while_no_daemon_was_there_is_recorded_once(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    name = fresh_name()
    api.create(name)
    start_service(api, name, "late", "sh", "-c", "echo before; sleep 2; echo while-away; sleep 2; echo back; sleep 60")
    wait_for(api, name, "before", service="late")
    daemon.kill()
    time.sleep(2.5)
    daemon.start()
    wait_for(api, name, "back", service="late")
    assert [one["text"] for one in output(api, name, service="late")] == ["before", "while-away", "back"]
    assert len(events(api, name, event="exec.started", service="late")) == 1


def test_short_commands_before_a_kill_are_whole(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    name = fresh_name()
    api.create(name)
    for number in range(10):
        shell(api, name, f"echo short {number}")
    time.sleep(0.2)
    daemon.kill()
    daemon.start()
    assert [one["text"] for one in output(api, name)] == [f"short {number}" for number in range(10)]
    assert len(events(api, name, event="exec.ended")) == 10
    assert len(events(api, event="daemon.started")) == 2


def test_every_byte_of_a_flood_is_recorded_or_counted(api: Api, sprite: str) -> None:
    line = "0123456789" * 9 + "012345678"
    shell(api, sprite, f"yes {line} | head -c 20000000", timeout=60)
    eventually(lambda: events(api, sprite, event="exec.ended"), "it ended", 60)
    question = f"SELECT sum(length(text) + 1) FROM log WHERE sprite = '{sprite}' AND stream = 'stdout'"
    recorded = api.call("POST", "/v1/logs/query", json={"sql": question}).json()["rows"][0][0]
    dropped = sum(one["fields"]["bytes"] for one in events(api, sprite, event="output.dropped"))
    if dropped:
        # A gap may begin and end within a line.
        assert abs(recorded + dropped - 20_000_000) < 10_000
    else:
        assert recorded == 20_000_000


def test_a_journal_that_cannot_be_written_says_how_much_is_missing(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    name = fresh_name()
    api.create(name)
    limit = (daemon.data_directory / "journal.db-wal").stat().st_size
    os.system(f"prlimit --pid {daemon.pid} --fsize={limit + 4096}:unlimited")
    try:
        assert shell(api, name, "echo the sprite goes on; seq 1 5000") != ""
        time.sleep(1)
        assert texts(api, name, regex="^5000$", stream="stdout") == []
    finally:
        os.system(f"prlimit --pid {daemon.pid} --fsize=unlimited:unlimited")
    wait_for(api, name, "5000", stream="stdout")
    assert [one["text"] for one in output(api, name, stream="stdout")][-5000:] == [str(n) for n in range(1, 5001)]
    assert records(api, event="journal.resumed")
