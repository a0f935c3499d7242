# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The journal: what is recorded, filters, pages, following."""

import json
import time

import httpx
import pytest

from support.api import Api, ApiError
from support.exec import run, shell
from support.fixtures import fresh_name
from support.logs import Follower, all_output, events, output, page, records, texts, wait_for
from support.wait import eventually


def test_output_is_recorded_line_by_line(api: Api, sprite: str) -> None:
    shell(api, sprite, "echo one; echo two >&2; printf 'no newline'")
    wait_for(api, sprite, "exit 0", event="exec.ended")
    lines = output(api, sprite)
    assert [(one["stream"], one["text"]) for one in lines if one["stream"] == "stdout"] == [
        ("stdout", "one"), ("stdout", "no newline"),
    ]  # fmt: skip
    assert [one["text"] for one in lines if one["stream"] == "stderr"] == ["two"]
    first = lines[0]
    assert first["sprite"] == sprite and first["session"] and first["command"].startswith("/")
    assert first["checkpoint"] == "v0" and first["kind"] == "process" and "partial" not in first


def test_a_command_has_a_beginning_and_an_end(api: Api, sprite: str) -> None:
    result = run(api, sprite, "sh", "-c", "echo hello; exit 7", env={"SECRET": "do-not-keep-me"}, dir="/usr")
    assert result.code == 7
    ended = wait_for(api, sprite, "exit 7")
    assert ended["fields"]["exit_code"] == 7 and ended["fields"]["stdout_bytes"] == 6
    assert ended["fields"]["duration_ns"] > 0 and ended["level"] == "warn"
    started = records(api, sprite, event="exec.started", session=ended["session"])[0]
    assert started["fields"]["argv"] == ["sh", "-c", "echo hello; exit 7"]
    assert started["fields"]["directory"] == "/usr"
    everything = api.call("GET", f"/v1/sprites/{sprite}/logs", params={"limit": 10000}).text
    assert "do-not-keep-me" not in everything and api.token not in everything


def test_calls_of_the_api_are_recorded(api: Api, sprite: str) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    # Past the checks of the description, which knows no such parameter.
    with httpx.Client(base_url=api.http.base_url, headers=api.http.headers, trust_env=False) as client:
        answer = client.get(
            f"/v1/sprites/{sprite}", params={"password": "hunter2"},
            headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "user-agent": "tester/1"},
        )  # fmt: skip
    assert answer.status_code == 200
    assert answer.headers["traceparent"].startswith(f"00-{trace}-")
    call = eventually(lambda: records(api, trace=trace, kind="api"), "the call is recorded")[0]
    fields = call["fields"]
    assert (fields["method"], fields["status"], fields["route"]) == ("GET", 200, "sprite")
    assert fields["bytes_out"] == len(answer.content) and fields["user_agent"] == "tester/1"
    assert fields["remote"].startswith("127.0.0.1:") and fields["duration_ms"] > 0
    assert call["sprite"] == sprite
    assert "hunter2" not in str(records(api, sprite))
    with pytest.raises(ApiError):
        api.call("GET", f"/v1/sprites/{sprite}/checkpoints/v99")
    failed = eventually(lambda: records(api, sprite, kind="api", level="warn"), "the failure is recorded")[-1]
    assert failed["fields"]["status"] == 404 and failed["fields"]["error"] == "not_found"


def test_life_events_outlive_the_sprite(api: Api) -> None:
    name = fresh_name("life")
    api.create(name)
    checkpoint = api.checkpoint(name, "before")
    shell(api, name, "echo after")
    api.restore(name, checkpoint)
    fork = fresh_name("fork")
    api.fork(name, fork)
    api.destroy(fork)
    api.destroy(name)
    eventually(lambda: events(api, name, event="sprite.destroyed"), "its end is recorded")
    happened = [one["event"] for one in events(api, name, kind="system,checkpoint")]
    assert happened == [
        "sprite.created", "checkpoint.created", "sprite.restored", "sprite.started", "restore.completed",
        "sprite.forked", "sprite.destroyed",
    ]  # fmt: skip
    made = records(api, name, event="checkpoint.created")[0]
    assert made["fields"]["checkpoint"] == "v1" and made["fields"]["snapshot_ms"] > 0
    assert made["fields"]["flush_ms"] >= 0 and made["checkpoint"] == "v0" and made["text"] == "checkpoint v1: before"
    assert [one["checkpoint"] for one in output(api, name) if one["text"] == "after"] == ["v1"]
    with pytest.raises(ApiError) as refused:
        page(api, fresh_name("never"))
    assert refused.value.status == 404


