# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Ways out of a container that begin at a path: links, descriptors, devices, mounts, files of the kernel.

Tried as root of the sprite under every OCI runtime there is. The rest is in test_isolation.py.
"""

import hashlib
import os
import shutil
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import programs
from support.api import Api, ApiError
from support.daemon import Daemon
from support.escapes import EPERM, RUNTIMES, Call, Seen, daemon_under, host_folder, refused, seen, system_calls
from support.exec import root_shell, run, shell
from support.fixtures import fresh_name
from support.wait import eventually

CANNOT_START = b"on its disk is not a folder, and something has to be mounted there"


@pytest.fixture(scope="module", params=RUNTIMES)
def shared_daemon(request: pytest.FixtureRequest, scratch: Path, base: Path) -> Iterator[Daemon]:
    """In the place of the daemon of other tests: one for each runtime."""
    yield from daemon_under(request.param, scratch, base)


#: Every descriptor of every process: its kind, what it is, and which of the given paths can be reached from it.
DESCRIPTORS = r"""
import os, stat, sys
for pid in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
    for number in os.listdir(f"/proc/{pid}/fd") if int(pid) != os.getpid() else ():
        path = f"/proc/{pid}/fd/{number}"
        try:
            target, facts, name = os.readlink(path), os.stat(path), open(f"/proc/{pid}/comm").read().strip()
        except FileNotFoundError:
            continue
        ways = [path + "/" + "../" * up for up in range(16)] if stat.S_ISDIR(facts.st_mode) else []
        reached = [place for place in sys.argv[1:] if any(os.path.exists(way + place) for way in ways)]
        print(name, pid, number, target, ",".join(reached), sep="\t")
"""


def descriptors(api: Api, sprite: str, *places: str) -> list[list[str]]:
    done = run(api, sprite, "sudo", "python3", "-c", DESCRIPTORS, *places)
    assert done.code == 0, done
    return [line.split("\t") for line in done.text.splitlines()]


def test_leaked_descriptors(api: Api, daemon: Daemon, sprite: str) -> None:
    # Not under sudo, which closes what it was given. They go on and are looked at, with PID 1, by root.
    for name, is_terminal in (("plain", False), ("terminal", True)):
        # A terminal's end hangs up whatever has not left its session by then.
        script = f"trap '' HUP; cp /bin/sleep /tmp/{name} && setsid -f /tmp/{name} 60 </dev/null >/dev/null 2>&1"
        assert run(api, sprite, "sh", "-c", script, tty=is_terminal).code == 0
    shell(api, sprite, "cp /bin/sleep /tmp/leaky; exec 9</; setsid -f /tmp/leaky 60 </dev/null >/dev/null 2>&1")
    root_shell(api, sprite, "echo inside > /srv/own")
    with host_folder() as folder:
        found = descriptors(api, sprite, "srv/own", f"{folder}/who".lstrip("/"))
    # The control: a leak of our own making is seen, and followed to a file.
    assert [line[2:] for line in found if line[0] == "leaky" and line[2] == "9"] == [["9", "/", "srv/own"]]
    assert {"sprite-env", "plain", "terminal"} <= {line[0] for line in found}
    for name, _, number, target, reached in found:
        if (name, number) == ("leaky", "9"):
            continue
        assert not reached, (name, number, target, reached)
        allowed = ["pipe:[", "/dev/null", "/dev/pts/"]
        if name == "sprite-env":
            allowed += ["socket:[", "anon_inode:[", "/memfd:sprite-output (deleted)"]
        if name != "sudo":
            # The one that looks runs under it, and it has files of the sprite open.
            assert target.startswith(tuple(allowed)), (name, number, target)
    # A socket of the daemon's own would be as good as a folder: PID 1 has the other ends only.
    process = seen(api, daemon, sprite).process
    mine, theirs = (links_of(f"/proc/{pid}/fd", "socket:") for pid in (process, daemon.pid))
    assert mine and theirs and not mine & theirs, mine & theirs
    for link in ("root", "cwd"):
        assert os.readlink(f"/proc/{process}/{link}") == "/"


def links_of(folder: str, prefix: str) -> set[str]:
    links = set()
    for number in os.listdir(folder):
        try:
            links.add(os.readlink(f"{folder}/{number}"))
        except FileNotFoundError:
            continue
    return {link for link in links if link.startswith(prefix)}


#: Holds every program that runs by a descriptor that does not count as use, and opens it for writing until that works:
#: CVE-2019-5736. Prints what was opened and, as a count, what was refused how.
RACE = r"""
import errno, os, time
held, opened, refused = {}, set(), {}
def write(path, way):
    for flags in (os.O_WRONLY, os.O_RDWR | os.O_APPEND):
        try:
            os.close(os.open(way, flags))
            opened.add(path)
        except OSError as error:
            count = path, errno.errorcode.get(error.errno)
            refused[count] = refused.get(count, 0) + 1
