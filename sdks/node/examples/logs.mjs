// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// Follows what a service prints.
import { randomUUID } from "node:crypto";
import { Client } from "sprite-env";

const sprites = new Client();
const sprite = await sprites.create(`example-${randomUUID().slice(0, 8)}`);
try {
  const script = "for i in 1 2 3; do echo tick $i; sleep 0.2; done; sleep 60";
  await sprite.services.create("ticker", "sh", { args: ["-c", script] });
  let seen = 0;
  for await (const event of sprite.services.logs("ticker", { follow: 30_000 })) {
    if (event.type !== "stdout") continue;
    process.stdout.write(event.data);
    seen += event.data.split("\n").length - 1;
    if (seen === 3) break;
  }
} finally {
  await sprite.destroy();
  await sprites.close();
}
