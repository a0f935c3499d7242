# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Talks to a command that runs."""

import uuid

from sprite_env import Client

with Client() as sprites:
    sprite = sprites.create(f"example-{uuid.uuid4().hex[:8]}")
    try:
        with sprite.command('while read x; do echo "got $x"; done; echo bye >&2').start() as process:
            for word in ("one", "two"):
                process.stdin.write(f"{word}\n")
                print(process.stdout.readline().decode(), end="")
            process.stdin.close()
            print(process.stderr.read().decode(), end="")
            print("exit code", process.wait())
    finally:
        sprite.destroy()
