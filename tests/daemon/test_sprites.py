# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Create, list, get, update, delete."""

import re
from collections.abc import Callable
from datetime import datetime

import pytest

from support.api import Api, ApiError
from support.exec import run, shell
from support.fixtures import fresh_name

GOOD_NAMES = ["a", "0", "a-b", "9lives", "x" * 63]
BAD_NAMES = ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "ä", "a b", "x" * 64, "a\n", "../a", "a\0b"]
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$")


def test_a_created_sprite_has_every_field_clients_need(api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite(labels=["ci", "two words"])
    sprite = api.get(name)
    assert sprite["name"] == name
    assert isinstance(sprite["id"], str) and sprite["id"]
    assert sprite["organization"] and sprite["org_slug"] == sprite["organization"]
    assert sprite["status"] in ("warm", "running")
    assert sprite["labels"] == ["ci", "two words"]
    assert sprite["url"].startswith("http") and name in sprite["url"]
    assert sprite["url_settings"]["auth"] == "sprite"
    for moment in (sprite["created_at"], sprite["updated_at"]):
        assert TIME.match(moment), moment
        datetime.fromisoformat(moment.replace("Z", "+00:00"))


def test_create_answers_with_the_sprite_that_get_returns(api: Api) -> None:
    name = fresh_name()
    created = api.create(name, labels=["l"])
    try:
        got = api.get(name)
        assert created.keys() == got.keys()
        assert (created["id"], created["created_at"]) == (got["id"], got["created_at"])
    finally:
        api.destroy(name)


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_good_name_is_accepted(api: Api, name: str) -> None:
    assert api.create(name)["name"] == name
    api.destroy(name)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_is_refused(api: Api, name: str) -> None:
    before = len(api.all_sprites())
    with pytest.raises(ApiError) as refused:
        api.create(name)
    assert (refused.value.status, refused.value.code) == (400, "invalid_request")
    assert "name" in refused.value.message
    assert len(api.all_sprites()) == before


def test_a_name_that_is_taken_is_a_conflict(api: Api, sprite: str) -> None:
    with pytest.raises(ApiError) as refused:
        api.create(sprite)
    assert (refused.value.status, refused.value.code) == (409, "already_exists")
    assert sprite in refused.value.message


def test_a_deleted_sprite_is_gone_and_its_name_is_free(api: Api) -> None:
    name = fresh_name()
    first = api.create(name)
    shell(api, name, "echo secret > file")
    api.destroy(name)
    with pytest.raises(ApiError) as missing:
        api.get(name)
    assert (missing.value.status, missing.value.code) == (404, "not_found")
    second = api.create(name)
    assert second["id"] != first["id"]
    assert run(api, name, "cat", "file").code == 1
    api.destroy(name)


def test_a_list_is_complete_ordered_and_can_be_paged(api: Api, new_sprite: Callable[..., str]) -> None:
    prefix = fresh_name("page")
    names = sorted(new_sprite(prefix) for _ in range(5))
    first = api.page(prefix=prefix, max_results=2)
    assert [one["name"] for one in first["sprites"]] == names[:2]
    assert first["has_more"] is True and first["next_continuation_token"]
    second = api.page(prefix=prefix, max_results=3, continuation_token=first["next_continuation_token"])
    assert [one["name"] for one in second["sprites"]] == names[2:]
    assert second["has_more"] is False and second["next_continuation_token"] is None
    assert api.page(prefix="no-such-prefix")["sprites"] == []


def test_more_results_than_a_page_holds_may_be_asked_for(api: Api, sprite: str) -> None:
    assert sprite in [one["name"] for one in api.page(max_results=100, prefix=sprite)["sprites"]]


def test_an_update_changes_only_what_it_names(api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite(labels=["old"])
    updated = api.update(name, url_settings={"auth": "public"})
    assert (updated["labels"], updated["url_settings"]["auth"]) == (["old"], "public")
    updated = api.update(name, labels=["a", "b"])
    assert (updated["labels"], updated["url_settings"]["auth"]) == (["a", "b"], "public")
    assert api.update(name, clear_labels=True)["labels"] == []
    assert api.get(name)["labels"] == []


def test_the_environment_of_a_sprite_reaches_its_commands(api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite(environment={"COLOUR": "blue", "TZ": "UTC"})
    assert shell(api, name, 'echo "$COLOUR $TZ"') == "blue UTC\n"
    assert shell(api, name, 'echo "$COLOUR $TZ"', env={"COLOUR": "red"}) == "red UTC\n"


def test_the_camel_case_of_one_client_is_understood(api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite(config={"ramMB": 256, "storageGB": 1, "region": "here"}, wait_for_capacity=False, unknown=[1])
    assert api.get(name)["config"]["ram_mb"] == 256


def test_an_upgrade_has_nothing_to_say(api: Api, sprite: str) -> None:
    api.call("POST", f"/v1/sprites/{sprite}/upgrade", {200, 204})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/exec"), ("POST", "/exec?cmd=true"), ("GET", "/exec/1"),
        ("POST", "/exec/1/kill"), ("POST", "/checkpoint"), ("GET", "/checkpoints"), ("GET", "/checkpoints/v1"),
        ("POST", "/checkpoints/v1/restore"), ("DELETE", "/checkpoints/v1"), ("POST", "/fork"), ("POST", "/upgrade"),
        ("GET", "/control"), ("GET", "/no/such/path"),
    ],
)  # fmt: skip
def test_an_unknown_sprite_is_not_found_on_every_path(api: Api, method: str, path: str) -> None:
    body = {"name": "x"} if path == "/fork" else {}
    options = {"json": body} if method in ("PUT", "POST") else {}
    answer = api.call(method, f"/v1/sprites/no-such-sprite{path}", 404, **options)
    assert answer.json()["error"] == "not_found"
    assert answer.json()["message"]


def test_the_version_is_on_every_answer_about_a_sprite(api: Api, sprite: str) -> None:
    for method, path in [("GET", ""), ("GET", "/exec"), ("HEAD", "/exec"), ("GET", "/checkpoints")]:
        assert api.call(method, f"/v1/sprites/{sprite}{path}").headers["sprite-version"]
