# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Fixtures: one daemon for most tests, own daemons for those that kill theirs, a fresh sprite per test."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from support.api import Api, ApiError
from support.base import base_tar
from support.daemon import Daemon
from support.files import Files

#: Set to a directory that stays: data directories and logs are kept there.
KEEP = os.environ.get("SPRITE_TEST_KEEP")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, "pytest.CallInfo[None]", None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        item.stash[_FAILED] = True
        for title, log in item.stash.get(_LOGS, {}).items():
            text = log.read_text(errors="replace") if log.exists() else "(removed)"
            lines = [line for line in text.splitlines() if _NOISE not in line]
            report.sections.append((title, "\n".join(lines[-12:])))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Leaves a line for each test that is tried again, in the file that SPRITE_RERUNS names: test.sh prints them."""
    path = os.environ.get("SPRITE_RERUNS")
    if path and report.outcome == "rerun" and "PYTEST_XDIST_WORKER" not in os.environ:  # type: ignore[comparison-overlap]
        with Path(path).open("a") as file:
            file.write(f"{report.nodeid}\t{str(report.longrepr).splitlines()[-1][:200]}\n")


#: What gets out one time in three gets out: these are never tried again.
_TRIED_ONCE = (
    "test_access.py", "test_bad_frames.py", "test_cli_policy.py", "test_files_hostile.py", "test_isolation.py",
    "test_isolation_paths.py",
    "test_network.py", "test_network_limits.py", "test_policy.py", "test_policy_bypass.py", "test_secrets.py",
    "test_tls.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [name for name in _TRIED_ONCE if not (Path(__file__).parents[1] / "daemon" / name).is_file()]
    # Otherwise the tests of a file that was renamed would be tried again, and nobody would notice.
    if missing:
        raise pytest.UsageError(f"support/fixtures.py: _TRIED_ONCE names files that are not there: {missing}")
    for item in items:
        if item.path.name in _TRIED_ONCE:
            item.add_marker(pytest.mark.flaky(reruns=0))


_NOISE = '"level":"info","message":"request"'
_FAILED = pytest.StashKey[bool]()
_LOGS = pytest.StashKey[dict[str, Path]]()


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A directory for this run; kept if SPRITE_TEST_KEEP names one."""
    if KEEP:
        # One of its own for each process of a run in several.
        path = Path(KEEP) / os.environ.get("PYTEST_XDIST_WORKER", "")
    else:
        path = Path(tempfile.mkdtemp(prefix="sprite-tests-", dir=os.environ.get("SPRITE_TEST_DIR")))
    path.mkdir(parents=True, exist_ok=True)
    yield path
    if not KEEP and not any(path.glob("*.log")):
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def base(scratch: Path) -> Path:
    return base_tar(scratch)


@pytest.fixture(scope="session")
def shared_daemon(scratch: Path, base: Path) -> Iterator[Daemon]:
    """The daemon most tests share."""
    daemon = Daemon(scratch / "shared", scratch / "shared.log")
    daemon.import_base(base)
    daemon.start()
    yield daemon
    daemon.finish()


@pytest.fixture
def daemon(shared_daemon: Daemon, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """The shared daemon, alive: a test that finds it dead must not pass the blame on to the next."""
    request.node.stash.setdefault(_LOGS, {})["sprited"] = shared_daemon.log
    if not shared_daemon.runs:
        shared_daemon.start()
    yield shared_daemon
    assert shared_daemon.runs, f"sprited died during the test:\n{shared_daemon.tail()}"


@pytest.fixture
def api(daemon: Daemon) -> Iterator[Api]:
    client = daemon.api()
    yield client
    client.close()


@pytest.fixture
def new_daemon(scratch: Path, base: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Daemon]]:
    """Makes daemons for one test, started unless told otherwise; they are removed afterwards, newest first."""
    made: list[Daemon] = []

    def make(*options: str, started: bool = True, with_base: bool = True) -> Daemon:
        name = f"{request.node.name[:40].replace('/', '-')}-{uuid.uuid4().hex[:6]}"
        one = Daemon(scratch / name, scratch / f"{name}.log", list(options))
        made.append(one)
        request.node.stash.setdefault(_LOGS, {})[f"sprited {len(made)}"] = one.log
        if options:
            # What makes the pool decides its size, and only the daemon is told it.
            one.start().import_base(base)
            return one
        if with_base:
            one.import_base(base)
        return one.start() if started else one

    yield make
    failures: list[Exception] = []
    for one in reversed(made):
        try:
            one.remove()
        except Exception as failure:  # the others must go all the same
            one.abandon()
            failures.append(failure)
        if not request.node.stash.get(_FAILED, False) and not failures and not KEEP:
            one.log.unlink()
    assert not failures, failures


def fresh_name(prefix: str = "t") -> str:
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def new_sprite(api: Api) -> Iterator[Callable[..., str]]:
    """Makes sprites for one test and returns their names."""
    names: list[str] = []

    def make(prefix: str = "t", **fields: object) -> str:
        names.append(fresh_name(prefix))
        api.create(names[-1], **fields)
        return names[-1]

    yield make
    for name in names:
        try:
            api.destroy(name)
        except ApiError as error:
            if error.status != 404:
                raise


@pytest.fixture
def sprite(new_sprite: Callable[..., str]) -> str:
    """The name of a fresh sprite."""
    return new_sprite()


@pytest.fixture
def files(api: Api, sprite: str) -> Files:
    """The files of the fresh sprite."""
    return Files(api, sprite)
