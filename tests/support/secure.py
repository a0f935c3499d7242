# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Hosts with certificates on our own internet: what they are sent is written down, header by header."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from support.internet import Internet


class SecureHosts:
    """Use as a context manager, as root; `authority` is what makes api.test and same.test trusted."""

    def __init__(self, folder: Path, internet: Internet) -> None:
        self.folder = folder
        self.internet = internet
        self.authority = folder / "authority.pem"
        self.log = folder / "requests.jsonl"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "SecureHosts":
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")
        make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        for name, signer, subject, extra in (
            ("authority", None, "test authority", ["-addext", "keyUsage=critical,keyCertSign"]),
            ("trusted", "authority", "trusted", ["-addext", "subjectAltName=DNS:api.test,DNS:same.test"]),
            ("untrusted", None, "untrusted", ["-addext", "subjectAltName=DNS:untrusted.test"]),
        ):
            certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
            signing = ["-CA", str(self.folder / f"{signer}.pem"), "-CAkey", str(self.folder / f"{signer}.key")] if signer else []
            command = [*make, "-keyout", str(key), "-out", str(certificate), "-subj", f"/CN={subject}", *extra, *signing]
            subprocess.run(command, check=True, capture_output=True, timeout=30)
        inside = ["ip", "netns", "exec", self.internet.namespace]
        self.process = subprocess.Popen([*inside, sys.executable, "-m", "support.secure", str(self.folder)], stdout=subprocess.PIPE)
        assert self.process.stdout is not None and self.process.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def requests(self, path: str, wait: float = 0.0) -> list[dict[str, Any]]:
        time.sleep(wait)
        entries = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [entry for entry in entries if entry["path"].partition("?")[0] == path]


# From here on: the servers, in a process of their own.


def serve(folder: Path) -> None:
    import hashlib
    import ssl
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    from support.internet import SECURE, UNTRUSTED

    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def body(self) -> bytes:
            if "chunked" in (self.headers.get("transfer-encoding") or ""):
                whole = b""
                while size := int(self.rfile.readline(), 16):
                    whole += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return whole
            return self.rfile.read(int(self.headers.get("content-length") or 0))

        def note(self) -> None:
            line = json.dumps({"path": self.path, "method": self.command, "headers": [[k.lower(), v] for k, v in self.headers.items()]})
            with lock, (folder / "requests.jsonl").open("a") as file:
                file.write(line + "\n")

        def answer(self, data: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def do_GET(self) -> None:
            self.note()
            path = self.path.partition("?")[0]
            if path == "/upgrade":
                self.send_response(101)
                self.send_header("connection", "Upgrade")
                self.send_header("upgrade", "echo")
                self.end_headers()
                self.wfile.flush()
                while data := self.rfile.readline():
                    self.wfile.write(b"echo " + data)
                    self.wfile.flush()
                self.close_connection = True
            elif path == "/events":
                self.send_response(200)
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                count = int(self.path.partition("?")[2] or 3)
                for number in range(count):
                    event = f"data: {number}\n\n".encode()
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
                    self.wfile.flush()
                    time.sleep(0.1)
                self.wfile.write(b"0\r\n\r\n")
            elif path == "/large":
                self.answer(b"x" * (20 << 20))
            elif path == "/until-close":
                self.send_response(200)
                self.send_header("connection", "close")
                self.end_headers()
                self.wfile.write(b"until the end")
                self.close_connection = True
            else:
                self.answer(b"hello\n")

        do_HEAD = do_GET

        def do_POST(self) -> None:
            self.note()
            data = self.body()
            self.answer(f"{len(data)} {hashlib.sha256(data).hexdigest()}\n".encode())

    for address, name in ((SECURE, "trusted"), (UNTRUSTED, "untrusted")):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
        server = ThreadingHTTPServer((address, 443), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
