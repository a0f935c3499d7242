// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// Runs commands to their end.
import { randomUUID } from "node:crypto";
import { Client, CommandFailed, CommandTimeout } from "sprite-env";

const sprites = new Client();
const sprite = await sprites.create(`example-${randomUUID().slice(0, 8)}`);
try {
  process.stdout.write(await sprite.command("echo hello from $(hostname | cut -c1-8)").output());
  const result = await sprite.command(["sh", "-c", "echo out; echo err >&2; exit 3"]).run();
  console.log(result.exitCode, result.stdoutText.trim(), result.stderrText.trim());
  process.stdout.write((await sprite.command(["tr", "a-z", "A-Z"]).run({ input: "input\n" })).stdoutText);
  await sprite.command("exit 7").output().catch((error) => {
    if (!(error instanceof CommandFailed)) throw error;
    console.log("failed with", error.exitCode);
  });
  await sprite.command("sleep 60", { timeout: 300 }).run().catch((error) => {
    if (!(error instanceof CommandTimeout)) throw error;
    console.log("ended:", error.code);
  });
} finally {
  await sprite.destroy();
  await sprites.close();
}
