# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""The client libraries, installed from their artefacts, against a server: ours, or the one SPRITES_API_URL names."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sdk import languages, vectors
from sdk.driver import Driver, DriverError
from support.daemon import Daemon
from support.relays import NAME

OWN_DAEMON = "SPRITES_API_URL" not in os.environ


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    own = [marker.args[0] for marker in metafunc.definition.iter_markers("parametrize")]
    names = metafunc.fixturenames
    if "vector" in names:
        found = [one for one in vectors.load() if OWN_DAEMON or "needs" not in one]
        pairs = [
            pytest.param(language, one, id=f"{language}-{one['id']}")
            for language in languages.chosen()
            for one in found
        ]
        metafunc.parametrize(("language", "vector"), pairs, scope="session")
    elif "language" in names and "language" not in own:
        metafunc.parametrize("language", languages.chosen(), scope="session")


@pytest.fixture(scope="session")
def sdk_daemon(request: pytest.FixtureRequest) -> Daemon | None:
    if not OWN_DAEMON:
        return None
    daemon: Daemon = request.getfixturevalue("shared_daemon")
    # By this name it is asked for through a proxy.
    daemon.options += ["--allowed-host", NAME, "--credential-broker"]
    daemon.terminate()
    return daemon.start()


@pytest.fixture(scope="session")
def server(sdk_daemon: Daemon | None) -> dict[str, str]:
    """The environment of programs that use the server."""
    if sdk_daemon is None:
        return {"SPRITES_API_URL": os.environ["SPRITES_API_URL"], "SPRITE_TOKEN": os.environ["SPRITE_TOKEN"]}
    return {"SPRITES_API_URL": sdk_daemon.url, "SPRITE_TOKEN": sdk_daemon.token}


@pytest.fixture(scope="session")
def installed(language: str, tmp_path_factory: pytest.TempPathFactory) -> languages.Installed:
    """The SDK of a language, built to its artefact and installed from it into an empty environment."""
    return languages.install(language, tmp_path_factory.mktemp(language))


@pytest.fixture(scope="session")
def driver(
    installed: languages.Installed, server: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Driver]:
    log = tmp_path_factory.mktemp("driver") / "log"
    one = Driver(installed.driver, server, log)
    yield one
    one.end()
    written = log.read_text(errors="replace")
    assert one.process.returncode == 0, f"the driver ended with {one.process.returncode}: {written[-2000:]}"


@pytest.fixture(scope="session")
def box(driver: Driver) -> Iterator[str]:
    """The sprite that most vectors of a driver share."""
    name = f"sdk-{uuid.uuid4().hex[:10]}"
    driver.call("create", name=name)
    yield name
    driver.call("destroy", sprite=name)


@pytest.fixture
def fresh(driver: Driver) -> Iterator[str]:
    """A name for sprites that a vector makes; what it leaves is removed."""
    name = f"sdk-{uuid.uuid4().hex[:10]}"
    yield name
    for left in driver.call("list", prefix=name)["names"]:
        driver.call("destroy", sprite=left)


@pytest.fixture
def clean(driver: Driver, box: str) -> Callable[[], None]:
    """Ends the commands that a failed vector may have left in the shared sprite."""

    def end() -> None:
        for session in driver.call("sessions", sprite=box)["ids"]:
            try:
                driver.call("kill", sprite=box, session_id=session, signal="KILL")
            except DriverError:
                pass

    return end


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
