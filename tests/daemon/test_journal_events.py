# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What happens to a sprite without anybody calling the API: limits, its URL, and whose traces are whose."""

import http.client
from collections.abc import Callable

import pytest

from support import inside
from support.api import Api, ApiError
from support.exec import run, shell
from support.logs import events, output, records
from support.wait import eventually

EAT = "python3 -c 'b = bytearray(400 << 20); b[::4096] = b\"x\" * len(b[::4096])'"


def test_processes_that_limits_end_or_refuse_are_recorded(api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite(config={"ram_mb": 128, "pids": 40})
    assert run(api, name, "sh", "-c", EAT).code != 0
    killed = eventually(lambda: events(api, name, event="sprite.oom_killed"), "the kill is recorded")[0]
    assert killed["level"] == "error" and killed["fields"]["processes"] >= 1
    assert killed["text"].endswith("the limit of 128 MiB of memory was reached")
    run(api, name, "bash", "-c", "for i in $(seq 100); do sleep 1 & done 2>/dev/null")
    refused = eventually(lambda: events(api, name, event="sprite.pids_limit"), "the refusal is recorded")[0]
    assert refused["level"] == "warn" and refused["fields"]["pids"] == 40 and refused["fields"]["refused"] >= 1


def test_requests_to_the_url_are_recorded_without_their_query(api: Api, sprite: str) -> None:
    inside.start(api, sprite, "http")
    port = int(api.url.rsplit(":", 1)[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    host = f"{sprite}.sprites.localhost:{port}"
    connection.request("GET", "/a/path?password=hunter2", headers={"Host": host, "Authorization": f"Bearer {api.token}"})
    answer = connection.getresponse()
    body = answer.read()
    record = eventually(lambda: events(api, sprite, event="url.request"), "the request is recorded")[0]
    fields = record["fields"]
    assert (fields["method"], fields["path"], fields["status"]) == ("GET", "/a/path", answer.status)
    assert fields["bytes_out"] == len(body) and fields["duration_ms"] > 0
    assert fields["remote"].startswith("127.0.0.1:") and record["kind"] == "api"
    everything = str(events(api, sprite))
    assert "hunter2" not in everything and api.token not in everything


def test_a_sprite_answers_for_its_own_traces_only(api: Api, sprite: str, new_sprite: Callable[..., str]) -> None:
    other = new_sprite()
    trace = "0af7651916cd43dd8448eb211c80319c"
    parent = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    api.call("POST", f"/v1/sprites/{other}/checkpoint", json={}, headers=parent)
    path = f"/v1/sprites/{other}/traces/{trace}"
    eventually(lambda: records(api, other, trace=trace, kind="api"), "the request is recorded")
    spans = [span for span in api.call("GET", path).json()["spans"] if span["name"].startswith("http.")]
    assert spans[0]["sprite"] == other
    with pytest.raises(ApiError) as failure:
        api.call("GET", f"/v1/sprites/{sprite}/traces/{trace}")
    assert failure.value.status == 404
    # Another request of the same trace: each sees its own steps.
    api.call("POST", f"/v1/sprites/{sprite}/checkpoint", json={}, headers=parent)
    eventually(lambda: records(api, sprite, trace=trace, kind="api"), "the request is recorded")
    mine = api.call("GET", f"/v1/sprites/{sprite}/traces/{trace}").json()["spans"]
    assert {span["sprite"] for span in mine} == {sprite}


def test_records_know_the_checkpoint_they_happened_after(api: Api, sprite: str) -> None:
    shell(api, sprite, "echo at first")
    first = api.checkpoint(sprite, "one")
    shell(api, sprite, "echo after one")
    api.checkpoint(sprite, "two")
    shell(api, sprite, "echo after two")
    api.restore(sprite, first)
    shell(api, sprite, "echo once more after one")
    fork = f"{sprite}-fork"[:63]
    api.fork(sprite, fork)
    try:
        shell(api, fork, "echo in the fork")
        lines = eventually(lambda: output(api, fork), "the fork's line is there")
        assert [one["checkpoint"] for one in lines if one["text"] == "in the fork"] == ["v0"]
    finally:
        api.destroy(fork)
    found = eventually(
        lambda: [one for one in output(api, sprite) if one["text"] == "once more after one"] and output(api, sprite),
        "all lines are there",
    )
    lineage = {one["text"]: one["checkpoint"] for one in found if not one["text"].startswith("sprite-env:")}
    assert lineage == {
        "at first": "v0", "after one": "v1", "after two": "v2", "once more after one": "v1"
    }  # fmt: skip
