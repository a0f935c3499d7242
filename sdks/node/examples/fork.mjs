// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// Makes a second sprite from the first.
import { randomUUID } from "node:crypto";
import { Client } from "sprite-env";

const sprites = new Client();
const sprite = await sprites.create(`example-${randomUUID().slice(0, 8)}`);
try {
  await sprite.files.write("state", "shared\n");
  const twin = await sprite.fork(`${sprite.name}-twin`);
  try {
    await twin.command("echo other > state").run();
    process.stdout.write(await sprite.files.readText("state"));
    process.stdout.write(await twin.files.readText("state"));
  } finally {
    await twin.destroy();
  }
} finally {
  await sprite.destroy();
  await sprites.close();
}
