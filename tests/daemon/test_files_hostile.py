# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Trees made to do harm, and files of any size."""

import asyncio
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api import Api
from support.daemon import Daemon
from support.exec import root_shell, run_async, shell
from support.files import HOME, Files
from support.wait import eventually

# Hostile trees

#: MiB; 5120 is what the promise is about, and takes a minute.
LARGE = int(os.environ.get("SPRITE_LARGE_FILE_MIB", "300"))


def test_nothing_leads_to_the_host(files: Files, api: Api, sprite: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    marker.write_text("of the host")
    up = "../" * 40
    shell(api, sprite, f"ln -s / root; ln -s {up} up; ln -s /proc/1/root proc1")
    shell(api, sprite, "ln -s /proc/self/root self; ln -s /proc/self/cwd cwd")
    for path in [str(marker), f"/{up}{marker}", *(f"{HOME}/{name}{marker}" for name in ("root", "up", "self"))]:
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
    script = 'socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un("socket")) or die'
    shell(api, sprite, f"mkfifo fifo; perl -MSocket -e '{script}'")
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
    racing = asyncio.create_task(run_async(api, sprite, "sh", "-c", script))
    count = 0
    while not racing.done():
        query = {"path": f"{HOME}/race/d", "recursive": "true"}
        await asyncio.to_thread(api.http.delete, f"{files.url}/delete", params=query)
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


@pytest.mark.timeout(900)
def test_large_files_pass_in_constant_memory(files: Files, api: Api, sprite: str, daemon: Daemon) -> None:
    block = os.urandom(1 << 20)
    before, peak = _memory(daemon), 0

    def blocks() -> Iterator[bytes]:
        nonlocal peak
        for number in range(LARGE):
            if number % 10 == 0:
                peak = max(peak, _memory(daemon))
            yield block

    start = time.monotonic()
    assert files.write(f"{HOME}/large", blocks())["size"] == LARGE << 20
    up = time.monotonic() - start
    start, count = time.monotonic(), 0
    digest = hashlib.sha256()
    with api.http.stream("GET", f"{files.url}/read", params={"path": f"{HOME}/large"}) as answer:
        assert answer.headers["content-length"] == str(LARGE << 20)
        for piece in answer.iter_raw(1 << 20):
            digest.update(piece)
            count += 1
            if count % 10 == 0:
                peak = max(peak, _memory(daemon))
    down = time.monotonic() - start
    wanted = hashlib.sha256()
    for _ in range(LARGE):
        wanted.update(block)
    assert digest.digest() == wanted.digest()
    print(f"{LARGE} MiB: up {LARGE / up:.0f} MiB/s, down {LARGE / down:.0f} MiB/s, memory {before} MiB, at most {peak} MiB")
    assert peak < before + 100


def test_a_client_that_leaves_ends_the_download(files: Files, api: Api, sprite: str) -> None:
    shell(api, sprite, "head -c 200000000 /dev/zero > zeros")
    with api.http.stream("GET", f"{files.url}/read", params={"path": f"{HOME}/zeros"}) as answer:
        next(answer.iter_raw(1 << 16))
    eventually(lambda: "sprite-env fs" not in shell(api, sprite, "ps -eo args"), "the program for files is gone", 20)
    assert api.sessions(sprite) == []
