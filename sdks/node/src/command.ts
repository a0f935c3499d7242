// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// Commands: run to the end, or run with streams like child_process.
import { Readable, Writable } from "node:stream";
import { StringDecoder } from "node:string_decoder";
import { CommandTimeout, ConnectionLost, OutputLimit, SpriteError } from "./errors.js";
import { CommandOptions, Exec, PortHandler } from "./exec.js";
import type { Content } from "./http.js";
import { CommandLine, Result } from "./models.js";
import type { Pool } from "./pool.js";

const softLimit = 1 << 20;
const hardLimit = 64 << 20;

/** One output stream of a command: a Readable of Buffers. */
export class Output extends Readable {
  /** @internal */
  constructor(private readonly changed: () => void) { super({ highWaterMark: softLimit }); }
  override _read(): void { this.changed(); }
  override on(event: string, listener: (...args: any[]) => void): this {
    super.on(event, listener);
    if (event === "data" || event === "readable") queueMicrotask(this.changed);
    return this;
  }
  override resume(): this {
    super.resume();
    queueMicrotask(this.changed);
    return this;
  }

  /** Whether somebody waits for what comes next. */
  get awaited(): boolean {
    return this.readableLength === 0 && (this.readableFlowing === true || this.listenerCount("readable") > 0);
  }

  /** Everything up to the end. */
  async bytes(): Promise<Buffer> {
    const chunks: Buffer[] = [];
    for await (const chunk of this) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  }

  /** Everything up to the end, as text. */
  async text(): Promise<string> { return (await this.bytes()).toString("utf8"); }

  /** Lines without their newlines; characters that are split over messages are put together. */
  async *lines(): AsyncGenerator<string> {
    const decoder = new StringDecoder("utf8");
    let rest = "";
    for await (const chunk of this) {
      const parts = (rest + decoder.write(chunk as Buffer)).split("\n");
      rest = parts.pop()!;
      for (const part of parts) yield part;
    }
    rest += decoder.end();
    if (rest) yield rest;
  }
}

/** Standard input of a command: a Writable; `end` is the end of the input. */
class Input extends Writable {
  constructor(private readonly running: () => Exec) { super({ decodeStrings: true }); }
  override _write(chunk: Buffer, _: string, done: (error?: Error | null) => void): void {
    this.running().write(chunk).then(() => done(), done);
  }
  override _final(done: (error?: Error | null) => void): void {
    this.running().closeInput();
    done();
  }
}

/** A command that runs, like a `ChildProcess`. */
export class Process {
  readonly stdin: Writable;
  /** What it prints; in a terminal everything. */
  readonly stdout: Output;
  readonly stderr: Output;
  private running!: Exec;
  private isAwaited = false;
  private recheck?: ReturnType<typeof setInterval>;

  private constructor(private readonly options: CommandOptions | undefined) {
    const changed = () => this.pace();
    this.stdout = new Output(changed);
    this.stderr = new Output(changed);
    this.stdin = new Input(() => this.running);
    // What breaks is told by wait() and by reading.
    for (const stream of [this.stdin, this.stdout, this.stderr]) stream.on("error", () => {});
  }

  /** @internal */
  static async make(
    options: CommandOptions | undefined, start: (sink: (stream: 1 | 2, data: Buffer) => void) => Promise<Exec>,
  ): Promise<Process> {
    const process = new Process(options);
    process.running = await start((stream, data) => process.take(stream, data));
    process.running.done.then(() => process.finish(), (error: Error) => process.finish(error));
    return process;
  }

  private take(stream: 1 | 2, data: Buffer): void {
    (stream === 1 ? this.stdout : this.stderr).push(data);
    if (this.stdout.readableLength + this.stderr.readableLength >= softLimit) this.pace();
  }

  /** Reading stops while too much is unread, unless somebody waits for what may come behind it. */
  private pace(): void {
    if (!this.running) return;
    const size = this.stdout.readableLength + this.stderr.readableLength;
    if (size > hardLimit) {
      return this.running.abandon(true, new OutputLimit(`more than ${hardLimit} bytes of output were not read`));
    }
    this.running.hold(size >= softLimit && !this.isAwaited && !this.stdout.awaited && !this.stderr.awaited);
  }

  private finish(error?: Error): void {
    clearInterval(this.recheck);
    for (const stream of [this.stdout, this.stderr]) {
      // What was printed before it broke can still be read.
      if (!error) stream.push(null);
      else if (stream.readableLength === 0) stream.destroy(error);
      else stream.once("data", () => setImmediate(() => stream.destroy(error)));
    }
  }

