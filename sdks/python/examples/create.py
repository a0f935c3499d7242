# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Creates a sprite, finds it again, lists and destroys it."""

import uuid

from sprite_env import Client, NotFound

with Client() as sprites:
    name = f"example-{uuid.uuid4().hex[:8]}"
    sprite = sprites.create(name, labels=["example"])
    print("created", sprites.get(name).info.labels)
    print("listed", [one.name == name for one in sprites.list(prefix=name)])
    sprite.destroy()
    try:
        sprites.get(name)
    except NotFound as error:
        print("destroyed", error.code)
