# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""A program on a real pseudo-terminal, seen as a person sees it."""

import errno
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time


class Terminal:
    """Runs a program on a terminal of its own and reads what it shows."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: str, rows: int = 30, columns: int = 100) -> None:
        self.output = b""
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(folder)
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
                os.execve(command[0], command, environment)
            finally:
                os._exit(127)
        self.status: int | None = None

    def send(self, data: bytes) -> None:
        os.write(self.descriptor, data)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.kill(self.pid, signal.SIGWINCH)

    def settings(self) -> list[object]:
        """The line discipline's settings: raw while a console runs, as before after it."""
        return termios.tcgetattr(self.descriptor)

    def _read(self, timeout: float) -> bool:
        ready, _, _ = select.select([self.descriptor], [], [], timeout)
        if not ready:
            return True
        try:
            data = os.read(self.descriptor, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return False
        self.output += data
        return bool(data)

    def expect(self, wanted: bytes, timeout: float = 20) -> bytes:
        """Reads on until `wanted` is shown; what was shown up to it is then forgotten."""
        deadline = time.monotonic() + timeout
        while wanted not in self.output:
            assert time.monotonic() < deadline, f"{wanted!r} is not shown; there is {self.output[-2000:]!r}"
            if not self._read(0.2):
                break
        assert wanted in self.output, f"{wanted!r} is not shown and the program ended; there is {self.output[-2000:]!r}"
        position = self.output.index(wanted) + len(wanted)
        seen, self.output = self.output[:position], self.output[position:]
        return seen

    def wait(self, timeout: float = 20) -> int:
        """The exit code, 128 + n for a signal."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self._read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                return self.status if self.status >= 0 else 128 - self.status
        raise AssertionError(f"the program did not end; it shows {self.output[-2000:]!r}")

    def close(self) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.descriptor)
