# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The default layer in a new sprite: hello world in every language, installers as user and as root, and checkpoints.

Takes the layer from the folder in SPRITE_TEST_LAYER, published there by `sprited runtimes publish default --to FOLDER`, and
the base that it was built on from SPRITE_TEST_BASE_TAR. Without a folder the layer is built first, which takes minutes and
a network.
"""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api import Api
from support.daemon import Daemon
from support.exec import Result, run
from support.guide import INSTALLERS, script
from support.languages import PROGRAMS, Program

LAYER = os.environ.get("SPRITE_TEST_LAYER")
RECIPE = Path(__file__).parents[2] / "runtimes" / "default.yaml"


@pytest.fixture(scope="module")
def layered(scratch: Path, base: Path) -> Iterator[Api]:
    daemon = Daemon(scratch / "languages", scratch / "languages.log")
    daemon.import_base(base, "debian")
    if LAYER:
        daemon.tool("runtimes", "pull", "default", "--from", LAYER, timeout=900)
        daemon.start()
    else:
        daemon.start()
        daemon.tool("runtimes", "build", str(RECIPE), timeout=3000)
    daemon.tool("runtimes", "use", "default")
    yield daemon.api()
    daemon.remove()


def do(api: Api, sprite: str, script: str, timeout: float = 120, **options: object) -> Result:
    return run(api, sprite, "bash", "-c", script, timeout=timeout, **options)  # type: ignore[arg-type]


def said(api: Api, sprite: str, script: str, **options: object) -> str:
    done = do(api, sprite, f"set -e\n{script}", **options)  # type: ignore[arg-type]
    assert done.code == 0, (script, done)
    return done.stdout.decode()


@pytest.mark.parametrize("program", PROGRAMS, ids=[program.language for program in PROGRAMS])
def test_hello_world_in_a_new_sprite(layered: Api, program: Program) -> None:
    name = f"hello-{PROGRAMS.index(program)}"
    layered.create(name)
    try:
        script = f'mkdir work; cd work; printf %s "$SOURCE" >{program.file}; {program.command}'
        assert said(layered, name, script, env={"SOURCE": program.source}) == "hello\n"
    finally:
        layered.destroy(name)


#: Each makes a package on the spot, installs it as its language does, and calls what was installed.
PACKAGES = {
    "pip": """
        mkdir -p p/greet; cd p
        printf '[project]\\nname = "greet"\\nversion = "1"\\n[project.scripts]\\ngreet = "greet:main"\\n' >pyproject.toml
        echo 'def main(): print("hello")' >greet/__init__.py
        python3 -m venv --system-site-packages venv
        venv/bin/pip install -q --no-index --no-build-isolation . >&2
        venv/bin/greet
    """,
    "npm": """
        mkdir n; cd n
        printf '{"name":"greet","version":"1.0.0","bin":{"greet":"greet.js"}}' >package.json
        printf '#!/usr/bin/env node\\nconsole.log("hello")\\n' >greet.js
        chmod +x greet.js
        npm install -g --silent --offline "$(npm pack --silent)" >&2
        ~/.npm-global/bin/greet
    """,
    "gem": """
        mkdir -p g/lib g/exe; cd g
        echo 'puts "hello"' >exe/greet; chmod +x exe/greet
        echo 'Gem::Specification.new { |s| s.name = "greet"; s.version = "1"; s.summary = "x"; s.authors = ["x"];
            s.files = []; s.bindir = "exe"; s.executables = ["greet"]; s.files = ["exe/greet"] }' >greet.gemspec
        gem build -q greet.gemspec >&2
        gem install -q --local --no-document --install-dir ~/gems greet-1.gem >&2
        GEM_PATH=~/gems ~/gems/bin/greet
    """,
    "cargo": """
        mkdir c; cd c
        cargo init -q --name greet . >&2
        echo 'fn main() { println!("hello"); }' >src/main.rs
        cargo install -q --offline --path . >&2
        ~/.cargo/bin/greet
    """,
    "go": """
        mkdir o; cd o
        go mod init example.org/greet 2>/dev/null
        printf 'package main\\nimport "fmt"\\nfunc main() { fmt.Println("hello") }\\n' >main.go
        go install .
        ~/go/bin/greet
    """,
}


@pytest.mark.parametrize("user", ["sprite", "root"])
@pytest.mark.parametrize("manager", PACKAGES)
def test_packages_land_on_the_sprites_own_disk(layered: Api, manager: str, user: str) -> None:
    name = f"pack-{manager}-{user}"
    layered.create(name)
    try:
        layered.checkpoint(name)
        script = f"export HOME=~{user}; cd; {PACKAGES[manager]}"
        if user == "root":
            script = f"sudo bash -ec {shlex.quote(script)}"
        assert said(layered, name, script, timeout=240).endswith("hello\n")
        # It is part of the disk, so a restore takes it away and an undo brings it back.
        listing = f"sudo find ~{user} -name 'greet*' | wc -l"
        assert int(said(layered, name, listing)) > 0
        layered.restore(name, "v1")
        assert int(said(layered, name, listing)) == 0
    finally:
        layered.destroy(name)


@pytest.mark.parametrize("command", ["its blocks", *INSTALLERS])
def test_what_the_guide_says_of_languages(layered: Api, command: str) -> None:
    name = f"guide-{[*INSTALLERS, command].index(command)}"
    layered.create(name)
    try:
        text = script(said(layered, name, "cat /.sprite/llm-languages.txt"))
        done = said(layered, name, INSTALLERS.get(command, text), timeout=240)
        assert command in INSTALLERS or ("is not here" not in done and "22" in done), done
    finally:
        layered.destroy(name)


def test_versions_of_a_language(layered: Api) -> None:
    name = "versions"
    layered.create(name)
    try:
        assert said(layered, name, "node --version").startswith("v24.")
        assert "go1.25" in said(layered, name, "go version")
        script = "mkdir a b; echo 22 >a/.node-version; echo 'golang 1.24' >b/.tool-versions; mkdir a/deep; cd a/deep; node --version"
        assert said(layered, name, script).startswith("v22.")
        assert "go1.24" in said(layered, name, "cd b; go version")
        assert said(layered, name, "node-version use 22; node --version").splitlines()[-1].startswith("v22.")
        listed = said(layered, name, "node-version list; go-version list")
        for version in ("24", "22", "1.25", "1.24"):
            assert version in listed
        # What go knows of its own sources comes from the layer, once for each version and cache.
        cached = said(layered, name, "ls ~/.cache/go-build | grep index; find ~/.cache/go-build -name '*-d' | wc -l").split()
        assert cached[:2] == ["index-1.24", "index-1.25"] and int(cached[2]) > 300, cached
        # Root is another user, with the layer's default.
        assert said(layered, name, "sudo node --version").startswith("v24.")
    finally:
        layered.destroy(name)
