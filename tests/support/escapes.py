# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What attacks from inside a sprite need: daemons under each runtime, refusals told from attacks that were not made.

An attack that failed for a reason of its own (a missing program, a wrong path) looks like one that was refused. So an
attack counts only with the words or the number of the kernel's refusal, and tests look at the host besides.
"""

import json
import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.api import Api
from support.daemon import Daemon
from support.exec import run

#: The one that every daemon uses, and the other that can be chosen.
RUNTIMES = ("crun", "runc")
EPERM, ESRCH, EBADF, EACCES, EFAULT, EINVAL, EROFS, ENOSYS = 1, 3, 9, 13, 14, 22, 30, 38
#: How the kernel says no, in the words of the C library and of mount(8).
DENIALS = ("operation not permitted", "permission denied", "read-only file system", "must be superuser")


def daemon_under(runtime: str, scratch: Path, base: Path) -> Iterator[Daemon]:
    """A daemon for the tests of one file; its name holds what distinguishes it from the other file's."""
    folder = Path(tempfile.mkdtemp(prefix=f"isolation-{runtime}-", dir=scratch))
    daemon = Daemon(folder, folder.with_suffix(".log"), ["--runtime", runtime])
    daemon.import_base(base)
    daemon.start()
    yield daemon
    daemon.finish()


def refused(api: Api, sprite: str, script: str, *words: str) -> None:
    """Tries `script` as root of the sprite: it must fail, and say that the kernel refused, or one of `words`."""
    done = run(api, sprite, "sudo", "sh", "-c", script, timeout=30)
    assert done.code not in (0, None, 126, 127), f"{script!r} succeeded or was not tried: {done.stdout!r} {done.stderr!r}"
    said = done.stderr.decode(errors="replace").lower()
    assert any(word in said for word in words or DENIALS), f"{script!r} failed for another reason: {said!r}"


#: A number and its arguments; bytes are passed by their address.
Call = tuple[int | bytes, ...]
#: Each argument is a call, its parts separated by commas: numbers, or `@hex` for a pointer to these bytes.
_SYSTEM_CALLS = r"""
    $| = 1;
    for (@ARGV) {
        my @kept = map { /^@(.*)/ ? pack("H*", $1) : $_ + 0 } split /,/;
        my $number = shift @kept;
        $! = 0;
        my $result = syscall($number, @kept);
        my $error = $result < 0 ? $! + 0 : 0;
        # What clone made is a copy of this program: it must not go through the list as well.
        if ($result == 0 && ($number == 56 || $number == 435)) { syscall(231, 0) }
        print "$error\n";
    }
"""


def system_calls(api: Api, sprite: str, *calls: Call) -> list[int]:
    """The error number of each call as root of the sprite; 0 if it succeeded."""
    # The last one is allowed and fails in a way of its own: the answers are the kernel's, to the calls that were meant.
    close = (3, 1 << 20)
    done = run(api, sprite, "sudo", "perl", "-e", _SYSTEM_CALLS, *map(_written, [*calls, close]), timeout=30)
    errors = [int(line) for line in done.text.split()]
    assert (done.code, len(errors), errors[-1:]) == (0, len(calls) + 1, [EBADF]), done
    return errors[:-1]


def _written(call: Call) -> str:
    return ",".join(f"@{part.hex()}" if isinstance(part, bytes) else str(part) for part in call)


def static_program_32(calls: list[tuple[int, ...]]) -> bytes:
    """A 32-bit x86 program that makes these calls with these arguments and writes their results, four bytes each."""
    base, results = 0x08048000, 0x08058000
    code = b""
    for place, call in enumerate([*calls, (4, 1, results, 4 * len(calls)), (1, 0)]):
        # mov eax, ebx, ecx, edx, esi, edi; int 0x80; mov [place], eax
        for opcode, part in zip(b"\xb8\xbb\xb9\xba\xbe\xbf", (*call, 0, 0, 0, 0, 0), strict=False):
            code += bytes([opcode]) + struct.pack("<I", part)
        code += b"\xcd\x80" + (b"\xa3" + struct.pack("<I", results + 4 * place))
    size = 52 + 32 + len(code)
    entry = base + 52 + 32
    head = b"\x7fELF\x01\x01\x01".ljust(16, b"\0") + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, entry, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    # One segment, to be read, written and run, that reaches beyond the file to where the results go.
    segment = struct.pack("<IIIIIIII", 1, 0, base, base, size, results - base + 4096, 7, 4096)
    return head + segment + code


