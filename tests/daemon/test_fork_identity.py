# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""A fork is not mistaken for the sprite it comes from."""

from collections.abc import Callable

from support.api import Api, Json
from support.exec import root_shell, shell
from support.fixtures import fresh_name

KEYGEN = b'#!/bin/sh\n[ "$1" = -A ] && for kind in rsa ed25519; do echo new > /etc/ssh/ssh_host_${kind}_key; done\n'


def fork(api: Api, source: str, name: str, **body: object) -> Json:
    made: Json = api.call("POST", f"/v1/sprites/{source}/fork", 201, json={"name": name, **body}).json()
    return made


def test_a_fork_has_an_identity_of_its_own(api: Api, new_sprite: Callable[..., str]) -> None:
    sprite = new_sprite()
    name = fresh_name()
    kept = fresh_name()
    script = (
        "echo 0123456789abcdef0123456789abcdef > /etc/machine-id; mkdir -p /etc/ssh /var/lib/dbus /var/lib/redis /home/sprite/repo/.git;"
        " cp /etc/machine-id /var/lib/dbus/machine-id; echo old > /etc/ssh/ssh_host_rsa_key; echo old > /etc/ssh/ssh_host_rsa_key.pub;"
        " cat > /usr/bin/ssh-keygen; chmod 755 /usr/bin/ssh-keygen;"
        " echo 1 > /var/lib/redis/redis.pid; touch /home/sprite/repo/.git/index.lock /home/sprite/repo/kept.pid.txt"
    )
    root_shell(api, sprite, script, input=KEYGEN)
    try:
        report = fork(api, sprite, name)["identity"]
        assert report["renewed"] == ["hostname", "/etc/machine-id", "/var/lib/dbus/machine-id"]
        assert sorted(report["removed"]) == [
            "/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_rsa_key.pub", "/home/sprite/repo/.git/index.lock",
            "/var/lib/redis/redis.pid",
        ]  # fmt: skip
        own, other = (shell(api, one, "cat /etc/machine-id").strip() for one in (sprite, name))
        assert own == "0" + "123456789abcdef0123456789abcdef" and len(other) == 32 and other != own
        assert shell(api, name, "cat /var/lib/dbus/machine-id; hostname; stat -c '%a %u' /etc/machine-id") == f"{other}\n{name}\n444 0\n"
        assert root_shell(api, name, "cat /etc/ssh/ssh_host_*; ls /home/sprite/repo") == "new\nnew\nkept.pid.txt\n"
        assert root_shell(api, sprite, "cat /etc/ssh/ssh_host_rsa_key; ls -A /home/sprite/repo/.git") == "old\nindex.lock\n"
        # On request nothing is touched.
        assert fork(api, sprite, kept, keep_identity=True)["identity"] == {"renewed": [], "removed": []}
        assert shell(api, kept, "cat /etc/machine-id").strip() == own
    finally:
        for one in (name, kept):
            api.call("DELETE", f"/v1/sprites/{one}", {204, 404})


def test_links_in_the_way_of_the_identity_lead_nowhere(api: Api, new_sprite: Callable[..., str]) -> None:
    sprite = new_sprite()
    name = fresh_name()
    root_shell(
        api, sprite, "rm -f /etc/machine-id; ln -s ../../../../../../../etc/passwd /etc/machine-id; rm -rf /etc/ssh; ln -s ../../../../../etc /etc/ssh;"
        " mkfifo /etc/ssh_host_x_key; mkdir -p /var/lib/redis; ln -s /etc/passwd /var/lib/redis/x.pid"
    )  # fmt: skip
    try:
        report = fork(api, sprite, name)["identity"]
        # A link is not the file it leads to, and a pipe is no key.
        assert report == {"renewed": ["hostname"], "removed": ["/var/lib/redis/x.pid"]}
        assert shell(api, name, "id -un") == "sprite\n"
    finally:
        api.call("DELETE", f"/v1/sprites/{name}", {204, 404})
