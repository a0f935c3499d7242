# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Waiting for a condition with a deadline, instead of sleeping for luck."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

#: How often longer than on a quiet machine things may take; only a failure waits for so long.
PATIENCE = 3


def eventually(
    condition: Callable[[], Value], what: str, timeout: float = 10.0, interval: float = 0.02
) -> Value:
    """The first true value of `condition`; fails with `what` and the last value when time is up."""
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what} (last value: {value!r})")
        time.sleep(interval)
