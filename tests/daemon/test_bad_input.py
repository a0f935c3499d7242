# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Bad input: each kind has its documented status, code and sentence, and leaves nothing behind."""

import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx
import pytest

from support.api import Api, Json
from support.daemon import Daemon
from support.exec import run, shell
from support.fixtures import fresh_name
from support.host import resident_kib

TOO_LARGE = 1 << 21


@pytest.fixture(autouse=True)
def nothing_is_left(api: Api) -> object:
    """After each test the daemon answers, and has no sprite it did not have before."""
    before = {one["name"] for one in api.all_sprites()}
    yield
    assert {one["name"] for one in api.all_sprites()} - before <= set()
    assert api.call("GET", "/health")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"name": "half', []), (b"", []), (b"\xff\xfe\x00", []), (b"[]", []), (b'"text"', []), (b"null", []),
        (b"{}", ["name"]), (b'{"name": 5}', ["name"]), (b'{"name": null}', ["name"]), (b'{"name": ["a"]}', ["name"]),
        (b"[" * 100_000, []), (b'{"name":"x","config":[]}', ["config"]), (b'{"name":"x","labels":"a"}', ["labels"]),
        (b'{"name":"x","labels":[1]}', ["labels"]), (b'{"name":"x","environment":{"A":1}}', ["environment"]),
        (b'{"name":"x","environment":{"A=B":"1"}}', ["environment"]), (b'{"name":"x","environment":{"":"1"}}', []),
        (b'{"name":"x","url_settings":{"auth":"nobody"}}', ["auth"]), (b'{"name":"x","base":"no-such-base"}', ["no-such-base"]),
        (b'{"name":"x","base":"../../etc"}', []),
    ],
)  # fmt: skip
def test_a_bad_body_is_refused_with_a_sentence(api: Api, body: bytes, words: list[str]) -> None:
    answer = api.call("POST", "/v1/sprites", (400, 404), content=body, headers={"Content-Type": "application/json"})
    refusal = answer.json()
    assert refusal["error"] in ("invalid_request", "not_found")
    assert len(refusal["message"]) > 10
    for word in words:
        assert word in refusal["message"]


def test_labels_and_environment_have_limits(api: Api) -> None:
    for fields in (
        {"labels": ["x"] * 65}, {"labels": ["x" * 257]}, {"environment": {f"V{n}": "" for n in range(1025)}},
        {"environment": {"A": "x" * (257 << 10)}},
    ):  # fmt: skip
        refusal = api.call("POST", "/v1/sprites", 400, json={"name": "x", **fields}).json()
        assert refusal["error"] == "invalid_request" and refusal["message"]


def test_a_comment_has_a_limit(api: Api, sprite: str) -> None:
    api.call("POST", f"/v1/sprites/{sprite}/checkpoint", 400, json={"comment": "x" * 4097})
    assert [entry["id"] for entry in api.checkpoints(sprite)] == ["v0"]


def test_a_large_body_is_refused(api: Api) -> None:
    body = b'{"name":"x","environment":{"A":"' + b"a" * TOO_LARGE + b'"}}'
    answer = api.call("POST", "/v1/sprites", 413, content=body)
    assert answer.json()["error"] == "too_large"


class Raw:
    """A TCP connection to the daemon."""

    def __init__(self, api: Api) -> None:
        place = urlsplit(api.url)
        self.socket = socket.create_connection((place.hostname, place.port), timeout=10)
        self.token = api.token

    def head(self, method: str, path: str, *lines: str) -> bytes:
        fields = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {self.token}", *lines]
        return ("\r\n".join(fields) + "\r\n\r\n").encode()

    def answer(self) -> bytes:
        data = b""
        try:
            while b"\r\n\r\n" not in data:
                chunk = self.socket.recv(65536)
                if not chunk:
                    break
                data += chunk
        except ConnectionError:
            pass
        return data


def test_ten_gigabytes_that_are_announced_are_refused_unread(api: Api) -> None:
    raw = Raw(api)
    raw.socket.sendall(raw.head("POST", "/v1/sprites", f"Content-Length: {10 << 30}"))
    raw.socket.sendall(b"x" * 1000)
    assert raw.answer().startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", ["/v1/sprites", "/v1/sprites/{sprite}/checkpoint", "/v1/sprites/{sprite}/fork"])
