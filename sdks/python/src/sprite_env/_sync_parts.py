# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The parts of a sprite for callers that wait: files, checkpoints, services, policy, secrets and ports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, List, TypeVar, Union

from ._aio_parts import AsyncCheckpoints, AsyncFiles, AsyncPolicy, AsyncSecrets, AsyncServices, Events, Progress
from ._forward import AsyncConnection, AsyncForward
from ._portal import Portal
from .models import Checkpoint, Event, FileEntry, Restored, Secret, Service

Content = Union[bytes, str, Iterable[bytes]]
P = TypeVar("P")


class Part(Generic[P]):
    def __init__(self, portal: Portal, part: P) -> None:
        self._portal, self._part = portal, part


class Files(Part[AsyncFiles]):
    """The files of a sprite. Paths are absolute, or relative to the home directory."""

    def read(self, path: str, *, as_root: bool = False) -> bytes:
        return self._portal.call(self._part.read(path, as_root=as_root))

    def read_text(self, path: str, *, as_root: bool = False) -> str:
        return self._portal.call(self._part.read_text(path, as_root=as_root))

    def read_stream(self, path: str, *, as_root: bool = False) -> Iterator[bytes]:
        """The content in chunks; one that breaks off raises."""
        return self._portal.iterate(self._part.read_stream(path, as_root=as_root))

    def write(
        self, path: str, data: Content, *, mode: int | None = None, parents: bool = True, as_root: bool = False
    ) -> None:
        """Writes a whole file: readers see the old content or the new. `mode` is for a file that is not there yet."""
        self._portal.call(self._part.write(path, data, mode=mode, parents=parents, as_root=as_root))

    def list(self, path: str = ".", *, recursive: bool = False, as_root: bool = False) -> list[FileEntry]:
        return self._portal.call(self._part.list(path, recursive=recursive, as_root=as_root))

    def stat(self, path: str, *, as_root: bool = False) -> FileEntry:
        """Describes one file or directory."""
        return self._portal.call(self._part.stat(path, as_root=as_root))

    def exists(self, path: str, *, as_root: bool = False) -> bool:
        return self._portal.call(self._part.exists(path, as_root=as_root))

    def mkdir(self, path: str, *, parents: bool = True, as_root: bool = False) -> None:
        """Makes a directory; one that is there is no error."""
        self._portal.call(self._part.mkdir(path, parents=parents, as_root=as_root))

    def remove(self, path: str, *, recursive: bool = False, as_root: bool = False) -> None:
        self._portal.call(self._part.remove(path, recursive=recursive, as_root=as_root))

    def rename(self, source: str, dest: str, *, as_root: bool = False) -> None:
        self._portal.call(self._part.rename(source, dest, as_root=as_root))

    def copy(self, source: str, dest: str, *, recursive: bool = False, as_root: bool = False) -> None:
        self._portal.call(self._part.copy(source, dest, recursive=recursive, as_root=as_root))

    def chmod(self, path: str, mode: int, *, recursive: bool = False, as_root: bool = False) -> None:
        self._portal.call(self._part.chmod(path, mode, recursive=recursive, as_root=as_root))

    def chown(
        self, path: str, uid: int | str | None = None, gid: int | str | None = None, *,
        recursive: bool = False, as_root: bool = True,
    ) -> None:  # fmt: skip
        self._portal.call(self._part.chown(path, uid, gid, recursive=recursive, as_root=as_root))

    def write_tar(self, path: str, tar: bytes | Iterable[bytes], *, as_root: bool = False) -> int:
        """Unpacks a tar stream below a directory and returns the number of its entries."""
        return self._portal.call(self._part.write_tar(path, tar, as_root=as_root))

    def read_tar(self, path: str, *, as_root: bool = False) -> Iterator[bytes]:
        """A directory as a tar stream."""
        return self._portal.iterate(self._part.read_tar(path, as_root=as_root))

    def upload(self, local: str | Path, path: str, *, as_root: bool = False) -> int:
        """Copies a local directory, with everything in it, to a directory of the sprite in one stream."""
        return self._portal.call(self._part.upload(local, path, as_root=as_root))

    def download(self, path: str, local: str | Path, *, as_root: bool = False) -> None:
        """Copies a directory of the sprite, with everything in it, to a local directory in one stream."""
        self._portal.call(self._part.download(path, local, as_root=as_root))


