# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Commands over the exec WebSocket, frame by frame."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from support.api import Api

STDIN, STDOUT, STDERR, EXIT, STDIN_END = range(5)


@dataclass
class Result:
    """How a command went; `code` stays None when the connection ended without an exit."""

    stdout: bytes = b""
    stderr: bytes = b""
    code: int | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)
    close_code: int | None = None

    @property
    def text(self) -> str:
        return self.stdout.decode()


def query(
    arguments: list[str], env: Mapping[str, str] | None = None, stdin: bool = False, tty: bool = False, **others: Any
) -> str:
    pairs = [("cmd", argument) for argument in arguments]
    pairs += [("env", f"{name}={value}") for name, value in (env or {}).items()]
    pairs += [("stdin", "true" if stdin else "false")] + ([("tty", "true")] if tty else [])
    pairs += [(name, str(value)) for name, value in others.items() if value is not None]
    return urlencode(pairs)


class Session:
    """One connection to one command, new or attached."""

    def __init__(self, api: Api, path: str) -> None:
        self.url = api.url.replace("http", "ws", 1) + path
        self.headers = {"Authorization": f"Bearer {api.token}"}
        self.socket: ClientConnection | None = None
        self.result = Result()
        self.info: dict[str, Any] = {}

    async def __aenter__(self) -> "Session":
        self.socket = await connect(
            self.url, additional_headers=self.headers, max_size=32 << 20, compression=None, open_timeout=60,
            ping_interval=None, close_timeout=5, proxy=None,
        )  # fmt: skip
        first = await asyncio.wait_for(self.socket.recv(), 60)
        assert isinstance(first, str), f"the first frame must be session_info, it was {first[:80]!r}"
        self.info = json.loads(first)
        assert self.info["type"] == "session_info", self.info
        assert isinstance(self.info["session_id"], str), self.info
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.socket is not None:
            await self.socket.close()

    @property
    def id(self) -> str:
        return str(self.info["session_id"])

    @property
    def is_terminal(self) -> bool:
        return bool(self.info["tty"])

    async def send(self, data: bytes) -> None:
        assert self.socket is not None
        await self.socket.send(data if self.is_terminal else bytes([STDIN]) + data)

    async def end_input(self) -> None:
        assert self.socket is not None
        await self.socket.send(bytes([STDIN_END]))

    async def control(self, **message: Any) -> None:
        assert self.socket is not None
        await self.socket.send(json.dumps(message))

    async def step(self) -> bool:
        """Takes one message; False once the exit or the end of the connection is there."""
        assert self.socket is not None
        try:
            message = await self.socket.recv()
        except ConnectionClosed as closed:
            self.result.close_code = closed.rcvd.code if closed.rcvd else None
            return False
        if isinstance(message, str):
            return self._take_text(json.loads(message))
        if self.is_terminal:
            self.result.stdout += message
            return True
        stream, data = message[0], message[1:]
        if stream == EXIT:
            assert len(data) == 1, f"the exit frame must hold one byte, it holds {data!r}"
            self.result.code = data[0]
            return False
        assert stream in (STDOUT, STDERR), f"unknown stream {stream}"
        if stream == STDOUT:
            self.result.stdout += data
        else:
            self.result.stderr += data
        return True

    def _take_text(self, message: dict[str, Any]) -> bool:
        self.result.messages.append(message)
        if message["type"] != "exit":
            return True
        assert self.is_terminal, "a text exit came without a terminal"
        self.result.code = message["exit_code"]
        return False

    async def finish(self, timeout: float = 60) -> Result:
        """Everything up to the exit."""
        async with asyncio.timeout(timeout):
            while await self.step():
                pass
        return self.result

    async def read_until(self, wanted: bytes, timeout: float = 20) -> bytes:
        """Reads on until `wanted` was seen in the standard output."""
        try:
            async with asyncio.timeout(timeout):
                while wanted not in self.result.stdout:
                    if not await self.step():
                        break
        except TimeoutError:
            pass
        assert wanted in self.result.stdout, f"{wanted!r} did not come; there is {self.result.stdout[-2000:]!r}"
        return self.result.stdout

    def drop(self) -> None:
        """Cuts the TCP connection without a closing handshake."""
        assert self.socket is not None
        self.socket.transport.abort()


def open_exec(api: Api, sprite: str, *arguments: str, **options: Any) -> Session:
    return Session(api, f"/v1/sprites/{sprite}/exec?{query(list(arguments), **options)}")


def attach(api: Api, sprite: str, session: str) -> Session:
    return Session(api, f"/v1/sprites/{sprite}/exec/{session}")


async def run_async(
    api: Api, sprite: str, *arguments: str, input: bytes | None = None, timeout: float = 60, **options: Any
) -> Result:
    async with open_exec(api, sprite, *arguments, stdin=input is not None, **options) as session:
        if input is not None:
            sender = asyncio.create_task(_send_all(session, input))
            result = await session.finish(timeout)
            sender.cancel()
            return result
        return await session.finish(timeout)


async def _send_all(session: Session, data: bytes) -> None:
    for start in range(0, len(data), 256 << 10):
        await session.send(data[start : start + (256 << 10)])
    await session.end_input()


def run(
    api: Api, sprite: str, *arguments: str, input: bytes | None = None, timeout: float = 60, **options: Any
) -> Result:
    """Runs a command to its end."""
    return asyncio.run(run_async(api, sprite, *arguments, input=input, timeout=timeout, **options))


def shell(api: Api, sprite: str, script: str, **options: Any) -> str:
    """The standard output of a script that must succeed."""
    result = run(api, sprite, "sh", "-c", script, **options)
    assert result.code == 0, f"{script!r} ended with {result.code}: {result.stderr.decode(errors='replace')}"
    return result.text


def root_shell(api: Api, sprite: str, script: str, **options: Any) -> str:
    return shell(api, sprite, f"sudo sh -c {_quoted(script)}", **options)


def _quoted(text: str) -> str:
    escaped = text.replace("'", "'\\''")
    return f"'{escaped}'"
