# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""An agent's loop: every step starts from a checkpoint, and a step that fails is undone."""

import uuid

from sprite_env import Client

with Client() as sprites:
    sprite = sprites.create(f"example-{uuid.uuid4().hex[:8]}")
    try:
        plan = ["echo a > work", "echo b >> work; exit 1", "echo c >> work"]
        for step in plan:
            before = sprite.checkpoints.create(step)
            result = sprite.command(step, timeout=30).run()
            if not result.ok:
                sprite.checkpoints.restore(before.id)
            print("kept" if result.ok else "undone", step)
        print(sprite.files.read_text("work").split())
    finally:
        sprite.destroy()
