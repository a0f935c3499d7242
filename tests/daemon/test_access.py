# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Tokens with scopes and an end, and what of it every operation of docs/openapi.yaml keeps."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from support import logs
from support.api import Api
from support.daemon import Daemon
from support.exec import run, shell
from support.fixtures import fresh_name
from support.mcp_client import call, over_http, play, refused
from support.wait import eventually
from test_refused import filled, operations

#: Told everything about all sprites, whatever is asked.
OF_ALL = {"getLogs", "queryLogs", "getTrace", "getSpriteTrace", "getMetrics"}
#: Requests that are not GET and read.
READS = {"queryLogs"}
#: WebSockets that carry nothing inwards; without the upgrade they are answered 426.
WATCHED = {"watchPorts", "watchFiles", "control", "proxy", "exec"}
#: Checked by each tool.
MODEL_CONTEXT = {"sendModelContext", "endModelContext"}


def token(daemon: Daemon, scope: str, *options: str) -> str:
    return daemon.tool("token", "create", "--scope", scope, *options).strip()


def token_id(text: str) -> str:
    return text.split("/")[2]


def listed(daemon: Daemon, text: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(daemon.tool("token", "list", "--json"))
    return next(one for one in found if one["id"] == token_id(text))


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Callable[[str], Api]]:
    """A client with a new token of a scope."""
    made: list[Api] = []

    def make(scope: str, *options: str) -> Api:
        made.append(Api(daemon.url, token(daemon, scope, *options)))
        return made[-1]

    yield make
    for one in made:
        one.close()
        daemon.tool("token", "revoke", token_id(one.token))


def body_for(path: str, method: str) -> dict[str, Any]:
    """Something that would be right, so that only the scope is wrong."""
    if "/fs/" in path and method != "POST":
        return {"params": {"path": "/tmp/none"}}
    if path.endswith("/logs/query"):
        return {"json": {"sql": "select 1"}}
    return {"json": {"name": fresh_name()}} if method in ("POST", "PUT") else {}


def test_every_operation_refuses_a_token_for_another_sprite(client: Callable[[str], Api], new_sprite: Callable[..., str]) -> None:
    name = new_sprite()
    other = client(f"sprite:{fresh_name('other')}")
    for method, path, details in operations():
        operation = details["operationId"]
        if path == "/health" or operation in MODEL_CONTEXT | {"listSprites"}:
            continue
        answer = other.http.request(method, filled(path, name), **body_for(path, method))
        assert answer.status_code == 403, f"{operation}: {answer.status_code} {answer.text[:200]}"
        assert answer.json()["error"] == "forbidden"
        if "{name}" in path:
            nobody = other.http.request(method, filled(path, fresh_name()), **body_for(path, method))
            assert nobody.status_code == 403, f"{operation} tells which sprites exist: {nobody.status_code}"
    assert other.all_sprites() == [] and name not in other.call("GET", "/v1/sprites").text


def test_every_operation_refuses_to_change_anything_for_a_reading_token(
    client: Callable[[str], Api], new_sprite: Callable[..., str]
) -> None:
    name = new_sprite()
    for scope in ("read", f"sprite:{name},read"):
        reader = client(scope)
        for method, path, details in operations():
            operation = details["operationId"]
            if path == "/health" or operation in MODEL_CONTEXT:
                continue
            answer = reader.http.request(method, filled(path, name), **body_for(path, method))
            is_refused = (method != "GET" and operation not in READS) or (operation in OF_ALL and scope != "read")
            if is_refused:
                assert answer.status_code == 403, f"{operation} with {scope}: {answer.status_code} {answer.text[:200]}"
            else:
                assert answer.status_code in (200, 404, 426, 400), f"{operation} with {scope}: {answer.status_code}"
        assert reader.get(name)["name"] == name and [one["name"] for one in reader.all_sprites(name)] == [name]


def socket(api: Api, path: str, **options: Any) -> ClientConnection:
    url = api.url.replace("http://", "ws://") + path
    return connect(url, additional_headers={"Authorization": f"Bearer {api.token}"}, proxy=None, **options)


@pytest.mark.parametrize("path", ["exec?cmd=true", "exec/1", "control", "proxy?port=80"])
def test_websockets_refuse_a_wrong_scope(client: Callable[[str], Api], new_sprite: Callable[..., str], path: str) -> None:
    name = new_sprite()
    for scope in ("read", f"sprite:{fresh_name()}", f"sprite:{name},read"):
        with pytest.raises(InvalidStatus) as failure, socket(client(scope), f"/v1/sprites/{name}/{path}"):
            pass
        assert failure.value.response.status_code == 403


