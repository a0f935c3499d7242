# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The network of a sprite: outwards everything, to neighbours and to the host nothing."""

import os
import subprocess
from collections.abc import Callable

import pytest

from support.api import Api
from support.daemon import Daemon
from support.exec import run, shell
from support.policy import (
    accepted_inside, address_of, connect_from_host, gateway_of, listen_inside, send_frames, send_packets,
)  # fmt: skip
from support.wait import eventually
from support.wire import Capture, Listener, ethernet, hardware_address, icmp_question, ipv4

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3); print('connected')"


def can_connect(api: Api, name: str, address: str, port: int) -> bool:
    return run(api, name, "python3", "-c", CONNECT, address, str(port), timeout=20).stdout == b"connected\n"


def host_reaches_the_network() -> bool:
    """Whether the host's own package manager has a mirror to talk to."""
    if os.environ.get("SPRITE_REQUIRE_NETWORK") == "1":
        return True
    done = subprocess.run(["apt-get", "update", "-o", "Acquire::Retries=0"], capture_output=True, timeout=120)
    return done.returncode == 0 and b"Failed to fetch" not in done.stderr + done.stdout


def test_a_sprite_has_an_address_a_route_and_name_servers(api: Api, sprite: str) -> None:
    assert address_of(api, sprite)
    assert "default via" in shell(api, sprite, "ip route")
    assert "nameserver" in shell(api, sprite, "cat /etc/resolv.conf")
    assert shell(api, sprite, "cat /sys/class/net/lo/operstate").strip() in ("unknown", "up")


def test_a_port_below_1024_may_be_opened(api: Api, sprite: str) -> None:
    script = "import socket; s = socket.socket(); s.bind(('0.0.0.0', 80)); s.listen(); print('open')"
    assert run(api, sprite, "python3", "-c", script).text == "open\n"


def test_neighbours_cannot_be_reached(api: Api, new_sprite: Callable[..., str]) -> None:
    one, other = new_sprite(), new_sprite()
    address, gateway = address_of(api, other), gateway_of(api, other)
    listen_inside(api, other, 9000)
    assert not can_connect(api, one, address, 9000)
    assert can_connect(api, other, address, 9000), "the server inside answers its own"
    assert connect_from_host(address, 9000) == "hello from inside", "and the host"
    assert accepted_inside(api, other) == [address, gateway], "and nobody else was there"


def test_the_services_of_the_host_cannot_be_reached(api: Api, sprite: str) -> None:
    """The API is one of them: test_policy_bypass.py has it listen on every address."""
    listed = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
    addresses = [gateway_of(api, sprite), *(address for address in listed if ":" not in address)]
    with Listener() as service:
        for address in addresses:
            assert not can_connect(api, sprite, address, service.port), f"the host answered at {address}"
        assert not service.accepted
        for address in addresses:
            assert connect_from_host(address, service.port) == service.greeting, "the host itself is answered"
        assert len(service.accepted) == len(addresses)


def test_a_stolen_address_gets_nowhere(api: Api, daemon: Daemon, new_sprite: Callable[..., str]) -> None:
    one, owner = new_sprite(), new_sprite()
    own, stolen, gateway = address_of(api, one), address_of(api, owner), gateway_of(api, one)
    added = run(api, one, "sudo", "ip", "address", "add", f"{stolen}/32", "dev", "eth0")
    assert added.code != 0 and b"not permitted" in added.stderr, "addresses are not the sprite's to give"

    def ask(name: str, senders: list[str], mark: bytes) -> None:
        """For an echo, as the owner of the address, from a socket and in frames."""
        packet = ipv4(stolen, gateway, icmp_question(mark), 1)
        send_packets(api, name, packet)
        frames = [ethernet(hardware_address(gateway, 0), hardware_address(one), 0x0800, packet) for one in senders]
        send_frames(api, name, *frames)

    with Capture(f"spr{daemon.tag}") as bridge:
        ask(one, [own, stolen], b"from the thief")
        ask(owner, [stolen], b"from the owner")
        # A question and an answer each.
        eventually(lambda: len(bridge.holding(b"from the owner")) == 4, "the owner is answered")
        assert not bridge.holding(b"from the thief", wait=0.2)


def test_packages_can_be_installed(api: Api, sprite: str) -> None:
    if not host_reaches_the_network():
        pytest.skip("network: the host's own apt-get update fails")
    # Mirrors are named by the base, and reached in the way the host reaches them.
    install = "sudo DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends sqlite3"
    shell(api, sprite, f"sudo apt-get update && {install}", timeout=280)
    script = "sqlite3 t.db 'create table t(a); insert into t values(42); select a from t'"
    assert shell(api, sprite, script) == "42\n"
    assert api.checkpoint(sprite) == "v1"
    run(api, sprite, "sudo", "rm", "-rf", "/usr", "/etc", "/home")
    api.restore(sprite, "v1")
    assert shell(api, sprite, "sqlite3 t.db 'select a from t'") == "42\n"
