# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The filesystem section of the API: operations, errors, owners and modes, hostile trees, streams of any size."""

import asyncio
import hashlib
import io
import json
import os
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from support.api import Api, ApiError
from support.daemon import Daemon
from support.exec import root_shell, shell
from support.wait import eventually


class Files:
    """The file operations of one sprite."""

    def __init__(self, api: Api, sprite: str) -> None:
        self.api = api
        self.url = f"/v1/sprites/{sprite}/fs"

    def get(self, operation: str, expect: int = 200, headers: dict[str, str] | None = None, **query: Any) -> httpx.Response:
        return self.api.call("GET", f"{self.url}/{operation}", expect, params=query, headers=headers)

    def read(self, path: str, **query: Any) -> bytes:
        return self.get("read", path=path, **query).content

    def entries(self, path: str, **query: Any) -> list[dict[str, Any]]:
        body = self.get("list", path=path, **query).json()
        assert body["count"] == len(body["entries"])
        entries: list[dict[str, Any]] = body["entries"]
        return entries

    def names(self, path: str, **query: Any) -> list[str]:
        return [entry["name"] for entry in self.entries(path, **query)]

    def write(self, path: str, content: Any = b"x", **query: Any) -> dict[str, Any]:
        answer = self.api.call("PUT", f"{self.url}/write", params={"path": path, **query}, content=content)
        body: dict[str, Any] = answer.json()
        return body

    def delete(self, path: str, **query: Any) -> dict[str, Any]:
        body: dict[str, Any] = self.api.call("DELETE", f"{self.url}/delete", params={"path": path, **query}).json()
        return body

    def post(self, operation: str, **body: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.api.call("POST", f"{self.url}/{operation}", json=body).json()
        return answer

    def fails(self, code: str, status: int, method: str, operation: str, body: Any = None, content: Any = None, **query: Any) -> str:
        """An operation that must fail with this error; its sentence."""
        options: dict[str, Any] = {"json": body} if body is not None else {"content": content}
        answer = self.api.call(method, f"{self.url}/{operation}", status, params=query, **options).json()
        assert answer["code"] == code and isinstance(answer["error"], str) and isinstance(answer["path"], str), answer
        return str(answer["error"])


@pytest.fixture
def files(api: Api, sprite: str) -> Files:
    return Files(api, sprite)


HOME = "/home/sprite"


def new_client(api: Api) -> httpx.Client:
    return httpx.Client(base_url=api.url, headers={"Authorization": f"Bearer {api.token}"}, trust_env=False, timeout=60)


# Reading and writing


@pytest.mark.parametrize("size", [0, 1, 65536, 3_000_001])
def test_what_is_written_is_read_back(files: Files, api: Api, sprite: str, size: int) -> None:
    data = os.urandom(size)
    assert files.write(f"{HOME}/new/deep/file", data) == {"path": f"{HOME}/new/deep/file", "size": size, "mode": "0644"}
    answer = files.get("read", path=f"{HOME}/new/deep/file")
    assert answer.content == data and answer.headers["content-type"] == "application/octet-stream"
    out = shell(api, sprite, f"sha256sum < {HOME}/new/deep/file; stat -c '%U %G %a' {HOME}/new/deep/file {HOME}/new/deep")
    assert out == f"{hashlib.sha256(data).hexdigest()}  -\nsprite sprite 644\nsprite sprite 755\n"


def test_a_write_without_a_known_length(files: Files) -> None:
    assert files.write(f"{HOME}/chunked", iter([b"one ", b"", b"two"]))["size"] == 7
    assert files.read(f"{HOME}/chunked") == b"one two"


def test_paths_are_resolved_against_the_working_directory(files: Files) -> None:
    files.write("a/../b/./c", b"1", workingDir=HOME)
    assert files.read(f"{HOME}/b/c") == b"1"
    assert files.read("b//c", workingDir=f"{HOME}/") == b"1"
    assert files.read("home/sprite/b/c") == b"1"
    assert files.get("list", path="b/c", workingDir=HOME).json()["entries"][0]["path"] == f"{HOME}/b/c"
    assert files.get("list", workingDir=f"{HOME}/b").json()["count"] == 1
    files.write("../../../../../../../../tmp/up", b"2", workingDir=HOME)
    assert files.read("/tmp/up") == b"2"


def test_names_of_every_kind(files: Files, api: Api, sprite: str) -> None:
    for name in ["a b", "ä€😀", "a\nb", '"quote"\\', "-n", "--", "a%2Fb", "x" * 255, "$HOME", "*"]:
        path = f"{HOME}/names/{name}"
        files.write(path, name.encode())
        assert files.read(path) == name.encode()
        assert files.entries(path)[0]["name"] == name
    assert len(files.names(f"{HOME}/names")) == 10
    shell(api, sprite, "cd names && touch \"$(printf 'bad\\377name')\"")
    assert len(files.names(f"{HOME}/names")) == 11
    files.delete(f"{HOME}/names", recursive="true")


def test_ranges(files: Files) -> None:
    files.write(f"{HOME}/digits", b"0123456789")

    def get(text: str, expect: int) -> tuple[bytes, str | None]:
        answer = files.get("read", expect, headers={"Range": text}, path=f"{HOME}/digits")
        return answer.content, answer.headers.get("content-range")

    assert get("bytes=2-4", 206) == (b"234", "bytes 2-4/10")
    assert get("bytes=7-", 206) == (b"789", "bytes 7-9/10")
    assert get("bytes=-3", 206) == (b"789", "bytes 7-9/10")
    assert get("bytes=-300", 206) == (b"0123456789", "bytes 0-9/10")
    assert get("bytes=0-99999", 206) == (b"0123456789", "bytes 0-9/10")
    assert get("bytes=10-", 416)[1] == "bytes */10"
    for ignored in ["bytes=4-2", "bytes=a-b", "bytes=0-1,3-4", "lines=1-2", "bytes=-", "bytes=99999999999999999999-"]:
        assert get(ignored, 200) == (b"0123456789", None), ignored


def test_a_mode_is_for_new_files_only(files: Files, api: Api, sprite: str) -> None:
    assert files.write(f"{HOME}/tool", b"#!/bin/sh\necho one\n", mode="0755")["mode"] == "0755"
    assert files.write(f"{HOME}/tool", b"#!/bin/sh\necho two\n", mode="0644")["mode"] == "0755"
    assert shell(api, sprite, "./tool") == "two\n"
    root_shell(api, sprite, f"echo old > {HOME}/theirs; chmod 666 {HOME}/theirs")
    files.write(f"{HOME}/theirs", b"new")
    assert shell(api, sprite, "cat theirs; stat -c ' %U %a' theirs") == "new root 666\n"
    files.write(f"{HOME}/private", b"", mode="600", asRoot="true")
    assert shell(api, sprite, "stat -c '%U %a' private") == "root 600\n"


def test_a_reader_sees_the_old_or_the_new_content(files: Files, api: Api, sprite: str) -> None:
    old, new = b"a" * 500_000, b"b" * 500_000
    files.write(f"{HOME}/whole", old)

    def slowly() -> Iterator[bytes]:
        for start in range(0, len(new), 100_000):
            assert files.read(f"{HOME}/whole") == old
            yield new[start : start + 100_000]

    with new_client(api) as writer:
        writer.put(f"{files.url}/write", params={"path": f"{HOME}/whole"}, content=slowly()).raise_for_status()
    assert files.read(f"{HOME}/whole") == new


def test_a_broken_upload_changes_nothing(files: Files, api: Api, sprite: str) -> None:
    files.write(f"{HOME}/dir/kept", b"kept")

    def broken() -> Iterator[bytes]:
        yield b"half" * 1000
        time.sleep(0.3)
        raise ConnectionAbortedError

    for length in ({}, {"Content-Length": "99999"}):
        # Closed with the client: before, the server could not know.
        with new_client(api) as client, pytest.raises(ConnectionAbortedError):
            client.put(f"{files.url}/write", params={"path": f"{HOME}/dir/kept"}, content=broken(), headers=length)
    eventually(lambda: shell(api, sprite, "ls -A dir") == "kept\n", "nothing is left of the broken uploads")
    assert files.read(f"{HOME}/dir/kept") == b"kept"


def test_a_write_through_a_link_keeps_the_link(files: Files, api: Api, sprite: str) -> None:
    shell(api, sprite, "mkdir real; echo old > real/file; ln -s real/file link; ln -s link second; ln -s real/new dangling")
    files.write(f"{HOME}/second", b"new")
    files.write(f"{HOME}/dangling", b"made")
    assert shell(api, sprite, "readlink second link dangling; cat real/file real/new") == "link\nreal/file\nreal/new\nnewmade"


def test_files_of_proc_are_read_to_their_end(files: Files) -> None:
    assert files.read("/proc/self/status").startswith(b"Name:\tsprite-env")


# Listing


def test_a_list_describes_what_is_there(files: Files, api: Api, sprite: str) -> None:
    shell(api, sprite, "mkdir -p d/sub; printf 12345 > d/b; ln -s b d/a; mkfifo d/pipe; touch -d 2001-02-03T04:05:06Z d/b; chmod 4711 d/b")
    entries = files.entries(f"{HOME}/d")
    assert [(entry["name"], entry["type"], entry["isDir"]) for entry in entries] == [
        ("a", "symlink", False), ("b", "file", False), ("pipe", "other", False), ("sub", "directory", True)
    ]  # fmt: skip
    assert entries[1] == {
        "name": "b", "path": f"{HOME}/d/b", "type": "file", "size": 5, "mode": "4711",
        "modTime": "2001-02-03T04:05:06.000000Z", "isDir": False,
    }  # fmt: skip
    assert files.entries(f"{HOME}/d/b") == [entries[1]]
    assert files.entries(f"{HOME}/d/sub") == []
    shell(api, sprite, "ln -s d to-d; echo > d/sub/x.c")
    assert files.names(f"{HOME}/to-d") == ["a", "b", "pipe", "sub"]
    assert [entry["path"] for entry in files.entries(f"{HOME}/d", recursive="true")][-1] == f"{HOME}/d/sub/x.c"
    assert files.names(f"{HOME}/d", recursive="true", pattern="*.c") == ["x.c"]
    shell(api, sprite, "touch -d @99999999999 d/b; touch -d @-99999 d/pipe")
    assert len(files.entries(f"{HOME}/d")) == 4


def test_a_large_directory_is_listed(files: Files, api: Api, sprite: str) -> None:
    shell(api, sprite, "mkdir many; cd many; seq -f 'a-rather-long-name-%05g' 1 20000 | xargs touch")
    names = files.names(f"{HOME}/many")
    assert len(names) == 20000 and names == sorted(names)


# Directories


def test_directories_are_made_by_a_file_in_them(files: Files) -> None:
    files.write(f"{HOME}/one/.keep", b"", mkdirParents="false")
    assert files.names(f"{HOME}/one") == [".keep"]
    files.fails("ENOENT", 404, "PUT", "write", path=f"{HOME}/no/such/.keep", mkdirParents="false")
    files.fails("ENOENT", 404, "PUT", "write", path=f"{HOME}/no/file", mkdirParents="false", content=b"x")
    files.write(f"{HOME}/two/three/.keep", b"", mkdirParents="true")
    assert files.names(f"{HOME}/two/three") == [".keep"]


def test_delete(files: Files, api: Api, sprite: str) -> None:
    shell(api, sprite, "mkdir -p tree/a/b/c empty outside; touch tree/a/f outside/kept; ln -s ../outside tree/link; ln -s / tree/root")
    assert files.delete(f"{HOME}/empty") == {"deleted": [f"{HOME}/empty"], "count": 1}
    assert "not empty" in files.fails("ENOTEMPTY", 409, "DELETE", "delete", path=f"{HOME}/tree")
    assert files.delete(f"{HOME}/tree", recursive="true")["count"] == 7
    assert files.names(f"{HOME}/outside") == ["kept"]
    files.fails("ENOENT", 404, "DELETE", "delete", path=f"{HOME}/tree", recursive="true")
    files.fails("EBUSY", 409, "DELETE", "delete", path="/", recursive="true")
    files.fails("EACCES", 403, "DELETE", "delete", path="/etc/passwd")
    files.write(f"{HOME}/by-body")
    answer = api.http.request("DELETE", f"{files.url}/delete", json={"path": "by-body", "workingDir": HOME})
    assert answer.status_code == 200, answer.text


def test_rename(files: Files, api: Api, sprite: str) -> None:
    files.write(f"{HOME}/a", b"1")
    assert files.post("rename", source="a", dest="b", workingDir=HOME) == {"source": f"{HOME}/a", "dest": f"{HOME}/b"}
    files.fails("ENOENT", 404, "POST", "rename", body={"source": f"{HOME}/a", "dest": f"{HOME}/c"})
    files.write(f"{HOME}/c", b"2")
    files.post("rename", source=f"{HOME}/b", dest=f"{HOME}/c")
    assert files.read(f"{HOME}/c") == b"1"
    # To another file system: what mv(1) does.
    shell(api, sprite, "mkdir -p tree/sub; echo x > tree/sub/f; chmod 751 tree/sub; ln -s f tree/sub/l")
    files.post("rename", source=f"{HOME}/tree", dest="/tmp/tree")
    assert shell(api, sprite, "test ! -e tree; cat /tmp/tree/sub/l; stat -c %a /tmp/tree/sub") == "x\n751\n"


def test_copy(files: Files, api: Api, sprite: str) -> None:
    shell(api, sprite, "mkdir -p t/sub; printf 12345 > t/sub/f; chmod 640 t/sub/f; ln -s sub/f t/l; mkfifo t/p; touch -d 2001-01-01 t/sub/f")
    answer = files.post("copy", source=f"{HOME}/t/l", dest=f"{HOME}/f2")
    assert answer == {"copied": [{"source": f"{HOME}/t/l", "dest": f"{HOME}/f2"}], "count": 1, "totalBytes": 5}
    assert files.read(f"{HOME}/f2") == b"12345"
    assert "is a directory" in files.fails("EISDIR", 400, "POST", "copy", body={"source": f"{HOME}/t", "dest": f"{HOME}/u"})
    assert files.post("copy", source="t", dest="u", workingDir=HOME, recursive=True, preserveAttrs=True)["count"] == 4
    assert shell(api, sprite, "readlink u/l; stat -c '%a %y' u/sub/f | cut -c1-14; ls u") == "sub/f\n640 2001-01-01\nl\nsub\n"
    files.fails("EINVAL", 400, "POST", "copy", body={"source": f"{HOME}/t", "dest": f"{HOME}/t/sub/in", "recursive": True})
    files.fails("EINVAL", 400, "POST", "copy", body={"source": f"{HOME}/f2", "dest": f"{HOME}/f2"})
    files.fails("ENOENT", 404, "POST", "copy", body={"source": f"{HOME}/f2", "dest": f"{HOME}/no/f2"})
    assert files.read(f"{HOME}/f2") == b"12345"


def test_chmod(files: Files, api: Api, sprite: str) -> None:
    shell(api, sprite, "mkdir -p t/sub outside; touch t/sub/f outside/o; chmod 644 outside/o; ln -s ../outside/o t/l; ln -s ../outside t/d")
    assert files.post("chmod", path=f"{HOME}/t/sub/f", mode="0755") == {
        "affected": [{"path": f"{HOME}/t/sub/f", "mode": "0755"}], "count": 1
    }  # fmt: skip
    files.post("chmod", path=f"{HOME}/t/sub/f", mode=0o640)
    assert files.entries(f"{HOME}/t/sub/f")[0]["mode"] == "0640"
    assert files.post("chmod", path=f"{HOME}/t", mode="700", recursive=True)["count"] == 3
    assert shell(api, sprite, "stat -c %a t t/sub t/sub/f outside outside/o") == "700\n700\n700\n755\n644\n"
    files.post("chmod", path=f"{HOME}/t", mode="000", recursive=True)
    files.post("chmod", path=f"{HOME}/t", mode="750", recursive=True)
    files.fails("EPERM", 403, "POST", "chmod", body={"path": "/etc/passwd", "mode": "0777"})
    for mode in ["0888", "-1", "rwx", "10000"]:
        files.fails("EINVAL", 400, "POST", "chmod", body={"path": f"{HOME}/t", "mode": mode})
    files.fails("EINVAL", 400, "POST", "chmod", body={"path": f"{HOME}/t"})


def test_chown(files: Files, api: Api, sprite: str) -> None:
    shell(api, sprite, "mkdir t; touch t/f; ln -s /etc/passwd t/l")
    files.fails("EPERM", 403, "POST", "chown", body={"path": f"{HOME}/t", "uid": 0, "gid": 0})
    answer = files.post("chown", path=f"{HOME}/t", uid="root", gid=0, recursive=True, asRoot=True)
    assert answer["count"] == 3 and answer["affected"][0] == {"path": f"{HOME}/t", "uid": 0, "gid": 0}
    files.post("chown", path=f"{HOME}/t", uid="sprite", recursive=True, asRoot=True)
    assert shell(api, sprite, "stat -c '%U %G' t t/f t/l /etc/passwd") == "sprite root\n" * 3 + "root root\n"
    files.fails("EINVAL", 400, "POST", "chown", body={"path": f"{HOME}/t", "uid": "nobody-knows"})
    files.fails("EINVAL", 400, "POST", "chown", body={"path": f"{HOME}/t"})


# Errors


def test_errors_have_their_posix_names(files: Files, api: Api, sprite: str) -> None:
    shell(api, sprite, "mkdir d; touch f; touch secret; chmod 000 secret; ln -s loop loop; ln -s nowhere dangling")
    assert files.fails("ENOENT", 404, "GET", "read", path="/no/such") == "no such file or directory"
    assert files.fails("EISDIR", 400, "GET", "read", path=f"{HOME}/d") == "is a directory"
    assert files.fails("EACCES", 403, "GET", "read", path=f"{HOME}/secret") == "permission denied"
    for code, status, path in [
        ("ENOTDIR", 400, f"{HOME}/f/x"), ("ELOOP", 400, f"{HOME}/loop"), ("ENOENT", 404, f"{HOME}/dangling"),
        ("ENAMETOOLONG", 400, "/" + "x" * 256), ("ENAMETOOLONG", 400, "/x" * 2100), ("EACCES", 403, "/root/x"),
    ]:  # fmt: skip
        files.fails(code, status, "GET", "list", path=path)
        files.fails(code, status, "GET", "read", path=path)
    files.fails("EINVAL", 400, "GET", "read")
    files.fails("EINVAL", 400, "GET", "read", path="")
    files.fails("EISDIR", 400, "PUT", "write", path=f"{HOME}/d", content=b"x")
    files.fails("EISDIR", 400, "PUT", "write", path="/", content=b"x")
    files.fails("EACCES", 403, "PUT", "write", path="/etc/new", content=b"x")
    files.fails("EACCES", 403, "PUT", "write", path="/etc/passwd", content=b"x")
    files.fails("ENOTDIR", 400, "PUT", "write", path=f"{HOME}/f/x", content=b"x")
    files.fails("EINVAL", 400, "PUT", "write", path=f"{HOME}/m", mode="9", content=b"x")
    files.fails("EINVAL", 400, "PUT", "write", path=f"{HOME}/m", mkdirParents="maybe", content=b"x")
    files.fails("EINVAL", 400, "POST", "rename", body={"source": f"{HOME}/f"})
    files.fails("EINVAL", 400, "POST", "rename", body={"source": f"{HOME}/f", "dest": "a\0b"})
    # A failure that is known while the upload is still under way.
    files.fails("EACCES", 403, "PUT", "write", path="/etc/new", content=bytes(30_000_000))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "read/x", 404), ("GET", "no-such", 404), ("GET", "", 404), ("POST", "read", 405), ("HEAD", "read", 405),
        ("GET", "write", 405), ("GET", "delete", 405), ("PUT", "rename", 405), ("GET", "watch", 426), ("DELETE", "archive", 405),
    ],
)  # fmt: skip
def test_other_paths_and_methods(files: Files, method: str, path: str, status: int) -> None:
    assert files.api.http.request(method, f"{files.url}/{path}?path=/tmp").status_code == status