def test_watching_needs_only_to_read(client: Callable[[str], Api], new_sprite: Callable[..., str]) -> None:
    name = new_sprite()
    with socket(client("read"), f"/v1/sprites/{name}/ports/watch"):
        pass
    with pytest.raises(InvalidStatus), socket(client(f"sprite:{fresh_name()},read"), f"/v1/sprites/{name}/ports/watch"):
        pass


def test_a_prefix_makes_uses_and_lists_its_own(client: Callable[[str], Api], api: Api, new_sprite: Callable[..., str]) -> None:
    mine, other = fresh_name("mine"), new_sprite("other")
    ours = client(f"sprite:{mine}*")
    ours.create(f"{mine}-a")
    assert shell(ours, f"{mine}-a", "echo hi") == "hi\n"
    ours.fork(f"{mine}-a", f"{mine}-b")
    for refusal in (
        ours.http.post("/v1/sprites", json={"name": fresh_name()}),
        ours.http.post(f"/v1/sprites/{mine}-a/fork", json={"name": fresh_name()}),
        ours.http.post(f"/v1/sprites/{other}/fork", json={"name": f"{mine}-c"}),
    ):
        assert refusal.status_code == 403
    page = ours.page(max_results=1)
    assert [one["name"] for one in page["sprites"]] == [f"{mine}-a"] and page["has_more"]
    assert [one["name"] for one in ours.all_sprites()] == [f"{mine}-a", f"{mine}-b"]
    assert ours.page(prefix="other")["sprites"] == []
    events = logs.events(ours, f"{mine}-a", event="api.request")
    assert {one["fields"]["token"] for one in events} == {token_id(ours.token)}
    for end in "ab":
        ours.destroy(f"{mine}-{end}")
    assert api.get(other)["name"] == other


def test_model_context_keeps_to_the_scope(client: Callable[[str], Api], new_sprite: Callable[..., str]) -> None:
    name, other = new_sprite(), new_sprite()
    reader = client(f"sprite:{name},read")

    async def scene() -> None:
        async with over_http(reader) as session:
            tools = {tool.name for tool in (await session.list_tools()).tools}
            assert "get_sprite" in tools and not tools & {"exec", "destroy_sprite", "create_checkpoint", "write_file"}
            assert [one["name"] for one in (await call(session, "list_sprites"))["sprites"]] == [name]
            assert (await call(session, "get_sprite", sprite=name))["name"] == name
            assert "the token is for" in await refused(session, "get_sprite", sprite=other)
            assert "the token is for" in await refused(session, "read_logs", sprite=other)
        async with over_http(client(f"sprite:{name}")) as session:
            assert "the token is for" in await refused(session, "exec", sprite=other, command="true")
            assert "the token is for" in await refused(session, "create_sprite", name=fresh_name())
            assert "the token is for" in await refused(session, "fork_sprite", sprite=name, name=fresh_name())
            assert (await call(session, "exec", sprite=name, command="echo in"))["exit_code"] == 0

    play(scene)


def test_no_token_widens_the_socket_inside(api: Api, new_sprite: Callable[..., str]) -> None:
    name, other = new_sprite(), new_sprite()
    ask = (
        "import socket,sys\nc=socket.socket(socket.AF_UNIX)\nc.connect('/.sprite/api.sock')\n"
        "c.sendall(('GET '+sys.argv[1]+' HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nAuthorization: Bearer '+sys.argv[2]+'\\r\\n\\r\\n').encode())\n"
        "print(c.recv(99).split()[1].decode())"
    )
    for path, status in ((f"/v1/sprites/{other}", "404"), ("/v1/sprites", "404"), ("/v1/info", "200")):
        answer = run(api, name, "python3", "-c", ask, path, api.token)
        assert (answer.code, answer.text) == (0, status + "\n"), (path, answer)


def test_revoking_ends_what_is_open(daemon: Daemon, api: Api, new_sprite: Callable[..., str]) -> None:
    name = new_sprite()
    text = token(daemon, f"sprite:{name}", "--name", "agent 7")
    holder = Api(daemon.url, text)
    with socket(holder, f"/v1/sprites/{name}/exec?cmd=sleep&cmd=60&tty=true") as session:
        follower = logs.Follower(holder, name)
        row = listed(daemon, text)
        assert row["name"] == "agent 7" and row["scope"] == f"sprite:{name}" and row["last_used_at"] >= row["created_at"]
        daemon.tool("token", "revoke", token_id(text))
        assert holder.http.get(f"/v1/sprites/{name}").status_code == 401
        with pytest.raises(ConnectionClosed):
            for _ in range(100):
                session.recv(timeout=10)
        eventually(lambda: not follower.follows, "the stream ends", 10)
    # The other token still works, and the journal tells what happened.
    assert api.get(name)["name"] == name
    for what in ("created", "revoked"):
        record = logs.wait_for(api, None, f"token {token_id(text)} {what}", event=f"token.{what}")
        assert record["fields"]["scope"] == f"sprite:{name}"
    holder.close()