def test_filters(api: Api, sprite: str) -> None:
    shell(api, sprite, "echo apple pie; echo Apple-cart; echo pineapple; echo 'grün tee'; echo oops >&2")
    wait_for(api, sprite, "exit 0", event="exec.ended")
    assert texts(api, sprite, q="apple", kind="process", stream="stdout") == ["apple pie", "Apple-cart"]
    assert texts(api, sprite, q="GRÜN", stream="stdout") == ["grün tee"]
    assert texts(api, sprite, regex="^p.*e$", stream="stdout") == ["pineapple"]
    assert texts(api, sprite, regex="(?i)APPLE", stream="stdout") == ["apple pie", "Apple-cart", "pineapple"]
    assert texts(api, sprite, stream="stderr") == ["oops"]
    assert texts(api, sprite, stream="stdout", limit=2, order="desc") == ["grün tee", "pineapple"]
    assert texts(api, sprite, stream="stdout", since="1h", until="0s")[0] == "apple pie"
    assert texts(api, sprite, stream="stdout", until="1h") == []
    assert texts(api, sprite, session="999") == []
    second = api.checkpoint(sprite)
    shell(api, sprite, "echo later")
    eventually(lambda: texts(api, sprite, since=second, stream="stdout") == ["later"], "only what came after")
    for query in [
        {"kind": "nothing"}, {"level": "loud"}, {"limit": 0}, {"cursor": "x"}, {"regex": "("}, {"since": "v77"},
        {"q": "..."}, {"regex": r"(a)\1"}, {"regex": "a{999}{999}"}, {"color": "red"}, {"order": "up"},
    ]:  # fmt: skip
        with pytest.raises(ApiError) as refused:
            page(api, sprite, **query)
        assert refused.value.status in (400, 404), query


def test_pages_are_stable_while_records_come(api: Api, sprite: str) -> None:
    shell(api, sprite, "seq 1 500")
    wait_for(api, sprite, "exit 0", event="exec.ended")
    seen: list[str] = []
    cursor = None
    while True:
        query = {"order": "desc", "limit": 70, "stream": "stdout"} | ({"cursor": cursor} if cursor else {})
        answer = page(api, sprite, **query)
        seen += [one["text"] for one in answer["records"]]
        shell(api, sprite, "echo noise")
        if not answer["has_more"]:
            break
        cursor = answer["next_cursor"]
    assert seen == [str(number) for number in range(500, 0, -1)]
    assert [one["text"] for one in all_output(api, sprite)][:500] == [str(number) for number in range(1, 501)]


def test_a_follower_gets_everything_once(api: Api, sprite: str) -> None:
    shell(api, sprite, "seq 1 50")
    wait_for(api, sprite, "exit 0", event="exec.ended")
    follower = Follower(api, sprite, stream="stdout", limit=1000)
    shell(api, sprite, "for i in $(seq 51 100); do echo $i; sleep 0.005; done; seq 101 3000")
    eventually(lambda: len(follower.records) >= 3000, "all lines came", 20)
    assert [one["text"] for one in follower.records] == [str(number) for number in range(1, 3001)]
    middle = follower.records[1499]["cursor"]
    follower.close()
    again = Follower(api, sprite, stream="stdout", cursor=middle)
    eventually(lambda: len(again.records) >= 1500, "the rest came", 20)
    assert [one["text"] for one in again.records] == [str(number) for number in range(1501, 3001)]
    again.close()


def test_server_sent_events(api: Api, sprite: str) -> None:
    follower = Follower(api, sprite, accept="text/event-stream", stream="stdout")
    shell(api, sprite, "echo event")
    eventually(lambda: follower.records, "the event came")
    assert follower.response.headers["content-type"] == "text/event-stream"
    assert follower.lines[0] == f"id: {follower.records[0]['cursor']}"
    follower.close()
    # A browser that connects again names the last event it has seen.
    shell(api, sprite, "echo next")
    wait_for(api, sprite, "next", stream="stdout")
    headers = {"Accept": "text/event-stream", "Last-Event-ID": follower.records[0]["cursor"]}
    with api.http.stream(
        "GET", f"/v1/sprites/{sprite}/logs", params={"follow": "true", "stream": "stdout"}, headers=headers
    ) as again:
        first = next(json.loads(line[6:]) for line in again.iter_lines() if line.startswith("data: "))
    assert first["text"] == "next"


