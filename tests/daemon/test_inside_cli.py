# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""`sprite-env` as agents use it: every command with `--json`, exit codes, and sentences that say what is wrong."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from support.api import Api
from support.exec import Result, run, shell
from support.inner import env, env_json
from support.wait import eventually


def lines(done: Result) -> list[Any]:
    """Every line of standard output is JSON."""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_command_speaks_json(api: Api, sprite: str) -> None:
    shell(api, sprite, "echo one > file")
    assert lines(env(api, sprite, "checkpoints", "create", "--comment", "a", "--json"))[-1]["checkpoint_id"] == "v1"
    assert [one["id"] for one in env_json(api, sprite, "checkpoints", "list")] == ["v1", "v0"]
    assert env_json(api, sprite, "checkpoints", "info", "v1")["comment"] == "a"
    shell(api, sprite, "echo two > file; echo new > added")
    told = lines(env(api, sprite, "diff", "v1", "--json"))
    assert [(one["change"], one["path"]) for one in told[:-1]] == [("added", "/home/sprite/added"), ("changed", "/home/sprite/file")]
    assert (told[-1]["type"], told[-1]["stat"]["added"]) == ("complete", 1)
    tried = lines(env(api, sprite, "try", "--json", "--", "sh", "-c", "echo said; touch kept"))
    assert "said\n" in [one.get("data") for one in tried]
    assert [one["change"]["path"] for one in tried if one["type"] == "change"] == ["/home/sprite/kept"]
    assert (tried[-1]["outcome"], tried[-1]["exit_code"]) == ("kept", 0)
    done = env(api, sprite, "restore", "v1", "--path", "/home/sprite/file", "--json")
    assert lines(done)[-1]["type"] == "complete"
    assert env_json(api, sprite, "tasks", "create", "t", "--expire", "1m")["name"] == "t"
    assert env_json(api, sprite, "tasks", "set", "t", "--expire", "2m")["name"] == "t"
    assert env_json(api, sprite, "tasks", "get", "t")["name"] == "t"
    assert [one["name"] for one in env_json(api, sprite, "tasks", "list")["tasks"]] == ["t"]
    assert env_json(api, sprite, "tasks", "delete", "t") == {"deleted": "t"}
    made = env(api, sprite, "services", "create", "s", "--json", "--duration", "1s", "--", "sh", "-c", "echo served; exec sleep 999")
    assert "served" in made.text and lines(made)[-1]["type"] == "complete", made
    assert env_json(api, sprite, "services", "get", "s")["state"]["status"] == "running"
    assert [one["name"] for one in env_json(api, sprite, "services", "list")] == ["s"]
    assert [one["data"] for one in lines(env(api, sprite, "logs", "s", "--json")) if one["type"] == "stdout"] == ["served\n"]
    assert lines(env(api, sprite, "services", "stop", "s", "--json"))[-1]["type"] == "complete"
    assert lines(env(api, sprite, "services", "start", "s", "--json", "--duration", "1s"))[-1]["type"] == "complete"
    lines(env(api, sprite, "services", "signal", "s", "HUP", "--json"))
    lines(env(api, sprite, "services", "delete", "s", "--json"))
    assert env_json(api, sprite, "info")["name"] == sprite
    assert env_json(api, sprite, "policy") is not None
    assert env_json(api, sprite, "curl", "/v1/tasks") == {"tasks": []}

    def recorded() -> bool:
        records = env_json(api, sprite, "logs", "--kind", "checkpoint")["records"]
        return any(one["event"] == "checkpoint.created" for one in records)

    eventually(recorded, "the journal has it")
    assert env_json(api, sprite, "checkpoints", "delete", "auto-1") == {"deleted": "auto-1"}
    undone = env(api, sprite, "undo", "--no-wait", "--json")
    assert undone.code in (0, 1, 137), undone


def test_every_kind_of_shell_finds_it(api: Api, sprite: str) -> None:
    for shell_of in (["sh", "-c"], ["bash", "-lc"], ["sudo", "sh", "-c"], ["sudo", "bash", "-lc"], ["sudo", "su", "-", "sprite", "-c"]):
        found = run(api, sprite, *shell_of, "command -v sprite-env")
        assert found.stdout == b"/.sprite/bin/sprite-env\n", (shell_of, found)


def test_logs_are_its_own_and_harmless_on_a_terminal(api: Api, sprite: str, new_sprite: Callable[..., str]) -> None:
    other = new_sprite()
    shell(api, other, "echo of-the-other")
    assert run(api, sprite, "sh", "-c", r"printf '\033]0;owned\007text\n'").code == 0
    eventually(lambda: b"owned" in env(api, sprite, "logs", "-n", "100").stdout, "it is recorded")
    # As it was into a pipe, visible on a terminal.
    assert b"\x1b]0;owned\x07text" in env(api, sprite, "logs", "-n", "100").stdout

    def on_terminal(*options: str) -> bytes:
        return run(api, sprite, "/.sprite/bin/sprite-env", "logs", "--grep", "owned", *options, tty=True).stdout

    assert b"^[]0;owned^Gtext" in on_terminal() and b"\x1b]0;owned" not in on_terminal()
    assert b"\x1b]0;owned\x07text" in on_terminal("--raw")
    assert b"of-the-other" not in env(api, sprite, "logs", "-n", "1000").stdout
    assert b"of-the-other" in env(api, other, "logs", "-n", "1000").stdout


