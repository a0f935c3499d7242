# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""kill -9 of the daemon at random moments under load: nothing acknowledged is lost, nothing is left over."""

import os
import random
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.host import host_state, subvolumes
from support.model import SpriteModel, Unfinished

ROUNDS = int(os.environ.get("SPRITE_CRASH_ROUNDS", "200"))
SEED = int(os.environ.get("SPRITE_CRASH_SEED", str(random.randrange(1 << 32))))
SPRITES = 4
#: Restores that are compared after each round; the last round compares all.
COMPARED = 2
CHECKPOINTS_KEPT = 12
IDENTIFIER = re.compile("[0-9a-f]{16}")


@pytest.mark.timeout(60 * 60)
def test_a_daemon_that_is_killed_at_any_moment_loses_nothing(new_daemon: Callable[..., Daemon]) -> None:
    chance = random.Random(SEED)
    daemon = new_daemon(started=False)
    before = host_state(daemon.tag, daemon.data_directory)
    daemon.start()
    models = [SpriteModel(f"crash-{number}") for number in range(SPRITES)]
    print(f"seed {SEED}, {ROUNDS} rounds")
    for round_number in range(ROUNDS):
        try:
            run_round(daemon, models, chance)
            check(daemon, models, chance, everything=round_number == ROUNDS - 1)
        except BaseException:
            print(f"in round {round_number} of seed {SEED}")
            raise
    print(f"{sum(model.operations for model in models)} operations were acknowledged")
    api = daemon.api()
    for one in api.all_sprites():
        api.destroy(one["name"])
    assert daemon.terminate() == 0
    daemon.tool("cleanup")
    left = host_state(daemon.tag, daemon.data_directory).added_since(before)
    assert left == {}, f"left on the host: {left}"


def run_round(daemon: Daemon, models: list[SpriteModel], chance: random.Random) -> None:
    """Load from one thread a sprite until the daemon is killed; then it is started again."""
    failures: list[BaseException] = []
    killed = threading.Event()

    def load(model: SpriteModel, seed: int) -> None:
        own = random.Random(seed)
        api = daemon.api()
        try:
            while not killed.is_set():
                model.step(api, own)
        except Unfinished as unfinished:
            if not killed.wait(5):
                failures.append(AssertionError(f"{model.name}: connection lost before the kill: {unfinished}"))
        except BaseException as failure:
            failures.append(failure)
        finally:
            api.close()

    with ThreadPoolExecutor(len(models)) as pool:
        for model in models:
            pool.submit(load, model, chance.randrange(1 << 32))
        time.sleep(chance.choice([0.02, 0.1, 0.3, 0.6, 1.0]) * chance.random() * 2)
        killed.set()
        daemon.kill()
    assert not failures, failures
    daemon.start()


def check(daemon: Daemon, models: list[SpriteModel], chance: random.Random, everything: bool) -> None:
    """Registry and disk agree with each other and with what was acknowledged."""
    api = daemon.api()
    try:
        for model in models:
            model.settle(api)
        there = [model for model in models if model.exists == {True}]
        assert {one["name"] for one in api.all_sprites()} == {model.name for model in there}
        compare_disk(daemon, models)
        for model in there:
            known = sorted(model.checkpoints)
            model.verify(api, known if everything else chance.sample(known, min(COMPARED, len(known))))
            for old in sorted(model.checkpoints, key=_number)[1:-CHECKPOINTS_KEPT]:
                model.unfinished_deletion = old
                api.call("DELETE", f"/v1/sprites/{model.name}/checkpoints/{old}", {204, 409})
                model.unfinished_deletion = None
                if old not in {entry["id"] for entry in api.checkpoints(model.name)}:
                    del model.checkpoints[old]
    finally:
        api.close()


def _number(identifier: str) -> int:
    return int(identifier.removeprefix("v"))


def compare_disk(daemon: Daemon, models: list[SpriteModel]) -> None:
    """Each sprite of the registry has exactly its subvolumes, and there are no others."""
    api = daemon.api()
    expected: set[str] = set()
    for one in api.all_sprites():
        identifier = one["id"].removeprefix("sprite-")
        expected.add(f"sprites/{identifier}/live")
        for entry in api.checkpoints(one["name"], automatic=True):
            if entry["id"] != "v0":
                expected.add(f"sprites/{identifier}/checkpoints/{entry['id']}")
    api.close()
    found = {path for path in subvolumes(daemon.pid, daemon.data_directory / "pool") if "sprites/" in path}
    found = {path[path.index("sprites/") :] for path in found if not path.endswith("/checkpoints/v0")}
    assert found == expected, f"only on disk: {found - expected}, only in the registry: {expected - found}"
    groups = {Path(path).name for path in host_state(daemon.tag, daemon.data_directory).cgroups}
    identifiers = {one["id"].removeprefix("sprite-") for one in daemon.api().all_sprites()}
    strangers = {name for name in groups if IDENTIFIER.fullmatch(name)} - identifiers
    assert not strangers, f"cgroups of sprites that are not there: {strangers}"
