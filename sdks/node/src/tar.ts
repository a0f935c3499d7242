// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// Folders as tar streams: ustar with pax headers where a name or size needs one.
import { createReadStream, createWriteStream, promises as fs } from "node:fs";
import * as path from "node:path";
import { FileError } from "./errors.js";

function header(name: string, mode: number, size: number, mtime: number, type: string, link = ""): Buffer {
  const block = Buffer.alloc(512);
  const octal = (value: number, at: number, width: number) => {
    block.write(`${value.toString(8).padStart(width - 1, "0")}\0`, at, "latin1");
  };
  Buffer.from(name).copy(block, 0, 0, 100);
  octal(mode & 0o7777, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size > 0o77777777777 ? 0 : size, 124, 12);
  octal(Math.max(0, Math.floor(mtime)), 136, 12);
  block.write("        ", 148, "latin1");
  block.write(type, 156, "latin1");
  Buffer.from(link).copy(block, 157, 0, 100);
  block.write("ustar\x0000", 257, "latin1");
  octal(block.reduce((sum, byte) => sum + byte, 0), 148, 7);
  return block;
}

const padding = (size: number): Buffer => Buffer.alloc((512 - (size % 512)) % 512);

function pax(records: Record<string, string>): Buffer {
  const lines = Object.entries(records).map(([key, value]) => {
    const rest = Buffer.byteLength(` ${key}=${value}\n`);
    let length = rest + String(rest).length;
    if (String(length).length + rest !== length) length = rest + String(length).length;
    return `${length} ${key}=${value}\n`;
  });
  const body = Buffer.from(lines.join(""));
  return Buffer.concat([header("pax", 0o644, body.length, 0, "x"), body, padding(body.length)]);
}

/** Everything in a folder. */
export async function* pack(folder: string, below = ""): AsyncGenerator<Buffer> {
  for (const child of (await fs.readdir(path.join(folder, below))).sort()) {
    const name = below ? `${below}/${child}` : child;
    const full = path.join(folder, name);
    const stat = await fs.lstat(full);
    const link = stat.isSymbolicLink() ? await fs.readlink(full) : "";
    const size = stat.isFile() ? stat.size : 0;
    const type = stat.isFile() ? "0" : stat.isDirectory() ? "5" : stat.isSymbolicLink() ? "2" : undefined;
    if (type === undefined) continue; // Sockets, pipes and devices.
    const records: Record<string, string> = {};
    if (Buffer.byteLength(name) > 99) records["path"] = name;
    if (Buffer.byteLength(link) > 99) records["linkpath"] = link;
    if (size > 0o77777777777) records["size"] = String(size);
    if (Object.keys(records).length > 0) yield pax(records);
    yield header(type === "5" ? `${name}/` : name, stat.mode, size, stat.mtimeMs / 1000, type, link);
    if (type === "0") {
      let sent = 0;
      for await (const chunk of createReadStream(full)) {
        sent += (chunk as Buffer).length;
        if (sent > size) throw new FileError(`${full} grew while it was read`);
        yield chunk as Buffer;
      }
      if (sent !== size) throw new FileError(`${full} shrank while it was read`);
      yield padding(size);
    } else if (type === "5") yield* pack(folder, name);
  }
  if (below === "") yield Buffer.alloc(1024);
}

/** Takes exact numbers of bytes from chunks. */
class Taker {
  private rest = Buffer.alloc(0);
  private readonly source: AsyncIterator<Buffer>;
  constructor(source: AsyncIterable<Buffer>) { this.source = source[Symbol.asyncIterator](); }

  async *take(count: number): AsyncGenerator<Buffer> {
    while (count > 0) {
      if (this.rest.length === 0) {
        const next = await this.source.next();
        if (next.done) throw new FileError("the archive ends too early");
        this.rest = next.value;
        continue;
      }
      const part = this.rest.subarray(0, Math.min(count, this.rest.length));
      this.rest = this.rest.subarray(part.length);
      count -= part.length;
      yield part;
    }
  }

  async exactly(count: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for await (const part of this.take(count)) parts.push(part);
    return Buffer.concat(parts);
  }

  async drain(): Promise<void> { while (!(await this.source.next()).done) { /* Zeros behind the end. */ } }
}

const textAt = (block: Buffer, at: number, width: number): string => {
  const end = block.indexOf(0, at);
  return block.toString("utf8", at, end < 0 || end > at + width ? at + width : end);
};

