# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Control connections: many commands one after another on one WebSocket."""

import asyncio
import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from support.api import Api
from support.daemon import Daemon
from support.exec import shell
from support.wait import eventually

PREFIX = "control:"


class Control:
    """One connection."""

    def __init__(self, api: Api, sprite: str, query: str = "", agent: str = "tests") -> None:
        self.url = f"{api.url.replace('http', 'ws', 1)}/v1/sprites/{sprite}/control{query}"
        self.fields = {"Authorization": f"Bearer {api.token}", "User-Agent": agent}
        self.ws: ClientConnection

    async def __aenter__(self) -> "Control":
        self.ws = await connect(
            self.url, additional_headers=self.fields, user_agent_header=None, compression=None, max_size=None,
            ping_interval=None, proxy=None,
        )  # fmt: skip
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.ws.close()

    async def start(self, *command: str, op: str = "exec", **args: object) -> None:
        named = {"cmd": list(command)} if command else {}
        await self.ws.send(PREFIX + json.dumps({"type": "op.start", "op": op, "args": named | args}))

    async def result(self, timeout: float = 20) -> dict[str, Any]:
        """Everything up to the end of an operation; the last two messages are the exit and the end."""
        out, err, exit_code, texts = b"", b"", None, []
        while True:
            message = await asyncio.wait_for(self.ws.recv(), timeout)
            if isinstance(message, bytes):
                if message[0] == 3:
                    exit_code = message[1]
                elif message[0] == 1:
                    out += message[1:]
                else:
                    err += message[1:]
            elif message.startswith(PREFIX):
                end = json.loads(message.removeprefix(PREFIX))
                return {"out": out, "err": err, "exit": exit_code, "texts": texts, "end": end} | end["args"]
            else:
                texts.append(json.loads(message))

    async def run(self, *command: str, **args: object) -> dict[str, Any]:
        await self.start(*command, **args)
        return await self.result()


def scenario(body: Callable[[Control], Any], api: Api, sprite: str, **options: str) -> None:
    async def run() -> None:
        async with Control(api, sprite, **options) as control:
            await body(control)

    asyncio.run(run())


def test_commands_one_after_another(api: Api, sprite: str) -> None:
    async def body(control: Control) -> None:
        for number in range(20):
            script = f"echo out{number}; echo err{number} >&2; exit {number}"
            result = await control.run("sh", "-c", script, stdin="false")
            assert (result["out"], result["err"]) == (b"out%d\n" % number, b"err%d\n" % number)
            assert (result["exit"], result["exitCode"], result["end"]["type"]) == (number, number, "op.complete")
            assert isinstance(result["exitCode"], int)
            assert result["texts"][0]["type"] == "session_info" and isinstance(result["texts"][0]["session_id"], str)

    scenario(body, api, sprite)


def test_many_connections_at_once(api: Api, sprite: str) -> None:
    async def one(number: int) -> None:
        async with Control(api, sprite) as control:
            for step in range(5):
                result = await control.run("sh", "-c", f"echo {number} {step}; exit {number}", stdin="false")
                assert (result["out"], result["exitCode"]) == (b"%d %d\n" % (number, step), number)

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number) for number in range(40)))

    asyncio.run(all_of_them())


def test_arguments_are_those_of_exec(api: Api, sprite: str) -> None:
    async def body(control: Control) -> None:
        result = await control.run(
            "sh", "-c", "echo $A $B; pwd; cat", env=["A=1", "B=a=b"], dir="/usr", path="/bin/sh"
        )
        assert result["out"] == b"1 a=b\n/usr\n"
        result = await control.run(op="exec", cmd="true")
        assert result["exitCode"] == 0
        await control.ws.send(PREFIX + json.dumps({"type": "op.start", "op": "exec", "id": "7", "args": {"cmd": ["true"]}}))
        assert (await control.result())["end"]["id"] == "7"

    scenario(body, api, sprite)


@pytest.mark.parametrize("prefixed", [True, False])
def test_input_that_comes_before_the_command_exists(api: Api, sprite: str, prefixed: bool) -> None:
    """No client waits for an answer first; one of them puts no stream in front."""

    async def body(control: Control) -> None:
        for _ in range(10):
            await control.start("cat", stdin="true")
            for piece in (b"one ", b"two ", b"{\"type\": no message"):
                await control.ws.send(b"\0" + piece if prefixed else piece)
            await control.ws.send(b"\4")
            result = await control.result()
            assert (result["out"], result["exitCode"]) == (b"one two {\"type\": no message", 0)

    scenario(body, api, sprite)


def test_much_input_and_output(api: Api, sprite: str) -> None:
    async def body(control: Control) -> None:
        data = bytes(range(256)) * 40_000
        await control.start("cat", stdin="true")

        async def send() -> None:
            for start in range(0, len(data), 100_000):
                await control.ws.send(b"\0" + data[start : start + 100_000])
            await control.ws.send(b"\4")

        sender = asyncio.create_task(send())
        assert (await control.result(60))["out"] == data
        await sender
        assert (await control.run("echo", "after"))["out"] == b"after\n"

    scenario(body, api, sprite)


