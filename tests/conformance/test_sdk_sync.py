# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The synchronous client of the official SDK."""

import io
import threading
import time
from collections.abc import Callable

import pytest
from sprites import AuthenticationError, NotFoundError, Sprite, SpritesClient, URLSettings
from sprites.exceptions import APIError, ExitError, SpriteError
from sprites.session import kill_session
from sprites.types import ListOptions, SpriteConfig


def test_create_get_list_update_delete(client: SpritesClient, name: str) -> None:
    made = client.create_sprite(name, config=SpriteConfig(ram_mb=512), labels=["ci"])
    assert made.name == name
    try:
        got = client.get_sprite(name)
        assert got.name == name and got.status in ("warm", "running")
        page = client.list_sprites(ListOptions(prefix=name, max_results=100))
        assert [one.name for one in page.sprites] == [name] and not page.has_more
        assert page.sprites[0].created_at is not None
        assert [one.name for one in client.list_all_sprites(prefix=name)] == [name]
        client.update_url_settings(name, URLSettings(auth="public"))
        client.update_sprite(name, labels=["ci", "more"])
        assert client.list_sprites(ListOptions(prefix=name)).sprites[0].labels == ["ci", "more"]
        client.upgrade_sprite(name)
    finally:
        client.delete_sprite(name)
    with pytest.raises(NotFoundError):
        client.get_sprite(name)


def test_pages_are_followed_to_the_end(client: SpritesClient, make: Callable[[str], Sprite], name: str) -> None:
    names = [make(f"{name}-{number}").name for number in range(3)]
    token, seen = None, []
    while True:
        page = client.list_sprites(ListOptions(prefix=name, max_results=1, continuation_token=token))
        seen += [one.name for one in page.sprites]
        token = page.next_continuation_token
        if not page.has_more:
            break
    assert seen == sorted(names)


def test_errors_have_their_types(server: tuple[str, str], client: SpritesClient, box: Sprite) -> None:
    with SpritesClient("wrong/token", base_url=server[0]) as stranger, pytest.raises(AuthenticationError):
        stranger.get_sprite(box.name)
    with pytest.raises(SpriteError, match="409|exists"):
        client.create_sprite(box.name)
    with pytest.raises(SpriteError):
        client.create_sprite("Not A Name")
    with pytest.raises(NotFoundError):
        client.delete_sprite("no-such-sprite")
    with pytest.raises((APIError, NotFoundError)):
        client.sprite("no-such-sprite").run("true")


