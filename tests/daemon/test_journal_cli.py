# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""`sprite logs`, `history`, `timeline` and `trace`."""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from support import programs
from support.api import Api
from support.cli import Cli
from support.daemon import Daemon
from support.exec import run, shell
from support.logs import records, wait_for
from support.wait import eventually


@pytest.fixture
def cli(daemon: Daemon, tmp_path: Path) -> Cli:
    return Cli(daemon, tmp_path)


def on_terminal(cli: Cli, *arguments: str) -> bytes:
    """What a command prints when its output is a terminal."""
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [str(programs.sprite()), *arguments], stdin=subprocess.DEVNULL, stdout=follower, stderr=subprocess.STDOUT,
        env=cli.environment, cwd=cli.folder,
    )  # fmt: skip
    os.close(follower)
    printed = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:
            break
        if not piece:
            break
        printed += piece
    os.close(leader)
    assert child.wait(timeout=30) == 0, printed
    return printed


def test_logs(cli: Cli, api: Api, sprite: str) -> None:
    shell(api, sprite, "echo first; echo second; echo bad >&2")
    wait_for(api, sprite, "exit 0", event="exec.ended")
    lines = cli.text("logs", "-s", sprite).splitlines()
    assert {line.split(" ", 2)[2] for line in lines} >= {"first", "second", "bad", "#1 exit 0"}
    assert cli.text("logs", "-s", sprite, "--stderr").split()[-1] == "bad"
    assert cli.text("logs", "-s", sprite, "--grep", "^sec").split()[-1] == "second"
    assert cli.text("logs", "-s", sprite, "--search", "FIRST").split()[-1] == "first"
    assert cli.text("logs", "-s", sprite, "-n", "1", "--grep", "^(first|second)$").split()[-1] == "second"
    assert len(cli.text("logs", "-s", sprite, "--since", "1h").splitlines()) >= 5
    parsed = [json.loads(line) for line in cli.text("logs", "-s", sprite, "--json").splitlines()]
    assert {one["kind"] for one in parsed} >= {"process", "system", "api"}
    # The journal is that of all sprites, and other tests print such words too.
    question = f"select count(*) as n from log where text = 'first' and sprite = '{sprite}'"
    counted = cli.text("logs", "-s", sprite, "--sql", question).split()
    assert counted == ["n", "1"]
    assert b"--since" in cli("logs", "--help").stdout
    assert cli("logs", "-s", sprite, "--kind", "nonsense", expect=None).returncode != 0


def test_escapes_are_made_visible_on_a_terminal(cli: Cli, api: Api, sprite: str) -> None:
    assert run(api, sprite, "sh", "-c", r"printf '\033]0;owned\007\033[2Jtext\302\233x\n'").code == 0
    wait_for(api, sprite, "exit 0", event="exec.ended")
    shown = on_terminal(cli, "logs", "-s", sprite)
    assert b"\x1b]0;" not in shown and b"\x1b[2J" not in shown and b"\x07" not in shown and b"\xc2\x9b" not in shown
    assert b"^[]0;owned^G^[[2Jtext" in shown
    assert b"\x1b]0;owned\x07" in on_terminal(cli, "logs", "-s", sprite, "--raw")


def test_following_and_a_closed_pipe(cli: Cli, api: Api, sprite: str) -> None:
    command = f"{programs.sprite()} logs -s {sprite} -f --grep ^tick | head -n 2; echo ${{PIPESTATUS[0]}}"
    child = subprocess.Popen(
        ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=cli.environment, cwd=cli.folder
    )
    eventually(lambda: records(api, sprite, kind="api"), "somebody asked")
    shell(api, sprite, "for i in 1 2 3 4; do echo tick $i; sleep 0.3; done")
    printed, noise = child.communicate(timeout=30)
    lines = printed.decode().splitlines()
    assert [line.split()[-2:] for line in lines[:2]] == [["tick", "1"], ["tick", "2"]]
    assert lines[2] == "141" and noise == b""


