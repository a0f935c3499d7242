# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""File operations: reading, writing, listing, changing, and their errors."""

import hashlib
import os
import time
from collections.abc import Iterator

import httpx
import pytest

from support.api import Api, ApiError
from support.exec import root_shell, shell
from support.files import HOME, Files, new_client
from support.wait import eventually

# Reading and writing


@pytest.mark.parametrize("size", [0, 1, 65536, 3_000_001])
def test_what_is_written_is_read_back(files: Files, api: Api, sprite: str, size: int) -> None:
    data = os.urandom(size)
    path = f"{HOME}/new/deep/file"
    assert files.write(path, data) == {"path": path, "size": size, "mode": "0644"}
    answer = files.get("read", path=path)
    assert answer.content == data and answer.headers["content-type"] == "application/octet-stream"
    out = shell(api, sprite, f"sha256sum < {path}; stat -c '%U %G %a' {path} {HOME}/new/deep")
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
    links = "ln -s real/file link; ln -s link second; ln -s real/new dangling"
    shell(api, sprite, f"mkdir real; echo old > real/file; {links}")
    files.write(f"{HOME}/second", b"new")
    files.write(f"{HOME}/dangling", b"made")
    assert shell(api, sprite, "readlink second link dangling") == "link\nreal/file\nreal/new\n"
    assert shell(api, sprite, "cat real/file real/new") == "newmade"


def test_files_of_proc_are_read_to_their_end(files: Files) -> None:
    assert files.read("/proc/self/status").startswith(b"Name:\tsprite-env")


# Listing


def test_a_list_describes_what_is_there(files: Files, api: Api, sprite: str) -> None:
    shell(api, sprite, "mkdir -p d/sub; printf 12345 > d/b; ln -s b d/a; mkfifo d/pipe")
    shell(api, sprite, "touch -d 2001-02-03T04:05:06Z d/b; chmod 4711 d/b")
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
    shell(api, sprite, "mkdir -p tree/a/b/c empty outside; touch tree/a/f outside/kept")
    shell(api, sprite, "ln -s ../outside tree/link; ln -s / tree/root")
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
    shell(api, sprite, "mkdir -p t/sub; printf 12345 > t/sub/f; ln -s sub/f t/l; mkfifo t/p")
    shell(api, sprite, "chmod 640 t/sub/f; touch -d 2001-01-01 t/sub/f")
    answer = files.post("copy", source=f"{HOME}/t/l", dest=f"{HOME}/f2")
    assert answer == {"copied": [{"source": f"{HOME}/t/l", "dest": f"{HOME}/f2"}], "count": 1, "totalBytes": 5}
    assert files.read(f"{HOME}/f2") == b"12345"
    body: dict[str, object] = {"source": f"{HOME}/t", "dest": f"{HOME}/u"}
    assert "is a directory" in files.fails("EISDIR", 400, "POST", "copy", body=body)
    assert files.post("copy", source="t", dest="u", workingDir=HOME, recursive=True, preserveAttrs=True)["count"] == 4
    look = "readlink u/l; stat -c '%a %y' u/sub/f | cut -c1-14; ls u"
    assert shell(api, sprite, look) == "sub/f\n640 2001-01-01\nl\nsub\n"
    body = {"source": f"{HOME}/t", "dest": f"{HOME}/t/sub/in", "recursive": True}
    files.fails("EINVAL", 400, "POST", "copy", body=body)
    files.fails("EINVAL", 400, "POST", "copy", body={"source": f"{HOME}/f2", "dest": f"{HOME}/f2"})
    files.fails("ENOENT", 404, "POST", "copy", body={"source": f"{HOME}/f2", "dest": f"{HOME}/no/f2"})
    assert files.read(f"{HOME}/f2") == b"12345"


def test_chmod(files: Files, api: Api, sprite: str) -> None:
    shell(api, sprite, "mkdir -p t/sub outside; touch t/sub/f outside/o; chmod 644 outside/o")
    shell(api, sprite, "ln -s ../outside/o t/l; ln -s ../outside t/d")
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
        ("GET", "read/x", 404), ("GET", "no-such", 404), ("GET", "", 404), ("POST", "read", 405),
        ("HEAD", "read", 405), ("GET", "write", 405), ("GET", "delete", 405), ("PUT", "rename", 405),
        ("GET", "watch", 426), ("DELETE", "archive", 405),
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
