# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Connections to ports of a sprite, and local ports that lead there."""

from __future__ import annotations

import asyncio
import json
from typing import Set

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from . import errors
from ._transport import Transport, segment


class AsyncConnection:
    """A TCP connection to a port of the sprite."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    @classmethod
    async def open(cls, transport: Transport, sprite: str, port: int, host: str) -> AsyncConnection:
        socket = await transport.dial(f"/v1/sprites/{segment(sprite)}/proxy")
        try:
            await socket.send(json.dumps({"host": host, "port": port}))
            answer = json.loads(await asyncio.wait_for(socket.recv(), 30))
            if answer.get("status") != "connected":
                raise errors.CannotConnect(f"cannot connect to port {port}: {answer}")
        except ConnectionClosed as failure:
            why = failure.rcvd.reason if failure.rcvd else "the connection ended"
            raise errors.CannotConnect(
                f"cannot connect to port {port} of '{sprite}': {why}", remedy="check that something listens there"
            ) from None
        except asyncio.TimeoutError:
            await socket.close()
            raise errors.Timeout(f"port {port} of '{sprite}' did not answer in time") from None
        return cls(socket)

    async def read(self) -> bytes:
        """The next bytes; b"" at the end."""
        try:
            while True:
                message = await self._socket.recv()
                if isinstance(message, bytes):
                    if message:
                        return message
        except ConnectionClosed as failure:
            if failure.rcvd is not None and failure.rcvd.code == 1000:
                return b""
            raise errors.ConnectionLost("the connection to the port broke off") from failure

    async def write(self, data: bytes) -> None:
        try:
            await self._socket.send(bytes(data))
        except ConnectionClosed as failure:
            raise errors.ConnectionLost("the connection to the port has ended") from failure

    async def close(self) -> None:
        await self._socket.close()


class AsyncForward:
    """A local port whose connections go to a port of the sprite."""

    def __init__(self, transport: Transport, sprite: str, port: int, host: str) -> None:
        self._transport, self._sprite, self.port, self._host = transport, sprite, port, host
        self._server: asyncio.AbstractServer | None = None
        self._tasks: Set[asyncio.Task[None]] = set()
        self.local_port = 0

    async def listen(self, local_port: int, local_host: str) -> AsyncForward:
        self._server = await asyncio.start_server(self._accept, local_host, local_port)
        self.local_port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        remote: AsyncConnection | None = None
        try:
            remote = await AsyncConnection.open(self._transport, self._sprite, self.port, self._host)
            await asyncio.wait(
                [asyncio.ensure_future(_up(reader, remote)), asyncio.ensure_future(_down(remote, writer))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        except (errors.SpriteError, asyncio.CancelledError):
            pass  # The local side sees that the connection ends.
        finally:
            self._tasks.discard(task)
            if remote is not None:
                await remote.close()
            writer.close()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def __aenter__(self) -> AsyncForward:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


async def _up(reader: asyncio.StreamReader, remote: AsyncConnection) -> None:
    try:
        while data := await reader.read(64 << 10):
            await remote.write(data)
    except (errors.SpriteError, ConnectionError):
        pass


async def _down(remote: AsyncConnection, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await remote.read():
            writer.write(data)
            await writer.drain()
    except (errors.SpriteError, ConnectionError):
        pass
