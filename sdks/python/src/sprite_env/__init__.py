# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Persistent, checkpointable Linux computers: the Python client of sprite-env.

    from sprite_env import Client

    with Client() as sprites:
        sprite = sprites.create("my-sprite")
        print(sprite.command("ls -la").output())

`Client` waits, `AsyncClient` is for asyncio; both have the same methods.
"""

from ._aio import AsyncClient, AsyncSprite
from ._aio_command import AsyncCommand, AsyncInput, AsyncProcess
from ._forward import AsyncConnection, AsyncForward
from ._states import Attempt, Change, Diff
from ._streams import AsyncOutput
from ._sync import Client, Sprite
from ._sync_command import Command, Process
from ._sync_parts import Connection, Forward
from ._transport import VERSION as __version__
from ._transport import Options
from .errors import (
    AlreadyExists,
    CannotConnect,
    CommandEnded,
    CommandFailed,
    CommandTimeout,
    Conflict,
    ConnectionLost,
    FileError,
    FileMissing,
    Gone,
    InvalidRequest,
    InvalidResponse,
    NoSpace,
    NotFound,
    OutputLimit,
    RateLimited,
    ServerError,
    SpriteError,
    Timeout,
    Unauthorized,
    Unavailable,
    Unsupported,
)  # fmt: skip
from .models import (
    Checkpoint,
    CommandLine,
    Event,
    FileEntry,
    Limits,
    Restored,
    Result,
    Service,
    Session,
    SpriteInfo,
    TerminalSize,
)  # fmt: skip

__all__ = [
    "AlreadyExists", "AsyncClient", "AsyncCommand", "AsyncConnection", "AsyncForward", "AsyncInput", "AsyncOutput",
    "AsyncProcess", "AsyncSprite", "Attempt", "CannotConnect", "Change", "Checkpoint", "Client", "Command",
    "CommandEnded", "CommandFailed", "CommandLine", "CommandTimeout", "Conflict", "Connection", "ConnectionLost",
    "Diff", "Event", "FileEntry", "FileError", "FileMissing", "Forward", "Gone", "InvalidRequest", "InvalidResponse",
    "Limits", "NoSpace", "NotFound", "Options", "OutputLimit", "Process", "RateLimited", "Restored", "Result",
    "ServerError", "Service", "Session", "Sprite", "SpriteError", "SpriteInfo", "TerminalSize", "Timeout",
    "Unauthorized", "Unavailable", "Unsupported", "__version__",
]  # fmt: skip
