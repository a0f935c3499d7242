# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What the API tells, as values. Each keeps the whole answer in `raw`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Union

from .errors import CommandFailed

#: A command: a text that the shell runs, or a list of arguments that is run as it is.
CommandLine = Union[str, Sequence[str]]


def time_of(text: Any) -> datetime | None:
    """A time of the API; None if there is none."""
    if not isinstance(text, str) or not text:
        return None
    head, _, fraction = text.rstrip("Z").partition(".")
    try:
        moment = datetime.strptime(head, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
        return moment.replace(microsecond=int(fraction[:6].ljust(6, "0"))) if fraction else moment
    except ValueError:
        return None


@dataclass(frozen=True)
class Limits:
    """What a sprite may use; None leaves the server's default, 0 means no limit."""

    ram_mb: int | None = None
    cpus: float | None = None
    pids: int | None = None
    freeze_after_seconds: int | None = None
    stop_after_seconds: int | None = None

    def body(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Secret:
    """A secret that a sprite's HTTPS requests to one host carry; the server never tells its value."""

    id: str
    host: str
    header: str
    #: What the header says, with {} in the place of the value.
    format: str
    created: datetime | None
    #: To the minute.
    last_used: datetime | None

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Secret:
        return cls(
            raw["id"], raw["host"], raw["header"], raw["format"], time_of(raw.get("created_at")),
            time_of(raw.get("last_used_at")),
        )  # fmt: skip


@dataclass(frozen=True)
class SpriteInfo:
    """A sprite as the server described it."""

    id: str
    name: str
    status: str
    url: str
    labels: list[str]
    environment: dict[str, str]
    created_at: datetime | None
    raw: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, raw: dict[str, Any]) -> SpriteInfo:
        return cls(
            raw.get("id", ""), raw["name"], raw.get("status", ""), raw.get("url", ""), list(raw.get("labels") or []),
            dict(raw.get("environment") or {}), time_of(raw.get("created_at")), raw,
        )  # fmt: skip


@dataclass(frozen=True)
class Result:
    """How a command ended, with all it printed."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        return self.exit_code == 0

    @property
    def stdout_text(self) -> str:
        return self.stdout.decode("utf-8", "replace")

    @property
    def stderr_text(self) -> str:
        return self.stderr.decode("utf-8", "replace")

    def check(self) -> Result:
        """Itself; raises `CommandFailed` unless the exit code is 0."""
        if self.exit_code == 0:
            return self
        last = self.stderr_text.strip().splitlines()[-1:] or [""]
        error = CommandFailed(
            f"the command ended with exit code {self.exit_code}" + (f": {last[0]}" if last[0] else "")
        )
        error.exit_code, error.stdout, error.stderr = self.exit_code, self.stdout, self.stderr
        raise error


@dataclass(frozen=True)
class TerminalSize:
    rows: int = 24
    cols: int = 80


@dataclass(frozen=True)
class Session:
    """A command that runs."""

    id: str
    command: str
    directory: str
    tty: bool
    created: datetime | None
    raw: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Session:
        return cls(raw["id"], raw.get("command", ""), raw.get("workdir", ""), bool(raw.get("tty")),
                   time_of(raw.get("created")), raw)  # fmt: skip


@dataclass(frozen=True)
class FileEntry:
    name: str
    path: str
    type: str
    size: int
    #: Permissions as a number: 0o644.
    mode: int
    modified: datetime | None
    raw: dict[str, Any] = field(repr=False, compare=False)

    @property
    def is_dir(self) -> bool:
        return self.type == "directory"

    @classmethod
    def of(cls, raw: dict[str, Any]) -> FileEntry:
        return cls(raw["name"], raw["path"], raw["type"], int(raw["size"]), int(raw["mode"], 8),
                   time_of(raw.get("modTime")), raw)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    id: str
    created: datetime | None
    comment: str
    source_id: str | None
    is_auto: bool
    raw: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Checkpoint:
        return cls(raw["id"], time_of(raw.get("create_time")), raw.get("comment") or "", raw.get("source_id"),
                   bool(raw.get("is_auto")), raw)  # fmt: skip


@dataclass(frozen=True)
class Restored:
    """What a restore did; `replaced_id` is the automatic checkpoint of the state it replaced."""

    id: str | None
    replaced_id: str | None


@dataclass(frozen=True)
class Service:
    name: str
    cmd: str
    args: list[str]
    needs: list[str]
    http_port: int | None
    status: str
    restart_count: int
    raw: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Service:
        state = raw.get("state") or {}
        return cls(raw["name"], raw.get("cmd", ""), list(raw.get("args") or []), list(raw.get("needs") or []),
                   raw.get("http_port"), state.get("status", ""), int(state.get("restart_count") or 0),
                   raw)  # fmt: skip


@dataclass(frozen=True)
class Event:
    """A line of a stream: of a checkpoint, a service, a watch or the journal."""

    type: str
    data: str
    raw: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Event:
        return cls(
            str(raw.get("type") or raw.get("kind") or ""),
            str(raw.get("data") or raw.get("message") or raw.get("text") or ""),
            raw,
        )


def argv_of(command: CommandLine) -> list[str]:
    """The arguments of a command: a text is run by the shell."""
    if isinstance(command, str):
        return ["/bin/sh", "-c", command]
    arguments = [str(argument) for argument in command]
    if not arguments:
        raise ValueError("a command needs at least one argument")
    return arguments


def duration_of(seconds: float) -> str:
    """A duration as the API reads it."""
    return f"{round(seconds * 1000)}ms"


def environment_of(environment: Mapping[str, str] | None) -> list[str]:
    return [f"{name}={value}" for name, value in (environment or {}).items()]
