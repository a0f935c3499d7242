# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Lists of sprites: pages that stay right while sprites come and go, and the endless list."""

import json
import threading
import time
from collections.abc import Callable

from support.api import Api, Json
from support.daemon import Daemon
from support.fixtures import fresh_name


def test_pages_are_stable_while_sprites_come_and_go(daemon: Daemon, api: Api, new_sprite: Callable[..., str]) -> None:
    prefix = fresh_name("page")
    lasting = sorted(new_sprite(f"{prefix}-{number}") for number in range(7))
    done = threading.Event()

    def disturb() -> None:
        other = daemon.api()
        number = 0
        while not done.is_set():
            name = f"{prefix}-{number % 7}-x{number}"
            number += 1
            other.create(name)
            other.destroy(name)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(8):
            found: list[str] = []
            query: Json = {"prefix": prefix, "max_results": 2}
            while True:
                page = api.page(**query)
                found += [one["name"] for one in page["sprites"]]
                if not page["has_more"]:
                    break
                query["continuation_token"] = page["next_continuation_token"]
                time.sleep(0.03)
            assert found == sorted(set(found)), "in order, and none twice"
            assert [name for name in found if "-x" not in name] == lasting, "none missing"
    finally:
        done.set()
        thread.join()


def test_a_page_may_begin_after_a_sprite_that_is_gone(api: Api, new_sprite: Callable[..., str]) -> None:
    prefix = fresh_name("gone")
    names = sorted(new_sprite(f"{prefix}-{number}") for number in range(3))
    page = api.page(prefix=prefix, max_results=1)
    api.destroy(names[0])
    page = api.page(prefix=prefix, continuation_token=page["next_continuation_token"])
    assert [one["name"] for one in page["sprites"]] == names[1:]


def test_the_endless_list_tells_of_every_change(api: Api, new_sprite: Callable[..., str]) -> None:
    prefix = fresh_name("watch")
    first = new_sprite(prefix, config={"freeze_after_seconds": 1})
    with api.http.stream(
        "GET", "/v1/sprites", params={"prefix": prefix}, headers={"Accept": "application/x-ndjson"}
    ) as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = (json.loads(line) for line in answer.iter_lines())

        def until(**wanted: object) -> Json:
            for line in lines:
                if wanted.items() <= line.items():
                    return line
            raise AssertionError(f"the list ended before {wanted}")

        line = until(name=first, status="running")
        assert line["org"]["running"] >= 1 and line["running_version"] and line["timestamp"]
        second = new_sprite(prefix)
        until(name=second, status="running")
        until(name=first, status="warm", status_reason="unused")
        api.destroy(second)
        until(name=second, type="removed")


def test_the_endless_list_begins_at_once_where_there_is_nothing(api: Api) -> None:
    query = {"prefix": fresh_name("nobody")}
    with api.http.stream("GET", "/v1/sprites", params=query, headers={"Accept": "application/x-ndjson"}) as answer:
        assert json.loads(next(answer.iter_lines()))["type"] == "heartbeat"
