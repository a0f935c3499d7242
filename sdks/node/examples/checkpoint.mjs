// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// Takes a checkpoint and goes back to it.
import { randomUUID } from "node:crypto";
import { Client } from "sprite-env";

const sprites = new Client();
const sprite = await sprites.create(`example-${randomUUID().slice(0, 8)}`);
try {
  await sprite.files.write("state", "good\n");
  const checkpoint = await sprite.checkpoints.create("before the experiment");
  console.log(checkpoint.id, checkpoint.comment);
  await sprite.command("echo broken > state").run();
  await sprite.checkpoints.restore(checkpoint.id);
  process.stdout.write(await sprite.files.readText("state"));
  await sprite.checkpoints.undo();
  process.stdout.write(await sprite.files.readText("state"));
} finally {
  await sprite.destroy();
  await sprites.close();
}
