# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Checkpoint, restore, undo, fork, and v0."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import pytest

from support.api import Api, ApiError, StreamError
from support.exec import Result, open_exec, root_shell, run, shell
from support.fixtures import fresh_name
from support.wait import eventually


def test_checkpoints_count_up_and_carry_what_clients_read(api: Api, sprite: str) -> None:
    assert api.checkpoint(sprite, "first") == "v1"
    assert api.checkpoint(sprite) == "v2"
    listed = api.checkpoints(sprite)
    assert [entry["id"] for entry in listed] == ["v2", "v1", "v0"]
    assert listed[1]["comment"] == "first"
    for entry in listed:
        datetime.fromisoformat(entry["create_time"].replace("Z", "+00:00"))
    one = api.call("GET", f"/v1/sprites/{sprite}/checkpoints/v1").json()
    assert (one["id"], one["comment"]) == ("v1", "first")


def test_the_stream_of_a_checkpoint_names_it_twice_and_tells_its_times(api: Api, sprite: str) -> None:
    events = api.stream(f"/v1/sprites/{sprite}/checkpoint", {"comment": "x"})
    texts = [event["data"] for event in events]
    assert any(text.strip() == "ID: v1" for text in texts), texts
    assert "Checkpoint v1 created" in texts[-1]
    assert any("flush" in text and "snapshot" in text and "ms" in text for text in texts), texts
    assert all(event["time"].endswith("Z") for event in events)


def test_the_body_of_a_checkpoint_may_be_absent(api: Api, sprite: str) -> None:
    answer = api.call("POST", f"/v1/sprites/{sprite}/checkpoint")
    assert answer.headers["cache-control"] == "no-cache"
    assert "Checkpoint v1 created" in answer.text


def test_restore_brings_back_exactly_what_was(api: Api, sprite: str) -> None:
    root_shell(api, sprite, "mkdir /data; echo one > /data/file; ln -s file /data/link; chmod 2751 /data; rm /etc/motd")
    shell(api, sprite, "echo mine > own; chmod 600 own")
    state = "ls -lan --time-style=full-iso /data /home/sprite | grep -v '^total'; ls /etc; cat /data/link own"
    before = shell(api, sprite, state)
    api.checkpoint(sprite)
    root_shell(api, sprite, "rm -rf /data /usr/share /var/lib/dpkg; echo new > /etc/motd; echo other > /home/sprite/own")
    api.restore(sprite, "v1")
    assert shell(api, sprite, state) == before


def test_a_restore_after_the_worst_disaster(api: Api, sprite: str) -> None:
    shell(api, sprite, "echo precious > file")
    api.checkpoint(sprite)
    assert run(api, sprite, "sudo", "rm", "-rf", "/usr", "/etc", "/home", "/bin", "/lib", "/lib64", "/sbin").code is not None
    assert run(api, sprite, "cat", "file").code in (126, 127)
    api.restore(sprite, "v1")
    assert shell(api, sprite, "cat file; id -un") == "precious\nsprite\n"


def test_v0_is_a_factory_reset(api: Api, sprite: str) -> None:
    shell(api, sprite, "echo x > file; sudo touch /etc/mark")
    api.restore(sprite, "v0")
    assert run(api, sprite, "ls", "/etc/mark", "/home/sprite/file").code == 2
    assert shell(api, sprite, "id -un; ls -d /home/sprite") == "sprite\n/home/sprite\n"


def test_a_restore_can_be_undone_and_redone(api: Api, sprite: str) -> None:
    shell(api, sprite, "echo one > file")
    api.checkpoint(sprite)
    shell(api, sprite, "echo two > file")
    api.restore(sprite, "v1")
    assert shell(api, sprite, "cat file") == "one\n"
    api.undo(sprite)
    assert shell(api, sprite, "cat file") == "two\n"
    api.undo(sprite)
    assert shell(api, sprite, "cat file") == "one\n"


def test_undo_without_a_restore_is_not_found(api: Api, sprite: str) -> None:
    with pytest.raises((ApiError, StreamError)) as refused:
        api.undo(sprite)
    if isinstance(refused.value, ApiError):
        assert (refused.value.status, refused.value.code) == (404, "not_found")


