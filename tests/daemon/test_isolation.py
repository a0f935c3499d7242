# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Known ways out of a container through the kernel, its limits and other processes; by paths: test_isolation_paths.py.

Tried as root of the sprite under every OCI runtime there is. Each test shows that its attack was made, and looks at the
host for what it would have done there.
"""

import os
import platform
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import logs
from support.api import Api, ApiError
from support.daemon import Daemon
from support.escapes import (
    EBADF, ENOSYS, EPERM, ESRCH, RUNTIMES, Call, daemon_under, refused, seen, static_program_32, system_calls,
)  # fmt: skip
from support.exec import root_shell, run, shell
from support.host import resident_kib
from support.wait import eventually

intel = pytest.mark.skipif(platform.machine() != "x86_64", reason="environment: numbers of system calls are x86_64's")


@pytest.fixture(scope="module", params=RUNTIMES)
def shared_daemon(request: pytest.FixtureRequest, scratch: Path, base: Path) -> Iterator[Daemon]:
    """In the place of the daemon of other tests: one for each runtime."""
    yield from daemon_under(request.param, scratch, base)


def test_release_agent(api: Api, daemon: Daemon, sprite: str) -> None:
    shell(api, sprite, "true")
    groups = seen(api, daemon, sprite).groups()
    before = release_agents(groups)
    # The control: the same search finds what every group has.
    found = root_shell(api, sprite, "find / -path /proc -prune -o '(' -name release_agent -o -name cgroup.procs ')' -print")
    assert found.split() == ["/sys/fs/cgroup/cgroup.procs"]
    for controller in ("memory", "rdma", "cpu", "freezer", "none,name=x"):
        refused(api, sprite, f"mkdir -p /tmp/c && mount -t cgroup -o {controller} cgroup /tmp/c")
    assert release_agents(groups) == before


def release_agents(groups: list[Path]) -> dict[Path, str]:
    """What would be run when a group becomes empty, and for which of the sprite's groups that is on."""
    files = [*Path("/sys/fs/cgroup").glob("*/release_agent"), *(group / "notify_on_release" for group in groups)]
    return {path: path.read_text() for path in files if path.exists()}


@pytest.mark.parametrize("name", ["core_pattern", "modprobe", "sysrq", "hotplug", "poweroff_cmd"])
def test_programs_and_switches_of_the_kernel(name: str, api: Api, sprite: str) -> None:
    path = Path("/proc/sys/kernel") / name
    if not path.exists():
        # Nor is it inside, where it would be the same file.
        assert run(api, sprite, "test", "-e", str(path)).code == 1
        return
    before = path.read_text()
    # The control: inside it is the same file, so what was written there would be seen here.
    assert root_shell(api, sprite, f"cat {path}") == before
    try:
        for attack in ("", "mount -o remount,rw,bind /proc/sys; ", "umount -l /proc/sys; ", "chmod 666 {path}; chroot /proc/1/root "):
            shown = "sh -c " if "chroot" in attack else ""
            word = f"'echo 0 > {path}'" if shown else f"echo 0 > {path}"
            refused(api, sprite, attack.format(path=path) + shown + word)
        assert path.read_text() == before
    finally:
        if path.read_text() != before:
            path.write_text(before)


def test_sysrq_trigger(api: Api, sprite: str) -> None:
    trigger = Path("/proc/sysrq-trigger")
    before = kernel_log().count("sysrq:")
    if trigger.exists():
        refused(api, sprite, f"echo h > {trigger}")
        refused(api, sprite, f"umount -l {trigger}; echo h > {trigger}")
    else:
        assert run(api, sprite, "test", "-e", str(trigger)).code == 1
    # The help that `h` asks for would be in the host's log.
    assert kernel_log().count("sysrq:") == before


def kernel_log() -> str:
    return subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout


