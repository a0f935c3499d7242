# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The base image that the tests share: a tar of a small Debian root, made once."""

import os
import subprocess
from pathlib import Path

#: What the tests call inside a sprite; kept small, since every data directory imports it.
PACKAGES = "sudo,python3-minimal,procps,iproute2,iputils-ping,ca-certificates,mount,strace,util-linux,vim-tiny"


def base_tar(scratch: Path) -> Path:
    """SPRITE_TEST_BASE_TAR, or one that is made now."""
    if named := os.environ.get("SPRITE_TEST_BASE_TAR"):
        return Path(named)
    made = scratch / "base.tar"
    if not made.exists():
        command = ["mmdebstrap", "--quiet", "--variant=apt", f"--include={PACKAGES}", host_suite(), str(made)]
        subprocess.run(command, check=True, timeout=600)
    return made


def host_suite() -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        key, _, value = line.partition("=")
        if key == "VERSION_CODENAME":
            return value.strip('"')
    raise LookupError("/etc/os-release names no VERSION_CODENAME; set SPRITE_TEST_BASE_TAR")
