# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What a network policy means, and that it lives as long as the sprite. Ways around it are in test_policy_bypass.py."""

import json
import re
import subprocess
from collections.abc import Callable

from support.api import Api
from support.daemon import Daemon
from support.exec import run, shell
from support.internet import ALLOWED, DENIED, Internet
from support.policy import *  # noqa: F403  (fixtures)
from support.policy import (
    REFUSED, address_of, allow, ask, assert_cut_off, connect, contacts, names_asked, set_policy,
)  # fmt: skip
from support.wait import eventually


def test_without_a_policy_everything_public_is_reached(api: Api, sprite: str) -> None:
    assert connect(api, sprite, "allowed.test") == f"hello from {ALLOWED}"
    assert connect(api, sprite, DENIED) == f"hello from {DENIED}"
    assert connect(api, sprite, "denied.test") == f"hello from {DENIED}"


def test_an_allowed_name_is_reached_and_others_do_not_resolve(api: Api, restricted: str, internet: Internet) -> None:
    assert connect(api, restricted, "allowed.test") == f"hello from {ALLOWED}"
    assert connect(api, restricted, "denied.test").startswith("failed gaierror")
    assert ask(api, restricted, "denied.test") == REFUSED
    assert ask(api, restricted, "ALLOWED.test") == "code 0 answers 1 cut 0"
    assert names_asked(internet) == {"allowed.test"}, "of others nobody outside hears"
    assert not internet.accepted(DENIED)


def test_the_most_specific_rule_wins(api: Api, sprite: str, internet: Internet) -> None:
    rules = [
        {"domain": "*", "action": "allow"},
        {"domain": "*.allowed.test", "action": "deny"},
        {"domain": "sub.allowed.test", "action": "allow"},
    ]
    set_policy(api, sprite, rules)
    assert ask(api, sprite, "sub.allowed.test") == "code 0 answers 1 cut 0"
    assert ask(api, sprite, "allowed.test") == REFUSED, "a wildcard covers the name itself"
    assert ask(api, sprite, "denied.test") == "code 0 answers 1 cut 0"
    assert names_asked(internet) == {"sub.allowed.test", "denied.test"}, "what is refused is not asked for"
    internet.begin()
    set_policy(api, sprite, allow("*.allowed.test"))
    assert ask(api, sprite, "sub.allowed.test") == "code 0 answers 1 cut 0"
    assert ask(api, sprite, "notallowed.test") == REFUSED
    set_policy(api, sprite, allow("allowed.test"))
    assert ask(api, sprite, "sub.allowed.test") == REFUSED, "an exact name does not cover those below it"
    assert names_asked(internet) == {"sub.allowed.test"}, "once, when it was allowed"
    assert len(internet.seen("question", "sub.allowed.test")) == 1


def test_an_answer_too_large_for_a_datagram_comes_over_tcp(api: Api, sprite: str) -> None:
    set_policy(api, sprite, allow("large.test"))
    assert ask(api, sprite, "large.test", kind=16) == "code 0 answers 0 cut 1"
    assert ask(api, sprite, "large.test", transport="tcp", kind=16) == "code 0 answers 10 cut 0"


def test_a_changed_policy_is_in_force_at_once_and_empty_lifts_it(
    api: Api, restricted: str, internet: Internet
) -> None:
    assert_cut_off(api, internet, restricted, DENIED)
    set_policy(api, restricted, allow("allowed.test", "denied.test"))
    assert connect(api, restricted, "denied.test") == f"hello from {DENIED}"
    set_policy(api, restricted, [])
    assert connect(api, restricted, DENIED) == f"hello from {DENIED}"
    assert connect(api, restricted, "alias.test") == f"hello from {DENIED}"
    set_policy(api, restricted, allow("allowed.test"))
    assert_cut_off(api, internet, restricted, DENIED)


