# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Names of a layer are looked up by the kernel itself or by JuiceFS: a sprite sees the same."""

import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.exec import run

#: What is hard to lay out: sizes about a block and about a part of 64 MiB, folders of many blocks, names and targets as
#: long as they may be, a file without a byte, holes, attributes, pipes, names that sort before dots, what hides the base.
RECIPE = """\
name: odd
script: |
  mkdir -p /opt/odd/many /opt/odd/deep /opt/odd/empty
  cd /opt/odd
  for i in $(seq 900); do echo "$i" >many/a-name-that-is-not-short-$i; done
  for size in 0 1 4095 4096 4097 65536 131072 131073; do seq 99999 | head -c $size >size-$size; done
  seq 12000000 >large
  truncate -s 5000000 hole; truncate -s 3000000 half; echo begin | dd of=half conv=notrunc status=none
  long=$(printf '%0250d' 7)
  echo long >$long; ln -s /$long/$long/$long link; ln -s "$(printf '%04000d' 3)" longlink; ln -s . short
  touch -- '!before' '-dash' '.hidden' '..twodots' 'käse 100%' 'a"b\\c' '~'
  ln large deep/same; ln size-1 size-one
  cd deep; for i in $(seq 40); do mkdir d; cd d; done; echo bottom >file; cd /opt/odd
  python3 -c 'import os
  os.setxattr("size-1", "user.color", b"blue")
  os.setxattr("many", "user.a", b"%03000d" % 5)
  os.setxattr("empty", "user.of", b"folder")'
  mkfifo pipe; chmod 4711 size-4096; chmod 1777 empty; chown 33:44 size-0 many
  touch -d '1975-01-02 03:04:05.123456789' size-4097; touch -h -d '2030-05-06 07:08:09.987654321' link
  rm -rf /usr/share/common-licenses; mkdir /usr/share/common-licenses; echo mine >/usr/share/common-licenses/MINE
  rm /etc/issue
"""
LISTING = r"""
import hashlib, os, stat, sys
def tell(path):
    facts = os.lstat(path)
    kind = stat.S_IFMT(facts.st_mode)
    size = 0 if kind == stat.S_IFDIR else facts.st_size
    links = 0 if kind == stat.S_IFDIR else facts.st_nlink
    what = ""
    if kind == stat.S_IFLNK: what = os.readlink(path)
    if kind == stat.S_IFREG: what = hashlib.sha256(open(path, "rb").read()).hexdigest()
    names = [] if kind == stat.S_IFLNK else sorted(os.listxattr(path))
    attributes = [(name, os.getxattr(path, name)) for name in names]
    print(ascii((path, oct(facts.st_mode), facts.st_uid, facts.st_gid, size, links, facts.st_mtime_ns, what, attributes)))
for top in ("/opt/odd", "/usr/share/common-licenses"):
    for folder, folders, files in os.walk(top):
        folders.sort()
        tell(folder)
        for name in sorted(files + [one for one in folders if os.path.islink(os.path.join(folder, one))]):
            tell(os.path.join(folder, name))
# A start changes it.
print(sorted(os.listdir("/etc")))
"""


def reads_images() -> bool:
    """Whether the kernel is new enough to read names itself."""
    major, minor = map(int, platform.release().split(".")[:2])
    return (major, minor) >= (6, 12)


def layout(daemon: Daemon) -> list[Path]:
    """There while the kernel has the names of a mounted layer."""
    return list(Path(f"/run/sprited/{daemon.tag}/runtimes").glob("odd@*/layout"))


@pytest.fixture
def odd(tmp_path: Path, base: Path, new_daemon: Callable[..., Daemon]) -> Daemon:
    daemon = new_daemon()
    recipe = tmp_path / "odd.yaml"
    recipe.write_text(RECIPE)
    version = daemon.tool("runtimes", "build", str(recipe)).split()[1]
    daemon.tool("runtimes", "use", version)
    return daemon


def listing(daemon: Daemon, name: str) -> list[str]:
    return run(daemon.api(), name, "sudo", "python3", "-c", LISTING).text.splitlines()


def test_a_layer_is_the_same_whoever_looks_names_up(
    odd: Daemon, new_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    version = odd.api().create("one")["runtimes"]
    found = listing(odd, "one")
    assert bool(layout(odd)) == reads_images(), "the kernel reads names if it can"
    told = "\n".join(found)
    assert len(found) > 950 and "MINE" in told and "/GPL-3" not in told and "'issue'" not in told
    assert "b'blue'" in told and f"('user.a', b'{5:03000}')" in told
    other = new_daemon("--runtimes-names", "juicefs")
    odd.tool("runtimes", "publish", version, "--to", str(tmp_path / "published"))
    other.tool("runtimes", "pull", version, "--from", str(tmp_path / "published"))
    other.tool("runtimes", "use", version)
    other.api().create("one")
    assert listing(other, "one") == found
    assert not layout(other)


def test_juicefs_has_the_names_where_the_kernel_reads_no_image(
    odd: Daemon, new_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    version = odd.api().create("one")["runtimes"]
    odd.tool("runtimes", "publish", version, "--to", str(tmp_path / "published"))
    other = new_daemon(started=False)
    # The kernel mounts no file that lies in memory.
    place = other.data_directory / "runtimes/mounted"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        other.start()
        other.tool("runtimes", "pull", version, "--from", str(tmp_path / "published"))
        other.tool("runtimes", "use", version)
        other.api().create("one")
        assert listing(other, "one") == listing(odd, "one")
        assert layout(odd) and not layout(other)
        # One daemon after another takes it over as it is.
        other.restart()
        assert listing(other, "one") == listing(odd, "one")
        assert list(place.iterdir()) == []
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
