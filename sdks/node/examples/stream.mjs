// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// Talks to a command that runs.
import { randomUUID } from "node:crypto";
import { Client } from "sprite-env";

const sprites = new Client();
const sprite = await sprites.create(`example-${randomUUID().slice(0, 8)}`);
try {
  const command = await sprite.command('while read x; do echo "got $x"; done; echo bye >&2').start();
  const lines = command.stdout.lines();
  for (const word of ["one", "two"]) {
    command.stdin.write(`${word}\n`);
    console.log((await lines.next()).value);
  }
  command.stdin.end();
  process.stdout.write(await command.stderr.text());
  console.log("exit code", await command.wait());
} finally {
  await sprite.destroy();
  await sprites.close();
}