def test_a_token_ends_by_itself(daemon: Daemon) -> None:
    text = token(daemon, "all", "--expires", "2s")
    with httpx.Client(base_url=daemon.url, headers={"Authorization": f"Bearer {text}"}, trust_env=False) as http:
        assert http.get("/v1/sprites").status_code == 200
        eventually(lambda: http.get("/v1/sprites").status_code == 401, "the token has expired", 10)
    assert listed(daemon, text)["expired"]
    assert "expired" in daemon.tool("token", "list")
    daemon.tool("token", "revoke", token_id(text))


def test_only_hashes_lie_on_the_disk(daemon: Daemon) -> None:
    text = token(daemon, "read")
    secret = text.split("/")[3].encode()
    assert len(secret) == 64
    folder = daemon.data_directory / "tokens"
    assert folder.stat().st_mode & 0o777 == 0o700
    for path in daemon.data_directory.rglob("*"):
        if path.is_file() and path.name != "pool.img":
            assert secret not in path.read_bytes(), path
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    # A guess with the right id and a wrong secret is a stranger's.
    for guess in (text[:-1], text[:-1] + ("0" if text[-1] != "0" else "1"), text + "0", text.replace("local/local", "local"), "a/b/../d"):
        assert httpx.get(f"{daemon.url}/v1/sprites", headers={"Authorization": f"Bearer {guess}"}).status_code == 401
    daemon.tool("token", "revoke", token_id(text))


def test_tokens_outlive_a_crash(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(with_base=False)
    text = token(daemon, "read")
    daemon.restart()
    api = Api(daemon.url, text)
    assert api.all_sprites() == [] and api.http.post("/v1/sprites", json={"name": "x"}).status_code == 403
    api.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "--scope", "some"], ["create", "--scope", "sprite:"], ["create", "--scope", "sprite:A"], ["create", "--scope", "sprite:*"],
        ["create", "--scope", "all,read"], ["create", "--scope", "read,read"], ["create", "--scope", ""], ["create"],
        ["create", "--scope", "all", "--expires", "soon"], ["create", "--scope", "all", "--expires", "0d"],
        ["create", "--scope", "all", "--expires", "99999999999999999999d"], ["create", "--scope", "all", "--name", "a\nb"],
        ["revoke", "../token"], ["revoke", "0" * 16],
    ],
)  # fmt: skip
def test_wrong_token_commands(daemon: Daemon, arguments: list[str]) -> None:
    before = daemon.tool("token", "list", "--json")
    with pytest.raises(AssertionError, match="ended with [12]"):
        daemon.tool("token", *arguments)
    assert daemon.tool("token", "list", "--json") == before and daemon.token


# Web pages of other sites


