// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// One command over one connection: its messages, its end and what became of it if the connection breaks.
import { CommandEnded, ConnectionLost, fromEvent, InvalidResponse } from "./errors.js";
import { isPassing, JSONObject, Query, readWaits, segment, whileUnreachable } from "./http.js";
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
  /** Which session this is, to resume it after the connection was lost; undefined if the server cannot. */
  private instance?: string;
  /** How much came of each stream, counted from the command's start. */
  private offsets: [number, number] = [0, 0];
  private attempt = 0;
  private hasPlace = true;
  /** While the connection is lost and may come back; false if it does not. */
  private resuming?: Promise<boolean>;
  /** Messages to be sent once it has. */
  private waiting: JSONObject[] = [];
  /** Input was written that may or may not have arrived. */
  private hasWritten = false;
  private inputEnded = false;
  private givenUp = false;

  private constructor(
    private readonly pool: Pool, private readonly sprite: string, private connection: WebSocketConnection,
    private control: boolean, public tty: boolean, private readonly options: CommandOptions,
    private readonly sink: (stream: 1 | 2, data: Buffer) => void,
  ) {
    this.introduced = new Promise((resolve) => { this.tellIntroduced = resolve; });
    this.done = new Promise((resolve, reject) => { this.resolve = resolve; this.reject = reject; });
    this.done.catch(() => {});
    this.use(connection);
    if (options.timeout !== undefined) {
      const grace = options.timeout + (options.killAfter ?? 5000);
      this.timers = [
        setTimeout(() => this.expire("TERM"), options.timeout),
        setTimeout(() => this.expire("KILL"), grace),
        // If even that brings no end, the connection is of no use.
        setTimeout(() => { this.timedOut = this.givenUp = true; this.connection.destroy(); }, grace + 5000),
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

  private use(connection: WebSocketConnection): void {
    connection.onBinary = (data) => this.takeBinary(data);
    connection.onText = (text) => this.takeText(text);
    connection.onClose = (close) => void this.closed(close);
  }

  private async closed(close: Close): Promise<void> {
    if (this.released) return;
    // The exit code comes after all output.
    if (this.exitCode !== undefined) return this.end(this.exitCode);
    if (this.mayResume) {
      this.resuming = this.resume();
      const isBack = await this.resuming;
      this.resuming = undefined;
      if (isBack) {
        for (const message of this.waiting.splice(0)) this.text(message);
        return;
      }
    }
    this.fail(this.lost(close));
  }

  /** Not if input may be lost, nor in a terminal. */
  private get mayResume(): boolean {
    return this.instance !== undefined && !this.tty && !this.hasWritten && !this.givenUp && !this.released;
  }

  /** Attaches again where the output stopped, with back-off. */
  private async resume(): Promise<boolean> {
    this.hasPlace = false;
    void this.pool.closeOne(this.connection);
    const path = `/v1/sprites/${segment(this.sprite)}/exec/${segment(this.sessionId!)}`;
    while (this.attempt < readWaits.length) {
      await new Promise((resolve) => setTimeout(resolve, readWaits[this.attempt++]));
      if (!this.mayResume) return false;
      try {
        const connection = await this.pool.direct(path, [
          ["instance", this.instance!],
          ["stdout_offset", String(this.offsets[0])], ["stderr_offset", String(this.offsets[1])],
        ]);
        if (this.released || this.givenUp) {
          void this.pool.closeOne(connection);
          return false;
        }
        this.connection = connection;
        this.control = false;
        this.hasPlace = true;
        connection.hold(this.held);
        this.use(connection);
        if (this.inputEnded) connection.sendBinary(Buffer.from([4]));
        return true;
      } catch (error) {
        // Otherwise it has ended and was forgotten, or the output is not kept any more.
        if (!isPassing(error)) return false;
      }
    }
    return false;
  }

  private expire(name: string): void {
    this.timedOut = true;
    if (!this.released) this.text({ type: "signal", signal: name });
  }

  private takeBinary(data: Buffer): void {
    if (this.released) return;
    if (this.tty) return this.sink(1, data);
    switch (data[0]) {
      case 1: case 2:
        this.offsets[data[0] - 1]! += data.length - 1;
        this.attempt = 0;
        return this.sink(data[0], data.subarray(1));
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
      const offsets: [number, number] = [event.stdout_offset ?? 0, event.stderr_offset ?? 0];
      if (this.instance !== undefined && String([this.instance, this.offsets]) !== String([event.instance, offsets])) {
        return this.fail(this.lost({ code: 1006, reason: "" }));
      }
      this.instance = event.instance;
      this.offsets = offsets;
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
    if (this.hasPlace) void this.pool.closeOne(this.connection);
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

  private held = false;

  hold(on: boolean): void {
    this.held = on;
    if (!this.released) this.connection.hold(on);
  }

  /** Sends input; resolves when there is room for more. */
  async write(data: Uint8Array): Promise<void> {
    for (let at = 0; at < data.length; at += inputChunk) {
      if (this.resuming) await this.resuming;
      this.checkRunning();
      this.hasWritten = true;
      const room = this.connection.sendBinary(data.subarray(at, at + inputChunk), this.tty ? undefined : 0);
      if (!room) await this.connection.drain();
    }
  }

  /** The end of standard input; in a terminal what Ctrl+D types. */
  closeInput(): void {
    if (this.released || this.exitCode !== undefined) return;
    this.inputEnded = !this.tty; // Said again if the connection comes back.
    this.connection.sendBinary(Buffer.from([4]));
  }

  sendSignal(name: string): void { this.checkRunning(); this.text({ type: "signal", signal: name.toUpperCase() }); }

  resize(size: TerminalSize): void { this.checkRunning(); this.text({ type: "resize", ...size }); }

  private text(message: JSONObject): void {
    if (message.type === "signal") this.signalled = true;
    if (this.resuming) return void this.waiting.push(message);
    this.connection.sendText(JSON.stringify(message));
  }

  private checkRunning(): void {
    // Also because the connection may already serve another command.
    if (this.exitCode === undefined && this.loss) throw this.lost(this.loss);
    if (this.released || this.exitCode !== undefined) throw new CommandEnded("the command has ended");
  }
}
