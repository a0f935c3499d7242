// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// HTTP requests, NDJSON streams and WebSocket dials, with errors told as SpriteError.
import * as http from "node:http";
import { Readable } from "node:stream";
import { dial, DialOptions } from "./dial.js";
import { CannotConnect, ConnectionLost, fromResponse, InvalidRequest, InvalidResponse, SpriteError, Timeout, Unauthorized, Unavailable } from "./errors.js";
import { WebSocketConnection } from "./websocket.js";

export const version = "0.1.0";

/** How a client behaves. Every duration is in milliseconds. */
export interface ClientOptions extends Partial<DialOptions> {
  /** The server's address; without it SPRITES_API_URL, else http://127.0.0.1:7780. */
  baseUrl?: string;
  /** The token; without it SPRITE_TOKEN. */
  token?: string;
  /** How long a request may take that is no stream. Default: 120000. */
  requestTimeout?: number;
  /** Commands that run at once over connections of their own; more wait for a free one. Default: 1024. */
  connectionsMax?: number;
  /** Control connections that are kept for the next command, for each sprite. Default: 16. */
  idleConnectionsMax?: number;
  /** How long a control connection is kept without use. Default: 60000. */
  idleTimeout?: number;
  /** Whether commands use kept control connections. Default: true. */
  control?: boolean;
  userAgent?: string;
}

/** Bytes to send. */
export type Content = string | Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
export type Query = [string, string][];
export type JSONObject = Record<string, any>;

interface Request {
  query?: Query;
  json?: unknown;
  content?: Content;
  timeout?: number;
}

/** How long to wait before a read whose connection was lost is tried again, each time: nine seconds in all. */
export const readWaits = [100, 200, 400, 800, 1500, 2000, 2000, 2000];

/** Whether an error is about the way to the server, or a server that is not there yet. */
export function isPassing(error: unknown): boolean {
  return error instanceof ConnectionLost || error instanceof CannotConnect || error instanceof Unavailable;
}

/** Tries again for some seconds while the server cannot be reached: only for what may be done twice. */
export async function whileUnreachable<Value>(work: () => Promise<Value>): Promise<Value> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (!isPassing(error) || attempt === readWaits.length) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, readWaits[attempt]));
  }
}

/** A path segment. */
export const segment = encodeURIComponent;

export class Transport {
  readonly baseUrl: string;
  readonly options: Required<Omit<ClientOptions, "proxy" | "ca">> & DialOptions;
  private readonly headers: Record<string, string>;
  private readonly agent: http.Agent;

