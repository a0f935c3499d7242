# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Output of a running command, between the connection and who reads it."""

from __future__ import annotations

import asyncio
from collections import deque

from .errors import OutputLimit


class AsyncOutput:
    """One output stream of a command. Reading is as with `asyncio.StreamReader`; iteration gives lines."""

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._failure: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    def feed(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        self._wake()

    def end(self, failure: BaseException | None = None) -> None:
        self._ended = True
        self._failure = failure
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        """Until there is more, or the end. Raises what broke the stream once all before it was read."""
        if self._waiter is not None:
            raise RuntimeError("somebody else reads this stream")
        self._waiter = asyncio.get_running_loop().create_future()
        self._buffers.changed()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _take(self, count: int) -> bytes:
        parts: list[bytes] = []
        left = count
        while left > 0 and self._chunks:
            chunk = self._chunks[0]
            if len(chunk) <= left:
                parts.append(self._chunks.popleft())
                left -= len(chunk)
            else:
                parts.append(chunk[:left])
                self._chunks[0] = chunk[left:]
                left = 0
        taken = parts[0] if len(parts) == 1 else b"".join(parts)
        self._size -= len(taken)
        self._buffers.changed()
        return taken

    async def read(self, count: int = -1) -> bytes:
        """Up to `count` bytes as soon as there are some, everything with -1; b"" at the end."""
        if count == 0:
            return b""
        if count > 0:
            while not self._chunks and not self._ended:
                await self._wait()
            if not self._chunks and self._failure is not None:
                raise self._failure
            return self._take(count)
        parts: list[bytes] = []
        while chunk := await self.read(1 << 20):
            parts.append(chunk)
        return b"".join(parts)

    async def readline(self) -> bytes:
        """One line with its newline; the last may lack it; b"" at the end."""
        searched = 0
        while True:
            offset = 0
            for chunk in self._chunks:
                if offset + len(chunk) > searched:
                    found = chunk.find(b"\n", max(0, searched - offset))
                    if found >= 0:
                        return self._take(offset + found + 1)
                offset += len(chunk)
            searched = offset
            if self._ended:
                if not self._chunks and self._failure is not None:
                    raise self._failure
                return self._take(offset)
            if offset > self._buffers.hard_limit:
                raise OutputLimit(f"a line is longer than {self._buffers.hard_limit} bytes")
            await self._wait()

    def __aiter__(self) -> AsyncOutput:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    @property
    def waiting(self) -> bool:
        return self._waiter is not None and not self._waiter.done()


class Buffers:
    """Both streams of a command. Both come over one connection, so who waits for one may have to let the other grow."""

    soft_limit = 1 << 20
    hard_limit = 64 << 20

    def __init__(self) -> None:
        self.stdout = AsyncOutput(self)
        self.stderr = AsyncOutput(self)
        #: Somebody waits for the command's end, so its output must not hold it up.
        self.awaited = False
        self._space: asyncio.Future[None] | None = None

    def changed(self) -> None:
        if self._space is not None and not self._space.done() and self._may_read():
            self._space.set_result(None)

    def _may_read_freely(self) -> bool:
        return self.stdout._size + self.stderr._size < self.soft_limit

    def _may_read(self) -> bool:
        size = self.stdout._size + self.stderr._size
        return size < self.soft_limit or self.awaited or self.stdout.waiting or self.stderr.waiting

    async def space(self) -> None:
        """Waits until somebody needs more. An unread stream is no reason to stop while another is waited for."""
        if self._may_read():
            if self.stdout._size + self.stderr._size > self.hard_limit:
                raise OutputLimit(f"more than {self.hard_limit} bytes of output were not read")
            return
        self._space = asyncio.get_running_loop().create_future()
        try:
            await self._space
        finally:
            self._space = None

    def end(self, failure: BaseException | None = None) -> None:
        self.stdout.end(failure)
        self.stderr.end(failure)
