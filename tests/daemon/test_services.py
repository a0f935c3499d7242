# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Services: defined, started in order, restarted after crashes, stopped for good, part of the disk's state."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from support.api import Api, ApiError
from support.daemon import Daemon
from support.exec import shell
from support.wait import eventually

Json = dict[str, Any]
LOOP = {"cmd": "sh", "args": ["-c", "echo up; echo bad >&2; while sleep 1; do :; done"]}


def put(api: Api, sprite: str, name: str, duration: str = "300ms", **body: Any) -> list[Json]:
    answer = api.call("PUT", f"/v1/sprites/{sprite}/services/{name}?duration={duration}", json=body)
    return [json.loads(line) for line in answer.text.splitlines()]


def get(api: Api, sprite: str, name: str) -> Json:
    return api.call("GET", f"/v1/sprites/{sprite}/services/{name}").json()


def status(api: Api, sprite: str, name: str) -> str:
    return get(api, sprite, name)["state"]["status"]


def started_at(api: Api, sprite: str, name: str) -> str:
    return get(api, sprite, name)["state"]["started_at"]


def names(api: Api, sprite: str) -> list[str]:
    return [one["name"] for one in api.call("GET", f"/v1/sprites/{sprite}/services").json()]


def test_a_service_runs_and_its_stream_tells_so(api: Api, sprite: str) -> None:
    assert names(api, sprite) == []
    events = put(api, sprite, "web", **LOOP, http_port=8080, env={"A": "1"}, dir="/usr")
    assert [event["type"] for event in events][0] == "started"
    assert {"stdout", "stderr"} <= {event["type"] for event in events}
    assert events[-1]["type"] == "complete" and "log_files" in events[-1]
    assert all(isinstance(event["timestamp"], int) for event in events)
    service = get(api, sprite, "web")
    assert (service["name"], service["cmd"], service["http_port"], service["dir"]) == ("web", "sh", 8080, "/usr")
    assert service["state"]["status"] == "running" and service["state"]["restart_count"] == 0
    log = shell(api, sprite, "cat /.sprite/logs/services/web.log")
    assert "[stdout] up\n" in log and "[stderr] bad\n" in log


def test_services_are_no_sessions_of_clients(api: Api, sprite: str) -> None:
    put(api, sprite, "web", **LOOP)
    assert api.sessions(sprite) == []


def test_a_crash_restarts_and_counts(api: Api, sprite: str) -> None:
    put(api, sprite, "web", **LOOP)
    api.call("POST", f"/v1/sprites/{sprite}/services/signal", 204, json={"name": "web", "signal": "KILL"})
    eventually(lambda: get(api, sprite, "web")["state"]["restart_count"] == 1, "the crash was counted", 10)
    eventually(lambda: status(api, sprite, "web") == "running", "it runs again", 10)


def test_a_stop_is_sticky_and_a_start_ends_that(api: Api, sprite: str) -> None:
    put(api, sprite, "web", **LOOP)
    stop = api.call("POST", f"/v1/sprites/{sprite}/services/web/stop?timeout=2s").text.splitlines()
    assert [json.loads(line)["type"] for line in stop] == ["stopping", "stopped", "complete"]
    with pytest.raises(ApiError) as again:
        api.call("POST", f"/v1/sprites/{sprite}/services/web/stop")
    assert again.value.status == 409
    version = api.checkpoint(sprite)
    api.restore(sprite, version)
    assert status(api, sprite, "web") == "stopped"
    api.call("POST", f"/v1/sprites/{sprite}/services/web/start?duration=300ms")
    assert status(api, sprite, "web") == "running"


def test_needs_run_first_and_guard_deletion(api: Api, sprite: str) -> None:
    put(api, sprite, "db", cmd="sleep", args=["60"])
    put(api, sprite, "web", cmd="sleep", args=["60"], needs=["db"])
    version = api.checkpoint(sprite)
    api.restore(sprite, version)
    eventually(lambda: status(api, sprite, "web") == "running", "both run after the restore", 10)
    assert started_at(api, sprite, "db") < started_at(api, sprite, "web")
    with pytest.raises(ApiError) as needed:
        api.call("DELETE", f"/v1/sprites/{sprite}/services/db")
    assert needed.value.status == 409
    api.call("DELETE", f"/v1/sprites/{sprite}/services/web", 204)
    api.call("DELETE", f"/v1/sprites/{sprite}/services/db", 204)
    assert names(api, sprite) == []


