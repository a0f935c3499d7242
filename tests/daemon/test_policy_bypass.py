# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Ways around a network policy, one a test: none gets through. The internet is our own, in a network namespace."""

import re
import socket
import subprocess
from collections.abc import Callable

import pytest

from support.api import Api
from support.daemon import Daemon
from support.exec import root_shell, run, shell
from support.internet import (
    ALLOWED, DENIED, DNS_OVER_TLS, METADATA, OTHER_RESOLVER, PRIVATE, PRIVATES, RESOLVER, Internet,
)  # fmt: skip
from support.policy import *  # noqa: F403  (fixtures)
from support.policy import (
    REFUSED, accepted_inside, address_of, allow, ask, ask_from_host, assert_cut_off, connect, connect_from_host,
    contacts, from_host, gateway_of, listen_inside, python, send_frames, send_packets, set_policy,
)  # fmt: skip
from support.wait import eventually
from support.wire import (
    EVERYBODY, Capture, HostPort, Listener, arp, ethernet, hardware_address, ipv4, ipv6, udp,
)  # fmt: skip


#: Asks without a token; prints the first line of the answer.
REQUEST = r"""
import socket, sys
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 1)
    s.settimeout(4)
    s.sendall(f"GET {sys.argv[3]} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    print(s.recv(4096).decode().splitlines()[0])
except OSError as e:
    print("failed", type(e).__name__)
"""


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


def say_from_host(address: str, data: bytes) -> None:
    """To the server that notes what it is sent, and answers with the same."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.sendto(data, (address, 9999))
        assert client.recv(100) == data


def test_ip_literal(api: Api, restricted: str, internet: Internet) -> None:
    assert_cut_off(api, internet, restricted, DENIED)
    # No allowed name was asked for yet.
    assert_cut_off(api, internet, restricted, ALLOWED)
    assert ask(api, restricted, "allowed.test").startswith("code 0")
    assert connect(api, restricted, ALLOWED) == f"hello from {ALLOWED}", "now one has led there"


def test_ipv6_literal(api: Api, daemon: Daemon, restricted: str) -> None:
    assert connect(api, restricted, "2001:db8::1").startswith("failed")
    # Written by hand onto the wire: past the missing route. The same from a port of the host comes through the bridge.
    own, bridge = hardware_address(address_of(api, restricted)), f"spr{daemon.tag}"
    with Capture(bridge) as capture, HostPort(bridge) as port:
        send_frames(api, restricted, ethernet(EVERYBODY, own, 0x86DD, ipv6(b"version six, sprite")))
        here, gateway = address_of(api, restricted), gateway_of(api, restricted)
        send_frames(api, restricted, ethernet(EVERYBODY, own, 0x0800, ipv4(here, gateway, udp(b"version four"))))
        eventually(lambda: capture.holding(b"version four"), "what the sprite may send is seen")
        port.send(ethernet(EVERYBODY, b"\x02\x03\0\0\0\1", 0x86DD, ipv6(b"version six, host")))
        eventually(lambda: capture.holding(b"version six, host"), "such a frame would have been seen")
        assert not capture.holding(b"version six, sprite", wait=0.1)


def test_dns_over_tcp(api: Api, restricted: str, internet: Internet) -> None:
    assert ask(api, restricted, "denied.test", transport="tcp") == REFUSED
    assert ask(api, restricted, "allowed.test", transport="tcp") == "code 0 answers 1 cut 0"
    assert [entry["transport"] for entry in internet.seen("question", "allowed.test")] == ["tcp"]
    assert not internet.seen("question", "denied.test", wait=0.2), "it never reached a name server"
    assert ask_from_host("denied.test", transport="tcp") == "code 0 answers 1 cut 0", "which knows an answer"
    assert internet.seen("question", "denied.test"), "and would have been noticed to be asked"


def test_dns_tunnelling_by_long_names(api: Api, sprite: str, internet: Internet) -> None:
    set_policy(api, sprite, allow("*.tunnel.test"))
    # A denied zone carries nothing at all, where an allowed one carries the label as it is.
    assert ask(api, sprite, "c2VjcmV0.denied.test") == REFUSED
    assert ask(api, sprite, "b3Blbg.tunnel.test").startswith("code 0")
    assert internet.seen("question", "b3blbg.tunnel.test")
    assert not internet.seen("question", "c2vjcmv0", wait=0.3)
    script = """
