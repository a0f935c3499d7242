#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Finds what daemons and tests left on the host: nothing may be, once their sprites are gone.

Usage: scripts/leftovers.py --before FILE --scratch FOLDER     write down what is there now
       scripts/leftovers.py --after FILE --scratch FOLDER      print what is there and was not; status 1 if anything

Only what bears the names of this project counts. What belongs to a sprited that serves a data directory outside of
FOLDER does not: several daemons may run on one host.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

OURS = re.compile(r"sprited|sprite-env|sprite-tests|\bspr[0-9a-f]{8}|\bsv[0-9a-f]{8}")


def output(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def processes() -> Iterator[tuple[str, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                # The last line is the unified hierarchy: in it a sprite's processes bear the daemon's tag.
                group = (entry / "cgroup").read_text().strip().rpartition("\n")[2]
            except OSError:
                continue
            yield entry.name, f"{command} in {group}"


def mounts() -> Iterator[str]:
    """Of every mount namespace on the host, each once."""
    seen = set()
    for pid, _ in processes():
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            if namespace not in seen:
                seen.add(namespace)
                for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
                    yield " ".join(line.split()[3:5] + line.partition(" - ")[2].split()[:2])
        except OSError:
            continue


def cgroups() -> Iterator[str]:
    top = Path("/sys/fs/cgroup")
    for pattern in ("*", "*/*", "*/*/*"):
        yield from (str(path) for path in top.glob(pattern) if path.is_dir())


def host_state(scratch: str) -> set[str]:
    found = {f"link {line.split(':')[1].split('@')[0].strip()}" for line in output("ip", "-o", "link")}
    found |= {f"nft {line}" for line in output("nft", "list", "tables")}
    found |= {f"loop {line}" for line in output("losetup", "--noheadings", "--list", "--output", "NAME,BACK-FILE")}
    found |= {f"cgroup {path}" for path in cgroups()}
    found |= {f"mount {line}" for line in mounts()}
    if os.path.isdir("/run/sprited"):
        found |= {f"folder /run/sprited/{name}" for name in os.listdir("/run/sprited") if name != "network.lock"}
    found |= {f"folder {path}" for path in Path("/dev/shm").glob("sprited-*")}
    found |= {f"folder /dev/shm/{name}" for name in os.listdir("/dev/shm") if name.startswith("sprited-")}
    own = {str(os.getpid()), str(os.getppid())}
    program = re.compile(r"(\S*/)?(sprited|sprite-env|crun)( |$)")
    found |= {
        f"process {pid} {text}"
        for pid, text in processes()
        if pid not in own and (scratch in text or program.match(text)) and "leftovers.py" not in text
    }
    return {line for line in found if OURS.search(line) or scratch in line or line.startswith("process ")}


def foreign_marks(scratch: str) -> set[str]:
    """Tags and data directories of daemons that are none of ours."""
    marks = set()
    for _, text in processes():
        served = re.search(r"sprited (?:\S+ )*--data-dir[ =](\S+)", text)
        if served and not served.group(1).startswith(scratch):
            real = os.path.realpath(served.group(1))
            marks |= {host_tag(real), served.group(1), real}
    return marks


def host_tag(path: str) -> str:
    """As sprited makes it: FNV-1a of the data directory's real path, folded to 32 bits."""
    value = 0xCBF29CE484222325
    for byte in path.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{(value ^ value >> 32) & 0xFFFFFFFF:08x}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", type=Path)
    parser.add_argument("--after", type=Path)
    parser.add_argument("--scratch", required=True)
    arguments = parser.parse_args()
    state = host_state(arguments.scratch)
    if arguments.before:
        arguments.before.write_text(json.dumps(sorted(state)))
        return 0
    foreign = foreign_marks(arguments.scratch)
    before = set(json.loads(arguments.after.read_text()))
    added = sorted(line for line in state - before if not any(mark in line for mark in foreign))
    print(*(f"left on the host: {line}" for line in added), sep="\n", end="\n" if added else "")
    return 1 if added else 0


if __name__ == "__main__":
    sys.exit(main())
