# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Takes a checkpoint and goes back to it."""

import uuid

from sprite_env import Client

with Client() as sprites:
    sprite = sprites.create(f"example-{uuid.uuid4().hex[:8]}")
    try:
        sprite.files.write("state", "good\n")
        checkpoint = sprite.checkpoints.create("before the experiment")
        print(checkpoint.id, checkpoint.comment)
        sprite.command("echo broken > state").run()
        sprite.checkpoints.restore(checkpoint.id)
        print(sprite.files.read_text("state"), end="")
        sprite.checkpoints.undo()
        print(sprite.files.read_text("state"), end="")
    finally:
        sprite.destroy()
