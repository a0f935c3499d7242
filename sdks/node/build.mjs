// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// Compiles src/ with the tsc on the PATH, once as ES modules and once as CommonJS.
import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";

const here = new URL(".", import.meta.url).pathname;
rmSync(`${here}dist`, { recursive: true, force: true });
for (const [folder, module, type] of [["esm", "ES2020", "module"], ["cjs", "CommonJS", "commonjs"]]) {
  const out = `${here}dist/${folder}`;
  execFileSync("tsc", ["--project", here, "--module", module, "--outDir", out], { stdio: "inherit" });
  writeFileSync(`${out}/package.json`, `${JSON.stringify({ type })}\n`);
}
