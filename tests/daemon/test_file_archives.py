# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Whole directories as one tar stream, and watching."""

import asyncio
import io
import json
import os
import tarfile
import time

import pytest
from websockets.asyncio.client import connect

from support.api import Api
from support.exec import shell
from support.files import HOME, Files
from support.wait import eventually

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
        f"ln -s {'y' * 150} t/link; touch -d 2001-01-01 t/exe; touch t/empty; mkfifo t/pipe; "
        "echo in > t/locked/f; chmod 555 t/locked",
    )  # fmt: skip
    got = api.call("GET", f"{files.url}/archive", params={"path": f"{HOME}/t"}).content
    with tarfile.open(fileobj=io.BytesIO(got)) as tar:
        assert f"{long}/f" in tar.getnames() and tar.getmember("exe").mode == 0o751
    api.call("PUT", f"{files.url}/archive", params={"path": f"{HOME}/u"}, content=got)
    look = (
        "cd %s; find . ! -type p | sort; find . -type f -exec sha256sum {} + | sort; "
        "stat -c '%%a %%Y %%h' exe; stat -c %%a locked; readlink link"
    )
    assert shell(api, sprite, look % "u") == shell(api, sprite, look % "t")
    # What tar(1) makes, and what it makes of ours.
    files.write(f"{HOME}/ours.tar", got)
    shell(api, sprite, "tar -C t -cf /tmp/gnu.tar .")
    shell(api, sprite, f"mkdir v && tar -C v -xf ours.tar && test -e v/{long}/f")
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
            request = {"type": "subscribe", "paths": ["src"], "recursive": True, "workingDir": HOME}
            await socket.send(json.dumps(request))
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
