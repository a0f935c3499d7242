# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""A thin client of our own for the HTTP side, independent of every SDK under test.

Every request and answer is held against docs/openapi.yaml, see support/contract.py.
"""

import json
import ssl
from collections.abc import Iterable
from typing import Any

import httpx

from support.contract import CheckedClient

Json = dict[str, Any]


class ApiError(Exception):
    """An answer other than the expected one."""

    def __init__(self, request: str, response: httpx.Response) -> None:
        self.status = response.status_code
        self.text = response.text
        body: Any
        try:
            body = response.json()
        except ValueError:
            body = {}
        self.body: Json = body if isinstance(body, dict) else {}
        self.code: str = self.body.get("error", "")
        self.message: str = self.body.get("message", "")
        super().__init__(f"{request}: {self.status} {self.text[:500]}")


class StreamError(Exception):
    """An NDJSON stream that ended with an error event."""


class Api:
    """One kept-alive connection pool to one daemon."""

    def __init__(self, url: str, token: str, timeout: float = 120, authority: str | None = None) -> None:
        self.url = url
        self.token = token
        self.http: httpx.Client = CheckedClient(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=timeout, trust_env=False,
            verify=ssl.create_default_context(cafile=authority) if authority else True,
        )  # fmt: skip

    def close(self) -> None:
        self.http.close()

    def call(self, method: str, path: str, expect: int | Iterable[int] = 200, **options: Any) -> httpx.Response:
        response = self.http.request(method, path, **options)
        wanted = {expect} if isinstance(expect, int) else set(expect)
        if response.status_code not in wanted:
            raise ApiError(f"{method} {path}", response)
        return response

    # Sprites

    def create(self, name: str, **fields: Any) -> Json:
        created: Json = self.call("POST", "/v1/sprites", 201, json={"name": name, **fields}).json()
        return created

    def get(self, name: str) -> Json:
        found: Json = self.call("GET", f"/v1/sprites/{name}").json()
        return found

    def update(self, name: str, **fields: Any) -> Json:
        updated: Json = self.call("PUT", f"/v1/sprites/{name}", json=fields).json()
        return updated

    def page(self, **query: Any) -> Json:
        page: Json = self.call("GET", "/v1/sprites", params=query).json()
        return page

    def all_sprites(self, prefix: str = "") -> list[Json]:
        sprites: list[Json] = []
        query: Json = {"prefix": prefix} if prefix else {}
        while True:
            page = self.page(**query)
            sprites += page["sprites"]
            if not page["has_more"]:
                return sprites
            query["continuation_token"] = page["next_continuation_token"]

    def destroy(self, name: str) -> None:
        self.call("DELETE", f"/v1/sprites/{name}", 204)

    def fork(self, source: str, name: str, checkpoint: str | None = None) -> Json:
        body = {"name": name} | ({"checkpoint": checkpoint} if checkpoint else {})
        forked: Json = self.call("POST", f"/v1/sprites/{source}/fork", 201, json=body).json()
        return forked

    # Checkpoints

    def stream(self, path: str, body: Json | None = None) -> list[Json]:
        """The events of an NDJSON stream; an error as its last event raises."""
        response = self.call("POST", path, json=body)
        assert response.headers["content-type"].startswith("application/x-ndjson"), response.headers
        events = [json.loads(line) for line in response.text.splitlines() if line]
        assert events, f"{path} answered an empty stream"
        if events[-1]["type"] == "error":
            raise StreamError(events[-1].get("error") or events[-1].get("data"))
        assert events[-1]["type"] == "complete", events
        return events

    def checkpoint(self, name: str, comment: str | None = None) -> str:
        """Takes a checkpoint and digs its id out of the text, as published clients do."""
        events = self.stream(f"/v1/sprites/{name}/checkpoint", {"comment": comment} if comment else {})
        for event in events:
            before, found, identifier = event["data"].partition("ID: ")
            if found and not before.strip():
                return str(identifier.strip())
        raise AssertionError(f"no event names the new checkpoint: {events}")

    def checkpoints(self, name: str, automatic: bool = False) -> list[Json]:
        """Without the entry `Current`, which stands for the live state."""
        query = {"includeAuto": "true"} if automatic else {}
        listed: list[Json] = self.call("GET", f"/v1/sprites/{name}/checkpoints", params=query).json()
        return [entry for entry in listed if entry["id"] != "Current"]

    def restore(self, name: str, checkpoint: str) -> list[Json]:
        return self.stream(f"/v1/sprites/{name}/checkpoints/{checkpoint}/restore")

    def undo(self, name: str) -> list[Json]:
        return self.stream(f"/v1/sprites/{name}/restore/undo")

    # Sessions

    def sessions(self, name: str) -> list[Json]:
        listed: Json = self.call("GET", f"/v1/sprites/{name}/exec").json()
        assert listed["count"] == len(listed["sessions"])
        sessions: list[Json] = listed["sessions"]
        return sessions

    def kill(self, name: str, session: str, signal: str = "SIGTERM", timeout: str = "10s") -> list[Json]:
        response = self.call(
            "POST", f"/v1/sprites/{name}/exec/{session}/kill", params={"signal": signal, "timeout": timeout}
        )
        return [json.loads(line) for line in response.text.splitlines() if line]
