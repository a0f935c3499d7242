# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The description against a live daemon: requests made up from docs/openapi.yaml, valid and invalid ones.

Whatever is asked, there is no 5xx, no status that is not described, and no answer that breaks its schema. The seed is
fixed, so that a failure comes again; SPRITE_CONTRACT_EXAMPLES makes more of them.
"""

import asyncio
import os
import re
import zlib
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)

from support.api import Api
from support.contract import DESCRIPTION
from support.daemon import Daemon
from support.exec import open_exec, shell
from support.fixtures import fresh_name

EXAMPLES = int(os.environ.get("SPRITE_CONTRACT_EXAMPLES", "16"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
MODES = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
#: Seconds; what asks for more waiting would only make the test long.
PATIENCE = re.compile(r"(\d+(\.\d+)?|)(ns|us|ms|s|m|h|)")

# Made-up archives are broken ones, as far as bytes go.
schemathesis.serializer.alias("application/x-tar", "application/octet-stream")
schema = schemathesis.openapi.from_path(DESCRIPTION)


class World:
    """What the requests are made to meet: a sprite with a file, a service, a checkpoint and a command that runs."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.name = ""
        self.checkpoint = ""
        self.session = ""

    def refill(self) -> None:
        """Makes what earlier requests destroyed."""
        names = {one["name"] for one in self.api.all_sprites()}
        for surplus in sorted(name for name in names - {self.name} if not name.startswith("contract"))[8:]:
            self.api.destroy(surplus)
        if self.name not in names:
            self.name = fresh_name("contract")
            self.api.create(self.name)
        self.checkpoint = self.api.checkpoint(self.name)
        shell(self.api, self.name, "mkdir -p ~/folder; test -f ~/file || { sudo rm -rf ~/file; echo text > ~/file; }")
        self.api.call(
            "PUT", f"/v1/sprites/{self.name}/services/web", json={"cmd": "sleep", "args": ["1000"]},
            params={"duration": "0s"},
        )  # fmt: skip
        asyncio.run(self.start())

    async def start(self) -> None:
        async with open_exec(self.api, self.name, "sleep", "100", detachable="true") as session:
            self.session = session.id

    def bend(self, case: Any) -> None:
        """Lets most of the requests meet something that is there, and none of them wait for long."""
        path, query, body = case.path_parameters or {}, case.query or {}, case.body
        template = case.operation.path
        # By its content, so that a seed makes the same requests in every run.
        text = repr(sorted(path.items())) + repr(sorted(query.items(), key=repr)) + repr(body)
        lot = zlib.crc32(text.encode("utf-8", "replace")) % 4
        if lot and "name" in path:
            path["name"] = self.name
        if lot > 1:
            for key, value in [("service", "web"), ("id", self.session if "/exec/" in template else self.checkpoint)]:
                if key in path:
                    path[key] = value
        if lot > 2 and "/fs/" in template:
            query = {"path": "/home/sprite/folder" if "archive" in template else "/home/sprite/file"}
            if isinstance(body, dict):
                body |= {key: "/home/sprite/file" for key in ("path", "source") if isinstance(body.get(key), str)}
        if lot > 1 and template.endswith("/exec") and case.method == "POST":
            query = {"cmd": ["echo", "text"], "dir": query.get("dir", "/")}
        for place in (query, body):
            for key in ("duration", "timeout"):
                if isinstance(place, dict) and PATIENCE.fullmatch(str(place.get(key, "x"))):
                    place[key] = "20ms"
        if template.endswith(("/services/{service}", "/start", "/restart")) and case.method in ("PUT", "POST"):
            query.setdefault("duration", "20ms")
        case.query = query


@pytest.fixture(scope="module")
def world(shared_daemon: Daemon) -> Iterator[World]:
    api = shared_daemon.api()
    before = {one["name"] for one in api.all_sprites()}
    yield World(api)
    for one in api.all_sprites():
        if one["name"] not in before:
            api.destroy(one["name"])
    api.close()


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "operation",
    [result.ok() for result in schema.get_all_operations()],
    ids=lambda operation: f"{operation.method.upper()} {operation.path}",
)
def test_every_answer_is_as_described(daemon: Daemon, world: World, operation: Any) -> None:
    world.refill()
    headers = {"Authorization": f"Bearer {daemon.token}"}
    answered: list[int] = []

    @hypothesis.seed(20260203)
    @hypothesis.settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=False,
        suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )  # fmt: skip
    @hypothesis.given(case=hypothesis.strategies.one_of(*(operation.as_strategy(mode) for mode in MODES)))
    def ask(case: Any) -> None:
        world.bend(case)
        try:
            response = case.call(base_url=daemon.url, headers=headers, timeout=60)
        except requests.exceptions.ChunkedEncodingError:
            # An archive of files that may not be read breaks off, as described.
            assert operation.label == "GET /v1/sprites/{name}/fs/archive"
            return
        answered.append(response.status_code)
        case.validate_response(response, checks=CHECKS)

    ask()
    assert answered
