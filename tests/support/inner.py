# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The API inside a sprite, as programs in it use it."""

import json
from typing import Any

from support.api import Api
from support.exec import Result, run

#: Raw bytes over the socket, with the modules of a minimal Python.
RAW = r'''
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
s.connect("/.sprite/api.sock")
s.sendall(sys.stdin.buffer.read())
while data := s.recv(65536):
    sys.stdout.buffer.write(data)
'''


def env(api: Api, sprite: str, *arguments: str, **options: Any) -> Result:
    """`sprite-env` in the sprite."""
    return run(api, sprite, "/.sprite/bin/sprite-env", *arguments, **options)


def env_json(api: Api, sprite: str, *arguments: str, **options: Any) -> Any:
    done = env(api, sprite, *arguments, "--json", **options)
    assert done.code == 0, (arguments, done)
    return json.loads(done.stdout.splitlines()[-1])


def raw(api: Api, sprite: str, request: bytes, **options: Any) -> bytes:
    """Everything that comes back for some bytes sent to the socket."""
    done = run(api, sprite, "python3", "-c", RAW, input=request, **options)
    assert done.code == 0, done
    return done.stdout


def ask(api: Api, sprite: str, method: str, path: str, body: Any = None, **fields: str) -> tuple[int, Any]:
    """One request from inside: its status and what it was answered."""
    data = b"" if body is None else json.dumps(body).encode()
    head = [f"{method} {path} HTTP/1.1", "Host: sprite", "Connection: close", f"Content-Length: {len(data)}"]
    head += [f"{name}: {value}" for name, value in fields.items()]
    answer = raw(api, sprite, "\r\n".join([*head, "", ""]).encode() + data)
    head_bytes, _, rest = answer.partition(b"\r\n\r\n")
    status = int(head_bytes.split(b" ")[1])
    if b"transfer-encoding: chunked" in head_bytes.lower():
        rest = b"".join(_chunks(rest))
    try:
        return status, json.loads(rest) if rest else None
    except ValueError:
        return status, [json.loads(line) for line in rest.splitlines()]


def _chunks(data: bytes) -> list[bytes]:
    pieces = []
    while data:
        size, _, data = data.partition(b"\r\n")
        pieces.append(data[: int(size, 16)])
        data = data[int(size, 16) + 2 :]
    return pieces
