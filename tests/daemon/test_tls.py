# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The API over TLS, spoken by its own clients, with a certificate that changes while it runs."""

import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from support import programs
from support.daemon import Daemon
from support.fixtures import fresh_name
from support.wait import eventually


def make_certificate(folder: Path, name: str) -> None:
    """A certificate of its own authority for 127.0.0.1, in the files that the daemon was told, one after the other."""
    made = folder / f"{name}.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
         f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:*.sprites.localhost", "-keyout", folder / "new.key", "-out", made],
        check=True, capture_output=True,
    )  # fmt: skip
    (folder / "key.pem").write_bytes((folder / "new.key").read_bytes())
    (folder / "cert.pem").write_bytes(made.read_bytes())


def common_name(daemon: Daemon) -> str:
    host, port = daemon.listen.split(":")
    text = ssl.get_server_certificate((host, int(port)))
    shown = subprocess.run(["openssl", "x509", "-noout", "-subject"], input=text, capture_output=True, text=True, check=True)
    return shown.stdout.strip().split("=")[-1].strip()


@pytest.fixture
def secure(new_daemon: Callable[..., Daemon], tmp_path: Path) -> Daemon:
    make_certificate(tmp_path, "first")
    daemon = new_daemon(started=False)
    daemon.options = ["--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")]
    daemon.authority = str(tmp_path / "first.pem")
    return daemon.start()


def sprite(daemon: Daemon, *arguments: str, authority: Path | None) -> "subprocess.CompletedProcess[str]":
    variables = {"SPRITES_API_URL": daemon.url, "SPRITE_TOKEN": daemon.token, "HOME": "/nonexistent"}
    trust = ["--ca", str(authority)] if authority else []
    return subprocess.run([str(programs.sprite()), arguments[0], *trust, *arguments[1:]], env=variables, capture_output=True, text=True, timeout=60)


def test_clients_speak_tls_and_the_certificate_changes(secure: Daemon, tmp_path: Path) -> None:
    assert secure.url.startswith("https://")
    first = tmp_path / "first.pem"
    context = ssl.create_default_context(cafile=str(first))
    name = fresh_name()
    with httpx.Client(base_url=secure.url, verify=context, headers={"Authorization": f"Bearer {secure.token}"}, trust_env=False) as http:
        assert http.post("/v1/sprites", json={"name": name}).status_code == 201
        assert http.get(f"/v1/sprites/{name}").json()["url"].startswith(f"https://{name}.sprites.localhost:")
        assert http.get("/v1/sprites", headers={"Origin": secure.url}).status_code == 200
    url = secure.url.replace("https://", "wss://") + f"/v1/sprites/{name}/exec?cmd=echo&cmd=hi"
    with connect(url, ssl=context, additional_headers={"Authorization": f"Bearer {secure.token}"}, proxy=None) as socket:
        received = b"".join(message for message in socket if isinstance(message, bytes))
        assert b"hi\n" in received
    # Ours: HTTP and a WebSocket, with the authority by option and by variable, and not without.
    run = sprite(secure, "exec", "-s", name, "--", "echo", "over tls", authority=first)
    assert (run.returncode, run.stdout) == (0, "over tls\n"), run.stderr
    assert name in sprite(secure, "list", authority=first).stdout
    refused = sprite(secure, "list", authority=None)
    assert refused.returncode != 0 and "TLS" in refused.stderr
    # Plain HTTP is not answered.
    with pytest.raises(httpx.TransportError):
        httpx.get(secure.url.replace("https://", "http://") + "/health", timeout=10)

    held = connect(url.replace("echo&cmd=hi", "cat"), ssl=context, additional_headers={"Authorization": f"Bearer {secure.token}"}, proxy=None)
    make_certificate(tmp_path, "second")
    eventually(lambda: common_name(secure) == "second", "new connections get the new certificate", 10)
    held.ping().wait(10)
    # One that cannot be used changes nothing.
    (tmp_path / "key.pem").write_text("nonsense")
    eventually(lambda: "cannot be used, the old one stays" in secure.log.read_text(), "the daemon says so", 10)
    assert common_name(secure) == "second"
    held.close()
    make_certificate(tmp_path, "third")
    eventually(lambda: common_name(secure) == "third", "a good one is taken again", 10)
    secure.authority = str(tmp_path / "third.pem")
