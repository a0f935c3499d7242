# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""One file or directory brought back while everything goes on."""

import threading
from collections.abc import Callable

import pytest

from support.api import Api, ApiError, Json, StreamError
from support.daemon import Daemon
from support.exec import root_shell, run, shell
from support.trees import diff, expected, walk


def restore(api: Api, sprite: str, checkpoint: str, path: str) -> list[Json]:
    return api.stream(f"/v1/sprites/{sprite}/checkpoints/{checkpoint}/restore?path={path}")


def test_a_directory_comes_back_whole_and_nothing_stops(api: Api, sprite: str) -> None:
    script = (
        "mkdir -p app/bin && cd app && echo one > file && ln -s file link && ln file hard && mkfifo pipe && chmod 2750 bin"
        " && head -c 2000000 /dev/urandom > bin/big && touch -d 2020-01-02 file && printf x > \"$(printf 'odd\\377\\nname')\""
    )
    shell(api, sprite, script)
    root_shell(api, sprite, "chown 5:6 /home/sprite/app/bin; setcap cap_net_raw+ep /home/sprite/app/bin/big; chmod 4711 /home/sprite/app/hard")
    before = walk(api, sprite, roots=["home/sprite/app"])
    # Before 1970, and not on a whole second.
    root_shell(api, sprite, "touch -d '1960-01-02 03:04:05.25' /home/sprite/app/bin/big")
    state = "cd app; stat -c '%n %.9Y %i %h' file link pipe bin/big | sort; getcap bin/big; sudo md5sum bin/big"
    listed = shell(api, sprite, state).replace(" ", "\n").split("\n")
    api.checkpoint(sprite)
    root_shell(api, sprite, "cd /home/sprite/app && rm -rf bin pipe && echo two >> file && echo new > added && chown -R 0:0 .")
    shell(api, sprite, "(while :; do sleep 0.01; done) & echo $! > /tmp/pid; sleep 300 > /dev/null 2>&1 &")
    events = restore(api, sprite, "v1", "/home/sprite/app")
    # Blocks are shared, not copied.
    assert any(" 0 of them copied" in event["data"] for event in events), events
    assert walk(api, sprite, roots=["home/sprite/app"]) == before
    again = shell(api, sprite, state).replace(" ", "\n").split("\n")
    assert again[-2:] == listed[-2:] and again[1] == listed[1]
    assert shell(api, sprite, "kill -0 $(cat /tmp/pid) && stat -c %h app/file") == "2\n"
    assert root_shell(api, sprite, "python3 -c 'print(len(open(\"/home/sprite/app/bin/big\", \"rb\").read()))'") == "2000000\n"
    assert diff(api, sprite, "v1", path="/home/sprite/app")[0] == []
    assert root_shell(api, sprite, "ls -A / | grep restore || :") == ""


def test_a_file_of_the_base_and_what_was_removed_come_back(api: Api, sprite: str) -> None:
    api.checkpoint(sprite)
    root_shell(api, sprite, "rm -rf /etc/issue /usr/share/doc /opt; echo broken > /etc/debian_version")
    restore(api, sprite, "v1", "/etc/issue")
    restore(api, sprite, "v1", "/etc/debian_version")
    restore(api, sprite, "v1", "/usr/share/doc")
    # Directories above that are gone come back as well, without what else was in them.
    root_shell(api, sprite, "rm -rf /usr/share/perl")
    wanted = shell(api, sprite, "cd /.sprite/checkpoints/v1/usr/share/perl; find . -type f | sort | head -1").strip().removeprefix(".")
    restore(api, sprite, "v1", f"/usr/share/perl{wanted}")
    assert shell(api, sprite, "find /usr/share/perl -type f").split() == [f"/usr/share/perl{wanted}"]
    restore(api, sprite, "v1", "/usr/share/perl")
    left = [one["path"] for one in diff(api, sprite, "v1")[0]]
    assert all(path == "/opt" or path.startswith("/opt/") for path in left), left