import socket, struct, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.5)
passed, begin = 0, time.monotonic()
for i in range(120):
    label = ("%03d" % i) + "a" * 57
    name = label + "." + label + ".tunnel.test"
    e = b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\\0"
    s.sendto(struct.pack("!HHHHHH", i, 0x0100, 1, 0, 0, 0) + e + struct.pack("!HH", 1, 1), (sys.argv[1], 53))
    try: passed += s.recv(4096)[3] & 15 == 0
    except OSError: pass
print(passed, time.monotonic() - begin)
"""
    passed, seconds = map(float, python(api, sprite, script, RESOLVER).split())
    # Ten at once, and then one every five seconds; names are counted as they arrive outside as well.
    most = 11 + seconds / 5
    arrived = {entry["text"] for entry in internet.seen("question", "aaaa", wait=0.2)}
    assert 10 <= passed <= len(arrived) <= most, (passed, seconds, len(arrived))
    assert any(contact.get("reason") == "flood" for contact in contacts(api, sprite) if not contact["allowed"])


def test_dns_tunnelling_by_odd_record_types(api: Api, sprite: str, internet: Internet) -> None:
    set_policy(api, sprite, allow("*.tunnel.test"))
    for kind in (10, 255, 252, 65280):
        assert ask(api, sprite, f"odd{kind}.tunnel.test", kind=kind) == REFUSED
    # Types of use to programs do go out; asked by the host, the odd ones reach the resolver too.
    for kind in (1, 16, 28):
        assert ask(api, sprite, f"plain{kind}.tunnel.test", kind=kind).startswith("code 0")
        assert [entry["type"] for entry in internet.seen("question", f"plain{kind}.")] == [kind]
    for kind in (10, 255, 252, 65280):
        assert ask_from_host(f"host{kind}.tunnel.test", kind=kind).startswith("code 0")
        assert [entry["type"] for entry in internet.seen("question", f"host{kind}.")] == [kind]
    assert not internet.seen("question", "odd", wait=0.2)


def test_second_resolver(api: Api, sprite: str, internet: Internet) -> None:
    def asked() -> set[str]:
        """Names that the other resolver was asked for, by whichever way."""
        return {entry["text"] for entry in internet.seen("question", "test") if entry["server"] == OTHER_RESOLVER}

    # It is there for whoever has no policy, and what it is asked is noted.
    for transport in ("udp", "tcp"):
        assert ask(api, sprite, f"{transport}.denied.test", OTHER_RESOLVER, transport) == "code 0 answers 1 cut 0"
    assert connect(api, sprite, OTHER_RESOLVER, DNS_OVER_TLS) == f"hello from {OTHER_RESOLVER}"
    assert asked() == {"udp.denied.test", "tcp.denied.test"}
    assert len(internet.accepted(OTHER_RESOLVER, DNS_OVER_TLS)) == 1 and len(internet.accepted(OTHER_RESOLVER, 53)) == 1

    set_policy(api, sprite, allow("allowed.test"))
    internet.begin()
    with Capture(internet.outer) as wire:
        for transport in ("udp", "tcp"):
            assert ask(api, sprite, "denied.test", OTHER_RESOLVER, transport) == REFUSED
            # Whoever is asked, the guard answers, with what the resolver of the daemon says.
            assert ask(api, sprite, "allowed.test", OTHER_RESOLVER, transport) == "code 0 answers 1 cut 0"
        assert connect(api, sprite, OTHER_RESOLVER, DNS_OVER_TLS).startswith("failed")
        assert wire.begun_to(RESOLVER, 53, wait=0.2), "the guard's own questions are seen"
        assert not wire.begun_to(OTHER_RESOLVER)
    assert not asked() and not internet.accepted(OTHER_RESOLVER)
    assert_cut_off(api, internet, sprite, RESOLVER, DNS_OVER_TLS)


def test_dns_over_https_of_an_allowed_host(api: Api, restricted: str, internet: Internet) -> None:
    script = """
