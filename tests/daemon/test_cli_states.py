# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The commands of `sprite` about states: what differs, what can be undone, forks that compete, what broke it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.api import Api
from support.cli import Cli
from support.daemon import Daemon
from support.exec import root_shell, shell
from support.fixtures import fresh_name


@pytest.fixture
def cli(daemon: Daemon, tmp_path: Path) -> Cli:
    return Cli(daemon, tmp_path)


def json_lines(done: "subprocess.CompletedProcess[bytes]") -> list[Any]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_diff_as_text_numbers_patch_and_json(cli: Cli, sprite: str, api: Api) -> None:
    shell(api, sprite, "echo one > file; echo x > gone; mkdir dir; echo long enough to be known again > old")
    api.checkpoint(sprite)
    shell(api, sprite, "echo three > file; rm gone; echo y > dir/new; mv old renamed; chmod 700 dir")
    done = cli("diff", "-s", sprite, "v1")
    assert done.stdout.decode().splitlines() == [
        "M  /home/sprite/dir/  mode 0755 -> 0700",
        "A  /home/sprite/dir/new",
        "M  /home/sprite/file  content 4 -> 6 bytes",
        "D  /home/sprite/gone",
        "R  /home/sprite/old -> /home/sprite/renamed",
    ]
    assert b"1 added, 1 removed, 2 changed, 1 renamed" in done.stderr
    assert cli.text("diff", "-s", sprite, "v1", "--stat").startswith("1 added, 1 removed, 2 changed, 1 renamed, ")
    assert "-one\n+three\n" in cli.text("diff", "-s", sprite, "v1", "/home/sprite/file", "--patch")
    told = json_lines(cli("diff", "-s", sprite, "v1", "current", "/home/sprite/dir", "--json"))
    assert [one["path"] for one in told] == ["/home/sprite/dir", "/home/sprite/dir/new"]
    unpaired = cli.text("diff", "-s", sprite, "v1", "--no-renames")
    assert "D  /home/sprite/old\n" in unpaired and "A  /home/sprite/renamed\n" in unpaired
    api.checkpoint(sprite)
    assert cli.text("diff", "-s", sprite, "v1", "v2") == done.stdout.decode()
    assert cli.text("diff", "-s", sprite, "v2") == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["diff"], 2, b""), (["diff", "/etc"], 2, b"give a checkpoint"), (["diff", "v1", "v2", "etc"], 2, b""),
        (["diff", "v0", "--stat", "--patch"], 2, b"give one of"), (["diff", "v9"], 1, b"v9"), (["diff", "v0", "v9"], 1, b"v9"),
        (["race", "-n", "2"], 2, b"no command"), (["race", "-n", "17", "--", "true"], 1, b"16"), (["race", "--from", "v9", "--", "true"], 1, b"v9"),
        (["bisect", "v1", "--", "true"], 2, b"v2..v9"), (["bisect", "v0..", "--", "true"], 2, b"v2..v9"), (["bisect", "v0..v1"], 2, b"no command"),
        (["bisect", "v0..v9", "--", "true"], 1, b"v9"), (["exec", "--check", "true", "--", "true"], 2, b"--try"),
        (["exec", "--try", "--tty", "--", "true"], 2, b"no terminal"), (["exec", "--try"], 2, b"no command"),
        (["checkpoint", "pin", "v9"], 1, b"v9"), (["checkpoint", "policy", "--off", "--before-exec"], 2, b"--off goes alone"),
        (["checkpoint", "policy", "--every=-1"], 1, b"every"), (["restore"], 2, b"--undo"), (["restore", "--undo", "v1"], 2, b"--undo"),
        (["restore", "--undo"], 1, b"never restored"), (["restore", "v0", "--path", "etc"], 1, b"path"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused(cli: Cli, sprite: str, arguments: list[str], code: int, message: bytes) -> None:
    place = 2 if arguments[0] == "checkpoint" else 1
    done = cli(*arguments[:place], "-s", sprite, *arguments[place:], expect=code)
    assert done.stdout == b"" and message in done.stderr, done
    if code == 1:
        assert done.stderr.startswith(b"sprite: "), done


def test_a_try_keeps_what_succeeds(cli: Cli, sprite: str, api: Api) -> None:
    done = cli("exec", "-s", sprite, "--try", "--check", "test -s file", "--", "sh", "-c", "printf 'out\\377'; echo err >&2; echo x > file")
    assert done.stdout == b"out\xff"
    assert b"err\n" in done.stderr and b"A  /home/sprite/file\n" in done.stderr and b"1 added" in done.stderr
    assert f"kept; `sprite restore -s {sprite} auto-1` goes back".encode() in done.stderr
    cli("restore", "-s", sprite, "auto-1")
    assert shell(api, sprite, "ls") == ""


def test_a_try_rolls_back_and_ends_with_the_code_of_what_failed(cli: Cli, sprite: str, api: Api) -> None:
    shell(api, sprite, "echo good > file")
    done = cli("exec", "-s", sprite, "--try", "--env", "A=bad", "--", "sh", "-c", "echo $A > file; exit 7", expect=7)
    assert b"rolled back" in done.stderr and b"M  /home/sprite/file" in done.stderr
    done = cli("exec", "-s", sprite, "--try", "--check", "exit 5", "--", "touch", "new", expect=5)
    assert b"rolled back" in done.stderr
    assert shell(api, sprite, "cat *") == "good\n"
    done = cli("exec", "-s", sprite, "--try", "--timeout", "0.5", "--", "sh", "-c", "rm file; sleep 60", expect=1)
    assert b"did not end within" in done.stderr
    assert shell(api, sprite, "cat *") == "good\n"


def test_a_dry_run_shows_and_drops(cli: Cli, sprite: str, api: Api) -> None:
    done = cli("exec", "-s", sprite, "--dry-run", "--json", "--user", "root", "--", "sh", "-c", "id -un; rm /etc/issue; exit 3", expect=3)
    lines = json_lines(done)
    assert "root\n" in [line.get("data") for line in lines]
    assert [line["change"]["path"] for line in lines if line["type"] == "change"] == ["/etc/issue"]
    assert (lines[-1]["type"], lines[-1]["outcome"]) == ("complete", "dropped")
    done = cli("exec", "-s", sprite, "--dry-run", "--", "touch", "here")
    assert b"dry run: the fork with these changes is dropped" in done.stderr and b"A  /home/sprite/here" in done.stderr
    assert shell(api, sprite, "ls; ls /etc/issue") == "/etc/issue\n"
    assert cli.text("list", "--prefix", sprite) == f"{sprite}\n"


def test_a_race_is_a_table_and_promotes_the_best(cli: Cli, sprite: str, api: Api) -> None:
    script = "echo $SPRITE_RACE_INDEX > n; [ $SPRITE_RACE_INDEX != 3 ]"
    done = cli("race", "-s", sprite, "-n", "3", "--score", "cat n", "--", "sh", "-c", script)
    rows = [line.split() for line in done.stdout.decode().splitlines()]
    # Into a pipe a table has no heading.
    rows = [row for row in rows if row[0] != "RANK"]
    assert [row[:4] for row in rows] == [["1", "2", "2.0", "0"], ["2", "1", "1.0", "0"], ["3", "3", "-", "1"]], done
    assert b"--promote would take the first" in done.stderr
    assert shell(api, sprite, "ls") == ""
    done = cli("race", "-s", sprite, "-n", "2", "--score", "cat n", "--lowest", "--promote", "--json", "--", "sh", "-c", script)
    last = json_lines(done)[-1]
    assert (last["ranking"], shell(api, sprite, "cat n")) == ([1, 2], "1\n")
    cli("restore", "-s", sprite, "--undo")
    assert shell(api, sprite, "ls") == ""
    done = cli("race", "-s", sprite, "--promote", "--", "false", expect=1)
    assert b"none of the 2 commands succeeded" in done.stderr


def test_bisect_prints_the_first_bad_one(cli: Cli, sprite: str, api: Api) -> None:
    for number in range(1, 6):
        shell(api, sprite, f"echo {number} > n")
        api.checkpoint(sprite)
    done = cli("bisect", "-s", sprite, "v1..v5", "--", "sh", "-c", "echo looked; [ $(cat n) -lt 4 ]")
    assert done.stdout == b"v4\n", done
    assert b"looked" in done.stderr and b"v4 is the first bad checkpoint; v3 is good" in done.stderr
    done = cli("bisect", "-s", sprite, "v1..v5", "--json", "--", "sh", "-c", "[ $(cat n) -lt 2 ]")
    assert json_lines(done)[-1]["first_bad"] == ["v2"]
    done = cli("bisect", "-s", sprite, "v1..v5", "--", "sh", "-c", "exit 130", expect=1)
    assert b"ended with 130" in done.stderr
    # As with git, the ends are taken as they are given.
    assert cli.text("bisect", "-s", sprite, "v1..v5", "--", "true") == "v5\n"


def test_pins_and_the_policy(cli: Cli, sprite: str, api: Api) -> None:
    cli("checkpoint", "create", "-s", sprite)
    cli("checkpoint", "create", "-s", sprite)
    assert b"pinned v1" in cli("checkpoint", "pin", "-s", sprite, "v1").stderr
    assert b"pinned" in cli("checkpoint", "delete", "-s", sprite, "v1", expect=1).stderr
    assert b"unpinned v1" in cli("checkpoint", "unpin", "-s", sprite, "v1").stderr
    cli("checkpoint", "delete", "-s", sprite, "v1")
    policy = cli.json("checkpoint", "policy", "-s", sprite, "--before-exec", "--every", "10")
    assert policy == {"before_exec": True, "every_minutes": 10}
    assert "10 minutes of use" in cli.text("checkpoint", "policy", "-s", sprite).replace(".0", "")
    cli("exec", "-s", sprite, "--", "touch", "file")
    cli("exec", "-s", sprite, "--", "true")
    assert "before: touch file" not in cli.text("checkpoint", "list", "-s", sprite)
    assert "before: true" in cli.text("checkpoint", "list", "-s", sprite, "--include-auto")
    cli("checkpoint", "policy", "-s", sprite, "--off")
    assert cli.json("checkpoint", "policy", "-s", sprite) == {"before_exec": False, "every_minutes": 0}


@pytest.fixture
def forked(api: Api) -> Iterator[str]:
    name = fresh_name("fork")
    yield name
    api.call("DELETE", f"/v1/sprites/{name}", {204, 404})


def test_a_fork_tells_what_it_reset_or_keeps_it(cli: Cli, sprite: str, api: Api, forked: str) -> None:
    root_shell(api, sprite, "echo 0123456789abcdef0123456789abcdef > /etc/machine-id; mkdir -p /var/lib/redis; echo 1 > /var/lib/redis/redis.pid")
    done = cli("fork", sprite, forked)
    assert done.stdout.decode() == f"{forked}\n"
    assert b"renewed /etc/machine-id\n" in done.stderr and b"removed /var/lib/redis/redis.pid\n" in done.stderr
    cli("destroy", forked, "--force")
    done = cli("fork", "-s", sprite, forked, "--keep-identity")
    assert b"renewed" not in done.stderr and b"removed" not in done.stderr
    assert shell(api, forked, "cat /etc/machine-id /var/lib/redis/redis.pid") == "0123456789abcdef0123456789abcdef\n1\n"
    assert b"taken" in cli("fork", sprite, forked, expect=1).stderr


def test_one_path_comes_back(cli: Cli, sprite: str, api: Api) -> None:
    shell(api, sprite, "echo one > file; echo two > other")
    api.checkpoint(sprite)
    shell(api, sprite, "echo 1 > file; echo 2 > other")
    done = cli("restore", "-s", sprite, "v1", "--path", "/home/sprite/file")
    assert b"restored /home/sprite/file from v1" in done.stderr
    assert shell(api, sprite, "cat file other") == "one\n2\n"
    cli("restore", "-s", sprite, "--undo")
    assert shell(api, sprite, "cat file other") == "1\n2\n"
