// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// The parts of a sprite: files, checkpoints, services, policy and secrets.
import { posix } from "node:path";
import { ConnectionLost, fileError, FileMissing, fromEvent } from "./errors.js";
import { Content, JSONObject, Query, segment, Transport } from "./http.js";
import {
  Checkpoint, checkpointOf, durationOf, entryOf, Event, eventOf, FileEntry, PolicyRule, Restored, Secret, secretOf,
  Service, serviceOf,
} from "./models.js";
import { pack, unpack } from "./tar.js";

const hour = 3_600_000;

class Part {
  protected readonly path: string;
  /** @internal */
  constructor(protected readonly transport: Transport, sprite: string) {
    this.path = `/v1/sprites/${segment(sprite)}`;
  }
}

/** How a file operation is done. */
export interface FileOptions {
  /** Act as the sprite's root instead of its user. */
  asRoot?: boolean;
  recursive?: boolean;
}

/** The files of a sprite. Paths are absolute, or relative to the home directory. */
export class Files extends Part {
  private readonly home = "/home/sprite";

  private query(path: string, options: FileOptions = {}, more: Query = []): Query {
    const query: Query = [["path", path], ["workingDir", this.home], ...more];
    if (options.asRoot) query.push(["asRoot", "true"]);
    if (options.recursive) query.push(["recursive", "true"]);
    return query;
  }

  private async post(verb: string, body: JSONObject): Promise<void> {
    await this.transport.json("POST", `${this.path}/fs/${verb}`, { json: { workingDir: this.home, ...body } });
  }

  async read(path: string, options?: FileOptions): Promise<Buffer> {
    return this.transport.request("GET", `${this.path}/fs/read`, { query: this.query(path, options), timeout: hour });
  }

  async readText(path: string, options?: FileOptions): Promise<string> {
    return (await this.read(path, options)).toString("utf8");
  }

  /** The content in chunks; one that breaks off throws. */
  async *readStream(path: string, options?: FileOptions): AsyncGenerator<Buffer> {
    const where = `${this.path}/fs/read`;
    const response = await this.transport.open("GET", where, { query: this.query(path, options), timeout: 0 });
    yield* this.transport.chunks(response, "GET", where);
  }

  /** Writes a whole file: readers see the old content or the new. `mode` is for a file that is not there yet. */
  async write(
    path: string, content: Content, options: FileOptions & { mode?: number; parents?: boolean } = {},
  ): Promise<void> {
    const more: Query = [["mkdirParents", String(options.parents ?? true)]];
    if (options.mode !== undefined) more.push(["mode", options.mode.toString(8).padStart(4, "0")]);
    const query = this.query(path, { asRoot: options.asRoot }, more);
    await this.transport.request("PUT", `${this.path}/fs/write`, { query, content, timeout: hour });
  }

  async list(path = ".", options?: FileOptions): Promise<FileEntry[]> {
    const answer = await this.transport.json("GET", `${this.path}/fs/list`, { query: this.query(path, options) });
    return answer.entries.map(entryOf);
  }

  /** Describes one file or directory. */
  async stat(path: string, options?: FileOptions): Promise<FileEntry> {
    // A listing describes a file itself, but of a directory what is in it; the parent has its entry.
    const normal = posix.normalize(path).replace(/(.)\/$/, "$1");
    const name = posix.basename(normal);
    if (!["", ".", "..", "/"].includes(name)) {
      const found = (await this.list(posix.dirname(normal), options)).find((entry) => entry.name === name);
      if (found) return found;
      throw fileError({ code: "ENOENT", error: "no such file or directory", path }, 404);
    }
    const answer = await this.transport.json("GET", `${this.path}/fs/list`, { query: this.query(path, options) });
    return entryOf({ name, path: answer.path, type: "directory", size: 0, mode: "0755" });
  }

  async exists(path: string, options?: FileOptions): Promise<boolean> {
    try {
      await this.stat(path, options);
      return true;
    } catch (error) {
      if (error instanceof FileMissing) return false;
      throw error;
    }
  }

  /** Makes a directory; one that is there is no error. */
  async mkdir(path: string, options: FileOptions & { parents?: boolean } = {}): Promise<void> {
    const keep = `${path.replace(/\/+$/, "")}/.keep`;
    await this.write(keep, "", options);
    await this.remove(keep, { asRoot: options.asRoot });
  }