def test_an_unknown_sprite_and_a_stranger(api: Api) -> None:
    with pytest.raises(ApiError) as failed:
        Files(api, "no-such-sprite").read("/etc/passwd")
    assert failed.value.status == 404
    assert httpx.get(f"{api.url}/v1/sprites/x/fs/read?path=/", trust_env=False).status_code == 401


@pytest.mark.parametrize("body", ["{", "[]", '{"source": 1, "dest": "b"}', '{"source": "a"', "null"])
def test_bodies_that_are_not_understood(files: Files, body: str) -> None:
    files.api.call("POST", f"{files.url}/rename", 400, content=body)


# Hostile trees


def test_nothing_leads_to_the_host(files: Files, api: Api, sprite: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    marker = tmp_path_factory.mktemp("host") / "marker"
    marker.write_text("of the host")
    up = "../" * 40
    shell(api, sprite, f"ln -s / root; ln -s {up} up; ln -s /proc/1/root proc1; ln -s /proc/self/root self; ln -s /proc/self/cwd cwd")
    for path in [str(marker), f"/{up}{marker}", f"{HOME}/root{marker}", f"{HOME}/up{marker}", f"{HOME}/self{marker}"]:
        files.fails("ENOENT", 404, "GET", "read", path=path)
    for path in [f"/proc/1/root{marker}", f"{HOME}/proc1{marker}"]:
        for query in ({}, {"asRoot": "true"}):
            answer = api.http.get(f"{files.url}/read", params={"path": path, **query})
            assert answer.status_code in (403, 404), answer.text
    inside = root_shell(api, sprite, "cat /etc/passwd").encode()
    for path in ["root/etc/passwd", "up/etc/passwd", "self/etc/passwd", "cwd/etc/passwd"]:
        assert files.read(path, workingDir=HOME) == inside
    files.write(f"{HOME}/root{marker}", b"inside", asRoot="true")
    assert marker.read_text() == "of the host"
    files.delete(f"{HOME}/up{marker}", asRoot="true")
    assert marker.exists()


@pytest.mark.parametrize("special", ["fifo", "/dev/zero", "/dev/tty", "/dev/null", "socket"])
def test_what_is_no_file_is_refused_and_never_waited_for(files: Files, api: Api, sprite: str, special: str) -> None:
    shell(api, sprite, "mkfifo fifo; perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un(\"socket\")) or die'")
    path = special if special.startswith("/") else f"{HOME}/{special}"
    start = time.monotonic()
    for method, operation in [("GET", "read"), ("PUT", "write"), ("GET", "archive")]:
        answer = api.http.request(method, f"{files.url}/{operation}", params={"path": path})
        assert answer.status_code in (400, 403), (operation, answer.text)
        assert answer.json()["code"] in ("EINVAL", "EACCES", "ENOTDIR"), answer.text
    files.entries(path)
    assert time.monotonic() - start < 10


def test_a_directory_that_turns_into_a_link_while_it_is_deleted(files: Files, api: Api, sprite: str) -> None:
    shell(api, sprite, "mkdir kept; touch kept/$(seq -s ' kept/' 1 20)")
    script = (
        "mkdir -p race; end=$(($(date +%s) + 4)); while [ $(date +%s) -lt $end ]; do "
        "mkdir -p race/d/e; touch race/d/f; mv race/d race/x; ln -s ../kept race/d; rm -rf race/x; rm -f race/d; done"
    )
    session = asyncio.run(_racing(api, sprite, script, files))
    assert session > 0
    assert len(files.names(f"{HOME}/kept")) == 20


async def _racing(api: Api, sprite: str, script: str, files: Files) -> int:
    from support.exec import run_async

    racing = asyncio.create_task(run_async(api, sprite, "sh", "-c", script))
    count = 0
    while not racing.done():
        await asyncio.to_thread(api.http.delete, f"{files.url}/delete", params={"path": f"{HOME}/race/d", "recursive": "true"})
        count += 1
        await asyncio.sleep(0)
    return count


def test_trees_of_absurd_depth(files: Files, api: Api, sprite: str) -> None:
    shell(api, sprite, "perl -e 'for (1..3000) { mkdir \"d\"; chdir \"d\" or die }'")
    assert files.api.http.get(f"{files.url}/list", params={"path": HOME, "recursive": "true"}).status_code == 200
    files.fails("ENAMETOOLONG", 400, "DELETE", "delete", path=f"{HOME}/d", recursive="true")
    assert files.names(HOME)[-1] == "d"


# Large and many


def _memory(daemon: Daemon) -> int:
    with open(f"/proc/{daemon.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) // 1024


def test_large_files_pass_in_constant_memory(files: Files, api: Api, sprite: str, daemon: Daemon) -> None:
    block = os.urandom(1 << 20)
    before, peak = _memory(daemon), 0

    def blocks() -> Iterator[bytes]:
        nonlocal peak
        for number in range(300):
            if number % 10 == 0:
                peak = max(peak, _memory(daemon))
            yield block

    start = time.monotonic()
    assert files.write(f"{HOME}/large", blocks())["size"] == 300 << 20
    up = time.monotonic() - start
    start, count = time.monotonic(), 0
    digest = hashlib.sha256()
    with api.http.stream("GET", f"{files.url}/read", params={"path": f"{HOME}/large"}) as answer:
        assert answer.headers["content-length"] == str(300 << 20)
        for piece in answer.iter_raw(1 << 20):
            digest.update(piece)
            count += 1
            if count % 10 == 0:
                peak = max(peak, _memory(daemon))
    down = time.monotonic() - start
    wanted = hashlib.sha256()
    for _ in range(300):
        wanted.update(block)
    assert digest.digest() == wanted.digest()
    print(f"300 MiB: up {300 / up:.0f} MiB/s, down {300 / down:.0f} MiB/s, memory {before} MiB, at most {peak} MiB")
    assert peak < before + 100


def test_a_client_that_leaves_ends_the_download(files: Files, api: Api, sprite: str) -> None:
    shell(api, sprite, "head -c 200000000 /dev/zero > zeros")
    with api.http.stream("GET", f"{files.url}/read", params={"path": f"{HOME}/zeros"}) as answer:
        next(answer.iter_raw(1 << 16))
    eventually(lambda: "sprite-env fs" not in shell(api, sprite, "ps -eo args"), "the program for files is gone", 20)
    assert api.sessions(sprite) == []


# A whole directory


def test_five_thousand_small_files_in_one_stream(files: Files, api: Api, sprite: str) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for number in range(5000):
            entry = tarfile.TarInfo(f"d{number % 50}/file-{number}")
            content = f"content {number}".encode()
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    start = time.monotonic()
    url = f"{files.url}/archive"
    answer = api.call("PUT", url, params={"path": f"{HOME}/many"}, content=archive.getvalue()).json()
    up = time.monotonic() - start
    assert answer["count"] == 5000 and answer["path"] == f"{HOME}/many"
    start = time.monotonic()
    got = api.call("GET", url, params={"path": f"{HOME}/many"})
    down = time.monotonic() - start
    print(f"5,000 files: up {up:.2f} s, down {down:.2f} s")
    assert got.headers["content-type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(got.content)) as tar:
        members = [member for member in tar.getmembers() if member.isfile()]
        assert len(members) == 5000
        last = tar.extractfile("d49/file-4999")
        assert last is not None and last.read() == b"content 4999"
    assert up < 3 and down < 3
    assert shell(api, sprite, "find many -type f | wc -l; stat -c %U many/d3/file-3") == "5000\nsprite\n"


def test_an_archive_keeps_what_a_directory_has(files: Files, api: Api, sprite: str) -> None:
    long = "/".join(["a-directory-with-a-long-name-" + "x" * 60] * 3)
    shell(
        api, sprite,
        f"mkdir -p t/{long} t/locked; echo deep > t/{long}/f; echo x > t/exe; chmod 751 t/exe; ln t/exe t/hard; "
        f"ln -s {'y' * 150} t/link; touch -d 2001-01-01 t/exe; touch t/empty; mkfifo t/pipe; echo in > t/locked/f; chmod 555 t/locked",
    )  # fmt: skip
    got = api.call("GET", f"{files.url}/archive", params={"path": f"{HOME}/t"}).content
    with tarfile.open(fileobj=io.BytesIO(got)) as tar:
        assert f"{long}/f" in tar.getnames() and tar.getmember("exe").mode == 0o751
    api.call("PUT", f"{files.url}/archive", params={"path": f"{HOME}/u"}, content=got)
    look = "cd %s; find . ! -type p | sort; find . -type f -exec sha256sum {} + | sort; stat -c '%%a %%Y %%h' exe; stat -c %%a locked; readlink link"
    assert shell(api, sprite, look % "u") == shell(api, sprite, look % "t")
    # What tar(1) makes, and what it makes of ours.
    shell(api, sprite, f"tar -C t -cf /tmp/gnu.tar . && mkdir v && tar -C u -cf - . | tar -C v -xf - && test -e v/{long}/f")
    api.call("PUT", f"{files.url}/archive", params={"path": f"{HOME}/w"}, content=files.read("/tmp/gnu.tar"))
    assert shell(api, sprite, look % "w") == shell(api, sprite, look % "t")
    # A second time over what is there.
    shell(api, sprite, "chmod 755 u/locked")
    api.call("PUT", f"{files.url}/archive", params={"path": f"{HOME}/u"}, content=got)


def _tar(*entries: tuple[str, str, str]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, kind, text in entries:
            entry = tarfile.TarInfo(name)
            if kind == "link":
                entry.type, entry.linkname = tarfile.SYMTYPE, text
            elif kind == "hard":
                entry.type, entry.linkname = tarfile.LNKTYPE, text
            else:
                entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()) if kind == "file" else None)
    return archive.getvalue()


@pytest.mark.parametrize(
    ("archive", "code"),
    [
        (_tar(("../out", "file", "x")), "EINVAL"),
        (_tar(("a/../../out", "file", "x")), "EINVAL"),
        (_tar(("link", "link", ".."), ("link/out", "file", "x")), "ENOTDIR"),
        (_tar(("link", "link", "/home/sprite"), ("link/out", "file", "x")), "ENOTDIR"),
        (_tar(("hard", "hard", "../secret")), "EINVAL"),
        (_tar(("hard", "hard", "missing")), "ENOENT"),
        (b"", "EINVAL"),
        (b"x" * 512, "EINVAL"),
        (os.urandom(100_000), "EINVAL"),
        (_tar(("a", "file", "x" * 2000))[:1500], "EINVAL"),
    ],
)
def test_archives_that_are_refused(files: Files, api: Api, sprite: str, archive: bytes, code: str) -> None:
    shell(api, sprite, "echo secret > secret")
    answer = api.http.put(f"{files.url}/archive", params={"path": f"{HOME}/into"}, content=archive)
    assert answer.json().get("code") == code, answer.text
    assert "out" not in files.names(HOME)


def test_absolute_names_stay_below_the_directory(files: Files, api: Api) -> None:
    archive = _tar(("/etc/absolute", "file", "x"), ("./dot", "file", "y"))
    api.call("PUT", f"{files.url}/archive", params={"path": f"{HOME}/into"}, content=archive)
    assert files.names(f"{HOME}/into") == ["dot", "etc"]


# Watching


def test_changes_are_told(files: Files, api: Api, sprite: str) -> None:
    async def scenario() -> list[tuple[str, str]]:
        seen: list[tuple[str, str]] = []
        headers = {"Authorization": f"Bearer {api.token}"}
        url = api.url.replace("http", "ws", 1) + f"{files.url}/watch"
        async with asyncio.timeout(30), connect(url, additional_headers=headers, proxy=None) as socket:
            await socket.send("nonsense")
            assert json.loads(await socket.recv())["type"] == "error"
            await socket.send(json.dumps({"type": "subscribe", "paths": ["/no/such"]}))
            assert json.loads(await socket.recv())["code"] == "ENOENT"
            await socket.send(json.dumps({"type": "subscribe", "paths": ["src"], "recursive": True, "workingDir": HOME}))
            assert json.loads(await socket.recv())["type"] == "subscribed"
            script = "cd src; echo 1 > f; mkdir sub; sleep 0.3; echo 2 > sub/g; chmod 600 f; mv f h; rm h; touch end"
            await asyncio.to_thread(shell, api, sprite, script)
            while ("create", f"{HOME}/src/end") not in seen:
                event = json.loads(await socket.recv())
                assert event["type"] == "event" and event["timestamp"] and isinstance(event["isDir"], bool), event
                seen.append((event["event"], event["path"]))
        return seen

    shell(api, sprite, "mkdir src")
    seen = asyncio.run(scenario())
    for wanted in [
        ("create", "f"), ("write", "f"), ("create", "sub"), ("create", "sub/g"), ("write", "sub/g"), ("chmod", "f"),
        ("rename", "f"), ("create", "h"), ("remove", "h"),
    ]:  # fmt: skip
        assert (wanted[0], f"{HOME}/src/{wanted[1]}") in seen, (wanted, seen)
    eventually(lambda: "sprite-env fs" not in shell(api, sprite, "ps -eo args"), "the watcher is gone", 15)
