# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Tiny root file systems: imported in a moment, and unlike Debian."""

import io
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
MUSL_LOADER = Path("/lib/ld-musl-x86_64.so.1")


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def tiny_root(path: Path, *, with_musl: Path | None = None) -> Path:
    """A root with busybox and nothing else; on request with the C library and a program of an Alpine-like system."""
    assert BUSYBOX.exists(), "busybox is missing: scripts/install-deps.sh --test"
    with tarfile.open(path, "w") as tar:
        for folder in ("bin", "etc", "home", "home/sprite", "lib", "proc", "dev", "sys", "tmp", "run", "root"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            if folder == "home/sprite":
                entry.uid = entry.gid = 1000
            tar.addfile(entry)
        _add(tar, "bin/busybox", BUSYBOX.read_bytes(), 0o755)
        for applet in ("sh", "cat", "ls", "rm", "sleep", "dd", "sync", "test"):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        _add(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nsprite:x:1000:1000::/home/sprite:/bin/sh\n")
        _add(tar, "etc/group", b"root:x:0:\nsprite:x:1000:\n")
        if with_musl:
            _add(tar, "lib/ld-musl-x86_64.so.1", MUSL_LOADER.resolve().read_bytes(), 0o755)
            _add(tar, "bin/with-musl", with_musl.read_bytes(), 0o755)
    return path
