# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The official client of the Model Context Protocol, over each way to the server."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from support import programs
from support.api import Api

MODES = ["legacy", "auto"]


@asynccontextmanager
async def over_http(api: Api, mode: str = "auto") -> AsyncIterator[Client]:
    """Streamable HTTP with the token."""
    headers = {"Authorization": f"Bearer {api.token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http:
        async with Client(streamable_http_client(f"{api.url}/mcp", http_client=http), mode=mode) as client:
            yield client


@asynccontextmanager
async def over_program(api: Api, mode: str = "auto") -> AsyncIterator[Client]:
    """`sprite mcp` on standard input and output."""
    variables = {"SPRITES_API_URL": api.url, "SPRITE_TOKEN": api.token, "HOME": "/nonexistent"}
    server = StdioServerParameters(command=str(programs.sprite()), args=["mcp"], env=variables)
    async with Client(server, mode=mode) as client:
        yield client


@asynccontextmanager
async def inside(api: Api, sprite: str, mode: str = "auto") -> AsyncIterator[Client]:
    """`sprite-env mcp` in a sprite, carried by `sprite exec`."""
    variables = {"SPRITES_API_URL": api.url, "SPRITE_TOKEN": api.token, "HOME": "/nonexistent"}
    arguments = ["exec", "-s", sprite, "--", "/.sprite/bin/sprite-env", "mcp"]
    server = StdioServerParameters(command=str(programs.sprite()), args=arguments, env=variables)
    async with Client(server, mode=mode) as client:
        yield client


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    """The object a tool answers; it must succeed, and say the same in its text."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, (tool, arguments, result.content)
    text = result.content[0].text
    if text.startswith("{"):
        assert json.loads(text) == result.structured_content
    return result.structured_content


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    """What the model is told of a call that does not succeed."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error, (tool, arguments, result.content)
    return str(result.content[0].text)


def play(scene: Awaitable[None] | Callable[[], Awaitable[None]], seconds: float = 60) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(seconds):
            await (scene() if callable(scene) else scene)

    asyncio.run(bounded())
