# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Makes a second sprite from the first."""

import uuid

from sprite_env import Client

with Client() as sprites:
    sprite = sprites.create(f"example-{uuid.uuid4().hex[:8]}")
    try:
        sprite.files.write("state", "shared\n")
        twin = sprite.fork(sprite.name + "-twin")
        try:
            twin.command("echo other > state").run()
            print(sprite.files.read_text("state"), end="")
            print(twin.files.read_text("state"), end="")
        finally:
            twin.destroy()
    finally:
        sprite.destroy()
