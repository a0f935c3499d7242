# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Root of a sprite takes what its PID 1 shares with the daemon, and tries to have the daemon wait for it."""

import asyncio
import platform
import time
from collections.abc import Iterator

import pytest

from support.api import Api
from support.exec import open_exec, run, shell
from support.fixtures import fresh_name

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="environment: numbers of system calls are x86_64's")

#: Copies of PID 1's descriptors whose targets match, by pidfd_open and pidfd_getfd.
TAKE = r"""
use strict; use warnings; use Fcntl; use Socket; $| = 1;
sub taken { my $pattern = shift;
    my $init = syscall(434, 1, 0); die "pidfd_open: $!" if $init < 0;
    return map { my $copy = syscall(438, $init, $_, 0); die "pidfd_getfd: $!" if $copy < 0; $copy }
        grep { (readlink("/proc/1/fd/$_") // "") =~ $pattern } sort { $a <=> $b } grep { /^\d+$/ }
            map { s/.*\///r } glob("/proc/1/fd/*"); }
"""
#: Makes the terminal blocking while the daemon sees that there is output, and another reader takes it.
FIGHT = TAKE + r"""
my ($number) = taken(qr/ptmx/); open(my $master, "+<&=", $number) or die "no terminal: $!";
open(my $slave, ">", "/dev/pts/0") or die "no /dev/pts/0: $!";
for (1, 2) { if (!fork) { while (1) { fcntl($master, F_SETFL, O_RDWR) } } }
print "fights\n";
for (1 .. 4000) { syswrite($slave, "x"); select(undef, undef, undef, 0.0005) }
print "fought\n"; kill "KILL", -getpgrp();
"""
#: Sockets whose closing takes 30 s, since what was sent is not taken: as many at once as the kernel carries.
LINGER = TAKE + r"""
my ($count, $kind, $told) = @ARGV; my @bad; my @peers;
socket(my $listener, PF_INET, SOCK_STREAM, 0); bind($listener, sockaddr_in(0, INADDR_LOOPBACK)); listen($listener, 300);
for (1 .. $count) {
    socket(my $socket, PF_INET, SOCK_STREAM, 0); connect($socket, getsockname($listener)) or die "connect: $!";
    accept(my $peer, $listener) or die "accept: $!"; push @peers, $peer;
    fcntl($socket, F_SETFL, O_RDWR | O_NONBLOCK); 1 while defined syswrite($socket, "x" x 65536);
    setsockopt($socket, SOL_SOCKET, SO_LINGER, pack("ll", 1, 30)) or die "linger: $!"; push @bad, $socket;
}
# They come before the frame's end, so that whoever gets them has the last.
my ($link) = grep { my $socket; open($socket, "+<&=", $_) && push(@peers, $socket) && getpeername($socket) } taken(qr/^socket:/);
defined $link or die "no link";
my $first = "\12"; my $part = pack("PQ", $first, 1); my $rest = pack("x3CCx2", $kind, $told) . "\xff" x 7 . "\0\1\0";
my $control = pack("Qll", 16 + 4 * @bad, 1, 1) . pack("l*", map { fileno $_ } @bad);
$control .= "\0" x (-length($control) % 8);
my $message = pack("QQPQPQQ", 0, 0, $part, 1, $control, length $control, 0);
syscall(46, $link, $message, 0) == 1 or die "sendmsg: $!";
close $_ for @bad; @bad = ();
print "sent\n";
syscall(1, $link, $rest, length $rest) == length $rest or die "write: $!";
sleep 60;
"""


@pytest.fixture
def victim(api: Api) -> Iterator[str]:
    name = fresh_name("victim")
    api.create(name)
    assert shell(api, name, "echo ready") == "ready\n"
    yield name
    api.destroy(name)


def stays_quick(api: Api, victim: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.monotonic()
        assert run(api, victim, "echo", "alive", timeout=60).text == "alive\n"
        # Unharmed, it takes some hundredths of a second; what is held up here takes 30 s and more.
        assert time.monotonic() - begin < 10
        time.sleep(0.1)


def test_a_terminal_that_is_made_blocking(api: Api, sprite: str, victim: str) -> None:
    async def fight() -> None:
        async with open_exec(api, sprite, "sh", "-c", "tty; exec sleep 100", tty=True) as terminal:
            await terminal.read_until(b"/dev/pts/0")
            async with open_exec(api, sprite, "sudo", "perl", "-e", FIGHT) as attack:
                await attack.read_until(b"fights\n")
                await asyncio.to_thread(stays_quick, api, victim, 5)

    asyncio.run(fight())
    assert shell(api, sprite, "echo fine") == "fine\n"


@pytest.mark.parametrize(("count", "kind", "told"), [(1, 5, 1), (17, 250, 0), (253, 250, 0)])
def test_sockets_that_take_long_to_close(count: int, kind: int, told: int, api: Api, sprite: str, victim: str) -> None:
    async def send() -> None:
        async with open_exec(api, sprite, "sudo", "perl", "-e", LINGER, str(count), str(kind), str(told)) as attack:
            await attack.read_until(b"sent\n")
            await asyncio.to_thread(stays_quick, api, victim, 4)
            # That an unknown session has ended is nothing; at a frame of no known kind the link to PID 1 ends, and with it
            # what runs.
            if kind != 5:
                assert (await attack.finish(30)).code == 137

    asyncio.run(send())
    assert shell(api, sprite, "echo fine") == "fine\n"