/** Unpacks into a folder. What comes out of a sprite is not to be trusted: nothing may lead out of the folder. */
export async function unpack(source: AsyncIterable<Buffer>, folder: string): Promise<void> {
  await fs.mkdir(folder, { recursive: true });
  const root = await fs.realpath(folder);
  const taker = new Taker(source);
  let records: Record<string, string> = {};
  for (;;) {
    const block = await taker.exactly(512);
    if (block.every((byte) => byte === 0)) break;
    const type = textAt(block, 156, 1) || "0";
    const stored = (block[124]! & 0x80) !== 0
      ? Number(block.readBigUInt64BE(128)) : parseInt(textAt(block, 124, 12).trim() || "0", 8);
    const size = records["size"] !== undefined ? Number(records["size"]) : stored;
    if (!Number.isSafeInteger(size) || size < 0) throw new FileError("the archive has an entry of no sensible size");
    if (type === "x" || type === "L" || type === "K" || type === "g") {
      if (size > 1 << 20) throw new FileError("the archive has a header that is too long");
      const body = await taker.exactly(size);
      await taker.exactly(padding(size).length);
      if (type === "L") records["path"] = textAt(body, 0, body.length);
      else if (type === "K") records["linkpath"] = textAt(body, 0, body.length);
      else if (type === "x") readPax(body, records);
      continue;
    }
    const prefix = textAt(block, 345, 155);
    const isUstar = block.toString("latin1", 257, 262) === "ustar" && block[263] !== 0x20;
    const name = records["path"] ?? (isUstar && prefix ? `${prefix}/` : "") + textAt(block, 0, 100);
    const link = records["linkpath"] ?? textAt(block, 157, 100);
    const mode = parseInt(textAt(block, 100, 8).trim() || "644", 8) & 0o777;
    records = {};
    const target = await place(root, name);
    if (type === "5") {
      if (target !== root) await fs.mkdir(target, { recursive: true, mode: mode | 0o700 });
    } else if (type === "0" || type === "7") {
      await fs.rm(target, { force: true });
      const file = createWriteStream(target, { mode, flags: "wx" });
      try {
        for await (const part of taker.take(size)) {
          if (!file.write(part)) await new Promise<void>((resolve, reject) => {
            file.once("drain", resolve);
            file.once("error", reject);
          });
        }
      } finally {
        await new Promise<void>((resolve, reject) => { file.once("error", reject); file.end(resolve); });
      }
      await taker.exactly(padding(size).length);
      continue;
    } else if (type === "2") {
      if (!stays(path.relative(root, path.dirname(target)), link)) throw refused(name);
      await fs.rm(target, { force: true });
      await fs.symlink(link, target);
    } else if (type === "1") {
      const original = await place(root, link);
      // A link, at another depth, would lead elsewhere.
      if (!(await fs.lstat(original)).isFile()) throw refused(name);
      await fs.rm(target, { force: true });
      await fs.link(original, target);
    } else throw refused(name);
    for await (const _ of taker.take(size + padding(size).length)) { /* Nothing has content but files. */ }
  }
  await taker.drain();
}

function readPax(body: Buffer, records: Record<string, string>): void {
  for (let at = 0; at < body.length;) {
    const space = body.indexOf(0x20, at);
    const length = parseInt(body.toString("latin1", at, space), 10);
    if (space < 0 || !(length > 0)) return;
    const text = body.toString("utf8", space + 1, at + length - 1);
    const equals = text.indexOf("=");
    records[text.slice(0, equals)] = text.slice(equals + 1);
    at += length;
  }
}

const inside = (root: string, target: string): boolean => target === root || target.startsWith(root + path.sep);
/**
 * Whether a link stays in the root, whatever other links it leads through: ".." behind a name could mean the parent of another
 * link's target, so it comes first or not at all.
 */
function stays(folder: string, link: string): boolean {
  const parts = link.split(/[/\\]/).filter((part) => part !== "" && part !== ".");
  const names = parts.findIndex((part) => part !== "..");
  const up = names < 0 ? parts.length : names;
  return !path.isAbsolute(link) && up <= folder.split(path.sep).filter(Boolean).length && !parts.slice(up).includes("..");
}

const refused = (name: string): FileError =>
  new FileError(`refused to unpack '${name}': it leads out of the folder or is no plain file`, { code: "EINVAL" });

/** Where an entry goes; the folders above it are made, and none of them may be a link. */
async function place(root: string, name: string): Promise<string> {
  const target = path.resolve(root, name);
  if (path.isAbsolute(name) || !inside(root, target)) throw refused(name);
  let folder = root;
  for (const part of path.relative(root, path.dirname(target)).split(path.sep).filter(Boolean)) {
    folder = path.join(folder, part);
    const stat = await fs.lstat(folder).catch(() => undefined);
    if (!stat) await fs.mkdir(folder);
    else if (!stat.isDirectory()) throw refused(name);
  }
  return target;
}