  constructor(given: ClientOptions) {
    const token = given.token ?? process.env["SPRITE_TOKEN"] ?? "";
    this.baseUrl = (given.baseUrl ?? process.env["SPRITES_API_URL"] ?? "http://127.0.0.1:7780").replace(/\/+$/, "");
    if (!/^https?:\/\//.test(this.baseUrl)) {
      throw new InvalidRequest(`invalid base URL '${this.baseUrl}': it begins with neither http:// nor https://`);
    }
    if (!token) throw new Unauthorized("no token was given");
    this.options = {
      connectTimeout: 10_000, requestTimeout: 120_000, connectionsMax: 1024, idleConnectionsMax: 16,
      idleTimeout: 60_000, control: true, userAgent: `sprite-env-node/${version}`, ...given, token, baseUrl: this.baseUrl,
    };
    this.headers = { Authorization: `Bearer ${token}`, "User-Agent": this.options.userAgent };
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 64, maxFreeSockets: 16, timeout: this.options.idleTimeout });
    const url = new URL(this.baseUrl);
    // The agent's own way knows no proxies.
    (this.agent as unknown as { createConnection: unknown }).createConnection = (
      _: unknown, told: (error: Error | null, socket?: unknown) => void,
    ): void => { dial(url, this.options).then((socket) => told(null, socket), (error: Error) => told(error)); };
  }

  close(): void { this.agent.destroy(); }

  private url(path: string, query: Query = []): URL {
    const text = query.map(([name, value]) => `${segment(name)}=${segment(value)}`).join("&");
    return new URL(this.baseUrl + path + (text ? `?${text}` : ""));
  }

  /** A successful answer whose body is still to be read. */
  async open(method: string, path: string, request: Request = {}): Promise<http.IncomingMessage> {
    const url = this.url(path, request.query);
    const headers: Record<string, string> = { ...this.headers, Host: url.host };
    let content = request.content;
    if (request.json !== undefined) {
      content = JSON.stringify(request.json);
      headers["Content-Type"] = "application/json";
    }
    if (typeof content === "string") content = Buffer.from(content);
    if (content instanceof Uint8Array) headers["Content-Length"] = String(content.length);
    else if (content === undefined && method !== "GET") headers["Content-Length"] = "0";
    const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
      const sent = http.request({
        method, headers, agent: this.agent, path: url.pathname + url.search, host: url.hostname, setHost: false,
      });
      const limit = request.timeout ?? this.options.requestTimeout;
      const timer = limit > 0 ? setTimeout(() => {
        reject(new Timeout(`${method} ${path} took too long; it may go on at the server`));
        sent.destroy();
      }, limit) : undefined;
      sent.on("response", (answer: http.IncomingMessage) => { clearTimeout(timer); resolve(answer); });
      sent.on("error", (error: Error) => { clearTimeout(timer); reject(this.told(error, method, path)); });
      if (content === undefined || content instanceof Uint8Array) sent.end(content);
      else {
        const source = Readable.from(content as Iterable<Uint8Array>, { objectMode: false });
        source.on("error", (error: Error) => { reject(error); sent.destroy(); });
        source.pipe(sent);
      }
    });
    const status = response.statusCode ?? 0;
    if (status >= 200 && status < 300) return response;
    throw fromResponse(status, response.headers, await this.body(response, method, path));
  }

  private told(error: unknown, method: string, path: string): Error {
    if (error instanceof SpriteError) return error;
    const failure = error as { code?: string; message?: string };
    if (failure.code === "ECONNREFUSED" || failure.code === "ENOTFOUND") {
      return new CannotConnect(`cannot connect for ${method} ${path}: ${failure.message}`, { cause: error });
    }
    const lost = new ConnectionLost(`the connection ended during ${method} ${path}: ${failure.message}`, { cause: error });
    // A read has changed nothing, whatever became of it.
    lost.mayBeRunning = method !== "GET";
    return lost;
  }

  private async body(response: http.IncomingMessage, method: string, path: string): Promise<Buffer> {
    const chunks: Buffer[] = [];
    for await (const chunk of this.chunks(response, method, path)) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  /** The body of an answer; one that breaks off throws. */
  async *chunks(response: http.IncomingMessage, method: string, path: string): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of response) yield chunk as Buffer;
    } catch (error) {
      throw this.told(error, method, path);
    } finally {
      if (!response.complete) response.destroy();
    }
    if (!response.complete) throw this.told(new Error("it ended too early"), method, path);
  }

  /** The body of a successful answer. A read whose connection was lost is tried again for some seconds. */
  async request(method: string, path: string, request: Request = {}): Promise<Buffer> {
    let wasLost = false;
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.body(await this.open(method, path, request), method, path);
      } catch (error) {
        // A server that was never there is told at once.
        wasLost ||= error instanceof ConnectionLost;
        if (method !== "GET" || !isPassing(error) || !wasLost || attempt === readWaits.length) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, readWaits[attempt]));
    }
  }

  async json(method: string, path: string, request: Request = {}): Promise<any> {
    const body = await this.request(method, path, request);
    try {
      return body.length > 0 ? JSON.parse(body.toString("utf8")) : undefined;
    } catch {
      throw new InvalidResponse(`the answer of ${method} ${path} is not JSON`);
    }
  }

  /** The objects of an NDJSON stream. */
  async *lines(method: string, path: string, request: Request = {}): AsyncGenerator<JSONObject> {
    const response = await this.open(method, path, { timeout: 0, ...request });
    let rest = Buffer.alloc(0);
    for await (const chunk of this.chunks(response, method, path)) {
      rest = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
      for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
        const line = rest.toString("utf8", 0, end).trim();
        rest = rest.subarray(end + 1);
        if (line) yield this.parsed(line, method, path);
      }
    }
    const line = rest.toString("utf8").trim();
    if (line) yield this.parsed(line, method, path);
  }

  private parsed(line: string, method: string, path: string): JSONObject {
    try {
      return JSON.parse(line) as JSONObject;
    } catch {
      throw new InvalidResponse(`a line of ${method} ${path} is not JSON`);
    }
  }

  /** An open WebSocket. */
  async dial(path: string, query: Query = []): Promise<WebSocketConnection> {
    return WebSocketConnection.open(this.url(path, query), this.headers, this.options, this.options.requestTimeout);
  }
}