import socket
s = socket.create_connection(("allowed.test", 443), 4)
s.sendall(b"GET /dns-query?name=denied.test HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n")
print(s.recv(4096).split()[-1].decode())
"""
    address = python(api, restricted, script)
    assert address == DENIED, "the allowed host tells the address"
    assert len(internet.accepted(ALLOWED, 443)) == 1
    # And it leads nowhere.
    assert_cut_off(api, internet, restricted, address)


@pytest.mark.parametrize("target", [*PRIVATES, METADATA])
def test_rebinding_to_a_private_address(api: Api, sprite: str, internet: Internet, target: str) -> None:
    set_policy(api, sprite, allow("rebind.test"))
    assert connect(api, sprite, "rebind.test") == f"hello from {ALLOWED}"
    internet.set_zone({"rebind.test": [["A", target]]})
    assert ask_from_host("rebind.test") == "code 0 answers 1 cut 0", "the resolver says so"
    assert ask(api, sprite, "rebind.test") == REFUSED
    assert_cut_off(api, internet, sprite, target, name="rebind.test", timeout=2)
    internet.set_zone({"rebind.test": [["A", ALLOWED], ["A", target]]})
    assert ask_from_host("rebind.test") == "code 0 answers 2 cut 0"
    assert ask(api, sprite, "rebind.test") == REFUSED, "one bad address spoils the answer"
    assert_cut_off(api, internet, sprite, target, timeout=2)
    assert any(contact.get("reason") == "rebinding" for contact in contacts(api, sprite))


@pytest.mark.parametrize("target", ["127.0.0.1", "0.0.0.0"])
def test_rebinding_to_a_service_inside(api: Api, sprite: str, internet: Internet, target: str) -> None:
    """A page of an allowed site must not become one that may speak to what the sprite itself serves."""
    listen_inside(api, sprite, 8080)
    set_policy(api, sprite, allow("rebind.test"))
    internet.set_zone({"rebind.test": [["A", target]]})
    assert ask(api, sprite, "rebind.test") == REFUSED
    assert connect(api, sprite, "rebind.test", 8080).startswith("failed")
    assert accepted_inside(api, sprite) == []
    assert connect(api, sprite, target, 8080) == "hello from inside", "the name would have led to it"
    assert accepted_inside(api, sprite) == ["127.0.0.1"]


def test_rebinding_to_the_host(api: Api, sprite: str, internet: Internet) -> None:
    set_policy(api, sprite, allow("rebind.test"))
    gateway = gateway_of(api, sprite)
    internet.set_zone({"rebind.test": [["A", gateway]]})
    assert ask_from_host("rebind.test") == "code 0 answers 1 cut 0"
    with Listener() as service:
        assert ask(api, sprite, "rebind.test") == REFUSED
        assert connect(api, sprite, "rebind.test", service.port).startswith("failed")
        assert connect(api, sprite, gateway, service.port, timeout=2).startswith("failed")
        assert connect_from_host(gateway, service.port) == service.greeting
        assert len(service.accepted) == 1, f"somebody but the host itself came: {service.accepted}"


def test_cname_to_a_denied_name(api: Api, sprite: str, internet: Internet) -> None:
    rules = [*allow("alias.test", "cdn-user.test"), {"domain": "denied.test", "action": "deny"}]
    set_policy(api, sprite, rules)
    assert ask_from_host("alias.test") == "code 0 answers 2 cut 0", "an alias and an address"
    assert ask(api, sprite, "alias.test") == REFUSED
    assert_cut_off(api, internet, sprite, DENIED)
    # One that no rule names is where the owner of the allowed name keeps it: most large sites are reached that way.
    assert connect(api, sprite, "cdn-user.test") == f"hello from {ALLOWED}"


def test_addresses_of_other_names_in_an_answer(api: Api, sprite: str, internet: Internet) -> None:
    # An allowed name's owner slips in a record that does not belong to the chain: the answer is not passed on.
    internet.set_zone({"allowed.test": [["A", ALLOWED], ["CNAME", "denied.test"], ["A", DENIED]]})
    set_policy(api, sprite, [*allow("allowed.test"), {"domain": "denied.test", "action": "deny"}])
    assert ask_from_host("allowed.test") == "code 0 answers 3 cut 0"
    assert ask(api, sprite, "allowed.test") == REFUSED
    assert_cut_off(api, internet, sprite, DENIED)
    internet.set_zone({})
    assert connect(api, sprite, "allowed.test") == f"hello from {ALLOWED}", "without the record it is"


def test_raw_sockets(api: Api, restricted: str, internet: Internet) -> None:
    own, gateway = address_of(api, restricted), gateway_of(api, restricted)
    connect(api, restricted, "allowed.test")

    def send(target: str, mark: bytes) -> None:
        """Through a raw socket, and as whole frames: to the gateway and to all."""
        send_packets(api, restricted, ipv4(own, target, udp(b"socket-" + mark)))
        packet = ipv4(own, target, udp(b"frame-" + mark))
        for hardware in (hardware_address(gateway, 0), EVERYBODY):
            send_frames(api, restricted, ethernet(hardware, hardware_address(own), 0x0800, packet))

    with Capture(internet.outer) as wire:
        send(DENIED, b"attack")
        send(ALLOWED, b"control")
        for way in ("socket", "frame"):
            eventually(lambda way=way: internet.seen("data", f"{way}-control"), "to an allowed address it arrives")
        assert wire.begun_to(ALLOWED) and not wire.begun_to(DENIED, wait=0.3)
        say_from_host(DENIED, b"from the host")
        assert internet.seen("data", "from the host"), "the far end is there"
        assert len(wire.begun_to(DENIED)) == 1
    assert not internet.seen("data", "-attack")


def test_icmp_and_other_protocols(api: Api, restricted: str, internet: Internet) -> None:
    own = address_of(api, restricted)
    with Capture(internet.outer) as wire:
        assert run(api, restricted, "ping", "-c1", "-W1", DENIED, timeout=15).code != 0
        connect(api, restricted, "allowed.test")
        assert run(api, restricted, "ping", "-c1", "-W2", ALLOWED, timeout=15).code == 0
        # GRE, SCTP, and one for experiments (RFC 3692).
        for protocol in (47, 132, 253):
            mark = b"protocol %d" % protocol
            send_packets(api, restricted, ipv4(own, DENIED, mark + b" to denied, and padding", protocol))
            send_packets(api, restricted, ipv4(own, ALLOWED, mark + b" to allowed, and padding", protocol))
            eventually(lambda mark=mark: wire.holding(mark + b" to allowed"), f"{mark!r} leaves for an allowed address")
        kinds = {frame[23] for frame in wire.begun_to(ALLOWED)}
        assert kinds >= {1, 47, 132, 253}, kinds
        assert not wire.begun_to(DENIED, wait=0.2)
        say_from_host(DENIED, b"from the host")
        assert wire.begun_to(DENIED), "a packet to it is seen"


@pytest.mark.parametrize("policy", [[], allow("denied.test")])
def test_source_address_spoofing(
    api: Api, new_sprite: Callable[..., str], internet: Internet, policy: list[dict[str, str]]
) -> None:
    """Whoever may go there is the neighbour, by no policy or by its own: its address opens nothing for another."""
    one, owner = new_sprite(), new_sprite()
    set_policy(api, one, allow("allowed.test"))
    set_policy(api, owner, policy)
    own, stolen, gateway = address_of(api, one), address_of(api, owner), gateway_of(api, one)
    connect(api, one, "allowed.test")
    assert connect(api, owner, "denied.test") == f"hello from {DENIED}"
    # For root inside too, the address cannot be had in the usual way.
    assert run(api, one, "sudo", "ip", "address", "add", f"{stolen}/32", "dev", "eth0").code != 0

    def frames(source: str, senders: list[bytes], mark: bytes) -> list[bytes]:
        packet = ipv4(source, DENIED, udp(mark))
        to = (hardware_address(gateway, 0), EVERYBODY)
        return [ethernet(target, sender, 0x0800, packet) for target in to for sender in senders]

    with Capture(internet.outer) as wire:
        # The very same ports: with the owner's first packet there is a flow that the spoofed ones belong to.
        send_frames(api, owner, *frames(stolen, [hardware_address(stolen)], b"owner before"))
        eventually(lambda: internet.seen("data", "owner before"), "the owner's packets arrive")
        send_frames(api, one, *frames(stolen, [hardware_address(own), hardware_address(stolen)], b"spoofed"))
        send_packets(api, one, ipv4(stolen, DENIED, udp(b"spoofed")))
        send_frames(api, owner, *frames(stolen, [hardware_address(stolen)], b"owner after"))
        eventually(lambda: internet.seen("data", "owner after"), "the owner's later packets arrive")
        assert not wire.holding(b"spoofed", wait=0.3)
    assert not internet.seen("data", "spoofed")


def test_arp_and_neighbour_spoofing_between_sprites(
    api: Api, daemon: Daemon, new_sprite: Callable[..., str], internet: Internet
) -> None:
    one, other = new_sprite(), new_sprite()
    own, victim, gateway = address_of(api, one), address_of(api, other), gateway_of(api, one)
    bridge = f"spr{daemon.tag}"
    # The host's end of the victim's cable: what goes out there is at its eth0.
    offset = victim.split(".")
    port = f"spv{daemon.tag}{(int(offset[2]) % 16) * 256 + int(offset[3]):03x}"
    mine, theirs, router = hardware_address(own), hardware_address(victim), hardware_address(gateway, 0)
    attacks = [
        ethernet(EVERYBODY, sender, 0x0806, arp(operation, claimed, address, victim, b"spoofed"))
        for operation in (1, 2)
        for sender in (mine, theirs, router)
        for claimed in (mine, theirs, router)
        for address in (victim, own, gateway)
        if (sender, claimed, address) != (mine, mine, own)
    ]
    attacks.append(ethernet(EVERYBODY, theirs, 0x86DD, ipv6(b"spoofed")))
    attacks.append(ethernet(EVERYBODY, theirs, 0x8100, b"\0\1\x08\x06" + arp(2, mine, victim, gateway, b"spoofed")))
    # To the victim itself, and without a lie: ports of sprites are apart from each other.
    attacks.append(ethernet(theirs, mine, 0x0800, ipv4(own, victim, udp(b"spoofed"))))
    attacks.append(ethernet(theirs, mine, 0x0806, arp(1, mine, own, victim, b"spoofed")))

    with Capture(port) as cable, HostPort(bridge) as host_port:
        assert connect(api, other, "allowed.test") == f"hello from {ALLOWED}"
        assert cable.holding(f"hello from {ALLOWED}".encode()), "what is sent to the victim is seen"
        for _ in range(3):
            send_frames(api, one, *attacks)
        stranger = b"\x02\x03\0\0\0\1"
        host_port.send(ethernet(EVERYBODY, stranger, 0x0806, arp(2, stranger, "192.0.2.77", victim, b"from a port")))
        eventually(lambda: cable.holding(b"from a port"), "such a frame from a port of the host is seen")
        assert not cable.holding(b"spoofed", wait=0.2)

        table = output("bridge", "fdb", "show", "br", bridge)
        places = re.findall(rf"^{theirs.hex(':')} dev (\S+) .*master", table, re.MULTILINE)
        assert places == [port], table
        for address, hardware in ((victim, theirs), (own, mine)):
            # The host knows both by now: it answered the one, and asks for the other here.
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as question:
                question.sendto(b"where are you?", (address, 9))
            shown = eventually(
                lambda address=address: re.findall(
                    r"lladdr (\S+)", output("ip", "neigh", "show", address, "dev", bridge)
                ),
                f"the host has found {address}",
            )
            assert shown == [hardware.hex(":")]
        known = root_shell(api, other, f"ip neigh show {gateway}")
        assert router.hex(":") in known, known
        internet.begin()
        assert connect(api, other, "allowed.test") == f"hello from {ALLOWED}", "the victim's answers still reach it"
        assert len(internet.accepted(ALLOWED)) == 1


def test_conntrack_of_old_connections(api: Api, sprite: str, internet: Internet) -> None:
    script = """