@intel
def test_ptrace_and_signals_across(api: Api, daemon: Daemon, new_sprite: Callable[..., str]) -> None:
    one, other = new_sprite(), new_sprite()
    shell(api, one, "true")
    shell(api, other, "for i in 1 2 3 4; do setsid -f sleep 60 </dev/null >/dev/null 2>&1; done")
    neighbour = seen(api, daemon, other)
    eventually(lambda: len(sleepers(neighbour.processes())) == 4, "the neighbour's processes are seen on the host")
    theirs = sleepers(neighbour.processes())
    inside = set(root_shell(api, one, "ls /proc").split())
    # By number they are other processes inside, or none: only then does the number say whose it is.
    outside = [pid for pid in (daemon.pid, neighbour.process, os.getpid(), *theirs) if str(pid) not in inside]
    assert daemon.pid in outside and set(outside) & set(theirs), (outside, inside)
    attach, kill, limits, descriptor, queue, group, affinity, nice = 101, 62, 302, 434, 129, 234, 203, 141
    for pid in outside:
        assert not root_shell(api, one, f"cat /proc/{pid}/comm 2>/dev/null || true")
        calls: list[Call] = [(attach, 16, pid, 0, 0), (attach, 0x4206, pid, 0, 0), (limits, pid, 7, 0, 0)]
        calls += [(descriptor, pid, 0), (queue, pid, 9, struct.pack("iii", 9, 0, -1).ljust(128, b"\0")), (group, pid, pid, 9)]
        calls += [(affinity, pid, 8, b"\1".ljust(8, b"\0")), (nice, 0, pid, 19)]
        calls += [(kill, pid, number) for number in (0, signal.SIGSTOP, signal.SIGKILL)] + [(kill, -pid, signal.SIGKILL)]
        errors = system_calls(api, one, *calls)
        assert set(errors) == {ESRCH}, (pid, errors)
    # The control: the same calls reach a process of its own.
    root_shell(api, one, "setsid -f sleep 60 </dev/null >/dev/null 2>&1")
    own = int(eventually(lambda: shell(api, one, "pgrep -n sleep").strip(), "a process of its own"))
    assert system_calls(api, one, (limits, own, 7, 0, 0), (descriptor, own, 0), (attach, 0x4206, own, 0, 0)) == [0, 0, 0]
    assert system_calls(api, one, (kill, own, 0), (kill, own, signal.SIGKILL)) == [0, 0]
    eventually(lambda: run(api, one, "pgrep", "sleep").code == 1, "its own process was killed")
    shell(api, one, "setsid -f sleep 60 </dev/null >/dev/null 2>&1")
    run(api, one, "sudo", "sh", "-c", "kill -9 -1", timeout=20)
    eventually(lambda: run(api, one, "pgrep", "sleep").code == 1, "everything of its own was killed")
    assert sleepers(neighbour.processes()) == theirs and daemon.runs
    states = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in (daemon.pid, *theirs)]
    assert "T" not in states, "nobody was stopped"
    # Nor is there another root: whatever process it goes through, it is its own.
    assert root_shell(api, one, "ls -d /proc/[0-9]*/root/.sprite | wc -l").strip() != "0"
    assert run(api, one, "sudo", "sh", "-c", "ls -d /proc/*/root/run/sprited").code == 2


def sleepers(pids: list[int]) -> list[int]:
    return sorted(pid for pid in pids if Path(f"/proc/{pid}/comm").read_text() == "sleep\n")


def buffer(size: int, *numbers: int) -> bytes:
    return struct.pack(f"{len(numbers)}I", *numbers).ljust(size, b"\0")


ELF = b"\x7fELF".ljust(64, b"\0")


@intel
@pytest.mark.parametrize(
    ("what", "error", "calls"),
    [
        ("keyrings", EPERM, [(248, b"user\0", b"name\0", b"text", 4, -3), (249, b"user\0", b"name\0", 0, -3), (250, 0, -3, 0), (250, 6, 0), (250, 1, 0)]),
        ("userfaultfd", EPERM, [(323, 0), (323, 1)]),
        ("bpf", EPERM, [(321, 0, buffer(72, 2, 4, 4, 1), 72), *((321, number, 0, 0) for number in range(0, 6))]),
        ("io_uring", ENOSYS, [(425, 8, bytes(120)), (426, 0, 0, 0, 0, 0), (427, 0, 0, 0, 0)]),
        ("perf_event_open", EPERM, [(298, buffer(112, 1, 112), 0, -1, -1, 0), (298, 0, 0, -1, -1, 0)]),
        ("kernel_modules", EPERM, [(175, ELF, 64, b"\0"), (313, 0, b"\0", 0), (176, b"none\0", 0), (246, 0, 0, 0, 0), (320, 0, 0, 0, 0, 0)]),
        ("new_mount_calls", ENOSYS, [(428, -100, b"/\0", 1), (429, -1, 0, -1, 0, 0), (430, b"tmpfs\0", 0), (431, 0, 0, 0, 0, 0),
                                     (432, 0, 0, 0), (433, -100, b"/\0", 0), (442, -100, b"/\0", 0, bytes(32), 32)]),
        ("power_and_swap", EPERM, [(169, 0xFEE1DEAD, 672274793, 0x1234567), (169, 0, 0, 0), (167, b"/srv\0", 0), (167, 0, 0), (168, 0),
                                   (163, 1), (179, 0, 0, 0, 0)]),
        ("hardware_ports", EPERM, [(172, 3), (173, 0, 1, 1)]),
        ("kernel_log", EPERM, [(103, 3, 0, 0), (103, 10, 0, 0)]),
    ],
)  # fmt: skip
def test_system_calls(api: Api, sprite: str, what: str, error: int, calls: list[Call]) -> None:
    # What the list says of each, whatever the kernel would have said.
    assert system_calls(api, sprite, *calls) == [error] * len(calls), what


