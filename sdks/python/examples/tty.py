# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Uses a terminal, leaves it and comes back."""

import uuid

from sprite_env import Client, TerminalSize

with Client() as sprites:
    sprite = sprites.create(f"example-{uuid.uuid4().hex[:8]}")
    try:
        command = sprite.command('stty size; read x; echo "got $x"', tty=TerminalSize(rows=30, cols=100))
        with command.start() as process:
            print(process.stdout.readline().decode().strip())
            session = process.started()
            process.detach()
        with sprite.attach(session) as process:
            print(process.stdout.readline().decode().strip(), "again")
            process.stdin.write("hello\n")
            print(process.stdout.read().decode().split()[-2:])
            print("exit code", process.wait())
    finally:
        sprite.destroy()
