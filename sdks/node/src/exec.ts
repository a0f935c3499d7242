// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// One command over one connection: its messages, its end and what became of it if the connection breaks.
import { CommandEnded, ConnectionLost, fromEvent, InvalidResponse } from "./errors.js";
import { JSONObject, Query, segment, whileUnreachable } from "./http.js";
import { argvOf, CommandLine, durationOf, TerminalSize } from "./models.js";
import type { Pool } from "./pool.js";
import type { Close, WebSocketConnection } from "./websocket.js";

const prefix = "control:";
const inputChunk = 256 << 10;

/** How a command is run. Every duration is in milliseconds. */
export interface CommandOptions {
  environment?: Record<string, string>;
  directory?: string;
  user?: string;
  /** A terminal: true for 24 by 80. */
  tty?: boolean | TerminalSize;
  /** Goes on when its client leaves. */
  detachable?: boolean;
  /** How long it may run; then it gets SIGTERM, and SIGKILL `killAfter` later. */
  timeout?: number;
  /** Default: 5000. */
  killAfter?: number;
  /** How long it may go on after the connection was lost. */
  maxRunAfterDisconnect?: number;
  /** Ends the command when it is aborted. */
  signal?: AbortSignal;
}

export type PortHandler = (change: "opened" | "closed", port: number, address: string) => void;

function argumentsOf(command: CommandLine, options: CommandOptions, stdin: boolean): Record<string, string | string[]> {
  const argv = argvOf(command);
  const made: Record<string, string | string[]> = { cmd: argv, path: argv[0]!, stdin: String(stdin) };
  const environment = Object.entries(options.environment ?? {}).map(([name, value]) => `${name}=${value}`);
  if (environment.length > 0) made["env"] = environment;
  if (options.directory !== undefined) made["dir"] = options.directory;
  if (options.user !== undefined) made["user"] = options.user;
  if (options.tty) {
    const size = options.tty === true ? { rows: 24, cols: 80 } : options.tty;
    Object.assign(made, { tty: "true", rows: String(size.rows), cols: String(size.cols) });
  }
  if (options.detachable) made["detachable"] = "true";
  if (options.maxRunAfterDisconnect !== undefined) {
    made["max_run_after_disconnect"] = durationOf(options.maxRunAfterDisconnect);
  }
  return made;
}

function queryOf(made: Record<string, string | string[]>): Query {
  return Object.entries(made).flatMap(([name, value]) => [value].flat().map((text): [string, string] => [name, text]));
}

export class Exec {
  sessionId?: string;
  exitCode?: number;
  timedOut = false;
  onPort?: PortHandler;
  /** Resolves once the session's id is known, or never will be. */
  readonly introduced: Promise<void>;
  /** The exit code, once all output was handed out. */
  readonly done: Promise<number>;
  private tellIntroduced!: () => void;
  private resolve!: (code: number) => void;
  private reject!: (error: Error) => void;
  private timers: ReturnType<typeof setTimeout>[] = [];
  private released = false;
  /** Why the connection ended, if it ended before the exit code came. */
  private loss?: Close;
  private signalled = false;
  private onAbort?: () => void;

  private constructor(
    private readonly pool: Pool, private readonly sprite: string, private readonly connection: WebSocketConnection,
    private readonly control: boolean, public tty: boolean, private readonly options: CommandOptions,
    private readonly sink: (stream: 1 | 2, data: Buffer) => void,
  ) {
    this.introduced = new Promise((resolve) => { this.tellIntroduced = resolve; });
    this.done = new Promise((resolve, reject) => { this.resolve = resolve; this.reject = reject; });
    this.done.catch(() => {});
    connection.onBinary = (data) => this.takeBinary(data);
    connection.onText = (text) => this.takeText(text);
    connection.onClose = (close) => this.fail(this.lost(close));
    if (options.timeout !== undefined) {
      const grace = options.timeout + (options.killAfter ?? 5000);
      this.timers = [
        setTimeout(() => this.expire("TERM"), options.timeout),
        setTimeout(() => this.expire("KILL"), grace),
        // If even that brings no end, the connection is of no use.
        setTimeout(() => { this.timedOut = true; connection.destroy(); }, grace + 5000),
      ];
    }
    if (options.signal) {
      const signal = options.signal;
      this.onAbort = () => this.abandon(true, signal.reason instanceof Error ? signal.reason : new Error("aborted"));
      signal.addEventListener("abort", this.onAbort);
      if (signal.aborted) this.onAbort();
    }
  }

  static async start(
    pool: Pool, sprite: string, command: CommandLine, options: CommandOptions, stdin: boolean,
    sink: (stream: 1 | 2, data: Buffer) => void,
  ): Promise<Exec> {
    options.signal?.throwIfAborted();
    const made = argumentsOf(command, options, stdin);
    // What outlives its client, and terminals, get a connection of their own.
    const connection = options.tty || options.detachable ? undefined : await pool.control(sprite);
    if (!connection) {
      const own = await pool.direct(`/v1/sprites/${segment(sprite)}/exec`, queryOf(made));
      return new Exec(pool, sprite, own, false, !!options.tty, options, sink);
    }
    const running = new Exec(pool, sprite, connection, true, false, options, sink);
    connection.sendText(prefix + JSON.stringify({ type: "op.start", op: "exec", args: made }));
    return running;
  }

