# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Control connections that are used again, and the bound on connections of commands."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from websockets.asyncio.client import ClientConnection
from websockets.protocol import State

from . import errors
from ._transport import Query, Transport, segment

#: A kept connection that was idle for longer is asked whether it still lives before it gets a command.
_TRUSTED_IDLE = 2.0


class Pool:
    """Connections of all sprites of a client."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._idle: dict[str, deque[tuple[ClientConnection, float]]] = {}
        self._places = asyncio.Semaphore(transport.options.connections_max)
        #: Servers without control connections are asked once per sprite.
        self._without_control: set[str] = set()
        self._sweeper: asyncio.Task[None] | None = None

    async def control(self, sprite: str) -> ClientConnection | None:
        """A control connection, with a place taken; None (and no place) where the server has none."""
        if not self.transport.options.control or sprite in self._without_control:
            return None
        await self._places.acquire()
        try:
            kept = self._idle.get(sprite)
            while kept:
                connection, since = kept.pop()
                if connection.state is not State.OPEN:
                    continue
                if time.monotonic() - since < _TRUSTED_IDLE or await _lives(connection):
                    return connection
                await _drop(connection)
            return await self.transport.dial(f"/v1/sprites/{segment(sprite)}/control")
        except errors.NotFound as refused:
            self._places.release()
            if refused.message.startswith("there is no sprite"):
                raise
            self._without_control.add(sprite)
            return None
        except BaseException:
            self._places.release()
            raise

    async def direct(self, path: str, query: Query = ()) -> ClientConnection:
        """A connection for one command, with a place taken."""
        await self._places.acquire()
        try:
            return await self.transport.dial(path, query)
        except BaseException:
            self._places.release()
            raise

    def keep(self, sprite: str, connection: ClientConnection) -> bool:
        """Takes a control connection back, and its place; False if there are enough and it is to be closed."""
        if connection.state is not State.OPEN:
            return False
        kept = self._idle.setdefault(sprite, deque())
        if len(kept) >= self.transport.options.idle_connections_max:
            return False
        kept.append((connection, time.monotonic()))
        self._places.release()
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())
        return True

    async def close_one(self, connection: ClientConnection) -> None:
        """Closes a connection and gives its place back."""
        self._places.release()
        await _drop(connection)

    async def _sweep(self) -> None:
        """Closes what was idle for too long, until nothing is left."""
        limit = self.transport.options.idle_timeout
        while self._idle:
            await asyncio.sleep(min(limit, 5))
            now = time.monotonic()
            for sprite in list(self._idle):
                kept = self._idle[sprite]
                while kept and (now - kept[0][1] >= limit or kept[0][0].state is not State.OPEN):
                    await _drop(kept.popleft()[0])
                if not kept:
                    self._idle.pop(sprite, None)

    async def forget(self, sprite: str) -> None:
        """Closes the kept connections of a sprite that is gone."""
        self._without_control.discard(sprite)
        for connection, _ in self._idle.pop(sprite, ()):
            await _drop(connection)

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        kept = [connection for connections in self._idle.values() for connection, _ in connections]
        self._idle.clear()
        await asyncio.gather(*(_drop(connection) for connection in kept))


async def _lives(connection: ClientConnection) -> bool:
    try:
        await asyncio.wait_for(await connection.ping(), 2)
        return True
    except Exception:
        return False


async def _drop(connection: ClientConnection) -> None:
    try:
        await connection.close()
    except Exception:
        connection.transport.abort()
