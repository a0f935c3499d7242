// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// A WebSocket client (RFC 6455) with what Node's own lacks: headers, proxies and holding back what is not yet wanted.
import { createHash, randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import { dial, DialOptions } from "./dial.js";
import { CannotConnect, fromResponse, InvalidResponse, Timeout } from "./errors.js";

const messageSizeMax = 64 << 20;
const magic = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/** How a connection ended; code 1006 if nobody said. */
export interface Close { code: number; reason: string }

export class WebSocketConnection {
  onText: (text: string) => void = () => {};
  onBinary: (data: Buffer) => void = () => {};
  onClose: (close: Close) => void = () => {};
  private pending: Buffer[] = [];
  private pendingSize = 0;
  private needed = 2;
  private parts: Buffer[] = [];
  private partsOpcode = 0;
  private partsSize = 0;
  private told?: Close;
  private sentClose = false;
  private finished = false;
  private lastHeard = Date.now();
  private pongs: (() => void)[] = [];
  private readonly heart: ReturnType<typeof setInterval>;
  private draining: (() => void)[] = [];
  private closed: Promise<void>;
  private tellClosed!: () => void;
  private held = false;
  private broken = false;
  private heldEnd?: () => void;

  private constructor(private readonly socket: Socket) {
    this.closed = new Promise((resolve) => { this.tellClosed = resolve; });
    socket.on("data", (chunk: Buffer) => this.take(chunk));
    socket.on("drain", () => this.drained());
    socket.on("error", () => {});
    socket.on("close", () => this.finish());
    this.heart = setInterval(() => this.beat(), 15_000);
    (this.heart as unknown as { unref(): void }).unref();
  }

  /** Connects and upgrades. An ordinary answer is thrown as the error it tells. */
  static async open(
    url: URL, headers: Record<string, string>, options: DialOptions, timeout: number,
  ): Promise<WebSocketConnection> {
    const socket = await dial(url, options);
    const key = randomBytes(16).toString("base64");
    const lines = [
      `GET ${url.pathname}${url.search} HTTP/1.1`, `Host: ${url.host}`, "Connection: Upgrade", "Upgrade: websocket",
      "Sec-WebSocket-Version: 13", `Sec-WebSocket-Key: ${key}`,
      ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    ];
    const accept = createHash("sha1").update(key + magic).digest("base64");
    return new Promise((resolve, reject) => {
      let head = Buffer.alloc(0);
      const fail = (error: Error) => {
        clearTimeout(timer);
        socket.removeAllListeners();
        socket.on("error", () => {});
        socket.destroy();
        reject(error);
      };
      const timer = setTimeout(() => fail(new Timeout(`${url.origin} did not answer in time`)), timeout);
      socket.on("error", (error: Error) => fail(new CannotConnect(`cannot connect to ${url.origin}: ${error.message}`)));
      socket.on("close", () => {
        // A refusal without a length ends with the connection.
        const split = head.indexOf("\r\n\r\n");
        if (split < 0) return fail(new CannotConnect(`cannot connect to ${url.origin}: it hung up`));
        const answer = readHead(head.subarray(0, split));
        return fail(fromResponse(answer.status, answer.headers, head.subarray(split + 4)));
      });
      socket.on("data", (chunk: Buffer) => {
        head = Buffer.concat([head, chunk]);
        const split = head.indexOf("\r\n\r\n");
        if (split < 0) return head.length > 1 << 20 ? fail(new InvalidResponse("the answer's head is too long")) : undefined;
        const answer = readHead(head.subarray(0, split));
        const rest = head.subarray(split + 4);
        if (answer.status === 101) {
          if (answer.headers["sec-websocket-accept"] !== accept) {
            return fail(new InvalidResponse("the server's WebSocket handshake is wrong"));
          }
          clearTimeout(timer);
          socket.removeAllListeners();
          const connection = new WebSocketConnection(socket);
          resolve(connection);
          if (rest.length > 0) {
            connection.pending.push(rest);
            connection.pendingSize = rest.length;
            // After whoever waits has set its handlers.
            setImmediate(() => connection.parse());
          }
          return undefined;
        }
        const length = Number(answer.headers["content-length"] ?? NaN);
        if (rest.length >= length) fail(fromResponse(answer.status, answer.headers, rest.subarray(0, length)));
        return undefined;
      });
      socket.write(lines.join("\r\n") + "\r\n\r\n");
      socket.resume();
    });
  }

  get isOpen(): boolean { return !this.finished && !this.sentClose && this.told === undefined; }

  sendText(text: string): boolean { return this.frame(1, Buffer.from(text)); }

  /** Sends a binary message that begins with a byte of its own, if one is given. False when it is to be waited for. */
  sendBinary(data: Uint8Array, first?: number): boolean { return this.frame(2, data, first); }

  /** Waits until what was sent is on its way. */
  async drain(): Promise<void> {
    if (!this.finished && this.socket.writableNeedDrain) await new Promise<void>((resolve) => this.draining.push(resolve));
  }

  /** Stops and resumes reading from the network. */
  hold(on: boolean): void {
    if (on === this.held) return;
    this.held = on;
    if (on) this.socket.pause();
    else {
      this.socket.resume();
      // What was already read when it stopped, and the end if that came meanwhile.
      setImmediate(() => {
        this.parse();
        if (!this.held) this.heldEnd?.();
      });
    }
  }

  /** Whether the server answers within a time. */
  async ping(timeout: number): Promise<boolean> {
    if (!this.isOpen) return false;
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), timeout);
      this.pongs.push(() => { clearTimeout(timer); resolve(this.isOpen); });
      this.frame(9, Buffer.alloc(0));
    });
  }

  /** Closes with a handshake, and without one after two seconds. */
  async close(code = 1000): Promise<void> {
    if (this.finished) return;
    this.hold(false);
    this.sendClose(code);
    const timer = setTimeout(() => this.socket.destroy(), 2000);
    await this.closed;
    clearTimeout(timer);
  }

  destroy(): void { this.socket.destroy(); }

  /** Whether this connection alone keeps the program running. */
  ref(on: boolean): void {
    if (on) this.socket.ref();
    else this.socket.unref();
  }

  private drained(): void {
    const waiting = this.draining;
    this.draining = [];
    for (const resume of waiting) resume();
  }

  private beat(): void {
    if (!this.held && Date.now() - this.lastHeard > 45_000) return void this.socket.destroy();
    if (this.isOpen) this.frame(9, Buffer.alloc(0));
  }

  private sendClose(code: number): void {
    if (this.sentClose) return;
    const body = Buffer.alloc(2);
    body.writeUInt16BE(code, 0);
    this.frame(8, body);
    this.sentClose = true;
  }

  private frame(opcode: number, data: Uint8Array, first?: number): boolean {
    if (this.finished || this.sentClose) return true;
    const size = data.length + (first === undefined ? 0 : 1);
    const headSize = (size < 126 ? 2 : size < 65536 ? 4 : 10) + 4;
    const out = Buffer.allocUnsafe(headSize + size);
    out[0] = 0x80 | opcode;
    if (size < 126) out[1] = 0x80 | size;
    else if (size < 65536) { out[1] = 0x80 | 126; out.writeUInt16BE(size, 2); }
    else { out[1] = 0x80 | 127; out.writeUIntBE(0, 2, 2); out.writeUIntBE(size, 4, 6); }
    const mask = randomBytes(4);
    mask.copy(out, headSize - 4);
    let at = headSize;
    if (first !== undefined) out[at++] = first ^ mask[0]!;
    const turn = first === undefined ? 0 : 1;
    const keys = [mask[turn % 4]!, mask[(turn + 1) % 4]!, mask[(turn + 2) % 4]!, mask[(turn + 3) % 4]!];
    const [k0, k1, k2, k3] = keys as [number, number, number, number];
    let i = 0;
    for (const end = data.length - 3; i < end; i += 4, at += 4) {
      out[at] = data[i]! ^ k0;
      out[at + 1] = data[i + 1]! ^ k1;
      out[at + 2] = data[i + 2]! ^ k2;
      out[at + 3] = data[i + 3]! ^ k3;
    }
    for (; i < data.length; i++) out[at++] = data[i]! ^ keys[i % 4]!;
    return this.socket.write(out);
  }

  private take(chunk: Buffer): void {
    this.lastHeard = Date.now();
    this.pending.push(chunk);
    this.pendingSize += chunk.length;
    if (this.pendingSize >= this.needed) this.parse();
  }

  private parse(): void {
    if (this.broken || this.pending.length === 0) return;
    let buffer = this.pending.length === 1 ? this.pending[0]! : Buffer.concat(this.pending, this.pendingSize);
    let at = 0;
    this.needed = 2;
    while (!this.held) {
      const left = buffer.length - at;
      if (left < 2) { this.needed = 2; break; }
      const first = buffer[at]!;
      let size = buffer[at + 1]! & 0x7f;
      let head = 2;
      if (size === 126) {
        if (left < 4) { this.needed = 4; break; }
        size = buffer.readUInt16BE(at + 2);
        head = 4;
      } else if (size === 127) {
        if (left < 10) { this.needed = 10; break; }
        size = buffer.readUIntBE(at + 4, 6) + (buffer.readUInt16BE(at + 2) ? Infinity : 0);
        head = 10;
      }
      if (size > messageSizeMax || (buffer[at + 1]! & 0x80) !== 0) return this.fail(size > messageSizeMax ? 1009 : 1002);
      if (left < head + size) { this.needed = head + size; break; }
      const body = buffer.subarray(at + head, at + head + size);
      at += head + size;
      this.message(first & 0x0f, (first & 0x80) !== 0, body);
      if (this.broken) return;
    }
    buffer = buffer.subarray(at);
    this.pending = buffer.length > 0 ? [buffer] : [];
    this.pendingSize = buffer.length;
  }

  private message(opcode: number, last: boolean, body: Buffer): void {
    switch (opcode) {
      case 0: case 1: case 2:
        if (opcode !== 0 && last) {
          if (opcode === 1) this.onText(body.toString("utf8"));
          else this.onBinary(body);
          return;
        }
        if ((opcode === 0) !== (this.parts.length > 0)) return this.fail(1002);
        if (opcode !== 0) this.partsOpcode = opcode;
        this.parts.push(body);
        this.partsSize += body.length;
        if (this.partsSize > messageSizeMax) return this.fail(1009);
        if (last) {
          const whole = Buffer.concat(this.parts);
          this.parts = [];
          this.partsSize = 0;
          if (this.partsOpcode === 1) this.onText(whole.toString("utf8"));
          else this.onBinary(whole);
        }
        return;
      case 8:
        this.told = {
          code: body.length >= 2 ? body.readUInt16BE(0) : 1005,
          reason: body.length > 2 ? body.toString("utf8", 2) : "",
        };
        this.sendClose(this.told.code === 1005 ? 1000 : this.told.code);
        this.socket.end();
        setTimeout(() => this.socket.destroy(), 2000).unref?.();
        return;
      case 9: this.frame(10, body); return;
      case 10: this.pongs.shift()?.(); return;
      default: this.fail(1002);
    }
  }

  private fail(code: number): void {
    this.sendClose(code);
    this.told = { code, reason: "the server broke the protocol" };
    this.broken = true;
    this.pending = [];
    this.socket.destroy();
  }

  private finish(): void {
    if (this.finished) return;
    this.finished = true;
    clearInterval(this.heart);
    this.drained();
    for (const pong of this.pongs.splice(0)) pong();
    // What arrived before the end is told before it.
    const end = () => { this.onClose(this.told ?? { code: 1006, reason: "" }); this.tellClosed(); };
    if (this.held) this.heldEnd = () => { this.heldEnd = undefined; end(); };
    else end();
  }
}

function readHead(head: Buffer): { status: number; headers: Record<string, string> } {
  const [status, ...lines] = head.toString("latin1").split("\r\n");
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(":");
    if (colon > 0) headers[line.slice(0, colon).trim().toLowerCase()] = line.slice(colon + 1).trim();
  }
  return { status: Number(status?.split(" ")[1]) || 0, headers };
}
