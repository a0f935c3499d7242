# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The parts of a sprite for asyncio: files, checkpoints, services, policy and secrets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Callable, List

from . import errors
from ._transport import Content, Query, Transport, segment
from .models import Checkpoint, Event, FileEntry, Restored, Secret, Service, duration_of

Progress = Callable[[Event], None]
#: Named, since the classes below have methods called `list`.
Events = List[Event]


class AsyncPart:
    def __init__(self, transport: Transport, sprite: str) -> None:
        self._transport = transport
        self._path = f"/v1/sprites/{segment(sprite)}"


class AsyncFiles(AsyncPart):
    """The files of a sprite. Paths are absolute, or relative to the home directory."""

    home = "/home/sprite"

    def _query(self, path: str, as_root: bool = False, **more: str) -> list[tuple[str, str]]:
        query = [("path", path), ("workingDir", self.home), *more.items()]
        return query + [("asRoot", "true")] if as_root else query

    async def _post(self, verb: str, **body: Any) -> Any:
        sent = {name: value for name, value in body.items() if value not in (None, False)}
        return await self._transport.json(
            "POST", f"{self._path}/fs/{verb}", json_body={"workingDir": self.home, **sent}
        )

    async def read(self, path: str, *, as_root: bool = False) -> bytes:
        return await self._transport.request("GET", f"{self._path}/fs/read", self._query(path, as_root), timeout=3600)

    async def read_text(self, path: str, *, as_root: bool = False) -> str:
        return (await self.read(path, as_root=as_root)).decode()

    async def read_stream(self, path: str, *, as_root: bool = False) -> AsyncIterator[bytes]:
        """The content in chunks; one that breaks off raises."""
        query = self._query(path, as_root)
        async with self._transport.open("GET", f"{self._path}/fs/read", query, stream=True) as response:
            async for chunk in response.aiter_raw(256 << 10):
                yield chunk

    async def write(
        self, path: str, data: str | Content, *, mode: int | None = None, parents: bool = True, as_root: bool = False
    ) -> None:
        """Writes a whole file: readers see the old content or the new. `mode` is for a file that is not there yet."""
        more = {"mkdirParents": "true" if parents else "false"}
        if mode is not None:
            more["mode"] = f"{mode:04o}"
        content = data.encode() if isinstance(data, str) else data
        query = self._query(path, as_root, **more)
        await self._transport.request("PUT", f"{self._path}/fs/write", query, content=content, timeout=3600)

    async def list(self, path: str = ".", *, recursive: bool = False, as_root: bool = False) -> list[FileEntry]:
        query = self._query(path, as_root, **({"recursive": "true"} if recursive else {}))
        answer = await self._transport.json("GET", f"{self._path}/fs/list", query)
        return [FileEntry.of(entry) for entry in answer["entries"]]

    async def stat(self, path: str, *, as_root: bool = False) -> FileEntry:
        """Describes one file or directory."""
        # A listing describes a file itself, but of a directory what is in it; the parent has its entry.
        name = os.path.basename(os.path.normpath(path))
        if name not in ("", ".", "..", "/"):
            for entry in await self.list(os.path.dirname(os.path.normpath(path)) or ".", as_root=as_root):
                if entry.name == name:
                    return entry
            raise errors.file_error({"code": "ENOENT", "error": "no such file or directory", "path": path}, 404, None)
        answer = await self._transport.json("GET", f"{self._path}/fs/list", self._query(path, as_root))
        raw = {"name": name, "path": answer["path"], "type": "directory", "size": 0, "mode": "0755", "isDir": True}
        return FileEntry.of(raw)

    async def exists(self, path: str, *, as_root: bool = False) -> bool:
        try:
            await self.stat(path, as_root=as_root)
            return True
        except errors.FileMissing:
            return False

    async def mkdir(self, path: str, *, parents: bool = True, as_root: bool = False) -> None:
        """Makes a directory; one that is there is no error."""
        keep = path.rstrip("/") + "/.keep"
        await self.write(keep, b"", parents=parents, as_root=as_root)
        await self.remove(keep, as_root=as_root)

    async def remove(self, path: str, *, recursive: bool = False, as_root: bool = False) -> None:
        query = self._query(path, as_root, **({"recursive": "true"} if recursive else {}))
        await self._transport.request("DELETE", f"{self._path}/fs/delete", query)

    async def rename(self, source: str, dest: str, *, as_root: bool = False) -> None:
        await self._post("rename", source=source, dest=dest, asRoot=as_root)

    async def copy(self, source: str, dest: str, *, recursive: bool = False, as_root: bool = False) -> None:
        await self._post("copy", source=source, dest=dest, recursive=recursive, asRoot=as_root)

    async def chmod(self, path: str, mode: int, *, recursive: bool = False, as_root: bool = False) -> None:
        await self._post("chmod", path=path, mode=f"{mode:04o}", recursive=recursive, asRoot=as_root)

    async def chown(
        self, path: str, uid: int | str | None = None, gid: int | str | None = None, *,
        recursive: bool = False, as_root: bool = True,
    ) -> None:  # fmt: skip
        body: dict[str, Any] = {"path": path, "workingDir": self.home, "recursive": recursive, "asRoot": as_root}
        body.update({name: value for name, value in (("uid", uid), ("gid", gid)) if value is not None})
        await self._transport.json("POST", f"{self._path}/fs/chown", json_body=body)

    async def write_tar(self, path: str, tar: Content, *, as_root: bool = False) -> int:
        """Unpacks a tar stream below a directory and returns the number of its entries."""
        query = self._query(path, as_root)
        answer = await self._transport.json("PUT", f"{self._path}/fs/archive", query, content=tar, timeout=3600)
        return int(answer["count"])

    async def read_tar(self, path: str, *, as_root: bool = False) -> AsyncIterator[bytes]:
        """A directory as a tar stream."""
        query = self._query(path, as_root)
        async with self._transport.open("GET", f"{self._path}/fs/archive", query, stream=True) as response:
            async for chunk in response.aiter_raw(256 << 10):
                yield chunk

    async def upload(self, local: str | Path, path: str, *, as_root: bool = False) -> int:
        """Copies a local directory, with everything in it, to a directory of the sprite in one stream."""
        loop = asyncio.get_running_loop()
        with tempfile.TemporaryFile() as packed:
            await loop.run_in_executor(None, _pack, Path(local), packed)
            return await self.write_tar(path, iter(lambda: packed.read(1 << 20), b""), as_root=as_root)

    async def download(self, path: str, local: str | Path, *, as_root: bool = False) -> None:
        """Copies a directory of the sprite, with everything in it, to a local directory in one stream."""
        loop = asyncio.get_running_loop()
        with tempfile.TemporaryFile() as packed:
            async for chunk in self.read_tar(path, as_root=as_root):
                packed.write(chunk)
            packed.seek(0)
            await loop.run_in_executor(None, _unpack, packed, Path(local))


