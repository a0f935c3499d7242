# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What the crash test knows of one sprite: what was acknowledged, and what was under way when the daemon died."""

import random
import secrets
from dataclasses import dataclass, field

import httpx

from support.api import Api, ApiError, StreamError
from support.wait import eventually

#: What a client sees of a daemon that dies.
CONNECTION_LOST = (httpx.TransportError, httpx.StreamError)


class Unfinished(Exception):
    """The daemon died before it answered."""


@dataclass
class SpriteModel:
    """Acknowledged facts about one sprite; sets hold every value that is possible."""

    name: str
    exists: set[bool] = field(default_factory=lambda: {False})
    #: Possible contents of the one file inside; the empty string is no file.
    live: set[str] = field(default_factory=lambda: {""})
    #: Contents of acknowledged checkpoints.
    checkpoints: dict[str, str] = field(default_factory=dict)
    #: Content of a checkpoint that was not acknowledged; it may be there or not.
    unfinished_checkpoint: str | None = None
    #: A checkpoint whose deletion was not acknowledged.
    unfinished_deletion: str | None = None
    operations: int = 0

    # Operations; each changes the model to "both are possible" first, and to the new state once it is acknowledged.

    def step(self, api: Api, chance: random.Random) -> None:
        """One random operation."""
        if self.exists == {False}:
            self.create(api)
        else:
            operation = chance.choices(
                [self.write, self.checkpoint, self.restore, self.delete_checkpoint, self.destroy], [8, 5, 3, 1, 1]
            )[0]
            operation(api, chance) if operation in (self.restore, self.delete_checkpoint) else operation(api)  # type: ignore[call-arg, arg-type]
        self.operations += 1

    def create(self, api: Api) -> None:
        self.exists = {False, True}
        self.live, self.checkpoints = {""}, {"v0": ""}
        self._call(lambda: api.create(self.name))
        self.exists = {True}

    def write(self, api: Api) -> None:
        content = secrets.token_hex(8)
        before = self.live
        self.live = before | {content}
        script = f"printf %s {content} > new && mv new data"
        assert self._call(lambda: post_exec(api, self.name, script)) == "", f"{self.name}: the write printed something"
        self.live = {content}

    def checkpoint(self, api: Api) -> None:
        (content,) = self.live
        self.unfinished_checkpoint = content
        identifier = self._call(lambda: api.checkpoint(self.name))
        self.unfinished_checkpoint = None
        assert identifier not in self.checkpoints, f"{self.name}: {identifier} was given twice"
        self.checkpoints[identifier] = content

    def restore(self, api: Api, chance: random.Random) -> None:
        identifier = chance.choice(sorted(self.checkpoints))
        self.live = self.live | {self.checkpoints[identifier]}
        self._call(lambda: api.restore(self.name, identifier))
        self.live = {self.checkpoints[identifier]}

    def delete_checkpoint(self, api: Api, chance: random.Random) -> None:
        identifier = chance.choice(sorted(self.checkpoints))
        self.unfinished_deletion = identifier
        try:
            self._call(lambda: api.call("DELETE", f"/v1/sprites/{self.name}/checkpoints/{identifier}", 204))
            del self.checkpoints[identifier]
        except ApiError as error:
            if error.status != 409:  # the active one, or v0
                raise
        self.unfinished_deletion = None

    def destroy(self, api: Api) -> None:
        self.exists = {False, True}
        self._call(lambda: api.destroy(self.name))
        self.exists = {False}

    @staticmethod
    def _call(call):  # type: ignore[no-untyped-def]
        try:
            return call()
        except CONNECTION_LOST as lost:
            raise Unfinished(str(lost)) from lost

    # After a restart

    def settle(self, api: Api) -> None:
        """Compares with what is there now, and takes over which of the possibilities came true."""
        try:
            api.get(self.name)
            there = True
        except ApiError as error:
            assert error.status == 404, error
            there = False
        assert there in self.exists, f"{self.name} is {'' if there else 'not '}there, possible was {self.exists}"
        self.exists = {there}
        if not there:
            self.live, self.checkpoints = {""}, {}
            self.unfinished_checkpoint = self.unfinished_deletion = None
            return
        eventually(lambda: api.sessions(self.name) == [], f"{self.name}: commands of before the crash ended", 20)
        self._settle_checkpoints(api)
        content = read(api, self.name)
        assert content in self.live, f"{self.name} holds {content!r}, possible was {self.live}"
        self.live = {content}

    def _settle_checkpoints(self, api: Api) -> None:
        listed = {entry["id"] for entry in api.checkpoints(self.name)}
        missing = self.checkpoints.keys() - listed - {self.unfinished_deletion}
        assert not missing, f"{self.name}: acknowledged checkpoints are missing: {sorted(missing)}"
        if self.unfinished_deletion is not None and self.unfinished_deletion not in listed:
            del self.checkpoints[self.unfinished_deletion]
        extra = listed - self.checkpoints.keys()
        if extra:
            assert len(extra) == 1 and self.unfinished_checkpoint is not None, f"{self.name}: nobody made {extra}"
            self.checkpoints[extra.pop()] = self.unfinished_checkpoint
        self.unfinished_checkpoint = self.unfinished_deletion = None

    def verify(self, api: Api, identifiers: list[str]) -> None:
        """Restores checkpoints and compares what they hold."""
        for identifier in identifiers:
            api.restore(self.name, identifier)
            self.live = {self.checkpoints[identifier]}
            content = read(api, self.name)
            assert content == self.checkpoints[identifier], f"{self.name} {identifier} holds {content!r}"


def post_exec(api: Api, name: str, script: str) -> str:
    """Standard output and errors of a script, over HTTP; it must succeed."""
    query = [("cmd", "sh"), ("cmd", "-c"), ("cmd", script), ("max_run_after_disconnect", "1s")]
    answer = api.call("POST", f"/v1/sprites/{name}/exec", params=query)
    content = answer.content
    if content[-2:] != b"\x03\x00":
        # A machine that was replaced or stopped under the command.
        raise StreamError(f"{name}: {script!r} ended with {content[-200:]!r}")
    return content[:-2].decode().lstrip("\x01")


def read(api: Api, name: str) -> str:
    return post_exec(api, name, "cat data 2>/dev/null || :")