def test_the_replaced_state_is_an_automatic_checkpoint_hidden_by_default(api: Api, sprite: str) -> None:
    api.checkpoint(sprite)
    shell(api, sprite, "echo lost > file")
    api.restore(sprite, "v1")
    assert [entry["id"] for entry in api.checkpoints(sprite)] == ["v1", "v0"]
    automatic = [entry for entry in api.checkpoints(sprite, automatic=True) if entry["id"].startswith("auto-")]
    assert len(automatic) == 1 and automatic[0]["is_auto"] is True
    api.restore(sprite, automatic[0]["id"])
    assert shell(api, sprite, "cat file") == "lost\n"


def test_ids_are_never_used_again(api: Api, sprite: str) -> None:
    assert [api.checkpoint(sprite) for _ in range(3)] == ["v1", "v2", "v3"]
    api.restore(sprite, "v1")
    api.call("DELETE", f"/v1/sprites/{sprite}/checkpoints/v3", 204)
    assert api.checkpoint(sprite) == "v4"


def test_sessions_end_at_a_restore_and_the_next_exec_sees_the_old_files(api: Api, sprite: str) -> None:
    shell(api, sprite, "echo one > file")
    api.checkpoint(sprite)
    shell(api, sprite, "echo two > file")

    async def scenario() -> Result:
        async with open_exec(api, sprite, "sh", "-c", "echo ready; sleep 300") as session:
            await session.read_until(b"ready")
            await asyncio.to_thread(api.restore, sprite, "v1")
            return await session.finish(10)

    assert asyncio.run(scenario()).code != 0
    assert api.sessions(sprite) == []
    assert shell(api, sprite, "cat file") == "one\n"


def test_identity_stays_through_a_restore(api: Api, sprite: str) -> None:
    before = api.get(sprite)
    api.checkpoint(sprite)
    api.restore(sprite, "v1")
    after = api.get(sprite)
    for key in ("id", "name", "url", "created_at"):
        assert before[key] == after[key]
    assert after["status"] in ("running", "warm")


@pytest.mark.parametrize("checkpoint", ["v9", "auto-7", "nonsense", "v01", "%2e%2e%2f", "v1%2F..", "-1"])
def test_an_unknown_checkpoint_is_not_found(api: Api, sprite: str, checkpoint: str) -> None:
    path = f"/v1/sprites/{sprite}/checkpoints/{checkpoint}"
    for method, target in [("GET", path), ("POST", f"{path}/restore"), ("DELETE", path)]:
        answer = api.call(method, target, (400, 404))
        assert answer.json()["error"] in ("not_found", "invalid_request")


def test_an_active_checkpoint_cannot_be_deleted(api: Api, sprite: str) -> None:
    for _ in range(3):
        api.checkpoint(sprite)
    api.restore(sprite, "v2")
    for busy in ("v2", "v0", "Current"):
        answer = api.call("DELETE", f"/v1/sprites/{sprite}/checkpoints/{busy}", 409)
        assert answer.json()["error"] == "conflict"
    api.call("DELETE", f"/v1/sprites/{sprite}/checkpoints/v3", 204)
    api.call("DELETE", f"/v1/sprites/{sprite}/checkpoints/v3", 404)


def test_history_keeps_the_line_of_descent(api: Api, sprite: str) -> None:
    for _ in range(3):
        api.checkpoint(sprite)
    api.restore(sprite, "v1")
    api.checkpoint(sprite, "branch")
    entries = {entry["id"]: entry for entry in api.checkpoints(sprite)}
    assert entries["v4"].get("source_id") == "v1"
    assert entries["v3"].get("source_id") == "v2"
    query = {"history": "v2"}
    descendants = api.call("GET", f"/v1/sprites/{sprite}/checkpoints", params=query).json()
    assert {entry["id"] for entry in descendants} - {"Current", "v2"} == {"v3"}


