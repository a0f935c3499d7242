# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Every command of `sprite`, through the real program against the real daemon."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import programs
from support.api import Api
from support.cli import Cli
from support.daemon import Daemon
from support.fixtures import fresh_name
from support.wait import eventually


@pytest.fixture
def cli(daemon: Daemon, tmp_path: Path) -> Cli:
    return Cli(daemon, tmp_path)


@pytest.fixture
def name(cli: Cli) -> Iterator[str]:
    chosen = fresh_name("cli")
    yield chosen
    cli("destroy", chosen, "--force", expect=None)


def test_the_whole_demo(cli: Cli, name: str) -> None:
    cli("create", name, "--skip-console")
    assert cli.text("exec", "-s", name, "--", "sh", "-c", "uname -n; id -un") == f"{name}\nsprite\n"
    cli("exec", "-s", name, "--", "sh", "-c", "echo 42 > t.db")
    made = cli("checkpoint", "create", "-s", name, "--comment", "works")
    assert b"v1" in made.stdout and b"ms" in made.stdout + made.stderr
    cli("exec", "-s", name, "--", "sudo", "rm", "-rf", "/usr", "/etc", "/home", expect=None)
    restored = cli("restore", "-s", name, "v1")
    assert b"ms" in restored.stdout + restored.stderr
    assert cli.text("exec", "-s", name, "--", "cat", "t.db") == "42\n"
    cli("exec", "-s", name, "--", "sh", "-c", "echo 43 > t.db")
    forked = f"{name}-f"
    cli("fork", name, forked, "--from", "v1")
    assert cli.text("exec", "-s", forked, "--", "cat", "t.db") == "42\n"
    cli("restore", "-s", name, "v1")
    cli("restore", "-s", name, "--undo")
    assert cli.text("exec", "-s", name, "--", "cat", "t.db") == "43\n"
    cli("destroy", forked, "--force")
    assert forked not in cli.text("list")


def test_create_list_info_destroy_as_json(cli: Cli, name: str) -> None:
    created = cli.json("create", name, "--skip-console", "--label", "one", "--label", "two")
    assert (created["name"], created["labels"]) == (name, ["one", "two"])
    listed = cli.json("list", "--prefix", name)
    entries = listed["sprites"] if isinstance(listed, dict) else listed
    assert [entry["name"] for entry in entries] == [name]
    assert cli.json("info", "-s", name)["id"] == created["id"]
    cli("destroy", name, "--force")
    cli("info", "-s", name, expect=1)


def test_list_prints_bare_names_when_piped(cli: Cli, name: str) -> None:
    cli("create", name, "--skip-console")
    assert name in cli.text("list").split("\n")
    assert cli.text("ls", "--prefix", name) == f"{name}\n"


def test_limits_are_options_of_create(cli: Cli, name: str) -> None:
    created = cli.json("create", name, "--skip-console", "--memory", "256", "--cpus", "0.5", "--pids", "100")
    assert created["config"]["ram_mb"] == 256


def test_use_is_remembered_in_the_folder_and_below(cli: Cli, name: str) -> None:
    cli("create", name, "--skip-console")
    cli("use", name)
    assert (cli.folder / ".sprite").exists()
    below = cli.folder / "a" / "b"
    below.mkdir(parents=True)
    cli.folder = below
    assert cli.text("exec", "--", "hostname") == f"{name}\n"
    cli.folder = below.parent.parent
    cli("use", "--unset")
    assert cli("exec", "--", "hostname", expect=None).returncode in (1, 2)


@pytest.mark.parametrize("code", [0, 1, 3, 126, 127, 130, 255])
def test_exec_ends_with_the_commands_code(cli: Cli, sprite: str, code: int) -> None:
    cli("exec", "-s", sprite, "--", "sh", "-c", f"exit {code}", expect=code)


def test_exec_keeps_streams_apart_and_bytes_exact(cli: Cli, sprite: str) -> None:
    data = os.urandom(3_000_000)
    done = cli("exec", "-s", sprite, "--", "sh", "-c", "cat; echo done >&2", input=data)
    assert done.stdout == data
    assert done.stderr == b"done\n"


def test_exec_options(cli: Cli, sprite: str) -> None:
    out = cli.text("exec", "-s", sprite, "--dir", "/usr", "--env", "A=1,B=2", "--", "sh", "-c", "pwd; echo $A $B")
    assert out == "/usr\n1 2\n"
    assert cli.text("x", "-s", sprite, "--user", "root", "--", "id", "-u") == "0\n"
    assert cli.text("exec", "-s", sprite, "--http-post", "--", "echo", "posted") == "posted\n"


def test_what_cannot_run_is_126_or_127_with_a_message(cli: Cli, sprite: str) -> None:
    assert b"no-such-command" in cli("exec", "-s", sprite, "--", "no-such-command", expect=127).stderr
    assert b"/etc/passwd" in cli("exec", "-s", sprite, "--", "/etc/passwd", expect=126).stderr


def test_an_interrupt_reaches_the_command(cli: Cli, sprite: str) -> None:
    script = "trap 'echo interrupted; exit 7' INT; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        [str(programs.sprite()), "exec", "-s", sprite, "--", "sh", "-c", script], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, env=cli.environment, cwd=cli.folder,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.read() == b"interrupted\n"
    assert process.wait(10) == 7


def test_a_reader_that_goes_away_is_no_crash(cli: Cli, sprite: str) -> None:
    command = f"'{programs.sprite()}' exec -s {sprite} -- seq 1 10000000 | head -n 2"
    done = subprocess.run(["sh", "-c", command], capture_output=True, env=cli.environment, timeout=30, cwd=cli.folder)
    assert done.stdout == b"1\n2\n"
    assert b"Fatal" not in done.stderr and b"Backtrace" not in done.stderr


