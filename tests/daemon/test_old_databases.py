# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Data directories of every schema there was, with their disks: today's daemon finds all that is in them again.

The databases are made from what was recorded of each schema (`Tests/Fixtures`), not with today's code.
"""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support import logs
from support.api import Api
from support.daemon import Daemon
from support.exec import shell

FIXTURES = Path(__file__).resolve().parents[2] / "Tests/Fixtures"
REGISTRIES = sorted((FIXTURES / "registry").glob("*.sql"))
JOURNALS = sorted((FIXTURES / "journal").glob("*.sql"))
#: What the checkpoints of the recorded registries hold on the disk that the test makes.
HELD = {"v1": "one", "auto-1": "replaced", "v2": "two"}


def make_disks(api: Api) -> dict[str, str]:
    """Sprites with the names and checkpoints of the recorded ones; the ids that take the place of theirs."""
    api.create("first")
    for identifier in ("v1", "v2"):
        shell(api, "first", f"echo {HELD[identifier]} > data")
        assert api.checkpoint("first") == identifier
        if identifier == "v1":
            shell(api, "first", f"echo {HELD['auto-1']} > data")
            api.restore("first", "v1")
    shell(api, "first", "echo live > data")
    api.create("second")
    ids = [api.get(name)["id"].removeprefix("sprite-") for name in ("first", "second")]
    return {"00000000000000a1": ids[0], "00000000000000b2": ids[1], "'debian'": "'default'"}


def replace(database: Path, recorded: Path, replaced: dict[str, str]) -> sqlite3.Connection:
    for old in database.parent.glob(f"{database.name}*"):
        old.unlink()
    text = recorded.read_text()
    for before, after in replaced.items():
        text = text.replace(before, after)
    connection = sqlite3.connect(database, isolation_level=None)
    # A dump has tables in the order of their names.
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.executescript(text)
    return connection


def install(daemon: Daemon, registry: Path, journal: Path, replaced: dict[str, str]) -> None:
    connection = replace(daemon.data_directory / "registry.db", registry, replaced)
    columns = {row[1] for row in connection.execute("PRAGMA table_info(sprites)")}
    # This host may have neither that runtime nor that layer, without which the sprite would be refused.
    for column in columns & {"oci_runtime", "runtimes"}:
        connection.execute(f"UPDATE sprites SET {column} = NULL")
    connection.close()
    connection = replace(daemon.data_directory / "journal.db", journal, replaced)
    # Young enough to be kept.
    began = time.time_ns() - 3600 * 10**9
    connection.execute("UPDATE records SET time = time + ?", (began,))
    connection.execute("UPDATE marks SET earliest = earliest + ?, latest = latest + ?", (began, began))
    connection.close()


def look(api: Api, version: int) -> None:
    assert [one["name"] for one in api.all_sprites()] == ["first", "second"]
    first = api.get("first")
    assert first["url_settings"]["auth"] == "public" and first["labels"] == ["a", "b"], first
    assert ("autostart" in first["config"]) == (version >= 10), first
    assert shell(api, "first", "echo $KEY; cat data") == "value\nlive\n"
    listed = {entry["id"]: entry for entry in api.checkpoints("first", automatic=True)}
    assert listed.keys() == {"v0", *HELD}, listed
    assert listed["v1"]["comment"] == "kept"
    # Writes every column, so one that is missing shows.
    api.update("first", labels=["c"])
    assert api.get("first")["labels"] == ["c"]
    # What is on the disk stays, so a different one each time, and not with each, is enough.
    if version % 5 == 1:
        identifier = sorted(HELD)[version % len(HELD)]
        api.fork("first", "forked", identifier)
        assert shell(api, "forked", "cat data") == f"{HELD[identifier]}\n"
        api.destroy("forked")
    assert logs.texts(api, "first", kind="process", q="hello") == ["hello from before"]
    written = logs.texts(api, "first")
    assert {"hello from before", "two", "lines", "made v1"} <= set(written), written


def count_schemas(daemon: Daemon) -> None:
    """Whoever adds a schema has to record it; what was recorded stays as it is."""
    registry = sqlite3.connect(f"file:{daemon.data_directory}/registry.db?mode=ro", uri=True)
    assert registry.execute("SELECT COUNT(*) FROM grdb_migrations").fetchone() == (len(REGISTRIES),)
    journal = sqlite3.connect(f"file:{daemon.data_directory}/journal.db?mode=ro", uri=True)
    assert journal.execute("PRAGMA user_version").fetchone() == (len(JOURNALS),)
    registry.close()
    journal.close()


@pytest.mark.timeout(600)
def test_data_of_every_schema_is_found_again(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    count_schemas(daemon)
    replaced = make_disks(daemon.api())
    # The oldest last, since that one is changed as well.
    for version in range(len(REGISTRIES), 0, -1):
        daemon.terminate()
        daemon.tool("cleanup")
        try:
            install(daemon, REGISTRIES[version - 1], JOURNALS[version % len(JOURNALS)], replaced)
            daemon.start()
            look(daemon.api(), version)
        except BaseException:
            print(f"with {REGISTRIES[version - 1].name}")
            raise
    api = daemon.api()
    api.restore("first", "v2")
    assert shell(api, "first", "cat data") == "two\n"
    made = api.checkpoint("first", "made now")
    assert made not in {"v0", *HELD}
    api.create("third")
    daemon.restart()
    assert {one["name"] for one in daemon.api().all_sprites()} == {"first", "second", "third"}
    assert made in {entry["id"] for entry in daemon.api().checkpoints("first")}
