# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""How much output the journal takes: rates, what is no text, and nothing at all."""

import json
from collections.abc import Callable
from pathlib import Path

from support.api import Api
from support.daemon import Daemon
from support.exec import run, shell
from support.fixtures import fresh_name
from support.logs import all_output, events, output, wait_for
from support.wait import eventually

MEGABYTE = 1_000_000


def recorded_bytes(api: Api, sprite: str) -> int:
    question = f"SELECT sum(length(text) + 1) FROM log WHERE sprite = '{sprite}' AND stream = 'stdout'"
    found: int = api.call("POST", "/v1/logs/query", json={"sql": question}).json()["rows"][0][0]
    return found


def configured(new_daemon: Callable[..., Daemon], tmp_path: Path, **settings: str) -> tuple[Daemon, Api, str]:
    """A daemon with these settings, and a sprite on it."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(settings))
    daemon = new_daemon("--config", str(file))
    api = daemon.api()
    name = fresh_name()
    api.create(name)
    return daemon, api, name


def test_what_is_beyond_the_rate_is_counted_also_across_a_kill_and_its_end_is_kept(
    new_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon, api, name = configured(new_daemon, tmp_path, journal_rate_per_session="64K")
    script = "yes 'a line of text' | head -c 5000000; echo; echo this is why it failed; sleep 600"
    api.call(
        "PUT", f"/v1/sprites/{name}/services/flood?duration=100ms", json={"cmd": "sh", "args": ["-c", script]}
    )  # fmt: skip
    wait_for(api, name, "a line of text", service="flood", stream="stdout", limit=1)
    daemon.kill()
    daemon.start()
    wait_for(api, name, "this is why it failed", service="flood", order="desc", limit=10, timeout=30)
    gaps = events(api, name, event="output.dropped")
    dropped = sum(one["fields"]["bytes"] for one in gaps)
    assert dropped > 2 * MEGABYTE
    # A gap may begin and end within a line.
    assert abs(recorded_bytes(api, name) + dropped - 5_000_023) < 100 * (len(gaps) + 1)
    shell(api, name, "echo another command is not concerned")
    wait_for(api, name, "another command is not concerned", stream="stdout", order="desc", limit=10)


def test_what_is_no_text_takes_little_space(api: Api, sprite: str) -> None:
    script = "head -c 9000000 /dev/zero; echo; head -c 3000000 /dev/urandom; echo; echo the end"
    assert run(api, sprite, "sh", "-c", script).code == 0
    wait_for(api, sprite, "exit 0", event="exec.ended", timeout=30)
    lines = all_output(api, sprite)
    binary = [one for one in lines if "binary_bytes" in one.get("fields", {})]
    assert sum(one["fields"]["binary_bytes"] for one in binary) > 10_000_000
    assert binary[0]["text"].endswith(f"beginning with {' '.join(['00'] * 16)}]")
    assert lines[-1]["text"] == "the end"
    assert sum(len(one["text"]) for one in lines) < 2 * MEGABYTE


def test_text_in_other_writings_is_text(api: Api, sprite: str) -> None:
    script = "for i in $(seq 500); do printf 'это обычный текст, 这是普通文本\\n'; done; find / -xdev -print0 | head -c 60000"
    shell(api, sprite, script)
    wait_for(api, sprite, "exit 0", event="exec.ended")
    lines = all_output(api, sprite)
    assert [one["text"] for one in lines].count("это обычный текст, 这是普通文本") == 500
    assert not [one for one in lines if "binary_bytes" in one.get("fields", {})]


def test_recording_can_be_switched_off(new_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    _, api, name = configured(new_daemon, tmp_path, journal_output="off")
    assert shell(api, name, "seq 100000; echo nobody notes this").endswith("nobody notes this\n")
    ended = wait_for(api, name, "exit 0", event="exec.ended")
    assert ended["fields"]["stdout_bytes"] > 500_000
    assert not output(api, name) and not events(api, name, event="output.dropped")
