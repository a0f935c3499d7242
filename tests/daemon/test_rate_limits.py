# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Limits on how often clients may ask, as the public service tells of them."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from support import programs
from support.daemon import Daemon
from support.exec import shell
from support.fixtures import fresh_name
from support.wait import eventually


def check_form(answer: httpx.Response, code: str, limit: int, window: int) -> None:
    body = answer.json()
    assert body["error"] == code and len(body["message"]) > 10
    assert (body["limit"], body["window_seconds"], body["current_count"]) == (limit, window, limit)
    wait = int(answer.headers["retry-after"])
    assert wait == body["retry_after_seconds"] and 1 <= wait <= window
    assert answer.headers["x-ratelimit-limit"] == str(limit) and answer.headers["x-ratelimit-remaining"] == "0"
    assert -30 < int(answer.headers["x-ratelimit-reset"]) - time.time() <= window + 1


def test_new_sprites_are_limited(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon("--create-limit", "3/m")
    api = daemon.api()
    # What is refused for another reason does not count.
    for _ in range(5):
        api.call("POST", "/v1/sprites", 400, json={"name": "-"})
    source = fresh_name()
    api.create(source)
    api.create(fresh_name())
    api.fork(source, fresh_name())
    check_form(api.call("POST", "/v1/sprites", 429, json={"name": fresh_name()}), "sprite_creation_rate_limited", 3, 60)
    answer = api.call("POST", f"/v1/sprites/{source}/fork", 429, json={"name": fresh_name()})
    check_form(answer, "sprite_creation_rate_limited", 3, 60)
    assert len(api.all_sprites()) == 3


def test_sprites_awake_at_once_are_limited(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon("--max-awake", "2")
    api = daemon.api()
    sleepy, busy, third = "sleepy", "busy", "third"
    api.create(sleepy, config={"freeze_after_seconds": 1})
    api.create(busy, config={"freeze_after_seconds": 0})
    # Nobody's time has come yet.
    for path, body in [("/v1/sprites", {"name": third}), (f"/v1/sprites/{busy}/fork", {"name": third})]:
        answer = api.call("POST", path, 429, json=body)
        assert answer.json()["error"] == "concurrent_sprite_limit_exceeded" and "--max-awake" in answer.json()["message"]
        assert int(answer.headers["retry-after"]) == answer.json()["retry_after_seconds"] > 0
    # A restore keeps its place.
    state = api.checkpoint(busy)
    api.restore(busy, state)
    eventually(lambda: api.get(sleepy)["status"] == "warm", "it is frozen", 20)
    assert api.get(sleepy)["last_warming_at"] > api.get(sleepy)["created_at"]
    api.create(third, config={"freeze_after_seconds": 1})
    stopped = api.get(sleepy)
    assert (stopped["status"], stopped["status_reason"]) == ("cold", "its seat was needed")
    # Waking takes a place as well: the other's, once that is frozen.
    eventually(lambda: api.get(third)["status"] == "warm", "it is frozen", 20)
    assert shell(api, sleepy, "echo woken") == "woken\n"
    assert api.get(third)["status"] == "cold"
    # After a restart of the daemon those that run still count, and a place that was given up is free.
    daemon.kill()
    daemon.start()
    api = daemon.api()
    api.call("PUT", f"/v1/sprites/{sleepy}", 200, json={"config": {"freeze_after_seconds": 0}})
    api.call("POST", "/v1/sprites", 429, json={"name": "fourth"})
    # Who opens the page of one that sleeps is told why it stays so.
    visitor = {"Host": api.get(third)["url"].removeprefix("http://"), "Accept": "text/html"}
    page = api.http.get("/", headers=visitor)
    assert page.status_code == 429 and "<h1>This sprite is asleep and cannot wake</h1>" in page.text
    assert "--max-awake" in page.text and int(page.headers["retry-after"]) > 0
    assert api.get(third)["status"] == "cold"
    api.destroy(busy)
    api.create("fourth")


def test_requests_are_limited_and_come_back(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon("--rate-limit", "5/s", with_base=False)
    api = daemon.api()
    answers = [api.http.get("/v1/sprites") for _ in range(60)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) > 10
    check_form(refused[0], "rate_limited", 5, 1)
    url = f"{daemon.url.replace('http', 'ws')}/v1/sprites/none/exec?cmd=true"
    statuses = set()
    time.sleep(1.1)
    for _ in range(25):
        with pytest.raises(InvalidStatus) as refusal:
            connect(url, additional_headers={"Authorization": f"Bearer {daemon.token}"}, proxy=None)
        statuses.add(refusal.value.response.status_code)
    assert statuses == {404, 429}
    # Whether the daemon is well can always be asked.
    assert api.call("GET", "/health")
    time.sleep(1.1)
    assert api.call("GET", "/v1/sprites")


@pytest.mark.parametrize("setting", ["--rate-limit=5", "--rate-limit=0/s", "--create-limit=x/m", "--client-timeout=0",
                                     "--client-timeout=never", "--memory-reserve=120%", "--memory-reserve=some"])  # fmt: skip
def test_a_setting_that_makes_no_sense_is_refused(tmp_path: Path, setting: str) -> None:
    command = [str(programs.sprited()), "serve", "--data-dir", str(tmp_path), "--listen", "127.0.0.1:0", setting]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "cannot read" in done.stderr and not done.stdout, done
    assert not (tmp_path / "registry.db").exists()
