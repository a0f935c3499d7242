// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
import { CommandFailed } from "./errors.js";
import type { JSONObject } from "./http.js";

/** A command: a text that the shell runs, or a list of arguments that is run as it is. */
export type CommandLine = string | readonly string[];

/** What a sprite may use; undefined leaves the server's default, 0 means no limit. */
export interface Limits {
  ramMb?: number;
  cpus?: number;
  pids?: number;
  freezeAfterSeconds?: number;
  stopAfterSeconds?: number;
}

/** A sprite as the server described it. */
export interface SpriteInfo {
  id: string;
  name: string;
  status: string;
  url: string;
  labels: string[];
  environment: Record<string, string>;
  createdAt: Date;
  raw: JSONObject;
}

export interface TerminalSize { rows: number; cols: number }

/** A command that runs. */
export interface Session { id: string; command: string; directory: string; tty: boolean; created: Date; raw: JSONObject }

export interface FileEntry {
  name: string;
  path: string;
  type: "file" | "directory" | "symlink" | "other";
  size: number;
  /** Permissions as a number: 0o644. */
  mode: number;
  modified: Date;
  raw: JSONObject;
}

export interface Checkpoint {
  id: string;
  created: Date;
  comment: string;
  sourceId?: string;
  isAuto: boolean;
  raw: JSONObject;
}

/** What a restore did; `replacedId` is the automatic checkpoint of the state it replaced. */
export interface Restored { id?: string; replacedId?: string }

export interface Service {
  name: string;
  cmd: string;
  args: string[];
  needs: string[];
  httpPort?: number;
  status: string;
  restartCount: number;
  raw: JSONObject;
}

/** A line of a stream: of a checkpoint, a service or the journal. */
export interface Event { type: string; data: string; raw: JSONObject }

export type PolicyRule = { domain: string; action: "allow" | "deny" } | { include: "defaults" };

/** How a command ended, with all it printed. */
export class Result {
  constructor(readonly exitCode: number, readonly stdout: Buffer, readonly stderr: Buffer) {}
  get ok(): boolean { return this.exitCode === 0; }
  get stdoutText(): string { return this.stdout.toString("utf8"); }
  get stderrText(): string { return this.stderr.toString("utf8"); }

  /** Itself; throws `CommandFailed` unless the exit code is 0. */
  check(): Result {
    if (this.ok) return this;
    const last = this.stderrText.trim().split("\n").pop();
    const error = new CommandFailed(`the command ended with exit code ${this.exitCode}${last ? `: ${last}` : ""}`);
    Object.assign(error, { exitCode: this.exitCode, stdout: this.stdout, stderr: this.stderr });
    throw error;
  }
}

export function argvOf(command: CommandLine): string[] {
  if (typeof command === "string") return ["/bin/sh", "-c", command];
  if (command.length === 0) throw new RangeError("a command needs at least one argument");
  return command.map(String);
}

export const durationOf = (milliseconds: number): string => `${Math.round(milliseconds)}ms`;

export function limitsBody(limits: Limits): JSONObject {
  return {
    ram_mb: limits.ramMb, cpus: limits.cpus, pids: limits.pids,
    freeze_after_seconds: limits.freezeAfterSeconds, stop_after_seconds: limits.stopAfterSeconds,
  };
}

export function infoOf(raw: JSONObject): SpriteInfo {
  return {
    id: raw.id, name: raw.name, status: raw.status, url: raw.url, labels: raw.labels ?? [],
    environment: raw.environment ?? {}, createdAt: new Date(raw.created_at), raw,
  };
}

export function sessionOf(raw: JSONObject): Session {
  return { id: raw.id, command: raw.command, directory: raw.workdir, tty: !!raw.tty, created: new Date(raw.created), raw };
}

export function entryOf(raw: JSONObject): FileEntry {
  return {
    name: raw.name, path: raw.path, type: raw.type, size: raw.size, mode: parseInt(raw.mode, 8),
    modified: new Date(raw.modTime), raw,
  };
}

/** A secret that a sprite's HTTPS requests to one host carry; the server never tells its value. */
export interface Secret {
  id: string;
  host: string;
  header: string;
  /** What the header says, with {} in the place of the value. */
  format: string;
  created: Date;
  /** To the minute; undefined if no request carried it yet. */
  lastUsed?: Date;
}

export function secretOf(raw: JSONObject): Secret {
  return {
    id: raw.id, host: raw.host, header: raw.header, format: raw.format, created: new Date(raw.created_at),
    lastUsed: raw.last_used_at ? new Date(raw.last_used_at) : undefined,
  };
}

export function checkpointOf(raw: JSONObject): Checkpoint {
  return {
    id: raw.id, created: new Date(raw.create_time), comment: raw.comment ?? "", sourceId: raw.source_id,
    isAuto: !!raw.is_auto, raw,
  };
}

export function serviceOf(raw: JSONObject): Service {
  return {
    name: raw.name, cmd: raw.cmd, args: raw.args ?? [], needs: raw.needs ?? [], httpPort: raw.http_port ?? undefined,
    status: raw.state?.status ?? "", restartCount: raw.state?.restart_count ?? 0, raw,
  };
}

export function eventOf(raw: JSONObject): Event {
  return { type: String(raw.type ?? raw.kind ?? ""), data: String(raw.data ?? raw.message ?? raw.text ?? ""), raw };
}
