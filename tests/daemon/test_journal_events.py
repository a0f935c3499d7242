# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What happens to a sprite without anybody calling the API: limits, its URL, and whose traces are whose."""

import http.client
import time
from collections.abc import Callable

import pytest

from support import inside
from support.api import Api, ApiError
from support.daemon import Daemon
from support.exec import root_shell, run, shell
from support.fixtures import fresh_name
from support.logs import all_output, events, output, records, wait_for
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
    spans = api.call("GET", f"/v1/sprites/{sprite}/traces/{record['trace_id']}").json()["spans"]
    assert [span["name"] for span in spans if not span.get("parent_id")] == ["url.request"]
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


def test_the_console_of_the_sprites_init_is_recorded(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    name = fresh_name()
    api.create(name)
    root_shell(api, name, "echo said by number one > /proc/1/fd/2; seq 1 2000 > /proc/1/fd/1")
    line = wait_for(api, name, "said by number one", service="console")
    assert (line["stream"], line["kind"], line["level"]) == ("stderr", "process", "info")
    # What is said while no daemon is there waits in the pipe.
    root_shell(api, name, "(while [ ! -e /tmp/now ]; do sleep 0.1; done; echo said to nobody > /proc/1/fd/1) >/dev/null 2>&1 &")
    shell(api, name, "(sleep 1; touch /tmp/now) >/dev/null 2>&1 &")
    daemon.kill()
    time.sleep(2)
    daemon.start()
    wait_for(api, name, "said to nobody", service="console")
    lines = [one["text"] for one in all_output(api, name, service="console")]
    assert [one for one in lines if one.isdigit()] == [str(number) for number in range(1, 2001)]
    assert lines.count("said by number one") == lines.count("said to nobody") == 1
    assert not [one for one in records(api, name) if one.get("event") in ("exec.started", "exec.ended") and one.get("service")]
    # More than a pipe takes, and no text.
    root_shell(api, name, "head -c 50000000 /dev/zero > /proc/1/fd/1; echo > /proc/1/fd/1; echo after it > /proc/1/fd/1")
    assert wait_for(api, name, "after it", service="console", order="desc", limit=1000)
    # It is nobody's session, and does not keep the sprite awake.
    assert api.call("GET", f"/v1/sprites/{name}/exec").json()["sessions"] == []
    with pytest.raises(ApiError):
        api.call("POST", f"/v1/sprites/{name}/exec/0/kill")
    api.call("POST", f"/v1/sprites/{name}/stop")
    shell(api, name, "echo awake again")
    root_shell(api, name, "echo said by the next > /proc/1/fd/1")
    wait_for(api, name, "said by the next", service="console")


def test_pid_1_says_what_it_cannot_do(api: Api, sprite: str) -> None:
    root_shell(api, sprite, "rm -f /etc/hosts; mkdir -p /etc/hosts.sprite-env/in-the-way")
    api.call("POST", f"/v1/sprites/{sprite}/restart")
    shell(api, sprite, "true")
    wait_for(api, sprite, "sprite-env: cannot write /etc/hosts: open: File exists", service="console", stream="stderr")


def test_a_visitor_who_wakes_a_sprite_has_one_trace_of_both(api: Api, sprite: str) -> None:
    api.call("POST", f"/v1/sprites/{sprite}/stop")
    trace = f"{time.time_ns():032x}"
    port = int(api.url.rsplit(":", 1)[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {
        "Host": f"{sprite}.sprites.localhost:{port}", "Authorization": f"Bearer {api.token}",
        "traceparent": f"00-{trace}-00f067aa0ba902b7-01",
    }  # fmt: skip
    connection.request("GET", "/", headers=headers)
    # Nothing listens there.
    assert connection.getresponse().status == 502
    eventually(lambda: events(api, sprite, event="url.request"), "the request is recorded")
    spans = api.call("GET", f"/v1/sprites/{sprite}/traces/{trace}").json()["spans"]
    root = next(span for span in spans if span["name"] == "url.request")
    assert root["parent_id"] == "00f067aa0ba902b7" and root["error"] == "status 502"
    start = next(span for span in spans if span["name"] == "sandbox.start")
    assert start["parent_id"] == root["span_id"]


def test_bytes_of_a_websocket_are_recorded(api: Api, sprite: str) -> None:
    assert run(api, sprite, "cat", input=b"x" * 1000).text == "x" * 1000
    call = eventually(
        lambda: [one for one in records(api, sprite, kind="api") if one["fields"]["route"] == "exec" and one["fields"]["status"] == 101],
        "the exec is recorded",
    )[-1]
    # The bytes of the streams, the byte before each, the messages about the session.
    assert 1000 < call["fields"]["bytes_in"] < 2000 and 1000 < call["fields"]["bytes_out"] < 3000
