// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// Writes, reads and copies files, one by one and whole folders.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { randomUUID } from "node:crypto";
import { Client, FileMissing } from "sprite-env";

const sprites = new Client();
const sprite = await sprites.create(`example-${randomUUID().slice(0, 8)}`);
try {
  await sprite.files.write("notes/today.txt", "remember\n");
  process.stdout.write(await sprite.files.readText("notes/today.txt"));
  console.log((await sprite.files.list("notes")).map((entry) => entry.name));
  await sprite.files.read("notes/tomorrow.txt").catch((error) => {
    if (!(error instanceof FileMissing)) throw error;
    console.log(error.code);
  });
  const folder = await mkdtemp(`${tmpdir()}/example-`);
  try {
    await sprite.files.download("notes", folder);
    await writeFile(`${folder}/more.txt`, "more\n");
    console.log("uploaded", await sprite.files.upload(folder, "copy"));
  } finally {
    await rm(folder, { recursive: true });
  }
  process.stdout.write(await sprite.command("cat copy/*").output());
} finally {
  await sprite.destroy();
  await sprites.close();
}
