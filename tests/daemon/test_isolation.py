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
from support.api import Api, ApiError, StreamError
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


def refused(api: Api, sprite: str, script: str) -> None:
    done = run(api, sprite, "sudo", "sh", "-c", script, timeout=30)
    assert done.code not in (0, None, 126, 127), f"{script!r} succeeded or was not tried: {done.stdout!r} {done.stderr!r}"


def system_calls(api: Api, sprite: str, *calls: tuple[int, ...]) -> list[int]:
    """The error number of each call with these arguments; 0 if it succeeded."""
    script = 'for (@ARGV) { my @a = map { $_ + 0 } split /,/; $! = 0; my $n = shift @a; my $r = syscall($n, @a); print $r < 0 ? $! + 0 : 0, "\\n" }'
    arguments = [",".join(str(part) for part in call) for call in calls]
    done = run(api, sprite, "sudo", "perl", "-e", script, *arguments)
    assert done.code == 0, done
    return [int(line) for line in done.text.split()]


EPERM, ESRCH, EACCES, EINVAL, ENOSYS = 1, 3, 13, 22, 38
#: Must not be read inside; which of them there are is the kernel's.
HIDDEN = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
)  # fmt: skip


def root_python(api: Api, sprite: str, script: str, *arguments: str) -> str:
    done = run(api, sprite, "sudo", "python3", "-c", script, *arguments, timeout=60)
    assert done.code == 0, done
    return done.text


def test_leaked_descriptors(api: Api, sprite: str) -> None:
    own = root_shell(api, sprite, "ls -l /proc/self/fd | awk 'NR > 1 {print $NF}'").split()
    assert own and all(target.startswith(("pipe:", "/proc/", "/dev/null", "socket:")) for target in own), own
    first = root_shell(api, sprite, "ls -l /proc/1/fd | awk 'NR > 1 {print $NF}'").split()
    assert first
    for target in first:
        assert target.startswith(("pipe:", "socket:", "anon_inode:", "/memfd:", "(deleted)", "/dev/")), first
    # A file or folder of the host behind any of them would be a way out: it lies on a device that is mounted nowhere inside.
    script = """
import os, stat
inside = {line.split()[2] for line in open("/proc/self/mountinfo")}
held = os.open("/usr", os.O_RDONLY)
seen = 0
for process in filter(str.isdigit, os.listdir("/proc")):
    try: numbers = os.listdir(f"/proc/{process}/fd")
    except OSError: continue
    for number in numbers:
        path = f"/proc/{process}/fd/{number}"
        try: facts, target = os.stat(path), os.readlink(path)
        except OSError: continue
        if not (stat.S_ISDIR(facts.st_mode) or stat.S_ISREG(facts.st_mode)) or target.startswith("/memfd:"): continue
        seen += os.path.samestat(facts, os.stat("/usr"))
        device = f"{os.major(facts.st_dev)}:{os.minor(facts.st_dev)}"
        if device not in inside: print("leaked", path, target, device)
print("seen", seen)
"""
    assert root_python(api, sprite, script) == "seen 1\n"


