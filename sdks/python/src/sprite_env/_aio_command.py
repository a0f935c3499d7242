# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Commands for asyncio: run to the end, or run with streams like `asyncio.subprocess`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Union

from . import errors
from ._exec import STDERR, STDOUT, Exec, PortHandler, Spec
from ._pool import Pool
from ._streams import AsyncOutput, Buffers
from ._transport import Transport, segment
from .models import Result, TerminalSize, duration_of

Input = Union[bytes, str, Iterable[bytes], AsyncIterable[bytes], None]
OUTPUT_LIMIT = 256 << 20


class AsyncInput:
    """Standard input of a command that runs."""

    def __init__(self, running: Exec) -> None:
        self._running = running
        self._closed = False

    async def write(self, data: bytes | str) -> None:
        """Sends all of it; waits while the command does not read."""
        if self._closed:
            raise ValueError("standard input is closed")
        await self._running.write(data.encode() if isinstance(data, str) else data)

    async def close(self) -> None:
        """The command reads the end of its input."""
        if not self._closed:
            self._closed = True
            await self._running.close_input()


class AsyncProcess:
    """A command that runs, like `asyncio.subprocess.Process`."""

    def __init__(self, running: Exec, spec: Spec | None) -> None:
        self._running = running
        self._spec = spec
        self._buffers = Buffers()
        self.stdin = AsyncInput(running)
        #: What it prints; in a terminal everything.
        self.stdout: AsyncOutput = self._buffers.stdout
        self.stderr: AsyncOutput = self._buffers.stderr
        self._pump = asyncio.get_running_loop().create_task(self._read())

    @property
    def session_id(self) -> str | None:
        """The session's id; known when `started` returned."""
        return self._running.session_id

    @property
    def exit_code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._running.exit_code if self._pump.done() else None

    @property
    def tty(self) -> bool:
        return self._running.tty

    def on_port(self, handler: PortHandler) -> None:
        """Calls `handler("opened" or "closed", port, address)` when the command listens on ports."""
        self._running.on_port = handler

    async def _read(self) -> int:
        failure: BaseException | None = None
        try:
            return await self._running.pump(self._sink)
        except BaseException as raised:
            failure = raised
            raise
        finally:
            self._buffers.end(failure if isinstance(failure, errors.SpriteError) else None)

    def _sink(self, stream: int, data: bytes) -> Any:
        if stream == STDOUT:
            self.stdout.feed(data)
        elif stream == STDERR:
            self.stderr.feed(data)
        return None if self._buffers._may_read_freely() else self._buffers.space()

    async def started(self) -> str:
        """Waits until the command runs and returns its session's id."""
        await self._running.introduced.wait()
        if self.session_id is None:
            await self.wait()
            raise errors.InvalidResponse("the server told no session id")
        return self.session_id

    async def wait(self) -> int:
        """The exit code, once it has ended. Raises `CommandTimeout` or `ConnectionLost` otherwise."""
        self._buffers.awaited = True
        self._buffers.changed()
        code = await self._finish()
        if self._running.timed_out:
            raise timeout_of(self._spec, self._running, b"", b"")
        return code

    async def _finish(self) -> int:
        try:
            return await asyncio.shield(self._pump)
        except errors.ConnectionLost as lost:
            if self._running.timed_out:
                raise timeout_of(self._spec, self._running, b"", b"", unknown=True) from lost
            raise

    async def communicate(self, input: Input = None) -> Result:
        """Sends the input, closes it, reads everything, waits for the end."""
        sender = asyncio.ensure_future(send_input(self._running, input))
        try:
            stdout, stderr = await asyncio.gather(self.stdout.read(), self.stderr.read())
            code = await self.wait()
        finally:
            sender.cancel()
        return Result(code, stdout, stderr)

    async def signal(self, name: str) -> None:
        """Sends a signal, such as "INT", to the command's process group."""
        await self._running.signal(name)

    async def terminate(self) -> None:
        await self.signal("TERM")

    async def kill(self) -> None:
        await self.signal("KILL")

    async def resize(self, rows: int, cols: int) -> None:
        await self._running.resize(TerminalSize(rows, cols))

    async def detach(self) -> None:
        """Leaves. A terminal or a detachable command goes on; any other is ended by the server a while later."""
        self._pump.cancel()
        await asyncio.wait([self._pump])
        await self._running.abandon()

    async def __aenter__(self) -> AsyncProcess:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if not self._pump.done():
            await self._running.abandon(kill=self._spec is not None and not self._spec.detachable)
        self._pump.cancel()
        await asyncio.wait([self._pump])
        if not self._pump.cancelled():
            self._pump.exception()  # It was told to whoever read or waited.


