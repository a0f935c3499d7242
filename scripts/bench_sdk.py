#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What the client libraries cost, against the server that SPRITES_API_URL and SPRITE_TOKEN name.

Usage: scripts/bench_sdk.py [--count 300] [--bytes 1000000000]

For each library: the median time of 'true' run to its end, beside that of the bare WebSocket exchange on a control
connection (a frame sent, frames read, no library at all), and the throughput of one large standard output. Run it with
the Python of the tests (make bench-sdk), against a release build.
"""

import argparse
import base64
import os
import socket
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
os.environ.setdefault("SPRITED_BINARY", str(Path(__file__).resolve().parents[1] / ".build/release/sprited"))

from sdk import languages  # noqa: E402
from sdk.driver import Driver, DriverError  # noqa: E402


def bare(sprite: str, count: int) -> list[float]:
    """Milliseconds from the frame that starts 'true' until its op.complete was read."""
    url = urlsplit(os.environ["SPRITES_API_URL"])
    connection = socket.create_connection((url.hostname, url.port or 80))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET /v1/sprites/{sprite}/control HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Authorization: Bearer {os.environ['SPRITE_TOKEN']}\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(4096)
    body = b'control:{"type":"op.start","op":"exec","args":{"cmd":["true"],"stdin":"false"}}'
    # The mask is zeros: what it costs is not measured here.
    frame = bytes([0x81, 0x80 | len(body)]) + bytes(4) + body
    times = []
    for _ in range(count):
        started = time.perf_counter()
        connection.sendall(frame)
        received = b""
        while b"op.complete" not in received or not received.endswith(b"}"):
            received += connection.recv(65536)
        times.append((time.perf_counter() - started) * 1000)
    connection.close()
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures the client libraries.")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--bytes", type=int, default=1_000_000_000)
    arguments = parser.parse_args()
    name = f"bench-{uuid.uuid4().hex[:8]}"
    print(f"{'library':8} {'true, ms':>9} {'bare, ms':>9} {'overhead':>9} {'MB/s':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for language in languages.chosen():
            place = Path(folder) / language
            place.mkdir()
            driver = Driver(languages.install(language, place).driver, {}, place / "driver.log")
            try:
                driver.call("create", name=name)
                driver.call("measure", sprite=name, count=20, bytes=1_000_000)  # Warm.
                exchange = bare(name, arguments.count)
                found = driver.call("measure", 600, sprite=name, count=arguments.count, bytes=arguments.bytes)
                exchange += bare(name, arguments.count)
                ours, theirs = statistics.median(found["times"]), statistics.median(exchange)
                rate = found["bytes"] / found["seconds"] / 1e6
                print(f"{language:8} {ours:9.2f} {theirs:9.2f} {ours - theirs:9.2f} {rate:6.0f}", flush=True)
            finally:
                try:
                    driver.call("destroy", sprite=name)
                except DriverError as error:
                    print(error, file=sys.stderr)
                driver.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