  static async attach(
    pool: Pool, sprite: string, sessionId: string, sink: (stream: 1 | 2, data: Buffer) => void,
  ): Promise<Exec> {
    const path = `/v1/sprites/${segment(sprite)}/exec/${segment(sessionId)}`;
    // The session outlives the server: whoever was cut off attaches while it starts again.
    const connection = await whileUnreachable(() => pool.direct(path));
    const running = new Exec(pool, sprite, connection, false, false, {}, sink);
    running.sessionId = sessionId;
    return running;
  }

  private expire(name: string): void {
    this.timedOut = true;
    if (!this.released) this.text({ type: "signal", signal: name });
  }

  private takeBinary(data: Buffer): void {
    if (this.released) return;
    if (this.tty) return this.sink(1, data);
    switch (data[0]) {
      case 1: case 2: return this.sink(data[0], data.subarray(1));
      case 3:
        this.exitCode = data.length > 1 ? data[1]! : 0;
        if (!this.control) this.end(this.exitCode);
        return;
      default: return;
    }
  }

  private takeText(text: string): void {
    if (this.released) return;
    let event: JSONObject;
    const isControl = this.control && text.startsWith(prefix);
    try {
      event = JSON.parse(isControl ? text.slice(prefix.length) : text);
    } catch { return; }
    if (isControl) {
      if (event.type === "op.complete") {
        const code = event.args?.exitCode ?? this.exitCode;
        if (typeof code === "number") this.end(code);
        else this.fail(new InvalidResponse("the command's end came without an exit code"));
      } else if (event.type === "op.error") this.fail(fromEvent(event.args ?? {}));
      return;
    }
    if (event.type === "session_info") {
      this.sessionId = String(event.session_id);
      this.tty = !!event.tty;
      this.tellIntroduced();
    } else if (event.type === "exit" && this.tty && !this.control) this.end(Number(event.exit_code));
    else if (event.type === "port_opened" || event.type === "port_closed") {
      this.onPort?.(event.type === "port_opened" ? "opened" : "closed", event.port, event.address ?? "");
    }
  }

  private end(code: number): void {
    this.exitCode = code;
    this.release(this.control);
    this.resolve(code);
  }

  private fail(error: Error): void {
    if (this.released) return;
    this.release(false);
    this.reject(error);
  }

  private release(keep: boolean): void {
    if (this.released) return;
    this.released = true;
    this.tellIntroduced();
    for (const timer of this.timers) clearTimeout(timer);
    if (this.onAbort) this.options.signal?.removeEventListener("abort", this.onAbort);
    this.connection.hold(false);
    if (keep && !this.signalled && this.pool.keep(this.sprite, this.connection)) return;
    void this.pool.closeOne(this.connection);
  }

  /** Gives up the connection; the server ends what was not detached, at once with `kill`. */
  abandon(kill: boolean, error: Error): void {
    if (this.released) return;
    if (kill) this.text({ type: "signal", signal: "KILL" });
    this.fail(error);
  }

  private lost(close: Close): ConnectionLost {
    this.loss = close;
    const why = close.code === 1006 ? "without a close" : `${close.code} ${close.reason}`.trim();
    const where = this.sessionId ? `, session ${this.sessionId}` : "";
    const error = new ConnectionLost(`the connection ended before the command's exit code (${why})${where}`, {
      remedy: "it may still run: look for it with sessions(), attach to it or kill it",
    });
    error.sessionId = this.sessionId;
    return error;
  }

  hold(on: boolean): void { if (!this.released) this.connection.hold(on); }

  /** Sends input; resolves when there is room for more. */
  async write(data: Uint8Array): Promise<void> {
    for (let at = 0; at < data.length; at += inputChunk) {
      this.checkRunning();
      const room = this.connection.sendBinary(data.subarray(at, at + inputChunk), this.tty ? undefined : 0);
      if (!room) await this.connection.drain();
    }
  }

  /** The end of standard input; in a terminal what Ctrl+D types. */
  closeInput(): void {
    if (!this.released && this.exitCode === undefined) this.connection.sendBinary(Buffer.from([4]));
  }

  sendSignal(name: string): void { this.checkRunning(); this.text({ type: "signal", signal: name.toUpperCase() }); }

  resize(size: TerminalSize): void { this.checkRunning(); this.text({ type: "resize", ...size }); }

  private text(message: JSONObject): void {
    if (message.type === "signal") this.signalled = true;
    this.connection.sendText(JSON.stringify(message));
  }

  private checkRunning(): void {
    // Also because the connection may already serve another command.
    if (this.exitCode === undefined && this.loss) throw this.lost(this.loss);
    if (this.released || this.exitCode !== undefined) throw new CommandEnded("the command has ended");
  }
}
