# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Every byte on the right stream, every exit code right, none hangs."""

import asyncio
import os
import random
import time

import pytest

from support.api import Api
from support.exec import run_async

COUNT = int(os.environ.get("SPRITE_STREAM_COUNT", "10000"))
AT_ONCE = 20


@pytest.mark.timeout(1800)
def test_many_commands_are_exact(api: Api, sprite: str, record_property: pytest.FixtureRequest) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    wrong: list[str] = []

    async def one() -> None:
        number, error, code = chance.randrange(10**9), chance.randrange(10**9), chance.randrange(256)
        script = f"echo {number}; echo {error} >&2; exit {code}"
        try:
            result = await run_async(api, sprite, "sh", "-c", script, timeout=30)
        except Exception as failure:  # one that hangs or breaks is counted like one that is wrong
            wrong.append(f"{script}: {type(failure).__name__} {failure}")
            return
        if (result.stdout, result.stderr, result.code) != (f"{number}\n".encode(), f"{error}\n".encode(), code):
            wrong.append(f"{script}: {result}")

    async def worker(jobs: "asyncio.Queue[int]") -> None:
        while not jobs.empty():
            jobs.get_nowait()
            await one()

    async def everything() -> None:
        jobs: asyncio.Queue[int] = asyncio.Queue()
        for job in range(COUNT):
            jobs.put_nowait(job)
        await asyncio.gather(*(worker(jobs) for _ in range(AT_ONCE)))

    began = time.monotonic()
    asyncio.run(everything())
    took = time.monotonic() - began
    print(f"{COUNT} commands, {AT_ONCE} at a time, in {took:.1f} s: {COUNT / took:.0f} a second")
    record_property("commands_per_second", COUNT / took)  # type: ignore[operator]
    assert not wrong, f"{len(wrong)} of {COUNT} wrong (seed {seed}): {wrong[:5]}"
    assert api.sessions(sprite) == []