def test_the_newest_five_are_visible_inside_and_read_only(api: Api, sprite: str) -> None:
    for number in range(1, 8):
        shell(api, sprite, f"echo {number} > file")
        api.checkpoint(sprite)
    # Shown inside a moment after they were made.
    eventually(lambda: run(api, sprite, "test", "-d", "/.sprite/checkpoints/v7/home").code == 0, "v7 is shown", 20)
    assert shell(api, sprite, "ls /.sprite/checkpoints").split() == ["v3", "v4", "v5", "v6", "v7"]
    assert shell(api, sprite, "cat /.sprite/checkpoints/v4/home/sprite/file") == "4\n"
    assert shell(api, sprite, "ls /.sprite/checkpoints/v4/usr/bin/env; cat /.sprite/checkpoints/v7/etc/os-release | wc -l")
    refused = run(api, sprite, "sudo", "touch", "/.sprite/checkpoints/v4/home/sprite/new")
    assert refused.code == 1 and b"Read-only file system" in refused.stderr
    api.restore(sprite, "v5")
    api.call("DELETE", f"/v1/sprites/{sprite}/checkpoints/v7", 204)
    eventually(lambda: run(api, sprite, "test", "-d", "/.sprite/checkpoints/v6/home").code == 0, "v6 is shown", 20)
    eventually(lambda: run(api, sprite, "test", "-d", "/.sprite/checkpoints/v2/home").code == 0, "v2 is shown", 20)
    assert shell(api, sprite, "ls /.sprite/checkpoints").split() == ["v2", "v3", "v4", "v5", "v6"]
    assert shell(api, sprite, "cat file /.sprite/checkpoints/v2/home/sprite/file") == "5\n2\n"


def test_a_fork_has_the_state_and_goes_its_own_way(api: Api, new_sprite: Callable[..., str]) -> None:
    source = new_sprite(labels=["l"], environment={"A": "1"})
    shell(api, source, "echo one > file")
    api.checkpoint(source)
    shell(api, source, "echo two > file")
    old, new = fresh_name("fork"), fresh_name("fork")
    try:
        forked = api.fork(source, old, "v1")
        assert forked["name"] == old and forked["id"] != api.get(source)["id"]
        assert forked["labels"] == ["l"]
        assert shell(api, old, "cat file; echo $A; uname -n") == f"one\n1\n{old}\n"
        api.fork(source, new)
        assert shell(api, new, "cat file") == "two\n"
        shell(api, new, "echo three > file")
        assert shell(api, source, "cat file") == "two\n"
        api.destroy(source)
        assert shell(api, old, "cat file") == "one\n"
        api.restore(new, "v0")
        assert shell(api, new, "cat file") == "two\n"
    finally:
        for name in (old, new):
            api.destroy(name)


def test_a_fork_of_what_is_not_there(api: Api, sprite: str, new_sprite: Callable[..., str]) -> None:
    taken = new_sprite()
    for name, checkpoint, status in [("n", "v9", 404), (taken, None, 409), ("Bad Name", None, 400), (sprite, None, 409)]:
        with pytest.raises(ApiError) as refused:
            api.fork(sprite, name, checkpoint)
        assert refused.value.status == status, refused.value


def test_a_fork_takes_its_id_from_no_one(api: Api, sprite: str) -> None:
    answer = api.call("POST", f"/v1/sprites/{sprite}/fork", 400, json={})
    assert "name" in answer.json()["message"]


def test_a_checkpoint_holds_what_a_command_wrote_without_sync(api: Api, sprite: str) -> None:
    shell(api, sprite, "head -c 20000000 /dev/urandom > big; sha256sum big > sum")
    api.checkpoint(sprite)
    shell(api, sprite, "rm big")
    api.restore(sprite, "v1")
    assert shell(api, sprite, "sha256sum -c sum") == "big: OK\n"


def test_nested_subvolumes_cannot_be_made_inside(api: Api, sprite: str) -> None:
    """BTRFS_IOC_SUBVOL_CREATE = _IOW(0x94, 14, 4096 bytes): its content would be missing in every snapshot."""
    script = (
        "import fcntl, os, struct, sys\n"
        "for place in sys.argv[1:]:\n"
        "    fd = os.open(place, os.O_RDONLY)\n"
        "    try:\n"
        "        fcntl.ioctl(fd, 0x5000940e, bytearray(struct.pack('q4088s', 0, b'nested')))\n"
        "        print('made in', place)\n"
        "    except OSError as error:\n"
        "        print('refused')\n"
    )
    places = "/home/sprite /var/lib/docker /var/lib/containers"
    assert shell(api, sprite, f'sudo mkdir -p {places}; sudo python3 -c "{script}" {places}') == "refused\n" * 3
    api.checkpoint(sprite)
