# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The program inside runs in any root file system: it needs no library, no shell and no C library of it."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.api import Api
from support.daemon import Daemon
from support.exec import run, shell
from support.fixtures import fresh_name
from support.inner import env, env_json
from support.roots import tiny_root
from support.wait import eventually

PROGRAM = '#include <stdio.h>\nint main(void) { puts("linked with musl"); return 0; }\n'


def musl_program(folder: Path) -> Path:
    compiler = shutil.which("musl-gcc")
    assert compiler, "musl-gcc is missing: scripts/install-deps.sh --test"
    (folder / "program.c").write_text(PROGRAM)
    subprocess.run([compiler, "-o", str(folder / "program"), str(folder / "program.c")], check=True, timeout=60)
    return folder / "program"


def use_everything(api: Api, name: str) -> None:
    shell(api, name, "echo first > file")
    assert env(api, name, "checkpoints", "create").text == "v1\n"
    shell(api, name, "echo second > file")
    made = env(api, name, "services", "create", "s", "--duration", "1s", "--", "sh", "-c", "echo up; exec sleep 9999")
    assert made.text == "up\n", made
    assert env_json(api, name, "services", "get", "s")["state"]["status"] == "running"
    assert env(api, name, "tasks", "create", "t").code == 0
    assert env(api, name, "restore", "v1").code == 137
    eventually(lambda: run(api, name, "cat", "file").text == "first\n", "the disk is as it was")
    assert env(api, name, "services", "list", "--json").text.strip() == "[]"


@pytest.fixture
def made_from(daemon: Daemon, api: Api) -> Iterator[Callable[[Path], str]]:
    """Makes a sprite from a tar; both are gone afterwards, since the newest base is that of every other test."""
    names: list[str] = []

    def make(tar: Path) -> str:
        names.append(fresh_name())
        daemon.import_base(tar, names[-1])
        api.create(names[-1], base=names[-1])
        return names[-1]

    yield make
    for name in names:
        api.destroy(name)
        daemon.tool("base", "remove", name)


def test_in_a_root_with_busybox_only(api: Api, made_from: Callable[[Path], str], tmp_path: Path) -> None:
    name = made_from(tiny_root(tmp_path / "busybox.tar"))
    assert run(api, name, "ls", "/lib").text == ""
    use_everything(api, name)
    # And with nothing at all: the program is what is left.
    run(api, name, "rm", "-rf", "/bin", "/etc", user="root")
    assert env(api, name, "info", user="0").code == 0
    assert env(api, name, "restore", "v1", user="0").code == 137
    eventually(lambda: run(api, name, "cat", "file").text == "first\n", "the root is there again")


def test_in_a_root_with_musl(api: Api, made_from: Callable[[Path], str], tmp_path: Path) -> None:
    name = made_from(tiny_root(tmp_path / "musl.tar", with_musl=musl_program(tmp_path)))
    assert run(api, name, "with-musl").text == "linked with musl\n"
    use_everything(api, name)


def test_it_is_static_and_small_enough(new_sprite: Callable[..., str], api: Api) -> None:
    """No interpreter is named in the file: nothing of the root is needed to start it."""
    name = new_sprite()
    script = "head -c 65536 /.sprite/bin/sprite-env | tr -d '\\0' | grep -c -a ld-linux || true"
    assert shell(api, name, script).strip() == "0"
