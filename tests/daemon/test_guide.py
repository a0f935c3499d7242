# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The guide for agents at /.sprite: every command in it works as it stands."""

import re
from collections.abc import Callable

import pytest

from support.api import Api
from support.exec import run, shell

TEXTS = ["llm.txt", "llm-checkpoints.txt", "llm-services.txt", "llm-languages.txt", "llm-mcp.txt"]


def commands(text: str) -> str:
    """Every block fenced as sh, one after another."""
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("name", TEXTS)
def test_every_command_of_the_guide_works(api: Api, new_sprite: Callable[..., str], name: str) -> None:
    sprite = new_sprite()
    text = shell(api, sprite, f"cat /.sprite/{name}")
    script = commands(text)
    assert script.count("\n") >= 1, "the guide has commands"
    done = run(api, sprite, "sh", "-exc", script)
    assert done.code == 0, f"{done.text}\n{done.stderr.decode()}"
    # What it names is there.
    for path in set(re.findall(r"/\.sprite/llm[a-z.-]*\.txt", text)):
        assert run(api, sprite, "test", "-s", path).code == 0, path
    for command in set(re.findall(r"sprite-env ((?:checkpoints|services|tasks) [a-z]+|restore|undo|logs|curl|info|policy|mcp)", text)):
        first = command.split()[0]
        assert re.search(rf"^.*\b{first}\b", shell(api, sprite, "/.sprite/bin/sprite-env --help"), re.MULTILINE), command