while not os.path.exists("/tmp/enough"):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            descriptor = os.open(f"/proc/{pid}/exe", os.O_PATH)
        except OSError:
            continue
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        write(path, f"/proc/{pid}/exe")
        if path in held:
            os.close(descriptor)
        else:
            held[path] = descriptor
    for path, descriptor in held.items():
        write(path, f"/proc/self/fd/{descriptor}")
for (path, error), count in refused.items():
    print(error, count, path, sep="\t")
for path in opened:
    print("OPENED", 1, path, sep="\t")
"""


def test_overwriting_the_program_of_process_1_or_of_the_runtime(api: Api, daemon: Daemon, sprite: str) -> None:
    guests = list(Path(f"/proc/{daemon.pid}/root/run/sprited/{daemon.tag}/guest/bin").iterdir())
    assert "sprite-env" in {path.name for path in guests}
    files = [*guests, programs.sprited(), programs.guest(), *(Path(path) for name in RUNTIMES if (path := shutil.which(name)))]
    before = [hashlib.sha256(path.read_bytes()).digest() for path in files]
    for attack in ("echo x > /proc/1/exe", "echo x > /.sprite/bin/sprite-env", "echo x > /proc/1/root/.sprite/bin/sprite-env"):
        refused(api, sprite, attack, "read-only file system", "text file busy")
    refused(api, sprite, "echo x > /.sprite/bin/sprite-console", "read-only file system")
    # Whoever starts the next command must not run, or hold open, a program that the sprite names.
    root_shell(api, sprite, "printf '#!/proc/self/exe\\n' > /srv/evil; cp /bin/sleep /srv/own; chmod 755 /srv/evil /srv/own")
    raced: list[str] = []
    racer = threading.Thread(target=lambda: raced.append(root_shell(api, sprite, f"exec python3 -c '{RACE}'", timeout=120)))
    racer.start()
    try:
        eventually(lambda: api.sessions(sprite), "the race has begun")
        for _ in range(16):
            run(api, sprite, "/srv/evil", timeout=20)
            run(api, sprite, "/proc/self/exe", timeout=20)
            run(api, sprite, "/srv/own", "0.02", timeout=20)
    finally:
        shell(api, sprite, "touch /tmp/enough")
        racer.join()
    lines = [line.split("\t") for line in raced[0].splitlines()]
    tried = {(error, path): int(count) for error, count, path in lines}
    # The control: the same way leads to a program of the sprite's own, once that has ended.
    assert ("OPENED", "/srv/own") in tried, tried
    # Some had ended before their turn came; that is no try.
    mine = {error: n for (error, path), n in tried.items() if path.endswith("/sprite-env") and error not in ("ENOENT", "ESRCH")}
    assert set(mine) <= {"EROFS", "ETXTBSY"} and sum(mine.values()) >= 100, tried
    for error, path in tried:
        # Its own programs may be changed; a path that it does not have is one of the host's.
        assert error != "OPENED" or path.startswith(("/usr/bin/", "/srv/")), tried
        assert Path(path).name not in {"crun", "runc", "sprited"}, "no runtime is ever seen inside"
    assert [hashlib.sha256(path.read_bytes()).digest() for path in files] == before


def test_working_directory_outside_the_root(api: Api, sprite: str) -> None:
    leaky = "exec 9</etc; setsid -f sh -c 'echo $$ > /tmp/leaky; exec sleep 60' </dev/null >/dev/null 2>&1"
    shell(api, sprite, f"{leaky}; while ! [ -s /tmp/leaky ]; do sleep 0.05; done")
    pid = shell(api, sprite, "cat /tmp/leaky").strip()
    links = {"descriptor": "/proc/self/fd/7", "first": "/proc/1/fd/3", "root": "/proc/1/root", "above": "../../../..", "own": "/etc"}
    for name, target in links.items():
        root_shell(api, sprite, f"ln -s {target} /srv/{name} && readlink /srv/{name}")
    # These lead somewhere, so that it is shown that links and descriptors of others are followed.
    followed = ["/etc", "/../..", "/proc/self/root/..", f"/proc/{pid}/fd/9", "/srv/own", "/srv/above", "/proc/self/cwd"]
    barred = [f"/proc/{process}/fd/{number}" for process in ("self", "1") for number in range(24)]
    barred += ["/proc/1/cwd", "/proc/1/root", "/proc/1/root/..", "/srv/descriptor", "/srv/first", "/srv/root"]
    with host_folder() as folder:
        root_shell(api, sprite, f"mkdir -p {folder} && echo inside > {folder}/who")
        for place in followed + barred:
            done = run(api, sprite, "cat", "../" * 16 + f"{folder}/who".lstrip("/"), dir=place, timeout=20)
            if place in followed:
                assert (done.code, done.text) == (0, "inside\n"), (place, done)
            else:
                assert done.code in (126, 127) and f"cannot enter {place}: ".encode() in done.stderr, (place, done)


def shows(path: Path) -> bool:
    """Whether a file or folder has content."""
    try:
        if path.is_dir():
            return bool(os.listdir(path))
        with path.open("rb") as file:
            return bool(file.read(1))
    except (FileNotFoundError, OSError):
        return False


def is_read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def uncovered(it: Seen) -> list[str]:
    """Hidden paths that show something and protected ones that can be written, wherever proc and sysfs are mounted."""
    root, linux = f"/proc/{it.process}/root", it.configuration["linux"]
    found = []
    for place, mount in it.mounts().items():
        top = {"proc": "/proc/", "sysfs": "/sys/"}.get(mount.type, "") if mount.root == "/" else ""
        if not top:
            continue
        here = f"{root}{place}/"
        found += [path for path in linux["maskedPaths"] if path.startswith(top) and shows(Path(here + path.removeprefix(top)))]
        for path in linux["readonlyPaths"]:
            covered = Path(here + path.removeprefix(top))
            if path.startswith(top) and covered.exists() and not is_read_only(covered):
                found.append(path)
    return found


#: What a runtime hides and protects by default; each was a way out or a view of the host.
HIDDEN = {"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/sys/firmware"}
PROTECTED = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}


def test_hidden_and_protected_paths_are_mounted_over(api: Api, daemon: Daemon, sprite: str) -> None:
    shell(api, sprite, "true")
    it = seen(api, daemon, sprite)
    linux, mounts = it.configuration["linux"], it.mounts()
    assert set(linux["maskedPaths"]) >= HIDDEN and set(linux["readonlyPaths"]) >= PROTECTED
    # The control: these have content on the host, and can be written there, so there is something to protect.
    hidden = [path for path in linux["maskedPaths"] if shows(Path(path))]
    protected = [path for path in linux["readonlyPaths"] if Path(path).exists() and not is_read_only(Path(path))]
    assert len(hidden) >= 2 and "/proc/sys" in protected, (hidden, protected)
    for path in hidden:
        mount = mounts[path]
        assert mount.type == "tmpfs" or mount.root == "/null", mount
        refused(api, sprite, f"umount -l {path}")
        assert root_shell(api, sprite, f"if [ -d {path} ]; then ls -A {path}; else cat {path}; fi") == "", path
    for path in protected:
        assert "ro" in mounts[path].options, mounts[path]
        refused(api, sprite, f"mount -o remount,rw,bind {path}")
    assert uncovered(it) == []


@contextmanager
def swapped(disk: Path, destination: str, target: str) -> Iterator[None]:
    """A link in the place of a folder on the disk of a sprite that does not run."""
    link, aside = Path(f"{disk}/upper{destination}"), disk / "aside"
    had = os.path.lexists(link)
    if had:
        link.rename(aside)
    link.symlink_to(target)
    os.lchown(link, 100_000, 100_000)
    try:
        yield
        assert os.readlink(link) == target, "it stayed all the while"
    finally:
        link.unlink()
        if had:
            aside.rename(link)


#: What the runtime mounts on, and a folder above such. From inside only the last can be moved away.
DESTINATIONS = ("/dev", "/proc", "/sys", "/tmp", "/run", "/.sprite", "/var/lib/docker", "/var/lib")


def test_links_in_the_place_of_what_is_mounted_on(api: Api, daemon: Daemon, sprite: str) -> None:
    # So that /var and /var/lib are on the sprite's own layer of the disk.
    root_shell(api, sprite, "touch /var/lib/own")
    it = seen(api, daemon, sprite)
    usual, followed, refusals = set(it.mounts()), [], 0
    with host_folder() as folder:
        # The same path inside: whoever follows the link finds a folder.
        root_shell(api, sprite, f"mkdir -p {folder} /srv/x && echo inside > {folder}/who")
        for destination in DESTINATIONS:
            for target in (f"/../../../../../../../..{folder}", "/srv/x", f"/proc/1/root{folder}", "/proc/self/fd/7"):
                api.call("POST", f"/v1/sprites/{sprite}/stop")
                with swapped(it.disk, destination, target):
                    done = run(api, sprite, "sudo", "sh", "-c", f"echo touched >> {folder}/touched; cat {folder}/who", timeout=20)
                    assert b"host" not in done.stdout, (destination, target, done)
                    if done.code == 126:
                        assert CANNOT_START in done.stderr, (destination, target, done)
                        refusals += 1
                        continue
                    # Where it started, nothing is bare that was covered, and what was mounted elsewhere is inside.
                    assert uncovered(it) == [], (destination, target)
                    if set(it.mounts()) != usual:
                        followed.append((destination, target))
                    api.call("POST", f"/v1/sprites/{sprite}/stop")
        assert shell(api, sprite, f"cat {folder}/who") == "inside\n"
    # The control: some links were followed, by a runtime that mounted where they lead within the sprite.
    assert len(followed) >= 4, (followed, refusals)
    assert set(it.mounts()) == usual and uncovered(it) == []


@pytest.mark.parametrize("names", [("dev",), ("proc",), ("sys",), ("run", "tmp", ".sprite", "var/lib/docker")], ids=lambda names: names[0])
def test_an_image_with_links_in_the_place_of_what_is_mounted_on(
    names: tuple[str, ...], api: Api, daemon: Daemon, tmp_path: Path
) -> None:
    image, base, sprite = tmp_path / "image.tar", fresh_name("hostile"), fresh_name("t")
    with host_folder(*names) as folder:
        # Where the links lead there are folders in the image too, so that a runtime can follow them.
        inside = [f"{folder}/{name}".lstrip("/") for name in names]
        with tarfile.open(image, "w") as tar:
            for path in ("bin", "etc", "home", "root", "var", "var/tmp", "var/lib", str(folder).lstrip("/"), *inside):
                tar.addfile(entry(path, tarfile.DIRTYPE))
            for name in names:
                tar.addfile(entry(name, tarfile.SYMTYPE, f"{folder}/{name}"))
            # Any program will do for the shell that a base must have.
            tar.add(programs.guest(), "bin/sh")
        try:
            daemon.import_base(image, name=base)
        except AssertionError as refusal:
            # Such an image is nobody's loss.
            assert "sprited: cannot import image: " in str(refusal)
            return
        try:
            api.create(sprite, base=base)
            assert run(api, sprite, "/.sprite/bin/sprite-env", "--version").code == 0
            assert uncovered(seen(api, daemon, sprite)) == []
        except ApiError as refusal:
            assert refusal.status == 409, refusal
        finally:
            api.call("DELETE", f"/v1/sprites/{sprite}", (204, 404))
            daemon.tool("base", "remove", base)


def entry(path: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(path)
    made.type, made.mode, made.linkname = kind, 0o755, target
    return made


def test_root_inside_moves_what_is_mounted_on(api: Api, daemon: Daemon, sprite: str) -> None:
    busy = "device or resource busy"
    for path in ("/proc", "/sys", "/dev", "/.sprite", "/tmp", "/run", "/var/lib/docker", "/proc/keys", "/sys/firmware", "/dev/null"):
        refused(api, sprite, f"mv {path} /srv/moved", busy, "read-only file system", "permission denied", "not permitted")
        refused(api, sprite, f"rmdir {path} || rm {path}", busy, "read-only file system", "permission denied", "not permitted")
    with host_folder() as folder:
        script = f"mkdir -p {folder} && mv /var/lib /var/lib.real && ln -s /../../../../../../../..{folder} /var/lib && readlink /var/lib"
        assert str(folder) in root_shell(api, sprite, script)
        api.call("POST", f"/v1/sprites/{sprite}/restart")
        it = seen(api, daemon, sprite)
        assert f"{folder}/docker" in it.mounts(), "mounted where the link leads, within the sprite"
        root_shell(api, sprite, f"echo inside > {folder}/docker/who && cat /var/lib/docker/who")
        assert uncovered(it) == []
        # The daemon's own ways to such a disk: a checkpoint, and to begin again from it.
        version = api.checkpoint(sprite)
        api.restore(sprite, version)
        assert shell(api, sprite, "sudo cat /var/lib/docker/who") == "inside\n"
        assert uncovered(it) == []


@pytest.mark.parametrize("target", ["/.sprite", "/.sprite/bin", "/.sprite/checkpoints", "/.sprite/policy"])
def test_folders_of_the_disk_that_lead_into_what_is_shared(
    target: str, api: Api, sprite: str, new_sprite: Callable[[], str]
) -> None:
    listing = "find /.sprite -path '/.sprite/checkpoints/*' -prune -o -print | sort"
    shared = root_shell(api, sprite, listing)
    root_shell(api, sprite, f"mv /var/lib /var/lib.real && ln -s {target} /var/lib && readlink /var/lib")
    # It starts or says why not; what other sprites see is not made any larger.
    try:
        api.call("POST", f"/v1/sprites/{sprite}/restart")
        assert run(api, sprite, "true", timeout=30).code == 0
    except ApiError as refusal:
        assert refusal.status == 409 and "/var/lib on its disk is not a folder" in str(refusal), refusal
    assert root_shell(api, new_sprite(), listing) == shared


def test_links_in_the_place_of_the_console(api: Api, daemon: Daemon, sprite: str) -> None:
    root_shell(api, sprite, "true")
    it = seen(api, daemon, sprite)
    with host_folder() as folder:
        root_shell(api, sprite, f"mkdir -p {folder} && echo inside > {folder}/who && chmod 666 {folder}/who")
        api.call("POST", f"/v1/sprites/{sprite}/stop")
        # On the disk, below the tmpfs that a start mounts.
        dev = it.disk / "upper/dev"
        (dev / "pts").mkdir(parents=True, exist_ok=True)
        for name in ("console", "ptmx", "tty", "null", "pts/ptmx", "pts/0"):
            (dev / name).unlink(missing_ok=True)
            (dev / name).symlink_to(folder / "who")
        done = run(api, sprite, "sh", "-c", "tty; echo written", tty=True, timeout=20)
        assert b"/dev/pts/" in done.stdout and b"written" in done.stdout, done
        assert os.readlink(dev / "console") == str(folder / "who"), "it was there at the start"
        # And in the sprite that runs, where the next terminal would be opened: what is not one is not used.
        for name, outcome in (("console", b"written"), ("ptmx", b"cannot open a terminal")):
            made = root_shell(api, sprite, f"cd /dev && ln -sfn {folder}/who {name} && readlink {name}")
            assert made == f"{folder}/who\n"
            done = run(api, sprite, "sh", "-c", "tty; echo written", tty=True, timeout=20)
            assert outcome in done.stdout, done
        assert shell(api, sprite, f"cat {folder}/who") == "inside\n"


def block_devices() -> list[tuple[int, int]]:
    """Those of the host, that of its root first where that is one."""
    lines = [line.split() for line in Path("/proc/partitions").read_text().splitlines()[2:]]
    devices = [(int(major), int(minor)) for major, minor, *_ in lines]
    root = os.stat("/").st_dev
    own = (os.major(root), os.minor(root))
    return sorted(devices, key=lambda device: device != own)


def nodes_cannot_be_opened(api: Api, sprite: str, folder: Path, place: str, devices: list[tuple[str, int, int]]) -> None:
    for number, (kind, major, minor) in enumerate(devices):
        os.mknod(folder / f"node{number}", stat.S_IFBLK if kind == "b" else stat.S_IFCHR, os.makedev(major, minor))
        (folder / f"node{number}").chmod(0o666)
    (folder / "file").write_text("readable\n")
    assert root_shell(api, sprite, f"cat {place}/file") == "readable\n"
    for number, (kind, _, _) in enumerate(devices):
        root_shell(api, sprite, f"test -{kind} {place}/node{number}")
        refused(api, sprite, f"head -c 1 {place}/node{number}", "permission denied")
        refused(api, sprite, f"exec 3>>{place}/node{number}", "permission denied")


def test_device_nodes(api: Api, daemon: Daemon, sprite: str) -> None:
    devices = [("b", *numbers) for numbers in block_devices()[:4]]
    assert devices, "the host has a disk"
    devices += [("c", *numbers) for numbers in ((1, 1), (1, 2), (1, 4), (1, 11), (10, 1), (10, 200), (10, 229), (10, 237), (10, 232), (226, 0))]
    # The control: nodes of other kinds can be made in these places, by these words.
    for folder in ("/root", "/tmp", "/dev", "/dev/shm", "/var/lib/docker"):
        root_shell(api, sprite, f"mknod {folder}/pipe p && rm {folder}/pipe")
        for kind, major, minor in devices if folder == "/root" else devices[:1] + devices[-1:]:
            refused(api, sprite, f"mknod {folder}/node {kind} {major} {minor}", "operation not permitted")
    # One that came there without mknod cannot be opened: brought by the host itself.
    it = seen(api, daemon, sprite)
    root_shell(api, sprite, "touch /srv/own")
    api.call("POST", f"/v1/sprites/{sprite}/stop")
    nodes_cannot_be_opened(api, sprite, it.disk / "upper/srv", "/srv", devices)
    # Not by find -type, which takes a node that was mounted on a file for that file.
    kinds = root_shell(api, sprite, "find /dev -exec stat --format '%F:%n' {} +").splitlines()
    nodes = {path for kind, _, path in (line.partition(":") for line in kinds) if "special" in kind}
    usual = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "console")}
    assert {"/dev/null", "/dev/zero"} <= nodes and {path for path in nodes if "/pts/" not in path} <= usual, nodes


def test_device_nodes_in_the_folders_of_the_pool(api: Api, daemon: Daemon, sprite: str) -> None:
    shell(api, sprite, "true")
    it, devices = seen(api, daemon, sprite), [("b", *numbers) for numbers in block_devices()[:4]] + [("c", 10, 200)]
    for name in ("docker", "containers"):
        nodes_cannot_be_opened(api, sprite, it.disk / "plain" / name, f"/var/lib/{name}", devices)


def test_mounts_are_as_restricted_as_they_were_asked_for(api: Api, daemon: Daemon, sprite: str) -> None:
    shell(api, sprite, "true")
    it = seen(api, daemon, sprite)
    asked = {mount["destination"]: set(mount["options"]) for mount in it.configuration["mounts"]}
    assert {"nosuid", "nodev", "noexec"} <= asked["/proc"] and "ro" in asked["/sys"] and "ro" in asked["/.sprite"]
    lax = {
        place: missing for place, options in asked.items()
        if (missing := (options & {"ro", "nosuid", "nodev", "noexec"}) - it.mounts()[place].options)
    }  # fmt: skip
    assert lax == {}


def test_mounts(api: Api, daemon: Daemon, sprite: str) -> None:
    root_shell(api, sprite, "touch /srv/own")
    it = seen(api, daemon, sprite)
    api.call("POST", f"/v1/sprites/{sprite}/stop")
    # The host's disk under a name that is there, so that it is the mount that is refused and not the path.
    os.mknod(it.disk / "upper/srv/disk", stat.S_IFBLK | 0o666, os.makedev(*block_devices()[0]))
    root_shell(api, sprite, "test -b /srv/disk && mkdir -p /mnt/x")
    before = Path(f"/proc/{it.process}/mountinfo").read_text()
    for attack in (
        "mount -t ext4 /srv/disk /mnt", "mount -t proc proc /mnt", "mount -t sysfs sysfs /mnt", "mount --bind / /mnt",
        "mount -t tmpfs none /mnt", "mount -t overlay overlay -o lowerdir=/etc:/usr /mnt", "mount -o remount,rw /sys",
        "mount -t debugfs none /mnt", "mount -t tracefs none /mnt", "mount -t devtmpfs none /mnt",
        "mount --make-shared /", "umount /sys/fs/cgroup", "umount -l /.sprite", "umount -l /proc/sys", "pivot_root /mnt /mnt/x",
        "mount -t securityfs none /mnt", "mount -t bpf none /mnt", "mount -t cgroup2 none /mnt", "mount -t mqueue none /mnt",
    ):  # fmt: skip
        refused(api, sprite, attack)
    if os.uname().machine == "x86_64":
        mount, umount, pivot = 165, 166, 155
        calls: list[Call] = [
            (mount, b"none\0", b"/mnt\0", kind + b"\0", 0, 0)
            for kind in (b"tmpfs", b"proc", b"sysfs", b"devtmpfs", b"ramfs", b"cgroup2", b"fuse", b"9p", b"btrfs")
        ]
        calls += [(mount, b"/\0", b"/mnt\0", 0, flags, 0) for flags in (4096, 4096 | 16384, 8192)]
        calls += [(mount, 0, b"/proc/sys\0", 0, 32 | 4096, 0), (mount, 0, b"/\0", 0, 1 << 20, 0)]
        calls += [(umount, b"/proc/keys\0", 2), (umount, b"/.sprite\0", 2), (pivot, b"/mnt\0", b"/mnt/x\0")]
        assert set(system_calls(api, sprite, *calls)) == {EPERM}
    assert Path(f"/proc/{it.process}/mountinfo").read_text() == before
