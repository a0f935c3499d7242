# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""`sprite cp`, `exec --file`, and the smaller commands that scripts know from elsewhere."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from support import programs
from support.api import Api
from support.cli import Cli
from support.daemon import Daemon
from support.exec import shell
from support.fixtures import fresh_name


@pytest.fixture
def cli(daemon: Daemon, tmp_path: Path) -> Cli:
    return Cli(daemon, tmp_path)


def test_a_file_goes_there_and_back(cli: Cli, api: Api, sprite: str) -> None:
    content = os.urandom(3 << 20)
    (cli.folder / "a file").write_bytes(content)
    (cli.folder / "a file").chmod(0o750)
    cli("cp", "a file", f"{sprite}:copy")
    assert shell(api, sprite, "stat -c '%a %s %U' copy") == f"750 {len(content)} sprite\n"
    cli("cp", f"{sprite}:copy", "back")
    assert (cli.folder / "back").read_bytes() == content
    assert (cli.folder / "back").stat().st_mode & 0o777 == 0o750
    # Into a directory that is there, on both sides; and by -s instead of a name.
    cli("cp", "a file", f"{sprite}:/tmp")
    (cli.folder / "here").mkdir()
    cli("cp", f"{sprite}:/tmp/a file", "here")
    assert (cli.folder / "here" / "a file").read_bytes() == content
    cli("-s", sprite, "cp", "back", "a file", ":many/")
    assert shell(api, sprite, "ls many") == "a file\nback\n"


def test_a_directory_goes_there_and_back(cli: Cli, api: Api, sprite: str) -> None:
    tree = cli.folder / "tree" / "deep"
    tree.mkdir(parents=True)
    (tree / "x").write_text("x")
    (tree / "link").symlink_to("x")
    (cli.folder / "tree" / "run").write_text("#!/bin/sh\n")
    (cli.folder / "tree" / "run").chmod(0o755)
    cli("cp", "tree", f"{sprite}:new")
    assert shell(api, sprite, "cd new; find . | sort; readlink deep/link; stat -c %a run") == (
        ".\n./deep\n./deep/link\n./deep/x\n./run\nx\n755\n"
    )
    cli("cp", f"{sprite}:new", "back")
    assert (cli.folder / "back" / "deep" / "link").read_text() == "x"
    cli("cp", "tree", f"{sprite}:new")
    assert shell(api, sprite, "cat new/tree/deep/x") == "x"


def test_what_cannot_be_copied_is_said(cli: Cli, sprite: str) -> None:
    assert b"no such file" in cli("cp", "nothing", f"{sprite}:x", expect=1).stderr.lower()
    assert b"no such file" in cli("cp", f"{sprite}:/nothing", "x", expect=1).stderr.lower()
    assert not list(cli.folder.iterdir())
    assert b"permission denied" in cli("cp", "/etc/hostname", f"{sprite}:/etc/hostname", expect=1).stderr.lower()
    assert cli("cp", "one", expect=2).returncode == 2
    assert b"one side" in cli("cp", "one", "two", expect=2).stderr
    assert b"no sprite" in cli("cp", "/etc/hostname", f"{fresh_name()}:x", expect=1).stderr


def test_exec_takes_files_along(cli: Cli, api: Api, sprite: str) -> None:
    (cli.folder / "script").write_text("echo script ran in $PWD\n")
    done = cli("-s", sprite, "exec", "--file", "script:run.sh", "--dir", "/tmp", "--", "sh", "run.sh")
    assert done.stdout == b"script ran in /tmp\n"
    done = cli("-s", sprite, "exec", "--file", "script:/tmp/one", "--file", "script:two", "--", "cat", "/tmp/one", "two")
    assert done.stdout == b"echo script ran in $PWD\n" * 2
    assert cli("-s", sprite, "exec", "--file", "script", "--", "true", expect=2).stderr
    assert cli("-s", sprite, "exec", "--file", "nothing:x", "--", "true", expect=1).stderr


def test_a_large_file_takes_little_memory(cli: Cli, api: Api, daemon: Daemon, sprite: str) -> None:
    large = cli.folder / "large"
    with large.open("wb") as file:
        file.truncate(400 << 20)
    copying = subprocess.Popen(
        [str(programs.sprite()), "cp", "large", f"{sprite}:/tmp/large"], env=cli.environment, cwd=cli.folder
    )
    most = {copying.pid: 0, daemon.pid: 0}
    before = resident_mib(daemon.pid)
    while copying.poll() is None:
        for pid in most:
            most[pid] = max(most[pid], resident_mib(pid))
        time.sleep(0.02)
    assert copying.returncode == 0 and shell(api, sprite, "stat -c %s /tmp/large") == f"{400 << 20}\n"
    count = 0
    with api.http.stream("GET", f"/v1/sprites/{sprite}/fs/read", params={"path": "/tmp/large"}) as answer:
        for piece in answer.iter_bytes(1 << 20):
            count += len(piece)
            most[daemon.pid] = max(most[daemon.pid], resident_mib(daemon.pid))
    assert count == 400 << 20
    assert most[copying.pid] < 100 and most[daemon.pid] - before < 100, (most, before)


def resident_mib(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) >> 10
    except OSError:
        pass
    return 0


def test_the_list_goes_on_with_watch(cli: Cli, api: Api) -> None:
    name = fresh_name("watched")
    command = [str(programs.sprite()), "list", "-w", "--json", "--prefix", name]
    with subprocess.Popen(command, env=cli.environment, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        try:
            time.sleep(0.5)
            api.create(name)
            first = json.loads(watching.stdout.readline())
            assert (first["name"], first["status"]) == (name, "running")
            api.destroy(name)
            while json.loads(watching.stdout.readline()).get("type") != "removed":
                pass
        finally:
            watching.terminate()


def test_older_and_other_commands(cli: Cli, sprite: str, api: Api) -> None:
    cli("-s", sprite, "config", "update", "--url-auth", "public")
    assert api.get(sprite)["url_settings"]["auth"] == "public"
    cli("org", "keyring", "disable")
    assert json.loads((cli.home / ".sprites" / "sprites.json").read_text())["disable_keyring"] is True
    assert b"no keyring" in cli("org", "keyring", "enable", expect=1).stderr
