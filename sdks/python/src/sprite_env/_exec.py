# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""One command over one connection: its messages, its end and what became of it if the connection breaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from . import errors
from ._pool import Pool
from ._transport import READ_WAITS, segment
from .models import CommandLine, TerminalSize, argv_of, duration_of, environment_of

CONTROL = "control:"
STDIN, STDOUT, STDERR, EXIT, END_OF_INPUT = range(5)
#: Messages of input are cut to this size.
INPUT_CHUNK = 256 << 10
PortHandler = Callable[[str, int, str], None]


@dataclass(frozen=True)
class Spec:
    """What to run and how."""

    command: CommandLine
    environment: Mapping[str, str] | None = None
    directory: str | None = None
    user: str | None = None
    tty: TerminalSize | None = None
    #: Goes on when its client leaves.
    detachable: bool = False
    #: Seconds it may run; then it gets SIGTERM, and SIGKILL `kill_after` seconds later.
    timeout: float | None = None
    kill_after: float = 5
    #: Seconds it may go on after the connection was lost; None takes the server's default.
    max_run_after_disconnect: float | None = None

    def arguments(self, stdin: bool) -> dict[str, Any]:
        argv = argv_of(self.command)
        arguments: dict[str, Any] = {"cmd": argv, "path": argv[0], "stdin": "true" if stdin else "false"}
        if environment := environment_of(self.environment):
            arguments["env"] = environment
        if self.directory is not None:
            arguments["dir"] = self.directory
        if self.user is not None:
            arguments["user"] = self.user
        if self.tty is not None:
            arguments.update(tty="true", rows=str(self.tty.rows), cols=str(self.tty.cols))
        if self.detachable:
            arguments["detachable"] = "true"
        if self.max_run_after_disconnect is not None:
            arguments["max_run_after_disconnect"] = duration_of(self.max_run_after_disconnect)
        return arguments


def _query(arguments: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, text) for name, value in arguments.items() for text in (value if isinstance(value, list) else [value])
    ]


