# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Comparing states: against a walk over both, on randomised trees."""

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from support.api import Api, ApiError
from support.exec import root_shell, shell
from support.trees import applied, diff, expected, mutate, path_of, told, walk
from support.wait import eventually

SEED = int(os.environ.get("SPRITE_DIFF_SEED", str(random.randrange(1 << 32))))
ROUNDS = int(os.environ.get("SPRITE_DIFF_ROUNDS", "3"))


def test_randomised_trees_differ_as_a_walk_over_both_finds(api: Api, sprite: str) -> None:
    print(f"seed {SEED}")
    root_shell(api, sprite, "head -c 3000000 /dev/urandom > /opt/big; mkdir -p /srv/a/b/c; echo x > /srv/a/b/c/d")
    api.checkpoint(sprite)
    for number in range(1, ROUNDS + 1):
        mutate(api, sprite, SEED + number, 40)
        assert api.checkpoint(sprite) == f"v{number + 1}"
    states = {}
    for number in range(1, ROUNDS + 2):
        name = f"v{number}"
        eventually(lambda: shell(api, sprite, f"ls -d /.sprite/checkpoints/{name}/etc 2>/dev/null || :"), f"{name} is shown inside")
        states[name] = walk(api, sprite, f"/.sprite/checkpoints/{name}")
    last = f"v{ROUNDS + 1}"
    pairs = [(f"v{number}", f"v{number + 1}") for number in range(1, ROUNDS + 1)]
    for first, second in [*pairs, ("v1", last), (last, "v1")]:
        changes, end = diff(api, sprite, first, second, renames="false")
        assert told(changes) == expected(states[first], states[second]), f"{first} to {second}, seed {SEED}"
        assert end["stat"]["added"] + end["stat"]["removed"] + end["stat"]["changed"] == len(changes)
        renamed, _ = diff(api, sprite, first, second)
        print(first, second, len(changes), len(renamed), end["elapsed_ms"])
        assert len(renamed) <= len(changes)
        assert applied(states[first], renamed) == set(states[second]), f"{first} to {second} with renames, seed {SEED}"
    mutate(api, sprite, SEED, 10)
    changes, _ = diff(api, sprite, last, renames="false")
    assert told(changes) == expected(states[last], walk(api, sprite)), f"live, seed {SEED}"
    assert [path_of(one) for one in changes] == sorted((path_of(one) for one in changes), key=lambda path: path.replace(b"/", b"\0"))
    narrow, _ = diff(api, sprite, "v1", last, path="/usr/share", renames="false")
    whole, _ = diff(api, sprite, "v1", last, renames="false")
    assert narrow == [one for one in whole if path_of(one).startswith(b"/usr/share/") or path_of(one) == b"/usr/share"]


def test_nothing_differs_from_itself(api: Api, sprite: str) -> None:
    shell(api, sprite, "echo x > file")
    api.checkpoint(sprite)
    api.checkpoint(sprite)
    assert diff(api, sprite, "v1", "v2")[0] == []
    assert diff(api, sprite, "v2")[0] == []
    # Times and copies into the layer of changes are no differences.
    root_shell(api, sprite, "touch /etc/issue /home/sprite/file; chmod 600 /etc/issue; chmod 644 /etc/issue")
    assert diff(api, sprite, "v2")[0] == []


def test_what_a_difference_says(api: Api, sprite: str) -> None:
    shell(api, sprite, "echo one > changed; echo x > gone; mkdir dir; echo y > dir/in; printf 'a\\nb\\n' > text")
    api.checkpoint(sprite)
    shell(api, sprite, "echo three > changed; rm gone; mv dir moved; printf 'a\\nc\\n' > text; printf '\\0' > zero")
    root_shell(api, sprite, "chmod 4755 /etc/issue; chown 1000:0 /etc/issue; mv /etc/debian_version /opt/version; setcap cap_net_raw+ep /usr/bin/perl")
    changes, end = diff(api, sprite, "v1", patch="true")
    by_path = {one["path"]: one for one in changes}
    assert by_path["/home/sprite/changed"]["new"] == {"type": "file", "mode": "0644", "uid": 1000, "gid": 1000, "size": 6}
    assert by_path["/home/sprite/gone"]["change"] == "removed"
    assert by_path["/home/sprite/moved"]["from_path"] == "/home/sprite/dir" and "/home/sprite/moved/in" not in by_path
    # Of the base: copied up by the move, and still known for what it was.
    assert (by_path["/opt/version"]["change"], by_path["/opt/version"]["from_path"]) == ("renamed", "/etc/debian_version")
    assert sorted(by_path["/etc/issue"]["fields"]) == ["mode", "owner"]
    assert by_path["/etc/issue"]["old"]["mode"] == "0644" and by_path["/etc/issue"]["new"]["uid"] == 1000
    assert by_path["/usr/bin/perl"]["fields"] == ["attributes"]
    assert by_path["/home/sprite/text"]["patch"] == "--- a/home/sprite/text\n+++ b/home/sprite/text\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
    assert by_path["/home/sprite/zero"]["patch_omitted"] == "binary"
    assert end["stat"] == {"added": 1, "removed": 1, "changed": 4, "renamed": 2, "bytes": 1}
    assert (end["from"], end["to"], end["truncated"]) == ("v1", "current", False)
    limited, end = diff(api, sprite, "v1", limit="3")
    assert len(limited) == 3 and end["truncated"] and end["stat"]["changed"] == 4


