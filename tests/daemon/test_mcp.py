# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The Model Context Protocol, with its official client: every tool, each way to the server, each kind of version."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from mcp.shared.exceptions import MCPError

from support.api import Api
from support.exec import shell
from support.fixtures import fresh_name
from support.inner import ask
from support.mcp_client import MODES, call, inside, over_http, over_program, play, refused
from support.wait import eventually

OUTSIDE = {
    "list_sprites", "get_sprite", "create_sprite", "fork_sprite", "destroy_sprite", "exec", "exec_output", "exec_kill",
    "read_file", "write_file", "list_files", "delete_file", "create_checkpoint", "list_checkpoints", "delete_checkpoint",
    "restore_checkpoint", "undo_restore", "list_services", "create_service", "start_service", "stop_service",
    "restart_service", "delete_service", "service_logs", "list_tasks", "set_task", "delete_task", "get_network_policy",
}  # fmt: skip
INSIDE = {
    "get_sprite", "create_checkpoint", "list_checkpoints", "delete_checkpoint", "restore_checkpoint", "undo_restore",
    "list_services", "create_service", "start_service", "stop_service", "restart_service", "delete_service",
    "service_logs", "list_tasks", "set_task", "delete_task", "get_network_policy",
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_every_tool_outside(api: Api, mode: str) -> None:
    name = fresh_name("mcp")
    copy = fresh_name("mcp")
    used: set[str] = set()

    async def scene() -> None:
        async with over_http(api, mode) as client:

            async def do(tool: str, **arguments: Any) -> Any:
                used.add(tool)
                return await call(client, tool, **arguments)

            assert (await do("create_sprite", name=name, labels=["mcp"]))["status"] == "running"
            assert name in [one["name"] for one in (await do("list_sprites", prefix="mcp"))["sprites"]]
            assert (await do("get_sprite", sprite=name))["labels"] == ["mcp"]
            done = await do("exec", sprite=name, command="cat; echo $A; pwd; echo problem >&2; exit 3", input="in\n",
                            environment={"A": "a b"}, directory="/tmp")
            assert done["exit_code"] == 3 and not done["running"] and "next_cursor" not in done
            assert sorted(done["output"].split()) == ["/tmp", "a", "b", "in", "problem"]
            # Bounded, and read on from the cursor.
            long = await do("exec", sprite=name, command="seq 1 20000", limit=5000)
            text, cursor = long["output"], long["next_cursor"]
            while cursor is not None:
                more = await do("exec_output", sprite=name, exec_id=long["exec_id"], cursor=cursor, limit=60000)
                text, cursor = text + more["output"], more.get("next_cursor")
            assert text == "".join(f"{number}\n" for number in range(1, 20001))
            begun = await do("exec", sprite=name, command="echo begun; sleep 1000", wait_seconds=1)
            assert begun["running"] and begun["output"] == "begun\n"
            ended = await do("exec_kill", sprite=name, exec_id=begun["exec_id"])
            assert not ended["running"] and ended["exit_code"] == 137
            assert (await do("write_file", sprite=name, path="d/f.txt", content="grün\n" * 10, mode="0600"))["size"] == 60
            part = await do("read_file", sprite=name, path="d/f.txt", limit=3)
            assert (part["text"], part["next_offset"], part["size"]) == ("gr", 2, 60)
            rest = await do("read_file", sprite=name, path="/home/sprite/d/f.txt", offset=2)
            assert rest["text"] == "ün\n" + "grün\n" * 9 and "next_offset" not in rest
            assert [one["name"] for one in (await do("list_files", sprite=name, path="d"))["entries"]] == ["f.txt"]
            made = await do("create_checkpoint", sprite=name, comment="with a file")
            await do("delete_file", sprite=name, path="d", recursive=True)
            assert [one["id"] for one in (await do("list_checkpoints", sprite=name))["checkpoints"]] == ["v1", "v0"]
            back = await do("restore_checkpoint", sprite=name, checkpoint=made["id"])
            assert back["replaced_state_kept_as"] == "auto-1"
            assert (await do("read_file", sprite=name, path="d/f.txt"))["size"] == 60
            await do("undo_restore", sprite=name)
            assert "ENOENT" in await refused(client, "read_file", sprite=name, path="d/f.txt")
            await do("create_checkpoint", sprite=name)
            await do("delete_checkpoint", sprite=name, checkpoint="v1")
            assert (await do("fork_sprite", sprite=name, name=copy))["name"] == copy
            told = await do("create_service", sprite=name, service="s", command=["sh", "-c", "echo up; exec sleep 9999"])
            assert told["output"] == "up\n" and "started" in told["events"]
            assert (await do("list_services", sprite=name))["services"][0]["status"] == "running"
            assert "stopped" in (await do("stop_service", sprite=name, service="s"))["events"]
            await do("start_service", sprite=name, service="s")
            await do("restart_service", sprite=name, service="s")
            assert "up\n" in (await do("service_logs", sprite=name, service="s"))["output"]
            assert "up\n" in (await client.read_resource(f"sprite://{name}/services/s/logs")).contents[0].text
            await do("delete_service", sprite=name, service="s")
            assert (await do("set_task", sprite=name, task="t", seconds=60))["name"] == "t"
            assert len((await do("list_tasks", sprite=name))["tasks"]) == 1
            await do("delete_task", sprite=name, task="t")
            assert await do("get_network_policy", sprite=name) == {"rules": []}
            uris = [str(one.uri) for one in (await client.list_resources()).resources]
            assert "sprite://guide" in uris and f"sprite://{name}/checkpoints" in uris
            assert "checkpoint" in (await client.read_resource("sprite://guide")).contents[0].text
            listed = json.loads((await client.read_resource(f"sprite://{name}/checkpoints")).contents[0].text)
            assert listed["checkpoints"][0]["id"] == "v2"
            assert len((await client.list_resource_templates()).resource_templates) == 3
            if keeps_journal(api, name):
                lines: list[str] = []
                while not any("with a file" in line for line in lines):
                    found = await do("read_logs", sprite=name, kind="checkpoint", limit=50)
                    lines = [one["text"] for one in found["records"]]
                older = await do("read_logs", sprite=name, limit=1)
                again = await do("read_logs", sprite=name, limit=1, cursor=older["next_cursor"])
                assert again["records"] != older["records"]
                used.discard("read_logs")
            for one in (name, copy):
                await do("destroy_sprite", sprite=one)
            assert client.protocol_version == ("2025-11-25" if mode == "legacy" else "2026-07-28")

    play(scene, 90)
    assert used == OUTSIDE


def keeps_journal(api: Api, sprite: str) -> bool:
    return api.http.get(f"/v1/sprites/{sprite}/logs").status_code == 200


def names(tools: list[Any]) -> set[str]:
    """Those of every server; one that keeps a journal has another."""
    return {tool.name for tool in tools} - {"read_logs"}


def test_every_tool_is_described(api: Api, sprite: str) -> None:
    async def scene() -> None:
        async with over_http(api) as client:
            outside = (await client.list_tools()).tools
        async with inside(api, sprite) as client:
            within = (await client.list_tools()).tools
        assert names(outside) == OUTSIDE and names(within) == INSIDE
        assert ("read_logs" in {tool.name for tool in within}) == keeps_journal(api, sprite)
        for tool in outside + within:
            assert tool.input_schema["additionalProperties"] is False
            assert set(tool.input_schema["required"]) <= set(tool.input_schema["properties"])
            assert all("description" in one and "type" in one for one in tool.input_schema["properties"].values())
            assert tool.annotations and tool.annotations.read_only_hint is not None
            # It says what it changes and how that is taken back.
            assert any(word in tool.description for word in ("Undo:", "annot be undone", "CANNOT", "Changes nothing")), tool
        assert all("sprite" not in tool.input_schema["properties"] for tool in within)

    play(scene)


@pytest.mark.parametrize("mode", MODES)
def test_every_tool_inside(api: Api, sprite: str, mode: str) -> None:
    shell(api, sprite, "echo first > file")

    async def scene() -> None:
        async with inside(api, sprite, mode) as client:
            assert (await call(client, "get_sprite"))["name"] == sprite
            assert (await call(client, "create_checkpoint", comment="one"))["id"] == "v1"
            assert (await call(client, "create_checkpoint"))["id"] == "v2"
            await call(client, "delete_checkpoint", checkpoint="v1")
            assert [one["id"] for one in (await call(client, "list_checkpoints"))["checkpoints"]] == ["v2", "v0"]
            await call(client, "create_service", service="s", command=["sleep", "9999"], needs=[], http_port=8080)
            for tool in ("stop_service", "start_service", "restart_service", "service_logs"):
                await call(client, tool, service="s")
            assert len((await call(client, "list_services"))["services"]) == 1
            await call(client, "delete_service", service="s")
            await call(client, "set_task", task="t")
            assert len((await call(client, "list_tasks"))["tasks"]) == 1
            await call(client, "delete_task", task="t")
            await call(client, "get_network_policy")
            assert "v2" in (await client.read_resource(f"sprite://{sprite}/checkpoints")).contents[0].text
            with pytest.raises(MCPError):
                await client.read_resource("sprite://another/checkpoints")
            assert "never restored" in await refused(client, "undo_restore")
            assert "there is no checkpoint v9" in await refused(client, "restore_checkpoint", checkpoint="v9")
            assert "there is no argument 'sprite'" in await refused(client, "get_sprite", sprite="another")

    play(scene)


def test_a_restore_from_inside_is_answered_before_it_ends_everything(api: Api, sprite: str) -> None:
    shell(api, sprite, "echo first > file; sprite-env checkpoints create; echo second > file")

    def message(tool: str, **arguments: str) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        return ask(api, sprite, "POST", "/mcp", body)

    def read() -> str:
        # The restore may end what reads the file after the answer has begun.
        with contextlib.suppress(httpx.RemoteProtocolError):
            return api.call("GET", f"/v1/sprites/{sprite}/fs/read?path=/home/sprite/file", (200, 404, 500, 503)).text
        return ""

    status, answer = message("restore_checkpoint", checkpoint="v1", then="echo then >> file")
    assert status == 200 and answer["result"]["structuredContent"] == {"restoring": "v1"}
    eventually(lambda: read() == "first\nthen\n", "the work goes on")
    assert message("undo_restore")[0] == 200
    eventually(lambda: read() == "second\n", "the restore is undone")


@pytest.mark.parametrize("mode", MODES)
def test_sprite_mcp_carries_the_same(api: Api, sprite: str, mode: str) -> None:
    async def scene() -> None:
        async with over_program(api, mode) as client:
            assert names((await client.list_tools()).tools) == OUTSIDE
            assert (await call(client, "exec", sprite=sprite, command="echo hello"))["output"] == "hello\n"
            # Many at once, answered as they end.
            begin = time.monotonic()
            done = await asyncio.gather(
                *(call(client, "exec", sprite=sprite, command=f"sleep 0.5; echo {number}") for number in range(6)))
            assert [one["output"].strip() for one in done] == [str(number) for number in range(6)]
            assert time.monotonic() - begin < 2.5

    play(scene)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", [over_http, over_program])
def test_progress_and_cancellation(api: Api, sprite: str, mode: str, way: Callable[..., Any]) -> None:
    async def scene() -> None:
        async with way(api, mode) as client:
            told: list[str | None] = []

            async def note(progress: float, total: float | None, message: str | None) -> None:
                told.append(message)

            command = "echo $$ > pid; echo out; exec sleep 1000"
            call = asyncio.create_task(
                client.call_tool("exec", {"sprite": sprite, "command": command, "wait_seconds": 100}, progress_callback=note))
            deadline = time.monotonic() + 15
            while not told and time.monotonic() < deadline:
                await asyncio.sleep(0.1)
            assert told and "bytes printed" in str(told[0])
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            # The server goes on, and the command does not.
            await client.list_tools()
            for _ in range(100):
                done = await client.call_tool("exec", {"sprite": sprite, "command": "kill -0 $(cat pid) 2>/dev/null && echo runs || echo ended"})
                if done.structured_content["output"] == "ended\n":
                    return
                await asyncio.sleep(0.1)
            raise AssertionError("the command of a cancelled call goes on")

    play(scene)


def test_errors_say_what_to_do_next(api: Api, sprite: str) -> None:
    async def scene() -> None:
        async with over_http(api) as client:
            for tool, arguments, words in [
                ("get_sprite", {"sprite": "ghost"}, "list_sprites"),
                ("get_sprite", {}, "'sprite' is missing"),
                ("get_sprite", {"sprite": 3}, "must be a string"),
                ("get_sprite", {"sprite": "Bad Name"}, "correct the argument"),
                ("restore_checkpoint", {"sprite": sprite, "checkpoint": "v7"}, "list_checkpoints"),
                ("restore_checkpoint", {"sprite": sprite, "checkpoint": "nonsense"}, "ids look like v3"),
                ("delete_checkpoint", {"sprite": sprite, "checkpoint": "v0"}, "Next:"),
                ("exec", {"sprite": sprite, "command": "x" * (300 << 10)}, "the limit is"),
                ("exec", {"sprite": sprite, "command": "true", "wait_seconds": 601}, "use 0 to 600"),
                ("exec", {"sprite": sprite, "command": "true", "cwd": "/"}, "there is no argument 'cwd'"),
                ("exec_output", {"sprite": sprite, "exec_id": "nope"}, "there is no command"),
                ("create_sprite", {"name": sprite}, "Next: use another name"),
                ("set_task", {"sprite": sprite, "task": "a b"}, "invalid task name"),
                ("list_checkpoints", {"sprite": sprite, "cursor": "v55"}, "call again without it"),
            ]:  # fmt: skip
                assert words in await refused(client, tool, **arguments), (tool, arguments)
            with pytest.raises(MCPError) as missing:
                await client.call_tool("nonsense", {})
            assert missing.value.error.code == -32602

    play(scene)


def test_the_wire(api: Api) -> None:
    def post(body: Any, **fields: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return api.http.post("/mcp", content=content, headers={"Content-Type": "application/json", **fields})

    def initialize(version: Any) -> Any:
        return {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}

    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]:
        assert post(initialize(version)).json()["result"]["protocolVersion"] == version
    for unknown in ["1999-01-01", "2026-07-28", None, 3]:
        assert post(initialize(unknown)).json()["result"]["protocolVersion"] == "2025-11-25"
    begun = post(initialize("2025-06-18"))
    session = begun.headers["mcp-session-id"]
    ping = {"jsonrpc": "2.0", "id": "a", "method": "ping"}
    assert post(ping, **{"Mcp-Session-Id": session}).json()["id"] == "a"
    assert post({"jsonrpc": "2.0", "method": "notifications/initialized"}, **{"Mcp-Session-Id": session}).status_code == 202
    api.call("DELETE", "/mcp", 204, headers={"Mcp-Session-Id": session})
    assert post(ping, **{"Mcp-Session-Id": session}).status_code == 404
    for body, status, code in [
        (b"nonsense", 400, -32700), (b"", 400, -32700), ([ping], 200, -32600), ({"jsonrpc": "2.0", "id": 1, "method": "no/such"}, 200, -32601),
        ({"id": 1, "method": "ping"}, 200, -32600), ({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {}}, 200, -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "file:///etc/passwd"}}, 200, -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": {"io.modelcontextprotocol/protocolVersion": "1900-01-01"}}}, 400, -32022),
    ]:  # fmt: skip
        answer = post(body)
        if isinstance(body, list):
            assert answer.status_code in (200, 202)
            continue
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), (body, answer.text)
    assert post(ping, **{"MCP-Protocol-Version": "1900-01-01"}).status_code == 400
    assert httpx.post(f"{api.url}/mcp", json=ping, trust_env=False).status_code == 401
    assert post(b"[" * 100_000).status_code == 400
    assert post(b" " * (2 << 20)).status_code == 413
    assert api.http.get("/mcp").status_code == 405
