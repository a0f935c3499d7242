# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Reads the vectors of conformance/vectors and runs one with a driver."""

import base64
import re
import time
from pathlib import Path
from typing import Any, Callable

import yaml
from sdk.driver import Driver, DriverError

FOLDER = Path(__file__).resolve().parents[2] / "conformance" / "vectors"
#: Fields that are bytes: text in vectors, base64 between suite and driver.
BYTES = {"stdout", "stderr", "data", "input", "until"}
Harness = Callable[[str], None]


def load() -> list[dict[str, Any]]:
    found = []
    for path in sorted(FOLDER.glob("*.yaml")):
        for vector in yaml.safe_load(path.read_text()):
            vector["id"] = f"{path.stem}: {vector['name']}"
            found.append(vector)
    return found


def run(vector: dict[str, Any], driver: Driver, names: dict[str, str], harness: Harness) -> None:
    """Runs the steps; `names` has what `$name` stands for."""
    begun: dict[str, Any] = {}
    for number, step in enumerate(vector["steps"], 1):
        where = f"step {number} of '{vector['name']}'"
        if "harness" in step:
            harness(step["harness"])
            continue
        if "sleep" in step:
            time.sleep(step["sleep"])
            continue
        if "join" in step:
            _judge(step, begun.pop(step["join"]), names, where)
            continue
        fields = {key: _send(key, value, names) for key, value in step.items() if key not in RUNNER_KEYS}
        if "sprite" not in fields and "sprite" in names:
            fields["sprite"] = names["sprite"]
        call = driver.begin(step["do"], **fields)
        if "begin" in step:
            begun[step["begin"]] = call
            continue
        _judge(step, call, names, where)


RUNNER_KEYS = {"do", "expect", "error", "save", "within", "begin", "join", "at_least"}


def _judge(step: dict[str, Any], call: Any, names: dict[str, str], where: str) -> None:
    started = time.monotonic()
    try:
        answer = call.result(step.get("within", 60))
    except DriverError as failure:
        assert "error" in step, f"{where} failed: {failure}"
        _match(_filled(step["error"], names), failure.fields, where)
        return
    assert "error" not in step, f"{where} should have failed with {step['error']}, but gave {answer}"
    _match(_filled(step.get("expect", {}), names), answer, where)
    waited = time.monotonic() - started
    assert waited >= step.get("at_least", 0), f"{where} took {waited:.1f} s, less than {step['at_least']} s"
    for name, key in step.get("save", {}).items():
        names[name] = answer[key]


def _filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        if value.startswith("$") and value[1:] in names:
            return names[value[1:]]  # Numbers stay numbers.
        return re.sub(r"\$([a-z_]+)", lambda match: str(names.get(match[1], match[0])), value)
    if isinstance(value, list):
        return [_filled(item, names) for item in value]
    if isinstance(value, dict):
        return {key: _filled(item, names) for key, item in value.items()}
    return value


def _send(key: str, value: Any, names: dict[str, str]) -> Any:
    # Commands are shell text: what looks like a name of ours there is the shell's.
    filled = value if key == "command" else _filled(value, names)
    return base64.b64encode(_bytes(filled)).decode() if key in BYTES else filled


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, dict):
        return bytes.fromhex(value["hex"])
    return str(value).encode()


def _match(wanted: Any, got: Any, where: str, key: str = "") -> None:
    """Equal, where `~` begins a regular expression, and objects may have more than is wanted."""
    if key in BYTES and isinstance(got, str):
        got = base64.b64decode(got)
        if isinstance(wanted, str) and wanted.startswith("~"):
            got = got.decode("utf-8", "replace")
        else:
            wanted = _bytes(wanted)
    if isinstance(wanted, dict):
        assert isinstance(got, dict), f"{where}: {key} is {got!r}, wanted {wanted!r}"
        for name, value in wanted.items():
            if value == "absent":
                assert got.get(name) is None, f"{where}: {name} is {got.get(name)!r}, and should not be there"
                continue
            assert name in got, f"{where}: there is no '{name}' in {got!r}"
            _match(value, got[name], where, name)
    elif isinstance(wanted, list) and isinstance(got, list):
        assert len(wanted) == len(got), f"{where}: {key} is {got!r}, wanted {wanted!r}"
        for one, other in zip(wanted, got):
            _match(one, other, where, key if key in BYTES else "")
    elif isinstance(wanted, str) and wanted.startswith("~"):
        assert re.search(wanted[1:], str(got), re.S), (
            f"{where}: {key} is {got!r}, which does not match {wanted[1:]!r}"
        )
    else:
        shown = (got[:300], wanted[:300]) if isinstance(got, bytes) and isinstance(wanted, bytes) else (got, wanted)
        assert got == wanted, f"{where}: {key} is {shown[0]!r}, wanted {shown[1]!r}"
