# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""A sprite's own URL: who may use it, and that everything HTTP can do goes through."""

import asyncio
import hashlib
import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from support import inside
from support.api import Api
from support.cli import Cli
from support.daemon import Daemon
from support.exec import shell
from support.logs import events
from support.wait import eventually


class Visitor:
    """Requests to one sprite's URL, over one connection to the daemon."""

    def __init__(self, api: Api, sprite: str, token: str | None = None) -> None:
        self.port = int(api.url.rsplit(":", 1)[1])
        self.host = f"{sprite}.sprites.localhost:{self.port}"
        self.fields = {"Host": self.host} | ({"Authorization": f"Bearer {token}"} if token else {})
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(
        self, path: str = "/", method: str = "GET", body: object = None, **fields: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        self.connection.request(method, path, body, self.fields | named)  # type: ignore[arg-type]
        answer = self.connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def raw(self, text: str) -> socket.socket:
        """Sends a request byte for byte; `HOST` and `AUTH` are filled in."""
        one = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        auth = f"Authorization: {self.fields['Authorization']}\r\n" if "Authorization" in self.fields else ""
        one.sendall(text.replace("HOST", self.host).replace("AUTH\r\n", auth).encode())
        return one


@pytest.fixture
def served(api: Api, sprite: str) -> str:
    """A sprite with a server on port 8080."""
    inside.start(api, sprite, "http")
    return sprite


@pytest.fixture
def visitor(api: Api, served: str) -> Iterator[Visitor]:
    one = Visitor(api, served, api.token)
    yield one
    one.connection.close()


def test_the_url_of_the_sprite_leads_to_it(api: Api, served: str) -> None:
    url = api.get(served)["url"]
    assert url == f"http://{served}.sprites.localhost:{api.url.rsplit(':', 1)[1]}"
    # Not every resolver knows *.localhost, so the name goes into the header only.
    answer = api.http.get("/x?y=1", headers={"Host": url.removeprefix("http://")})
    assert (answer.status_code, answer.text) == (200, "hello from /x?y=1")


def test_only_a_token_opens_a_private_url(api: Api, served: str) -> None:
    for token in (None, "wrong"):
        status, fields, body = Visitor(api, served, token).ask(accept="text/html")
        assert status == 401 and b"<h1>" in body and fields["content-type"].startswith("text/html")
        assert fields["www-authenticate"].startswith("Basic"), "so that a browser asks"
        status, fields, body = Visitor(api, served, token).ask()
        assert (status, fields["content-type"]) == (401, "application/json") and b'"unauthorized"' in body
    assert Visitor(api, served, api.token).ask()[0] == 200
    api.update(served, url_settings={"auth": "public"})
    assert Visitor(api, served).ask()[0] == 200
    api.update(served, url_settings={"auth": "sprite"})
    assert Visitor(api, served).ask()[0] == 401


def test_the_service_does_not_see_the_token_of_the_server(api: Api, served: str, visitor: Visitor) -> None:
    assert b"uthorization" not in visitor.ask("/head")[2]
    api.update(served, url_settings={"auth": "public"})
    assert b"uthorization" not in visitor.ask("/head")[2]
    assert b"Authorization: Bearer of-its-own" in Visitor(api, served, "of-its-own").ask("/head")[2]


def test_what_the_service_gets(api: Api, served: str, visitor: Visitor) -> None:
    _, fields, body = visitor.ask("/head", X_Own="a", Connection="keep-alive, X-Secret", X_Secret="1", TE="trailers")
    head = body.decode().splitlines()
    assert head[0] == "GET /head HTTP/1.1"
    got = {line.split(":")[0].lower(): line.split(": ", 1)[1] for line in head[1:]}
    assert got["host"] == got["x-forwarded-host"] == visitor.host
    assert (got["x-forwarded-for"], got["x-forwarded-proto"], got["x-own"]) == ("127.0.0.1", "http", "a")
    assert not {"connection", "x-secret", "te"} & got.keys(), got
    assert "x-gone" not in fields and "x-connection" in fields
    _, _, body = visitor.ask("/head", X_Forwarded_For="10.1.2.3", X_Forwarded_Proto="https", X_Forwarded_Host="x.example")
    for wanted in (b"10.1.2.3, 127.0.0.1", b": https", b": x.example"):
        assert wanted in body


def test_no_such_sprite(api: Api) -> None:
    status, _, body = Visitor(api, "no-such-sprite", api.token).ask(accept="text/html")
    assert status == 404 and b"no such sprite" in body
    assert Visitor(api, "Not_A_Name", api.token).ask()[0] == 404


def test_strangers_cannot_tell_which_sprites_exist(api: Api, sprite: str) -> None:
    private, unknown = Visitor(api, sprite).ask(), Visitor(api, "no-such-sprite").ask()
    assert (private[0], private[2]) == (unknown[0], unknown[2]) and private[0] == 401


def test_nothing_listens(api: Api, sprite: str) -> None:
    start = time.monotonic()
    status, _, body = Visitor(api, sprite, api.token).ask(accept="text/html")
    assert status == 502 and b"port 8080" in body and b"<html" in body
    assert time.monotonic() - start < 5
    status, _, body = Visitor(api, sprite, api.token).ask()
    assert status == 502 and b'"bad_gateway"' in body


def test_a_service_that_hangs_up(visitor: Visitor) -> None:
    assert visitor.ask("/drop")[0] == 502
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        visitor.ask("/cut")


def test_connections_are_kept_on_both_sides(visitor: Visitor) -> None:
    numbers = {visitor.ask("/head")[1]["x-connection"] for _ in range(5)}
    assert len(numbers) == 1, "each request made a new connection"


def test_a_kept_connection_that_the_service_closed(visitor: Visitor, api: Api, served: str) -> None:
    assert visitor.ask()[0] == 200
    shell(api, served, "pkill python3; sleep 0.2")
    inside.start(api, served, "http")
    assert visitor.ask()[0] == 200


@pytest.mark.parametrize("path", ["/until-close", "/only-head", "/empty"])
def test_answers_of_every_form_leave_the_connection_usable(visitor: Visitor, path: str) -> None:
    method = "HEAD" if path == "/only-head" else "GET"
    for _ in range(3):
        status, fields, body = visitor.ask(path, method)
        if path == "/until-close":
            assert (status, body) == (200, b"no length")
        elif path == "/only-head":
            assert (status, body, fields["x-here"]) == (200, b"", "1")
        else:
            assert (status, body) == (204, b"")
        assert visitor.ask("/after")[2] == b"hello from /after"


def test_an_old_client(visitor: Visitor) -> None:
    with visitor.raw("GET /until-close HTTP/1.0\r\nHost: HOST\r\nAUTH\r\n\r\n") as one:
        answer = b""
        while data := one.recv(65536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200") and b"chunked" not in head and body == b"no length"


def test_a_whole_url_in_the_request_line(visitor: Visitor) -> None:
    with visitor.raw("GET http://HOST/x?y HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nConnection: close\r\n\r\n") as one:
        assert b"hello from /x?y" in one.makefile("rb").read()


def resident(daemon: Daemon) -> int:
    for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) >> 10
    return 0


def blocks(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield bytes(range(256)) * 4096


@pytest.mark.parametrize("chunked", [False, True])
def test_large_bodies_go_up(daemon: Daemon, visitor: Visitor, chunked: bool) -> None:
    before = resident(daemon)
    digest = hashlib.sha256()
    for block in blocks(200):
        digest.update(block)
    fields = {} if chunked else {"Content_Length": str(200 << 20)}
    status, _, body = visitor.ask("/sum", "POST", blocks(200), **fields)
    assert (status, body.decode()) == (200, f"{200 << 20} {digest.hexdigest()}")
    assert resident(daemon) - before < 64
    assert visitor.ask("/after")[0] == 200


def test_large_bodies_come_down_no_faster_than_they_are_read(daemon: Daemon, visitor: Visitor) -> None:
    before = resident(daemon)
    size = 400 << 20
    with visitor.raw(f"GET /big/{size} HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nConnection: close\r\n\r\n") as one:
        time.sleep(2)
        assert resident(daemon) - before < 64, "the daemon took what its client did not"
        count = 0
        while data := one.recv(1 << 20):
            count += len(data)
    assert count > size


def test_both_bodies_at_once(visitor: Visitor) -> None:
    """Each piece comes back before the next is sent."""
    with visitor.raw("POST /slow-body HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nTransfer-Encoding: chunked\r\n\r\n") as one:
        stream = one.makefile("rb")
        while stream.readline() != b"\r\n":
            pass
        for piece in (b"first", b"second", b"third"):
            one.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            assert stream.readline() == b"%x\r\n" % len(piece)
            assert stream.readline() == piece + b"\r\n"
        one.sendall(b"0\r\n\r\n")
        assert stream.readline() == b"0\r\n"


def test_a_client_that_waits_for_a_go_ahead(visitor: Visitor) -> None:
    request = "POST /sum HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    with visitor.raw(request) as one:
        one.settimeout(5)
        assert one.recv(100).startswith(b"HTTP/1.1 100 ")
        one.sendall(b"hello")
        assert b"5 " + hashlib.sha256(b"hello").hexdigest().encode() in one.recv(4096)


def test_an_answer_before_the_whole_body_was_sent(visitor: Visitor, daemon: Daemon) -> None:
    """The answer arrives, the daemon lives, and the next visitor is served."""
    for _ in range(5):
        request = "POST /early HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nContent-Length: 50000000\r\n\r\n"
        with visitor.raw(request) as one:
            one.sendall(b"x" * 100_000)
            assert one.recv(4096).startswith(b"HTTP/1.1 413")
    assert daemon.runs and visitor.ask()[0] == 200


def test_a_client_that_leaves_in_the_middle_of_its_body(visitor: Visitor, daemon: Daemon) -> None:
    for _ in range(20):
        with visitor.raw("POST /sum HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nContent-Length: 100000\r\n\r\n") as one:
            one.sendall(b"x" * 5000)
    assert visitor.ask()[0] == 200 and daemon.runs


def test_events_come_one_by_one(visitor: Visitor) -> None:
    with visitor.raw("GET /events HTTP/1.1\r\nHost: HOST\r\nAUTH\r\n\r\n") as one:
        times = []
        seen = b""
        while b"data: 2" not in seen:
            data = one.recv(4096)
            if b"data: " in data:
                times.append(time.monotonic())
            seen += data
    assert len(times) == 3 and times[2] - times[0] > 0.4, "they came all at once"


def test_a_reader_of_events_who_leaves_is_noticed(api: Api, served: str, visitor: Visitor) -> None:
    with visitor.raw("GET /silent HTTP/1.1\r\nHost: HOST\r\nAUTH\r\n\r\n") as one:
        while b"hello" not in one.recv(4096):
            pass
    eventually(lambda: shell(api, served, "cat /tmp/silent") == "closed" or None, "the service was told", 15, 0.3)


def test_a_websocket_goes_through(api: Api, served: str, visitor: Visitor) -> None:
    async def scenario() -> None:
        async with connect(
            f"ws://{visitor.host}/socket", host="127.0.0.1", port=visitor.port, proxy=None, max_size=None,
            additional_headers={"Authorization": f"Bearer {api.token}"},
        ) as ws:  # fmt: skip
            assert await asyncio.wait_for(ws.recv(), 10) == "welcome"
            for size in (0, 1, 125, 126, 65535, 65536, 3_000_000):
                await ws.send(b"x" * size)
                assert len(await asyncio.wait_for(ws.recv(), 20)) == size
            await ws.close(4321, "done")
            assert ws.close_code == 4321

    asyncio.run(scenario())
    record = eventually(
        lambda: [one for one in events(api, served, event="url.request") if one["fields"]["path"] == "/socket"], "it is recorded"
    )[-1]
    assert record["fields"]["status"] == 101
    assert record["fields"]["bytes_in"] > 3_131_000 and record["fields"]["bytes_out"] > 3_131_000


@pytest.mark.parametrize(("token", "path", "status"), [("", "/no-socket", 403), ("wrong", "/socket", 401)])
def test_a_websocket_that_is_refused(api: Api, visitor: Visitor, token: str, path: str, status: int) -> None:
    async def scenario() -> None:
        async with connect(
            f"ws://{visitor.host}{path}", host="127.0.0.1", port=visitor.port, proxy=None,
            additional_headers={"Authorization": f"Bearer {token or api.token}"},
        ):  # fmt: skip
            pass

    with pytest.raises(InvalidStatus) as refused:
        asyncio.run(scenario())
    assert refused.value.response.status_code == status
    if path == "/no-socket":
        assert refused.value.response.body == b"not for you"


def test_a_service_on_the_other_loopback(api: Api, sprite: str) -> None:
    inside.start(api, sprite, "http", host="::1")
    assert Visitor(api, sprite, api.token).ask()[2] == b"hello from /"


def test_the_port_of_a_service_is_used_and_waited_for(api: Api, sprite: str) -> None:
    program = ["-c", "import time; time.sleep(1.5)\n" + inside.SERVER, "http", "127.0.0.1", "3000"]
    body = {"cmd": "python3", "args": program, "http_port": 3000}
    api.call("PUT", f"/v1/sprites/{sprite}/services/web", params={"duration": "0s"}, json=body)
    assert Visitor(api, sprite, api.token).ask()[2] == b"hello from /", "the request waits for the service to listen"
    shell(api, sprite, "ss -Htln | grep -q 127.0.0.1:3000")


def test_a_request_wakes_the_sprite(api: Api, new_sprite: object, daemon: Daemon) -> None:
    sprite = new_sprite("wake", config={"freeze_after_seconds": 2})  # type: ignore[operator]
    inside.start(api, sprite, "http")
    eventually(lambda: api.get(sprite)["status"] == "warm" or None, "it sleeps", 15, 0.2)
    assert Visitor(api, sprite, api.token).ask()[0] == 200
    assert api.get(sprite)["status"] == "running"


def test_sprite_url_and_its_update(api: Api, daemon: Daemon, served: str, tmp_path: Path) -> None:
    cli = Cli(daemon, tmp_path)
    assert cli.text("url", "-s", served).strip() == api.get(served)["url"]
    cli("url", "update", "-s", served, "--auth", "public")
    assert Visitor(api, served).ask()[0] == 200
    cli("url", "update", "-s", served, "-a", "sprite")
    assert Visitor(api, served).ask()[0] == 401
    cli("url", "update", "-s", served, "--auth", "everybody", expect=2)


def test_latency_and_throughput_beside_direct_access(api: Api, served: str, visitor: Visitor) -> None:
    """Printed, and held to loose limits: this machine may be busy."""
    address = shell(api, served, "ip -4 -o addr show scope global").split()[3].split("/")[0]
    inside.start(api, served, "http", 8081, address)
    direct = http.client.HTTPConnection(address, 8081, timeout=30)
    direct.connect()
    direct.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask_directly(path: str = "/") -> bytes:
        direct.request("GET", path)
        return direct.getresponse().read()

    def median(ask: object) -> float:
        times = []
        for _ in range(300):
            start = time.perf_counter()
            ask()  # type: ignore[operator]
            times.append(time.perf_counter() - start)
        return sorted(times)[150] * 1000

    def rate(connection: http.client.HTTPConnection, fields: dict[str, str]) -> float:
        size = 1 << 30
        start = time.perf_counter()
        connection.request("GET", f"/big/{size}", headers=fields)
        answer = connection.getresponse()
        buffer = bytearray(1 << 20)
        count = 0
        while taken := answer.readinto(buffer):
            count += taken
        assert count == size
        return size / (time.perf_counter() - start) / 1e6

    without, through = median(ask_directly), median(visitor.ask)
    fast, proxied = rate(direct, {}), rate(visitor.connection, visitor.fields)
    print(f"latency: {without:.2f} ms directly, {through:.2f} ms through the URL; "
          f"rate: {fast:.0f} MB/s directly, {proxied:.0f} MB/s through the URL ({proxied / fast:.0%})")  # fmt: skip
    assert through - without < 5 and proxied / fast > 0.2
