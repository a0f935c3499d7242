# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Runtimes layers: built in a sprite, packed for JuiceFS, shown under other sprites, whatever dies meanwhile."""

import contextlib
import hashlib
import json
import os
import re
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.api import Api, ApiError
from support.daemon import Daemon
from support.exec import Result, run, shell
from support.objectstore import ObjectStore
from support.wait import eventually

RECIPE = """\
name: small
packages:
  - ed
files: files
script: |
  mkdir -p /opt/small/many
  for i in $(seq 300); do echo "file $i" >/opt/small/many/$i; done
  seq 2000000 >/opt/small/large
  seq 2000001 2900000 >/opt/small/other
  ln /opt/small/large /opt/small/same
  ln -s large /opt/small/link
  ln -s /nowhere "/opt/small/käse 100%"
  chown 1000:1000 /opt/small/many/1
  chmod 4755 /usr/bin/ed
  rm /usr/share/common-licenses/GPL-3
  echo {word} >/opt/small/word
"""
GREETING = "#!/bin/sh\necho hello from the layer\n"


def write_recipe(folder: Path, word: str = "one", change: str = "") -> Path:
    tools = folder / "files/usr/local/bin"
    tools.mkdir(parents=True, exist_ok=True)
    (tools / "greet").write_text(GREETING)
    (tools / "greet").chmod(0o755)
    path = folder / "small.yaml"
    path.write_text(RECIPE.format(word=word) + (f"  {change}\n" if change else ""))
    return path


def build(daemon: Daemon, recipe: Path) -> str:
    """The version that was built."""
    return daemon.tool("runtimes", "build", str(recipe)).split()[1]


def base_times(daemon: Daemon) -> list[int]:
    return [entry["createdAt"] for entry in json.loads(daemon.tool("base", "list", "--json"))]


def attributes(daemon: Daemon, version: str) -> int:
    """How many extended attributes the files of a layer have."""
    metadata = daemon.data_directory / "runtimes/store/layers" / version.replace("@", "/") / "meta.db"
    with contextlib.closing(sqlite3.connect(f"file:{metadata}?immutable=1", uri=True)) as database:
        return int(database.execute("SELECT count(*) FROM jfs_xattr").fetchone()[0])