@intel
def test_system_calls_by_the_numbers_of_other_architectures(api: Api, sprite: str) -> None:
    # The third, x32, is 64 bit with a bit set. Most kernels are without it, which is an answer as well.
    x32 = [(0x40000000 + number, 0, 0, 0, 0, 0) for number in (248, 250, 272, 298, 304, 321, 323, 425, 428, 430, 435)]
    assert set(system_calls(api, sprite, *x32)) <= {EPERM, ENOSYS}
    get_process, close, new_user = 20, 6, 0x10000000
    refused_calls = {
        "add_key": (286,), "request_key": (287,), "keyctl": (288,), "bpf": (357,), "userfaultfd": (374, 1), "perf_event_open": (336,),
        "open_by_handle_at": (342,), "settimeofday": (79,), "stime": (25,), "clock_settime": (264,), "clock_settime64": (404,),
        "clock_adjtime": (343,), "clock_adjtime64": (405,), "init_module": (128,), "delete_module": (129,), "finit_module": (350,),
        "reboot": (88,), "swapon": (87,), "swapoff": (115,), "acct": (51, 1), "quotactl": (131,), "syslog": (103, 10), "iopl": (110, 3),
        "ioperm": (101, 0, 1, 1), "io_uring_setup": (425, 8), "fsopen": (430,), "open_tree": (428,), "mount_setattr": (442,),
        "clone3": (435,), "unshare": (310, new_user), "clone": (120, new_user | 17), "socket": (359, 40, 1), "socketcall": (102, 1),
        "kexec_load": (283,), "vm86": (166,), "vm86old": (113,),
    }  # fmt: skip
    program = static_program_32([(get_process,), (close, 1 << 20), *refused_calls.values()])
    assert run(api, sprite, "sh", "-c", "cat > /tmp/calls32 && chmod 755 /tmp/calls32", input=program).code == 0
    done = run(api, sprite, "sudo", "/tmp/calls32")
    if done.code == 126 or b"cannot execute" in done.stderr:
        pytest.skip("environment: this kernel runs no 32-bit programs")
    results = struct.unpack(f"{len(done.stdout) // 4}i", done.stdout)
    # The control: calls that are allowed get through, so the others' refusals are the list's.
    assert (done.code, len(results)) == (0, len(refused_calls) + 2) and results[0] > 0 and results[1] == -EBADF, done
    # A socket's family is refused by another number; so is whatever socketcall would have made, which cannot be seen.
    unsupported_family = 97
    for name, result in zip(refused_calls, results[2:], strict=True):
        assert -result in ((unsupported_family,) if name.startswith("socket") else (EPERM, ENOSYS)), (name, result)


#: Names a file by a handle and opens that, and some of other files: a mount is all it takes, if the kernel allows it.
HANDLES = r"""
    for my $place (@ARGV) {
        my ($folder, $file) = split /:/, $place;
        sysopen(my $mount, $folder, 0) or die "$folder: $!";
        my ($named, $id) = (pack("Ii", 128, 0) . "\0" x 128, pack("i", 0));
        my $made = syscall(303, -100, "$folder/$file", $named, $id, 0) == 0 ? 1 : 0;
        # The root of an ext4 (inode 2), of an xfs (64, 128), of a tree of btrfs (256), by generation 0.
        my @guessed = map { pack("IiII", 8, 1, $_, 0) } 2, 64, 128;
        push @guessed, pack("IiQQI", 20, 0x4d, 256, $_, 0) for 5, 256, 257, 258;
        for my $handle (($made ? $named : ()), @guessed) {
            $! = 0;
            my $opened = syscall(304, fileno($mount), $handle, 0);
            print "$place ", ($made && $handle eq $named ? "named" : "guessed"), " ", ($opened >= 0 ? 0 : $! + 0), "\n";
        }
    }
"""


