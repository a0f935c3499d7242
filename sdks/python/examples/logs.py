# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Follows what a service prints."""

import uuid

from sprite_env import Client

with Client() as sprites:
    sprite = sprites.create(f"example-{uuid.uuid4().hex[:8]}")
    try:
        sprite.services.create("ticker", "sh", ["-c", "for i in 1 2 3; do echo tick $i; sleep 0.2; done; sleep 60"])
        seen = 0
        for event in sprite.services.logs("ticker", follow=30):
            if event.type == "stdout":
                for line in event.data.splitlines():
                    print(line)
                    seen += 1
            if seen == 3:
                break
    finally:
        sprite.destroy()
