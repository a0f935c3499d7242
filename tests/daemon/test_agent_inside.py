# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""An agent that has nothing but the guide and the shell inside breaks its computer, and gets it back."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.api import Api, ApiError
from support.daemon import Daemon
from support.exec import Result, run
from support.roots import tiny_root
from support.wait import eventually

CALL = "/.sprite/bin/sprite-env"


class Agent:
    """Reads the guide once; from then on it uses commands that the guide has, and nothing outside of the sprite."""

    def __init__(self, api: Api, sprite: str) -> None:
        self.api, self.sprite = api, sprite
        self.guide = self.do("cat /.sprite/llm.txt /.sprite/llm-*.txt").text

    def do(self, script: str, timeout: float = 60) -> Result:
        return run(self.api, self.sprite, "sh", "-c", script, timeout=timeout)

    def knows(self, pattern: str) -> str:
        """A command as the guide writes it."""
        found = re.search(pattern, self.guide)
        assert found, f"the guide does not tell {pattern!r}"
        return found.group(0).strip()

    def call(self, *arguments: str) -> Result:
        """The static program itself, without a shell."""
        return run(self.api, self.sprite, CALL, *arguments)

    def works(self) -> bool:
        """Whether the computer is whole: shell, dynamic programs, sudo, the service with its data."""
        try:
            done = self.do("ls / >/dev/null && sudo true && cat ~/work && pgrep -f web-server >/dev/null")
        except ApiError:
            return False
        return done.code == 0 and done.text == "precious\n"


@pytest.fixture
def agent(api: Api, new_sprite: Callable[..., str]) -> Agent:
    """At work: a service that runs, a file, and a checkpoint of both, made as the guide says."""
    agent = Agent(api, new_sprite(config={"ram_mb": 512, "pids": 200}))
    assert agent.do("echo precious > ~/work").code == 0
    create = agent.knows(r"sprite-env services create \w+ --duration 1s -- sh -c")
    made = agent.do(f"/.sprite/bin/{create} ': web-server; echo serving; while :; do sleep 1; done'")
    assert made.code == 0 and "serving" in made.text, made
    checkpoint = agent.do(f"{agent.knows(r'/.sprite/bin/sprite-env checkpoints create')} --comment 'all is well'")
    assert checkpoint.text == "v1\n", checkpoint
    assert agent.works()
    return agent


def restored(agent: Agent) -> None:
    agent.knows(r"sprite-env restore v1 ")
    asked = agent.call("restore", "v1")
    assert asked.code == 137 and b"restoring v1" in asked.stdout, asked
    eventually(agent.works, "the computer is whole again", 20)


def test_after_rm_rf_usr(agent: Agent) -> None:
    agent.do("sudo rm -rf --no-preserve-root /usr /bin /lib /lib64 /etc /home 2>/dev/null")
    assert agent.do("true").code == 127, "there is no shell any more"
    restored(agent)


def test_after_a_broken_libc(agent: Agent) -> None:
    agent.do("sudo sh -c 'for f in $(find /usr/lib /lib -name \"libc.so*\"); do cp --remove-destination /etc/hostname $f; done'")
    assert agent.do("ls").code != 0
    assert run(agent.api, agent.sprite, "ls").code != 0
    restored(agent)


def test_after_a_deleted_account_and_broken_sudo(agent: Agent) -> None:
    agent.do("sudo sh -c 'rm -f /usr/bin/sudo; sed -i /sprite/d /etc/passwd /etc/shadow /etc/group'")
    # Nobody is user sprite now; root still is.
    asked = run(agent.api, agent.sprite, CALL, "restore", "v1", user="root")
    assert asked.code == 137, asked
    eventually(agent.works, "the computer is whole again", 20)


def test_after_a_fork_bomb(agent: Agent) -> None:
    bomb = "#!/bin/sh\\nwhile :; do /tmp/b & /tmp/b & sleep 100; done\\n"
    agent.do(f"printf '{bomb}' > /tmp/b; chmod +x /tmp/b; setsid -f /tmp/b </dev/null >/dev/null 2>&1")

    def full() -> bool:
        try:
            return run(agent.api, agent.sprite, "sh", "-c", "true & true & wait").code != 0
        except Exception:  # no process can be started at all
            return True

    eventually(full, "the sprite is full of processes", 20)
    # From inside if a process can still be started there; the guide says what the owner does otherwise.
    agent.knows(r"sprite restore -s NAME v1")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if agent.call("restore", "v1").code == 137:
                break
        except Exception:
            pass
        time.sleep(0.2)
    else:
        agent.api.restore(agent.sprite, "v1")
    eventually(agent.works, "the computer is whole again", 30)


def test_a_change_is_undone_and_the_undoing_too(agent: Agent) -> None:
    assert agent.do("echo worse > ~/work").code == 0
    restored(agent)
    agent.knows(r"sprite-env undo ")
    assert agent.call("undo").code == 137
    eventually(lambda: agent.do("cat ~/work").text == "worse\n", "the restore is undone", 20)
    assert agent.call("undo").code == 137
    eventually(agent.works, "and back again", 20)


def test_work_goes_on_after_a_restore(agent: Agent) -> None:
    agent.knows(r"sprite-env restore v1 --then 'COMMAND'")
    agent.do("sudo rm -rf /usr/share; echo broken > ~/work")
    assert agent.call("restore", "v1", "--then", "echo tried rm, do not do that again > ~/lessons").code == 137
    eventually(lambda: "do not do that" in agent.do("cat ~/lessons").text, "it knows what it learned", 20)
    assert agent.works()


def test_one_file_comes_back_without_a_restore(agent: Agent) -> None:
    agent.knows(r'cp "/.sprite/checkpoints/\$id/home/sprite/notes" notes')
    agent.do("rm ~/work")
    copy = "cp /.sprite/checkpoints/v1/home/sprite/work ~/work"
    eventually(lambda: agent.do(copy).code == 0, "the checkpoint can be read")
    assert agent.works()


def test_a_full_disk(new_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """A pool of its own: nobody else is to be without space."""
    daemon = new_daemon(started=False, with_base=False)
    daemon.options = ["--pool-size", "256M"]
    daemon.start().import_base(tiny_root(tmp_path / "root.tar"))
    api = daemon.api()
    api.create("full")
    agent = Agent(api, "full")
    agent.do("echo precious > ~/work")
    assert agent.do(f"{CALL} checkpoints create").text == "v1\n"
    for size in ("1M", "4k"):
        filled = agent.do(f"dd if=/dev/urandom bs={size} >> ~/big; sync", timeout=100)
        assert b"No space left" in filled.stderr, filled
    asked = agent.call("restore", "v1")
    assert asked.code == 137, asked
    eventually(lambda: agent.do("cat ~/work").text == "precious\n", "the disk is as it was", 20)
    # What was replaced is kept, and holds the space until it is let go.
    agent.knows(r"sprite-env checkpoints delete auto-1")
    assert agent.call("checkpoints", "delete", "auto-1").code == 0
    eventually(lambda: agent.do("dd if=/dev/urandom of=$HOME/again bs=1M count=20 && sync").code == 0, "there is space", 30)
