# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""`sprite console` on a real terminal: colours, resize, job control, detach, and the terminal put back."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import programs
from support.api import Api
from support.cli import Cli
from support.daemon import Daemon
from support.terminal import Terminal
from support.wait import eventually

Open = Callable[..., Terminal]


@pytest.fixture
def open_terminal(daemon: Daemon, tmp_path: Path) -> Iterator[Open]:
    cli = Cli(daemon, tmp_path)
    opened: list[Terminal] = []

    def start(*arguments: str, rows: int = 30, columns: int = 100) -> Terminal:
        environment = cli.environment | {"TERM": "xterm-256color"}
        command = [str(programs.sprite()), *arguments]
        opened.append(Terminal(command, environment, str(cli.folder), rows, columns))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_a_console_is_a_terminal(open_terminal: Open, sprite: str) -> None:
    console = open_terminal("console", "-s", sprite)
    before = console.settings()
    console.send(b"stty size; echo size-$((1+1))\n")
    assert b"30 100" in console.expect(b"size-2")
    console.send(b"printf '\\033[31mred\\033[0m'; tty; id -un\n")
    console.expect(b"\x1b[31mred\x1b[0m")
    console.expect(b"/dev/pts/")
    console.expect(b"sprite")
    console.send(b"exit 5\n")
    assert console.wait() == 5
    assert console.settings() == before, "the terminal was not put back"


def test_a_resize_reaches_the_program_inside(open_terminal: Open, sprite: str) -> None:
    console = open_terminal("console", "-s", sprite)
    console.send(b"echo up-$((1+1))\n")
    console.expect(b"up-2")
    console.resize(41, 133)

    def has_new_size() -> bool:
        console.send(b"stty size; echo asked-$((1+1))\n")
        return b"41 133" in console.expect(b"asked-2")

    eventually(has_new_size, "the new size", 10)
    console.send(b"exit\n")
    assert console.wait() == 0


def test_job_control_and_interrupts(open_terminal: Open, sprite: str) -> None:
    console = open_terminal("console", "-s", sprite)
    console.send(b"echo up-$((1+1))\n")
    console.expect(b"up-2")
    console.send(b"sh -c 'echo run-$((1+2)); exec sleep 100'\n")
    console.expect(b"run-3")
    console.send(b"\x1a")
    console.expect(b"Stopped")
    console.send(b"jobs | wc -l; bg; kill %1; wait; echo jobs-$((2+2))\n")
    console.expect(b"jobs-4")
    console.send(b"sh -c 'echo run-$((2+3)); exec sleep 100'\n")
    console.expect(b"run-5")
    console.send(b"\x03")
    console.send(b"echo code-$?\n")
    console.expect(b"code-130")
    # What is typed before the shell has its prompt may be lost when it changes the terminal's mode.
    console.expect(b"$ ")
    console.send(b"\x04")
    console.wait()


def test_control_backslash_detaches_and_attach_comes_back(open_terminal: Open, sprite: str, api: Api) -> None:
    console = open_terminal("console", "-s", sprite)
    before = console.settings()
    console.send(b"x=kept; echo up-$((1+1))\n")
    console.expect(b"up-2")
    console.send(b"\x1c")
    assert console.wait() == 0
    assert console.settings() == before
    (session,) = api.sessions(sprite)
    again = open_terminal("attach", session["id"], "-s", sprite)
    again.expect(b"up-2")
    again.send(b"echo still-$x\n")
    again.expect(b"still-kept")
    again.send(b"exit 3\n")
    assert again.wait() == 3
    assert api.sessions(sprite) == []


def test_exec_on_a_terminal(open_terminal: Open, sprite: str) -> None:
    one = open_terminal("exec", "-s", sprite, "--tty", "--", "sh", "-c", "test -t 0 && stty size && read x && echo <$x>".replace("<$x>", "got-$x"))
    one.expect(b"30 100")
    one.send(b"word\n")
    one.expect(b"got-word")
    assert one.wait() == 0


def test_a_full_screen_editor_draws_and_saves(open_terminal: Open, sprite: str, api: Api) -> None:
    from support.exec import shell

    console = open_terminal("exec", "-s", sprite, "--tty", "--", "vi", "file")
    console.expect(b"\x1b[")
    console.send(b"ihello world\x1b:wq\r")
    assert console.wait() == 0
    assert shell(api, sprite, "cat file") == "hello world\n"


def test_the_terminal_is_put_back_when_the_daemon_dies(
    new_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = new_daemon()
    daemon.api().create("one")
    cli = Cli(daemon, tmp_path)
    console = Terminal([str(programs.sprite()), "console", "-s", "one"], cli.environment, str(cli.folder))
    before = console.settings()
    console.send(b"echo up-$((1+1))\n")
    console.expect(b"up-2")
    assert console.settings() != before
    daemon.kill()
    assert console.wait() == 1
    assert console.settings() == before
    console.close()


def test_destroy_asks_on_a_terminal(open_terminal: Open, sprite: str, api: Api) -> None:
    question = open_terminal("destroy", sprite)
    question.expect(sprite.encode())
    question.send(b"n\n")
    question.wait()
    assert api.get(sprite)["name"] == sprite
    question = open_terminal("destroy", sprite)
    question.expect(sprite.encode())
    question.send(b"y\n")
    assert question.wait() == 0
    api.call("GET", f"/v1/sprites/{sprite}", 404)


def test_create_opens_a_console_on_a_terminal(open_terminal: Open, api: Api) -> None:
    from support.fixtures import fresh_name

    name = fresh_name("console")
    console = open_terminal("create", name)
    console.send(b"echo in-$(hostname)\n")
    console.expect(f"in-{name}".encode())
    console.send(b"exit\n")
    console.wait()
    api.destroy(name)