def test_diff_in_all_forms(api: Api, sprite: str) -> None:
    shell(api, sprite, "echo one > file; echo long enough to be known again > old; mkdir dir")
    env(api, sprite, "checkpoints", "create")
    shell(api, sprite, "echo two > file; mv old new; chmod 700 dir; printf x > 'a\nb'")
    done = env(api, sprite, "diff", "v1", "/home/sprite")
    told = "A  /home/sprite/a?b\nM  /home/sprite/dir  mode\nM  /home/sprite/file  content\nR  /home/sprite/old -> /home/sprite/new\n"
    assert done.text == told, done
    assert done.stderr == b"1 added, 0 removed, 2 changed, 1 renamed, 1 bytes\n"
    stat = env(api, sprite, "checkpoints", "diff", "v1", "--stat")
    assert stat.text == done.stderr.decode() and stat.stderr == b""
    assert "-one\n+two\n" in env(api, sprite, "diff", "v1", "--patch").text
    assert "D  /home/sprite/old\n" in env(api, sprite, "diff", "v1", "--no-renames").text
    env(api, sprite, "checkpoints", "create")
    assert env(api, sprite, "diff", "v2").text == ""
    assert env(api, sprite, "diff", "v1", "v2", "/home/sprite/file").text == env(api, sprite, "diff", "v1", "/home/sprite/file").text != ""


def test_try_ends_as_its_command_does(api: Api, sprite: str) -> None:
    shell(api, sprite, "mkdir d; echo good > d/file")
    # In the folder and as the user of whoever calls; a check that fails after a dry run is its code.
    done = run(api, sprite, "sh", "-c", "cd d && /.sprite/bin/sprite-env try --dry-run --check 'exit 9' -- sh -c 'pwd; id -un; rm file'")
    assert (done.code, done.text) == (9, "/home/sprite/d\nsprite\n"), done
    assert b"D  /home/sprite/d/file\n" in done.stderr and b"dropped" in done.stderr
    assert env(api, sprite, "try", "--dry-run", "--", "no-such-command").code == 127
    done = env(api, sprite, "try", "--timeout", "1", "--dry-run", "--", "sleep", "60")
    assert done.code == 1 and b"did not end within" in done.stderr, done
    done = env(api, sprite, "try", "--check", "false", "--", "rm", "d/file")
    assert b"rolled back" in done.stderr and done.code != 0, done
    eventually(lambda: run(api, sprite, "cat", "d/file").text == "good\n", "the state is rolled back", 20)


def test_undo_takes_the_last_restore_back_and_goes_on(api: Api, sprite: str) -> None:
    shell(api, sprite, "echo one > file")
    env(api, sprite, "checkpoints", "create")
    shell(api, sprite, "echo two > file")
    assert env(api, sprite, "restore", "v1").code == 137
    eventually(lambda: run(api, sprite, "cat", "file").text == "one\n", "it is restored", 20)
    assert env(api, sprite, "undo", "--then", "echo $SPRITE_REPLACED > then").code == 137
    eventually(lambda: run(api, sprite, "cat", "file", "then").text == "two\nauto-2\n", "it is undone, and the work goes on", 20)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["diff"], 2, "checkpoint"), (["diff", "/etc"], 2, "checkpoint"), (["diff", "v0", "current", "x", "/etc"], 2, "too many"),
        (["diff", "v9"], 1, "v9"), (["diff", "v0", "--no-such"], 2, "--no-such"), (["checkpoints", "diff", "v0", "v9"], 1, "v9"),
        (["try"], 2, "sprite-env try"), (["try", "true"], 2, "sprite-env try"), (["try", "--timeout", "soon", "--", "true"], 2, "seconds"),
        (["try", "--dry-run"], 2, "sprite-env try"), (["undo"], 1, "never restored"), (["undo", "v1"], 2, ""), (["restore"], 2, "checkpoint"),
        (["restore", "v0", "--path", "etc"], 1, "path"), (["restore", "v9", "--path", "/etc"], 1, "v9"), (["tasks", "create"], 2, "task"),
        (["tasks", "create", "a b"], 1, "name"), (["tasks", "create", "t", "--expire", "9h"], 1, "from 1s to 1h"), (["tasks", "fly"], 2, "fly"),
        (["tasks", "get", "none"], 1, "none"), (["logs", "none"], 1, "none"), (["logs", "--kind", "odd"], 1, "odd"), (["logs", "-n", "many"], 1, "many"),
        (["checkpoints", "info", "v9"], 1, "v9"), (["checkpoints", "delete", "v0"], 1, "v0"), (["checkpoints", "fly"], 2, "fly"),
        (["services", "get", "none"], 1, "none"), (["services", "create", "x"], 2, ""), (["curl"], 2, ""), (["fly"], 2, "fly"), (["info", "x"], 2, ""),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused(api: Api, sprite: str, arguments: list[str], code: int, message: str) -> None:
    done = env(api, sprite, *arguments)
    assert (done.code, done.stdout) == (code, b""), done
    assert done.stderr.startswith(b"sprite-env: ") and message in done.stderr.decode(), done
