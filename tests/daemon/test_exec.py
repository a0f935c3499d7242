# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Commands over the WebSocket: streams, exit codes, input, environment, users, signals."""

import asyncio
import hashlib
import os

import pytest

from support.api import Api
from support.exec import STDERR, STDOUT, Result, open_exec, root_shell, run, shell


def test_each_byte_arrives_on_its_stream(api: Api, sprite: str) -> None:
    result = run(api, sprite, "sh", "-c", "printf out; printf err >&2; exit 7")
    assert (result.stdout, result.stderr, result.code) == (b"out", b"err", 7)


@pytest.mark.parametrize("code", [0, 1, 2, 126, 127, 128, 255])
def test_the_exit_code_is_the_commands_own(api: Api, sprite: str, code: int) -> None:
    assert run(api, sprite, "sh", "-c", f"exit {code}").code == code


@pytest.mark.parametrize(("name", "number"), [("KILL", 9), ("TERM", 15), ("SEGV", 11)])
def test_a_command_that_a_signal_ended_has_128_and_the_number(api: Api, sprite: str, name: str, number: int) -> None:
    assert run(api, sprite, "sh", "-c", f"kill -{name} $$").code == 128 + number


def test_arguments_arrive_as_they_are(api: Api, sprite: str) -> None:
    arguments = ["", " ", "a b", "$HOME", "'", '"', "\\", "ä€😀", "-n", "%s", "a&b=c+d", "\n"]
    result = run(api, sprite, "printf", "[%s]", *arguments)
    assert result.text == "".join(f"[{argument}]" for argument in arguments)


def test_the_default_surroundings(api: Api, sprite: str) -> None:
    assert shell(api, sprite, "pwd; id -un; id -u; echo $HOME $USER $LOGNAME; test -n $SHELL; uname -n") == (
        f"/home/sprite\nsprite\n1000\n/home/sprite sprite sprite\n{sprite}\n"
    )
    assert "/.sprite/bin" in shell(api, sprite, "echo $PATH").strip().split(":")
    environment = shell(api, sprite, "env")
    assert "TOKEN" not in environment and api.token not in environment


def test_given_variables_are_laid_over_the_default_ones(api: Api, sprite: str) -> None:
    out = shell(api, sprite, 'echo "$A|$B|$HOME"; test -n "$PATH"', env={"A": "1=2", "B": "", "HOME": "/tmp"})
    assert out == "1=2||/tmp\n"


def test_the_working_directory_can_be_chosen(api: Api, sprite: str) -> None:
    assert run(api, sprite, "pwd", dir="/usr/bin").text == "/usr/bin\n"


def test_the_user_can_be_chosen(api: Api, sprite: str) -> None:
    assert shell(api, sprite, "id -u; echo $HOME", user="root") == "0\n/root\n"


def test_sudo_needs_no_password(api: Api, sprite: str) -> None:
    assert root_shell(api, sprite, "id -u") == "0\n"


def test_the_executable_may_differ_from_the_first_argument(api: Api, sprite: str) -> None:
    assert run(api, sprite, "another-name", "-c", "echo $0", path="/bin/sh").text == "another-name\n"


@pytest.mark.parametrize(
    ("arguments", "options", "code", "words"),
    [
        (["no-such-command"], {}, 127, ["no-such-command", "not found"]),
        (["/no/such/file"], {}, 127, ["/no/such/file"]),
        (["/etc/passwd"], {}, 126, ["/etc/passwd", "ermission denied"]),
        (["/etc"], {}, 126, ["/etc"]),
        (["true"], {"dir": "/no/such/dir"}, 127, ["/no/such/dir"]),
        (["true"], {"dir": "/root"}, (126, 127), ["/root"]),
        (["true"], {"user": "nobody-knows"}, (126, 127), ["nobody-knows"]),
        (["true"], {"env": {"PATH": "/nowhere"}}, 127, ["true", "not found"]),
    ],
)
def test_what_cannot_be_started_ends_like_in_a_shell(
    api: Api, sprite: str, arguments: list[str], options: dict[str, object], code: int | tuple[int, int], words: list[str]
) -> None:
    result = run(api, sprite, *arguments, **options)  # type: ignore[arg-type]
    assert result.stdout == b""
    assert result.code in (code if isinstance(code, tuple) else (code,)), result
    assert result.stderr.endswith(b"\n") and result.stderr.count(b"\n") == 1, result.stderr
    for word in words:
        assert word in result.stderr.decode()


def test_input_reaches_the_command_to_the_last_byte(api: Api, sprite: str) -> None:
    data = os.urandom(5_000_000)
    result = run(api, sprite, "sha256sum", input=data)
    assert result.text.split()[0] == hashlib.sha256(data).hexdigest()


def test_an_echo_of_five_megabytes_is_complete(api: Api, sprite: str) -> None:
    data = os.urandom(5_000_000)
    result = run(api, sprite, "cat", input=data)
    assert result.code == 0
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(data).digest()


def test_without_input_the_command_reads_an_end(api: Api, sprite: str) -> None:
    assert run(api, sprite, "cat").code == 0
    assert run(api, sprite, "cat", input=b"").code == 0