def test_a_client_that_goes_on_sending_is_cut_off(daemon: Daemon, api: Api, sprite: str, path: str) -> None:
    raw = Raw(api)
    target = path.format(sprite=sprite)
    raw.socket.sendall(raw.head("POST", target, "Transfer-Encoding: chunked"))
    before = resident_kib(daemon.pid)
    end = time.monotonic() + 15
    cut = False
    while not cut and time.monotonic() < end:
        try:
            raw.socket.sendall(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
        except (ConnectionError, TimeoutError):
            cut = True
    assert cut, "the daemon still reads after 15 s"
    assert resident_kib(daemon.pid) - before < 100 << 10


def test_a_body_that_never_comes_holds_nobody_up(api: Api) -> None:
    raw = Raw(api)
    raw.socket.sendall(raw.head("POST", "/v1/sprites", "Content-Length: 100") + b'{"name"')
    assert api.call("GET", "/v1/sprites")


def test_expect_continue_is_answered(api: Api) -> None:
    raw = Raw(api)
    raw.socket.sendall(raw.head("POST", "/v1/sprites", "Content-Length: 2", "Expect: 100-continue"))
    assert raw.answer().startswith(b"HTTP/1.1 100 ")
    raw.socket.sendall(b"{}")
    assert b"HTTP/1.1 400 " in raw.answer()


@pytest.mark.parametrize(
    "garbage",
    [b"\x00" * 4096, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
     b"POST /v1/sprites HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
     b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
)  # fmt: skip
def test_what_is_not_http_harms_nobody(api: Api, garbage: bytes) -> None:
    raw = Raw(api)
    raw.socket.sendall(garbage)
    raw.socket.shutdown(socket.SHUT_WR)
    answer = raw.answer()
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer


@pytest.mark.parametrize("token", [None, "wrong", "Bearer", "a/b/c/d", "x" * 10_000])
def test_a_wrong_token_is_unauthorized(daemon: Daemon, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=daemon.url, headers=headers, trust_env=False) as http:
        for method, path in [("GET", "/v1/sprites"), ("POST", "/v1/sprites"), ("GET", "/v1/sprites/x/exec?cmd=true")]:
            answer = http.request(method, path)
            assert answer.status_code == 401
            assert answer.json()["error"] == "unauthorized" and answer.json()["message"]


def test_basic_authentication_with_the_user_bearer_works(daemon: Daemon) -> None:
    with httpx.Client(base_url=daemon.url, auth=("bearer", daemon.token), trust_env=False) as http:
        assert http.get("/v1/sprites").status_code == 200
    with httpx.Client(base_url=daemon.url, auth=("root", daemon.token), trust_env=False) as http:
        assert http.get("/v1/sprites").status_code == 401


def test_the_token_is_in_no_log(daemon: Daemon) -> None:
    assert daemon.token not in daemon.log.read_text(errors="replace")


def test_a_wrong_method_names_the_right_ones(api: Api) -> None:
    answer = api.call("PATCH", "/v1/sprites", 405)
    assert {"GET", "POST"} <= {word.strip() for word in answer.headers["allow"].split(",")}


def test_an_unknown_path_is_not_found(api: Api) -> None:
    for path in ("/", "/v1", "/v2/sprites", "/v1/sprite", "/v1/sprites/x/y/z", "/v1/sprites/%2e%2e%2f", "//v1/sprites"):
        assert api.call("GET", path, (400, 404)).json()["error"] in ("not_found", "invalid_request")


@pytest.mark.parametrize(
    "query",
    ["", "id=", "cmd=true&rows=x&tty=true", "cmd=true&tty=true&rows=0", "cmd=true&tty=true&rows=70000",
     "cmd=true&max_run_after_disconnect=soon", "cmd=true&env=novalue", "cmd=%ff", "cmd=a%00b", "cmd=true&dir=a%00b"],
)  # fmt: skip
def test_a_query_that_makes_no_sense_is_refused_or_ends_as_a_failure(api: Api, sprite: str, query: str) -> None:
    answer = api.http.post(f"/v1/sprites/{sprite}/exec?{query}")
    if answer.status_code == 200:
        assert answer.content[-2] == 3, "a refusal or an exit frame"
    else:
        refusal: Json = answer.json()
        assert (answer.status_code, refusal["error"]) in ((400, "invalid_request"), (404, "not_found"))


def test_a_megabyte_of_arguments_arrives(api: Api, sprite: str) -> None:
    arguments = ["x" * 1000 for _ in range(1000)]
    assert run(api, sprite, "sh", "-c", 'echo $# "${#1}"', "sh", *arguments).text == "1000 1000\n"
    ones = "y%" * 65_000
    assert run(api, sprite, "sh", "-c", 'printf %s "$1" | wc -c', "sh", ones).text == "130000\n"


def test_an_argument_the_kernel_does_not_take_is_a_clear_failure(api: Api, sprite: str) -> None:
    result = run(api, sprite, "true", "x" * 1_000_000)
    assert result.code == 126 and b"too long" in result.stderr.lower()


def test_ten_thousand_variables_arrive(api: Api, sprite: str) -> None:
    env = {f"VARIABLE_{number}": str(number) for number in range(10_000)}
    assert shell(api, sprite, "env | grep -c ^VARIABLE_; echo $VARIABLE_9999", env=env) == "10000\n9999\n"


def test_too_many_arguments_are_refused(api: Api, sprite: str) -> None:
    raw = Raw(api)
    raw.socket.sendall(raw.head("POST", f"/v1/sprites/{sprite}/exec?cmd=true" + "&cmd=a" * 100_001, "Content-Length: 0"))
    assert raw.answer().split(b" ")[1] in (b"400", b"413", b"414", b"431")


def test_arguments_without_end_are_cut_off(api: Api, sprite: str) -> None:
    raw = Raw(api)
    try:
        raw.socket.sendall(f"GET /v1/sprites/{sprite}/exec?cmd=".encode())
        for _ in range(64):
            raw.socket.sendall(b"a" * (1 << 20))
        answer = raw.answer()
        assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), answer[:100]
    except ConnectionError:
        pass


@pytest.mark.parametrize("path", ["exec?cmd=true", "checkpoint", "checkpoints/v0/restore"])
def test_a_client_that_hangs_up_at_once_leaves_nothing(
    api: Api, new_sprite: Callable[..., str], path: str
) -> None:
    name = new_sprite()
    for _ in range(20):
        raw = Raw(api)
        raw.socket.sendall(raw.head("POST", f"/v1/sprites/{name}/{path}", "Content-Length: 0"))
        raw.socket.close()
    assert shell(api, name, "echo fine") == "fine\n"
    assert fresh_name() != fresh_name()


def test_a_client_that_leaves_is_no_error_of_the_daemon(daemon: Daemon, api: Api, sprite: str) -> None:
    faults = [line for line in daemon.log.read_text().splitlines() if '"level":"error"' in line]
    for target in ("/v1/sprites", f"/v1/sprites/{sprite}/checkpoint", f"/v1/sprites/{sprite}/fs/write?path=/tmp/x"):
        for body in (b"Content-Length: 100\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{", b"X-Half: he"):
            raw = Raw(api)
            method = "PUT" if "fs" in target else "POST"
            raw.socket.sendall(raw.head(method, target).removesuffix(b"\r\n") + body)
            raw.socket.close()
    for _ in range(5):
        raw = Raw(api)
        raw.socket.sendall(raw.head("GET", f"/v1/sprites/{sprite}/fs/archive?path=/etc"))
        raw.socket.close()
    assert shell(api, sprite, "echo fine") == "fine\n"
    time.sleep(0.3)
    assert [line for line in daemon.log.read_text().splitlines() if '"level":"error"' in line] == faults


def test_more_arguments_than_the_kernel_takes_are_a_clear_failure(api: Api, sprite: str) -> None:
    # 3 MiB: within our limit, and beyond that of most kernels.
    result = run(api, sprite, "true", *["x" * 1024] * 3072)
    assert result.code == 0 or (result.code == 126 and b"too long" in result.stderr.lower()), result
    # Beyond ours nothing is started.
    raw = Raw(api)
    raw.socket.sendall(raw.head("POST", f"/v1/sprites/{sprite}/exec?cmd=true" + ("&cmd=" + "x" * 1024) * 4200, "Content-Length: 0"))
    assert raw.answer().startswith(b"HTTP/1.1 400 ")