def juicefs(daemon: Daemon) -> list[int]:
    """Processes that serve mounts of this daemon."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # JuiceFS writes over the command line that it was given.
            name, environment = (folder / "comm").read_text(), (folder / "environ").read_bytes().decode()
        except (OSError, UnicodeDecodeError):
            continue
        if name == "juicefs\n" and f"JFS_SUPER_COMM=/run/sprited/{daemon.tag}/" in environment:
            found.append(int(folder.name))
    return found


def attempt(api: Api, name: str, script: str) -> Result:
    return run(api, name, "sh", "-c", script)


def root_attempt(api: Api, name: str, script: str) -> Result:
    return run(api, name, "sudo", "sh", "-c", script)


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture(scope="module")
def layered(scratch: Path, base: Path) -> Iterator[Daemon]:
    """A daemon with one layer that new sprites get."""
    daemon = Daemon(scratch / "layered", scratch / "layered.log")
    daemon.import_base(base)
    daemon.start()
    (scratch / "recipe").mkdir()
    version = build(daemon, write_recipe(scratch / "recipe"))
    daemon.tool("runtimes", "use", version)
    (scratch / "recipe/version").write_text(version)
    yield daemon
    try:
        daemon.remove()
        assert not juicefs(daemon)
    except BaseException:
        daemon.abandon()
        raise
    daemon.log.unlink()


@pytest.fixture
def api(layered: Daemon) -> Iterator[Api]:
    if not layered.runs:
        layered.start()
    client = layered.api()
    yield client
    for sprite in client.all_sprites():
        client.destroy(sprite["name"])


def version_of(daemon: Daemon) -> str:
    (line,) = [line for line in daemon.tool("runtimes", "list").splitlines() if line.startswith("*")]
    return line.split()[1]


def test_a_sprite_shows_the_layer_as_it_was_built(layered: Daemon, api: Api) -> None:
    created = api.create("one")
    assert created["runtimes"] == version_of(layered)
    assert shell(api, "one", "greet") == "hello from the layer\n"
    assert shell(api, "one", "printf '1p\\n' | ed -s /opt/small/many/7") == "file 7\n"
    assert shell(api, "one", "dpkg-query -W -f '${db:Status-Status}' ed") == "installed"
    sums = shell(api, "one", "cd /opt/small; sha256sum large same link other | cut -c1-64").split()
    large = hashlib.sha256("".join(f"{n}\n" for n in range(1, 2000001)).encode()).hexdigest()
    other = hashlib.sha256("".join(f"{n}\n" for n in range(2000001, 2900001)).encode()).hexdigest()
    assert sums == [large, large, large, other]
    assert shell(api, "one", "readlink '/opt/small/käse 100%'") == "/nowhere\n"
    modes = shell(api, "one", "cd /opt/small; stat -c '%u %g %a' many/1 many/2 . /usr/bin/ed; stat -c %h large")
    assert modes.splitlines() == ["1000 1000 644", "0 0 644", "0 0 755", "0 0 4755", "2"]
    assert attempt(api, "one", "ls /usr/share/common-licenses/GPL-3").code != 0, "what the recipe removed is back"
    assert shell(api, "one", "cat /opt/small/many/* | wc -l") == "300\n"
    # Nothing of JuiceFS itself is to be seen.
    assert shell(api, "one", "ls -A / | grep -E '^\\.(config|stats|accesslog|trash)$' || true") == ""


def test_what_a_sprite_changes_is_its_own_and_in_its_checkpoints(layered: Daemon, api: Api) -> None:
    metadata = next((layered.data_directory / "runtimes/store/layers").glob("*/*/meta.db"))
    before = hashlib.sha256(metadata.read_bytes()).hexdigest()
    api.create("one")
    api.create("two")
    assert attempt(api, "one", "echo x > /opt/small/word").code != 0, "a user changed a file of root"
    change = "echo mine > /opt/small/word; rm -r /opt/small/many; mv /opt/small/other /opt/small/moved"
    assert root_attempt(api, "one", change).code == 0
    state = api.checkpoint("one")
    assert root_attempt(api, "one", "echo later > /opt/small/word").code == 0
    eventually(
        lambda: attempt(api, "one", f"cat /.sprite/checkpoints/{state}/opt/small/word").text == "mine\n",
        "the checkpoint shows the whole root")  # fmt: skip
    assert shell(api, "one", f"cat /.sprite/checkpoints/{state}/usr/local/bin/greet") == GREETING
    api.restore("one", state)
    assert shell(api, "one", "cat /opt/small/word; ls -A /opt/small") == "mine\nkäse 100%\nlarge\nlink\nmoved\nsame\nword\n"
    api.fork("one", "three")
    assert shell(api, "three", "cat /opt/small/word; greet") == "mine\nhello from the layer\n"
    assert shell(api, "two", "cat /opt/small/word; ls /opt/small/many | wc -l") == "one\n300\n"
    assert hashlib.sha256(metadata.read_bytes()).hexdigest() == before, "the metadata was written to"


def test_a_changed_file_of_the_layer_outlives_what_the_kernel_keeps(layered: Daemon, api: Api) -> None:
    api.create("one")
    # Copied up whole, with a handle of the file it came from.
    assert root_attempt(api, "one", "chmod 700 /usr/local/bin/greet; chmod 600 /opt/small/many/7").code == 0
    state = api.checkpoint("one")
    for _ in range(3):
        # What still names the lower file goes first, its inode later.
        Path("/proc/sys/vm/drop_caches").write_text("2")
        done = root_attempt(api, "one", "greet; stat -c %a /usr/local/bin/greet /opt/small/many/7; cat /opt/small/many/7")
        assert done.text == "hello from the layer\n700\n600\nfile 7\n", done
        seen = root_attempt(api, "one", f"cat /.sprite/checkpoints/{state}/opt/small/many/7")
        assert seen.text == "file 7\n", seen


def test_a_sprite_without_a_layer_has_none(layered: Daemon, api: Api) -> None:
    assert "runtimes" not in api.create("bare", runtimes="none")
    assert attempt(api, "bare", "ls /opt/small").code != 0
    for wish, status in [("small@000000000000", 404), ("other", 404), ("../x", 400), ("small@x", 400)]:
        with pytest.raises(ApiError) as refused:
            api.create("never", runtimes=wish)
        assert refused.value.status == status, (wish, refused.value.text)


def check_collection(layered: Daemon, versions: list[str], store: Path | None, place: list[str]) -> None:
    """Publishes two versions, collects until one is left, and reads that one."""
    old, new = versions
    layers = layered.data_directory / "runtimes/store/layers"
    there: set[str] = set()
    for version in versions:
        objects = set((layers / version.replace("@", "/") / "objects").read_text().split())
        said = layered.tool("runtimes", "publish", version, "--to", *place)
        # Of a further version only what no other brought.
        assert f" {len(objects - there)} objects copied" in said, said
        there |= objects
    assert "0 objects removed" in layered.tool("runtimes", "gc", "--at", *place)
    with pytest.raises(AssertionError, match="keep 1 or more"):
        layered.tool("runtimes", "gc", "--at", *place, "--keep", "0")
    said = layered.tool("runtimes", "gc", "--at", *place, "--keep", "1")
    assert f"removed {old}\n" in said and new not in said and re.search(r"^[1-9]\d* objects removed", said, re.M), said
    assert "0 objects removed" in layered.tool("runtimes", "gc", "--at", *place, "--keep", "1")
    if store:
        assert not (store / "layers/small" / old.split("@")[1] / "layer.json").exists()
        needed = (store / "layers/small" / new.split("@")[1] / "objects").read_text().split()
        assert sorted(str(path.relative_to(store)) for path in (store / "chunks").rglob("*") if path.is_file()) == sorted(needed)


def test_the_same_recipe_makes_the_same_version_and_a_change_few_objects(
    layered: Daemon, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = layered.data_directory / "runtimes/store/chunks"
    objects = {path.name for path in chunks.rglob("*") if path.is_file()}
    first = version_of(layered)
    again = build(layered, write_recipe(tmp_path))
    assert again == first, layered.tool("runtimes", "diff", first, again)
    assert {path.name for path in chunks.rglob("*") if path.is_file()} == objects
    # What describes it was written again, and is what a mount wants: no other has it yet.
    layered.tool("runtimes", "check", first)
    api.create("old", config={"stop_after_seconds": 1, "freeze_after_seconds": 0})
    replace = "rm -r /etc/skel; mkdir /etc/skel; echo only >/etc/skel/only"
    second = build(layered, write_recipe(tmp_path, "two", replace))
    assert second != first
    # Only a folder that hides one of the base has to say so, and who has no attributes is not asked for them.
    assert (attributes(layered, first), attributes(layered, second)) == (0, 1)
    assert "/opt/small/word: content\n" in layered.tool("runtimes", "diff", first, second)
    added = {path.name for path in chunks.rglob("*") if path.is_file()} - objects
    # The slice with the changed file, and that with the package manager's own records at most.
    assert 1 <= len(added) <= 3, added
    check_collection(layered, [first, second], tmp_path / "published", [str(tmp_path / "published")])
    s3 = ObjectStore(tmp_path / "s3")
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    try:
        s3.start()
        s3.make_bucket("layers")
        with pytest.raises(AssertionError, match="there are no layers at s3://layers/some/where"):
            layered.tool("runtimes", "gc", "--at", "s3://layers/some/where", "--endpoint", s3.endpoint)
        check_collection(layered, [first, second], None, ["s3://layers/some/where", "--endpoint", s3.endpoint])
    finally:
        s3.stop()

    layered.tool("runtimes", "use", second)
    assert api.create("new")["runtimes"] == second
    assert shell(api, "new", "cat /opt/small/word; ls -A /etc/skel") == "two\nonly\n"
    # Both at once; the old sprite keeps its version over a stop, until it is told.
    eventually(lambda: api.get("old")["status"] == "cold", "the sprite stops", 20)
    assert shell(api, "old", "cat /opt/small/word") == "one\n"
    layered.tool("runtimes", "gc")
    assert shell(api, "old", "cat /opt/small/word /opt/small/many/9") == "one\nfile 9\n"
    api.call("POST", "/v1/sprites/old/upgrade", 204)
    assert api.get("old")["runtimes"] == second
    assert shell(api, "old", "cat /opt/small/word") == "one\n", "an upgrade changed a sprite that runs"
    eventually(lambda: api.get("old")["status"] == "cold", "the sprite stops", 20)
    assert shell(api, "old", "cat /opt/small/word") == "two\n"

    # Nobody has the first any more: it goes, and what only it needed.
    removed = layered.tool("runtimes", "gc")
    assert f"removed {first}" in removed
    assert len({path.name for path in chunks.rglob("*") if path.is_file()} & objects) < len(objects)
    assert "whole" in layered.tool("runtimes", "check", second)
    assert shell(api, "new", "cat /opt/small/many/* | wc -l") == "300\n"


def test_kill_9_of_juicefs_is_a_pause(layered: Daemon, api: Api) -> None:
    api.create("one")
    assert shell(api, "one", "greet") == "hello from the layer\n"
    watcher = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); cat /opt/small/many/$i || echo lost; sleep 0.05; done"
    for victims in (1, 2):
        before = juicefs(layered)
        serving = [process for process in before if parent(process) in before]
        assert len(before) == 2 * len(serving), "JuiceFS is a process that watches and one that serves"
        # What the kernel keeps would hide a mount that is dead.
        Path("/proc/sys/vm/drop_caches").write_text("3")
        for process in before if victims == 2 else serving:
            os.kill(process, signal.SIGKILL)
        assert shell(api, "one", watcher) == "".join(f"file {number}\n" for number in range(1, 61))
        eventually(lambda old=before: len(set(juicefs(layered)) - set(old)) >= victims, "JuiceFS is there again", 20)


def test_kill_9_of_the_daemon_leaves_the_layer(layered: Daemon, api: Api) -> None:
    api.create("one")
    assert shell(api, "one", "cat /opt/small/many/1") == "file 1\n"
    serving = juicefs(layered)
    layered.restart()
    api = layered.api()
    assert juicefs(layered) == serving, "JuiceFS did not go on"
    Path("/proc/sys/vm/drop_caches").write_text("3")
    assert shell(api, "one", "cat /opt/small/many/2; sha256sum /opt/small/other | cut -c65-") == "file 2\n  /opt/small/other\n"
    assert shell(api, api.create("two")["name"], "greet") == "hello from the layer\n"
    # The new daemon keeps the mount as the old one did.
    for process in serving:
        os.kill(process, signal.SIGKILL)
    Path("/proc/sys/vm/drop_caches").write_text("3")
    assert shell(api, "one", "cat /opt/small/many/3; greet") == "file 3\nhello from the layer\n"
    assert shell(api, "two", "cat /opt/small/many/4") == "file 4\n"


def test_a_lost_mount_stops_its_sprites_which_start_again(layered: Daemon, api: Api) -> None:
    api.create("one")
    api.create("bare", runtimes="none")
    attempt(api, "one", "echo kept > /home/sprite/note")
    serving = juicefs(layered)
    layered.kill()
    for process in serving:
        os.kill(process, signal.SIGKILL)
    eventually(lambda: not juicefs(layered), "JuiceFS is dead")
    layered.start()
    api = layered.api()
    assert {sprite["name"]: sprite["status"] for sprite in api.all_sprites()} == {"one": "cold", "bare": "running"}
    assert shell(api, "one", "cat /home/sprite/note; greet") == "kept\nhello from the layer\n"


def test_a_damaged_layer_is_an_error_with_a_name(layered: Daemon, api: Api, tmp_path: Path) -> None:
    store = tmp_path / "published"
    version = version_of(layered)
    assert "objects copied" in layered.tool("runtimes", "publish", version, "--to", str(store))
    copied = {path.relative_to(store) for path in store.rglob("*") if path.is_file()}
    assert Path("layers/small/latest.json") in copied
    # Again: nothing is copied a second time.
    assert " 0 objects copied" in layered.tool("runtimes", "publish", version, "--to", str(store))

    chunks = layered.data_directory / "runtimes/store/chunks"
    victim = max((path for path in chunks.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    whole = victim.read_bytes()
    try:
        victim.write_bytes(whole[:1000] + b"damage" + whole[1006:])
        with pytest.raises(AssertionError, match=f"{victim.name} of {version} .* is damaged: .*publish again"):
            layered.tool("runtimes", "check", version)
        victim.unlink()
        with pytest.raises(AssertionError, match=f"{victim.name} of {version} is missing .* layer again"):
            layered.tool("runtimes", "check", version)
    finally:
        victim.write_bytes(whole)
    layered.tool("runtimes", "check", version)


def test_a_layer_in_object_storage(
    layered: Daemon, api: Api, new_daemon: Callable[..., Daemon], scratch: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch
) -> None:
    version = version_of(layered)
    s3 = ObjectStore(tmp_path / "s3")
    place = ["s3://layers/some/where", "--endpoint", s3.endpoint]
    with pytest.raises(AssertionError, match="there are no credentials; set AWS_ACCESS_KEY_ID"):
        layered.tool("runtimes", "publish", version, "--to", *place)
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AssertionError, match="nothing answers at s3://layers/some/where"):
        layered.tool("runtimes", "publish", version, "--to", *place)
    try:
        s3.start()
        with pytest.raises(AssertionError, match="there is no bucket 'layers'"):
            layered.tool("runtimes", "publish", version, "--to", *place)
        s3.make_bucket("layers")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(AssertionError, match="refuses the signature; check AWS_SECRET_ACCESS_KEY"):
            layered.tool("runtimes", "publish", version, "--to", *place)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.environment["AWS_SECRET_ACCESS_KEY"])
        layered.tool("runtimes", "publish", version, "--to", *place)

        other = new_daemon()
        with pytest.raises(AssertionError, match="cannot pull nothing: there is no such layer"):
            other.tool("runtimes", "pull", "nothing", "--from", *place)
        assert version in other.tool("runtimes", "pull", "small", "--from", *place)
        other.tool("runtimes", "use", version)
        there = other.api()
        there.create("far")
        assert shell(there, "far", "greet; cat /opt/small/word") == "hello from the layer\n" + shell(
            api, api.create("near")["name"], "cat /opt/small/word")  # fmt: skip
        assert shell(there, "far", "sha256sum /opt/small/other | cut -c65-") == "  /opt/small/other\n"
        # Credentials are in no argument, and nowhere inside.
        for process in juicefs(other):
            assert b"test-secret" not in Path(f"/proc/{process}/cmdline").read_bytes()

        s3.stop()
        begin = time.monotonic()
        lost = attempt(there, "far", "cat /opt/small/large > /dev/null")
        assert lost.code != 0, lost
        assert b"Input/output error" in lost.stderr, lost
        assert time.monotonic() - begin < 40
        assert shell(there, "far", "greet; tail -n 1 /opt/small/other; echo still here") == (
            "hello from the layer\n2900000\nstill here\n")  # fmt: skip
        s3.start()
        # The server says that it is there before it has found its volumes.
        eventually(
            lambda: attempt(there, "far", "tail -n 1 /opt/small/large").text == "2000000\n", "reading works again", 30)
        # Another base of the same content, imported at another time, under the same recipe: the same version.
        assert base_times(layered) != base_times(other)
        assert build(other, write_recipe(tmp_path)) == (scratch / "recipe/version").read_text()
    finally:
        s3.stop()
