# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The daemon dies at every step of a layer's mount; the next one mounts it, and no JuiceFS is left that nobody owns."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from test_fault_points import POINTS
from test_runtimes import build, juicefs, write_recipe

from support.api import Api
from support.daemon import Daemon
from support.exec import shell
from support.host import host_state
from support.model import CONNECTION_LOST
from support.wait import eventually


@pytest.mark.timeout(600)
def test_a_mount_that_dies_at_any_step_is_made_again(
    new_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = new_daemon()
    version = build(daemon, write_recipe(tmp_path))
    daemon.tool("runtimes", "use", version)
    daemon.terminate()
    daemon.tool("cleanup")
    before = host_state(daemon.tag, daemon.data_directory)
    for number, point in enumerate(point for point in POINTS if point.startswith("layer.")):
        daemon.start(environment={"SPRITED_FAULT_POINT": point})
        assert daemon.process is not None
        with pytest.raises(CONNECTION_LOST):
            daemon.api().create(f"dies-{number}")
        eventually(lambda: not daemon.runs, f"the daemon reaches {point}", 20)
        assert daemon.process.returncode == -signal.SIGKILL, daemon.tail()

        daemon.start()
        api = daemon.api()
        assert greeting(api, f"lives-{number}") == "hello from the layer\n", point
        # One mount: the process that watches, and the one that serves.
        eventually(lambda: len(juicefs(daemon)) == 2, f"after {point} one JuiceFS is left of {juicefs(daemon)}", 20)
        for sprite in api.all_sprites():
            api.destroy(sprite["name"])
        assert daemon.terminate() == 0
        daemon.tool("cleanup")
        assert not juicefs(daemon), point
        left = host_state(daemon.tag, daemon.data_directory).added_since(before)
        assert left == {}, f"after {point} left on the host: {left}"


def greeting(api: Api, name: str) -> str:
    api.create(name)
    return shell(api, name, "greet")
