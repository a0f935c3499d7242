# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The journal over HTTP: pages of records, a following reader, the database itself."""

import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from support.api import Api
from support.wait import eventually

Json = dict[str, Any]


def page(api: Api, sprite: str | None = None, **query: Any) -> Json:
    path = f"/v1/sprites/{sprite}/logs" if sprite else "/v1/logs"
    answer: Json = api.call("GET", path, params=query).json()
    return answer


def records(api: Api, sprite: str | None = None, **query: Any) -> list[Json]:
    found: list[Json] = page(api, sprite, **{"order": "asc", "limit": 10000, **query})["records"]
    return found


def texts(api: Api, sprite: str | None = None, **query: Any) -> list[str]:
    return [record["text"] for record in records(api, sprite, **query)]


def output(api: Api, sprite: str, **query: Any) -> list[Json]:
    """Lines that processes printed."""
    return [one for one in records(api, sprite, kind="process", **query) if "stream" in one]


def events(api: Api, sprite: str | None = None, **query: Any) -> list[Json]:
    return [one for one in records(api, sprite, **query) if "event" in one]


def all_output(api: Api, sprite: str, **query: Any) -> list[Json]:
    """Every line, page by page."""
    found: list[Json] = []
    cursor = "0"
    while True:
        answer = page(api, sprite, order="asc", limit=10000, kind="process", cursor=cursor, **query)
        found += [one for one in answer["records"] if "stream" in one]
        cursor = answer["next_cursor"]
        if not answer["has_more"]:
            return found


def wait_for(api: Api, sprite: str | None, text: str, timeout: float = 10, **query: Any) -> Json:
    """The first record of that text."""
    return eventually(
        lambda: next((one for one in records(api, sprite, **query) if one["text"] == text), None),
        f"the journal has {text!r}", timeout,
    )  # fmt: skip


class Follower:
    """A reader that follows, in a thread."""

    def __init__(self, api: Api, sprite: str | None = None, accept: str | None = None, **query: Any) -> None:
        self.got: list[tuple[float, Json]] = []
        self.lines: list[str] = []
        self._stop = threading.Event()
        self._ready = threading.Event()
        path = f"/v1/sprites/{sprite}/logs" if sprite else "/v1/logs"
        headers = {"Authorization": f"Bearer {api.token}"} | ({"Accept": accept} if accept else {})
        self._request = (api.url + path, {"follow": "true", **query}, headers)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(20), "the stream did not begin"

    def _run(self) -> None:
        url, query, headers = self._request
        try:
            with httpx.stream("GET", url, params=query, headers=headers, timeout=60, trust_env=False) as response:
                assert response.status_code == 200, response.read()
                self.response = response
                self._ready.set()
                for line in response.iter_lines():
                    self.lines.append(line)
                    if line.startswith("{") or line.startswith("data: {"):
                        record = json.loads(line.removeprefix("data: "))
                        if "id" in record:
                            self.got.append((time.time(), record))
                    if self._stop.is_set():
                        return
        except httpx.TransportError:
            pass

    @property
    def follows(self) -> bool:
        return self._thread.is_alive()

    @property
    def records(self) -> list[Json]:
        return [record for _, record in self.got]

    def close(self) -> None:
        self._stop.set()


def database(data_directory: Path) -> sqlite3.Connection:
    """The file itself, while a daemon writes it."""
    return sqlite3.connect(f"file:{data_directory}/journal.db?mode=ro", uri=True)
