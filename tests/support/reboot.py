# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What a reboot takes away, without one."""

import shutil
import subprocess
import time

from support.daemon import Daemon
from support.host import host_state
from support.wait import eventually


def reboot(daemon: Daemon) -> None:
    """Everything that is only in memory goes, as when the host loses its power."""
    daemon.kill()
    for _ in range(50):
        left = host_state(daemon.tag, daemon.data_directory).processes
        if not left:
            break
        for entry in left:
            subprocess.run(["kill", "-9", entry.split()[0]], capture_output=True)
        time.sleep(0.1)
    state = host_state(daemon.tag, daemon.data_directory)
    assert not state.processes, state.processes
    for link in state.links:
        subprocess.run(["ip", "link", "delete", link.split("@")[0]], capture_output=True)
    for table in state.tables:
        subprocess.run(["nft", "delete", *table.split()], check=True)
    for group in sorted(state.cgroups, key=len, reverse=True):
        subprocess.run(["find", group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"], capture_output=True)
    for folder in (f"/run/sprited/{daemon.tag}", f"/dev/shm/sprited-{daemon.tag}"):
        shutil.rmtree(folder, ignore_errors=True)
    eventually(
        lambda: not host_state(daemon.tag, daemon.data_directory).loop_devices, "the pool is unmounted", 30,
    )  # fmt: skip
