# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""An internet of our own in a network namespace: name servers and servers whose logs tell what got through."""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

ALLOWED, DENIED, RESOLVER, OTHER_RESOLVER = "198.51.100.10", "198.51.100.20", "198.51.100.53", "198.51.100.54"
PRIVATE, METADATA = "172.31.77.10", "169.254.169.254"
#: One of each range of private addresses (RFC 1918, RFC 6598), with servers like all others.
PRIVATES = [PRIVATE, "10.199.77.10", "192.168.77.10", "100.99.77.10"]
#: For servers with certificates (support/secure.py): one that is trusted, one that is not.
SECURE, UNTRUSTED = "198.51.100.30", "198.51.100.31"
ADDRESSES = [ALLOWED, DENIED, RESOLVER, OTHER_RESOLVER, *PRIVATES, METADATA, SECURE, UNTRUSTED]
#: Ports that a test connects to: the usual one, and the one of DNS over TLS, of name servers.
WEB, DNS_OVER_TLS = 80, 853

#: The zone that the resolver begins with: name to type and value.
ZONE: dict[str, list[list[str]]] = {
    "allowed.test": [["A", ALLOWED]],
    "sub.allowed.test": [["A", ALLOWED]],
    "denied.test": [["A", DENIED]],
    "rebind.test": [["A", ALLOWED]],
    "alias.test": [["CNAME", "denied.test"], ["A", DENIED]],
    "cdn-user.test": [["CNAME", "edge.cdn.test"], ["A", ALLOWED]],
    "*.tunnel.test": [["A", ALLOWED]],
    "large.test": [["TXT", "x" * 200]] * 10,
    "metadata.test": [["A", METADATA]],
    "api.test": [["A", SECURE]],
    "same.test": [["A", SECURE]],
    "untrusted.test": [["A", UNTRUSTED]],
}


class Internet:
    """Use as a context manager, as root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        mark = uuid.uuid4().hex[:6]
        self.namespace, self.outer, self.inner = f"spi-{mark}", f"spi{mark}", f"spj{mark}"
        self.zone = folder / "zone.json"
        self.log = folder / "seen.jsonl"
        self.process: subprocess.Popen[bytes] | None = None
        self.begun = 0

    def __enter__(self) -> "Internet":
        self.folder.mkdir(parents=True, exist_ok=True)
        # Its addresses are fixed: of all that run tests on this host, one has an internet at a time.
        self.turn = Path("/run/sprite-tests-internet.lock").open("w")
        fcntl.flock(self.turn, fcntl.LOCK_EX)
        try:
            return self._enter()
        except BaseException:
            self.__exit__()
            raise

    def _enter(self) -> "Internet":
        self.set_zone({})
        self.log.write_text("")
        self.begin()
        run("ip", "netns", "add", self.namespace)
        run("ip", "link", "add", self.outer, "type", "veth", "peer", "name", self.inner, "netns", self.namespace)
        run("ip", "address", "add", "198.51.100.1/24", "dev", self.outer)
        run("ip", "link", "set", self.outer, "up")
        inside = ["ip", "-n", self.namespace]
        for address in ADDRESSES:
            run(*inside, "address", "add", f"{address}/{24 if address.startswith('198') else 32}", "dev", self.inner)
        run(*inside, "link", "set", self.inner, "up")
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "route", "add", "default", "via", "198.51.100.1")
        for address in (*PRIVATES, METADATA):
            run("ip", "route", "add", f"{address}/32", "dev", self.outer, "via", ALLOWED)
        command = ["ip", "netns", "exec", self.namespace, sys.executable, __file__, str(self.zone), str(self.log)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None and self.process.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
        subprocess.run(["ip", "link", "delete", self.outer], capture_output=True)
        subprocess.run(["ip", "netns", "delete", self.namespace], capture_output=True)
        self.turn.close()

    def set_zone(self, changes: dict[str, list[list[str]]]) -> None:
        """The first zone with some names changed."""
        temporary = self.zone.with_suffix(".new")
        temporary.write_text(json.dumps(ZONE | changes))
        os.replace(temporary, self.zone)

    def begin(self) -> None:
        """From here on only what comes is told: what another test did is none of this one's business."""
        self.begun = self.log.stat().st_size

    def seen(self, kind: str, text: str, wait: float = 0.0) -> list[dict[str, Any]]:
        """What servers saw of a kind (question, data, accept) that holds a text."""
        time.sleep(wait)
        with self.log.open("rb") as file:
            file.seek(self.begun)
            # The last line may be half written.
            lines = file.read().split(b"\n")[:-1]
        entries = [json.loads(line) for line in lines]
        return [entry for entry in entries if entry["kind"] == kind and text in entry["text"]]

    def accepted(self, address: str, port: int | None = None, wait: float = 0.0) -> list[dict[str, Any]]:
        """TCP connections that were made to an address."""
        found = [entry for entry in self.seen("accept", address, wait) if entry["server"] == address]
        return [entry for entry in found if port in (None, entry["port"])]


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)


