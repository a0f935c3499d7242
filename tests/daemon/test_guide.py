# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The guide for agents at /.sprite: every command in it works, wherever in the text it stands."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support import guide
from support.api import Api
from support.cli import Cli
from support.daemon import Daemon
from support.exec import run, shell
from support.wait import eventually

CREATE = "/.sprite/bin/sprite-env checkpoints create"
LIST_TOOLS = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}) + "\n"


@pytest.mark.parametrize("name", guide.TEXTS)
def test_every_block_of_the_guide_works(api: Api, new_sprite: Callable[..., str], name: str) -> None:
    sprite = new_sprite()
    script = guide.script(shell(api, sprite, f"cat /.sprite/{name}"))
    assert script.count("\n") >= 1, "the guide has commands"
    done = run(api, sprite, "sh", "-exc", script)
    assert done.code == 0, f"{done.text}\n{done.stderr.decode()}"


class Place:
    """A fresh sprite whose state tells the past from the present: v1 has `before` in ~/mark, the disk has `after`."""

    def __init__(self, daemon: Daemon, api: Api, sprite: str, home: Path) -> None:
        self.daemon, self.api, self.sprite, self.home = daemon, api, sprite, home
        shell(api, sprite, f"echo before >mark; {CREATE}; echo after >mark")

    def do(self, command: str, input: bytes | None = None) -> str:
        """As it stands in the text, typed into a shell."""
        done = run(self.api, self.sprite, "sh", "-c", command, input=input)
        assert done.code == 0, f"{command}: {done}"
        return done.text

    def ends(self, command: str) -> None:
        """Runs something that ends every process in the sprite, its own shell too."""
        done = run(self.api, self.sprite, "sh", "-c", command)
        assert done.code == 137, f"{command}: {done}"

    def mark(self, text: str) -> None:
        eventually(lambda: run(self.api, self.sprite, "cat", "mark").text == f"{text}\n", f"the disk is that of {text}", 20)

    def taken_up(self) -> None:
        eventually(lambda: run(self.api, self.sprite, "cat", "again").text == "sprite\n", "the work goes on", 20)

    def cli(self) -> Cli:
        return Cli(self.daemon, self.home)


def restore(place: Place, command: str) -> None:
    place.ends(command.replace(" ID", " v1").replace("'COMMAND'", "COMMAND").replace("COMMAND", "'id -un >~/again'"))
    place.mark("before")
    if "--then" in command:
        place.taken_up()


def undo(place: Place, command: str) -> None:
    place.ends("sprite-env restore v1")
    place.mark("before")
    place.ends(command.replace("COMMAND", "'id -un >~/again'"))
    place.mark("after")
    if "--then" in command:
        place.taken_up()


def restore_a_wreck(place: Place, command: str) -> None:
    """Nothing that the base brought is there any more."""
    place.do("sudo rm -rf /usr")
    if command.startswith("sprite "):
        place.cli()(*command.replace("NAME", place.sprite).split()[1:])
    else:
        done = run(place.api, place.sprite, *command.split())
        assert done.code == 137, done
    place.mark("before")


def remove_automatic(place: Place, command: str) -> None:
    place.ends("sprite-env restore v1")
    place.mark("before")
    assert "auto-1" in place.do("sprite-env checkpoints list --all")
    place.do(command)
    assert "auto-1" not in place.do("sprite-env checkpoints list --all")


def remove_old(place: Place, command: str) -> None:
    # The one that the disk descends from could not go.
    place.do(CREATE)
    place.do(command)
    kept = [line.split()[0] for line in place.do("sprite-env checkpoints list").splitlines()]
    assert kept == ["ID", "v2", "v0"]


def last_restore(place: Place, command: str) -> None:
    place.ends("sprite-env restore v1")
    place.mark("before")
    assert json.loads(place.do(command))["checkpoint_id"] == "v1"


def follow(place: Place, command: str) -> None:
    place.do("sprite-env services create web --no-stream -- sh -c 'echo serving; exec sleep 1000000'")
    # It ends when it is interrupted, and not before.
    said = place.do(f"timeout -s INT 3 {command.replace('NAME', 'web')} || test $? = 124")
    assert "serving" in said


