// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// Keeps a command running.
import { randomUUID } from "node:crypto";
import { Client } from "sprite-env";

const sprites = new Client();
const sprite = await sprites.create(`example-${randomUUID().slice(0, 8)}`);
try {
  await sprite.services.create("worker", "sh", { args: ["-c", "while :; do sleep 1; done"] });
  console.log((await sprite.services.get("worker")).status);
  await sprite.services.stop("worker");
  console.log((await sprite.services.get("worker")).status);
  await sprite.services.start("worker");
  console.log((await sprite.services.list()).map((service) => `${service.name} ${service.status}`));
  await sprite.services.delete("worker");
} finally {
  await sprite.destroy();
  await sprites.close();
}