  async remove(path: string, options?: FileOptions): Promise<void> {
    await this.transport.request("DELETE", `${this.path}/fs/delete`, { query: this.query(path, options) });
  }

  async rename(source: string, dest: string, options?: FileOptions): Promise<void> {
    await this.post("rename", { source, dest, asRoot: options?.asRoot });
  }

  async copy(source: string, dest: string, options?: FileOptions): Promise<void> {
    await this.post("copy", { source, dest, ...options });
  }

  async chmod(path: string, mode: number, options?: FileOptions): Promise<void> {
    await this.post("chmod", { path, mode: mode.toString(8).padStart(4, "0"), ...options });
  }

  async chown(
    path: string, owner: { uid?: number | string; gid?: number | string }, options: FileOptions = { asRoot: true },
  ): Promise<void> {
    await this.post("chown", { path, ...owner, ...options });
  }

  /** Unpacks a tar stream below a directory and gives the number of its entries. */
  async writeTar(path: string, tar: Content, options?: FileOptions): Promise<number> {
    const request = { query: this.query(path, options), content: tar, timeout: hour };
    return (await this.transport.json("PUT", `${this.path}/fs/archive`, request)).count;
  }

  /** A directory as a tar stream. */
  async *readTar(path: string, options?: FileOptions): AsyncGenerator<Buffer> {
    const where = `${this.path}/fs/archive`;
    const response = await this.transport.open("GET", where, { query: this.query(path, options), timeout: 0 });
    yield* this.transport.chunks(response, "GET", where);
  }

  /** Copies a local directory, with everything in it, to a directory of the sprite in one stream. */
  async upload(local: string, path: string, options?: FileOptions): Promise<number> {
    return this.writeTar(path, pack(local), options);
  }

  /** Copies a directory of the sprite, with everything in it, to a local directory in one stream. */
  async download(path: string, local: string, options?: FileOptions): Promise<void> {
    await unpack(this.readTar(path, options), local);
  }
}

export type Progress = (event: Event) => void;

/** Checkpoints of a sprite's disk. */
export class Checkpoints extends Part {
  async create(comment?: string, onProgress?: Progress): Promise<Checkpoint> {
    const last = await this.last("POST", `${this.path}/checkpoint`, onProgress, comment ? { comment } : {});
    return this.get(last.checkpoint_id);
  }

  /** All, newest first. */
  async list(options: { includeAuto?: boolean; descendingFrom?: string } = {}): Promise<Checkpoint[]> {
    const query: Query = options.includeAuto ? [["includeAuto", "true"]] : [];
    if (options.descendingFrom) query.push(["history", options.descendingFrom]);
    return (await this.transport.json("GET", `${this.path}/checkpoints`, { query })).map(checkpointOf);
  }

  async get(id: string): Promise<Checkpoint> {
    return checkpointOf(await this.transport.json("GET", `${this.path}/checkpoints/${segment(id)}`));
  }

  async delete(id: string): Promise<void> {
    await this.transport.request("DELETE", `${this.path}/checkpoints/${segment(id)}`);
  }

  /** Puts the disk back. Commands that run end; what is replaced is kept as an automatic checkpoint. */
  async restore(id: string, onProgress?: Progress): Promise<Restored> {
    const last = await this.last("POST", `${this.path}/checkpoints/${segment(id)}/restore`, onProgress);
    return { id: last.checkpoint_id, replacedId: last.replaced_id };
  }

  /** Brings back what the last restore replaced. */
  async undo(onProgress?: Progress): Promise<Restored> {
    const last = await this.last("POST", `${this.path}/restore/undo`, onProgress);
    return { id: last.checkpoint_id, replacedId: last.replaced_id };
  }

  private async last(method: string, path: string, progress?: Progress, json?: unknown): Promise<JSONObject> {
    for await (const raw of this.transport.lines(method, path, { json })) {
      if (raw.type === "error") throw fromEvent(raw);
      progress?.(eventOf(raw));
      if (raw.type === "complete") return raw;
    }
    throw new ConnectionLost(`${method} ${path} ended without saying how it went`);
  }
}

