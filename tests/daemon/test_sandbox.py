# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What a sprite looks like from inside, and what it cannot reach."""

import platform
from collections.abc import Callable

import pytest

from support.api import Api
from support.exec import root_shell, run, shell


def test_it_looks_like_a_computer(api: Api, sprite: str) -> None:
    assert shell(api, sprite, "cat /etc/hostname; hostname") == f"{sprite}\n" * 2
    assert sprite in shell(api, sprite, "cat /etc/hosts") and "127.0.0.1" in shell(api, sprite, "cat /etc/hosts")
    assert shell(api, sprite, "getent hosts localhost | head -1 | wc -l") == "1\n"
    kinds = "stat -f -c %T /tmp /run /dev/shm /dev/pts /proc /sys"
    assert shell(api, sprite, kinds).split()[:4] == ["tmpfs", "tmpfs", "tmpfs", "devpts"]
    assert shell(api, sprite, "echo x > /tmp/a && cat /tmp/a; stat -c %a /tmp /dev/shm") == "x\n1777\n1777\n"
    assert shell(api, sprite, "for d in null zero full random urandom tty ptmx; do test -e /dev/$d || echo $d; done") == ""
    assert shell(api, sprite, "head -c 4 /dev/zero | wc -c; echo x > /dev/null") == "4\n"
    assert shell(api, sprite, "ls /dev/fd/ /dev/stdin | wc -l").strip() != "0"


def test_process_1_is_ours_and_reaps(api: Api, sprite: str) -> None:
    assert shell(api, sprite, "tr '\\0' ' ' < /proc/1/cmdline").startswith("/.sprite/bin/sprite-env init")
    script = "for i in 1 2 3 4 5; do (sh -c 'sleep 0.1 & exec true' &) ; done; sleep 0.6; ps -e -o stat= | grep -c ^Z"
    assert run(api, sprite, "sh", "-c", script).text == "0\n"


def test_processes_of_the_host_are_invisible(api: Api, sprite: str) -> None:
    assert int(shell(api, sprite, "ps -e --no-headers | wc -l")) < 10


def test_root_inside_is_not_root_outside(api: Api, sprite: str) -> None:
    assert root_shell(api, sprite, "cat /proc/self/uid_map").split() == ["0", "100000", "65536"]
    assert root_shell(api, sprite, "stat -c %u:%g / /etc /usr/bin/env /home/sprite").split() == [
        "0:0", "0:0", "0:0", "1000:1000",
    ]  # fmt: skip


def test_files_of_the_image_can_be_changed_by_their_owners_only(api: Api, sprite: str) -> None:
    assert run(api, sprite, "touch", "/etc/mine").code == 1
    assert root_shell(api, sprite, "touch /etc/mine && chown 1234:1234 /etc/mine && stat -c %u /etc/mine") == "1234\n"
    assert root_shell(api, sprite, "useradd -m friend && su friend -c 'id -un'") == "friend\n"


@pytest.mark.parametrize(
    "attack",
    [
        "mount -t tmpfs none /sys", "mknod /tmp/disk b 254 0 && head -c1 /tmp/disk", "echo 1 > /proc/sysrq-trigger",
        "echo b > /proc/sys/kernel/core_pattern", "cat /proc/kcore | head -c1 | grep .", "dmesg", "insmod /dev/null",
        "mount -o remount,rw /sys", "mount -t cgroup2 none /mnt && echo 1 > /mnt/cgroup.freeze",
        "echo 1 > /sys/fs/cgroup/cgroup.freeze", "echo > /.sprite/bin/sprite-env", "rm -f /.sprite/bin/sprite-env",
        "date -s 2001-01-01", "swapoff -a && swapon /dev/vda", "losetup -f /etc/passwd", "cat /dev/mem", "reboot -f",
        "chroot /proc/1/root/../.. ls /var/lib/sprited", "umount -l /proc", "ip link add type dummy && reboot",
        "nsenter -t 1 -n -m ls /var/lib/sprited", "sh -c 'echo 99999999 > /proc/sys/kernel/pid_max'",
        "setpriv --bounding-set +sys_admin true && mount --bind / /mnt", "sysctl -w kernel.panic=1",
    ],
)  # fmt: skip
def test_root_inside_cannot_touch_the_host(api: Api, sprite: str, attack: str) -> None:
    result = run(api, sprite, "sudo", "sh", "-c", attack, timeout=20)
    assert result.code != 0, f"{attack!r} succeeded: {result.stdout!r}"
    assert shell(api, sprite, "echo alive") == "alive\n"


def test_forbidden_system_calls_are_refused(api: Api, sprite: str) -> None:
    numbers = {
        "kexec_load": 246, "init_module": 175, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
        "io_uring_setup": 425, "open_by_handle_at": 304, "swapon": 167, "reboot": 169, "settimeofday": 164,
        "keyctl": 250, "add_key": 248, "finit_module": 313, "acct": 163, "quotactl": 179,
    }  # fmt: skip
    if platform.machine() != "x86_64":
        return  # other numbers there
    # EPERM and ENOSYS are refusals; anything else came from a call that was let through.
    script = 'for (@ARGV) { my $r = syscall($_, 0, 0, 0, 0, 0, 0); my $e = $! + 0; print "$_ $r $e\\n" if $r >= 0 || ($e != 1 && $e != 38) }'
    arguments = [str(number) for number in numbers.values()]
    result = run(api, sprite, "sudo", "perl", "-e", script, *arguments)
    assert (result.text, result.code) == ("", 0), (numbers, result)


def test_the_terminal_cannot_be_typed_into(api: Api, sprite: str) -> None:
    script = "import fcntl\ntry:\n fcntl.ioctl(0, 0x5412, b'x'); print('typed')\nexcept OSError: print('refused')"
    assert "refused" in run(api, sprite, "python3", "-c", script, tty=True).stdout.decode()


def test_the_agent_socket_is_out_of_reach(api: Api, sprite: str) -> None:
    assert root_shell(api, sprite, "ls /run /.sprite; find / -xdev -name '*.sock' 2>/dev/null | head").count("agent") == 0
    result = run(api, sprite, "sudo", "ls", "-l", "/proc/1/fd")
    assert b"/run/sprited" not in result.stdout


def test_killing_everything_leaves_process_1(api: Api, sprite: str) -> None:
    run(api, sprite, "sudo", "sh", "-c", "kill -9 -1", timeout=20)
    run(api, sprite, "sudo", "kill", "-9", "1", timeout=20)
    assert shell(api, sprite, "echo alive", timeout=40) == "alive\n"


def test_ping_tracing_and_namespaces_work_as_on_a_machine(api: Api, sprite: str) -> None:
    assert run(api, sprite, "ping", "-c1", "-W2", "127.0.0.1").code == 0
    assert run(api, sprite, "strace", "-o", "/dev/null", "true").code == 0


def test_sprites_do_not_see_each_others_files_or_processes(api: Api, new_sprite: Callable[..., str]) -> None:
    one, other = new_sprite(), new_sprite()
    shell(api, one, "echo secret > /tmp/f; echo secret > file; sleep 30 >/dev/null 2>&1 & true")
    assert run(api, other, "cat", "/tmp/f", "file").stdout == b""
    assert run(api, other, "pgrep", "sleep").code == 1


def test_the_guide_and_the_version_are_there(api: Api, sprite: str) -> None:
    assert shell(api, sprite, "cat /.sprite/version.txt").strip()
    assert "checkpoint" in shell(api, sprite, "cat /.sprite/llm.txt")
    assert shell(api, sprite, "sprite-env --version").strip()
