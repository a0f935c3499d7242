# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Callable

from . import _states, errors
from ._aio_command import AsyncCommand, AsyncProcess, kill
from ._aio_parts import AsyncCheckpoints, AsyncFiles, AsyncPolicy, AsyncSecrets, AsyncServices
from ._exec import Exec, Spec
from ._forward import AsyncConnection, AsyncForward
from ._pool import Pool
from ._states import Attempt, Diff
from ._transport import Options, Transport, segment
from .models import CommandLine, Event, Limits, Session, SpriteInfo, TerminalSize


def creation_body(
    name: str, labels: Sequence[str], environment: Mapping[str, str] | None, limits: Limits | None,
    base: str | None, url_auth: str | None,
) -> dict[str, Any]:  # fmt: skip
    body: dict[str, Any] = {"name": name, "labels": list(labels)}
    body.update({"environment": dict(environment)} if environment else {})
    body.update({"config": limits.body()} if limits else {})
    body.update({"base": base} if base else {})
    body.update({"url_settings": {"auth": url_auth}} if url_auth else {})
    return body


class AsyncClient:
    """A server. Use it as a context, or close it: it keeps connections.

    Without arguments the address is SPRITES_API_URL, else http://127.0.0.1:7780, and the token SPRITE_TOKEN.
    """

    def __init__(self, base_url: str | None = None, token: str | None = None, options: Options | None = None) -> None:
        self._transport = Transport(base_url, token, options or Options())
        self._pool: Pool | None = None

    def _get_pool(self) -> Pool:
        if self._pool is None:
            self._pool = Pool(self._transport)
        return self._pool

    @property
    def base_url(self) -> str:
        return self._transport.base_url

    async def create(
        self, name: str, *, labels: Sequence[str] = (), environment: Mapping[str, str] | None = None,
        limits: Limits | None = None, base: str | None = None, url_auth: str | None = None,
    ) -> AsyncSprite:  # fmt: skip
        """Creates a sprite; it can be used at once."""
        body = creation_body(name, labels, environment, limits, base, url_auth)
        raw = await self._transport.json("POST", "/v1/sprites", json_body=body)
        return AsyncSprite(self, name, SpriteInfo.of(raw))

    async def get(self, name: str) -> AsyncSprite:
        """The sprite of this name; raises `NotFound` if there is none."""
        return AsyncSprite(self, name, await self.sprite(name).refresh())

    def sprite(self, name: str) -> AsyncSprite:
        """A handle on the sprite of this name; nothing is asked of the server."""
        return AsyncSprite(self, name, None)

    async def list(self, *, prefix: str = "", page_size: int = 50) -> AsyncIterator[AsyncSprite]:
        """All sprites in the order of their names, page by page."""
        token: str | None = None
        while True:
            query = [("max_results", str(page_size))] + ([("prefix", prefix)] if prefix else [])
            query += [("continuation_token", token)] if token else []
            page = await self._transport.json("GET", "/v1/sprites", query)
            for raw in page["sprites"]:
                yield AsyncSprite(self, raw["name"], SpriteInfo.of(raw))
            token = page.get("next_continuation_token")
            if not page.get("has_more") or not token:
                return

    async def destroy(self, name: str) -> None:
        """Destroys the sprite of this name with all its checkpoints."""
        await self._transport.request("DELETE", f"/v1/sprites/{segment(name)}")
        if self._pool is not None:
            await self._pool.forget(name)

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


