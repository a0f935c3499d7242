# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The daemon dies at every step of work on services; afterwards each runs once, as it was last said, or not at all."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from test_fault_points import same_as, settled

from support.api import Api
from support.daemon import Daemon
from support.exec import shell
from support.model import SpriteModel, Unfinished
from support.wait import eventually

#: How often each point is reached by all of the operations below.
POINTS = [f"service.kept:{time}" for time in range(1, 10)]
POINTS += [f"service.started:{time}" for time in range(1, 7)]
POINTS += [f"service.terminated:{time}" for time in range(1, 5)]


@dataclass
class Wanted:
    """Which services there are, each told by the seconds that it sleeps, 0 if stopped; two answers while one is unknown."""

    now: dict[str, int] = field(default_factory=dict)
    before: dict[str, int] | None = None

    def states(self) -> list[dict[str, int]]:
        return [self.now] if self.before is None else [self.now, self.before]


def operations(api: Api, sprite: str, wanted: Wanted) -> None:
    """Raises Unfinished where the daemon dies."""

    def change(name: str, seconds: int | None, method: str, path: str, **options: object) -> None:
        # While the call is under way, what was before is as right as what is to be.
        wanted.before = dict(wanted.now)
        if seconds is None:
            del wanted.now[name]
        else:
            wanted.now[name] = seconds
        SpriteModel._call(lambda: api.call(method, f"/v1/sprites/{sprite}/services/{name}{path}", {200, 204}, **options))
        wanted.before = None

    def define(name: str, seconds: int) -> None:
        change(name, seconds, "PUT", "?duration=0.3s", json={"cmd": "sleep", "args": [str(seconds)]})

    define("first", 100011)
    define("second", 100021)
    define("first", 100012)
    change("second", 0, "POST", "/stop?timeout=5s")
    change("second", 100021, "POST", "/start?duration=0.3s")
    define("third", 100031)
    change("third", None, "DELETE", "")
    define("third", 100032)
    change("first", 100012, "POST", "/restart?duration=0.3s")


def kept(api: Api, sprite: str) -> dict[str, int]:
    """What the definitions say."""
    listed = api.call("GET", f"/v1/sprites/{sprite}/services").json()
    return {one["name"]: 0 if one["state"]["status"] == "stopped" else int(one["args"][0]) for one in listed}


def running(api: Api, sprite: str) -> list[int]:
    """What really runs."""
    lines = shell(api, sprite, "ps -eo args | grep '^sleep 1000' || true").splitlines()
    return sorted(int(line.split()[1]) for line in lines)


def fits(api: Api, sprite: str, wanted: Wanted) -> bool:
    definitions = kept(api, sprite)
    return definitions in wanted.states() and running(api, sprite) == sorted(filter(None, definitions.values()))


@pytest.mark.timeout(600)
def test_services_are_what_was_said_last_wherever_the_daemon_dies(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    daemon.api().create("first")
    daemon.api().destroy("first")
    at_rest = settled(daemon)
    for number, point in enumerate(POINTS):
        name, wanted = f"served-{number}", Wanted()
        daemon.api().create(name)
        daemon.terminate()
        daemon.start(environment={"SPRITED_FAULT_POINT": point})
        assert daemon.process is not None
        try:
            operations(daemon.api(), name, wanted)
        except Unfinished:
            pass
        eventually(lambda: not daemon.runs, f"the daemon reaches {point}", 20)
        assert daemon.process.returncode == -signal.SIGKILL, daemon.tail()
        daemon.start()
        api = daemon.api()
        eventually(
            lambda: fits(api, name, wanted), f"after {point} services are as one of {wanted.states()}, and run once", 30)
        api.destroy(name)
        same_as(daemon, at_rest, point)