def timeout_of(
    spec: Spec | None, running: Exec, out: bytes, err: bytes, unknown: bool = False
) -> errors.CommandTimeout:
    limit = f" of {spec.timeout} s" if spec else ""
    raised = errors.CommandTimeout(f"the command ran longer than its limit{limit} and was ended")
    raised.stdout, raised.stderr = out, err
    raised.session_id, raised.may_be_running = running.session_id, unknown
    return raised


async def send_input(running: Exec, data: Input) -> None:
    """Sends everything and the end of input. A command that does not read to the end is no error."""
    try:
        if isinstance(data, (bytes, str)):
            await running.write(data.encode() if isinstance(data, str) else data)
        elif isinstance(data, AsyncIterable):
            async for chunk in data:
                await running.write(chunk)
        elif data is not None:
            for chunk in data:
                await running.write(chunk)
        await running.close_input()
    except (errors.CommandEnded, errors.ConnectionLost):
        pass  # What reads the output tells it.


@dataclass(frozen=True)
class AsyncCommand:
    """A command of a sprite, not yet run. It can be run any number of times."""

    _pool: Pool
    _sprite: str
    spec: Spec

    def with_options(self, **changes: Any) -> AsyncCommand:
        """The same command with other options."""
        return replace(self, spec=replace(self.spec, **changes))

    async def run(self, input: Input = None, *, check: bool = False, output_limit: int = OUTPUT_LIMIT) -> Result:
        """Runs it to its end and returns the exit code and all output. With `check`, another code than 0 raises."""
        collected: tuple[list[bytes], list[bytes]] = ([], [])
        size = 0

        def sink(stream: int, data: bytes) -> None:
            nonlocal size
            size += len(data)
            if size > output_limit:
                raise errors.OutputLimit(f"the command printed more than {output_limit} bytes")
            if stream in (STDOUT, STDERR):
                collected[stream - 1].append(data)

        running = await Exec.start(self._pool, self._sprite, self.spec, stdin=input is not None)
        sender = asyncio.ensure_future(send_input(running, input)) if input is not None else None
        try:
            code = await running.pump(sink)
        except asyncio.CancelledError:
            # The pump has left; nobody waits for this command any more.
            if running.session_id:
                await asyncio.shield(_kill_quietly(self._pool.transport, self._sprite, running.session_id))
            raise
        except errors.ConnectionLost as lost:
            if running.timed_out:
                joined = b"".join(collected[0]), b"".join(collected[1])
                raise timeout_of(self.spec, running, *joined, unknown=True) from lost
            raise
        finally:
            if sender is not None:
                sender.cancel()
        stdout, stderr = b"".join(collected[0]), b"".join(collected[1])
        if running.timed_out:
            raise timeout_of(self.spec, running, stdout, stderr)
        result = Result(code, stdout, stderr)
        return result.check() if check else result

    async def output(self, input: Input = None) -> str:
        """What it prints on standard output, as text; raises `CommandFailed` unless it succeeds."""
        return (await self.run(input, check=True)).stdout_text

    async def start(self) -> AsyncProcess:
        """Starts it with streams; use it as a context: `async with await command.start() as process`."""
        return AsyncProcess(await Exec.start(self._pool, self._sprite, self.spec, stdin=True), self.spec)


async def _kill_quietly(transport: Transport, sprite: str, session_id: str) -> None:
    try:
        await asyncio.wait_for(kill(transport, sprite, session_id, "KILL", 0), 5)
    except Exception:
        pass


async def kill(transport: Transport, sprite: str, session_id: str, signal: str, timeout: float) -> int | None:
    """Signals a session; SIGKILL follows after the timeout. Its exit code, if it has ended."""
    path = f"/v1/sprites/{segment(sprite)}/exec/{segment(session_id)}/kill"
    query = [("signal", signal), ("timeout", duration_of(timeout))]
    body = await transport.request("POST", path, query, timeout=timeout + transport.options.request_timeout)
    events = [json.loads(line) for line in body.splitlines() if line.strip()]
    last = events[-1] if events else {}
    if last.get("type") == "error":
        raise errors.from_event(last, None)
    code = last.get("exit_code")
    return int(code) if code is not None else None
