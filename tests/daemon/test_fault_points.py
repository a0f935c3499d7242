# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The daemon dies at every named moment of every operation; after a restart nothing acknowledged is lost, what was not
acknowledged is absent or complete, and other sprites have not noticed."""

import os
import random
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support import programs
from support.api import Api
from support.consistency import check
from support.daemon import Daemon
from support.host import footprint, host_state
from support.model import SpriteModel, Unfinished, post_exec
from support.wait import eventually

SOURCE = Path(__file__).parents[2] / "Sources/SpriteDomain/FaultPoint.swift"
POINTS = re.findall(r'case \w+ = "([a-z.-]+)"', SOURCE.read_text())
#: Tested where there is a layer, or where more is done with services.
ELSEWHERE = ("base.", "layer.", "service.")
#: The second and third time: in a restore and in a fork. What makes a fork is what makes a sprite, and more.
LATER = [f"{point}:{time}" for point in POINTS if point.startswith("boot.") for time in (2, 3)]
LATER += [f"{point}:2" for point in POINTS if point.startswith("create.") and point != "create.initial-kept"]


def operations(api: Api, model: SpriteModel, fork: SpriteModel) -> None:
    """One of each; raises Unfinished where the daemon dies."""
    model.create(api)
    model.write(api)
    rules = {"rules": [{"domain": "example.org", "action": "allow"}]}
    model._call(lambda: api.call("POST", f"/v1/sprites/{model.name}/policy/network", {200, 204}, json=rules))
    model.checkpoint(api)  # v1
    model.write(api)
    model.checkpoint(api)  # v2
    delete_first(api, model)
    model.write(api)
    model.restore(api, random.Random(1))
    definition = {"cmd": "sleep", "args": ["1000"]}
    model._call(lambda: api.call("PUT", f"/v1/sprites/{model.name}/services/sleeper", {200}, json=definition))
    model.checkpoint(api)
    fork.exists = {False, True}
    (content,) = model.live
    fork.live, fork.checkpoints = {content}, {"v0": content}
    model._call(lambda: api.call("POST", f"/v1/sprites/{model.name}/fork", {201}, json={"name": fork.name}))
    fork.exists = {True}
    fork.write(api)
    fork.checkpoint(api)
    fork.destroy(api)


def delete_first(api: Api, model: SpriteModel) -> None:
    model.unfinished_deletion = "v1"
    model._call(lambda: api.call("DELETE", f"/v1/sprites/{model.name}/checkpoints/v1", 204))
    del model.checkpoints["v1"]
    model.unfinished_deletion = None


@pytest.mark.timeout(1500)
def test_a_daemon_that_dies_at_any_step_loses_nothing(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(started=False)
    before = host_state(daemon.tag, daemon.data_directory)
    daemon.start()
    api = daemon.api()
    api.create("bystander")
    post_exec(api, "bystander", "setsid sleep 10000 </dev/null >/dev/null 2>&1 & sleep 0.1")
    sleeping = post_exec(api, "bystander", "pgrep -x sleep")
    # What is made ahead is there after the first sprite that was made and has gone.
    api.create("first")
    api.destroy("first")
    at_rest = settled(daemon)
    chance = random.Random(0)
    for number, point in enumerate([point for point in POINTS if not point.startswith(ELSEWHERE)] + LATER):
        daemon.terminate()
        models = [SpriteModel(f"fault-{number}"), SpriteModel(f"fork-{number}")]
        try:
            die_at(daemon, point, models)
            daemon.start()
            check(daemon, models, chance, False, "bystander")
        except BaseException:
            print(f"at {point}")
            raise
        api = daemon.api()
        assert post_exec(api, "bystander", "pgrep -x sleep") == sleeping, f"at {point}"
        for model in models:
            if model.exists == {True}:
                api.destroy(model.name)
        same_as(daemon, at_rest, point)
    api.destroy("bystander")
    assert daemon.terminate() == 0
    daemon.tool("cleanup")
    left = host_state(daemon.tag, daemon.data_directory).added_since(before)
    assert left == {}, f"left on the host: {left}"


def settled(daemon: Daemon) -> dict[str, int]:
    """The footprint once nothing is made or taken away behind an answer any more."""
    seen: list[dict[str, int]] = []

    def is_settled() -> bool:
        seen.append(footprint(daemon.tag, daemon.data_directory))
        return len(seen) > 5 and all(one == seen[-1] for one in seen[-5:])

    eventually(is_settled, "the host comes to rest", 30, 0.3)
    return seen[-1]


def same_as(daemon: Daemon, at_rest: dict[str, int], point: str) -> None:
    def changed() -> dict[str, tuple[int, int]]:
        now = footprint(daemon.tag, daemon.data_directory)
        kinds = [kind for kind in at_rest | now if at_rest.get(kind) != now.get(kind)]
        return {kind: (at_rest.get(kind, 0), now.get(kind, 0)) for kind in kinds}

    try:
        eventually(lambda: not changed(), f"after {point} the host holds as much as before", 20, 0.1)
    except AssertionError as error:
        raise AssertionError(f"{error}: {changed()}") from None


def die_at(daemon: Daemon, point: str, models: list[SpriteModel]) -> None:
    daemon.start(environment={"SPRITED_FAULT_POINT": point})
    assert daemon.process is not None
    api = daemon.api()
    try:
        operations(api, *models)
    except Unfinished:
        pass
    finally:
        api.close()
    eventually(lambda: not daemon.runs, f"the daemon reaches {point}", 10)
    assert daemon.process.returncode == -signal.SIGKILL, daemon.tail()


def test_an_import_that_dies_leaves_the_old_base_or_the_new_one(
    new_daemon: Callable[..., Daemon], base: Path
) -> None:
    daemon = new_daemon()
    for point in [point for point in POINTS if point.startswith("base.")]:
        # One that is new, and a new version of one that is there.
        for name in ("fresh", "default"):
            command = [str(programs.sprited()), "base", "import", "--data-dir", str(daemon.data_directory)]
            command += ["--name", name, str(base)]
            environment = {**os.environ, "SPRITED_FAULT_POINT": point}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
            assert done.returncode == -signal.SIGKILL, (point, done.returncode, done.stderr)
            listed = daemon.tool("base", "list", "--json")
            assert '"default"' in listed, (point, listed)
            if '"fresh"' in listed:
                daemon.tool("base", "remove", "fresh")
            api = daemon.api()
            api.create("of-base")
            assert post_exec(api, "of-base", "echo works") == "works\n"
            api.destroy("of-base")
    daemon.restart()
    daemon.tool("base", "import", "--name", "fresh", str(base))