def test_the_policy_can_be_read_inside_and_not_changed(api: Api, sprite: str) -> None:
    path = "/.sprite/policy/network.json"
    assert json.loads(shell(api, sprite, f"cat {path}")) == {"rules": []}
    set_policy(api, sprite, allow("allowed.test"))
    assert json.loads(shell(api, sprite, f"cat {path}")) == {"rules": allow("allowed.test")}
    for attack in (f"echo > {path}", f"rm -f {path}", "mount -o remount,rw /.sprite", "chmod 777 /.sprite/policy"):
        assert run(api, sprite, "sudo", "sh", "-c", attack).code != 0, attack
    assert json.loads(shell(api, sprite, f"cat {path}")) == {"rules": allow("allowed.test")}


def test_the_policy_survives_kill_of_the_daemon(
    api: Api, daemon: Daemon, restricted: str, internet: Internet
) -> None:
    assert connect(api, restricted, "allowed.test") == f"hello from {ALLOWED}"
    script = """
import socket, time
s = socket.create_connection(("allowed.test", 80), 4); s.recv(100); s.settimeout(4)
open("/tmp/ready", "w")
while True:
    try: open("/tmp/go")
    except OSError: time.sleep(0.05); continue
    break
s.send(b"x"); print(s.recv(10) == b"x")
"""
    shell(api, restricted, "cat > /tmp/hold.py <<'END'\n" + script + "\nEND")
    shell(api, restricted, "setsid -f python3 /tmp/hold.py </dev/null >/tmp/out 2>&1")
    eventually(lambda: run(api, restricted, "test", "-e", "/tmp/ready").code == 0, "a connection is open")
    daemon.restart()
    internet.begin()
    shell(api, restricted, "touch /tmp/go")
    eventually(lambda: shell(api, restricted, "cat /tmp/out").strip() or None, "the connection was tried")
    assert shell(api, restricted, "cat /tmp/out").strip() == "True"
    assert_cut_off(api, internet, restricted, DENIED)
    assert connect(api, restricted, "denied.test").startswith("failed")
    assert connect(api, restricted, "allowed.test") == f"hello from {ALLOWED}"
    assert names_asked(internet) == {"allowed.test"}


def test_a_fork_and_a_restore_keep_the_policy(api: Api, new_sprite: Callable[..., str], internet: Internet) -> None:
    one = new_sprite()
    set_policy(api, one, allow("allowed.test"))
    version = api.checkpoint(one)
    fork = f"{one}-fork"
    api.fork(one, fork)
    try:
        api.restore(one, version)
        for name in (one, fork):
            assert_cut_off(api, internet, name, DENIED)
            assert connect(api, name, "allowed.test") == f"hello from {ALLOWED}", name
            assert json.loads(shell(api, name, "cat /.sprite/policy/network.json")) == {"rules": allow("allowed.test")}
    finally:
        api.destroy(fork)


def test_whoever_gets_the_address_next_begins_without_a_policy(api: Api, daemon: Daemon, restricted: str) -> None:
    address = address_of(api, restricted)
    table = f"sprited_{daemon.tag}"
    sets = [["nft", "list", "map", "inet", table, "epochs"], ["nft", "list", "set", "inet", table, "restricted"]]
    listed = [subprocess.run(command, capture_output=True, text=True).stdout for command in sets]
    assert all(re.search(rf"\b{re.escape(address)}\b", text) for text in listed), listed
    api.destroy(restricted)
    listed = [subprocess.run(command, capture_output=True, text=True).stdout for command in sets]
    assert not any(re.search(rf"\b{re.escape(address)}\b", text) for text in listed), listed


def test_what_was_contacted_becomes_a_policy(api: Api, sprite: str) -> None:
    connect(api, sprite, "allowed.test")
    connect(api, sprite, DENIED)
    found = eventually(
        lambda: {c["target"]: c for c in contacts(api, sprite)} if len(contacts(api, sprite)) >= 2 else None,
        "both contacts are known",
    )
    assert found["allowed.test"]["allowed"] and found[DENIED]["port"] == 80
    suggested = api.call("GET", f"/v1/sprites/{sprite}/policy/network/suggestion").json()
    assert {"domain": "allowed.test", "action": "allow"} in suggested["rules"]
    set_policy(api, sprite, suggested["rules"])
    assert connect(api, sprite, "allowed.test") == f"hello from {ALLOWED}"
    assert connect(api, sprite, DENIED) == f"hello from {DENIED}", "by its address, as it was contacted"
    assert ask(api, sprite, "denied.test") == REFUSED
