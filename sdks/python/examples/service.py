# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Keeps a command running."""

import uuid

from sprite_env import Client

with Client() as sprites:
    sprite = sprites.create(f"example-{uuid.uuid4().hex[:8]}")
    try:
        sprite.services.create("worker", "sh", ["-c", "while :; do sleep 1; done"])
        print(sprite.services.get("worker").status)
        sprite.services.stop("worker")
        print(sprite.services.get("worker").status)
        sprite.services.start("worker")
        print([(service.name, service.status) for service in sprite.services.list()])
        sprite.services.delete("worker")
    finally:
        sprite.destroy()