class AsyncSprite:
    """A persistent computer."""

    def __init__(self, client: AsyncClient, name: str, info: SpriteInfo | None) -> None:
        self._client = client
        self._transport = client._transport
        self._path = f"/v1/sprites/{segment(name)}"
        self.name = name
        #: As the server described it last; None for a handle that has not asked.
        self.info = info
        self.files = AsyncFiles(self._transport, name)
        self.checkpoints = AsyncCheckpoints(self._transport, name)
        self.services = AsyncServices(self._transport, name)
        self.policy = AsyncPolicy(self._transport, name)
        self.secrets = AsyncSecrets(self._transport, name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    async def refresh(self) -> SpriteInfo:
        """Asks the server again."""
        self.info = SpriteInfo.of(await self._transport.json("GET", self._path))
        return self.info

    async def update(
        self, *, labels: Sequence[str] | None = None, url_auth: str | None = None, limits: Limits | None = None
    ) -> SpriteInfo:
        """Changes it; what is None stays as it is."""
        body: dict[str, Any] = {}
        body.update({"labels": list(labels)} if labels is not None else {})
        body.update({"url_settings": {"auth": url_auth}} if url_auth is not None else {})
        body.update({"config": limits.body()} if limits is not None else {})
        self.info = SpriteInfo.of(await self._transport.json("PUT", self._path, json_body=body))
        return self.info

    async def destroy(self) -> None:
        """Destroys it with all its checkpoints."""
        await self._client.destroy(self.name)

    async def fork(self, name: str, *, checkpoint: str | None = None) -> AsyncSprite:
        """Makes a new sprite from a checkpoint, or from the disk as it is now."""
        body = {"name": name, **({"checkpoint": checkpoint} if checkpoint else {})}
        raw = await self._transport.json("POST", f"{self._path}/fork", json_body=body)
        return AsyncSprite(self._client, name, SpriteInfo.of(raw))

    def command(
        self, command: CommandLine, *, environment: Mapping[str, str] | None = None, directory: str | None = None,
        user: str | None = None, tty: TerminalSize | bool | None = None, detachable: bool = False,
        timeout: float | None = None, kill_after: float = 5, max_run_after_disconnect: float | None = None,
    ) -> AsyncCommand:  # fmt: skip
        """A command: a text for the shell, or a list of arguments. Nothing runs yet."""
        size = TerminalSize() if tty is True else tty or None
        spec = Spec(
            command, environment, directory, user, size, detachable, timeout, kill_after, max_run_after_disconnect
        )
        return AsyncCommand(self._client._get_pool(), self.name, spec)

    async def sessions(self) -> list[Session]:
        """The commands that run."""
        return [Session.of(raw) for raw in (await self._transport.json("GET", f"{self._path}/exec"))["sessions"]]

    async def attach(self, session_id: str) -> AsyncProcess:
        """Attaches to a command that runs: what it printed comes first. Leave with `detach`.

        While the server cannot be reached it is asked again, for some seconds.
        """
        running = await Exec.attach(self._client._get_pool(), self.name, session_id)
        return AsyncProcess(running, None)

    async def kill(self, session_id: str, signal: str = "TERM", *, timeout: float = 10) -> int | None:
        """Signals a command; SIGKILL follows after the timeout. Its exit code, if it has ended."""
        return await kill(self._transport, self.name, session_id, signal, timeout)

    async def connect(self, port: int, *, host: str = "localhost") -> AsyncConnection:
        """A TCP connection to a port of the sprite."""
        return await AsyncConnection.open(self._transport, self.name, port, host)

    async def forward(
        self, port: int, *, local_port: int = 0, local_host: str = "127.0.0.1", host: str = "localhost"
    ) -> AsyncForward:
        """Listens on a local port (0 takes a free one) and leads its connections to a port of the sprite."""
        return await AsyncForward(self._transport, self.name, port, host).listen(local_port, local_host)

    async def diff(
        self, from_: str, to: str = "current", *, path: str | None = None, patch: bool = False, renames: bool = True,
        limit: int | None = None,
    ) -> Diff:  # fmt: skip
        """What differs between two checkpoints, or a checkpoint and the disk as it is now; of one path if asked."""
        more = {"from": from_, "to": to, "path": path, "patch": patch or None, "renames": renames, "limit": limit}
        return await _states.diff(self._transport, self._path, more)

    async def attempt(
        self, command: CommandLine, *, check: CommandLine | None = None, dry_run: bool = False,
        timeout: float | None = None, environment: Mapping[str, str] | None = None, directory: str | None = None,
        user: str | None = None, on_event: Callable[[Event], None] | None = None,
    ) -> Attempt:  # fmt: skip
        """Runs a command, then `check`; unless both end with 0 the whole disk is rolled back, which ends every command.

        With `dry_run` it runs in a fork that is dropped.
        """
        return await _states.attempt(
            self._transport, self._path, command, check=check, dry_run=dry_run, timeout=timeout,
            environment=environment, directory=directory, user=user, on_event=on_event,
        )  # fmt: skip

    def events(self, *, follow: bool = False, **filters: str) -> AsyncIterator[Event]:
        """What became of the sprite: starts, sleeps, checkpoints, restores; `raw["event"]` names each. As `logs`."""
        return self.logs(follow=follow, **{"kind": "system,checkpoint", **filters})

    async def logs(self, *, follow: bool = False, **filters: str) -> AsyncIterator[Event]:
        """The sprite's journal, oldest first. With `follow` it goes on, through lost connections too."""
        cursor = filters.pop("cursor", None)
        path = f"{self._path}/logs"
        more = not follow
        while more:
            query = [*filters.items(), ("order", "asc")] + ([("cursor", cursor)] if cursor else [])
            page = await self._transport.json("GET", path, query)
            for raw in page["records"]:
                yield Event.of(raw)
            cursor = page.get("next_cursor")
            more = bool(page.get("has_more")) and cursor is not None
        wait, failures, was_there = 0.1, 0, False
        while follow:
            query = [*filters.items(), ("follow", "true")] + ([("cursor", cursor)] if cursor else [])
            try:
                async for raw in self._transport.lines("GET", path, query):
                    wait, failures = 0.1, 0
                    cursor = str(raw.get("cursor") or cursor or "") or None
                    # A line without an id only says that the connection lives.
                    if "id" in raw:
                        yield Event.of(raw)
            except (errors.ConnectionLost, errors.CannotConnect, errors.Unavailable) as error:
                failures += 1
                # Without a cursor nothing was given yet: asking again loses nothing, if the server was there.
                was_there = was_there or cursor is not None or isinstance(error, errors.ConnectionLost)
                if not was_there or failures > 20:
                    raise
            # The server ends a stream when it stops; the next one goes on behind the last record.
            await asyncio.sleep(wait)
            wait = min(wait * 2, 2)
