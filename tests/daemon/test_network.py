# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The network of a sprite: outwards everything, to neighbours and to the host nothing."""

import os
import socket
import subprocess
import threading
from collections.abc import Callable

import pytest

from support.api import Api
from support.exec import root_shell, run, shell

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3); print('connected')"


def can_connect(api: Api, name: str, address: str, port: int) -> bool:
    return run(api, name, "python3", "-c", CONNECT, address, str(port), timeout=20).stdout == b"connected\n"


def host_reaches_the_network() -> bool:
    """Whether the host's own package manager has a mirror to talk to."""
    if os.environ.get("SPRITE_REQUIRE_NETWORK") == "1":
        return True
    done = subprocess.run(["apt-get", "update", "-o", "Acquire::Retries=0"], capture_output=True, timeout=120)
    return done.returncode == 0 and b"Failed to fetch" not in done.stderr + done.stdout


def address_of(api: Api, name: str) -> str:
    return shell(api, name, "ip -4 -o addr show dev eth0 | awk '{print $4}' | cut -d/ -f1").strip()


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
    address = address_of(api, other)
    server = "import socket, time\ns = socket.socket(); s.bind(('0.0.0.0', 9000)); s.listen(); time.sleep(60)"
    shell(api, other, f"nohup python3 -c \"{server}\" >/dev/null 2>&1 & sleep 0.3")
    assert can_connect(api, other, "127.0.0.1", 9000), "the server inside answers its own"
    assert not can_connect(api, one, address, 9000)


def test_the_services_of_the_host_cannot_be_reached(api: Api, sprite: str) -> None:
    gateway = shell(api, sprite, "ip route | awk '/default/ {print $3}'").strip()
    server = socket.create_server(("0.0.0.0", 0))
    port = server.getsockname()[1]
    accepted: list[object] = []

    def accept() -> None:
        try:
            accepted.append(server.accept())
        except OSError:
            pass

    threading.Thread(target=accept, daemon=True).start()
    addresses = [gateway, *subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()]
    for address in addresses:
        if ":" not in address:
            assert not can_connect(api, sprite, address, port), f"the host answered at {address}"
    server.close()
    assert not accepted


def test_the_daemon_itself_cannot_be_reached(api: Api, sprite: str) -> None:
    gateway = shell(api, sprite, "ip route | awk '/default/ {print $3}'").strip()
    port = int(api.url.rsplit(":", 1)[1])
    for address in (gateway, "127.0.0.1"):
        assert not can_connect(api, sprite, address, port)


def test_a_stolen_address_gets_nowhere(api: Api, new_sprite: Callable[..., str]) -> None:
    one, other = new_sprite(), new_sprite()
    address = address_of(api, other)
    root_shell(api, one, f"ip addr add {address}/32 dev eth0 2>/dev/null || true")
    gateway = shell(api, one, "ip route | awk '/default/ {print $3}'").strip()
    assert run(api, one, "ping", "-I", address, "-c1", "-W1", gateway, timeout=15).code != 0


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