def test_history_timeline_and_trace(cli: Cli, api: Api, sprite: str) -> None:
    run(api, sprite, "sh", "-c", "exit 3")
    api.checkpoint(sprite, "here")
    shell(api, sprite, "echo later")
    wait_for(api, sprite, "exit 0", event="exec.ended")
    rows = cli.text("history", "-s", sprite).splitlines()
    assert rows[0].split() == ["STARTED", "EXIT", "TIME", "SESSION", "USER", "COMMAND"]
    assert rows[1].split()[1] == "3" and rows[1].endswith("sh -c exit 3")
    assert rows[2].split()[1] == "0" and "later" in rows[2]
    line = cli.text("timeline", "-s", sprite)
    assert line.index("exit 3") < line.index("checkpoint v1: here") < line.index("echo later")
    made = records(api, sprite, event="checkpoint.created")[0]
    tree = eventually(
        lambda: (text := cli.text("trace", made["trace_id"])) and "http.createCheckpoint" in text and text, "the tree"
    )
    assert "  storage.snapshot" in tree and "    ioctl.snap_create " in tree
    assert tree.index("storage.flush") < tree.index("storage.snapshot")
    assert cli("trace", "0" * 31 + "1", expect=None).returncode != 0


def test_every_option_of_logs(cli: Cli, api: Api, sprite: str) -> None:
    shell(api, sprite, "echo early")
    checkpoint = api.checkpoint(sprite, "between")
    shell(api, sprite, "echo late; echo complaint >&2; exit 0")
    api.call(
        "PUT", f"/v1/sprites/{sprite}/services/web?duration=100ms",
        json={"cmd": "sh", "args": ["-c", "echo served; sleep 600"]},
    )  # fmt: skip
    wait_for(api, sprite, "served", service="web")
    late = wait_for(api, sprite, "late", stream="stdout")
    assert run(api, sprite, "sh", "-c", "exit 3").code == 3
    wait_for(api, sprite, "exit 3", event="exec.ended")

    def logs(*options: str) -> list[str]:
        parsed = [json.loads(line) for line in cli.text("logs", "--json", *options).splitlines()]
        return [one["text"] for one in parsed]

    of = ("-s", sprite)
    assert "early" in logs(*of, "--until", "0s") and logs(*of, "--until", "1h") == []
    assert "early" not in logs(*of, "--since", checkpoint) and "late" in logs(*of, "--since", checkpoint)
    assert "late" not in logs(*of, "--until", checkpoint) and "early" in logs(*of, "--until", checkpoint)
    assert "late" in logs(*of, "--since", late["time"]) and "early" not in logs(*of, "--since", late["time"])
    assert "checkpoint v1: between" in logs(*of, "--kind", "checkpoint")
    assert not {"early", "late"} & set(logs(*of, "--kind", "api,checkpoint,system"))
    assert logs(*of, "--service", "web", "--kind", "process")[-1] == "served"
    assert "late" in logs(*of, "--session", late["session"]) and "early" not in logs(*of, "--session", late["session"])
    assert logs(*of, "--stderr") == ["complaint"]
    assert "exit 3" in logs(*of, "--level", "warn") and "late" not in logs(*of, "--level", "warn")
    assert logs(*of, "--grep", "^l.te$") == ["late"] and logs(*of, "--search", "LATE", "--kind", "process", "-n", "1") == ["late"]
    assert logs(*of, "-n", "1", "--stderr") == ["complaint"] and logs(*of, "-n", "0") == []
    everywhere = [json.loads(line) for line in cli.text("logs", "--all", "--json", "-n", "2000").splitlines()]
    assert sprite in {one.get("sprite") for one in everywhere}
    for wrong in (["--level", "loud"], ["--since", "yesterday"], ["--since", "v99"], ["--grep", "("], ["-n", "-1"], ["--sql", "DROP TABLE x"]):
        refused = cli("logs", *of, *wrong, expect=None)
        assert refused.returncode != 0 and refused.stderr.startswith(b"sprite: "), (wrong, refused.stderr)
    # Colours and short times on a terminal, neither in a pipe.
    assert b"\x1b[" in on_terminal(cli, "logs", *of) and b"\x1b[" not in cli("logs", *of).stdout
