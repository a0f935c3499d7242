# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Layers from a store that somebody else fills: what describes them leads nowhere but to their own place."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.hostilestore import HostileStore

VERSION = "x@0123456789ab"
PLACE = "some/layers/x/0123456789ab"


def layer(base: str = "default") -> dict[str, bytes]:
    metadata = b"hello"
    facts = {
        "name": "x", "version": "0123456789ab", "base": base, "entries": 1, "objects": 0, "created_at": 1, "size_bytes": 1,
        "stored_bytes": 1, "metadata_bytes": len(metadata), "metadata_sha256": hashlib.sha256(metadata).hexdigest(),
    }  # fmt: skip
    described = json.dumps(facts).encode()
    return {
        f"{PLACE}/layer.json": described, f"{PLACE}/meta.db": metadata, f"{PLACE}/objects": b"",
        "some/layers/x/latest.json": described,
    }  # fmt: skip


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, bytes]], HostileStore]]:
    made: list[HostileStore] = []
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")

    def start(objects: dict[str, bytes]) -> HostileStore:
        made.append(HostileStore(objects))
        return made[-1]

    yield start
    for store in made:
        store.close()


def test_names_of_objects_lead_nowhere_else(
    serve: Callable[[dict[str, bytes]], HostileStore], new_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    objects = layer()
    victim = tmp_path / "victim"
    victim.mkdir()
    for name in ("layer.json", "meta.db", "objects", "profile", "latest.json", "new"):
        (victim / name).write_text("safe")
        for folder in (PLACE, "some/layers/x", "some/layers"):
            objects[f"{folder}/{'../' * 16}{victim.relative_to('/')}/{name}"] = b"bad"
            objects[f"{folder}/{'../' * 16}{victim.relative_to('/')}/more-{name}"] = b"bad"
    daemon = new_daemon()
    store = serve(objects)
    there = ["s3://bucket/some", "--endpoint", store.endpoint]
    for text in (VERSION, "x"):
        daemon.tool("runtimes", "pull", text, "--from", *there)
    assert f"{PLACE}/meta.db" in store.asked and not [key for key in store.asked if ".." in key], store.asked
    found = {path.name: path.read_text() for path in victim.iterdir()}
    assert set(found.values()) == {"safe"} and len(found) == 6, found


@pytest.mark.parametrize("base", ["../../../../victim", "/etc/victim", "..", "a/b", ""])
def test_a_base_is_a_name(
    serve: Callable[[dict[str, bytes]], HostileStore], new_daemon: Callable[..., Daemon], base: str
) -> None:
    daemon = new_daemon(started=False, with_base=False)
    there = ["s3://bucket/some", "--endpoint", serve(layer(base)).endpoint]
    assert "damaged" in daemon.tool("runtimes", "pull", VERSION, "--from", *there, expect=1)
    assert "no runtimes layer" in daemon.tool("runtimes", "use", VERSION, expect=1)