def _pack(folder: Path, into: Any) -> None:
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no directory")
    with tarfile.open(fileobj=into, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for child in sorted(folder.iterdir()):
            tar.add(child, arcname=child.name)
    into.seek(0)


def _unpack(packed: Any, folder: Path) -> None:
    """What comes out of a sprite is not to be trusted: nothing leads out of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=packed) as tar:
        for member in tar:
            target = _place(folder, member.name)
            if member.isdir():
                if target != folder and target.is_symlink():
                    raise _refused(member.name)
                target.mkdir(mode=member.mode & 0o777 | 0o700, exist_ok=True)
                continue
            if member.issym():
                if not _stays(target.relative_to(folder), member.linkname):
                    raise _refused(member.name)
                target.unlink(missing_ok=True)
                target.symlink_to(member.linkname)
            elif member.islnk():
                original = _place(folder, member.linkname)
                # A link, at another depth, would lead elsewhere.
                if not stat.S_ISREG(original.lstat().st_mode):
                    raise _refused(member.name)
                target.unlink(missing_ok=True)
                os.link(original, target)
            elif member.isreg() and (content := tar.extractfile(member)) is not None:
                target.unlink(missing_ok=True)
                with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, member.mode & 0o777), "wb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
                # A time that no file can have is left out.
                with contextlib.suppress(OverflowError, ValueError, OSError):
                    os.utime(target, (member.mtime, member.mtime))
            else:
                raise _refused(member.name)


def _place(root: Path, name: str) -> Path:
    """Where an entry goes; the folders above it are made, and none of them may be a link."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise _refused(name)
    folder = root
    for part in parts[:-1]:
        folder /= part
        if folder.is_symlink():
            raise _refused(name)
        folder.mkdir(exist_ok=True)
    return folder.joinpath(*parts[-1:])


def _stays(name: PurePath, link: str) -> bool:
    """Whether a link stays in the folder, whatever other links it leads through.

    ".." behind a name could mean the parent of another link's target, so it comes first or not at all.
    """
    parts = [part for part in link.split("/") if part not in ("", ".")]
    names = list(itertools.dropwhile(lambda part: part == "..", parts))
    up = len(parts) - len(names)
    return not link.startswith("/") and up < max(len(name.parts), 1) and ".." not in names


def _refused(name: str) -> errors.FileError:
    return errors.FileError(
        f"refused to unpack '{name}': it leads out of the folder or is no plain file", code="EINVAL")


class AsyncCheckpoints(AsyncPart):
    """Checkpoints of a sprite's disk."""

    async def create(self, comment: str | None = None, *, on_progress: Progress | None = None) -> Checkpoint:
        body = {"comment": comment} if comment else {}
        last = await self._last("POST", f"{self._path}/checkpoint", on_progress, json_body=body)
        return await self.get(str(last["checkpoint_id"]))

    async def list(self, *, include_auto: bool = False, descending_from: str | None = None) -> list[Checkpoint]:
        """All, newest first."""
        query = [("includeAuto", "true")] if include_auto else []
        query += [("history", descending_from)] if descending_from else []
        raws = await self._transport.json("GET", f"{self._path}/checkpoints", query)
        return [Checkpoint.of(raw) for raw in raws]

    async def get(self, id: str) -> Checkpoint:
        return Checkpoint.of(await self._transport.json("GET", f"{self._path}/checkpoints/{segment(id)}"))

    async def delete(self, id: str) -> None:
        await self._transport.request("DELETE", f"{self._path}/checkpoints/{segment(id)}")

    async def restore(self, id: str, *, on_progress: Progress | None = None) -> Restored:
        """Puts the disk back. Commands that run end; what is replaced is kept as an automatic checkpoint."""
        last = await self._last("POST", f"{self._path}/checkpoints/{segment(id)}/restore", on_progress)
        return Restored(last.get("checkpoint_id"), last.get("replaced_id"))

    async def undo(self, *, on_progress: Progress | None = None) -> Restored:
        """Brings back what the last restore replaced."""
        last = await self._last("POST", f"{self._path}/restore/undo", on_progress)
        return Restored(last.get("checkpoint_id"), last.get("replaced_id"))

    async def _last(self, method: str, path: str, progress: Progress | None, **how: Any) -> dict[str, Any]:
        async for raw in self._transport.lines(method, path, **how):
            if raw.get("type") == "error":
                raise errors.from_event(raw, None)
            if progress is not None:
                progress(Event.of(raw))
            if raw.get("type") == "complete":
                return raw
        raise errors.ConnectionLost(f"{method} {path} ended without saying how it went")


class AsyncServices(AsyncPart):
    """Commands that a sprite keeps running."""

    def _of(self, name: str, verb: str = "") -> str:
        return f"{self._path}/services/{segment(name)}{verb}"

    async def create(
        self, name: str, cmd: str, args: Sequence[str] = (), *, needs: Sequence[str] = (),
        http_port: int | None = None, environment: Mapping[str, str] | None = None, directory: str | None = None,
        follow: float = 0,
    ) -> Events:  # fmt: skip
        """Defines or replaces a service, starts it and returns what it did for `follow` seconds."""
        body: dict[str, Any] = {"cmd": cmd, "args": list(args), "needs": list(needs)}
        body.update({"http_port": http_port} if http_port is not None else {})
        body.update({"env": dict(environment)} if environment else {})
        body.update({"dir": directory} if directory else {})
        return await self._events("PUT", self._of(name), [("duration", duration_of(follow))], json_body=body)

    async def list(self) -> list[Service]:
        return [Service.of(raw) for raw in await self._transport.json("GET", f"{self._path}/services")]

    async def get(self, name: str) -> Service:
        return Service.of(await self._transport.json("GET", self._of(name)))

    async def start(self, name: str, *, follow: float = 0) -> Events:
        return await self._events("POST", self._of(name, "/start"), [("duration", duration_of(follow))])

    async def restart(self, name: str, *, follow: float = 0) -> Events:
        return await self._events("POST", self._of(name, "/restart"), [("duration", duration_of(follow))])

    async def stop(self, name: str, *, timeout: float = 10) -> Events:
        """Stops it until it is started again: SIGTERM, after the timeout SIGKILL."""
        return await self._events("POST", self._of(name, "/stop"), [("timeout", duration_of(timeout))])

    async def delete(self, name: str) -> None:
        await self._transport.request("DELETE", self._of(name))

    async def signal(self, name: str, signal: str) -> None:
        body = {"name": name, "signal": signal}
        await self._transport.request("POST", f"{self._path}/services/signal", json_body=body)

    async def logs(self, name: str, *, lines: int = 100, follow: float = 0) -> AsyncIterator[Event]:
        """The last lines it printed, then for `follow` seconds what it prints."""
        query = [("lines", str(lines))] + ([("duration", duration_of(follow))] if follow else [])
        async for raw in self._transport.lines("GET", self._of(name, "/logs"), query):
            yield Event.of(raw)

    async def _events(self, method: str, path: str, query: Query, **how: Any) -> Events:
        return [Event.of(raw) async for raw in self._transport.lines(method, path, query, **how)]


class AsyncPolicy(AsyncPart):
    """What a sprite may reach."""

    async def get(self) -> list[dict[str, str]]:
        """The rules of the network policy; none means that everything is allowed."""
        answer = await self._transport.json("GET", f"{self._path}/policy/network")
        return [dict(rule) for rule in answer["rules"]]

    async def set(self, rules: Sequence[Mapping[str, str]]) -> None:
        """Replaces the rules: each is {"domain": …, "action": "allow" or "deny"} or {"include": "defaults"}."""
        body = {"rules": [dict(rule) for rule in rules]}
        await self._transport.request("POST", f"{self._path}/policy/network", json_body=body)


class AsyncSecrets(AsyncPart):
    """Secrets that a sprite's HTTPS requests carry and that nothing inside can read, where the operator allows them."""

    async def list(self) -> List[Secret]:
        answer = await self._transport.json("GET", f"{self._path}/secrets")
        return [Secret.of(raw) for raw in answer["secrets"]]

    async def set(
        self, id: str, host: str, value: str, *, header: str | None = None, format: str | None = None
    ) -> None:
        """Gives the sprite a secret for one host, or replaces it.

        `header` is `authorization` unless said otherwise; `format` is what it says, with {} in the place of the value:
        `Bearer {}` in `authorization`, and the value alone in another header, unless said otherwise.
        """
        body = {"host": host, "value": value, "header": header, "format": format}
        body = {name: text for name, text in body.items() if text is not None}
        await self._transport.request("PUT", f"{self._path}/secrets/{segment(id)}", json_body=body)

    async def remove(self, id: str) -> None:
        """Takes a secret away; connections that carry it are cut."""
        await self._transport.request("DELETE", f"{self._path}/secrets/{segment(id)}")
