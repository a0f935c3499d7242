#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Times whole operations as one types them, start of the command included: sprite, and LXD, Incus and Docker if there.

Usage: sudo scripts/compare.py [--runs N] [--only sprite|lxc|incus|docker]

Medians and 95th percentiles in milliseconds. sprite needs a running sprited with a base; the others a running daemon of
theirs with an image named `compare` (LXD, Incus: on a btrfs pool; Docker: one with `sleep` and `true`).
"""

import argparse
import itertools
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable

#: One operation: commands that are timed together, and those before and after that are not.
Steps = tuple[list[str], list[str], list[str]]


def sprite(name: str) -> dict[str, Steps]:
    make, drop, run = f"sprite create {name}", f"sprite destroy --force {name}", f"sprite exec -s {name} -- true"
    return {
        "create, and it runs": ([], [make, run], [drop]),
        "run true in it": ([make, run], [run], [drop]),
        "checkpoint": ([make, run], [f"sprite checkpoint create -s {name}"], [drop]),
        "restore, and it runs again": (
            [make, f"sprite checkpoint create -s {name}"], [f"sprite restore -s {name} v1", run], [drop]),
        "fork, and it runs": (
            [make, run], [f"sprite fork {name} {name}-f", f"sprite exec -s {name}-f -- true"],
            [drop, f"sprite destroy --force {name}-f"]),
    }  # fmt: skip


def containers(tool: str, name: str) -> dict[str, Steps]:
    make, drop, run = f"{tool} launch compare {name}", f"{tool} delete -f {name}", f"{tool} exec {name} -- true"
    return {
        "create, and it runs": ([], [make, run], [drop]),
        "run true in it": ([make, run], [run], [drop]),
        "checkpoint": ([make, run], [f"{tool} snapshot {name} s"], [drop]),
        "restore, and it runs again": (
            [make, f"{tool} snapshot {name} s"], [f"{tool} restore {name} s", run], [drop]),
        "fork, and it runs": (
            [make, run], [f"{tool} copy {name} {name}-f", f"{tool} start {name}-f", f"{tool} exec {name}-f -- true"],
            [drop, f"{tool} delete -f {name}-f"]),
    }  # fmt: skip


def docker(name: str) -> dict[str, Steps]:
    make = f"docker run -d --name {name} compare sleep 3600"
    drop, run = f"docker rm -f {name}", f"docker exec {name} true"
    return {
        "create, and it runs": ([], [make, run], [drop]),
        "run true in it": ([make, run], [run], [drop]),
        "checkpoint": ([make, run], [f"docker commit {name} compare-{name}"], [drop, f"docker rmi compare-{name}"]),
    }  # fmt: skip


TOOLS: dict[str, Callable[[str], dict[str, Steps]]] = {
    "sprite": sprite,
    "lxc": lambda name: containers("lxc", name),
    "incus": lambda name: containers("incus", name),
    "docker": docker,
}


def call(commands: list[str]) -> None:
    for command in commands:
        done = subprocess.run(command.split(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{command}: status {done.returncode}: {done.stderr.strip()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--only", choices=TOOLS, action="append")
    options = parser.parse_args()
    names = (f"compare-{number}" for number in itertools.count())
    for tool in options.only or [tool for tool in TOOLS if shutil.which(tool)]:
        for operation in TOOLS[tool]("any"):
            times = []
            for _ in range(options.runs):
                before, timed, after = TOOLS[tool](next(names))[operation]
                call(before)
                start = time.perf_counter()
                try:
                    call(timed)
                    times.append((time.perf_counter() - start) * 1000)
                finally:
                    call(after)
            tail = sorted(times)[max(0, -(-len(times) * 95 // 100) - 1)]
            print(f"{tool:8}{operation:30}{statistics.median(times):9.1f} ms{tail:9.1f} ms (p95)", flush=True)


if __name__ == "__main__":
    main()
