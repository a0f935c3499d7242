# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""A checkpoint holds a state that existed at one instant."""

import asyncio
import os
from pathlib import Path

from support.api import Api
from support.exec import open_exec, run, shell
from support.wait import eventually

ROUNDS = int(os.environ.get("SPRITE_CONSISTENCY_ROUNDS", "30"))

# Each line is appended to A first and to B then: in no state that ever existed is B ahead of A, or two behind. The
# second pair is renamed into place: c is always replaced before d. Several writers make states of all kinds likely.
WRITER = r"""
import os, sys
home = "/home/sprite/w" + sys.argv[1]
os.makedirs(home, exist_ok=True)
a = os.open(home + "/A", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
b = os.open(home + "/B", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
n = 0
while True:
    n += 1
    line = b"%d\n" % n
    os.write(a, line)
    os.write(b, line)
    for name in ("c", "d"):
        with open(home + "/new", "wb") as file:
            file.write(line)
        os.rename(home + "/new", home + "/" + name)
    if n == 1:
        print("ready", flush=True)
"""

CHECKER = r"""
import os, sys
root = sys.argv[1]
for writer in sys.argv[2:]:
    home = root + "/home/sprite/w" + writer
    read = lambda name: open(home + "/" + name, "rb").read()
    a, b, c, d = read("A"), read("B"), int(read("c") or -1), int(read("d") or -1)
    assert a.startswith(b), "B is not a beginning of A"
    lines = a.splitlines()
    assert lines == [b"%d" % n for n in range(1, len(lines) + 1)], "A has gaps"
    counts = len(lines), len(b.splitlines())
    assert counts[1] <= counts[0] <= counts[1] + 1, ("appended", counts)
    assert d <= c <= d + 1, ("renamed", c, d)
    assert counts[1] - 1 <= d <= c <= counts[1] <= counts[0], ("between the pairs", counts, c, d)
    print(counts[0])
"""


def test_a_checkpoint_under_load_is_one_instant(api: Api, sprite: str) -> None:
    writers = ["0", "1", "2"]

    async def load() -> None:
        sessions = [open_exec(api, sprite, "python3", "-c", WRITER, writer) for writer in writers]
        for session in sessions:
            await session.__aenter__()
            await session.read_until(b"ready")
        for _ in range(ROUNDS):
            await asyncio.to_thread(api.checkpoint, sprite)
            await asyncio.to_thread(check_newest)
        for session in sessions:
            await asyncio.to_thread(api.kill, sprite, session.id, "KILL")
            await session.__aexit__(None, None, None)

    def check_newest() -> None:
        newest = api.checkpoints(sprite)[0]["id"]
        # It is shown inside a moment after it was made.
        shown = ("test", "-d", f"/.sprite/checkpoints/{newest}/home")
        eventually(lambda: run(api, sprite, *shown).code == 0, f"{newest} is shown inside", 20)
        counts = shell(api, sprite, f'python3 -c \'{CHECKER}\' /.sprite/checkpoints/{newest} {" ".join(writers)}')
        progress.append([int(line) for line in counts.split()])

    progress: list[list[int]] = []
    asyncio.run(load())
    assert len(progress) == ROUNDS
    for earlier, later in zip(progress, progress[1:], strict=False):
        assert all(a <= b for a, b in zip(earlier, later, strict=True)), "time went backwards"
    assert progress[-1] != progress[0], "the writers did not move: nothing was tested"


def test_a_restored_state_is_the_one_that_was_visible(api: Api, sprite: str, tmp_path: Path) -> None:
    async def load() -> None:
        async with open_exec(api, sprite, "python3", "-c", WRITER, "0") as session:
            await session.read_until(b"ready")
            await asyncio.sleep(0.5)
            await asyncio.to_thread(api.checkpoint, sprite)

    asyncio.run(load())
    eventually(lambda: run(api, sprite, "test", "-d", "/.sprite/checkpoints/v1/home").code == 0, "v1 is shown", 20)
    seen = shell(api, sprite, "cd /.sprite/checkpoints/v1/home/sprite/w0 && sha256sum A B c d")
    api.restore(sprite, "v1")
    assert shell(api, sprite, "cd w0 && sha256sum A B c d") == seen


def test_processes_go_on_after_a_checkpoint(api: Api, sprite: str) -> None:
    async def scenario() -> bytes:
        script = "for i in $(seq 1 60); do echo $i; sleep 0.02; done"
        async with open_exec(api, sprite, "sh", "-c", script) as session:
            await session.read_until(b"3\n")
            for _ in range(5):
                await asyncio.to_thread(api.checkpoint, sprite)
            result = await session.finish(30)
            assert result.code == 0
            return result.stdout

    assert asyncio.run(scenario()) == b"".join(b"%d\n" % number for number in range(1, 61))
