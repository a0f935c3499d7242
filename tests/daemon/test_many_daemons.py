# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Several daemons on one host do not touch each other, and each takes everything of its own away."""

import subprocess
from collections.abc import Callable

from support import programs
from support.daemon import Daemon
from support.exec import shell
from support.host import host_state, subvolumes
from support.wait import eventually


def test_two_daemons_with_sprites_of_the_same_name(new_daemon: Callable[..., Daemon]) -> None:
    daemons = [new_daemon(), new_daemon()]
    for number, daemon in enumerate(daemons):
        api = daemon.api()
        api.create("same")
        shell(api, "same", f"echo {number} > file")
        api.checkpoint("same")
    for number, daemon in enumerate(daemons):
        assert shell(daemon.api(), "same", "cat file") == f"{number}\n"
    assert daemons[0].token != daemons[1].token
    daemons[0].kill()
    assert shell(daemons[1].api(), "same", "cat file") == "1\n"
    daemons[0].start()
    daemons[1].api().destroy("same")
    assert shell(daemons[0].api(), "same", "cat file") == "0\n"


def use_and_delete(daemon: Daemon) -> None:
    """Sprites with processes, checkpoints, restores and a fork, through a crash; then none."""
    api = daemon.api()
    for number in range(4):
        name = f"s{number}"
        api.create(name, config={"pids": 200, "ram_mb": 256})
        shell(api, name, "sleep 300 >/dev/null 2>&1 & echo x > file")
        api.checkpoint(name)
        api.restore(name, "v1")
        api.checkpoint(name)
    api.fork("s0", "s0-fork", "v1")
    daemon.restart()
    api = daemon.api()
    for one in api.all_sprites():
        api.destroy(one["name"])


def test_nothing_of_deleted_sprites_is_left_while_the_daemon_runs(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    before = host_state(daemon.tag, daemon.data_directory)
    disks = subvolumes(daemon.pid, daemon.data_directory / "pool")
    use_and_delete(daemon)

    def left() -> dict[str, list[str]]:
        added = host_state(daemon.tag, daemon.data_directory).added_since(before)
        # The daemon is another process now, has its own mounts, and makes networks ahead of their use.
        ahead = [link for link in added.pop("links", []) if not link.startswith(f"spv{daemon.tag}")]
        added["processes"] = [one for one in added.get("processes", []) if " serve --data-dir " not in one]
        added.pop("mounts", None)
        return {kind: names for kind, names in (added | {"links": ahead}).items() if names}

    eventually(lambda: left() == {}, "nothing is left of the sprites", 10)
    assert left() == {}
    eventually(lambda: subvolumes(daemon.pid, daemon.data_directory / "pool") == disks, "their disks are gone", 30)


def test_nothing_is_left_on_the_host_when_a_daemon_without_sprites_ends(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(started=False)
    before = host_state(daemon.tag, daemon.data_directory)
    daemon.start()
    use_and_delete(daemon)
    assert daemon.terminate() == 0
    left = host_state(daemon.tag, daemon.data_directory).added_since(before)
    assert left == {}, f"left on the host: {left}"


def test_cleanup_takes_running_sprites_off_the_host_and_keeps_their_disks(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(started=False)
    before = host_state(daemon.tag, daemon.data_directory)
    daemon.start()
    api = daemon.api()
    api.create("kept")
    shell(api, "kept", "echo data > file; sleep 300 >/dev/null 2>&1 &")
    api.checkpoint("kept")
    daemon.kill()
    daemon.tool("cleanup")
    left = host_state(daemon.tag, daemon.data_directory).added_since(before)
    assert left == {}, f"left on the host: {left}"
    daemon.start()
    assert shell(daemon.api(), "kept", "cat file; pgrep -x sleep | wc -l") == "data\n0\n"


def test_a_second_daemon_on_the_same_data_directory_is_refused(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    command = [
        str(programs.sprited()), "serve", "--data-dir", str(daemon.data_directory), "--listen", "127.0.0.1:0",
        "--guest-binary", str(programs.guest()),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert str(daemon.data_directory) in done.stderr
    daemon.api().create("fine")
    assert shell(daemon.api(), "fine", "echo fine") == "fine\n"


def test_a_port_that_is_taken_is_a_clear_failure(new_daemon: Callable[..., Daemon]) -> None:
    first, second = new_daemon(), new_daemon(started=False)
    port = first.listen
    command = [
        str(programs.sprited()), "serve", "--data-dir", str(second.data_directory), "--listen", port,
        "--guest-binary", str(programs.guest()),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and done.stdout == ""
    assert port in done.stderr


def test_the_token_is_for_the_owner_only(daemon: Daemon) -> None:
    assert (daemon.data_directory / "token").stat().st_mode & 0o777 == 0o600
    assert daemon.tool("token").strip() == daemon.token


def test_standard_output_holds_exactly_one_line(daemon: Daemon) -> None:
    daemon.api().page()
    assert len(daemon.standard_output) == 1