# From here on: the servers, in a process of their own.

TYPES = {"A": 1, "CNAME": 5, "TXT": 16}


def serve(zone: Path, log: Path) -> None:
    import socket
    import struct
    import threading

    lock = threading.Lock()

    def note(kind: str, text: str, **others: Any) -> None:
        with lock, log.open("a") as file:
            file.write(json.dumps({"kind": kind, "text": text, **others}) + "\n")

    def encode(name: str) -> bytes:
        return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0"

    def resolve(message: bytes, server: str, transport: str) -> bytes:
        labels, place = [], 12
        while message[place]:
            labels.append(message[place + 1 : place + 1 + message[place]].decode("latin-1"))
            place += 1 + message[place]
        name = ".".join(labels).lower()
        kind = struct.unpack("!H", message[place + 1 : place + 3])[0]
        note("question", name, server=server, transport=transport, type=kind)
        question = message[12 : place + 5]
        names = json.loads(zone.read_text())
        # A wildcard stands for names with more than one label in its place, too (RFC 4592).
        parents = [".".join(labels[count:]).lower() for count in range(1, len(labels))]
        wildcards = [names[f"*.{one}"] for one in parents if f"*.{one}" in names]
        records: list[list[str]] = names.get(name) or (wildcards[0] if wildcards else [])
        if server == OTHER_RESOLVER:
            records = [["A", DENIED]]
        answers, owner = [], name
        for type_name, value in records:
            if type_name != "CNAME" and TYPES[type_name] != kind:
                continue
            if type_name == "A":
                data = socket.inet_aton(value)
            elif type_name == "TXT":
                data = bytes([len(value)]) + value.encode()
            else:
                data = encode(value)
            answers.append(encode(owner) + struct.pack("!HHIH", TYPES[type_name], 1, 30, len(data)) + data)
            if type_name == "CNAME":
                owner = value
        code = 0 if records else 3
        body = question + b"".join(answers)
        if transport == "udp" and len(body) > 1220:
            return message[:2] + struct.pack("!HHHHH", 0x8380, 1, 0, 0, 0) + question
        return message[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(answers), 0, 0) + body

    def datagrams(address: str, port: int, answer: Any) -> None:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((address, port))
        while True:
            message, sender = server.recvfrom(4096)
            if reply := answer(message):
                server.sendto(reply, sender)

    def streams(address: str, port: int, serve_one: Any) -> None:
        server = socket.create_server((address, port), backlog=64)
        while True:
            connection, peer = server.accept()
            note("accept", f"{address}:{port}", server=address, port=port, peer=peer[0], peer_port=peer[1])
            threading.Thread(target=serve_one, args=(connection,), daemon=True).start()

    def names_over_tcp(address: str) -> Any:
        def one(connection: socket.socket) -> None:
            with connection, connection.makefile("rwb") as file:
                while head := file.read(2):
                    reply = resolve(file.read(struct.unpack("!H", head)[0]), address, "tcp")
                    file.write(struct.pack("!H", len(reply)) + reply)
                    file.flush()

        return one

    def echo(address: str) -> Any:
        def one(connection: socket.socket) -> None:
            # Whoever is cut off, or leaves without a goodbye, is no failure of the server's.
            with connection, contextlib.suppress(ConnectionError):
                connection.sendall(f"hello from {address}\n".encode())
                while data := connection.recv(4096):
                    note("data", data.decode("latin-1"), server=address, transport="tcp")
                    connection.sendall(data)

        return one

    def noted(address: str) -> Any:
        def one(message: bytes) -> bytes:
            note("data", message.decode("latin-1"), server=address, transport="udp")
            return message

        return one

    def names_over_http(connection: socket.socket) -> None:
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(DENIED), DENIED.encode()))

    jobs: list[tuple[Any, tuple[Any, ...]]] = []
    for address in (RESOLVER, OTHER_RESOLVER):
        jobs.append((datagrams, (address, 53, lambda m, a=address: resolve(m, a, "udp"))))
        jobs.append((streams, (address, 53, names_over_tcp(address))))
        jobs.append((streams, (address, DNS_OVER_TLS, echo(address))))
    for address in ADDRESSES:
        jobs.append((streams, (address, WEB, echo(address))))
        jobs.append((datagrams, (address, 9999, noted(address))))
    jobs.append((streams, (ALLOWED, 443, names_over_http)))
    for target, arguments in jobs:
        threading.Thread(target=target, args=arguments, daemon=True).start()
    time.sleep(0.2)
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]))