class Exec:
    """A command on the wire. `pump` must run for anything to happen after the start."""

    def __init__(self, pool: Pool, sprite: str, connection: ClientConnection, *, control: bool, tty: bool) -> None:
        self._pool = pool
        self._sprite = sprite
        self._connection = connection
        self._control = control
        self.tty = tty
        self.session_id: str | None = None
        #: Set once the session's id is known, or never will be.
        self.introduced = asyncio.Event()
        self.exit_code: int | None = None
        self.timed_out = False
        self.on_port: PortHandler | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._released = False
        #: Why the connection ended, if it ended before the exit code came.
        self._loss: ConnectionClosed | None = None
        #: Which session this is, to resume it after the connection was lost; None if the server cannot.
        self._instance: str | None = None
        #: How much came of each stream, counted from the command's start; the first two are not used.
        self._offsets = [0, 0, 0]
        self._waits = iter(READ_WAITS)
        #: Not set while the connection is lost and may come back.
        self._settled = asyncio.Event()
        self._settled.set()
        #: Something was written that may or may not have arrived.
        self._has_written = False
        self._input_ended = False
        self._given_up = False
        #: The connection counts as one of the pool's.
        self._has_place = True

    @classmethod
    async def start(cls, pool: Pool, sprite: str, spec: Spec, stdin: bool) -> Exec:
        arguments = spec.arguments(stdin)
        # What outlives its client, and terminals, get a connection of their own.
        shared = spec.tty is None and not spec.detachable
        connection = await pool.control(sprite) if shared else None
        if connection is None:
            connection = await pool.direct(f"/v1/sprites/{segment(sprite)}/exec", _query(arguments))
            return cls(pool, sprite, connection, control=False, tty=spec.tty is not None)._timed(spec)
        running = cls(pool, sprite, connection, control=True, tty=False)
        start = json.dumps({"type": "op.start", "op": "exec", "args": arguments})
        try:
            await connection.send(CONTROL + start)
        except BaseException as failure:
            await running.abandon()
            if isinstance(failure, ConnectionClosed):
                raise running._lost(failure) from failure
            raise
        return running._timed(spec)

    @classmethod
    async def attach(cls, pool: Pool, sprite: str, session_id: str) -> Exec:
        waits = iter(READ_WAITS)
        while True:
            try:
                connection = await pool.direct(f"/v1/sprites/{segment(sprite)}/exec/{segment(session_id)}")
                break
            except (errors.ConnectionLost, errors.CannotConnect, errors.Unavailable):
                # The session outlives the server: whoever was cut off attaches while it starts again.
                wait = next(waits, None)
                if wait is None:
                    raise
            await asyncio.sleep(wait)
        running = cls(pool, sprite, connection, control=False, tty=False)
        running.session_id = session_id
        return running

    def _timed(self, spec: Spec) -> Exec:
        if spec.timeout is not None:
            loop = asyncio.get_running_loop()
            self._timers = [
                loop.call_later(spec.timeout, self._expire, "TERM"),
                loop.call_later(spec.timeout + spec.kill_after, self._expire, "KILL"),
                # If even that brings no end, the connection is of no use.
                loop.call_later(spec.timeout + spec.kill_after + 5, self._expire, None),
            ]
        return self

    def _expire(self, signal: str | None) -> None:
        self.timed_out = True
        self._given_up = signal is None
        self._later(self.signal(signal) if signal else self._connection.close())

    def _later(self, work: Any) -> None:
        async def quiet() -> None:
            try:
                await work
            except Exception:
                pass  # The pump tells what became of the connection.

        task = asyncio.get_running_loop().create_task(quiet())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def pump(self, sink: Callable[[int, bytes], Any]) -> int:
        """Reads until the command's end and returns its exit code. `sink` may return something to wait for."""
        try:
            while True:
                try:
                    return await self._ended(await self._read(sink))
                except ConnectionClosed as failure:
                    if self.exit_code is not None:  # Which comes after all output.
                        return await self._ended(self.exit_code)
                    if not await self._resume():
                        raise self._lost(failure) from failure
        except BaseException:
            await self.abandon()
            raise

    async def _read(self, sink: Callable[[int, bytes], Any]) -> int:
        recv = self._connection.recv
        while True:
            message = await recv()
            if isinstance(message, bytes):
                if self.tty:
                    waits = sink(STDOUT, message)
                elif not message:
                    continue
                elif message[0] == EXIT:
                    self.exit_code = message[1] if len(message) > 1 else 0
                    if not self._control:
                        return self.exit_code
                    continue
                else:
                    if message[0] <= STDERR:
                        self._offsets[message[0]] += len(message) - 1
                        self._waits = iter(READ_WAITS)
                    waits = sink(message[0], message[1:])
                if waits is not None:
                    await waits
            elif (code := self._take_text(message)) is not None:
                return code

    async def _resume(self) -> bool:
        """Attaches again where the output stopped. Not if input may be lost, nor in a terminal."""
        if self._instance is None or self.tty or self._has_written or self._given_up or self._released:
            return False
        self._settled.clear()
        path = f"/v1/sprites/{segment(self._sprite)}/exec/{segment(str(self.session_id))}"
        query = [
            ("instance", self._instance),
            ("stdout_offset", str(self._offsets[STDOUT])), ("stderr_offset", str(self._offsets[STDERR])),
        ]  # fmt: skip
        try:
            self._has_place = False
            await self._pool.close_one(self._connection)
            for wait in self._waits:
                await asyncio.sleep(wait)
                if self._given_up or self._released:
                    return False
                try:
                    connection = await self._pool.direct(path, query)
                    if self._released:  # Meanwhile.
                        await self._pool.close_one(connection)
                        return False
                    self._connection, self._control, self._has_place = connection, False, True
                    if self._input_ended:
                        await self._connection.send(b"\x04")
                    return True
                except (errors.ConnectionLost, errors.CannotConnect, errors.Unavailable):
                    continue
                except ConnectionClosed:
                    return True  # Whoever reads finds the same, and resumes again.
                except errors.SpriteError:
                    return False  # It has ended and was forgotten, or the output is not kept any more.
            return False
        finally:
            self._settled.set()

    def _take_text(self, message: str) -> int | None:
        """Returns the exit code if this was the end."""
        if self._control and message.startswith(CONTROL):
            event = json.loads(message[len(CONTROL) :])
            if event.get("type") == "op.complete":
                code = event.get("args", {}).get("exitCode", self.exit_code)
                if code is None:
                    raise errors.InvalidResponse("the command's end came without an exit code")
                return int(code)
            if event.get("type") == "op.error":
                told = event.get("args", {})
                raise errors.from_event(told, None)
            return None
        try:
            event = json.loads(message)
        except ValueError:
            return None
        kind = event.get("type") if isinstance(event, dict) else None
        if kind == "session_info":
            self.session_id = str(event.get("session_id"))
            self.tty = bool(event.get("tty"))
            before, offsets = self._instance, self._offsets
            self._instance = event.get("instance")
            self._offsets = [0, int(event.get("stdout_offset") or 0), int(event.get("stderr_offset") or 0)]
            if before is not None and (before, offsets) != (self._instance, self._offsets):
                raise errors.ConnectionLost("the connection ended, and the server does not resume the command")
            self.introduced.set()
        elif kind == "exit" and self.tty and not self._control:
            return int(event["exit_code"])
        elif kind in ("port_opened", "port_closed") and self.on_port is not None:
            self.on_port(str(kind)[5:], int(event["port"]), str(event.get("address", "")))
        return None

    async def _ended(self, code: int) -> int:
        self.exit_code = code
        await self._release(keep=self._control)
        return code

    async def _release(self, keep: bool) -> None:
        self.introduced.set()
        for timer in self._timers:
            timer.cancel()
        if self._released:
            return
        self._released = True
        if keep and not self._tasks and self._pool.keep(self._sprite, self._connection):
            return
        if self._has_place:
            await self._pool.close_one(self._connection)

    async def abandon(self, kill: bool = False) -> None:
        """Gives up the connection; the server ends what was not detached, at once with `kill`."""
        if kill and not self._released:
            try:
                await self.signal("KILL")
            except Exception:
                pass
        await self._release(keep=False)

    def _lost(self, failure: ConnectionClosed) -> errors.ConnectionLost:
        self._loss = failure
        why = f"{failure.rcvd.code} {failure.rcvd.reason}".strip() if failure.rcvd else "without a close"
        where = f", session {self.session_id}" if self.session_id else ""
        lost = errors.ConnectionLost(
            f"the connection ended before the command's exit code ({why}){where}",
            remedy="it may still run: look for it with sessions(), attach to it or kill it",
        )
        lost.session_id = self.session_id
        return lost

    # Input

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data).cast("B")
        try:
            for offset in range(0, len(view), INPUT_CHUNK):
                await self._settled.wait()
                self._check_running()
                self._has_written = True
                part = view[offset : offset + INPUT_CHUNK]
                await self._connection.send(bytes(part) if self.tty else b"\0" + bytes(part))
        except ConnectionClosed as failure:
            if self.exit_code is not None:
                raise errors.CommandEnded("the command has ended") from None
            raise self._lost(failure) from failure

    async def close_input(self) -> None:
        """The end of standard input; in a terminal what Ctrl+D types."""
        if self._released or self.exit_code is not None:
            return
        self._input_ended = not self.tty
        try:
            await self._connection.send(b"\x04")
        except ConnectionClosed:
            pass

    async def signal(self, name: str) -> None:
        await self._text({"type": "signal", "signal": name.upper()})

    async def resize(self, size: TerminalSize) -> None:
        await self._text({"type": "resize", "rows": size.rows, "cols": size.cols})

    async def _text(self, message: Mapping[str, Any]) -> None:
        while True:
            await self._settled.wait()
            self._check_running()
            connection = self._connection
            try:
                return await connection.send(json.dumps(message))
            except ConnectionClosed as failure:
                # Whoever reads finds out whether it comes back.
                if self._instance is None or self.tty or self._has_written or self._given_up:
                    raise self._lost(failure) from failure
                while connection is self._connection and not self._released:
                    await asyncio.sleep(0.01)

    def _check_running(self) -> None:
        # Also because the connection may already serve another command.
        if self.exit_code is None and self._loss is not None:
            raise self._lost(self._loss) from self._loss
        if self._released or self.exit_code is not None:
            raise errors.CommandEnded("the command has ended")