def test_overwriting_the_program_of_process_1_or_of_the_runtime(api: Api, daemon: Daemon, sprite: str) -> None:
    programs = [Path(path) for name in RUNTIMES if (path := shutil.which(name))]
    assert len(programs) == len(RUNTIMES)
    # In the daemon's own mount namespace.
    guests = list(Path(f"/proc/{daemon.pid}/root/run/sprited/{daemon.tag}/guest/bin").iterdir())
    assert any(path.name == "sprite-env" for path in guests), guests
    programs += [*guests, Path(f"/proc/{daemon.pid}/exe")]
    before = [hashlib.sha256(path.read_bytes()).digest() for path in programs]
    for attack in ("echo x > /proc/1/exe", "echo x > /.sprite/bin/sprite-env", "echo x > /proc/1/root/.sprite/bin/sprite-env"):
        refused(api, sprite, attack)
    # Whoever starts the next command must not run, or hold open, a program that the sprite names.
    shell(api, sprite, "printf '#!/proc/self/exe\\n' > /tmp/evil; chmod +x /tmp/evil")
    run(api, sprite, "/tmp/evil", timeout=20)
    run(api, sprite, "/proc/self/exe", timeout=20)
    # All the while commands are started, every program that runs inside is opened for writing as soon as it shows.
    script = """
import collections, errno, os
tried = collections.Counter()
disk = os.stat("/").st_dev
while not os.path.exists("/tmp/enough"):
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            held = os.open(f"/proc/{process}/exe", os.O_RDWR)
        except OSError as error:
            tried[errno.errorcode[error.errno]] += 1
            continue
        # Its own files a sprite may change.
        tried["own" if os.fstat(held).st_dev == disk else os.readlink(f"/proc/self/fd/{held}")] += 1
        os.close(held)
open("/tmp/tried", "w").write("".join(f"{key} {count}\\n" for key, count in tried.items()))
"""
    shell(api, sprite, f"cat > /tmp/race.py <<'END'{script}END")
    shell(api, sprite, "sudo setsid -f python3 /tmp/race.py </dev/null >/tmp/race.log 2>&1")
    for _ in range(50):
        assert run(api, sprite, "true", timeout=20).code == 0
    shell(api, sprite, "touch /tmp/enough")
    eventually(lambda: run(api, sprite, "test", "-s", "/tmp/tried").code == 0, "the race has ended", 20)
    lines = [line.rsplit(" ", 1) for line in shell(api, sprite, "cat /tmp/tried").splitlines()]
    tried = {key: int(count) for key, count in lines}
    assert sum(tried.values()) > 500 and tried.get("ETXTBSY", 0) + tried.get("EROFS", 0) > 50, tried
    assert set(tried) <= {"ETXTBSY", "EROFS", "EACCES", "EPERM", "ENOENT", "ESRCH", "own"}, tried
    assert [hashlib.sha256(path.read_bytes()).digest() for path in programs] == before


def test_working_directory_outside_the_root(api: Api, sprite: str) -> None:
    own = ["/proc/self/root/..", "/../..", "/tmp/link"]
    shell(api, sprite, "ln -s /proc/self/cwd/../.. /tmp/link")
    for place in [f"/proc/self/fd/{number}" for number in range(3, 24)] + ["/proc/1/cwd", *own]:
        done = run(api, sprite, "cat", "etc/hostname", "../../../../../../etc/hostname", dir=place, timeout=20)
        for line in done.text.split():
            assert line == sprite, f"{place} leads to {line}"
        # What can be entered shows that another name would have been seen.
        assert place not in own[:2] or done.text.split() == [sprite] * 2, done


@pytest.mark.parametrize(
    "attack",
    [
        # Where /var/lib/docker and /var/lib/containers are mounted.
        "mv /var/lib /var/lib.real && ln -s /../../../../../../var/tmp /var/lib",
        "mv /var /var.real && ln -s /proc/1/root/var.real /var",
        "rm -rf /srv && ln -s / /srv && mv /root /root.real && ln -s /../../root /root",
        "mv /etc /etc.real && ln -s /proc/1/root/etc.real /etc",
    ],
)
def test_masked_paths_swapped_by_symlinks(attack: str, api: Api, daemon: Daemon, sprite: str) -> None:
    canary = f"canary-{sprite}"
    good = api.checkpoint(sprite)
    done = run(api, sprite, "sudo", "sh", "-c", f"touch /var/tmp/{canary} /root/{canary} && {attack}")
    assert done.code == 0, done
    version = api.checkpoint(sprite)
    before = {place: sorted(os.listdir(place)) for place in ("/", "/var", "/var/lib", "/var/tmp", "/root")}
    mounts = Path(f"/proc/{daemon.pid}/mountinfo").read_text().count("\n")
    try:
        api.restore(sprite, version)  # starts it again upon this disk
    except StreamError as refusal:
        # A sprite that does not start on such a disk harms nobody but itself, and is told why.
        assert "/var on its disk is not a folder" in str(refusal)
        api.restore(sprite, good)
    assert {place: sorted(os.listdir(place)) for place in before} == before, "the host's own folders are as they were"
    assert Path(f"/proc/{daemon.pid}/mountinfo").read_text().count("\n") == mounts, "nothing was mounted on the host"
    # Each is hidden, and where the host has something in it, that shows that it would be seen.
    table = shell(api, sprite, "cat /proc/self/mountinfo")
    masked = [path for path in HIDDEN if Path(path).exists()]
    assert len(masked) >= 3, masked
    for path in masked:
        assert f" {path} " in table, path
        if Path(path).is_dir():
            assert shell(api, sprite, f"ls -A {path}") == "", path
        else:
            assert shell(api, sprite, f"head -c 1 {path} | wc -c").strip() == "0", path
    assert daemon.runs


