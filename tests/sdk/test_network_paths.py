# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Through TLS, through an HTTP proxy, and through both: everything a library does goes the same way."""

import base64
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sdk import languages
from sdk.driver import Driver, DriverError
from support.daemon import Daemon
from support.relays import NAME, Cut, Proxy, SlowWay, TLSEnd

Started = Callable[..., Driver]


@pytest.fixture
def started(installed: languages.Installed, sdk_daemon: Daemon | None, tmp_path: Path) -> Iterator[Started]:
    """Drivers that find the server at an address of their own."""
    assert sdk_daemon is not None
    made: list[Driver] = []

    def start(url: str, **environment: str) -> Driver:
        # Nothing of the environment of the tests decides the way.
        blank = dict.fromkeys(["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "NO_PROXY", "no_proxy"], "")
        settings = {**blank, "SPRITES_API_URL": url, "SPRITE_TOKEN": sdk_daemon.token, **environment}
        made.append(Driver(installed.driver, settings, tmp_path / "log"))
        return made[-1]

    yield start
    for one in made:
        one.end()


@pytest.fixture
def secure(sdk_daemon: Daemon | None, tmp_path: Path) -> Iterator[TLSEnd]:
    assert sdk_daemon is not None
    one = TLSEnd(tmp_path, port_of(sdk_daemon))
    yield one
    one.close()


@pytest.fixture
def proxy(sdk_daemon: Daemon | None, secure: TLSEnd) -> Iterator[Proxy]:
    assert sdk_daemon is not None
    one = Proxy({80: port_of(sdk_daemon), 443: secure.port}.__getitem__)
    yield one
    one.close()


def port_of(daemon: Daemon) -> int:
    return int(daemon.url.rsplit(":", 1)[1])


def trusting(pem: Path) -> dict[str, str]:
    return {"SSL_CERT_FILE": str(pem), "NODE_EXTRA_CA_CERTS": str(pem)}


def use_everything(driver: Driver) -> None:
    name = f"sdk-{uuid.uuid4().hex[:10]}"
    driver.call("create", name=name)
    try:
        hello = base64.b64encode(b"hello").decode()
        done = driver.call("run", sprite=name, command="cat; echo err >&2; exit 3", input=hello)
        assert (done["exit_code"], done["stdout"], done["stderr"]) == (3, hello, base64.b64encode(b"err\n").decode())
        assert driver.call("stream", sprite=name, command="head -c 3000000 /dev/zero")["stdout_bytes"] == 3_000_000
        terminal = {"rows": 24, "cols": 80}
        process = driver.call("start", sprite=name, command="read x; echo got $x", tty=terminal)["process"]
        driver.call("write", process=process, data=base64.b64encode(b"y\n").decode())
        assert driver.call("wait", process=process)["exit_code"] == 0
        driver.call("files.write", sprite=name, path="f", data=base64.b64encode(bytes(200_000)).decode())
        assert len(base64.b64decode(driver.call("files.read", sprite=name, path="f")["data"])) == 200_000
        assert driver.call("checkpoints.create", sprite=name)["id"] == "v1"
        assert driver.call("burst", sprite=name, count=40, at_once=8)["wrong"] == []
        with pytest.raises(DriverError) as refused:
            driver.call("get", sprite=f"{name}-none")
        assert refused.value.fields["code"] == "not_found"
    finally:
        driver.call("destroy", sprite=name)


@pytest.mark.parametrize("language", languages.chosen(), scope="session")
class TestPaths:
    def test_through_tls(self, language: str, started: Started, secure: TLSEnd) -> None:
        use_everything(started(f"https://localhost:{secure.port}", **trusting(secure.pem)))

    def test_a_certificate_nobody_vouches_for_is_refused(
        self, language: str, started: Started, secure: TLSEnd
    ) -> None:
        driver = started(f"https://localhost:{secure.port}")
        for verb, fields in (("get", {}), ("run", {"command": "true"})):
            with pytest.raises(DriverError) as refused:
                driver.call(verb, sprite="none", **fields)
            assert refused.value.fields["code"] == "cannot_connect", refused.value.fields

    def test_over_a_slow_network(self, language: str, started: Started, sdk_daemon: Daemon | None) -> None:
        assert sdk_daemon is not None
        way = SlowWay(port_of(sdk_daemon))
        try:
            use_everything(started(f"http://127.0.0.1:{way.port}"))
        finally:
            way.close()


    def test_a_cut_connection_is_resumed(
        self, language: str, started: Started, sdk_daemon: Daemon | None, box: str
    ) -> None:
        assert sdk_daemon is not None
        way = Cut(port_of(sdk_daemon))
        try:
            driver = started(f"http://127.0.0.1:{way.port}")
            numbers = "for i in $(seq 100); do echo out $i; echo err $i >&2; sleep 0.03; done; exit 7"
            begun = driver.begin("run", sprite=box, command=numbers)
            typed = driver.call("start", sprite=box, command="cat; sleep 100")["process"]
            driver.call("write", process=typed, data=base64.b64encode(b"x").decode())
            left = driver.call("start", sprite=box, command=f"sleep 1; {numbers}", detachable=True)
            driver.call("detach", process=left["process"])
            attached = driver.call("attach", sprite=box, session_id=left["session_id"])["process"]
            for _ in range(3):
                time.sleep(0.6)
                way.cut()
            done = begun.result(30)
            for stream, word in (("stdout", "out"), ("stderr", "err")):
                wanted = "".join(f"{word} {number}\n" for number in range(1, 101))
                assert base64.b64decode(done[stream]).decode() == wanted
                read = driver.call("read", process=attached, stream=stream)
                assert base64.b64decode(read["data"]).decode() == wanted
            assert done["exit_code"] == 7
            assert driver.call("wait", process=attached)["exit_code"] == 7
            # What was written may not have arrived.
            with pytest.raises(DriverError) as lost:
                driver.call("wait", process=typed)
            assert lost.value.fields["code"] == "connection_lost"
        finally:
            way.close()


@pytest.mark.parametrize("language", languages.chosen(), scope="session")
class TestProxies:
    def test_through_a_proxy(self, language: str, started: Started, proxy: Proxy) -> None:
        way = f"http://127.0.0.1:{proxy.port}"
        use_everything(started(f"http://{NAME}:80", HTTP_PROXY=way, http_proxy=way))
        assert proxy.asked

    def test_through_a_proxy_and_tls(self, language: str, started: Started, proxy: Proxy, secure: TLSEnd) -> None:
        way = f"http://127.0.0.1:{proxy.port}"
        use_everything(started(f"https://{NAME}:443", HTTPS_PROXY=way, https_proxy=way, **trusting(secure.pem)))
        assert proxy.asked and {line.split(" ")[0] for line in proxy.asked} == {"CONNECT"}
