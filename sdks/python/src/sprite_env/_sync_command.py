# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Commands for callers that wait: run to the end, or with streams like `subprocess.Popen`."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Union

from ._aio_command import OUTPUT_LIMIT, AsyncCommand, AsyncProcess
from ._exec import PortHandler
from ._portal import Portal
from ._streams import AsyncOutput
from .models import Result

Input = Union[bytes, str, Iterable[bytes], None]


class _Reader(io.RawIOBase):
    def __init__(self, portal: Portal, output: AsyncOutput) -> None:
        self._portal, self._output = portal, output

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._portal.call(self._output.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)


class Output(io.BufferedReader):
    """An output stream of a command: a file object. `read1` gives what is there, iteration gives lines."""

    def __init__(self, portal: Portal, output: AsyncOutput) -> None:
        self._chunks = output
        self._portal = portal
        super().__init__(_Reader(portal, output), 1 << 20)


class StandardInput(io.RawIOBase):
    """Standard input of a command: a file object. `write` sends at once, `close` is the end of the input."""

    def __init__(self, portal: Portal, process: AsyncProcess) -> None:
        self._portal, self._process = portal, process

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.closed:
            raise ValueError("standard input is closed")
        sent = data.encode() if isinstance(data, str) else bytes(data)
        self._portal.call(self._process.stdin.write(sent))
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            try:
                self._portal.call(self._process.stdin.close())
            except RuntimeError:
                pass  # The client was closed before, and with it the command's connection.


class Process:
    """A command that runs, like `subprocess.Popen`."""

    def __init__(self, portal: Portal, process: AsyncProcess) -> None:
        self._portal, self._process = portal, process
        self.stdin = StandardInput(portal, process)
        self.stdout = Output(portal, process.stdout)
        self.stderr = Output(portal, process.stderr)

    @property
    def session_id(self) -> str | None:
        return self._process.session_id

    @property
    def exit_code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.exit_code

    @property
    def tty(self) -> bool:
        return self._process.tty

    def on_port(self, handler: PortHandler) -> None:
        """Calls `handler("opened" or "closed", port, address)`, on another thread, when the command listens."""
        self._process.on_port(handler)

    def started(self) -> str:
        """Waits until the command runs and returns its session's id."""
        return self._portal.call(self._process.started())

    def wait(self) -> int:
        """The exit code, once it has ended. Raises `CommandTimeout` or `ConnectionLost` otherwise."""
        return self._portal.call(self._process.wait())

    def communicate(self, input: Input = None) -> Result:
        """Sends the input, closes it, reads everything, waits for the end."""
        return self._portal.call(self._process.communicate(input))

    def signal(self, name: str) -> None:
        """Sends a signal, such as "INT", to the command's process group."""
        self._portal.call(self._process.signal(name))

    def terminate(self) -> None:
        self.signal("TERM")

    def kill(self) -> None:
        self.signal("KILL")

    def resize(self, rows: int, cols: int) -> None:
        self._portal.call(self._process.resize(rows, cols))

    def detach(self) -> None:
        """Leaves. A terminal or a detachable command goes on; any other is ended by the server a while later."""
        self._portal.call(self._process.detach())

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exc: object) -> None:
        self._portal.call(self._process.__aexit__(*exc))


@dataclass(frozen=True)
class Command:
    """A command of a sprite, not yet run. It can be run any number of times."""

    _portal: Portal
    _command: AsyncCommand

    def with_options(self, **changes: Any) -> Command:
        """The same command with other options."""
        return Command(self._portal, self._command.with_options(**changes))

    def run(self, input: Input = None, *, check: bool = False, output_limit: int = OUTPUT_LIMIT) -> Result:
        """Runs it to its end and returns the exit code and all output. With `check`, another code than 0 raises."""
        return self._portal.call(self._command.run(input, check=check, output_limit=output_limit))

    def output(self, input: Input = None) -> str:
        """What it prints on standard output, as text; raises `CommandFailed` unless it succeeds."""
        return self._portal.call(self._command.output(input))

    def start(self) -> Process:
        """Starts it with streams; use it as a context: `with command.start() as process`."""
        return Process(self._portal, self._portal.call(self._command.start()))