def test_a_line_reaches_a_follower_soon(api: Api, sprite: str) -> None:
    follower = Follower(api, sprite, stream="stdout")
    shell(api, sprite, "for i in $(seq 50); do date +%s.%N; sleep 0.02; done")
    eventually(lambda: len(follower.got) >= 50, "all lines came")
    late = sorted(at - float(record["text"]) for at, record in follower.got)
    assert late[25] < 0.1, late
    follower.close()


def test_a_prompt_without_a_newline_is_recorded(api: Api, sprite: str) -> None:
    shell(api, sprite, "printf 'name? '; sleep 1; echo bob")
    wait_for(api, sprite, "exit 0", event="exec.ended")
    assert [(one["text"], one.get("partial", False)) for one in output(api, sprite)] == [("name? ", True), ("bob", False)]


def test_odd_output_is_kept_as_text(api: Api, sprite: str) -> None:
    script = r"printf 'a\0b\n\377\376\n\r\n'; printf '\303\244\303\n'; head -c 40000 /dev/zero | tr '\0' x; echo"
    assert run(api, sprite, "sh", "-c", script).code == 0
    wait_for(api, sprite, "exit 0", event="exec.ended")
    lines = [one["text"] for one in output(api, sprite)]
    assert lines[:4] == ["a\ufffdb", "\ufffd\ufffd", "", "ä\ufffd"]
    assert "".join(lines[4:]) == "x" * 40000 and all(len(line) <= 16384 for line in lines)


def test_sleeping_and_waking_are_recorded(api: Api) -> None:
    name = fresh_name("nap")
    api.create(name, config={"freeze_after_seconds": 1})
    eventually(lambda: events(api, name, event="sprite.frozen"), "it sleeps", 20)
    shell(api, name, "true")
    eventually(lambda: events(api, name, event="sprite.woken"), "it woke")
    api.destroy(name)


def test_traces(api: Api, sprite: str) -> None:
    trace = f"{time.time_ns():032x}"
    api.call(
        "POST", f"/v1/sprites/{sprite}/checkpoint", json={}, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    )
    path = f"/v1/sprites/{sprite}/traces/{trace}"
    wait_for(api, sprite, f"POST /v1/sprites/{sprite}/checkpoint 200", trace=trace)
    spans = api.call("GET", path).json()["spans"]
    names = {span["name"] for span in spans}
    assert {"http.createCheckpoint", "storage.flush", "storage.snapshot", "sandbox.freeze", "sandbox.thaw"} <= names
    root = next(span for span in spans if span["name"] == "http.createCheckpoint")
    assert root["parent_id"] == "00f067aa0ba902b7"
    ids = {span["span_id"] for span in spans}
    assert all(span["parent_id"] in ids for span in spans if span is not root), spans
    inner = next(span for span in spans if span["name"] == "storage.snapshot")
    assert 0 < inner["duration_ms"] <= root["duration_ms"]
    # Down to single calls to the kernel.
    assert {"fsync.subvolume", "ioctl.snap_create", "cgroup.freeze", "cgroup.thaw"} <= names
    call = next(span for span in spans if span["name"] == "ioctl.snap_create")
    assert call["parent_id"] == inner["span_id"] and 0 < call["duration_ms"] <= inner["duration_ms"]
    assert call["start"] >= inner["start"]


def test_the_trace_of_a_creation_shows_programs_and_calls(api: Api) -> None:
    name, trace = fresh_name(), f"{time.time_ns():032x}"
    api.call("POST", "/v1/sprites", 201, json={"name": name}, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    wait_for(api, None, "POST /v1/sprites 201", trace=trace)
    spans = {span["name"]: span for span in api.call("GET", f"/v1/traces/{trace}").json()["spans"]}
    steps = {
        "command.crun": "sandbox.start", "cgroup.make": "sandbox.start", "ioctl.snap_create": "storage.create",
        "mount.overlay": "storage.mount",
    }  # fmt: skip
    for call, step in steps.items():
        assert spans[call]["parent_id"] == spans[step]["span_id"], call
    api.destroy(name)


def test_services_are_recorded(api: Api, sprite: str) -> None:
    api.call("PUT", f"/v1/sprites/{sprite}/services/web?duration=300ms", json={"cmd": "sh", "args": ["-c", "echo served; sleep 60"]})
    line = wait_for(api, sprite, "served", service="web")
    assert line["service"] == "web" and line["stream"] == "stdout"