def test_what_is_mounted_cannot_be_moved_away(api: Api, sprite: str) -> None:
    for path in ("/proc", "/sys", "/.sprite", "/dev", "/tmp", "/var/lib/docker"):
        refused(api, sprite, f"mv {path} /moved")
        refused(api, sprite, f"rmdir {path}")
    shell(api, sprite, "sudo mkdir /own && sudo mv /own /moved && sudo rmdir /moved")


def test_dev_console_symlink(api: Api, sprite: str) -> None:
    # What is mounted there stays; what is below it, on the disk or in /dev, leads elsewhere.
    staged = run(api, sprite, "sudo", "sh", "-c", "umount /dev/console; rm -f /dev/console; ln -s /etc/target /dev/console")
    link = shell(api, sprite, "readlink /dev/console || true").strip()
    assert staged.code != 0 or link == "/etc/target", staged
    done = run(api, sprite, "sh", "-c", "tty; echo written", tty=True, timeout=20)
    assert b"/dev/pts/" in done.stdout and b"written" in done.stdout
    run(api, sprite, "sudo", "sh", "-c", "rm -f /dev/ptmx /dev/pts/ptmx; ln -s /etc/target /dev/ptmx")
    assert shell(api, sprite, "readlink /dev/ptmx").strip() == "/etc/target"
    done = run(api, sprite, "sh", "-c", "tty; echo written", tty=True, timeout=20)
    assert run(api, sprite, "test", "-e", "/etc/target").code == 1
    # On the disk, for the next start.
    staged = run(api, sprite, "sudo", "sh", "-c", "mkdir -p /etc/terminals && ln -sfn /etc/terminals/target /etc/console")
    assert staged.code == 0
    assert not Path("/etc/target").exists()


def test_release_agent(api: Api, sprite: str) -> None:
    before = {path: path.read_text() for path in Path("/sys/fs/cgroup").glob("*/release_agent")}
    refused(api, sprite, "find / -xdev -name release_agent 2>/dev/null | grep . || find /sys -name release_agent | grep .")
    assert shell(api, sprite, "find /sys -name cgroup | grep .").strip(), "find looks into what is mounted there"
    for controller in ("memory", "rdma", "cpu", "freezer", "none,name=x"):
        refused(api, sprite, f"mkdir -p /tmp/c && mount -t cgroup -o {controller} cgroup /tmp/c")
    assert {path: path.read_text() for path in before} == before


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


def test_sysrq(api: Api, sprite: str) -> None:
    # A kernel without it has neither file; then there is nothing to be let through.
    path = Path("/proc/sys/kernel/sysrq")
    before = path.read_text() if path.exists() else ""
    for attack in ("echo h > /proc/sysrq-trigger", "umount /proc/sysrq-trigger", f"echo 1 > {path}", f"echo 0 > {path}"):
        refused(api, sprite, attack)
    assert (path.read_text() if path.exists() else "") == before


def test_device_nodes(api: Api, sprite: str) -> None:
    numbers = [line.split()[:2] for line in Path("/proc/partitions").read_text().splitlines()[2:]]
    for major, minor in numbers[:4]:
        refused(api, sprite, f"mknod /tmp/d b {major} {minor} && head -c1 /tmp/d")
        refused(api, sprite, f"mknod /root/d b {major} {minor} && head -c1 /root/d")
    for major, minor in ((1, 1), (1, 2), (1, 4), (10, 1), (10, 200), (10, 229), (10, 237), (10, 232), (226, 0)):
        refused(api, sprite, f"mknod /root/c{major}-{minor} c {major} {minor} && exec 3<>/root/c{major}-{minor}")
    listed = root_shell(api, sprite, "find /dev -type b; find /dev -type c | sort").split()
    allowed = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"}
    assert {path.split("/")[2] for path in listed if not path.startswith("/dev/pts/")} <= allowed, listed


