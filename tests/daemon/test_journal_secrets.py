# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Secrets that clients send are in no record, no span, no export, and not in the file itself."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import httpx
from test_journal_export import Collector, collector  # noqa: F401  the fixture
from websockets.asyncio.client import connect

from support.api import Api
from support.daemon import Daemon
from support.exec import run
from support.fixtures import fresh_name
from support.logs import database, events, wait_for
from support.wait import eventually

#: Each goes in by another way, so that what is found says which.
SECRETS = {
    way: f"hush-{way}-9d7c1"
    for way in (
        "authorization", "cookie", "x-api-key", "proxy-authorization", "query-token", "query-password", "url-query", "url-header",
        "url-cookie", "env-websocket", "env-post", "env-service", "env-missing", "stdin", "body-file", "wrong-token", "referer",
    )
}  # fmt: skip


def send_everything(api: Api, name: str) -> None:
    """Secrets where they belong, and where people put them by mistake."""
    secret = SECRETS
    headers = {
        "cookie": f"session={secret['cookie']}", "x-api-key": secret["x-api-key"], "referer": f"http://x/?t={secret['referer']}",
        "proxy-authorization": f"Basic {secret['proxy-authorization']}",
    }  # fmt: skip
    with httpx.Client(base_url=api.url, headers=api.http.headers, trust_env=False, timeout=30) as client:
        query = {"token": secret["query-token"], "password": secret["query-password"]}
        assert client.get(f"/v1/sprites/{name}", params=query, headers=headers).status_code == 200
        refused = client.get("/v1/sprites", headers={"authorization": f"Bearer {secret['authorization']}"})
        assert refused.status_code == 401
        assert client.get("/v1/sprites", headers={"authorization": secret["wrong-token"]}).status_code == 401
        posted = client.post(
            f"/v1/sprites/{name}/exec", params=[("cmd", "true"), ("env", f"KEY={secret['env-post']}")],
            content=secret["stdin"].encode(),
        )  # fmt: skip
        assert posted.status_code == 200
        # One that cannot be started is recorded too.
        client.post(f"/v1/sprites/{name}/exec", params=[("cmd", "/no/such"), ("env", f"KEY={secret['env-missing']}")])
        written = client.put(
            f"/v1/sprites/{name}/fs/write", params={"path": "/home/sprite/key"}, content=secret["body-file"].encode()
        )
        assert written.status_code == 200, written.text
        host = f"{name}.sprites.localhost:{api.url.rsplit(':', 1)[1]}"
        client.get(
            f"/path?{urlencode({'token': secret['url-query']})}",
            headers={"host": host, "x-api-key": secret["url-header"], "cookie": f"a={secret['url-cookie']}"},
        )
    assert run(api, name, "true", env={"KEY": secret["env-websocket"]}).code == 0
    api.call(
        "PUT", f"/v1/sprites/{name}/services/quiet?duration=100ms",
        json={"cmd": "sleep", "args": ["600"], "env": {"KEY": secret["env-service"]}},
    )  # fmt: skip

    async def refused_socket() -> None:
        url = f"{api.url.replace('http', 'ws', 1)}/v1/sprites/{name}/exec?cmd=true&token={secret['query-token']}"
        with contextlib.suppress(Exception):
            async with connect(url, additional_headers={"Authorization": f"Bearer {secret['wrong-token']}"}, proxy=None):
                pass

    asyncio.run(refused_socket())


def everything_kept(daemon: Daemon) -> str:
    """Every row of every table as text."""
    with contextlib.closing(database(daemon.data_directory)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%STRICT%'")]
        assert {"records", "spans", "sources"} <= set(tables)
        return "\n".join(str(row) for table in tables for row in connection.execute(f"SELECT * FROM {table}"))


def test_secrets_of_clients_are_nowhere(
    new_daemon: Callable[..., Daemon], collector: Collector, tmp_path: Path  # noqa: F811
) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"otlp_endpoint": f"http://127.0.0.1:{collector.server_port}"}))
    daemon = new_daemon("--config", str(settings))
    api = daemon.api()
    name = fresh_name()
    api.create(name)
    send_everything(api, name)
    run(api, name, "echo", "the-end-of-it")
    wait_for(api, name, "the-end-of-it", stream="stdout")
    eventually(lambda: any(one["body"]["stringValue"] == "the-end-of-it" for one in collector.logs), "it was exported", 20)
    eventually(lambda: any(one["name"] == "http.exec" for one in collector.spans), "spans were exported", 20)
    # The calls themselves are on record, or the test would prove nothing.
    paths = {one["fields"]["path"] for one in events(api, name, kind="api")}
    assert {f"/v1/sprites/{name}", f"/v1/sprites/{name}/exec", f"/v1/sprites/{name}/fs/write", "/path"} <= paths
    assert [one for one in events(api, kind="api") if one["fields"]["status"] == 401]
    assert [one for one in events(api, name, event="exec.started") if one.get("service") == "quiet"]
    kept = everything_kept(daemon)
    exported = json.dumps([collector.logs, collector.spans])
    written = b"".join(path.read_bytes() for path in daemon.data_directory.glob("journal.db*"))
    for way, secret in {**SECRETS, "token": api.token}.items():
        assert secret not in kept, f"what was sent by {way} is in the journal"
        assert secret not in exported, f"what was sent by {way} was exported"
        assert secret.encode() not in written, f"what was sent by {way} is in the journal's file"
        assert secret not in daemon.log.read_text(), f"what was sent by {way} is in the log"
