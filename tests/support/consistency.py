# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Whether registry, disk and host agree with what was acknowledged."""

import random
import re
from pathlib import Path

from support.daemon import Daemon
from support.host import host_state, subvolumes
from support.model import SpriteModel

#: Restores that are compared, unless all are.
COMPARED = 2
CHECKPOINTS_KEPT = 12
IDENTIFIER = re.compile("[0-9a-f]{16}")


def check(daemon: Daemon, models: list[SpriteModel], chance: random.Random, everything: bool, *others: str) -> None:
    """Registry and disk agree with each other and with what was acknowledged; `others` are sprites without a model."""
    api = daemon.api()
    try:
        for model in models:
            model.settle(api)
        there = [model for model in models if model.exists == {True}]
        assert {one["name"] for one in api.all_sprites()} == {model.name for model in there} | set(others)
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