  /** The session's id; known when `started` resolved. */
  get sessionId(): string | undefined { return this.running.sessionId; }
  get tty(): boolean { return this.running.tty; }
  /** The exit code, undefined while it runs. */
  get exitCode(): number | undefined { return this.running.exitCode; }

  /** Calls the handler when the command begins or stops to listen on ports. */
  onPort(handler: PortHandler): void { this.running.onPort = handler; }

  /** Waits until the command runs and gives its session's id. */
  async started(): Promise<string> {
    await this.running.introduced;
    if (this.sessionId === undefined) await this.wait();
    return this.sessionId!;
  }

  /** The exit code, once it has ended. Rejects with `CommandTimeout` or `ConnectionLost` otherwise. */
  async wait(): Promise<number> {
    this.isAwaited = true;
    this.pace();
    return ended(this.running, this.options, () => [Buffer.alloc(0), Buffer.alloc(0)]);
  }

  /** Sends a signal, such as "INT", to the command's process group. */
  signal(name: string): void { this.running.sendSignal(name); }
  kill(): void { this.signal("KILL"); }
  resize(rows: number, cols: number): void { this.running.resize({ rows, cols }); }

  /** Leaves. A terminal or a detachable command goes on; any other is ended by the server a while later. */
  detach(): void { this.running.abandon(false, new SpriteError("the command was left", { code: "detached" })); }

  /** Ends the command, unless it was made to go on, and leaves. */
  close(): void {
    const kill = this.options !== undefined && !this.options.detachable;
    this.running.abandon(kill, new SpriteError("the command was left", { code: "detached" }));
  }
}

async function ended(
  running: Exec, options: CommandOptions | undefined, output: () => [Buffer, Buffer],
): Promise<number> {
  let code: number | undefined;
  let failure: unknown;
  try {
    code = await running.done;
  } catch (error) {
    if (!(error instanceof ConnectionLost) || !running.timedOut) throw error;
    failure = error;
  }
  if (!running.timedOut) return code!;
  const error = new CommandTimeout(`the command ran longer than its limit of ${options?.timeout} ms and was ended`, {
    cause: failure,
  });
  [error.stdout, error.stderr] = output();
  error.sessionId = running.sessionId;
  error.mayBeRunning = failure !== undefined;
  throw error;
}

/** What `run` may be told besides the command's own options. */
export interface RunOptions {
  input?: Content;
  /** Throw `CommandFailed` for another exit code than 0. */
  check?: boolean;
  /** How much output may be kept in memory. Default: 256 MiB. */
  outputLimit?: number;
}

/** Sends everything and the end of input. A command that does not read to the end is no error. */
async function sendInput(running: Exec, input: Content): Promise<void> {
  try {
    if (typeof input === "string") await running.write(Buffer.from(input));
    else if (input instanceof Uint8Array) await running.write(input);
    else for await (const chunk of input) await running.write(chunk);
    running.closeInput();
  } catch (error) {
    if (!(error instanceof SpriteError)) running.abandon(true, error as Error);
  }
}

/** A command of a sprite, not yet run. It can be run any number of times. */
export class Command {
  /** @internal */
  constructor(
    private readonly pool: Pool, private readonly sprite: string, private readonly line: CommandLine,
    private readonly options: CommandOptions,
  ) {}

  /** The same command with other options. */
  withOptions(options: CommandOptions): Command {
    return new Command(this.pool, this.sprite, this.line, { ...this.options, ...options });
  }

  /** Runs it to its end and gives the exit code and all output. */
  async run(options: RunOptions = {}): Promise<Result> {
    const limit = options.outputLimit ?? 256 << 20;
    const collected: [Buffer[], Buffer[]] = [[], []];
    let size = 0;
    let running: Exec | undefined;
    const sink = (stream: 1 | 2, data: Buffer) => {
      size += data.length;
      if (size > limit) running?.abandon(true, new OutputLimit(`the command printed more than ${limit} bytes`));
      else collected[stream - 1]!.push(data);
    };
    running = await Exec.start(this.pool, this.sprite, this.line, this.options, options.input !== undefined, sink);
    if (options.input !== undefined) void sendInput(running, options.input);
    const output = (): [Buffer, Buffer] => [Buffer.concat(collected[0]), Buffer.concat(collected[1])];
    const code = await ended(running, this.options, output);
    const result = new Result(code, ...output());
    return options.check ? result.check() : result;
  }

  /** What it prints on standard output, as text; rejects with `CommandFailed` unless it succeeds. */
  async output(options: RunOptions = {}): Promise<string> {
    return (await this.run({ ...options, check: true })).stdoutText;
  }

  /** Starts it with streams. */
  async start(): Promise<Process> {
    return Process.make(this.options, (sink) => Exec.start(this.pool, this.sprite, this.line, this.options, true, sink));
  }
}
