# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What may lie between a client and a server: something that ends TLS, an HTTP proxy, a slow way, a wrong clock."""

import queue
import random
import re
import select
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

#: A name that only the proxy knows, so that what arrives came through it.
NAME = "sprites.test"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for `NAME` and the loopback address that signs itself, and its key."""
    pem, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},DNS:localhost,IP:127.0.0.1",
         "-out", str(pem), "-keyout", str(key)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return pem, key


class Relay:
    """Listens on the loopback interface and handles each connection in a thread."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._handled, args=(peer,), daemon=True).start()

    def _handled(self, peer: socket.socket) -> None:
        try:
            self.handle(peer)
        except OSError:
            pass
        finally:
            peer.close()

    def handle(self, peer: socket.socket) -> None:
        raise NotImplementedError

    def close(self) -> None:
        # A thread that waits in accept holds a socket that is only closed.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def join(one: socket.socket, other: socket.socket) -> None:
    """Carries bytes both ways until both ends have ended."""

    def carry(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        try:
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    back = threading.Thread(target=carry, args=(other, one), daemon=True)
    back.start()
    carry(one, other)
    back.join()


def dialled(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Cut(Relay):
    """Passes everything on, until `cut` breaks off all connections that there are."""

    def __init__(self, server: int) -> None:
        self.server = server
        self.open: set[socket.socket] = set()
        super().__init__()

    def handle(self, peer: socket.socket) -> None:
        with dialled(self.server) as server:
            ends = {peer, server}
            self.open |= ends
            try:
                join(peer, server)
            finally:
                self.open -= ends

    def cut(self) -> None:
        for one in list(self.open):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # It ended meanwhile.


class LateClock(Relay):
    """Dates the requests of S3 back while `is_late`, as if the clock of whoever signs them were two hours slow.

    The signature does not fit then either, but a server looks at the time first.
    """

    DATE = re.compile(rb"(?i)(x-amz-date: )(\d{8}T\d{6}Z)")

    def __init__(self, server: int) -> None:
        self.server, self.is_late = server, False
        super().__init__()

    def _shifted(self, found: "re.Match[bytes]") -> bytes:
        form = "%Y%m%dT%H%M%SZ"
        then = datetime.strptime(found[2].decode(), form) - timedelta(hours=2)
        return found[1] + then.strftime(form).encode()

    def handle(self, peer: socket.socket) -> None:
        server = dialled(self.server)

        def answers() -> None:
            while data := server.recv(65536):
                peer.sendall(data)

        threading.Thread(target=answers, daemon=True).start()
        while data := peer.recv(65536):
            server.sendall(self.DATE.sub(self._shifted, data) if self.is_late else data)
        server.close()


class TLSEnd(Relay):
    """Ends TLS before a server that speaks plain HTTP."""

    def __init__(self, folder: Path, server: int) -> None:
        self.server = server
        self.pem, key = certificate(folder)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.pem, key)
        super().__init__()

    def handle(self, peer: socket.socket) -> None:
        # A TLS object may not be read and written by two threads at once.
        with self.context.wrap_socket(peer, server_side=True) as secure, dialled(self.server) as plain:
            self._pump(secure, plain)

    @staticmethod
    def _pump(secure: ssl.SSLSocket, plain: socket.socket) -> None:
        secure.settimeout(30)
        while True:
            readable = [secure] if secure.pending() else select.select([secure, plain], [], [])[0]
            for source, sink in ((secure, plain), (plain, secure)):
                if source in readable:
                    data = source.recv(65536)
                    if not data:
                        return
                    sink.sendall(data)


class SlowWay(Relay):
    """A way to a server on which everything takes its time, in pieces that are cut anywhere."""

    def __init__(self, server: int, delay: float = 0.04, bytes_a_second: float = 4e6) -> None:
        self.server, self.delay, self.rate = server, delay, bytes_a_second
        super().__init__()

    def handle(self, peer: socket.socket) -> None:
        with dialled(self.server) as server:
            back = threading.Thread(target=self._carry, args=(server, peer), daemon=True)
            back.start()
            self._carry(peer, server)
            back.join()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        # As much is under way as fits on the way; what comes then waits at the sender.
        under_way: "queue.Queue[tuple[float, bytes]]" = queue.Queue(maxsize=64)

        def read() -> None:
            chance, data = random.Random(0), b"x"
            while data:
                try:
                    data = source.recv(chance.choice([1, 2, 7, 1400, 16384]))
                except OSError:
                    data = b""
                under_way.put((time.monotonic() + self.delay, data))

        threading.Thread(target=read, daemon=True).start()
        free = time.monotonic()
        data = b"x"
        while data:
            due, data = under_way.get()
            free = max(free, due) + len(data) / self.rate
            time.sleep(max(0.0, free - time.monotonic()))
            try:
                sink.sendall(data) if data else sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass


class Proxy(Relay):
    """An HTTP proxy for `NAME`: CONNECT, and requests that name the whole address."""

    def __init__(self, route: Callable[[int], int]) -> None:
        #: First lines of what it was asked for.
        self.asked: list[str] = []
        self.route = route
        super().__init__()

    def handle(self, peer: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = peer.recv(4096)
            if not piece:
                return
            head += piece
        lines, rest = head.split(b"\r\n\r\n", 1)
        first, _, fields = lines.partition(b"\r\n")
        method, target, version = first.decode().split(" ")
        self.asked.append(first.decode())
        place, _, path = target.removeprefix("http://").partition("/")
        host, _, port = place.partition(":")
        if host != NAME:
            peer.sendall(b"HTTP/1.1 502 Unknown Host\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        with dialled(self.route(int(port or 80))) as server:
            if method == "CONNECT":
                peer.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                # One request a connection, so that the next one's address is seen again.
                kept = [line for line in fields.split(b"\r\n") if not line.lower().startswith((b"connection:", b"proxy-"))]
                is_upgrade = any(line.lower().startswith(b"upgrade:") for line in kept)
                kept.append(b"Connection: Upgrade" if is_upgrade else b"Connection: close")
                rest = b"\r\n".join([f"{method} /{path} {version}".encode(), *kept, b"", b""]) + rest
            server.sendall(rest)
            join(peer, server)