/** What a service is. */
export interface ServiceOptions {
  args?: string[];
  needs?: string[];
  httpPort?: number;
  environment?: Record<string, string>;
  directory?: string;
  /** Milliseconds to follow it before the answer ends. Default: 0. */
  follow?: number;
}

/** Commands that a sprite keeps running. */
export class Services extends Part {
  private of(name: string, verb = ""): string { return `${this.path}/services/${segment(name)}${verb}`; }

  /** Defines or replaces a service, starts it and gives what it did while it was followed. */
  async create(name: string, cmd: string, options: ServiceOptions = {}): Promise<Event[]> {
    const json = {
      cmd, args: options.args ?? [], needs: options.needs ?? [], http_port: options.httpPort,
      env: options.environment, dir: options.directory,
    };
    return this.events("PUT", this.of(name), [["duration", durationOf(options.follow ?? 0)]], json);
  }

  async list(): Promise<Service[]> {
    return (await this.transport.json("GET", `${this.path}/services`)).map(serviceOf);
  }

  async get(name: string): Promise<Service> { return serviceOf(await this.transport.json("GET", this.of(name))); }

  async start(name: string, follow = 0): Promise<Event[]> {
    return this.events("POST", this.of(name, "/start"), [["duration", durationOf(follow)]]);
  }

  async restart(name: string, follow = 0): Promise<Event[]> {
    return this.events("POST", this.of(name, "/restart"), [["duration", durationOf(follow)]]);
  }

  /** Stops it until it is started again: SIGTERM, after the timeout SIGKILL. */
  async stop(name: string, timeout = 10_000): Promise<Event[]> {
    return this.events("POST", this.of(name, "/stop"), [["timeout", durationOf(timeout)]]);
  }

  async delete(name: string): Promise<void> { await this.transport.request("DELETE", this.of(name)); }

  async signal(name: string, signal: string): Promise<void> {
    await this.transport.request("POST", `${this.path}/services/signal`, { json: { name, signal } });
  }

  /** The last lines it printed, then for `follow` milliseconds what it prints. */
  async *logs(name: string, options: { lines?: number; follow?: number } = {}): AsyncGenerator<Event> {
    const query: Query = [["lines", String(options.lines ?? 100)]];
    if (options.follow) query.push(["duration", durationOf(options.follow)]);
    for await (const raw of this.transport.lines("GET", this.of(name, "/logs"), { query })) yield eventOf(raw);
  }

  private async events(method: string, path: string, query: Query, json?: unknown): Promise<Event[]> {
    const found: Event[] = [];
    for await (const raw of this.transport.lines(method, path, { query, json })) found.push(eventOf(raw));
    return found;
  }
}

/** What a sprite may reach. */
export class Policy extends Part {
  /** The rules of the network policy; none means that everything is allowed. */
  async get(): Promise<PolicyRule[]> {
    return (await this.transport.json("GET", `${this.path}/policy/network`)).rules;
  }

  /** Replaces the rules. */
  async set(rules: readonly PolicyRule[]): Promise<void> {
    await this.transport.request("POST", `${this.path}/policy/network`, { json: { rules } });
  }
}

/** Secrets that a sprite's HTTPS requests carry and that nothing inside can read, where the operator allows them. */
export class Secrets extends Part {
  async list(): Promise<Secret[]> {
    return (await this.transport.json("GET", `${this.path}/secrets`)).secrets.map(secretOf);
  }

  /**
   * Gives the sprite a secret for one host, or replaces it.
   *
   * `header` is `authorization` unless said otherwise; `format` is what it says, with {} in the place of the value:
   * `Bearer {}` in `authorization`, and the value alone in another header, unless said otherwise.
   */
  async set(id: string, secret: { host: string; value: string; header?: string; format?: string }): Promise<void> {
    const { host, value, header, format } = secret;
    await this.transport.request("PUT", this.of(id), { json: { host, value, header, format } });
  }

  /** Takes a secret away; connections that carry it are cut. */
  async remove(id: string): Promise<void> { await this.transport.request("DELETE", this.of(id)); }

  private of(id: string): string { return `${this.path}/secrets/${segment(id)}`; }
}
