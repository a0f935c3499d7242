// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// Persistent, checkpointable Linux computers: the Node.js client of sprite-env.
export { Client, Sprite } from "./client.js";
export type { CreateOptions } from "./client.js";
export { Command, Output, Process } from "./command.js";
export type { RunOptions } from "./command.js";
export {
  AlreadyExists, CannotConnect, CommandEnded, CommandFailed, CommandTimeout, Conflict, ConnectionLost, FileError,
  FileMissing, Gone, InvalidRequest, InvalidResponse, NoSpace, NotFound, OutputLimit, RateLimited, ServerError,
  SpriteError, Timeout, Unauthorized, Unavailable, Unsupported,
} from "./errors.js";
export type { ErrorDetails } from "./errors.js";
export type { CommandOptions, PortHandler } from "./exec.js";
export { Connection, Forward } from "./forward.js";
export { version } from "./http.js";
export type { ClientOptions, Content } from "./http.js";
export { Result } from "./models.js";
export type {
  Checkpoint, CommandLine, Event, FileEntry, Limits, PolicyRule, Restored, Secret, Service, Session, SpriteInfo, TerminalSize,
} from "./models.js";
export type { Attempt, AttemptOptions, Change, Diff, DiffOptions, DiffStat } from "./states.js";
export type { Checkpoints, FileOptions, Files, Policy, Progress, Secrets, ServiceOptions, Services } from "./parts.js";
