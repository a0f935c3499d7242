// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// An agent's loop: every step starts from a checkpoint, and a step that fails is undone.
import { randomUUID } from "node:crypto";
import { Client } from "sprite-env";

const sprites = new Client();
const sprite = await sprites.create(`example-${randomUUID().slice(0, 8)}`);
try {
  const plan = ["echo a > work", "echo b >> work; exit 1", "echo c >> work"];
  for (const step of plan) {
    const before = await sprite.checkpoints.create(step);
    const result = await sprite.command(step, { timeout: 30_000 }).run();
    if (!result.ok) await sprite.checkpoints.restore(before.id);
    console.log(result.ok ? "kept" : "undone", step);
  }
  console.log((await sprite.files.readText("work")).split("\n"));
} finally {
  await sprite.destroy();
  await sprites.close();
}
