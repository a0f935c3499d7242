# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Where the programs under test are."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def _program(variable: str, *candidates: str) -> Path:
    """The program named by an environment variable, else the newest of those that were built."""
    if named := os.environ.get(variable):
        return Path(named)
    built = [path for path in (REPOSITORY / candidate for candidate in candidates) if path.exists()]
    if not built:
        raise FileNotFoundError(f"none of {', '.join(candidates)} was built; build it or set {variable}")
    return max(built, key=lambda path: path.stat().st_mtime)


def sprited() -> Path:
    return _program("SPRITED_BINARY", ".build/release/sprited", ".build/debug/sprited")


def sprite() -> Path:
    return _program("SPRITE_BINARY", ".build/release/sprite", ".build/debug/sprite")


def guest() -> Path:
    """The static `sprite-env` that runs as PID 1 inside."""
    return _program("SPRITE_ENV_BINARY", ".build-static/release/sprite-env", ".build/release/sprite-env")
