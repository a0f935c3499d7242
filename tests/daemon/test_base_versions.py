# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Versions of a base, and sprites that move from one to another."""

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from support import programs
from support.cli import Cli
from support.daemon import Daemon
from support.exec import shell


@pytest.fixture
def small(tmp_path: Path, base: Path) -> Callable[[str], Path]:
    """Makes a root with a shell and some files that tell its version."""
    root = tmp_path / "root"
    root.mkdir()
    # A whole Debian would take seconds for each import; a shell needs no more than this.
    library = "./usr/lib/x86_64-linux-gnu" if os.uname().machine == "x86_64" else "./usr/lib/aarch64-linux-gnu"
    wanted = ["./bin", "./lib", "./lib64", "./usr/lib64", *(f"./usr/bin/{name}" for name in ["dash", "sh", "cat", "rm"])]
    wanted += [f"{library}/libc.so.6", f"{library}/ld-linux*"]
    subprocess.run(["tar", "-xf", str(base), "-C", str(root), "--wildcards", *wanted], capture_output=True)
    assert (root / "usr/bin/dash").exists()

    def make(version: str) -> Path:
        target = tmp_path / f"{version}.tar"
        subprocess.run(["tar", "-cf", str(target), "-C", str(root), "."], check=True)
        with tarfile.open(target, "a") as archive:
            for name in ["same", "seen", "own", "deleted", "folder/inner"]:
                text = (b"same" if name == "same" else version.encode()) + b"\n"
                entry = tarfile.TarInfo(f"./opt/{name}")
                entry.size, entry.mtime = len(text), 1 if name == "same" else len(version)
                archive.addfile(entry, io.BytesIO(text))
        return target

    return make


def bases(daemon: Daemon) -> list[str]:
    return [entry["name"] for entry in json.loads(daemon.tool("base", "list", "--json"))]


def test_a_sprite_moves_to_a_new_version_and_back(
    new_daemon: Callable[..., Daemon], small: Callable[[str], Path], tmp_path: Path
) -> None:
    daemon = new_daemon(with_base=False)
    daemon.import_base(small("one"), "tiny")
    api = daemon.api()
    cli = Cli(daemon, tmp_path / "home")
    api.create("web")
    root = "cd /opt && echo mine >own && echo mine >same && rm deleted && rm folder/inner && cat seen"
    assert shell(api, "web", root, user="root").strip() == "one"
    before = api.checkpoint("web")

    daemon.import_base(small("second"), "tiny")
    assert bases(daemon) == ["tiny", "tiny@2"]
    # Nothing moves by itself; what is new gets the new version.
    assert (api.get("web")["base"], shell(api, "web", "cat /opt/seen").strip()) == ("tiny", "one")
    api.create("other", base="tiny")
    assert (api.get("other")["base"], shell(api, "other", "cat /opt/seen").strip()) == ("tiny@2", "second")
    api.create("old", base="tiny@1")
    assert (api.get("old")["base"], shell(api, "old", "cat /opt/seen").strip()) == ("tiny", "one")

    hidden = [
        {"path": "/opt/deleted", "kind": "deleted"}, {"path": "/opt/folder/inner", "kind": "deleted"},
        {"path": "/opt/own", "kind": "own"},
    ]  # fmt: skip
    trial = cli.json("upgrade", "web", "--base", "--dry-run")
    assert [entry for entry in trial["shadowed"] if entry["path"].startswith("/opt")] == hidden
    assert trial["to"] == "tiny@2" and "kept_as" not in trial
    assert api.get("web")["base"] == "tiny"

    done = cli("upgrade", "web", "--base")
    assert b"own  /opt/own" in done.stdout and b"went from tiny to tiny@2" in done.stderr
    assert api.get("web")["base"] == "tiny@2"
    assert shell(api, "web", "cat /opt/seen /opt/own /opt/same").split() == ["second", "mine", "mine"]
    assert cli.json("upgrade", "web", "--base")["shadowed_count"] == 0
    shell(api, "web", "echo later >/opt/later", user="root")

    # A checkpoint knows its base: forked or restored, the old version is under it.
    api.fork("web", "copy", before)
    assert (api.get("copy")["base"], shell(api, "copy", "cat /opt/seen").strip()) == ("tiny", "one")
    cli("upgrade", "web", "--undo")
    assert api.get("web")["base"] == "tiny"
    assert shell(api, "web", "cat /opt/seen; cat /opt/later 2>/dev/null || echo none").split() == ["one", "none"]
    # That is a restore, which can be undone as well; and all of it outlives the daemon.
    cli("restore", "-s", "web", "--undo")
    daemon.restart()
    assert shell(api, "web", "cat /opt/seen /opt/later").split() == ["second", "later"]
    assert api.get("web")["base"] == "tiny@2"


def test_a_version_that_does_not_start_is_taken_back(
    new_daemon: Callable[..., Daemon], small: Callable[[str], Path], tmp_path: Path
) -> None:
    daemon = new_daemon(with_base=False)
    daemon.import_base(small("one"), "tiny")
    api = daemon.api()
    api.create("web")
    shell(api, "web", "echo mine >/opt/own", user="root")
    daemon.import_base(small("broken"), "tiny")
    # Damaged behind the daemon's back: nothing can be mounted on a file where a sandbox needs a folder.
    version = f"/proc/{daemon.pid}/root{daemon.data_directory}/pool/bases/tiny@2"
    subprocess.run(["btrfs", "property", "set", "-ts", version, "ro", "false"], check=True)
    Path(version, "proc").rmdir()
    Path(version, "proc").touch()
    subprocess.run(["btrfs", "property", "set", "-ts", version, "ro", "true"], check=True)
    refused = Cli(daemon, tmp_path / "home")("upgrade", "web", "--base", expect=None)
    assert refused.returncode != 0 and b"does not start on base tiny@2; it is back on tiny" in refused.stderr, refused
    assert (api.get("web")["base"], api.get("web")["status"]) == ("tiny", "running")
    assert shell(api, "web", "cat /opt/seen /opt/own").split() == ["one", "mine"]
    daemon.restart()
    assert shell(api, "web", "cat /opt/seen /opt/own").split() == ["one", "mine"]


def test_versions_stay_as_long_as_something_uses_them(
    new_daemon: Callable[..., Daemon], small: Callable[[str], Path]
) -> None:
    daemon = new_daemon(with_base=False)
    api = daemon.api()
    daemon.import_base(small("one"), "tiny")
    api.create("web")
    for name in ["second", "third", "fourth"]:
        daemon.import_base(small(name), "tiny")
    # The first is that of the sprite; those between were nobody's.
    assert bases(daemon) == ["tiny", "tiny@4"]
    with pytest.raises(AssertionError, match="cannot remove base tiny: sprites or checkpoints of them use it"):
        daemon.tool("base", "remove", "tiny")
    api.call("POST", "/v1/sprites/web/base", 404, json={"base": "tiny@9"})
    api.call("POST", "/v1/sprites/web/base", 400, json={"base": "tiny@x"})
    api.call("POST", "/v1/sprites/none/base", 404, json={})
    api.destroy("web")
    daemon.tool("base", "remove", "tiny@1")
    assert bases(daemon) == ["tiny@4"]
    command = [str(programs.sprited()), "base", "import", "--name", "tiny@7", str(small("five"))]
    done = subprocess.run([*command, "--data-dir", str(daemon.data_directory)], capture_output=True, text=True)
    assert done.returncode == 1 and "versions are numbered by themselves" in done.stderr
