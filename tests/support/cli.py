# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The real `sprite` program, run as a user runs it: with a home and a folder of its own."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from support import programs
from support.daemon import Daemon


class Cli:
    """Runs commands of `sprite` against one daemon."""

    def __init__(self, daemon: Daemon, home: Path) -> None:
        self.home = home
        self.folder = home / "project"
        self.folder.mkdir(parents=True)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "SPRITES_API_URL": daemon.url,
            "SPRITE_TOKEN": daemon.token,
        }

    def __call__(
        self, *arguments: str, expect: int | None = 0, input: bytes | None = None, timeout: float = 60
    ) -> "subprocess.CompletedProcess[bytes]":
        """Runs a command; fails unless it ends with `expect` (None: any)."""
        done = subprocess.run(
            [str(programs.sprite()), *arguments], input=input if input is not None else b"", capture_output=True,
            env=self.environment, cwd=self.folder, timeout=timeout,
        )  # fmt: skip
        if expect is not None:
            text = f"sprite {' '.join(arguments)} ended with {done.returncode}: {done.stdout!r} {done.stderr!r}"
            assert done.returncode == expect, text
        return done

    def text(self, *arguments: str) -> str:
        return self(*arguments).stdout.decode()

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json").stdout)
