# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The same examples in every language, with the same output; and what the artefacts hold."""

import json
import os
import re
import subprocess

import pytest
from sdk import languages

EXAMPLES = json.loads((languages.SDKS / "examples.json").read_text())


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_prints_what_it_should(installed: languages.Installed, server: dict[str, str], example: str) -> None:
    command = [part.replace("{}", example) for part in installed.example]
    done = subprocess.run(
        command, env={**os.environ, **installed.environment, **server}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    lines = done.stdout.splitlines()
    assert len(lines) == len(EXAMPLES[example]), lines
    for line, wanted in zip(lines, EXAMPLES[example]):
        assert re.match(wanted, line), f"{line!r} does not match {wanted!r}"


def test_readmes_have_the_same_outline(language: str) -> None:
    titles = re.findall(r"^## (.*)$", languages.readme(language).read_text(), re.M)
    assert titles == languages.OUTLINE


def test_versions_are_those_of_the_program(language: str) -> None:
    text = (languages.ROOT / "docs/openapi.yaml").read_text()
    wanted = re.search(r"^  version: (\S+)$", text, re.M)
    assert wanted and languages.version(language) == wanted[1]


@pytest.mark.parametrize("language", languages.chosen(packaged=True), scope="session")
def test_artefacts_hold_no_tests_and_a_licence(installed: languages.Installed) -> None:
    for artefact in installed.artefacts:
        names = languages.names_in(artefact)
        assert any("LICENSE" in name for name in names), names
        assert not any("test" in name.lower() for name in names), names
