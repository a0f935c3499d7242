# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What really went over the network: captures on devices of the host, frames from an allowed place, listeners."""

import socket
import struct
import subprocess
import threading
import time
import uuid
from types import TracebackType

#: Linux: SOL_PACKET, and the option that tells how many frames a capture missed.
SOL_PACKET, PACKET_STATISTICS = 263, 6
TCP = 6


class Capture:
    """Every frame of a device, in both directions, from when it is made. Use as a context manager, as root.

    A test that says "nothing arrived" has to show on the same capture that it would have been seen.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._frames: list[bytes] = []
        # ETH_P_ALL: what is sent too, not only what is received.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind((device, 0))
        self._socket.setblocking(False)

    def __enter__(self) -> "Capture":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def frames(self) -> list[bytes]:
        """All up to now."""
        while True:
            try:
                self._frames.append(self._socket.recv(65536))
            except BlockingIOError:
                break
        _, missed = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        assert not missed, f"the capture of {self.device} missed {missed} frames: what it did not see proves nothing"
        return self._frames

    def holding(self, data: bytes, wait: float = 0.0) -> list[bytes]:
        """Frames with these bytes somewhere."""
        time.sleep(wait)
        return [frame for frame in self.frames() if data in frame]

    def begun_to(self, address: str, port: int | None = None, wait: float = 0.0) -> list[bytes]:
        """IPv4 packets to an address: of TCP the first of each connection, of all others each.

        A connection from before may still say its goodbye; it is no way through.
        """
        time.sleep(wait)
        wanted = socket.inet_aton(address)
        found = []
        for frame in self.frames():
            if len(frame) < 34 or frame[12:14] != b"\x08\x00" or frame[30:34] != wanted:
                continue
            packet = frame[14 + (frame[14] & 15) * 4 :]
            # The flags SYN without ACK.
            if frame[23] == TCP and (len(packet) < 14 or packet[13] & 0x12 != 2):
                continue
            if port is None or (frame[23] in (TCP, 17) and struct.unpack("!H", packet[2:4])[0] == port):
                found.append(frame)
        return found


class HostPort:
    """A port of a sprites' bridge that belongs to the host: what a sprite is not allowed to send can be sent here.

    Use as a context manager, as root. So a test shows that a frame is kept back because a sprite sent it, and not
    because it is broken or nobody would notice it.
    """

    def __init__(self, bridge: str) -> None:
        mark = uuid.uuid4().hex[:6]
        self.bridge, self.outer, self.inner = bridge, f"spc{mark}", f"spd{mark}"

    def __enter__(self) -> "HostPort":
        link = ["ip", "link"]
        self._run(*link, "add", self.outer, "type", "veth", "peer", "name", self.inner)
        try:
            self._run(*link, "set", self.outer, "master", self.bridge, "up")
            self._run(*link, "set", self.inner, "up")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The daemon does not remove its bridge while anything is connected to it.
        subprocess.run(["ip", "link", "delete", self.outer], capture_output=True)

    def send(self, frame: bytes) -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind((self.inner, 0))
            wire.send(frame)

    @staticmethod
    def _run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, timeout=20)


class Listener:
    """A service of the host, on every address of it; notes who came. Use as a context manager."""

    greeting = "hello from the host"

    def __init__(self) -> None:
        if socket.has_dualstack_ipv6():
            self._socket = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            self._socket = socket.create_server(("0.0.0.0", 0))
        self.port: int = self._socket.getsockname()[1]
        #: Addresses of all whose connection was made.
        self.accepted: list[str] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Listener":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing alone does not wake accept().
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(timeout=10)

    def _serve(self) -> None:
        while True:
            try:
                connection, peer = self._socket.accept()
            except OSError:
                return
            self.accepted.append(peer[0].removeprefix("::ffff:"))
            with connection:
                connection.sendall(self.greeting.encode() + b"\n")


# Frames byte by byte.

EVERYBODY = b"\xff" * 6


def hardware_address(address: str, kind: int = 2) -> bytes:
    """As the daemon gives them: of a sprite's eth0, or, with 0 as the kind, of the bridge."""
    return bytes([2, kind]) + socket.inet_aton(address)


def ethernet(target: bytes, source: bytes, kind: int, payload: bytes) -> bytes:
    return target + source + struct.pack("!H", kind) + payload


def udp(data: bytes, port: int = 9999) -> bytes:
    """From port 9998, without a checksum."""
    return struct.pack("!HHHH", 9998, port, 8 + len(data), 0) + data


def ipv4(source: str, target: str, payload: bytes, protocol: int = 17) -> bytes:
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0) + addresses
    total = sum(struct.unpack("!10H", head))
    total = (total >> 16) + (total & 0xFFFF)
    total += total >> 16
    return head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:] + payload


def icmp_question(data: bytes) -> bytes:
    """For an echo: what `ping` sends."""
    head = struct.pack("!BBHHH", 8, 0, 0, 77, 1) + data + bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(head) // 2}H", head))
    total = (total >> 16) + (total & 0xFFFF)
    total += total >> 16
    return head[:2] + struct.pack("!H", ~total & 0xFFFF) + head[4:]


def ipv6(data: bytes) -> bytes:
    """To all on the link, with nothing in it but the data."""
    every = socket.inet_pton(socket.AF_INET6, "ff02::1")
    addresses = socket.inet_pton(socket.AF_INET6, "fe80::1") + every
    return struct.pack("!IHBB", 6 << 28, len(data), 59, 64) + addresses + data


def arp(operation: int, sender: bytes, address: str, target: str, mark: bytes = b"") -> bytes:
    """A question (1) or an answer (2) that says that a hardware address has an IPv4 one; marked in its padding."""
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    return head + sender + socket.inet_aton(address) + EVERYBODY + socket.inet_aton(target) + mark