def test_a_daemon_that_dies_is_a_failure_not_success(cli: Cli, new_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    own = new_daemon()
    own.api().create("one")
    mine = Cli(own, tmp_path / "own")
    process = subprocess.Popen(
        [str(programs.sprite()), "exec", "-s", "one", "--", "sh", "-c", "echo ready; sleep 60"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=mine.environment,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    own.kill()
    assert process.wait(20) == 1
    assert process.stderr is not None and process.stderr.read().startswith(b"sprite: ")


def test_checkpoint_commands(cli: Cli, sprite: str) -> None:
    created = cli.json("checkpoint", "create", "-s", sprite, "--comment", "first")
    assert created["id"] == "v1"
    cli("checkpoints", "create", "-s", sprite)
    listed = cli.json("checkpoint", "ls", "-s", sprite)
    entries = listed["checkpoints"] if isinstance(listed, dict) else listed
    assert [entry["id"] for entry in entries if entry["id"] != "Current"] == ["v2", "v1", "v0"]
    assert cli.json("checkpoint", "info", "v1", "-s", sprite)["comment"] == "first"
    assert "first" in cli.text("checkpoint", "list", "-s", sprite)
    cli("checkpoint", "restore", "v1", "-s", sprite)
    cli("checkpoint", "delete", "v2", "-s", sprite)
    cli("checkpoint", "rm", "v2", "-s", sprite, expect=1)
    assert b"v9" in cli("restore", "-s", sprite, "v9", expect=1).stderr


def test_sessions_commands(cli: Cli, sprite: str, api: Api) -> None:
    process = subprocess.Popen(
        [str(programs.sprite()), "exec", "-s", sprite, "--", "sleep", "300"], stdin=subprocess.DEVNULL,
        env=cli.environment, cwd=cli.folder,
    )  # fmt: skip
    eventually(lambda: api.sessions(sprite), "the session is there")
    assert "sleep 300" in cli.text("sessions", "list", "-s", sprite)
    listed = cli.json("sessions", "list", "-s", sprite)
    entries = listed["sessions"] if isinstance(listed, dict) else listed
    cli("sessions", "kill", entries[0]["id"], "-s", sprite)
    assert process.wait(15) == 143


def test_api_is_an_authenticated_curl_that_hides_the_token(cli: Cli, sprite: str) -> None:
    assert f'"name":"{sprite}"' in cli.text("api", f"/v1/sprites/{sprite}").replace(" ", "")
    process = subprocess.Popen(
        [str(programs.sprite()), "api", f"/v1/sprites/{sprite}/exec?cmd=sleep&cmd=3", "--", "-s", "-X", "POST"],
        stdout=subprocess.DEVNULL, env=cli.environment, cwd=cli.folder,
    )  # fmt: skip
    time.sleep(1)
    listing = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True).stdout
    assert cli.environment["SPRITE_TOKEN"] not in listing
    process.wait(15)


def test_login_stores_the_token_for_its_owner_only(daemon: Daemon, cli: Cli) -> None:
    del cli.environment["SPRITE_TOKEN"], cli.environment["SPRITES_API_URL"]
    cli("auth", "setup", "--token", daemon.token, expect=None)
    done = cli("login", daemon.url, input=f"{daemon.token}\n".encode())
    assert daemon.token.encode() not in done.stdout + done.stderr
    stored = cli.home / ".sprites" / "sprites.json"
    assert stored.stat().st_mode & 0o777 == 0o600
    assert cli("list").returncode == 0
    assert daemon.url in cli.text("org", "list")
    cli("logout", "--force")
    assert cli("list", expect=None).returncode == 1 or not daemon.url.endswith(":7780")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["no-such-command"], 2), (["list", "--no-such-option"], 2), (["exec", "-s", "x"], 2), ([], None),
        (["info", "-s", "no-such-sprite"], 1), (["exec", "-s", "no-such-sprite", "--", "true"], 1),
        (["create", "Bad_Name", "--skip-console"], 1), (["destroy", "no-such-sprite", "--force"], 1),
        (["restore", "-s", "no-such-sprite", "v1"], 1), (["fork", "no-such-sprite", "x"], 1),
        (["--help"], 0), (["create", "--help"], 0), (["--version"], 0), (["completion", "bash"], 0),
        (["completion", "zsh"], 0), (["completion", "fish"], 0),
    ],
)  # fmt: skip
def test_exit_codes_and_messages(cli: Cli, arguments: list[str], code: int | None) -> None:
    done = cli(*arguments, expect=code)
    if code == 1:
        assert done.stdout == b"" and done.stderr.startswith(b"sprite: "), done
    if code == 0:
        assert done.stdout


def test_destroy_without_a_terminal_wants_force(cli: Cli, sprite: str) -> None:
    done = cli("destroy", sprite, expect=None)
    assert done.returncode in (1, 2) and b"--force" in done.stderr
    assert cli.text("exec", "-s", sprite, "--", "echo", "here") == "here\n"


def test_a_wrong_token_and_an_absent_daemon_say_what_to_do(cli: Cli) -> None:
    cli.environment["SPRITE_TOKEN"] = "wrong"
    refused = cli("list", expect=1)
    assert b"login" in refused.stderr or b"token" in refused.stderr
    cli.environment["SPRITES_API_URL"] = "http://127.0.0.1:9"
    absent = cli("list", expect=1)
    assert b"127.0.0.1:9" in absent.stderr


def test_every_flag_of_the_help_has_a_description(cli: Cli) -> None:
    text = cli.text("help")
    for command in ("create", "list", "use", "info", "destroy", "exec", "console", "checkpoint", "restore", "fork", "api"):
        assert command in text
        assert cli.text(command, "--help").startswith(("OVERVIEW", "USAGE"))