def test_names_that_are_not_this_servers_are_refused(api: Api, daemon: Daemon) -> None:
    port = daemon.url.rsplit(":", 1)[1]
    for host, status in [
        (f"rebound.example.com:{port}", 403), ("example.com", 403), ("localhost.example.com", 403), (f"localhost:{port}", 200),
        (f"127.0.0.1:{port}", 200), (f"[::1]:{port}", 200), ("192.0.2.7", 200), (f"sprites.localhost:{port}", 200), ("evil.127.0.0.1", 403),
    ]:  # fmt: skip
        answer = api.http.get("/v1/sprites", headers={"Host": host})
        assert answer.status_code == status, f"{host}: {answer.status_code} {answer.text[:200]}"
    assert api.http.get("/health", headers={"Host": "anything.example"}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "is_allowed"),
    [
        ({"Origin": "https://evil.example"}, False), ({"Origin": "null"}, False), ({"Origin": "http://localhost:3000"}, False),
        ({"Origin": "http://a.sprites.localhost:{port}"}, False), ({"Origin": "http://127.0.0.1:{port}"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, False),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True), ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, True),
    ],
)  # fmt: skip
def test_pages_of_other_sites_are_refused(
    api: Api, daemon: Daemon, new_sprite: Callable[..., str], headers: dict[str, str], is_allowed: bool
) -> None:
    port = daemon.url.rsplit(":", 1)[1]
    headers = {name: value.replace("{port}", port) for name, value in headers.items()}
    name = new_sprite()
    assert (api.http.get("/v1/sprites", headers=headers).status_code == 200) == is_allowed
    answer = api.http.post("/mcp", headers=headers, json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
    if "Sec-Fetch-Dest" not in headers:
        assert (answer.status_code == 200) == is_allowed
    if "Origin" in headers:
        path = f"/v1/sprites/{name}/exec?cmd=true"
        url, sign_in = api.url.replace("http://", "ws://") + path, {"Authorization": f"Bearer {api.token}"}
        try:
            with connect(url, additional_headers=sign_in, origin=headers["Origin"], proxy=None):
                assert is_allowed
        except InvalidStatus as failure:
            assert not is_allowed and failure.response.status_code == 403


def test_a_sprites_url_refuses_other_sites_with_the_sign_in(api: Api, daemon: Daemon, new_sprite: Callable[..., str]) -> None:
    name = new_sprite()
    port = daemon.url.rsplit(":", 1)[1]
    sign_in = base64.b64encode(f"bearer:{api.token}".encode()).decode()
    host = f"{name}.sprites.localhost:{port}"

    def ask(method: str = "GET", **headers: str) -> int:
        sent = {"Host": host, "Authorization": f"Basic {sign_in}"} | {key.replace("_", "-"): value for key, value in headers.items()}
        return api.http.request(method, "/", headers=sent).status_code

    # Nothing listens there: 502 is as far as a request comes that is let through.
    assert ask() == 502
    assert ask("POST", Origin="https://evil.example") == 403
    assert ask("POST", Origin=f"http://other.sprites.localhost:{port}") == 403
    assert ask("POST", Origin=f"http://{host}") == 502
    assert ask(Sec_Fetch_Site="same-site", Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="image") == 403
    assert ask(Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document") == 502
    # Reading is not enough for what a service does with a request.
    for scope, status in (("read", 403), (f"sprite:{name}", 502), (f"sprite:{fresh_name()}", 403)):
        text = token(daemon, scope)
        answer = api.http.get("/", headers={"Host": host, "Authorization": f"Bearer {text}"})
        assert answer.status_code == status, scope
        daemon.tool("token", "revoke", token_id(text))


def test_allowed_names_and_sites(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(
        "--allowed-host", "sprites.example.org", "--allowed-host", ".lan.example.org", "--allowed-origin", "https://app.example.org",
        "--max-connections-per-address", "5", with_base=False,
    )  # fmt: skip
    api = daemon.api()
    for host, status in [("sprites.example.org", 200), ("x.lan.example.org:443", 200), ("lan.example.org", 403), ("example.org", 403)]:
        assert api.http.get("/v1/sprites", headers={"Host": host}).status_code == status, host
    for origin, status in [("https://app.example.org", 200), ("http://app.example.org", 403)]:
        assert api.http.get("/v1/sprites", headers={"Origin": origin}).status_code == status, origin
    # A proxy in front that speaks https passes both on as they came.
    behind = {"Host": "sprites.example.org", "Origin": "https://sprites.example.org"}
    assert api.http.get("/v1/sprites", headers=behind).status_code == 200
    _check_connection_limit(daemon, api)


def _check_connection_limit(daemon: Daemon, api: Api) -> None:
    api.close()
    host, port = daemon.url.removeprefix("http://").split(":")
    held: list[httpx.Client] = []
    refused_at = 0
    for count in range(1, 12):
        client = httpx.Client(base_url=daemon.url, trust_env=False)
        held.append(client)
        try:
            assert client.get("/health").status_code == 200
        except httpx.TransportError:
            refused_at = count
            break
    assert 4 <= refused_at <= 6, f"five connections of {host}:{port} were allowed, the {refused_at}th was refused"
    for client in held:
        client.close()
    eventually(lambda: _answers(daemon), "connections that were closed make room", 10)


def _answers(daemon: Daemon) -> bool:
    try:
        return httpx.get(f"{daemon.url}/health").status_code == 200
    except httpx.TransportError:
        return False


def test_header_limits(api: Api) -> None:
    many = [(f"x-{index}", "1") for index in range(300)]
    # Refused while it is parsed, before there is a request that could have an id.
    answer = httpx.get(f"{api.url}/v1/sprites", headers=many)
    assert answer.status_code == 431 and answer.json()["error"] == "too_large"
    answer = httpx.get(f"{api.url}/v1/sprites", headers={"x": "y" * (300 << 10), "Authorization": f"Bearer {api.token}"})
    assert answer.status_code == 431 and answer.json()["error"] == "headers_too_large"
    assert api.http.get("/v1/sprites", headers=many[:200]).status_code == 200


def test_settings_that_cannot_be_right(new_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    for options in (
        ["--tls-cert", str(tmp_path / "none.pem")], ["--tls-cert", str(tmp_path / "a"), "--tls-key", str(tmp_path / "b")],
        ["--allowed-origin", "app.example.org"], ["--max-connections", "0"], ["--max-connections-per-address", "many"],
    ):  # fmt: skip
        daemon = new_daemon(started=False, with_base=False)
        daemon.options = options
        with pytest.raises(AssertionError, match="sprited ended with [12]"):
            daemon.start()
        daemon.options = []
