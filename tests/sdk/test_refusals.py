# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""A wrong token, too many requests, and a caller who gives up. (Python and Node.js: test_python.py, test_node.py.)"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sdk import languages
from sdk.driver import Driver, DriverError
from support.daemon import Daemon


@pytest.fixture
def started(installed: languages.Installed, tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    made: list[Driver] = []

    def start(daemon: Daemon, token: str) -> Driver:
        settings = {"SPRITES_API_URL": daemon.url, "SPRITE_TOKEN": token}
        made.append(Driver(installed.driver, settings, tmp_path / "log"))
        return made[-1]

    yield start
    for one in made:
        one.end()


def refused(driver: Driver, verb: str, **fields: Any) -> dict[str, Any]:
    with pytest.raises(DriverError) as error:
        driver.call(verb, **fields)
    return error.value.fields


@pytest.mark.parametrize("language", languages.chosen(), scope="session")
class TestRefusals:
    def test_a_wrong_token(self, language: str, started: Callable[..., Driver], sdk_daemon: Daemon | None) -> None:
        assert sdk_daemon is not None
        driver = started(sdk_daemon, "wrong")
        for verb, fields in (("get", {}), ("run", {"command": "true"}), ("files.read", {"path": "f"})):
            error = refused(driver, verb, sprite="none", **fields)
            assert (error["code"], error["status"]) == ("unauthorized", 401), (verb, error)
            assert "token" in error["remedy"].lower()

    def test_too_many_requests(
        self, language: str, started: Callable[..., Driver], new_daemon: Callable[..., Daemon]
    ) -> None:
        daemon = new_daemon("--rate-limit", "5/s", with_base=False)
        driver = started(daemon, daemon.token)
        calls = [driver.begin("get", sprite="none") for _ in range(60)]
        errors = []
        for call in calls:
            with pytest.raises(DriverError) as error:
                call.result()
            errors.append(error.value.fields)
        assert {error["code"] for error in errors} == {"not_found", "rate_limited"}
        limited = next(error for error in errors if error["code"] == "rate_limited")
        # It is told when to come again, and nothing was sent again meanwhile.
        assert limited["status"] == 429 and 1 <= limited["retry_after"] <= 60 and limited["remedy"]
        # Whoever takes the daemon away asks it for its sprites.
        time.sleep(1.1)


@pytest.mark.parametrize("language", [one for one in languages.chosen() if one in ("go", "swift")], scope="session")
class TestCancelling:
    def test_it_ends_the_command(self, language: str, driver: Driver, box: str) -> None:
        assert driver.call("cancel", sprite=box, command="sleep 77")["canceled"]
        gone = time.monotonic()
        while driver.call("sessions", sprite=box)["ids"]:
            # A connection that only breaks ends its command after ten seconds.
            assert time.monotonic() - gone < 8, "the command went on"
            time.sleep(0.05)
