# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Writes, reads and copies files, one by one and whole folders."""

import tempfile
import uuid
from pathlib import Path

from sprite_env import Client, FileMissing

with Client() as sprites:
    sprite = sprites.create(f"example-{uuid.uuid4().hex[:8]}")
    try:
        sprite.files.write("notes/today.txt", "remember\n")
        print(sprite.files.read_text("notes/today.txt"), end="")
        print([entry.name for entry in sprite.files.list("notes")])
        try:
            sprite.files.read("notes/tomorrow.txt")
        except FileMissing as error:
            print(error.code)
        with tempfile.TemporaryDirectory() as folder:
            sprite.files.download("notes", folder)
            Path(folder, "more.txt").write_text("more\n")
            print("uploaded", sprite.files.upload(folder, "copy"))
        print(sprite.command("cat copy/*").output(), end="")
    finally:
        sprite.destroy()