def test_run_captures_both_streams_and_the_code(box: Sprite) -> None:
    done = box.run("sh", "-c", "echo out; echo err >&2; exit 3", capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    with pytest.raises(ExitError) as failed:
        box.run("sh", "-c", "exit 4", check=True)
    assert failed.value.exit_code() == 4 if callable(failed.value.exit_code) else failed.value.exit_code == 4


def test_run_has_home_path_environment_and_directory(box: Sprite) -> None:
    assert b"/home" in box.run("pwd", capture_output=True).stdout
    done = box.run("bash", "-c", 'echo "$A $HOME"; pwd', capture_output=True, env={"A": "1"}, cwd="/tmp")
    assert done.stdout == b"1 /home/sprite\n/tmp\n"
    assert b"SPRITE_TOKEN" not in box.run("env", capture_output=True).stdout


def test_what_is_not_found_is_127(box: Sprite) -> None:
    done = box.run("no-such-command", capture_output=True)
    assert done.returncode == 127 and b"no-such-command" in done.stderr
    assert box.run("/etc/passwd", capture_output=True).returncode == 126


def test_command_streams_from_and_to_files(box: Sprite) -> None:
    out, err = io.BytesIO(), io.BytesIO()
    data = b"line\n" * 100_000
    command = box.command("sh", "-c", "cat; echo end >&2", stdin=io.BytesIO(data), stdout=out, stderr=err)
    command.run()
    assert (out.getvalue(), err.getvalue(), command.exit_code) == (data, b"end\n", 0)
    assert box.command("echo", "x").output() == b"x\n"
    assert sorted(box.command("sh", "-c", "echo a; echo b >&2").combined_output().split()) == [b"a", b"b"]


def test_a_terminal(box: Sprite) -> None:
    done = box.run("sh", "-c", "test -t 1 && stty size; exit 6", capture_output=True, tty=True, tty_rows=31, tty_cols=77)
    assert (done.stdout, done.returncode) == (b"31 77\r\n", 6)
    assert box.run("true", tty=True).returncode == 0


def test_a_timeout_is_the_clients(box: Sprite) -> None:
    with pytest.raises(TimeoutError):
        box.run("sleep", "30", timeout=0.5)
    assert box.run("echo", "next", capture_output=True).stdout == b"next\n"


def test_many_commands_in_a_row_are_right(box: Sprite) -> None:
    for number in range(100):
        done = box.run("sh", "-c", f"echo {number}; exit {number}", capture_output=True)
        assert (done.stdout, done.returncode) == (f"{number}\n".encode(), number)


def test_large_output_is_complete(box: Sprite) -> None:
    done = box.run("sh", "-c", "head -c 30000000 /dev/zero | tr '\\0' x", capture_output=True)
    assert done.stdout == b"x" * 30_000_000


def test_sessions_are_listed_attached_and_killed(client: SpritesClient, box: Sprite) -> None:
    out = io.BytesIO()
    first = box.command("sh", "-c", "echo begin; sleep 60; echo never", stdout=out)
    outcome: list[object] = []

    def work() -> None:
        try:
            first.run()
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 15
    while not (listed := box.list_sessions()) and time.monotonic() < deadline:
        time.sleep(0.05)
    (session,) = listed
    assert "sleep 60" in session.command and session.tty is False and session.workdir.startswith("/home")
    attached = box.attach_session(session.id, timeout=20)
    attached._capture_stdout = True
    second = threading.Thread(target=lambda: attached._run_sync())
    second.start()
    time.sleep(0.5)
    messages = [message.type for message in kill_session(box, session.id, "SIGTERM", 5)]
    assert messages[0] == "signal" and messages[-1] == "complete"
    thread.join(15)
    second.join(15)
    assert isinstance(outcome[0], ExitError)
    assert (attached._stdout_data, attached.exit_code) == (b"begin\n", 143)
    assert box.list_sessions() == []


def test_attach_to_what_has_ended_is_an_error(box: Sprite) -> None:
    with pytest.raises(SpriteError):
        box.attach_session("999999", timeout=10).run()


def test_checkpoints_and_restore(box: Sprite) -> None:
    box.run("sh", "-c", "echo one > file", check=True)
    messages = list(box.create_checkpoint("first"))
    assert messages[-1].type == "complete"
    assert any("ID: v1" in (message.data or "") for message in messages)
    box.run("sh", "-c", "echo two > file", check=True)
    listed = box.list_checkpoints()
    assert "v1" in [one.id for one in listed]
    one = box.get_checkpoint("v1")
    assert (one.id, one.comment) == ("v1", "first") and one.create_time is not None
    assert list(box.restore_checkpoint("v1"))[-1].type == "complete"
    assert box.run("cat", "file", capture_output=True).stdout == b"one\n"


def test_an_unknown_checkpoint_is_an_error(box: Sprite) -> None:
    with pytest.raises(SpriteError):
        box.get_checkpoint("v9")
    with pytest.raises(SpriteError):
        messages = list(box.restore_checkpoint("v9"))
        if messages and messages[-1].type == "error":
            raise SpriteError(messages[-1].error or "")


def test_control_mode_falls_back(server: tuple[str, str], box: Sprite) -> None:
    with SpritesClient(server[1], base_url=server[0], control_mode=True) as client:
        done = client.sprite(box.name).run("echo", "x", capture_output=True)
        assert done.stdout == b"x\n"


def test_a_delete_ends_a_command_in_flight(client: SpritesClient, make: Callable[[str], Sprite], name: str) -> None:
    doomed = make(name)
    ended = threading.Event()

    def work() -> None:
        try:
            doomed.run("sleep", "120")
        except Exception:
            pass
        ended.set()

    threading.Thread(target=work, daemon=True).start()
    deadline = time.monotonic() + 15
    while not doomed.list_sessions() and time.monotonic() < deadline:
        time.sleep(0.05)
    client.delete_sprite(name)
    assert ended.wait(15)
