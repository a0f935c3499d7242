# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The client for callers that wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Callable

from ._aio import AsyncClient, AsyncSprite
from ._portal import Portal
from ._states import Attempt, Diff
from ._sync_command import Command, Process
from ._sync_parts import Checkpoints, Connection, Files, Forward, Policy, Secrets, Services
from ._transport import Options
from .models import CommandLine, Event, Limits, Session, SpriteInfo, TerminalSize


class Client:
    """A server. Use it as a context, or close it: it keeps connections. Any thread may use it.

    Without arguments the address is SPRITES_API_URL, else http://127.0.0.1:7780, and the token SPRITE_TOKEN.
    """

    def __init__(self, base_url: str | None = None, token: str | None = None, options: Options | None = None) -> None:
        self._client = AsyncClient(base_url, token, options)
        self._portal = Portal()

    @property
    def base_url(self) -> str:
        return self._client.base_url

    def create(
        self, name: str, *, labels: Sequence[str] = (), environment: Mapping[str, str] | None = None,
        limits: Limits | None = None, base: str | None = None, url_auth: str | None = None,
    ) -> Sprite:  # fmt: skip
        """Creates a sprite; it can be used at once."""
        work = self._client.create(
            name, labels=labels, environment=environment, limits=limits, base=base, url_auth=url_auth
        )
        return Sprite(self._portal, self._portal.call(work))

    def get(self, name: str) -> Sprite:
        """The sprite of this name; raises `NotFound` if there is none."""
        return Sprite(self._portal, self._portal.call(self._client.get(name)))

    def sprite(self, name: str) -> Sprite:
        """A handle on the sprite of this name; nothing is asked of the server."""
        return Sprite(self._portal, self._client.sprite(name))

    def list(self, *, prefix: str = "", page_size: int = 50) -> Iterator[Sprite]:
        """All sprites in the order of their names, page by page."""
        for sprite in self._portal.iterate(self._client.list(prefix=prefix, page_size=page_size)):
            yield Sprite(self._portal, sprite)

    def destroy(self, name: str) -> None:
        """Destroys the sprite of this name with all its checkpoints."""
        self._portal.call(self._client.destroy(name))

    def close(self) -> None:
        if not self._portal._loop.is_closed():
            self._portal.call(self._client.close())
            self._portal.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Sprite:
    """A persistent computer."""

    def __init__(self, portal: Portal, sprite: AsyncSprite) -> None:
        self._portal, self._sprite = portal, sprite
        self.files = Files(portal, sprite.files)
        self.checkpoints = Checkpoints(portal, sprite.checkpoints)
        self.services = Services(portal, sprite.services)
        self.policy = Policy(portal, sprite.policy)
        self.secrets = Secrets(portal, sprite.secrets)

    def __repr__(self) -> str:
        return f"<Sprite {self.name}>"

    @property
    def name(self) -> str:
        return self._sprite.name

    @property
    def info(self) -> SpriteInfo | None:
        """As the server described it last; None for a handle that has not asked."""
        return self._sprite.info

    def refresh(self) -> SpriteInfo:
        """Asks the server again."""
        return self._portal.call(self._sprite.refresh())

    def update(
        self, *, labels: Sequence[str] | None = None, url_auth: str | None = None, limits: Limits | None = None
    ) -> SpriteInfo:
        """Changes it; what is None stays as it is."""
        return self._portal.call(self._sprite.update(labels=labels, url_auth=url_auth, limits=limits))

    def destroy(self) -> None:
        """Destroys it with all its checkpoints."""
        self._portal.call(self._sprite.destroy())

    def fork(self, name: str, *, checkpoint: str | None = None) -> Sprite:
        """Makes a new sprite from a checkpoint, or from the disk as it is now."""
        return Sprite(self._portal, self._portal.call(self._sprite.fork(name, checkpoint=checkpoint)))

    def command(
        self, command: CommandLine, *, environment: Mapping[str, str] | None = None, directory: str | None = None,
        user: str | None = None, tty: TerminalSize | bool | None = None, detachable: bool = False,
        timeout: float | None = None, kill_after: float = 5, max_run_after_disconnect: float | None = None,
    ) -> Command:  # fmt: skip
        """A command: a text for the shell, or a list of arguments. Nothing runs yet."""

        # The pool belongs to the loop, so it is made there.
        async def make() -> Command:
            made = self._sprite.command(
                command, environment=environment, directory=directory, user=user, tty=tty, detachable=detachable,
                timeout=timeout, kill_after=kill_after, max_run_after_disconnect=max_run_after_disconnect,
            )  # fmt: skip
            return Command(self._portal, made)

        return self._portal.call(make())

    def sessions(self) -> list[Session]:
        """The commands that run."""
        return self._portal.call(self._sprite.sessions())

    def attach(self, session_id: str) -> Process:
        """Attaches to a command that runs: what it printed comes first. Leave with `detach`."""
        return Process(self._portal, self._portal.call(self._sprite.attach(session_id)))

    def kill(self, session_id: str, signal: str = "TERM", *, timeout: float = 10) -> int | None:
        """Signals a command; SIGKILL follows after the timeout. Its exit code, if it has ended."""
        return self._portal.call(self._sprite.kill(session_id, signal, timeout=timeout))

    def connect(self, port: int, *, host: str = "localhost") -> Connection:
        """A TCP connection to a port of the sprite."""
        return Connection(self._portal, self._portal.call(self._sprite.connect(port, host=host)))

    def forward(
        self, port: int, *, local_port: int = 0, local_host: str = "127.0.0.1", host: str = "localhost"
    ) -> Forward:
        """Listens on a local port (0 takes a free one) and leads its connections to a port of the sprite."""
        work = self._sprite.forward(port, local_port=local_port, local_host=local_host, host=host)
        return Forward(self._portal, self._portal.call(work))

    def diff(
        self, from_: str, to: str = "current", *, path: str | None = None, patch: bool = False, renames: bool = True,
        limit: int | None = None,
    ) -> Diff:  # fmt: skip
        """What differs between two checkpoints, or a checkpoint and the disk as it is now; of one path if asked."""
        work = self._sprite.diff(from_, to, path=path, patch=patch, renames=renames, limit=limit)
        return self._portal.call(work)

    def attempt(
        self, command: CommandLine, *, check: CommandLine | None = None, dry_run: bool = False,
        timeout: float | None = None, environment: Mapping[str, str] | None = None, directory: str | None = None,
        user: str | None = None, on_event: Callable[[Event], None] | None = None,
    ) -> Attempt:  # fmt: skip
        """Runs a command, then `check`; unless both end with 0 the whole disk is rolled back, which ends every command.

        With `dry_run` it runs in a fork that is dropped.
        """
        work = self._sprite.attempt(
            command, check=check, dry_run=dry_run, timeout=timeout, environment=environment, directory=directory,
            user=user, on_event=on_event,
        )  # fmt: skip
        return self._portal.call(work)

    def events(self, *, follow: bool = False, **filters: str) -> Iterator[Event]:
        """What became of the sprite: starts, sleeps, checkpoints, restores; `raw["event"]` names each. As `logs`."""
        return self._portal.iterate(self._sprite.events(follow=follow, **filters))

    def logs(self, *, follow: bool = False, **filters: str) -> Iterator[Event]:
        """The sprite's journal, oldest first. With `follow` it goes on, through lost connections too."""
        return self._portal.iterate(self._sprite.logs(follow=follow, **filters))