@intel
def test_opening_by_handle(api: Api, daemon: Daemon, sprite: str) -> None:
    root_shell(api, sprite, "touch /var/lib/docker/own /srv/own")
    done = run(api, sprite, "sudo", "perl", "-e", HANDLES, "/var/lib/docker:own", "/.sprite:version.txt", "/srv:own")
    lines = [line.split() for line in done.text.splitlines()]
    assert done.code == 0 and {error for *_, error in lines} == {str(EPERM)}, done
    assert ["/var/lib/docker:own", "named", "1"] in lines and len([line for line in lines if line[1] == "guessed"]) == 3 * 7
    # The control: where nothing forbids it the same program opens the same file.
    disk = seen(api, daemon, sprite).disk
    outside = subprocess.run(["perl", "-e", HANDLES, f"{disk}/plain/docker:own"], capture_output=True, text=True, check=True)
    assert f"{disk}/plain/docker:own named 0" in outside.stdout.splitlines(), outside


@intel
def test_the_clock(api: Api, sprite: str) -> None:
    before = time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    tomorrow = struct.pack("qq", int(time.time()) + 86_400, 0)
    # Adds a day: modes first, the time after 72 bytes, see adjtimex(2).
    adjustment = (struct.pack("q", 0x100).ljust(72, b"\0") + struct.pack("qq", 86_400, 0)).ljust(208, b"\0")
    set_time, set_clock, adjust, adjust_clock, get_clock = 164, 227, 159, 305, 228
    calls: list[Call] = [(set_time, tomorrow, 0), (set_time, 0, 0), (set_clock, 0, tomorrow), (set_clock, 0, 0)]
    calls += [(adjust, adjustment), (adjust_clock, 0, adjustment), (adjust_clock, 0, 0)]
    assert system_calls(api, sprite, *calls) == [EPERM] * len(calls)
    assert system_calls(api, sprite, (get_clock, 0, bytes(16))) == [0], "the control: it may be read"
    refused(api, sprite, "date --set tomorrow")
    after = time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    assert abs(after - before) < 60


@intel
def test_nested_user_namespaces(api: Api, daemon: Daemon, sprite: str) -> None:
    flags = {"user": 0x10000000, "mount": 0x20000, "net": 0x40000000, "pid": 0x20000000, "cgroup": 0x2000000, "time": 0x80}
    unshare, clone, clone3, exit_signal = 272, 56, 435, 17
    # The control: both calls do what they do without a namespace.
    assert system_calls(api, sprite, (unshare, 0x400), (clone, exit_signal, 0, 0, 0, 0)) == [0, 0]
    calls: list[Call] = [*((unshare, flag) for flag in flags.values())]
    calls += [(unshare, sum(flags.values())), (unshare, flags["user"] | 1 << 40)]
    calls += [(clone, flag | exit_signal, 0, 0, 0, 0) for flag in flags.values() if flag != 0x80]
    calls += [(clone, flags["user"] | flag | exit_signal, 0, 0, 0, 0) for flag in (flags["mount"], flags["net"], 1 << 40)]
    assert system_calls(api, sprite, *calls) == [EPERM] * len(calls)
    arguments = struct.pack("Q", flags["user"]).ljust(32, b"\0") + struct.pack("Q", exit_signal).ljust(56, b"\0")
    assert system_calls(api, sprite, (clone3, arguments, 88), (clone3, 0, 88)) == [ENOSYS, ENOSYS]
    for command in ("unshare -U true", "unshare -Ur true", "unshare -m true", "unshare -n true", "nsenter -t 1 -m true"):
        refused(api, sprite, command)
        done = run(api, sprite, *command.split())
        assert done.code == 1 and any(word in done.stderr for word in (b"not permitted", b"denied")), "as the user as well"
    it = seen(api, daemon, sprite)
    shell(api, sprite, "setsid -f sleep 60 </dev/null >/dev/null 2>&1")
    spaces = {tuple(os.readlink(f"/proc/{pid}/ns/{kind}") for kind in os.listdir("/proc/self/ns")) for pid in it.processes()}
    assert len(spaces) == 1, "all of it is in the namespaces it was given"


