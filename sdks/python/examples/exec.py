# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Runs commands to their end."""

import uuid

from sprite_env import Client, CommandFailed, CommandTimeout

with Client() as sprites:
    sprite = sprites.create(f"example-{uuid.uuid4().hex[:8]}")
    try:
        print(sprite.command("echo hello from $(hostname | cut -c1-8)").output(), end="")
        result = sprite.command(["sh", "-c", "echo out; echo err >&2; exit 3"]).run()
        print(result.exit_code, result.stdout_text.strip(), result.stderr_text.strip())
        print(sprite.command(["tr", "a-z", "A-Z"]).run(b"input\n").stdout_text, end="")
        try:
            sprite.command("exit 7").output()
        except CommandFailed as error:
            print("failed with", error.exit_code)
        try:
            sprite.command("sleep 60", timeout=0.3).run()
        except CommandTimeout as error:
            print("ended:", error.code)
    finally:
        sprite.destroy()
