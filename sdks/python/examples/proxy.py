# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Reaches a port of the sprite through a local one."""

import socket
import uuid

from sprite_env import Client

with Client() as sprites:
    sprite = sprites.create(f"example-{uuid.uuid4().hex[:8]}")
    try:
        server = (
            "import socket\nlistener = socket.create_server(('127.0.0.1', 4000))\nprint('ready', flush=True)\n"
            "while True:\n    peer, _ = listener.accept()\n"
            "    peer.sendall(b'hello ' + peer.recv(100))\n    peer.close()\n"
        )
        with sprite.command(["python3", "-c", server]).start() as process:
            print(process.stdout.readline().decode(), end="")
            with sprite.forward(4000) as forward:
                with socket.create_connection(("127.0.0.1", forward.local_port)) as connection:
                    connection.sendall(b"port")
                    print(connection.makefile().read())
    finally:
        sprite.destroy()
