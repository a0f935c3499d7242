# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Garbage on the exec WebSocket: the connection ends, the daemon and the others go on."""

import base64
import os
import socket
import struct
from urllib.parse import urlsplit

import pytest

from support.api import Api
from support.exec import shell
from support.wait import eventually


class RawSocket:
    """A WebSocket whose frames are made by hand."""

    def __init__(self, api: Api, sprite: str, query: str = "cmd=cat&stdin=true") -> None:
        place = urlsplit(api.url)
        self.socket = socket.create_connection((place.hostname, place.port), timeout=10)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /v1/sprites/{sprite}/exec?{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: Bearer {api.token}\r\n\r\n".encode()
        )
        self.received = b""
        while b"\r\n\r\n" not in self.received:
            self.received += self.socket.recv(65536)
        assert self.received.startswith(b"HTTP/1.1 101 "), self.received

    def frame(self, opcode: int, data: bytes, final: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
        first = (0x80 if final else 0) | reserved << 4 | opcode
        mask_bit = 0x80 if masked else 0
        if len(data) < 126:
            head = struct.pack("!BB", first, mask_bit | len(data))
        elif len(data) < 65536:
            head = struct.pack("!BBH", first, mask_bit | 126, len(data))
        else:
            head = struct.pack("!BBQ", first, mask_bit | 127, len(data))
        return head + (b"\0\0\0\0" if masked else b"") + data

    def close_code(self) -> int | None:
        """The code of the server's Close; None if the connection ended without one."""
        data = b""
        try:
            while chunk := self.socket.recv(65536):
                data += chunk
        except ConnectionError:
            pass
        position = data.rfind(b"\x88")
        return struct.unpack("!H", data[position + 2 : position + 4])[0] if position >= 0 else None


@pytest.mark.parametrize(
    ("opcode", "data", "options"),
    [
        (2, b"\x00data", {"masked": False}), (3, b"unknown opcode", {}), (2, b"reserved", {"reserved": 4}),
        (0, b"continues nothing", {}), (9, b"x" * 126, {}), (9, b"split ping", {"final": False}),
    ],
)  # fmt: skip
def test_a_frame_that_breaks_the_rules_closes_with_1002(
    api: Api, sprite: str, opcode: int, data: bytes, options: dict[str, int]
) -> None:
    raw = RawSocket(api, sprite)
    raw.socket.sendall(raw.frame(opcode, data, **options))  # type: ignore[arg-type]
    assert raw.close_code() in (1002, None)
    assert shell(api, sprite, "echo fine") == "fine\n"


def test_a_message_over_the_limit_closes_with_1009(api: Api, sprite: str) -> None:
    raw = RawSocket(api, sprite)
    try:
        raw.socket.sendall(struct.pack("!BBQ", 0x82, 0x80 | 127, 1 << 40) + b"\0\0\0\0")
        raw.socket.sendall(bytes(1 << 20))
    except ConnectionError:
        pass
    assert raw.close_code() in (1009, None)


def test_fragments_without_end_are_cut_off(api: Api, sprite: str) -> None:
    raw = RawSocket(api, sprite)
    sent = 0
    try:
        raw.socket.sendall(raw.frame(2, b"\0" + bytes(1 << 20), final=False))
        while sent < 512 << 20:
            raw.socket.sendall(raw.frame(0, bytes(1 << 20), final=False))
            sent += 1 << 20
    except (ConnectionError, TimeoutError):
        pass
    assert sent < 128 << 20


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_harm_nobody(api: Api, sprite: str, seed: int) -> None:
    raw = RawSocket(api, sprite)
    try:
        raw.socket.sendall(os.urandom(100_000))
        raw.socket.shutdown(socket.SHUT_WR)
        raw.close_code()
    except (ConnectionError, TimeoutError):
        pass
    finally:
        raw.socket.close()
    assert shell(api, sprite, "echo fine") == "fine\n"


@pytest.mark.parametrize("text", [b"", b"{", b"not json", b"[]", b"null", b'{"type":5}', b'{"type":"signal"}',
                                  b'{"type":"signal","signal":"NONE"}', b'{"type":"resize","cols":-1,"rows":1e99}',
                                  b'{"type":"resize","cols":99999999999,"rows":0}', b"[" * 50_000])  # fmt: skip
def test_text_that_says_nothing_is_ignored_or_refused(api: Api, sprite: str, text: bytes) -> None:
    for query in ("cmd=cat&stdin=true", "cmd=cat&tty=true"):
        raw = RawSocket(api, sprite, query)
        raw.socket.sendall(raw.frame(1, text))
        raw.socket.sendall(raw.frame(8, struct.pack("!H", 1000)))
        assert raw.close_code() in (1000, 1002, 1003, 1007, None)
    assert shell(api, sprite, "echo fine") == "fine\n"


def test_invalid_unicode_in_text_is_survived(api: Api, sprite: str) -> None:
    raw = RawSocket(api, sprite)
    raw.socket.sendall(raw.frame(1, b"\xff\xfe\xfd"))
    raw.socket.sendall(raw.frame(8, struct.pack("!H", 1000)))
    assert raw.close_code() in (1000, 1002, 1007, None)


def test_binary_frames_of_unknown_streams_are_ignored(api: Api, sprite: str) -> None:
    raw = RawSocket(api, sprite)
    for data in (b"", b"\x01out", b"\x02err", b"\x03\x00", b"\x09x", b"\xffx"):
        raw.socket.sendall(raw.frame(2, data))
    raw.socket.sendall(raw.frame(2, b"\0data") + raw.frame(2, b"\x04"))
    seen = raw.received.split(b"\r\n\r\n", 1)[1]

    def saw_exit() -> bool:
        nonlocal seen
        seen += raw.socket.recv(65536)
        return b"\x01data" in seen and b"\x82\x02\x03\x00" in seen

    eventually(saw_exit, "the echo and the exit frame")


def test_a_ping_is_answered(api: Api, sprite: str) -> None:
    raw = RawSocket(api, sprite, "cmd=sleep&cmd=5")
    raw.socket.sendall(raw.frame(9, b"are you there"))
    seen = b""

    def answered() -> bool:
        nonlocal seen
        seen += raw.socket.recv(65536)
        return b"\x8a\x0dare you there" in seen

    eventually(answered, "the pong")


def test_clients_that_never_read_do_not_fill_the_memory(api: Api, sprite: str) -> None:
    sockets = [RawSocket(api, sprite, "cmd=cat&cmd=%2Fdev%2Fzero") for _ in range(5)]
    assert shell(api, sprite, "echo fine") == "fine\n"
    for raw in sockets:
        raw.socket.close()
    eventually(lambda: api.sessions(sprite) == [], "the commands ended", 30)
