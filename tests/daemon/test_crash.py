# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""kill -9 of the daemon at random moments under load: nothing acknowledged is lost, nothing is left over."""

import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.consistency import check
from support.daemon import Daemon
from support.host import host_state
from support.model import SpriteModel, Unfinished

ROUNDS = int(os.environ.get("SPRITE_CRASH_ROUNDS", "200"))
SEED = int(os.environ.get("SPRITE_CRASH_SEED", str(random.randrange(1 << 32))))
SPRITES = 4


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
