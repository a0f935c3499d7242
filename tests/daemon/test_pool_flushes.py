# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The loop device below a pool passes flushes on, whatever its last user had it do."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import programs
from support.daemon import Daemon
from support.exec import shell


@pytest.fixture
def pooled(new_daemon: Callable[..., Daemon]) -> Iterator[tuple[Daemon, Path]]:
    """A daemon with the setting of its own loop device, which is put back whatever happens: it outlives the pool."""
    daemon = new_daemon("--pool-size", "1G")
    command = ["losetup", "--noheadings", "--output", "NAME", "--associated", str(daemon.data_directory / "pool.img")]
    devices = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert len(devices) == 1, devices
    setting = Path("/sys/block") / Path(devices[0]).name / "queue/write_cache"
    try:
        yield daemon, setting
    finally:
        setting.write_text("write back")


def doctor(daemon: Daemon) -> str:
    command = [str(programs.sprited()), "doctor", "--data-dir", str(daemon.data_directory)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    return next(line for line in said.splitlines() if " pool device " in line)


def test_a_device_that_keeps_flushes_to_itself_is_set_back(pooled: tuple[Daemon, Path]) -> None:
    daemon, setting = pooled
    api = daemon.api()
    # Keeps the device over the end of the daemon.
    api.create("one")
    assert setting.read_text() == "write back\n"
    assert doctor(daemon).startswith("ok ")
    setting.write_text("write through")
    assert setting.read_text() == "write through\n"
    assert doctor(daemon).startswith("warning ") and "write through" in doctor(daemon)
    daemon.restart()
    assert setting.read_text() == "write back\n"
    assert doctor(daemon).startswith("ok ")
    assert "loop device of the pool did not pass flushes on; set to write back" in daemon.log.read_text()
    assert shell(daemon.api(), "one", "echo here") == "here\n"