def test_what_comes_between_operations_is_dropped(api: Api, sprite: str) -> None:
    async def body(control: Control) -> None:
        for stray in (b"\4", b"\0x", b"", '{"type":"release"}', '{"type":"signal","signal":"KILL"}', "text", b'{"type":"resize"}'):
            await control.ws.send(stray)
            assert (await control.run("echo", "x"))["out"] == b"x\n"
            await control.ws.send(b"\4")

    scenario(body, api, sprite)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('{"type":"op.start","op":"fs.read","args":{}}', "op.not_found"),
        ('{"type":"op.start","args":{"cmd":["true"]}}', "op.not_found"),
        ('{"type":"op.start","op":"exec","args":{}}', "invalid_request"),
        ('{"type":"op.start","op":"exec"}', "invalid_request"),
        ('{"type":"op.start","op":"exec","args":{"cmd":["true"],"tty":"maybe"}}', "invalid_request"),
        ('{"type":"op.start","op":"exec","args":{"id":"99999"}}', "not_found"),
        ('{"type":"op.start","op":"exec","args":7}', "invalid_request"),
        ("{", "invalid_request"),
        ("", "invalid_request"),
        ("[]", "invalid_request"),
    ],
)
def test_an_error_leaves_the_connection_usable(api: Api, sprite: str, message: str, code: str) -> None:
    async def body(control: Control) -> None:
        await control.ws.send(PREFIX + message)
        result = await control.result()
        assert (result["end"]["type"], result["code"]) == ("op.error", code)
        assert result["error"]
        assert (await control.run("echo", "x"))["out"] == b"x\n"

    scenario(body, api, sprite)


def test_a_command_that_cannot_be_started(api: Api, sprite: str) -> None:
    async def body(control: Control) -> None:
        result = await control.run("no-such-command")
        assert (result["exit"], result["exitCode"]) == (127, 127) and result["err"]
        assert (await control.run("true", dir="/no/such/folder"))["exitCode"] == 127
        assert (await control.run("/etc/passwd"))["exitCode"] == 126
        assert (await control.run("true"))["exitCode"] == 0

    scenario(body, api, sprite)


@pytest.mark.parametrize("binary", [True, False])
def test_a_terminal(api: Api, sprite: str, binary: bool) -> None:
    async def body(control: Control) -> None:
        await control.start("sh", "-c", "stty size; read x; stty size; exit 3", tty="true", rows="30", cols="90")
        seen = b""

        async def until(wanted: bytes) -> None:
            nonlocal seen
            while wanted not in seen:
                message = await asyncio.wait_for(control.ws.recv(), 10)
                if isinstance(message, bytes):
                    seen += message

        await until(b"30 90")
        resize = '{"type":"resize","rows":40,"cols":100}'
        await control.ws.send(resize.encode() if binary else resize)
        await control.ws.send(b"\r")
        await until(b"40 100")
        result = await control.result()
        assert result["texts"][-1] == {"type": "exit", "exit_code": 3} and result["exitCode"] == 3
        assert (await control.run("echo", "x"))["out"] == b"x\n"

    scenario(body, api, sprite)


def test_signals(api: Api, sprite: str) -> None:
    async def body(control: Control) -> None:
        for form in ('{"type":"signal","signal":"TERM"}', b'{"type":"signal","signal":"SIGTERM"}'):
            await control.start("sleep", "60")
            assert json.loads(await control.ws.recv())["type"] == "session_info"
            await control.ws.send(form)
            assert (await control.result())["exitCode"] == 143

    scenario(body, api, sprite)


def test_a_new_operation_replaces_one_that_its_client_gave_up(api: Api, sprite: str) -> None:
    """No frame of the old one, and no error, comes after: it would be taken for the new one's."""

    async def body(control: Control) -> None:
        for _ in range(5):
            await control.start("sh", "-c", "trap 'echo ended > ended; exit' TERM HUP; while :; do echo noise; sleep 0.01; done")
            await asyncio.sleep(0.05)
            await control.start("sh", "-c", "echo mine")
            while True:
                message = await asyncio.wait_for(control.ws.recv(), 10)
                if isinstance(message, str) and '"session_info"' in message and "mine" in message:
                    break
            result = await control.result()
            assert (result["out"], result["exitCode"]) == (b"mine\n", 0)

    scenario(body, api, sprite)
    eventually(lambda: "ended" in shell(api, sprite, "cat ended || true") or None, "it was stopped as without a client", 20)


def test_a_kill_and_at_once_the_next_command(api: Api, sprite: str) -> None:
    async def body(control: Control) -> None:
        for number in range(25):
            await control.start("sleep", "60")
            await control.ws.recv()
            await control.ws.send('{"type":"signal","signal":"KILL"}')
            await asyncio.sleep(0.001 * (number % 10))
            await control.start("echo", "next")
            result = await control.result()
            assert (result["out"], result["exitCode"]) == (b"next\n", 0), number

    scenario(body, api, sprite)