def install(place: Place, command: str) -> None:
    place.do(command.replace("PACKAGE", "ed"))
    assert place.do("printf 'a\nx\n.\n1p\nQ\n' | ed -s") == "x\n"


def list_tools(place: Place, command: str) -> None:
    if command == "sprite mcp":
        said = place.cli()("mcp", input=LIST_TOOLS.encode()).stdout.decode()
    else:
        said = place.do(command, input=LIST_TOOLS.encode())
    assert "create_checkpoint" in said


def says(*words: str) -> Callable[[Place, str], None]:
    def check(place: Place, command: str) -> None:
        said = place.do(command)
        assert all(word in said for word in words), said

    return check


def names_a_command(place: Place, command: str) -> None:
    """Not to be run as it is: the text speaks of it."""
    assert "Usage" in place.do(f"{command} --help") or "usage" in place.do(f"{command} --help")


#: How each command that stands in the text, and not in a block of its own, is run.
HOW: dict[str, Callable[[Place, str], None]] = {
    "sprite-env restore v1": restore, "sprite-env restore v1 --then 'COMMAND'": restore,
    "sprite-env restore ID": restore, "sprite-env restore ID --then COMMAND": restore,
    "sprite-env undo": undo, "sprite-env undo --then COMMAND": undo,
    "/.sprite/bin/sprite-env restore v1": restore_a_wreck, "sprite restore -s NAME v1": restore_a_wreck,
    "sprite-env checkpoints delete v1": remove_old, "sprite-env checkpoints delete auto-1": remove_automatic,
    "sprite-env checkpoints list --all": says("v0", "v1"), "sprite-env services list": says(),
    "sprite-env curl /v1/restore": last_restore, "sprite-env policy": says(), "sprite-env --help": says("checkpoints"),
    "sprite-env logs NAME -f": follow, "sudo apt-get update && sudo apt-get install -y PACKAGE": install,
    "sprite-env mcp": list_tools, "sprite mcp": list_tools,
    "sprite-env": names_a_command, "sprite-env restore": names_a_command, "sprite-env curl": names_a_command,
    "/.sprite/bin/sprite-env": names_a_command, "df": says("Available"),
}  # fmt: skip
#: Run with the layer that has them, by tests/languages.
ELSEWHERE = set(guide.INSTALLERS)
#: Code that is no command: options, words of output, names of files and users; `rm -rf /usr` is what is recovered from.
NO_COMMANDS = {
    "--", "--duration", "--http-port", "--http-port N", "--json", "create", "undo", "list", "use", "use --here", "mcp",
    "inside", "outside", "sprite", "sudo", "broker_refused", "Operation not permitted", "cannot reach the sprite's API",
    "Disk quota exceeded",
    ".go-version", ".node-version", ".nvmrc", ".python-version", ".tool-versions", "rm -rf /usr",
    '{"error": CODE, "message": SENTENCE}', '{"then": "COMMAND"}',
}  # fmt: skip


def test_every_command_of_the_guide_is_known(api: Api, sprite: str) -> None:
    files = [path for path in shell(api, sprite, "ls /.sprite/llm*").split()]
    assert sorted(files) == sorted(f"/.sprite/{name}" for name in guide.TEXTS)
    text = shell(api, sprite, "cat /.sprite/llm*")
    # What is neither run nor named as no command fails here, and so does what the text has no more.
    assert guide.mentions(text) == {*HOW, *ELSEWHERE, *NO_COMMANDS}
    for word in text.split():
        if (path := word.strip("`(),.:;")).startswith("/.sprite/llm"):
            assert path in files, path


@pytest.mark.parametrize("command", HOW)
def test_a_command_of_the_guide_works(
    daemon: Daemon, api: Api, new_sprite: Callable[..., str], tmp_path: Path, command: str
) -> None:
    HOW[command](Place(daemon, api, new_sprite(), tmp_path / "home"), command)