def test_cgroup_escape(api: Api, daemon: Daemon, new_sprite: Callable[..., str]) -> None:
    sprite = new_sprite(config={"pids": 321})
    # Seen from the sprite's own group; where the host still has the older hierarchies, by name, but never above it.
    for line in root_shell(api, sprite, "cat /proc/self/cgroup").split():
        assert ".." not in line and (line.endswith(":/") or daemon.tag in line), line
    shell(api, sprite, "setsid -f sleep 60 </dev/null >/dev/null 2>&1")
    it = seen(api, daemon, sprite)
    groups, member = it.groups(), membership(it.process)
    before = facts(groups)
    assert groups and "321" in before.values() and daemon.tag in member, (groups, before, member)
    files = root_shell(api, sprite, "ls /sys/fs/cgroup").split()
    assert "cgroup.procs" in files, "the control: its group is mounted, and what is in it is tried"
    for name in files:
        refused(api, sprite, f"echo 1 >> /sys/fs/cgroup/{name}")
    for attack in (
        "mkdir /sys/fs/cgroup/x", "echo $$ > /sys/fs/cgroup/cgroup.procs", "echo max > /sys/fs/cgroup/cgroup.max.depth",
        "mount -o remount,rw /sys/fs/cgroup", "mount -t cgroup2 none /mnt", "rmdir /sys/fs/cgroup",
        "echo $$ > /proc/1/root/sys/fs/cgroup/cgroup.procs", "umount -l /sys/fs/cgroup",
    ):  # fmt: skip
        refused(api, sprite, attack)
    found = root_shell(api, sprite, "find /sys/fs/cgroup/ /sys/fs/cgroup/.. -maxdepth 3 -name 'sprited*' -o -name cgroup.procs").split()
    assert found and not any("sprited" in path for path in found), found
    processes = it.processes()
    assert len(processes) >= 2 and {membership(pid) for pid in processes} == {member}
    assert it.groups() == groups and facts(groups) == before


