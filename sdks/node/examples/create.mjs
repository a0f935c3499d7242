// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// Creates a sprite, finds it again, lists and destroys it.
import { randomUUID } from "node:crypto";
import { Client, NotFound } from "sprite-env";

const sprites = new Client();
const name = `example-${randomUUID().slice(0, 8)}`;
const sprite = await sprites.create(name, { labels: ["example"] });
console.log("created", (await sprites.get(name)).info.labels);
const names = [];
for await (const one of sprites.list({ prefix: name })) names.push(one.name === name);
console.log("listed", names);
await sprite.destroy();
try {
  await sprites.get(name);
} catch (error) {
  if (!(error instanceof NotFound)) throw error;
  console.log("destroyed", error.code);
}
await sprites.close();
