# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Everything that can go wrong, one class per kind; all are `SpriteError`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class SpriteError(Exception):
    """What went wrong. `code` is stable and for programs, the message is for people."""

    #: The code when the server gave none.
    default_code = "error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        #: A stable name such as `not_found`.
        self.code = code or self.default_code
        #: The HTTP status, when the server answered with one.
        self.status = status
        #: The server's name for the request, to be found in its log.
        self.request_id = request_id
        #: What to do about it.
        self.remedy = remedy or REMEDIES.get(self.code) or REMEDIES.get(self.default_code)

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class InvalidRequest(SpriteError):
    """A value breaks a rule; the message says which."""

    default_code = "invalid_request"


class Unauthorized(SpriteError):
    """No token, or one that the server does not know."""

    default_code = "unauthorized"


class NotFound(SpriteError):
    """The named thing does not exist."""

    default_code = "not_found"


class Gone(NotFound):
    """It was there and has ended."""

    default_code = "gone"


class Conflict(SpriteError):
    """The thing is busy, or in a state that excludes what was asked."""

    default_code = "conflict"


class AlreadyExists(Conflict):
    """The name is taken."""

    default_code = "already_exists"


class RateLimited(SpriteError):
    """A limit on rate or number was reached."""

    default_code = "limit_reached"

    #: Seconds to wait before another attempt, when the server said so.
    retry_after: float | None = None


class NoSpace(SpriteError):
    """The server's storage is full."""

    default_code = "no_space"


class Unsupported(SpriteError):
    """The server's host cannot do it."""

    default_code = "unsupported"


class Unavailable(SpriteError):
    """The server is stopping or cannot answer now."""

    default_code = "unavailable"


class ServerError(SpriteError):
    """A fault of the server; its log has the request id."""

    default_code = "internal"


class InvalidResponse(SpriteError):
    """The answer does not follow the protocol."""

    default_code = "invalid_response"


class CannotConnect(SpriteError):
    """No connection could be made; nothing was done."""

    default_code = "cannot_connect"


class ConnectionLost(SpriteError):
    """The connection ended before the answer, or before a command's exit code."""

    default_code = "connection_lost"

    #: Whether what was asked for may still run, or may have been done.
    may_be_running: bool = True
    #: The session to attach to again with `Sprite.attach`, if there is one.
    session_id: str | None = None


class Timeout(SpriteError):
    """A time limit ran out."""

    default_code = "timeout"


class CommandTimeout(Timeout):
    """A command's time limit ran out. It was ended, unless `may_be_running` says that this is not known."""

    stdout: bytes = b""
    stderr: bytes = b""
    may_be_running: bool = False
    session_id: str | None = None


class CommandFailed(SpriteError):
    """A command ended with another exit code than 0 where success was asked for."""

    default_code = "command_failed"

    exit_code: int = 1
    stdout: bytes = b""
    stderr: bytes = b""


class CommandEnded(SpriteError):
    """The command has ended, so it takes no input."""

    default_code = "command_ended"


class OutputLimit(SpriteError):
    """More output than may be kept in memory."""

    default_code = "output_limit"


class FileError(SpriteError):
    """A file operation failed; `code` is the name of the POSIX error, such as `EACCES`."""

    default_code = "EIO"

    path: str = ""


class FileMissing(FileError, NotFound, FileNotFoundError):
    """There is no such file or directory."""

    default_code = "ENOENT"


#: What to do about an error, by its code.
REMEDIES: Mapping[str, str] = {
    "unauthorized": "give the token of 'sprited token', or set SPRITE_TOKEN",
    "already_exists": "take another name, or get the one that is there",
    "limit_reached": "wait as long as retry_after says",
    "no_space": "delete sprites or checkpoints",
    "unavailable": "try again when the server runs",
    "internal": "look for the request id in the server's log",
    "cannot_connect": "check the address and that the server runs",
    "output_limit": "read the output as a stream, or raise output_limit",
    "gone": "it has ended; start it again",
}

_BY_CODE: dict[str, type[SpriteError]] = {
    kind.default_code: kind
    for kind in (
        InvalidRequest, Unauthorized, NotFound, Gone, Conflict, AlreadyExists, RateLimited, NoSpace, Unsupported,
        Unavailable, ServerError, Timeout, ConnectionLost,
    )
}  # fmt: skip
_BY_STATUS: dict[int, type[SpriteError]] = {
    400: InvalidRequest, 401: Unauthorized, 403: Unauthorized, 404: NotFound, 405: InvalidRequest, 409: Conflict,
    410: Gone, 413: InvalidRequest, 426: InvalidRequest, 429: RateLimited, 500: ServerError, 501: Unsupported,
    502: Unavailable, 503: Unavailable, 504: Timeout, 507: NoSpace,
}  # fmt: skip


def from_response(status: int, headers: Mapping[str, str], body: bytes) -> SpriteError:
    """The error that an answer tells."""
    fields: dict[str, Any] = {}
    try:
        parsed = json.loads(body)
        if isinstance(parsed, dict):
            fields = parsed
    except ValueError:
        pass
    request_id = headers.get("X-Request-Id") or headers.get("x-request-id")
    text = body[:2000].decode("utf-8", "replace").strip()
    if isinstance(fields.get("code"), str) and "path" in fields:
        return file_error(fields, status, request_id)
    code = fields.get("error") if isinstance(fields.get("error"), str) else None
    message = str(fields.get("message") or code or text or f"the server answered with status {status}")
    kind = _BY_CODE.get(code or "") or _BY_STATUS.get(status, SpriteError)
    error = kind(message, code=code, status=status, request_id=request_id)
    if isinstance(error, RateLimited):
        after = headers.get("Retry-After") or headers.get("retry-after") or fields.get("retry_after_seconds")
        try:
            error.retry_after = float(after) if after is not None else None
        except ValueError:
            error.retry_after = None
    return error


def file_error(fields: Mapping[str, Any], status: int | None, request_id: str | None) -> FileError:
    """The error of a file operation."""
    code = str(fields.get("code"))
    path = str(fields.get("path", ""))
    kind = FileMissing if code == "ENOENT" else FileError
    text = str(fields.get("error", code))
    error = kind(f"{path}: {text}" if path else text, code=code, status=status, request_id=request_id)
    error.path = path
    return error


def from_event(event: Mapping[str, Any], request_id: str | None) -> SpriteError:
    """The error that a stream's last line tells."""
    code = event.get("code")
    message = str(event.get("error") or event.get("data") or event.get("message") or "the operation failed")
    kind = _BY_CODE.get(code, SpriteError) if isinstance(code, str) else SpriteError
    return kind(message, code=code if isinstance(code, str) else "failed", request_id=request_id)
