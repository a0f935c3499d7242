# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The file system of a sprite under fio, stress-ng and a POSIX suite, beside the same on bare btrfs.

`make fs-check` runs all of stress-ng's classes for files, a run of all tests some of them for a moment.
"""

import ast
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.api import Api
from support.exec import root_shell
from support.files import Files

SECONDS = int(os.environ.get("SPRITE_FS_SECONDS", "1"))
SUITE = Path(__file__).parents[1] / "support" / "posix_suite.py"
#: What an overlay cannot do, or does otherwise, and why.
KNOWN: dict[str, str] = {}
STRESSORS = os.environ.get(
    "SPRITE_FS_STRESSORS", "dentry dir dirdeep fallocate filename flock link locka metamix rename symlink utime xattr"
).split()
#: Those that would take all of a small pool, after which every other fails for want of space.
BOUNDS = {
    name: f"--{name}-{option} 32m"
    for name, option in [
        ("copy-file", "bytes"), ("fallocate", "bytes"), ("hdd", "bytes"), ("iomix", "bytes"), ("seek", "size"), ("sync-file", "bytes"),
    ]
}  # fmt: skip
FIO = (
    "--name=check --size=16m --bs=4k --verify=crc32c --verify_fatal=1 --verify_state_save=0 --do_verify=1 --group_reporting "
    "--runtime=60 --output-format=json"
)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A btrfs filesystem as the pool has it, without a sprite."""
    folder = tmp_path_factory.mktemp("bare")
    image, place = folder / "image", folder / "mounted"
    place.mkdir()
    subprocess.run(["truncate", "-s", "2G", image], check=True)
    subprocess.run(["mkfs.btrfs", "-q", "-m", "single", "-d", "single", image], check=True)
    subprocess.run(["mount", "-o", "loop,noatime", image, place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host's programs with their libraries, so that they run in any sprite."""
    folder = tmp_path_factory.mktemp("tools") / "fs-tools"
    folder.mkdir()
    for program in ("fio", "stress-ng"):
        path = shutil.which(program)
        assert path, f"{program} is missing; scripts/install-deps.sh --test installs it"
        shutil.copy(path, folder)
        listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
        for word in listed.split():
            if word.startswith("/"):
                shutil.copy(word, folder)
    return folder


@pytest.fixture
def inside(api: Api, sprite: str, files: Files, tools: Path, tmp_path: Path) -> Callable[[str], str]:
    """Runs a script as root in a sprite that has the tools; `$T` begins a command of theirs."""
    archive = tmp_path / "tools.tar"
    subprocess.run(["tar", "-cf", archive, "-C", tools.parent, tools.name], check=True)
    subprocess.run(["tar", "-rf", archive, "-C", SUITE.parent, SUITE.name], check=True)
    from support.exec import run

    assert run(api, sprite, "tar", "-xf", "-", "-C", "/home/sprite", input=archive.read_bytes()).code == 0
    return lambda script: root_shell(api, sprite, f"T=/home/sprite/{tools.name}; mkdir -p /var/check; {script}", timeout=600)


def command(tools: str, program: str) -> str:
    return f"{tools}/ld-linux-x86-64.so.2 --library-path {tools} {tools}/{program}"


def outside(script: str) -> str:
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, (script, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def test_a_posix_suite_finds_what_it_finds_on_bare_btrfs(inside: Callable[[str], str], bare: Path) -> None:
    here = ast.literal_eval(outside(f"mkdir {bare}/suite && python3 {SUITE} {bare}/suite"))
    there = ast.literal_eval(inside("mkdir /var/suite && python3 /home/sprite/posix_suite.py /var/suite"))
    assert len(here) > 35
    assert not [name for name, result in here.items() if str(result).startswith("failed")], here
    different = {name: (here[name], there.get(name)) for name in here if here[name] != there.get(name)}
    assert {name: pair for name, pair in different.items() if name not in KNOWN} == {}
    assert not set(KNOWN) - set(different), "what is known to differ does not any more"


@pytest.mark.parametrize("pattern", ["write", "randwrite", "rw --fsync=16", "randrw --direct=1", "randwrite --ioengine=sync --overwrite=1"])
def test_fio_reads_what_it_wrote(inside: Callable[[str], str], bare: Path, tools: Path, pattern: str) -> None:
    def mistakes(text: str) -> Any:
        return [job["error"] for job in json.loads(text[text.index("{") :])["jobs"]]

    arguments = f"{FIO} --rw={pattern}"
    there = inside(f"{command('$T', 'fio')} {arguments} --directory=/var/check")
    here = outside(f"{command(str(tools), 'fio')} {arguments} --directory={bare}")
    assert mistakes(there) == mistakes(here) == [0]


@pytest.mark.timeout(3600)
def test_stress_of_files_ends_as_on_bare_btrfs(inside: Callable[[str], str], bare: Path, tools: Path) -> None:
    def failed(run: Callable[[str], str], tools: str, folder: str) -> set[str]:
        found = set()
        for stressor in STRESSORS:
            options = f"--{stressor} 1 {BOUNDS.get(stressor, '')} --timeout {SECONDS} --verify --temp-path {folder}"
            line = f"{command(tools, 'stress-ng')} {options}"
            if run(f"{line} >/dev/null 2>&1; echo $?").strip() != "0":
                found.add(stressor)
        return found

    here = failed(outside, str(tools), str(bare))
    # Some classes fail on any btrfs; were it most of them, stress-ng itself would not run.
    assert len(here) * 4 < len(STRESSORS), here
    assert failed(inside, "$T", "/var/check") == here