@dataclass
class Seen:
    """A sprite as the host sees it."""

    daemon: Daemon
    identifier: str

    @property
    def process(self) -> int:
        """PID 1 of the sprite, by its number on the host."""
        state = json.loads(Path(f"/run/sprited/{self.daemon.tag}/state/{self.identifier}.json").read_text())
        return int(state["processID"])

    @property
    def configuration(self) -> dict[str, Any]:
        """What the runtime was told."""
        path = Path(f"/run/sprited/{self.daemon.tag}/bundles/{self.identifier}/config.json")
        told: dict[str, Any] = json.loads(path.read_text())
        return told

    @property
    def disk(self) -> Path:
        """Its disk, which is mounted in the daemon's mount namespace only: `upper` and `plain`."""
        pool = self.daemon.data_directory.resolve() / "pool"
        return Path(f"/proc/{self.daemon.pid}/root{pool}/sprites/{self.identifier}/live")

    def mounts(self) -> dict[str, "Mount"]:
        """By the place inside; of several at one place the last, which is the one that counts."""
        lines = Path(f"/proc/{self.process}/mountinfo").read_text().splitlines()
        return {mount.place: mount for mount in map(Mount.read, lines)}

    def groups(self) -> list[Path]:
        """Its control groups, of every hierarchy, where the host has them."""
        name = f"sprited-{self.daemon.tag}/{self.identifier}"
        top = Path("/sys/fs/cgroup")
        return sorted(path for path in [top / name, *top.glob(f"*/{name}")] if path.is_dir())

    def processes(self) -> list[int]:
        """Everything in its process namespace."""
        own = os.readlink(f"/proc/{self.process}/ns/pid")
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _namespace(pid) == own]


def _namespace(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None


@dataclass
class Mount:
    """A line of mountinfo, proc_pid_mountinfo(5)."""

    device: str
    root: str
    place: str
    options: set[str]
    type: str
    superblock_options: set[str]

    @staticmethod
    def read(line: str) -> "Mount":
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        return Mount(fields[2], fields[3], fields[4], set(fields[5].split(",")), rest[0], set(rest[2].split(",")))


def seen(api: Api, daemon: Daemon, sprite: str) -> Seen:
    return Seen(daemon, str(api.get(sprite)["id"]).removeprefix("sprite-"))


@contextmanager
def host_folder(*names: str) -> Iterator[Path]:
    """A folder of the host with a file `who` that says `host`, at a path that can be made inside as well.

    It, and the folders in it by these `names`, can be written by anybody, so by whoever a sprite's root is on the host.
    """
    # Not in /tmp, where every sprite has a file system of its own in the way.
    folder = Path(tempfile.mkdtemp(prefix="sprite-escape-", dir="/var/tmp"))
    folder.chmod(0o777)
    (folder / "who").write_text("host\n")
    (folder / "who").chmod(0o666)
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name).chmod(0o777)
    before = _facts(folder)
    try:
        yield folder
        changed = set(_facts(folder)) ^ set(before)
        assert not changed, f"the host's folder is not as it was: {sorted(changed, key=str)}"
        for mounts in ("/proc/1/mountinfo", "/proc/self/mountinfo"):
            assert str(folder) not in Path(mounts).read_text(), "nothing is mounted on the host's folder"
    finally:
        shutil.rmtree(folder)


def _facts(folder: Path) -> list[tuple[object, ...]]:
    paths = [folder, *sorted(folder.rglob("*"))]
    facts = [(path, path.lstat()) for path in paths]
    return [
        (path, info.st_mode, info.st_uid, info.st_mtime_ns, info.st_ctime_ns, path.read_bytes() if stat.S_ISREG(info.st_mode) else b"")
        for path, info in facts
    ]
