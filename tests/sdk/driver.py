# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Talks to the driver program of an SDK; conformance/README.md has the protocol."""

import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any


class DriverError(Exception):
    """What the SDK raised, as the driver tells it."""

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__(f"{fields.get('code')}: {fields.get('message')}")
        self.fields = fields


class Driver:
    """One process of a driver."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **environment},
            )
        self._waiting: dict[int, "Call"] = {}
        self._lock = threading.Lock()
        self._count = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            reply = json.loads(line)
            with self._lock:
                call = self._waiting.pop(reply["id"])
            call.reply = reply
            call.done.set()
        with self._lock:
            for call in self._waiting.values():
                call.done.set()

    def begin(self, verb: str, **fields: Any) -> "Call":
        with self._lock:
            self._count += 1
            call = Call(verb)
            self._waiting[self._count] = call
            line = json.dumps({"id": self._count, "do": verb, **fields}) + "\n"
            assert self.process.stdin
            self.process.stdin.write(line.encode())
            self.process.stdin.flush()
        return call

    def call(self, verb: str, timeout: float = 60, **fields: Any) -> dict[str, Any]:
        return self.begin(verb, **fields).result(timeout)

    def sockets(self) -> int:
        """How many sockets the process has open."""
        count = 0
        for entry in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                count += os.readlink(entry).startswith("socket:")
            except FileNotFoundError:
                pass
        return count

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.process.wait(timeout=5)


class Call:
    """A request that was made."""

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.done = threading.Event()
        self.reply: dict[str, Any] | None = None

    def result(self, timeout: float = 60) -> dict[str, Any]:
        assert self.done.wait(timeout), f"the driver did not answer '{self.verb}' within {timeout} s"
        assert self.reply is not None, f"the driver ended during '{self.verb}'"
        if "error" in self.reply:
            raise DriverError(self.reply["error"])
        answer = self.reply["ok"]
        assert isinstance(answer, dict)
        return answer