def test_mount_of_host_devices(api: Api, sprite: str) -> None:
    # The disk that the host's own files lie on; where the host has none, the first that it has.
    number = os.stat("/").st_dev
    if not os.major(number):
        number = os.makedev(*map(int, Path("/proc/partitions").read_text().splitlines()[2].split()[:2]))
    node = f"mknod /root/disk b {os.major(number)} {os.minor(number)}"
    refused(api, sprite, f"{node} && head -c 1 /root/disk")
    refused(api, sprite, f"{node}; mount /root/disk /mnt")
    for attack in ( "mount -t proc proc /mnt", "mount -t sysfs sysfs /mnt", "mount --bind / /mnt",
        "mount -t tmpfs none /mnt", "mount -t overlay overlay -o lowerdir=/etc:/usr /mnt", "mount -o remount,rw /sys",
        "mount -t debugfs none /mnt", "mount -t tracefs none /mnt", "mount -t devtmpfs none /mnt", "mount -t 9p none /mnt",
        "mount --make-shared /", "umount /sys/fs/cgroup", "umount -l /.sprite", "pivot_root . .",
        "mount -t securityfs none /mnt", "mount -t bpf none /mnt", "mount -t fuse none /mnt -o fd=0",
    ):  # fmt: skip
        refused(api, sprite, attack)


@intel
def test_ptrace_and_signals_across(api: Api, daemon: Daemon, new_sprite: Callable[..., str]) -> None:
    one, other = new_sprite(), new_sprite()
    shell(api, other, "setsid -f sleep 60 </dev/null >/dev/null 2>&1")
    theirs = subprocess.run(["pgrep", "-u", "101000", "sleep"], capture_output=True, text=True).stdout.split()
    assert theirs, "the neighbour's process is seen on the host"
    tried = 0
    # Numbers that nothing has inside, unless the sprite's own counting has come that far.
    for pid in [daemon.pid, *map(int, theirs)]:
        inside = root_shell(api, one, f"cat /proc/{pid}/comm 2>/dev/null || true").strip()
        assert inside not in ("sprited", "sleep")
        if not inside:
            attach, kill, limits, descriptor = 101, 62, 302, 434
            calls = [(attach, 16, pid, 0, 0), (kill, pid, 0), (limits, pid, 7, 0, 0), (descriptor, pid, 0)]
            errors = system_calls(api, one, *calls)
            assert set(errors) <= {ESRCH, EPERM}, errors
            tried += 1
    assert tried, "none of the numbers was free inside"
    own = system_calls(api, one, (62, 1, 0))
    assert own == [0], "a process of its own can be signalled"
    run(api, one, "sudo", "sh", "-c", "kill -9 -1", timeout=20)
    assert run(api, other, "pgrep", "sleep").code == 0 and daemon.runs
    assert shell(api, other, "ls -d /proc/self/root/run").strip()
    refused(api, one, "ls /proc/*/root/run/sprited")


@intel
@pytest.mark.parametrize(
    ("what", "error", "calls"),
    [
        ("keyrings", [(248, 0, 0, 0, 0, -3), (249, 0, 0, 0, -3), (250, 0, -3, 0), (250, 6, 0)]),
        ("userfaultfd", [(323, 0), (323, 1)]),
        ("bpf", [(321, number, 0, 0) for number in range(0, 6)]),
        ("io_uring", [(425, 8, 0), (426, 0, 0, 0, 0, 0), (427, 0, 0, 0, 0)]),
        ("perf_event_open", [(298, 0, 0, -1, -1, 0)]),
        ("kernel_modules", [(175, 0, 0, 0), (313, 0, 0, 0), (176, 0, 0), (246, 0, 0, 0, 0), (320, 0, 0, 0, 0, 0)]),
        ("time_setting", [(164, 0, 0), (227, 0, 0), (305, 0, 0)]),
        ("new_mount_calls", [(428, -100, 0, 0), (429, -1, 0, -1, 0, 0), (430, 0, 0), (432, 0, 0, 0), (442, 0, 0, 0, 0, 0)]),
        ("power_and_swap", [(169, 0xFEE1DEAD, 672274793, 0x1234567), (167, 0, 0), (168, 0), (163, 0), (179, 0, 0, 0, 0)]),
        ("hardware_ports", [(172, 3), (173, 0, 1, 1)]),
        ("kernel_log", [(103, 3, 0, 0), (103, 10, 0, 0)]),
    ],
)  # fmt: skip
def test_system_calls(api: Api, sprite: str, what: str, error: int, calls: list[Call]) -> None:
    # What the list says of each, whatever the kernel would have said.
    assert system_calls(api, sprite, *calls) == [error] * len(calls), what


