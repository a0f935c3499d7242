// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// What differs between two states of a disk, and commands that are undone if they fail.
import { ConnectionLost, fromEvent } from "./errors.js";
import type { JSONObject, Query, Transport } from "./http.js";
import { CommandLine, Event, eventOf } from "./models.js";

/** One difference between two states. */
export interface Change {
  kind: "added" | "removed" | "changed" | "renamed";
  path: string;
  /** Where something renamed was. */
  fromPath?: string;
  /** What differs of something that is in both: `content`, `mode`, `owner` and so on. */
  fields: string[];
  /** A unified diff, where it was asked for and can be told. */
  patch?: string;
  raw: JSONObject;
}

export interface DiffStat { added: number; removed: number; changed: number; renamed: number; bytes: number }

/** What differs, sorted by path. */
export interface Diff {
  changes: Change[];
  stat: DiffStat;
  /** Whether the limit left some out. */
  truncated: boolean;
  raw: JSONObject;
}

/** What to compare with, and how to tell it. */
export interface DiffOptions {
  /** A checkpoint; without it the disk as it is now. */
  to?: string;
  /** Only what is at this absolute path or below it. */
  path?: string;
  patch?: boolean;
  /** False: what was renamed is told as removed and added. */
  renames?: boolean;
  limit?: number;
}

/** How a command that can be undone ended. */
export interface Attempt {
  /** `dropped` is after a dry run. */
  outcome: "kept" | "rolled_back" | "dropped";
  exitCode?: number;
  checkExitCode?: number;
  stdout: Buffer;
  stderr: Buffer;
  /** What it changed, the first thousand; `stat` counts all. */
  changes: Change[];
  stat: DiffStat;
  /** What keeps the state before. */
  checkpointId?: string;
  /** What keeps the state that was rolled back. */
  replacedId?: string;
  raw: JSONObject;
}

export interface AttemptOptions {
  /** Decides after the command whether it succeeded. */
  check?: CommandLine;
  dryRun?: boolean;
  /** Milliseconds that the command may take. */
  timeout?: number;
  environment?: Record<string, string>;
  directory?: string;
  user?: string;
  onEvent?: (event: Event) => void;
}

const nothing: DiffStat = { added: 0, removed: 0, changed: 0, renamed: 0, bytes: 0 };

function changeOf(raw: JSONObject): Change {
  return { kind: raw.change, path: raw.path, fromPath: raw.from_path, fields: raw.fields ?? [], patch: raw.patch, raw };
}

function ended(last: JSONObject, what: string): JSONObject {
  if (last.type === "complete") return last;
  if (last.type === "error") throw fromEvent(last);
  throw new ConnectionLost(`${what} ended without saying how it went`);
}

/** @internal */
export async function diff(transport: Transport, path: string, from: string, options: DiffOptions): Promise<Diff> {
  const query: Query = [["from", from]];
  for (const [name, value] of Object.entries(options)) if (value !== undefined) query.push([name, String(value)]);
  const changes: Change[] = [];
  let last: JSONObject = {};
  for await (const raw of transport.lines("GET", `${path}/diff`, { query })) {
    last = raw;
    if (raw.type === "change") changes.push(changeOf(raw));
  }
  const raw = ended(last, `GET ${path}/diff`);
  return { changes, stat: { ...nothing, ...raw.stat }, truncated: !!raw.truncated, raw };
}

/** @internal */
export async function attempt(
  transport: Transport, path: string, command: CommandLine, options: AttemptOptions,
): Promise<Attempt> {
  const json = {
    command, check: options.check, dry_run: options.dryRun, env: options.environment, dir: options.directory,
    user: options.user, timeout_seconds: options.timeout === undefined ? undefined : options.timeout / 1000,
  };
  const printed: Record<string, Buffer[]> = { stdout: [], stderr: [] };
  const changes: Change[] = [];
  let last: JSONObject = {};
  for await (const raw of transport.lines("POST", `${path}/try`, { json })) {
    last = raw;
    const output = printed[raw.type];
    if (output) output.push(raw.data_base64 ? Buffer.from(raw.data_base64, "base64") : Buffer.from(raw.data, "utf8"));
    if (raw.type === "change") changes.push(changeOf(raw.change));
    if (raw.type !== "error") options.onEvent?.(eventOf(raw));
  }
  const raw = ended(last, `POST ${path}/try`);
  return {
    outcome: raw.outcome, exitCode: raw.exit_code, checkExitCode: raw.check_exit_code,
    stdout: Buffer.concat(printed.stdout ?? []), stderr: Buffer.concat(printed.stderr ?? []), changes,
    stat: { ...nothing, ...raw.stat }, checkpointId: raw.checkpoint_id, replacedId: raw.replaced_id, raw,
  };
}
