# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What differs between two states of a disk, and commands that are undone if they fail."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from . import errors
from ._transport import Transport
from .models import CommandLine, Event


@dataclass(frozen=True)
class Change:
    """One difference between two states."""

    #: `added`, `removed`, `changed` or `renamed`.
    kind: str
    path: str
    #: Where something renamed was.
    from_path: str | None
    #: What differs of something that is in both: `content`, `mode`, `owner` and so on.
    fields: list[str]
    #: A unified diff, where it was asked for and can be told.
    patch: str | None
    raw: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Change:
        fields = list(raw.get("fields") or [])
        return cls(raw["change"], raw["path"], raw.get("from_path"), fields, raw.get("patch"), raw)


@dataclass(frozen=True)
class Diff:
    """What differs, sorted by path."""

    changes: list[Change]
    #: How many were `added`, `removed`, `changed` and `renamed`, and by how many `bytes` files grew.
    stat: dict[str, int]
    #: Whether the limit left some out.
    truncated: bool
    raw: dict[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Attempt:
    """How a command that can be undone ended."""

    #: `kept`, `rolled_back`, or `dropped` after a dry run.
    outcome: str
    exit_code: int | None
    check_exit_code: int | None
    stdout: bytes
    stderr: bytes
    #: What it changed, the first thousand; `stat` counts all.
    changes: list[Change]
    stat: dict[str, int]
    #: What keeps the state before.
    checkpoint_id: str | None
    #: What keeps the state that was rolled back.
    replaced_id: str | None
    raw: dict[str, Any] = field(repr=False, compare=False)

    @property
    def kept(self) -> bool:
        return self.outcome == "kept"


def _ended(last: dict[str, Any], what: str) -> dict[str, Any]:
    if last.get("type") == "complete":
        return last
    if last.get("type") == "error":
        raise errors.from_event(last, None)
    lost = errors.ConnectionLost(f"{what} ended without saying how it went")
    # Without its client a command that can be undone is undone, and a comparison is given up.
    lost.may_be_running = False
    raise lost


async def diff(transport: Transport, path: str, asked: Mapping[str, Any]) -> Diff:
    query = [(name, str(value).lower() if isinstance(value, bool) else str(value))
             for name, value in asked.items() if value is not None]  # fmt: skip
    changes: list[Change] = []
    last: dict[str, Any] = {}
    async for raw in transport.lines("GET", f"{path}/diff", query):
        last = raw
        if raw["type"] == "change":
            changes.append(Change.of(raw))
    end = _ended(last, f"GET {path}/diff")
    return Diff(changes, end.get("stat") or {}, bool(end.get("truncated")), end)


async def attempt(
    transport: Transport, path: str, command: CommandLine, *, check: CommandLine | None, dry_run: bool,
    timeout: float | None, environment: Mapping[str, str] | None, directory: str | None, user: str | None,
    on_event: Callable[[Event], None] | None,
) -> Attempt:  # fmt: skip
    asked: dict[str, Any] = {
        "command": command if isinstance(command, str) else list(command),
        "check": check if check is None or isinstance(check, str) else list(check),
        "dry_run": dry_run or None, "timeout_seconds": timeout, "env": dict(environment) if environment else None,
        "dir": directory, "user": user,
    }  # fmt: skip
    body = {name: value for name, value in asked.items() if value is not None}
    printed = {"stdout": bytearray(), "stderr": bytearray()}
    changes: list[Change] = []
    last: dict[str, Any] = {}
    async for raw in transport.lines("POST", f"{path}/try", json_body=body):
        last = raw
        if raw["type"] in printed:
            encoded = raw.get("data_base64")
            printed[raw["type"]] += base64.b64decode(encoded) if encoded else raw["data"].encode()
        elif raw["type"] == "change":
            changes.append(Change.of(raw["change"]))
        if on_event is not None and raw["type"] != "error":
            on_event(Event.of(raw))
    end = _ended(last, f"POST {path}/try")
    return Attempt(
        end["outcome"], end.get("exit_code"), end.get("check_exit_code"), bytes(printed["stdout"]),
        bytes(printed["stderr"]), changes, end.get("stat") or {}, end.get("checkpoint_id"), end.get("replaced_id"), end,
    )  # fmt: skip