def test_a_patch_can_be_applied(api: Api, sprite: str, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    old = [f"line {chance.randrange(50)}" for _ in range(300)]
    new = [line for line in old if chance.random() > 0.1]
    for _ in range(20):
        new.insert(chance.randrange(len(new)), f"new {chance.randrange(50)}")
    shell(api, sprite, "cat > file", input=("\n".join(old)).encode())
    api.checkpoint(sprite)
    shell(api, sprite, "cat > file; printf 'x\\ny' > added", input=("\n".join(new) + "\n").encode())
    changes, _ = diff(api, sprite, "v1", patch="true", path="/home/sprite")
    assert {one["path"] for one in changes} == {"/home/sprite/file", "/home/sprite/added"}
    (tmp_path / "home/sprite").mkdir(parents=True)
    (tmp_path / "home/sprite/file").write_text("\n".join(old))
    patch = "".join(one["patch"] for one in changes)
    subprocess.run(["git", "apply", "--verbose", "-"], input=patch.encode(), cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "home/sprite/file").read_text() == "\n".join(new) + "\n"
    assert (tmp_path / "home/sprite/added").read_text() == "x\ny"


def test_a_comparison_that_nobody_waits_for_holds_up_no_other(api: Api, new_sprite: Callable[..., str]) -> None:
    deep, other = new_sprite(), new_sprite()
    api.checkpoint(deep)
    api.checkpoint(other)
    # The kernel takes a minute to tell what happened here.
    shell(api, deep, "python3 -c '\nimport os\nfor _ in range(1200): os.mkdir(\"d\"); os.chdir(\"d\")'")
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(
            f"{api.url}/v1/sprites/{deep}/diff", params={"from": "v1"}, headers={"Authorization": f"Bearer {api.token}"},
            timeout=1, trust_env=False,
        )  # fmt: skip
    # Comparisons take turns: without the end of that one these would wait for it.
    answer = httpx.get(
        f"{api.url}/v1/sprites/{other}/diff", params={"from": "v1"}, headers={"Authorization": f"Bearer {api.token}"},
        timeout=20, trust_env=False,
    )  # fmt: skip
    assert answer.status_code == 200
    shell(api, deep, "mv d e")


def test_what_docker_keeps_beside_the_overlay_is_compared_as_well(api: Api, sprite: str) -> None:
    api.checkpoint(sprite)
    root_shell(api, sprite, "mkdir /var/lib/docker/a; echo x > /var/lib/docker/a/b")
    assert [one["path"] for one in diff(api, sprite, "v1")[0]] == ["/var/lib/docker/a", "/var/lib/docker/a/b"]
    assert [one["path"] for one in diff(api, sprite, "v1", path="/var/lib/docker/a/b")[0]] == ["/var/lib/docker/a/b"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 400),
        ({"from": "v9"}, 404),
        ({"from": "x"}, 404),
        ({"from": "v1", "to": "v9"}, 404),
        ({"from": "v1", "path": "etc"}, 400),
        ({"from": "v1", "path": "/etc/../home"}, 400),
        ({"from": "v1", "limit": "-1"}, 400),
        ({"from": "v1", "limit": "many"}, 400),
        ({"from": "v1", "patch": "perhaps"}, 400),
    ],
)
def test_what_cannot_be_compared_is_refused(api: Api, sprite: str, query: dict[str, str], status: int) -> None:
    api.checkpoint(sprite)
    with pytest.raises(ApiError) as refused:
        api.call("GET", f"/v1/sprites/{sprite}/diff", params=query)
    assert refused.value.status == status