def test_fifty_services_start_in_their_order(api: Api, sprite: str) -> None:
    # Five rows of ten, each of which needs two of the row before; those of a row wait for nobody of it.
    needs = {
        f"s{row}-{column}": [f"s{row - 1}-{column}", f"s{row - 1}-{(column + 1) % 10}"] if row else []
        for row in range(5)
        for column in range(10)
    }
    for name, before in needs.items():
        put(api, sprite, name, "1ms", cmd="sleep", args=["600"], needs=before)
    api.restore(sprite, api.checkpoint(sprite))
    eventually(
        lambda: {one["state"]["status"] for one in api.call("GET", f"/v1/sprites/{sprite}/services").json()} == {"running"},
        "all run again", 30,
    )  # fmt: skip
    started = {name: started_at(api, sprite, name) for name in needs}
    assert all(started[other] < started[name] for name, others in needs.items() for other in others), started


def test_a_restore_brings_back_the_services_of_that_time_and_a_fork_takes_them_along(
    api: Api, sprite: str, new_sprite: Callable[..., str]
) -> None:
    put(api, sprite, "old", **LOOP)
    version = api.checkpoint(sprite)
    api.call("DELETE", f"/v1/sprites/{sprite}/services/old", 204)
    put(api, sprite, "new", **LOOP)
    fork = f"{sprite}-fork"
    api.fork(sprite, fork, version)
    try:
        eventually(lambda: names(api, fork) == ["old"], "the fork has the services of the checkpoint", 10)
        api.restore(sprite, version)
        eventually(lambda: names(api, sprite) == ["old"], "the sprite has the services of the checkpoint", 10)
        eventually(lambda: status(api, sprite, "old") == "running", "and they run", 10)
    finally:
        api.destroy(fork)


def test_a_restarted_daemon_takes_services_over(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    api.create("one")
    put(api, "one", "web", cmd="sh", args=["-c", "echo $$ >> starts; sleep 600"])
    daemon.kill()
    daemon.start()
    api = daemon.api()
    eventually(lambda: names(api, "one") == ["web"], "the service is known again", 10)
    assert status(api, "one", "web") == "running"
    assert shell(api, "one", "wc -l < starts").strip() == "1"


BAD: list[tuple[str, Json, int]] = [
    ("web", {}, 400),
    ("web", {"cmd": ""}, 400),
    ("web", {"cmd": "x", "needs": ["nothing"]}, 400),
    ("web", {"cmd": "x", "needs": ["web"]}, 400),
    ("web", {"cmd": "x", "http_port": 0}, 400),
    ("web", {"cmd": "x", "http_port": 70000}, 400),
    ("web", {"cmd": "x", "args": "no list"}, 400),
    ("web", {"cmd": "x", "env": {"A=B": "1"}}, 400),
    ("web", {"cmd": "a\u0000b"}, 400),
    ("-web", {"cmd": "x"}, 400),
    ("w" * 64, {"cmd": "x"}, 400),
]


@pytest.mark.parametrize(("name", "body", "expected"), BAD)
def test_bad_definitions_are_refused(api: Api, sprite: str, name: str, body: Json, expected: int) -> None:
    with pytest.raises(ApiError) as refused:
        api.call("PUT", f"/v1/sprites/{sprite}/services/{name}", json=body)
    assert refused.value.status == expected and refused.value.code == "invalid_request"
    assert names(api, sprite) == []


def test_what_is_not_there_is_not_found(api: Api, sprite: str) -> None:
    for method, path in [
        ("GET", "web"), ("DELETE", "web"), ("POST", "web/start"), ("POST", "web/stop"), ("POST", "web/restart"),
        ("GET", "web/logs"),
    ]:
        with pytest.raises(ApiError) as missing:
            api.call(method, f"/v1/sprites/{sprite}/services/{path}")
        assert missing.value.status == 404
    with pytest.raises(ApiError) as unknown:
        api.call("GET", "/v1/sprites/no-such-sprite/services")
    assert unknown.value.status == 404


def test_only_one_service_has_the_http_port(api: Api, sprite: str) -> None:
    put(api, sprite, "one", **LOOP, http_port=8080)
    with pytest.raises(ApiError) as taken:
        put(api, sprite, "two", **LOOP, http_port=9090)
    assert taken.value.status == 409


def test_a_command_that_cannot_be_started_fails_and_is_tried_again(api: Api, sprite: str) -> None:
    events = put(api, sprite, "web", cmd="/no/such/program")
    assert any(event.get("exit_code") == 127 for event in events)
    state = get(api, sprite, "web")["state"]
    assert state["restart_count"] >= 1 and state["error"]