@intel
def test_open_by_handle_at(api: Api, sprite: str) -> None:
    """Handles that are real, and guesses of the folders that every file system begins with."""
    script = r"""
        sub opened { my $r = syscall(304, $_[0], $_[1], 0); return $r < 0 ? $! + 0 : "opened" }
        for my $place (@ARGV) {
            opendir(my $folder, $place) or die "$place $!";
            my ($handle, $mount) = (pack("Ii", 128, 0) . "\0" x 128, pack("i", 0));
            my $told = syscall(303, -100, "$place", $handle, $mount, 0);
            print "own ", opened(fileno $folder, $handle), "\n" if $told == 0;
            for my $inode (1, 2, 256) {
                print "$inode ", opened(fileno $folder, my $guess = pack("IiII", 8, 1, $inode, 0)), "\n";
                print "$inode ", opened(fileno $folder, my $other = pack("IiQQI", 20, 0x4D, $inode, 5, 0)), "\n";
            }
        }
    """
    places = ["/", "/home/sprite", "/var/lib/docker", "/tmp", "/dev/shm", "/.sprite/bin"]
    done = run(api, sprite, "sudo", "perl", "-e", script, *places)
    tried = [line.split() for line in done.text.splitlines()]
    assert done.code == 0 and len(tried) >= 6 * len(places), done
    assert {error for _, error in tried} == {str(EPERM)}, tried


@intel
def test_nested_user_namespaces(api: Api, sprite: str) -> None:
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
    # On the host it is where it was put: every process of the sprite, in a group of the daemon's.
    shell(api, sprite, "setsid -f sleep 61 </dev/null >/dev/null 2>&1")
    pids = subprocess.run(["pgrep", "-f", "^sleep 61$"], capture_output=True, text=True).stdout.split()
    assert pids
    for pid in pids:
        assert daemon.tag in Path(f"/proc/{pid}/cgroup").read_text()


def membership(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


def test_sys_and_proc_writes(api: Api, sprite: str) -> None:
    script = r"""
        find /proc/sys /sys /proc/irq /proc/bus /proc/fs -type f 2>/dev/null > /tmp/list
        find /proc -maxdepth 1 -type f >> /tmp/list
        touch /tmp/own && echo /tmp/own >> /tmp/list
        perl -ne 'chomp; next unless -f; if (open my $f, "+<", $_) { print "$_\n" } elsif (sysopen my $g, $_, 1) { print "$_\n" }' < /tmp/list
        wc -l < /tmp/list
    """
    *opened, tried = root_shell(api, sprite, script, timeout=60).split()
    # The last is the sprite's own file.
    assert opened == ["/tmp/own"], opened[:20]
    assert int(tried) > 500, "files that could be tried"


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
        if kind == "fork":
            # No process is left to ask with; the kernel counts what it refused, and the journal has it from there.
            refusals = [int(line.split()[1]) for group in it.groups() for line in limit_events(group)]
            return str(max(refusals, default=0)) if max(refusals, default=0) > 100 else ""
        return shell(api, bomber, "cat /dev/shm/why 2>/dev/null || true", timeout=60).strip()

    try:
        said = eventually(has_gone_off, "the bomb goes off", 60)
        if kind == "fork":
            assert 300 <= len(it.processes()) <= 400, "as many as are allowed, and they are there now"
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
