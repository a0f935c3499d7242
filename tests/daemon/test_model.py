# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Random operations on one sprite's files and checkpoints against a model, with the daemon killed in between.

Hypothesis chooses the operations and, when one is answered wrongly, finds a short sequence that shows it.
"""

import os
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from support.api import Api, ApiError, StreamError
from support.daemon import Daemon
from support.exec import shell
from support.fixtures import fresh_name

#: Sequences, and operations of each; `make soak` has more of them.
EXAMPLES = int(os.environ.get("SPRITE_MODEL_EXAMPLES", "3"))
STEPS = int(os.environ.get("SPRITE_MODEL_STEPS", "30"))
HOME = "/home/sprite/m"

Tree = dict[str, str]
NAMES = st.sampled_from(["a", "b", "c", "d/e", "d/f", "d/g/h"])
CONTENTS = st.text(alphabet="xyz0", max_size=40)


class SpriteMachine(RuleBasedStateMachine):
    """The state of one sprite as its owner knows it: contents by path, and what each checkpoint held."""

    daemon: ClassVar[Daemon]

    def __init__(self) -> None:
        super().__init__()
        self.api: Api = self.daemon.api()
        self.name = fresh_name("model")
        self.live: Tree = {}
        self.checkpoints: dict[str, Tree] = {}
        self.parent = "v0"
        self.replaced: str | None = None

    @initialize()
    def create(self) -> None:
        self.api.create(self.name)
        shell(self.api, self.name, f"mkdir -p {HOME}/d/g")
        self.checkpoints[self.api.checkpoint(self.name)] = {}
        self.parent = next(iter(self.checkpoints))

    # Files, by the file operations and by commands

    @rule(path=NAMES, content=CONTENTS)
    def write(self, path: str, content: str) -> None:
        url = f"/v1/sprites/{self.name}/fs/write"
        self.api.call("PUT", url, params={"path": f"{HOME}/{path}"}, content=content.encode())
        self.live[path] = content

    @rule(path=NAMES, content=CONTENTS)
    def append(self, path: str, content: str) -> None:
        shell(self.api, self.name, f"printf %s '{content}' >> {HOME}/{path}")
        self.live[path] = self.live.get(path, "") + content

    @rule(path=NAMES)
    def remove(self, path: str) -> None:
        shell(self.api, self.name, f"rm -f {HOME}/{path}")
        self.live.pop(path, None)

    @rule(source=NAMES, goal=NAMES)
    def rename(self, source: str, goal: str) -> None:
        if source in self.live and source != goal:
            shell(self.api, self.name, f"mv {HOME}/{source} {HOME}/{goal}")
            self.live[goal] = self.live.pop(source)

    # Checkpoints

    @rule()
    def checkpoint(self) -> None:
        made = self.api.checkpoint(self.name)
        assert made not in self.checkpoints, "ids are never used again"
        self.checkpoints[made] = dict(self.live)
        self.parent = made

    @rule(data=st.data())
    def restore(self, data: Any) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.checkpoints)))
        self._replaced_by(self.api.restore(self.name, chosen), chosen)

    @precondition(lambda self: self.replaced is not None)
    @rule()
    def undo(self) -> None:
        chosen = self.replaced
        assert chosen is not None
        self._replaced_by(self.api.undo(self.name), chosen)

    def _replaced_by(self, events: list[dict[str, Any]], chosen: str) -> None:
        """The state of now is an automatic checkpoint, and that of `chosen` is the new one."""
        replaced = next(event["replaced_id"] for event in events if "replaced_id" in event)
        self.checkpoints[replaced] = dict(self.live)
        self.live = dict(self.checkpoints[chosen])
        self.replaced, self.parent = replaced, chosen
        # Of automatic ones only the newest are kept; which, is told.
        listed = {one["id"] for one in self.api.checkpoints(self.name, automatic=True)}
        gone = {one for one in self.checkpoints if one not in listed}
        assert all(one.startswith("auto-") for one in gone) and replaced in listed, f"{gone} are gone"
        for one in gone:
            del self.checkpoints[one]

    @rule(data=st.data())
    def delete_checkpoint(self, data: Any) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.checkpoints)))
        if chosen.startswith("auto-"):
            return
        path = f"/v1/sprites/{self.name}/checkpoints/{chosen}"
        if chosen == self.parent:
            self.api.call("DELETE", path, 409)
        else:
            self.api.call("DELETE", path, 204)
            del self.checkpoints[chosen]

    @rule()
    def restore_what_is_not_there(self) -> None:
        with pytest.raises((ApiError, StreamError)):
            self.api.restore(self.name, "v999")

    @rule(data=st.data())
    def fork(self, data: Any) -> None:
        chosen = data.draw(st.sampled_from([None, *sorted(self.checkpoints)]))
        other = fresh_name("model-fork")
        self.api.fork(self.name, other, chosen)
        assert self._tree(other) == (self.live if chosen is None else self.checkpoints[chosen]), f"fork of {chosen}"
        self.api.destroy(other)

    # What must change nothing

    @rule()
    def kill_the_daemon(self) -> None:
        self.api.close()
        self.daemon.restart()
        self.api = self.daemon.api()

    @invariant()
    def the_files_are_those_of_the_model(self) -> None:
        if self.checkpoints:
            assert self._tree(self.name) == self.live

    @invariant()
    def the_checkpoints_are_those_of_the_model(self) -> None:
        if self.checkpoints:
            listed = {one["id"] for one in self.api.checkpoints(self.name, automatic=True)} - {"v0"}
            assert listed == set(self.checkpoints)

    def _tree(self, name: str) -> Tree:
        listed = shell(self.api, name, f"cd {HOME} && find . -type f -printf '%P\\n' -exec cat {{}} \\; -printf '\\n'")
        lines = listed.split("\n")[:-1]
        return dict(zip(lines[0::2], lines[1::2], strict=True))

    def teardown(self) -> None:
        if self.checkpoints:
            self.api.destroy(self.name)
        self.api.close()


@pytest.mark.timeout(24 * 3600)
def test_a_sprite_is_what_its_operations_made_it(new_daemon: Callable[..., Daemon]) -> None:
    SpriteMachine.daemon = new_daemon()
    run_state_machine_as_test(
        SpriteMachine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, database=None,
            # Shrinking takes hundreds of runs; the blob that is printed repeats the one that failed.
            phases=[Phase.generate], print_blob=True, suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
    assert [one for one in SpriteMachine.daemon.api().all_sprites() if one["name"].startswith("model")] == []