import socket, time
def server(address, kind=socket.SOCK_STREAM, port=80):
    s = socket.socket(socket.AF_INET, kind); s.settimeout(4); s.connect((address, port)); return s
import sys
kept, cut, udp = server(sys.argv[1]), server(sys.argv[2]), server(sys.argv[2], socket.SOCK_DGRAM, 9999)
kept.recv(100); cut.recv(100)
udp.send(b"before"); assert udp.recv(100) == b"before"
open("/tmp/ready", "w")
while True:
    try: open("/tmp/go")
    except OSError: time.sleep(0.05); continue
    break
def talk(s, data):
    try:
        s.send(data)
        return s.recv(100) == data
    except OSError as e: return type(e).__name__
print(talk(kept, b"still"), talk(cut, b"tcp-after"), talk(udp, b"udp-after"))
"""
    set_policy(api, sprite, [])
    assert connect(api, sprite, "allowed.test") == f"hello from {ALLOWED}"
    shell(api, sprite, "cat > /tmp/hold.py <<'END'\n" + script + "\nEND")
    shell(api, sprite, f"setsid -f python3 /tmp/hold.py {ALLOWED} {DENIED} </dev/null >/tmp/out 2>&1")
    eventually(lambda: run(api, sprite, "test", "-e", "/tmp/ready").code == 0, "connections are open")
    set_policy(api, sprite, allow("allowed.test"))
    # What is allowed is known by asking for its name.
    assert ask(api, sprite, "allowed.test").startswith("code 0")
    shell(api, sprite, "touch /tmp/go")
    eventually(lambda: shell(api, sprite, "cat /tmp/out").strip() or None, "the connections were tried")
    words = shell(api, sprite, "cat /tmp/out").split()
    assert words[0] == "True", words
    assert words[1] != "True" and words[2] != "True", words
    # Both were open: what was said before arrived, and so did what is still allowed.
    assert len(internet.accepted(DENIED)) == 1
    assert [one["server"] for one in internet.seen("data", "before")] == [DENIED]
    assert [one["server"] for one in internet.seen("data", "still")] == [ALLOWED]
    assert not internet.seen("data", "-after", wait=0.3)


def test_a_connection_that_the_new_policy_allows_goes_on(api: Api, restricted: str, internet: Internet) -> None:
    set_policy(api, restricted, allow("allowed.test", "denied.test"))
    script = """
