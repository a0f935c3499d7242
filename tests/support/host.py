# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What of a daemon is on the host: nothing may be left when its sprites are gone."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

#: Set where nothing else runs: then everything that changed counts, not only what bears the daemon's names.
EXCLUSIVE = os.environ.get("SPRITE_HOST_EXCLUSIVE") == "1"


@dataclass(frozen=True)
class HostState:
    """Names of everything a daemon could leave behind."""

    links: frozenset[str] = field(default_factory=frozenset)
    tables: frozenset[str] = field(default_factory=frozenset)
    cgroups: frozenset[str] = field(default_factory=frozenset)
    loop_devices: frozenset[str] = field(default_factory=frozenset)
    processes: frozenset[str] = field(default_factory=frozenset)
    mounts: frozenset[str] = field(default_factory=frozenset)
    network_namespaces: frozenset[str] = field(default_factory=frozenset)
    run_directories: frozenset[str] = field(default_factory=frozenset)

    def added_since(self, before: "HostState") -> dict[str, list[str]]:
        """What is here and was not there before, by kind; empty if nothing is."""
        added: dict[str, list[str]] = {}
        for kind in fields(self):
            new: frozenset[str] = getattr(self, kind.name) - getattr(before, kind.name)
            if new:
                added[kind.name] = sorted(new)
        return added


def host_state(tag: str, data_directory: Path) -> HostState:
    """The state of the host as far as it concerns one daemon, or as a whole on a host of our own."""
    marks = [""] if EXCLUSIVE else [tag, str(data_directory)]
    processes = list(_processes())
    ours = [entry for entry in processes if _mentions(entry[1], marks)]
    return HostState(
        links=_lines(["ip", "-o", "link"], marks, column=1),
        tables=_lines(["nft", "list", "tables"], marks),
        cgroups=frozenset(path for path in _cgroups() if _mentions(path, marks)),
        loop_devices=_lines(["losetup", "--noheadings", "--list", "--output", "NAME,BACK-FILE"], marks),
        processes=frozenset(f"{pid} {text}" for pid, text in ours if not EXCLUSIVE),
        mounts=frozenset(line for line in _mounts([pid for pid, _ in processes]) if _mentions(line, marks)),
        network_namespaces=frozenset(_network_namespaces() if EXCLUSIVE else []),
        run_directories=frozenset(name for name in _names("/run/sprited") if _mentions(name, marks)),
    )


def _mentions(text: str, marks: list[str]) -> bool:
    return any(mark in text for mark in marks)


def _lines(command: list[str], marks: list[str], column: int | None = None) -> frozenset[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if _mentions(line, marks)]
    return frozenset(line if column is None else line.split(":")[column].strip() for line in lines)


def _names(directory: str) -> list[str]:
    return os.listdir(directory) if os.path.isdir(directory) else []


def _cgroups() -> Iterator[str]:
    """Directories of every hierarchy, v1 and v2, down to those of a sprite."""
    for top, directories, _ in os.walk("/sys/fs/cgroup"):
        depth = top.count("/") - 3
        if depth > 4:
            directories.clear()
        for directory in directories:
            if "sprite" in f"{top}/{directory}":
                yield f"{top}/{directory}"


def _processes() -> Iterator[tuple[int, str]]:
    """Process ids with command line and cgroups, in which a sprite's processes bear the daemon's tag."""
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            command = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            groups = Path(f"/proc/{name}/cgroup").read_text().replace("\n", " ")
            # Of a sprite whose daemon was killed, the host's own process 1 is the parent, and it takes its time.
            is_zombie = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if is_zombie:
            continue
        if command.startswith(("python", "/usr/bin/python", "pytest")) or "pytest" in command:
            continue
        yield int(name), f"{command} {groups}"


def _mounts(pids: list[int]) -> Iterator[str]:
    """Mounts of every mount namespace on the host, each once."""
    seen: set[str] = set()
    for pid in [1, os.getpid(), *pids]:
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            if namespace in seen:
                continue
            seen.add(namespace)
            text = Path(f"/proc/{pid}/mountinfo").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            yield " ".join(line.split()[3:])


def _network_namespaces() -> list[str]:
    done = subprocess.run(["lsns", "--json", "--type", "net"], capture_output=True, text=True, check=True)
    return [str(entry["ns"]) for entry in json.loads(done.stdout or '{"namespaces":[]}')["namespaces"]]


def footprint(tag: str, data_directory: Path) -> dict[str, int]:
    """How much a daemon with its sprites has on the host, by kind: the same again once the same sprites are there."""
    state = host_state(tag, data_directory)
    counts = {kind.name: len(getattr(state, kind.name)) for kind in fields(state) if kind.name != "mounts"}
    for top, directories, files in os.walk(f"/run/sprited/{tag}"):
        inside = top.removeprefix(f"/run/sprited/{tag}")
        # Down to what each sprite has a folder or file in; what lies in those is seen from within.
        if inside.count("/") >= 2 or "mount" in directories:
            directories.clear()
        counts[f"run{inside}"] = len(directories) + len(files)
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    ours = rules.partition(f"sprited_{tag} ")[2].partition("\n}")[0]
    counts["chains"] = ours.count("chain ")
    counts["addresses"] = len(re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", ours))
    return counts


def subvolumes(daemon_pid: int, pool: Path) -> list[str]:
    """Paths of the pool's subvolumes; the pool is mounted in the daemon's mount namespace only."""
    command = ["nsenter", "-t", str(daemon_pid), "-m", "btrfs", "subvolume", "list", str(pool)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return sorted(line.split(" path ", 1)[1] for line in done.stdout.splitlines())


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0
