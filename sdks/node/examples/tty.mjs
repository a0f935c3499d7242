// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// Uses a terminal, leaves it and comes back.
import { randomUUID } from "node:crypto";
import { Client } from "sprite-env";

const sprites = new Client();
const sprite = await sprites.create(`example-${randomUUID().slice(0, 8)}`);
try {
  const tty = { rows: 30, cols: 100 };
  const first = await sprite.command('stty size; read x; echo "got $x"', { tty }).start();
  console.log((await first.stdout.lines().next()).value.trim());
  const session = await first.started();
  first.detach();
  const again = await sprite.attach(session);
  const lines = again.stdout.lines();
  console.log((await lines.next()).value.trim(), "again");
  again.stdin.write("hello\n");
  await lines.next(); // What was typed.
  console.log((await lines.next()).value.trim());
  console.log("exit code", await again.wait());
} finally {
  await sprite.destroy();
  await sprites.close();
}
