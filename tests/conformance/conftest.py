# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The official Python SDK against a server: ours, or the one that SPRITES_API_URL names (with SPRITE_TOKEN)."""

import os
import uuid
from collections.abc import Callable, Iterator

import pytest
from sprites import Sprite, SpritesClient


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Base URL and token."""
    if url := os.environ.get("SPRITES_API_URL"):
        return url, os.environ["SPRITE_TOKEN"]
    daemon = request.getfixturevalue("shared_daemon")
    return daemon.url, daemon.token


@pytest.fixture
def client(server: tuple[str, str]) -> Iterator[SpritesClient]:
    url, token = server
    with SpritesClient(token, base_url=url) as client:
        yield client


@pytest.fixture
def name() -> str:
    return f"conf-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def make(client: SpritesClient) -> Iterator[Callable[[str], Sprite]]:
    made: list[str] = []

    def create(name: str) -> Sprite:
        made.append(name)
        return client.create_sprite(name)

    yield create
    for one in made:
        try:
            client.delete_sprite(one)
        except Exception as error:
            assert "not found" in str(error).lower(), error


@pytest.fixture
def box(make: Callable[[str], Sprite], name: str) -> Sprite:
    """A fresh sprite, as the SDK gives it."""
    return make(name)