class Checkpoints(Part[AsyncCheckpoints]):
    """Checkpoints of a sprite's disk."""

    def create(self, comment: str | None = None, *, on_progress: Progress | None = None) -> Checkpoint:
        return self._portal.call(self._part.create(comment, on_progress=on_progress))

    def list(self, *, include_auto: bool = False, descending_from: str | None = None) -> list[Checkpoint]:
        """All, newest first."""
        return self._portal.call(self._part.list(include_auto=include_auto, descending_from=descending_from))

    def get(self, id: str) -> Checkpoint:
        return self._portal.call(self._part.get(id))

    def delete(self, id: str) -> None:
        self._portal.call(self._part.delete(id))

    def restore(self, id: str, *, on_progress: Progress | None = None) -> Restored:
        """Puts the disk back. Commands that run end; what is replaced is kept as an automatic checkpoint."""
        return self._portal.call(self._part.restore(id, on_progress=on_progress))

    def undo(self, *, on_progress: Progress | None = None) -> Restored:
        """Brings back what the last restore replaced."""
        return self._portal.call(self._part.undo(on_progress=on_progress))


class Services(Part[AsyncServices]):
    """Commands that a sprite keeps running."""

    def create(
        self, name: str, cmd: str, args: Sequence[str] = (), *, needs: Sequence[str] = (),
        http_port: int | None = None, environment: Mapping[str, str] | None = None, directory: str | None = None,
        follow: float = 0,
    ) -> Events:  # fmt: skip
        """Defines or replaces a service, starts it and returns what it did for `follow` seconds."""
        work = self._part.create(
            name,
            cmd,
            args,
            needs=needs,
            http_port=http_port,
            environment=environment,
            directory=directory,
            follow=follow,
        )
        return self._portal.call(work)

    def list(self) -> list[Service]:
        return self._portal.call(self._part.list())

    def get(self, name: str) -> Service:
        return self._portal.call(self._part.get(name))

    def start(self, name: str, *, follow: float = 0) -> Events:
        return self._portal.call(self._part.start(name, follow=follow))

    def restart(self, name: str, *, follow: float = 0) -> Events:
        return self._portal.call(self._part.restart(name, follow=follow))

    def stop(self, name: str, *, timeout: float = 10) -> Events:
        """Stops it until it is started again: SIGTERM, after the timeout SIGKILL."""
        return self._portal.call(self._part.stop(name, timeout=timeout))

    def delete(self, name: str) -> None:
        self._portal.call(self._part.delete(name))

    def signal(self, name: str, signal: str) -> None:
        self._portal.call(self._part.signal(name, signal))

    def logs(self, name: str, *, lines: int = 100, follow: float = 0) -> Iterator[Event]:
        """The last lines it printed, then for `follow` seconds what it prints."""
        return self._portal.iterate(self._part.logs(name, lines=lines, follow=follow))


class Policy(Part[AsyncPolicy]):
    """What a sprite may reach."""

    def get(self) -> list[dict[str, str]]:
        """The rules of the network policy; none means that everything is allowed."""
        return self._portal.call(self._part.get())

    def set(self, rules: Sequence[Mapping[str, str]]) -> None:
        """Replaces the rules: each is {"domain": …, "action": "allow" or "deny"} or {"include": "defaults"}."""
        self._portal.call(self._part.set(rules))


class Secrets(Part[AsyncSecrets]):
    """Secrets that a sprite's HTTPS requests carry and that nothing inside can read, where the operator allows them."""

    def list(self) -> List[Secret]:
        return self._portal.call(self._part.list())

    def set(self, id: str, host: str, value: str, *, header: str | None = None, format: str | None = None) -> None:
        """Gives the sprite a secret for one host, or replaces it.

        `header` is `authorization` unless said otherwise; `format` is what it says, with {} in the place of the value:
        `Bearer {}` in `authorization`, and the value alone in another header, unless said otherwise.
        """
        self._portal.call(self._part.set(id, host, value, header=header, format=format))

    def remove(self, id: str) -> None:
        """Takes a secret away; connections that carry it are cut."""
        self._portal.call(self._part.remove(id))


class Connection(Part[AsyncConnection]):
    """A TCP connection to a port of the sprite."""

    def read(self) -> bytes:
        """The next bytes; b"" at the end."""
        return self._portal.call(self._part.read())

    def write(self, data: bytes) -> None:
        self._portal.call(self._part.write(data))

    def close(self) -> None:
        self._portal.call(self._part.close())

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Forward(Part[AsyncForward]):
    """A local port whose connections go to a port of the sprite."""

    @property
    def local_port(self) -> int:
        return self._part.local_port

    @property
    def port(self) -> int:
        return self._part.port

    def close(self) -> None:
        self._portal.call(self._part.close())

    def __enter__(self) -> Forward:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