def membership(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


def facts(groups: list[Path]) -> dict[Path, str]:
    """Limits and settings of groups, without what counts use."""
    names = ("pids.max", "memory.max", "memory.limit_in_bytes", "cpu.max", "cpu.cfs_quota_us", "cgroup.freeze", "cgroup.max.depth",
             "cgroup.max.descendants", "cgroup.subtree_control", "cgroup.type", "notify_on_release")  # fmt: skip
    return {group / name: (group / name).read_text().strip() for group in groups for name in names if (group / name).exists()}


def test_btrfs_ioctls(api: Api, sprite: str) -> None:
    script = """
import errno, fcntl, os, sys
numbers = (0x5000940e, 0x50009417, 0x50009418, 0x50009401, 0x5000940f, 0x40089413, 0x9408, 0x40309429, 0xd0009411)
for place in sys.argv[1:]:
    os.makedirs(place, exist_ok=True)
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    for number in numbers:
        given = bytearray(4096)
        given[8:11] = b"sub"
        if number in (0x50009417, 0x50009418):
            given[56:59] = b"sub"
        try:
            fcntl.ioctl(folder, number, given)
            print(place, hex(number), "done")
        except OSError as error:
            print(place, hex(number), errno.errorcode[error.errno])
"""
    places = ["/", "/home/sprite", "/var/lib/docker", "/var/lib/containers", "/tmp", "/root"]
    done = run(api, sprite, "sudo", "python3", "-c", script, *places)
    tried = [line.split() for line in done.text.splitlines()]
    assert (len(tried), done.code) == (9 * len(places), 0), done
    # The filter's answer, before the file system is asked, wherever it would have listened.
    assert {error for _, _, error in tried} == {"EPERM"}, tried
    assert api.checkpoint(sprite) == "v1", "no nested subvolume is in the way"


def test_sys_and_proc_writes(api: Api, sprite: str) -> None:
    # The control: a file on the disk and one of the asking process's own are found, by the same means.
    script = r"""
        touch /srv/control
        find /proc/sys /sys /proc/irq /proc/bus /proc/fs -type f 2>/dev/null > /tmp/list
        find /proc -maxdepth 1 -type f >> /tmp/list
        printf '%s\n' /srv/control /proc/self/comm >> /tmp/list
        wc -l < /tmp/list
        perl -ne 'chomp; next unless -f; if (open my $f, "+<", $_) { print "$_\n" } elsif (sysopen my $g, $_, 1) { print "$_\n" }' < /tmp/list
    """
    count, *opened = root_shell(api, sprite, script, timeout=60).split()
    assert int(count) > 500, "the kernel has that many, and they are seen"
    assert opened == ["/srv/control", "/proc/self/comm"], opened[:20]


#: Ends by writing how often it went well, and why no more, into a file that was opened before.
UNTIL_REFUSED = "import os\nwhy = open('/dev/shm/why', 'w')\nheld = []\ntry:\n while True: {}\nexcept OSError as error:\n"
UNTIL_REFUSED += " why.write(str(len(held)) + ' ' + error.strerror)\n why.flush()\nimport time; time.sleep(60)"
DESCRIPTORS = UNTIL_REFUSED.format("held.append(os.open('/dev/null', 0))")
BOMBS = {
    "fork": ["bash", "-c", "b() { b | b & }; b; exec sleep 60"],
    "inode": ["python3", "-c", UNTIL_REFUSED.format("held.append(0) or os.close(os.open(str(len(held)), os.O_CREAT))")],
    "descriptor": ["bash", "-c", 'ulimit -n $(ulimit -Hn); exec python3 -c "$0"', DESCRIPTORS],
    "log": ["bash", "-c", "head -c 500000000 /dev/zero | tr '\\0' x | tee >(wc -c > /dev/shm/why); sleep 60"],
}
#: What is written then, and how often it must have gone well for that to be the limit.
SIGNS = {"inode": ("Disk quota exceeded", 1000), "descriptor": ("Too many open files", 1020), "log": ("", 500_000_000)}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_reaches_its_limit_and_disturbs_nobody(
    kind: str, api: Api, daemon: Daemon, new_sprite: Callable[..., str]
) -> None:
    other, bomber = new_sprite(), new_sprite(config={"pids": 400, **({"disk_mb": 32} if kind == "inode" else {})})
    shell(api, other, "true")
    shell(api, bomber, "true")
    it, before = seen(api, daemon, bomber), resident_kib(daemon.pid)
    words = [part for word in BOMBS[kind] for part in ("--data-urlencode", f"cmd={word}")]
    starting = subprocess.Popen(
        ["curl", "-s", "-o", "/dev/null", "-X", "POST", "--max-time", "120", "-H", f"Authorization: Bearer {daemon.token}",
         "--get", *words, f"{api.url}/v1/sprites/{bomber}/exec"],
    )  # fmt: skip

    def is_answered() -> None:
        """A neighbour works all the while, and so does the daemon."""
        assert shell(api, other, "echo alive", timeout=30) == "alive\n"
        assert api.get(other)["status"] == "running" and daemon.runs
        # What waits for the journal has 256 MiB at most, whatever is printed.
        assert resident_kib(daemon.pid) - before < 512 << 10

    def has_gone_off() -> str:
        is_answered()
        assert len(it.processes()) <= 400
        if kind == "fork":
            # No process is left to ask with; the kernel counts what it refused, and the journal has it from there.
            refusals = [int(line.split()[1]) for group in it.groups() for line in limit_events(group)]
            return str(max(refusals, default=0)) if max(refusals, default=0) > 100 else ""
        return shell(api, bomber, "cat /dev/shm/why 2>/dev/null || true", timeout=60).strip()

    try:
        said = eventually(has_gone_off, "the bomb goes off", 60)
        if kind == "fork":
            # How many there are at one moment says little: shells that were refused end, and others take their place.
            assert len(it.processes()) <= 400
            eventually(lambda: logs.events(api, bomber, event="sprite.pids_limit"), "the limit is recorded", 60)
        else:
            count, _, why = said.partition(" ")
            assert (why, int(count) >= SIGNS[kind][1]) == (SIGNS[kind][0], True), said
        for _ in range(5):
            is_answered()
        assert starting.poll() is None and len(it.processes()) > 1, "it held on to all that"
    finally:
        starting.kill()
        starting.wait()
        api.destroy(bomber)


def limit_events(group: Path) -> list[str]:
    """How often the group was refused a process, the line `max N` of pids.events."""
    events = group / "pids.events"
    return [line for line in events.read_text().splitlines() if line.startswith("max ")] if events.exists() else []


def test_a_sprite_chooses_its_runtime(api: Api, daemon: Daemon, new_sprite: Callable[..., str]) -> None:
    for runtime in RUNTIMES:
        name = new_sprite(config={"oci_runtime": runtime})
        assert api.get(name)["config"]["oci_runtime"] == runtime
        assert shell(api, name, "echo alive") == "alive\n"
        version = api.checkpoint(name)
        api.restore(name, version)
        assert shell(api, name, "echo alive") == "alive\n"
    with pytest.raises(ApiError) as unknown:
        new_sprite(config={"oci_runtime": "/bin/sh"})
    assert unknown.value.status == 400 and "crun" in unknown.value.message
    one = new_sprite()
    with pytest.raises(ApiError) as late:
        api.update(one, config={"oci_runtime": "runc"})
    assert late.value.status == 400
