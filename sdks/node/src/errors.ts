// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/** What to do about an error, by its code. */
const remedies: Record<string, string> = {
  unauthorized: "give the token of 'sprited token', or set SPRITE_TOKEN",
  already_exists: "take another name, or get the one that is there",
  limit_reached: "wait as long as retryAfter says",
  no_space: "delete sprites or checkpoints",
  unavailable: "try again when the server runs",
  internal: "look for the request id in the server's log",
  cannot_connect: "check the address and that the server runs",
  output_limit: "read the output as a stream, or raise outputLimit",
  gone: "it has ended; start it again",
};

/** What is known about an error besides its message. */
export interface ErrorDetails {
  code?: string;
  status?: number;
  requestId?: string;
  remedy?: string;
  cause?: unknown;
}

/** What went wrong. `code` is stable and for programs, the message is for people. */
export class SpriteError extends Error {
  static readonly defaultCode: string = "error";
  /** A stable name such as `not_found`. */
  readonly code: string;
  /** The HTTP status, when the server answered with one. */
  readonly status?: number;
  /** The server's name for the request, to be found in its log. */
  readonly requestId?: string;
  /** What to do about it. */
  readonly remedy?: string;
  /** What caused it, if something else did. */
  readonly cause?: unknown;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message);
    const kind = new.target as typeof SpriteError;
    this.name = kind.name;
    this.code = details.code ?? kind.defaultCode;
    this.status = details.status;
    this.requestId = details.requestId;
    this.remedy = details.remedy ?? remedies[this.code] ?? remedies[kind.defaultCode];
    this.cause = details.cause;
  }
}

/** A value breaks a rule; the message says which. */
export class InvalidRequest extends SpriteError { static readonly defaultCode: string = "invalid_request"; }
/** No token, or one that the server does not know. */
export class Unauthorized extends SpriteError { static readonly defaultCode: string = "unauthorized"; }
/** The named thing does not exist. */
export class NotFound extends SpriteError { static readonly defaultCode: string = "not_found"; }
/** It was there and has ended. */
export class Gone extends NotFound { static readonly defaultCode: string = "gone"; }
/** The thing is busy, or in a state that excludes what was asked. */
export class Conflict extends SpriteError { static readonly defaultCode: string = "conflict"; }
/** The name is taken. */
export class AlreadyExists extends Conflict { static readonly defaultCode: string = "already_exists"; }
/** A limit on rate or number was reached. */
export class RateLimited extends SpriteError {
  static readonly defaultCode: string = "limit_reached";
  /** Milliseconds to wait before another attempt, when the server said so. */
  retryAfter?: number;
}
/** The server's storage is full. */
export class NoSpace extends SpriteError { static readonly defaultCode: string = "no_space"; }
/** The server's host cannot do it. */
export class Unsupported extends SpriteError { static readonly defaultCode: string = "unsupported"; }
/** The server is stopping or cannot answer now. */
export class Unavailable extends SpriteError { static readonly defaultCode: string = "unavailable"; }
/** A fault of the server; its log has the request id. */
export class ServerError extends SpriteError { static readonly defaultCode: string = "internal"; }
/** The answer does not follow the protocol. */
export class InvalidResponse extends SpriteError { static readonly defaultCode: string = "invalid_response"; }
/** No connection could be made; nothing was done. */
export class CannotConnect extends SpriteError { static readonly defaultCode: string = "cannot_connect"; }
/** The connection ended before the answer, or before a command's exit code. */
export class ConnectionLost extends SpriteError {
  static readonly defaultCode: string = "connection_lost";
  /** Whether what was asked for may still run, or may have been done. */
  mayBeRunning = true;
  /** The session to attach to again with `sprite.attach`, if there is one. */
  sessionId?: string;
}
/** A time limit ran out. */
export class Timeout extends SpriteError { static readonly defaultCode: string = "timeout"; }
/** A command's time limit ran out. It was ended, unless `mayBeRunning` says that this is not known. */
export class CommandTimeout extends Timeout {
  stdout: Buffer = Buffer.alloc(0);
  stderr: Buffer = Buffer.alloc(0);
  mayBeRunning = false;
  sessionId?: string;
}
/** A command ended with another exit code than 0 where success was asked for. */
export class CommandFailed extends SpriteError {
  static readonly defaultCode: string = "command_failed";
  exitCode = 1;
  stdout: Buffer = Buffer.alloc(0);
  stderr: Buffer = Buffer.alloc(0);
}
/** The command has ended, so it takes no input. */
export class CommandEnded extends SpriteError { static readonly defaultCode: string = "command_ended"; }
/** More output than may be kept in memory. */
export class OutputLimit extends SpriteError { static readonly defaultCode: string = "output_limit"; }
/** A file operation failed; `code` is the name of the POSIX error, such as `EACCES`. */
export class FileError extends SpriteError {
  static readonly defaultCode: string = "EIO";
  path = "";
}
/** There is no such file or directory. */
export class FileMissing extends FileError { static readonly defaultCode: string = "ENOENT"; }

const byCode: Record<string, typeof SpriteError> = {};
for (const kind of [
  InvalidRequest, Unauthorized, NotFound, Gone, Conflict, AlreadyExists, RateLimited, NoSpace, Unsupported,
  Unavailable, ServerError, Timeout, ConnectionLost,
]) byCode[kind.defaultCode] = kind;

const byStatus: Record<number, typeof SpriteError> = {
  400: InvalidRequest, 401: Unauthorized, 403: Unauthorized, 404: NotFound, 405: InvalidRequest, 409: Conflict,
  410: Gone, 413: InvalidRequest, 426: InvalidRequest, 429: RateLimited, 500: ServerError, 501: Unsupported,
  502: Unavailable, 503: Unavailable, 504: Timeout, 507: NoSpace,
};

type Fields = Record<string, unknown>;

/** The error that an answer tells. */
export function fromResponse(status: number, headers: Record<string, unknown>, body: Buffer): SpriteError {
  let fields: Fields = {};
  const text = body.toString("utf8").trim();
  try {
    const parsed: unknown = JSON.parse(text);
    if (parsed && typeof parsed === "object") fields = parsed as Fields;
  } catch { /* The text is the message then. */ }
  const requestId = headers["x-request-id"] as string | undefined;
  if (typeof fields["code"] === "string" && "path" in fields) return fileError(fields, status, requestId);
  const code = typeof fields["error"] === "string" ? fields["error"] : undefined;
  const message = String(fields["message"] ?? code ?? (text.slice(0, 2000) || `the server answered with status ${status}`));
  const kind = byCode[code ?? ""] ?? byStatus[status] ?? SpriteError;
  const error = new kind(message, { code, status, requestId });
  if (error instanceof RateLimited) {
    const after = Number(headers["retry-after"] ?? fields["retry_after_seconds"]);
    if (Number.isFinite(after)) error.retryAfter = after * 1000;
  }
  return error;
}

/** The error of a file operation. */
export function fileError(fields: Fields, status?: number, requestId?: string): FileError {
  const code = String(fields["code"]);
  const path = String(fields["path"] ?? "");
  const text = String(fields["error"] ?? code);
  const kind = code === "ENOENT" ? FileMissing : FileError;
  const error = new kind(path ? `${path}: ${text}` : text, { code, status, requestId });
  error.path = path;
  return error;
}

/** The error that a stream's last line tells. */
export function fromEvent(event: Fields): SpriteError {
  const code = typeof event["code"] === "string" ? event["code"] : "failed";
  const message = String(event["error"] ?? event["data"] ?? event["message"] ?? "the operation failed");
  return new (byCode[code] ?? SpriteError)(message, { code });
}
