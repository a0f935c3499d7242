# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""A real `sprited` with a data directory and a port of its own."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from support import programs
from support.api import Api
from support.wait import eventually

LISTENING = re.compile(r"^listening on (https?://\S+)$")


class Daemon:
    """Starts, kills and restarts one daemon; the data directory survives all of these."""

    def __init__(self, data_directory: Path, log: Path, options: list[str] | None = None) -> None:
        self.data_directory = data_directory
        self.log = log
        self.options = options or []
        #: The program of the next start, where it is not the usual one.
        self.program: Path | None = None
        self.url = ""
        self.listen = "127.0.0.1:0"
        #: A PEM file, where the daemon speaks TLS.
        self.authority: str | None = None
        self.process: subprocess.Popen[str] | None = None
        self.standard_output: list[str] = []
        self._clients: list[Api] = []
        data_directory.mkdir(parents=True, exist_ok=True)

    @property
    def tag(self) -> str:
        """What every host-global name of this daemon holds: FNV-1a of the real path, folded to 32 bits."""
        hashed = 0xCBF29CE484222325
        for byte in os.path.realpath(self.data_directory).encode():
            hashed = (hashed ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
        return f"{(hashed ^ hashed >> 32) & 0xFFFFFFFF:08x}"

    @property
    def token(self) -> str:
        return (self.data_directory / "token").read_text().strip()

    @property
    def pid(self) -> int:
        assert self.process is not None, "the daemon was not started"
        return self.process.pid

    def tool(self, *arguments: str, timeout: float = 300, expect: int = 0) -> str:
        """Runs another command of `sprited` on this data directory; for an `expect`ed failure returns what it said."""
        command = [str(programs.sprited()), *arguments, "--data-dir", str(self.data_directory)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        with self.log.open("a") as log:
            # Not what it printed on standard output: that may be the token.
            log.write(f"$ {' '.join(command)}\n{done.stderr}")
        assert done.returncode == expect, f"{command} ended with {done.returncode}: {done.stderr}{done.stdout}"
        return done.stdout if expect == 0 else done.stderr

    def import_base(self, tar: Path, name: str = "default", init: str | None = None) -> None:
        self.tool("base", "import", "--name", name, *(["--init", init] if init else []), str(tar))

    def start(self, timeout: float = 60, environment: dict[str, str] | None = None) -> "Daemon":
        """Returns once the daemon said that it listens; keeps the same port from the first start on."""
        command = [
            str(self.program or programs.sprited()), "serve", "--data-dir", str(self.data_directory), "--listen", self.listen,
            "--guest-binary", str(programs.guest()), *self.options,
        ]  # fmt: skip
        with self.log.open("a") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **(environment or {})}
            )
        self.standard_output = []
        reader = threading.Thread(target=self._read_output, args=(self.process,), daemon=True)
        reader.start()
        eventually(self._listens_or_ended, f"sprited listens; its log is {self.log}", timeout)
        assert self.process.poll() is None, f"sprited ended with {self.process.returncode}; its log:\n{self.tail()}"
        match = LISTENING.match(self.standard_output[0])
        assert match, f"unexpected first line on stdout: {self.standard_output[0]!r}"
        self.url = match.group(1)
        self.listen = self.url.split("://")[1]
        return self

    def _read_output(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.standard_output.append(line.rstrip("\n"))

    def _listens_or_ended(self) -> bool:
        assert self.process is not None
        return bool(self.standard_output) or self.process.poll() is not None

    def api(self) -> Api:
        client = Api(self.url, self.token, authority=self.authority)
        self._clients.append(client)
        return client

    def kill(self) -> None:
        """kill -9: what a crash looks like."""
        assert self.process is not None
        self.process.kill()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            # A thread that waits for the disk goes when that answers, and a shared one may be slow.
            warnings.warn(f"the killed daemon is still there: {''.join(self._waits())}", stacklevel=2)
            self.process.wait(timeout=150)

    def _waits(self) -> Iterator[str]:
        """What the kernel does for each thread of the daemon."""
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                state = (task / "stat").read_text().rsplit(")", 1)[1].split()[0]
                yield f"{task.name} {state}:\n{(task / 'stack').read_text()}"

    def terminate(self, timeout: float = 60) -> int:
        """A graceful stop: sprites go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=timeout)

    def restart(self) -> "Daemon":
        self.kill()
        return self.start()

    def abandon(self) -> None:
        """Ends the process if it still runs: no daemon may outlive the test that started it."""
        if self.runs:
            self.kill()

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def tail(self, lines: int = 40) -> str:
        written = self.log.read_text(errors="replace").splitlines()
        return "\n".join([line for line in written if '"message":"request"' not in line][-lines:])

    def remove(self) -> None:
        """Deletes every sprite, stops the daemon, deletes the data directory."""
        if not self.runs:
            self.start()
        api = self.api()
        for sprite in api.all_sprites():
            api.destroy(sprite["name"])
        self.terminate()
        for client in self._clients:
            client.close()
        self.tool("cleanup")
        shutil.rmtree(self.data_directory)

    def finish(self) -> None:
        """Removes it when its tests are through; where that fails, its log stays."""
        try:
            self.remove()
        except BaseException:
            self.abandon()
            raise
        self.log.unlink()
