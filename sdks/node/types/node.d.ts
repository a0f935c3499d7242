// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// What the sources use of Node.js, since the distribution's compiler comes without Node's own declarations. Only for
// building: whoever uses the package has @types/node.

interface Buffer extends Uint8Array {
  write(text: string, at?: number, encoding?: string): number;
  toString(encoding?: string, start?: number, end?: number): string;
  subarray(start?: number, end?: number): Buffer;
  indexOf(value: number | string, from?: number): number;
  copy(target: Uint8Array, at?: number, start?: number, end?: number): number;
  readUInt16BE(at: number): number;
  readUIntBE(at: number, bytes: number): number;
  readBigUInt64BE(at: number): bigint;
  writeUInt16BE(value: number, at: number): number;
  writeUIntBE(value: number, at: number, bytes: number): number;
}
declare const Buffer: {
  from(data: string, encoding?: string): Buffer;
  from(data: ArrayLike<number>): Buffer;
  alloc(size: number): Buffer;
  allocUnsafe(size: number): Buffer;
  concat(parts: readonly Uint8Array[], size?: number): Buffer;
  byteLength(text: string): number;
};
declare const process: { env: Record<string, string | undefined> };
declare function setImmediate(action: () => void): unknown;
interface Number { unref?(): void }
interface AbortSignal { readonly reason: any; throwIfAborted(): void }

declare module "node:events" {
  export class EventEmitter {
    on(event: string, listener: (...args: any[]) => void): this;
    once(event: string, listener: (...args: any[]) => void): this;
    removeListener(event: string, listener: (...args: any[]) => void): this;
    removeAllListeners(event?: string): this;
    listenerCount(event: string): number;
    emit(event: string, ...args: any[]): boolean;
  }
}
declare module "node:stream" {
  import { EventEmitter } from "node:events";
  export class Readable extends EventEmitter implements AsyncIterable<any> {
    constructor(options?: { highWaterMark?: number });
    static from(source: Iterable<any> | AsyncIterable<any>, options?: { objectMode?: boolean }): Readable;
    readonly readableLength: number;
    readonly readableFlowing: boolean | null;
    push(chunk: Uint8Array | null): boolean;
    _read(size: number): void;
    resume(): this;
    pause(): this;
    unshift(chunk: Uint8Array): void;
    pipe<T extends Writable | Duplex>(target: T): T;
    destroy(error?: Error): this;
    [Symbol.asyncIterator](): AsyncIterableIterator<any>;
  }
  export class Writable extends EventEmitter {
    constructor(options?: { decodeStrings?: boolean });
    readonly writableNeedDrain: boolean;
    _write(chunk: any, encoding: string, done: (error?: Error | null) => void): void;
    _final(done: (error?: Error | null) => void): void;
    write(chunk: Uint8Array | string): boolean;
    end(chunk?: Uint8Array | string | (() => void)): this;
    destroy(error?: Error): this;
  }
  export class Duplex extends Readable {
    readonly writableNeedDrain: boolean;
    _write(chunk: any, encoding: string, done: (error?: Error | null) => void): void;
    _final(done: (error?: Error | null) => void): void;
    _destroy(error: Error | null, done: (error: Error | null) => void): void;
    write(chunk: Uint8Array | string): boolean;
    end(chunk?: Uint8Array | string): this;
  }
}
declare module "node:string_decoder" {
  export class StringDecoder {
    constructor(encoding: string);
    write(chunk: Uint8Array): string;
    end(): string;
  }
}
declare module "node:net" {
  import { Duplex } from "node:stream";
  import { EventEmitter } from "node:events";
  export class Socket extends Duplex {
    setNoDelay(on: boolean): this;
    ref(): this;
    unref(): this;
  }
  export interface AddressInfo { port: number }
  export class Server extends EventEmitter {
    listen(port: number, host: string, done: () => void): this;
    address(): AddressInfo | string | null;
    close(done?: () => void): this;
  }
  export function connect(options: { host: string; port: number }): Socket;
  export function createServer(): Server;
  export function isIP(text: string): number;
}
declare module "node:tls" {
  import { Socket } from "node:net";
  export function connect(options: {
    socket: Socket; servername?: string; host?: string; ca?: string; ALPNProtocols?: string[];
  }): Socket;
}
declare module "node:http" {
  import { Readable, Writable } from "node:stream";
  export class Agent {
    constructor(options: { keepAlive?: boolean; maxSockets?: number; maxFreeSockets?: number; timeout?: number });
    destroy(): void;
  }
  export class IncomingMessage extends Readable {
    readonly statusCode?: number;
    readonly headers: Record<string, string | string[] | undefined>;
    readonly complete: boolean;
  }
  export function request(options: {
    method: string; headers: Record<string, string>; agent: Agent; path: string; host: string; setHost: boolean;
  }): Writable;
}
declare module "node:crypto" {
  export function randomBytes(size: number): Buffer;
  export function createHash(name: string): { update(data: string): { digest(encoding: string): string } };
}
declare module "node:path" {
  export const sep: string;
  export function join(...parts: string[]): string;
  export function resolve(...parts: string[]): string;
  export function relative(from: string, to: string): string;
  export function dirname(path: string): string;
  export function isAbsolute(path: string): boolean;
  export const posix: {
    normalize(path: string): string; dirname(path: string): string; basename(path: string): string;
  };
}
declare module "node:fs" {
  import { Readable, Writable } from "node:stream";
  export interface Stats {
    mode: number; size: number; mtimeMs: number;
    isFile(): boolean; isDirectory(): boolean; isSymbolicLink(): boolean;
  }
  export const promises: {
    readdir(path: string): Promise<string[]>;
    lstat(path: string): Promise<Stats>;
    readlink(path: string): Promise<string>;
    realpath(path: string): Promise<string>;
    mkdir(path: string, options?: { recursive?: boolean; mode?: number }): Promise<unknown>;
    rm(path: string, options: { force: boolean }): Promise<void>;
    symlink(target: string, path: string): Promise<void>;
    link(target: string, path: string): Promise<void>;
  };
  export function createReadStream(path: string): Readable;
  export function createWriteStream(path: string, options: { mode: number; flags: string }): Writable;
}