def test_a_command_that_does_not_read_its_input_still_ends(api: Api, sprite: str) -> None:
    assert run(api, sprite, "true", input=bytes(4_000_000)).code == 0


def test_a_large_output_is_complete(api: Api, sprite: str) -> None:
    result = run(api, sprite, "sh", "-c", "seq 1 3000000; seq 1 200000 >&2", timeout=120)
    assert result.stdout == b"".join(b"%d\n" % number for number in range(1, 3_000_001))
    assert result.stderr == b"".join(b"%d\n" % number for number in range(1, 200_001))


def test_a_child_that_outlives_its_parent_does_not_hold_the_exit_back(api: Api, sprite: str) -> None:
    result = run(api, sprite, "sh", "-c", "sleep 60 & echo started", timeout=10)
    assert (result.stdout, result.code) == (b"started\n", 0)


@pytest.mark.parametrize("signal", ["TERM", "SIGTERM", "INT", "USR1"])
def test_a_signal_reaches_the_command(api: Api, sprite: str, signal: str) -> None:
    async def scenario() -> Result:
        script = "trap 'echo got; exit 5' TERM INT USR1; echo ready; while :; do sleep 0.05; done"
        async with open_exec(api, sprite, "sh", "-c", script) as session:
            await session.read_until(b"ready\n")
            await session.control(type="signal", signal=signal)
            return await session.finish(10)

    result = asyncio.run(scenario())
    assert (result.stdout, result.code) == (b"ready\ngot\n", 5)


def test_harmless_messages_are_ignored(api: Api, sprite: str) -> None:
    async def scenario() -> Result:
        async with open_exec(api, sprite, "sh", "-c", "cat; exit 3", stdin=True) as session:
            await session.control(type="resize", cols=100, rows=40)
            await session.control(type="no-such-message")
            await session.send(b"")
            await session.send(b"data")
            await session.end_input()
            await session.end_input()
            return await session.finish(10)

    result = asyncio.run(scenario())
    assert (result.stdout, result.code) == (b"data", 3)


def test_the_server_waits_for_the_clients_close(api: Api, sprite: str) -> None:
    async def scenario() -> int:
        async with open_exec(api, sprite, "true") as session:
            await session.finish(10)
            assert session.socket is not None
            await session.socket.close(1000)
            assert session.socket.close_code is not None
            return int(session.socket.close_code)

    assert asyncio.run(scenario()) == 1000


def test_a_quiet_command_hears_from_the_server(api: Api, sprite: str) -> None:
    """One client library gives a connection up that brought no message for 45 s."""

    async def scenario() -> Result:
        async with open_exec(api, sprite, "sleep", "22") as session:
            return await session.finish(40)

    result = asyncio.run(scenario())
    assert result.code == 0
    assert [message["type"] for message in result.messages] == ["keepalive"]


def test_more_commands_at_once_than_one_may_have_files(api: Api, sprite: str) -> None:
    from support.exec import run_async

    # PID 1 keeps two descriptors for each, and once had no more than a command has, while it started one.
    async def scenario() -> list[Result]:
        script = "sleep 8; ulimit -Sn"
        return await asyncio.gather(*(run_async(api, sprite, "sh", "-c", script, env={"N": n}) for n in range(550)))

    assert [result.text for result in asyncio.run(scenario())] == ["1024\n"] * 550


# Over HTTP POST


def frames(chunks: list[bytes]) -> Result:
    result = Result()
    for chunk in chunks:
        if chunk[0] == STDOUT:
            result.stdout += chunk[1:]
        elif chunk[0] == STDERR:
            result.stderr += chunk[1:]
        else:
            assert chunk[0] == 3 and len(chunk) == 2
            result.code = chunk[1]
    return result


def test_exec_over_post_ends_with_the_exit_frame(api: Api, sprite: str) -> None:
    with api.http.stream(
        "POST", f"/v1/sprites/{sprite}/exec", params=[("cmd", "sh"), ("cmd", "-c"), ("cmd", "echo a; sleep 0.2; echo b >&2; exit 9")]
    ) as answer:  # fmt: skip
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-content-type-options"] == "nosniff"
        result = frames(list(answer.iter_raw()))
    assert (result.stdout, result.stderr, result.code) == (b"a\n", b"b\n", 9)


def test_the_body_of_exec_over_post_is_the_input(api: Api, sprite: str) -> None:
    data = os.urandom(300_000)
    query = {"cmd": "sha256sum", "stdin": "true"}
    answer = api.call("POST", f"/v1/sprites/{sprite}/exec", params=query, content=data)
    assert hashlib.sha256(data).hexdigest().encode() in answer.content
    assert answer.content[-2:] == b"\x03\x00"


@pytest.mark.parametrize("parameter", ["tty=true", "id=1", "detachable=true", "cc=true"])
def test_exec_over_post_has_no_terminal(api: Api, sprite: str, parameter: str) -> None:
    answer = api.call("POST", f"/v1/sprites/{sprite}/exec?cmd=true&{parameter}", 400)
    assert answer.json()["error"] == "invalid_request"