import socket, sys, time
a, d = (socket.create_connection((n, 80), 4) for n in ("allowed.test", "denied.test"))
a.recv(100); d.recv(100)
open("/tmp/ready", "w")
while True:
    try: open("/tmp/go")
    except OSError: time.sleep(0.05); continue
    break
r = []
for s, data in ((a, b"goes on"), (d, b"is cut")):
    s.settimeout(4)
    try: s.send(data); r.append(s.recv(10) == data)
    except OSError as e: r.append(type(e).__name__)
print(*r)
"""
    shell(api, restricted, "cat > /tmp/hold.py <<'END'\n" + script + "\nEND")
    shell(api, restricted, "setsid -f python3 /tmp/hold.py </dev/null >/tmp/out 2>&1")
    eventually(lambda: run(api, restricted, "test", "-e", "/tmp/ready").code == 0, "connections are open")
    set_policy(api, restricted, allow("allowed.test"))
    shell(api, restricted, "touch /tmp/go")
    eventually(lambda: shell(api, restricted, "cat /tmp/out").strip() or None, "the connections were tried")
    words = shell(api, restricted, "cat /tmp/out").split()
    assert words[0] == "True" and words[1] != "True", words
    assert len(internet.accepted(DENIED)) == 1, "it was open"
    assert [one["server"] for one in internet.seen("data", "goes on")] == [ALLOWED]
    assert not internet.seen("data", "is cut", wait=0.3)


@pytest.mark.parametrize(
    "policy", [[], allow("*"), allow("metadata.test"), allow(METADATA), allow("*", METADATA, PRIVATE)]
)
def test_metadata_address(api: Api, sprite: str, internet: Internet, policy: list[dict[str, str]]) -> None:
    set_policy(api, sprite, policy)
    assert ask_from_host("metadata.test") == "code 0 answers 1 cut 0", "a name leads to it"
    assert_cut_off(api, internet, sprite, METADATA, timeout=2)
    assert_cut_off(api, internet, sprite, METADATA, name="metadata.test", timeout=2)
    # And so are private networks.
    assert_cut_off(api, internet, sprite, PRIVATE, timeout=2)
    if policy:
        return
    assert connect(api, sprite, DENIED) == f"hello from {DENIED}", "where no policy forbids it, the same probe arrives"


def test_the_hosts_services_from_inside(new_daemon: Callable[..., Daemon], internet: Internet) -> None:
    """The API and another service, both on every address of the host, IPv6 ones included where it has any."""
    addresses = ["198.51.100.1"]
    daemon = new_daemon(started=False)
    daemon.listen = "0.0.0.0:0"
    if socket.has_dualstack_ipv6():
        daemon.listen = "[::]:0"
        addresses.append("2001:db8:77::1")
        command = ["ip", "address", "add", f"{addresses[-1]}/64", "dev", internet.outer, "nodad"]
        subprocess.run(command, check=True, capture_output=True)
    api = daemon.start().api()
    api.create("one")
    addresses.append(gateway_of(api, "one"))
    port = int(daemon.url.rsplit(":", 1)[1])
    with Listener() as service:
        for policy in ([], allow("*")):
            set_policy(api, "one", policy)
            for address in addresses:
                for target in (port, service.port):
                    said = run(api, "one", "python3", "-c", REQUEST, address, str(target), "/inside").text
                    assert said.startswith("failed"), (policy, address, target, said)
        # The host itself is answered on each of them, and that is noted.
        for number, address in enumerate(addresses, 1):
            assert from_host(REQUEST, address, str(port), "/outside").startswith("HTTP/1.1 401"), address
            assert from_host(REQUEST, address, str(service.port), "/outside") == service.greeting
            assert len(service.accepted) == number, service.accepted
    eventually(lambda: daemon.log.read_text().count("/outside") == len(addresses), "these are in the daemon's log")
    assert "/inside" not in daemon.log.read_text()


@pytest.mark.parametrize("policy", [[], allow("*")])
def test_other_sprites_ports(api: Api, new_sprite: Callable[..., str], policy: list[dict[str, str]]) -> None:
    one, other = new_sprite(), new_sprite()
    set_policy(api, one, policy)
    address, gateway = address_of(api, other), gateway_of(api, other)
    listen_inside(api, other, 9000)
    assert connect(api, one, address, 9000, timeout=2).startswith("failed")
    assert connect(api, other, address, 9000) == "hello from inside", "its own sprite reaches it"
    assert connect_from_host(address, 9000) == "hello from inside", "and over its cable the host does"
    assert accepted_inside(api, other) == [address, gateway], "and nobody else was there"
