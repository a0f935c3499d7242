# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What follows a restore is started even if the daemon dies before it comes to that."""

from collections.abc import Callable

import pytest

from support.api import Api
from support.daemon import Daemon
from support.exec import root_shell, run, shell
from support.inner import ask
from support.wait import eventually

HOOK = "#!/bin/sh\\necho hook $1 $SPRITE_REPLACED $SPRITE_RESTORE_ORIGIN >> /home/sprite/hook\\n"


def prepare(api: Api, name: str) -> None:
    api.create(name)
    root_shell(api, name, f"mkdir -p /etc/sprite; printf '{HOOK}' > /etc/sprite/on-restore; chmod +x /etc/sprite/on-restore")
    api.checkpoint(name)


def log(api: Api, name: str) -> list[str]:
    return run(api, name, "sh", "-c", "cat hook then 2>/dev/null || :").text.splitlines()


@pytest.mark.parametrize("point", ["restore.begun", "restore.exchanged", "restore.completed", "restore.running"])
def test_the_next_daemon_starts_what_the_last_one_did_not(new_daemon: Callable[..., Daemon], point: str) -> None:
    daemon = new_daemon()
    api = daemon.api()
    prepare(api, "one")
    api.create("other")
    daemon.terminate()
    daemon.start(environment={"SPRITED_FAULT_POINT": point})
    api = daemon.api()
    # Asked for from inside, by a user of its own choice: the one who asked is gone when it is done.
    then = {"then": "echo then $(id -u) $SPRITE_REPLACED $SPRITE_RESTORE_ORIGIN >> then; sleep 1000"}
    try:
        ask(api, "one", "POST", "/v1/checkpoints/v1/restore", then)
    except Exception:  # The daemon dies under it.
        pass
    eventually(lambda: not daemon.runs, f"the daemon reaches {point}", 20)
    daemon.start()
    api = daemon.api()
    # Nobody asks for the sprite: it is started for what is to follow.
    eventually(lambda: api.get("one")["status"] == "running", "the sprite runs", 20)
    expected = ["hook v1 auto-1 inside", "then 1000 auto-1 inside"]
    eventually(lambda: log(api, "one") == expected, "hook and command have run", 20)
    assert [one["command"] for one in api.sessions("one") if "sleep 1000" in one["command"]]
    assert api.get("other")["status"] in ("running", "warm", "cold")
    # Once.
    daemon.restart()
    api = daemon.api()
    assert log(api, "one") == expected
    api.restore("one", "v1")
    eventually(lambda: log(api, "one") == ["hook v1 auto-2 outside"], "the next restore has its own", 20)


def test_where_there_is_no_hook_none_is_started(api: Api, sprite: str) -> None:
    state = api.checkpoint(sprite)
    hook = "/etc/sprite/on-restore"
    make = f"mkdir -p /etc/sprite && printf '#!/bin/sh\\necho woken >/tmp/hooked\\n' >{hook} && chmod +x {hook}"
    assert run(api, sprite, "sudo", "sh", "-c", make).code == 0
    hooked = api.checkpoint(sprite)
    api.restore(sprite, state)
    assert shell(api, sprite, "cat /tmp/hooked 2>/dev/null || echo none") == "none\n"
    api.restore(sprite, hooked)
    eventually(lambda: shell(api, sprite, "cat /tmp/hooked 2>/dev/null || true") == "woken\n", "the hook has run")
    rows = api.call("GET", f"/v1/sprites/{sprite}/logs?kind=process&limit=1000").json()
    started = [row for row in rows["records"] if row.get("event") == "exec.started" and row["text"].startswith(hook)]
    assert len(started) == 1, started
