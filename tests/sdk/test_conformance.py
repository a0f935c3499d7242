# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The vectors of conformance/vectors, by the driver of each SDK."""

import hashlib
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sdk import vectors
from sdk.driver import Driver
from support.daemon import Daemon

#: A full run uses 10000, 1000, 1000000000 and 300.
BURST = int(os.environ.get("SPRITE_SDK_BURST", "400"))
CROWD = int(os.environ.get("SPRITE_SDK_CROWD", "100"))
LARGE = int(os.environ.get("SPRITE_SDK_LARGE", "50000000"))
QUIET = int(os.environ.get("SPRITE_SDK_QUIET", "2"))


def large_sum() -> str:
    digest, block = hashlib.sha256(), bytes(range(256)) * 256
    for at in range(0, LARGE, len(block)):
        digest.update(block[: min(len(block), LARGE - at)])
    return digest.hexdigest()


@pytest.fixture(scope="session")
def numbers() -> dict[str, Any]:
    """What vectors call `$burst` and so on; numbers where a field is one."""
    return {
        "burst": BURST, "crowd": CROWD, "large": str(LARGE), "large_number": LARGE, "quiet": str(QUIET),
        "large_sum": large_sum(),
    }  # fmt: skip


def act(daemon: Daemon, action: str) -> None:
    """What a vector does with the daemon; "die at" is about its next start, at a moment that FaultPoint names."""
    if action.startswith("die at "):
        daemon.kill()
        daemon.start(environment={"SPRITED_FAULT_POINT": action.removeprefix("die at ")})
    elif action == "pause":
        os.kill(daemon.pid, signal.SIGSTOP)
    elif action == "start":
        # Where it is to die by itself, a client may know before us.
        assert daemon.process is not None
        daemon.process.wait(timeout=10)
        daemon.start()
    else:
        {"kill": daemon.kill, "restart": daemon.restart}[action]()


# A full run is quiet for as long as the others may take.
@pytest.mark.timeout(900)
def test_vector(
    vector: dict[str, Any], driver: Driver, box: str, fresh: str, folder: Path, numbers: dict[str, Any],
    sdk_daemon: Daemon | None, clean: Callable[[], None],
) -> None:  # fmt: skip
    names: dict[str, Any] = {**numbers, "sprite": box, "fresh": fresh, "folder": str(folder)}

    def harness(action: str) -> None:
        if action == "exchange":
            with socket.create_connection(("127.0.0.1", int(names["local_port"])), timeout=10) as connection:
                connection.sendall(b"through")
                received = b""
                while part := connection.recv(100):
                    received += part
                assert received == b"echo:through"
        elif action == "refused":
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", int(names["local_port"])), timeout=10)
        else:
            assert sdk_daemon is not None
            act(sdk_daemon, action)

    for name, content in vector.get("files", {}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o750)
    try:
        vectors.run(vector, driver, names, harness)
    finally:
        if sdk_daemon is not None and not sdk_daemon.runs:
            sdk_daemon.start()
        clean()
    for name, content in vector.get("downloaded", {}).items():
        assert (folder / name).read_text() == content
    if "sockets_at_most" in vector:
        assert driver.sockets() <= vector["sockets_at_most"]