def test_attaching_to_a_session(api: Api, sprite: str) -> None:
    async def body(control: Control) -> None:
        async with Control(api, sprite) as other:
            await control.start("sh", "-c", "echo one; read x; echo $x", stdin="true")
            info = json.loads(await control.ws.recv())
            await asyncio.wait_for(control.ws.recv(), 10)
            await other.start(id=info["session_id"])
            assert json.loads(await other.ws.recv())["is_owner"] is False
            await control.ws.send(b"\0two\n")
            assert (await other.result())["out"] == b"one\ntwo\n"
            assert (await control.result())["out"] == b"two\n"

    scenario(body, api, sprite)


def test_an_operation_in_the_query(api: Api, sprite: str) -> None:
    async def body(control: Control) -> None:
        assert (await control.result())["out"] == b"x\n"
        assert (await control.run("echo", "y"))["out"] == b"y\n"

    scenario(body, api, sprite, query="?op=exec&cmd=echo&cmd=x")


def test_a_client_that_cannot_use_it_is_sent_elsewhere(api: Api, sprite: str) -> None:
    async def status(name: str, agent: str) -> int:
        with pytest.raises(InvalidStatus) as refused:
            async with Control(api, name, agent=agent):
                pass
        return refused.value.response.status_code

    assert asyncio.run(status(sprite, "sprites-go-sdk/1.0")) == 404
    assert asyncio.run(status("no-such-sprite", "tests")) == 404


def test_when_the_client_goes_its_command_ends(api: Api, sprite: str) -> None:
    async def body(control: Control) -> None:
        await control.start("sh", "-c", "sleep 60", max_run_after_disconnect="1s")
        await control.ws.recv()
        control.ws.transport.abort()

    scenario(body, api, sprite)
    eventually(lambda: not api.sessions(sprite), "the command was stopped", 15)


def test_idle_connections_are_pinged_and_get_no_message(api: Api, sprite: str) -> None:
    async def body(control: Control) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(control.ws.recv(), 18)
        assert (await control.run("echo", "x"))["out"] == b"x\n"

    scenario(body, api, sprite)


def test_a_graceful_stop(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    api.create("drained")

    async def run() -> None:
        async with Control(api, "drained") as idle, Control(api, "drained") as busy, Control(api, "drained") as long:
            await busy.start("sh", "-c", "sleep 1; echo whole")
            await long.start("sleep", "100")
            await asyncio.gather(busy.ws.recv(), long.ws.recv())
            start = time.monotonic()
            stopping = asyncio.create_task(asyncio.to_thread(daemon.terminate))
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(idle.ws.recv(), 2)
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
            assert (await busy.result())["out"] == b"whole\n", "a command about to end was cut off"
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await asyncio.wait_for(long.ws.recv(), 10)
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
            assert time.monotonic() - start < 8
            await stopping

    asyncio.run(run())
    daemon.start()
    assert [one["command"].split()[-1] for one in daemon.api().sessions("drained")] == ["100"], "it went on without us"


def test_a_tcp_connection_is_an_operation(api: Api, sprite: str) -> None:
    server = """
import socket
one = socket.create_server(("127.0.0.1", 7000))
open("/tmp/listens", "w").close()
while True:
    client, _ = one.accept()
    while data := client.recv(65536):
        client.sendall(data.upper())
        if b"\\n" in data: break
    client.close()
"""
    script = f"python3 -c '{server}' > /dev/null 2>&1 < /dev/null & while ! test -e /tmp/listens; do sleep 0.05; done"
    shell(api, sprite, script)

    async def body(control: Control) -> None:
        for _ in range(2):
            await control.start(op="proxy", host="localhost", port="7000")
            first = await asyncio.wait_for(control.ws.recv(), 20)
            assert json.loads(first) == {"status": "connected", "target": "localhost:7000"}
            await control.ws.send(b"x" * 100_000)
            await control.ws.send(b"end\n")
            received = b""
            while isinstance(message := await asyncio.wait_for(control.ws.recv(), 20), bytes):
                received += message
            assert received == b"X" * 100_000 + b"END\n"
            assert json.loads(message.removeprefix(PREFIX)) == {"type": "op.complete", "args": {"ok": True, "exitCode": 0}}
        # Given up for a command, on the same connection.
        await control.start(op="proxy", port=7000)
        await asyncio.wait_for(control.ws.recv(), 20)
        assert (await control.run("echo", "next"))["out"] == b"next\n"
        for port in ("1", "0", "x", "70000"):
            await control.start(op="proxy", port=port)
            failed = await control.result()
            assert failed["end"]["type"] == "op.error" and failed["code"] and failed["error"]
        assert (await control.run("echo", "still"))["out"] == b"still\n"

    scenario(body, api, sprite)

    async def by_query(control: Control) -> None:
        assert json.loads(await asyncio.wait_for(control.ws.recv(), 20))["status"] == "connected"

    scenario(by_query, api, sprite, query="?op=proxy&port=7000")