def test_it_can_be_undone_and_redone(api: Api, sprite: str) -> None:
    shell(api, sprite, "mkdir app; echo one > app/file; echo x > other")
    api.checkpoint(sprite)
    shell(api, sprite, "echo two > app/file; rm other")
    restore(api, sprite, "v1", "/home/sprite/app")
    restore(api, sprite, "v1", "/home/sprite/other")
    shell(api, sprite, "echo kept > elsewhere")
    api.undo(sprite)
    # What was not there before is not there again; nothing else is touched, nor stopped.
    assert shell(api, sprite, "cat app/file elsewhere; ls") == "one\nkept\napp\nelsewhere\n"
    api.undo(sprite)
    assert shell(api, sprite, "cat other") == "x\n"
    reasons = [entry["reason"] for entry in api.checkpoints(sprite, automatic=True) if entry["is_auto"]]
    assert reasons == ["replaced_path"] * 4


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 400), ("etc", 400), ("/etc/../home", 400), ("/nowhere", 404), ("/tmp/x", 409), ("/proc/1", 409), ("/var", 409),
        ("/var/lib/docker/x", 409), ("/bin/ls", 409), ("/home/sprite/link/file", 409), ("/" + "x" * 300, 400),
    ],
)  # fmt: skip
def test_what_cannot_be_brought_back_is_refused_and_leaves_nothing(api: Api, sprite: str, path: str, status: int) -> None:
    shell(api, sprite, "ln -s / link")
    api.checkpoint(sprite)
    with pytest.raises((ApiError, StreamError)) as refused:
        restore(api, sprite, "v1", path)
    if isinstance(refused.value, ApiError):
        assert refused.value.status == status, refused.value
    assert root_shell(api, sprite, "ls -A / | grep restore || :") == ""
    assert diff(api, sprite, "v1")[0] == []


def test_links_made_in_the_way_lead_nowhere(api: Api, sprite: str) -> None:
    shell(api, sprite, "mkdir -p app/in; echo one > app/in/file; mkdir target")
    api.checkpoint(sprite)
    shell(api, sprite, "rm -rf app; ln -s target app")
    with pytest.raises((ApiError, StreamError)):
        restore(api, sprite, "v1", "/home/sprite/app/in")
    assert shell(api, sprite, "ls target") == ""
    # The link itself is replaced.
    restore(api, sprite, "v1", "/home/sprite/app")
    assert shell(api, sprite, "cat app/in/file; ls target") == "one\n"


def test_others_who_exchange_it_all_the_time_see_only_whole_states(api: Api, sprite: str) -> None:
    shell(api, sprite, "mkdir app; for i in $(seq 200); do echo old > app/$i; done")
    api.checkpoint(sprite)
    shell(api, sprite, "for i in $(seq 200); do echo new > app/$i; done")
    watch = """
import os
seen = set()
while not os.path.exists("stop"):
    try:
        folder = os.open("app", 0)
        seen.add(str(len(os.listdir(folder))))
        os.close(folder)
    except OSError as error:
        seen.add(str(error))
print(sorted(seen))
"""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(run(api, sprite, "python3", "-c", watch, timeout=60).text))
    thread.start()
    for _ in range(5):
        restore(api, sprite, "v1", "/home/sprite/app")
    shell(api, sprite, "touch stop")
    thread.join()
    # While the old one is taken away, whoever still has it open may see it shrink; by name there is always a whole one.
    assert "No such file" not in found[0], found
    assert shell(api, sprite, "sort -u app/*; ls app | wc -l") == "old\n200\n"


def test_a_daemon_that_is_killed_in_the_middle_leaves_either_state(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    api = daemon.api()
    api.create("one")
    shell(api, "one", "mkdir app; cd app; for i in $(seq 3000); do echo old > $i; done")
    api.checkpoint("one")
    shell(api, "one", "cd app; for i in $(seq 3000); do echo new > $i; done")
    old = walk(api, "one", "/.sprite/checkpoints/v1", ["home/sprite/app"])
    new = walk(api, "one", roots=["home/sprite/app"])
    for delay in (0.1, 0.3, 0.6):
        thread = threading.Thread(target=lambda: _ignoring(lambda: restore(daemon.api(), "one", "v1", "/home/sprite/app")))
        thread.start()
        threading.Event().wait(delay)
        daemon.kill()
        thread.join()
        daemon.start()
        api = daemon.api()
        now = walk(api, "one", roots=["home/sprite/app"])
        assert expected(now, old) == {} or expected(now, new) == {}
        assert root_shell(api, "one", "ls -A / | grep restore || :") == ""
        shell(api, "one", "cd app; for i in $(seq 3000); do echo new > $i; done")


def _ignoring(body: Callable[[], object]) -> None:
    try:
        body()
    except Exception:  # The daemon is killed under it.
        pass
