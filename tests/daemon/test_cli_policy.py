# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""`sprite policy`: what it sets is in force, what it suggests is enough and no more; the built-in list is enforced."""

import json
from pathlib import Path

import pytest

from support.api import Api
from support.cli import Cli
from support.daemon import Daemon
from support.internet import ALLOWED, DENIED, Internet
from support.policy import *  # noqa: F403  (fixtures)
from support.policy import REFUSED, ask, assert_cut_off, connect, names_asked
from support.wait import eventually


@pytest.fixture
def cli(daemon: Daemon, tmp_path: Path) -> Cli:
    return Cli(daemon, tmp_path / "home")


def test_what_is_set_is_in_force_and_can_be_read(cli: Cli, api: Api, sprite: str, internet: Internet) -> None:
    assert json.loads(cli.text("policy", "get", "-s", sprite)) == {"rules": []}
    cli("policy", "set", "-s", sprite, "--allow", "allowed.test", "--deny", "denied.test")
    rules = json.loads(cli.text("policy", "get", "-s", sprite))["rules"]
    assert {(rule["domain"], rule["action"]) for rule in rules} == {("allowed.test", "allow"), ("denied.test", "deny")}
    assert connect(api, sprite, "allowed.test") == f"hello from {ALLOWED}"
    assert_cut_off(api, internet, sprite, DENIED)
    listed = {one["target"] for one in cli.json("policy", "contacts", "-s", sprite)}
    assert "allowed.test" in listed, listed
    assert ask(api, sprite, "denied.test") == REFUSED
    refused = cli.text("policy", "contacts", "-s", sprite, "--refused")
    assert "denied.test" in refused and "allowed.test" not in refused
    # As JSON from a file and from standard input; what is no policy changes nothing.
    document = json.dumps({"rules": [{"domain": "*.denied.test", "action": "allow"}]})
    (cli.folder / "policy.json").write_text(document)
    cli("policy", "set", "-s", sprite, "policy.json")
    assert connect(api, sprite, "denied.test") == f"hello from {DENIED}"
    assert connect(api, sprite, "allowed.test").startswith("failed")
    assert_cut_off(api, internet, sprite, ALLOWED)
    wrong = cli("policy", "set", "-s", sprite, "-", input=b'{"rules": [{"domain": "a b", "action": "allow"}]}', expect=1)
    assert b"rule 1" in wrong.stderr, wrong.stderr
    assert json.loads(cli.text("policy", "get", "-s", sprite)) == json.loads(document)
    cli("policy", "set", "-s", sprite, "--none")
    assert json.loads(cli.text("policy", "get", "-s", sprite)) == {"rules": []}
    assert connect(api, sprite, DENIED) == f"hello from {DENIED}"


def test_what_is_suggested_is_enough_and_no_more(cli: Cli, api: Api, sprite: str, internet: Internet) -> None:
    assert connect(api, sprite, "allowed.test") == f"hello from {ALLOWED}"

    def suggestion() -> list[str]:
        return [rule["domain"] for rule in json.loads(cli.text("policy", "suggest", "-s", sprite))["rules"]]

    eventually(lambda: suggestion() == ["allowed.test"], f"the contact is noticed: {suggestion()}")
    suggested = cli.text("policy", "suggest", "-s", sprite)
    cli("policy", "set", "-s", sprite, "-", input=suggested.encode())
    assert connect(api, sprite, "allowed.test") == f"hello from {ALLOWED}"
    assert connect(api, sprite, "denied.test").startswith("failed")
    assert names_asked(internet) == {"allowed.test"}
    assert_cut_off(api, internet, sprite, DENIED)
    assert "denied.test" not in cli.text("policy", "suggest", "-s", sprite)
    more = cli.text("policy", "suggest", "-s", sprite, "--include-refused")
    assert {rule["domain"] for rule in json.loads(more)["rules"]} == {"allowed.test", "denied.test"}, more


def test_the_built_in_list_is_enforced(cli: Cli, api: Api, sprite: str, internet: Internet) -> None:
    internet.set_zone({"github.com": [["A", ALLOWED]], "github.com.denied.test": [["A", DENIED]]})
    cli("policy", "set", "-s", sprite, "--defaults")
    assert json.loads(cli.text("policy", "get", "-s", sprite)) == {"rules": [{"include": "defaults"}]}
    eventually(lambda: connect(api, sprite, "github.com") == f"hello from {ALLOWED}", "a name of the list is reached")
    assert ask(api, sprite, "github.com.denied.test") == REFUSED
    assert ask(api, sprite, "allowed.test") == REFUSED
    assert names_asked(internet) == {"github.com"}
    assert_cut_off(api, internet, sprite, DENIED)
    # A rule of one's own comes before the list.
    cli("policy", "set", "-s", sprite, "--defaults", "--deny", "github.com", "--allow", "denied.test")
    assert ask(api, sprite, "github.com") == REFUSED
    assert connect(api, sprite, "denied.test") == f"hello from {DENIED}"
