// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
import { Command, Process } from "./command.js";
import { CannotConnect, ConnectionLost, fromEvent, Unavailable } from "./errors.js";
import { CommandOptions, Exec } from "./exec.js";
import { Connection, Forward } from "./forward.js";
import { ClientOptions, JSONObject, Query, segment, Transport } from "./http.js";
import {
  CommandLine, durationOf, Event, eventOf, infoOf, Limits, limitsBody, Session, sessionOf, SpriteInfo,
} from "./models.js";
import { Checkpoints, Files, Policy, Secrets, Services } from "./parts.js";
import { Pool } from "./pool.js";
import { Attempt, attempt, AttemptOptions, Diff, diff, DiffOptions } from "./states.js";

/** What a new sprite is given. */
export interface CreateOptions {
  labels?: string[];
  environment?: Record<string, string>;
  limits?: Limits;
  base?: string;
  urlAuth?: "sprite" | "public";
}

/** A server. Close it when done: it keeps connections. */
export class Client {
  /** @internal */
  readonly transport: Transport;
  /** @internal */
  readonly pool: Pool;

  constructor(options: ClientOptions = {}) {
    this.transport = new Transport(options);
    this.pool = new Pool(this.transport);
  }

  get baseUrl(): string { return this.transport.baseUrl; }

  /** Creates a sprite; it can be used at once. */
  async create(name: string, options: CreateOptions = {}): Promise<Sprite> {
    const json = {
      name, labels: options.labels ?? [], environment: options.environment, base: options.base,
      config: options.limits && limitsBody(options.limits), url_settings: options.urlAuth && { auth: options.urlAuth },
    };
    return new Sprite(this, name, infoOf(await this.transport.json("POST", "/v1/sprites", { json })));
  }

  /** The sprite of this name; rejects with `NotFound` if there is none. */
  async get(name: string): Promise<Sprite> {
    const sprite = this.sprite(name);
    await sprite.refresh();
    return sprite;
  }

  /** A handle on the sprite of this name; nothing is asked of the server. */
  sprite(name: string): Sprite { return new Sprite(this, name); }

  /** All sprites in the order of their names, page by page. */
  async *list(options: { prefix?: string; pageSize?: number } = {}): AsyncGenerator<Sprite> {
    let token: string | undefined;
    do {
      const query: Query = [["max_results", String(options.pageSize ?? 50)]];
      if (options.prefix) query.push(["prefix", options.prefix]);
      if (token) query.push(["continuation_token", token]);
      const page = await this.transport.json("GET", "/v1/sprites", { query });
      for (const raw of page.sprites) yield new Sprite(this, raw.name, infoOf(raw));
      token = page.has_more ? page.next_continuation_token : undefined;
    } while (token);
  }

  /** Destroys the sprite of this name with all its checkpoints. */
  async destroy(name: string): Promise<void> {
    await this.transport.request("DELETE", `/v1/sprites/${segment(name)}`);
    this.pool.forget(name);
  }

  async close(): Promise<void> {
    await this.pool.close();
    this.transport.close();
  }
}

/** A persistent computer. */
export class Sprite {
  readonly files: Files;
  readonly checkpoints: Checkpoints;
  readonly services: Services;
  readonly policy: Policy;
  readonly secrets: Secrets;
  private readonly path: string;

  /** @internal */
  constructor(private readonly client: Client, readonly name: string, public info?: SpriteInfo) {
    this.path = `/v1/sprites/${segment(name)}`;
    this.files = new Files(client.transport, name);
    this.checkpoints = new Checkpoints(client.transport, name);
    this.services = new Services(client.transport, name);
    this.policy = new Policy(client.transport, name);
    this.secrets = new Secrets(client.transport, name);
  }

  /** Asks the server again. */
  async refresh(): Promise<SpriteInfo> {
    return this.info = infoOf(await this.client.transport.json("GET", this.path));
  }

  /** Changes it; what is undefined stays as it is. */
  async update(changes: { labels?: string[]; urlAuth?: "sprite" | "public"; limits?: Limits }): Promise<SpriteInfo> {
    const json: JSONObject = {
      labels: changes.labels, url_settings: changes.urlAuth && { auth: changes.urlAuth },
      config: changes.limits && limitsBody(changes.limits),
    };
    return this.info = infoOf(await this.client.transport.json("PUT", this.path, { json }));
  }

  /** Destroys it with all its checkpoints. */
  async destroy(): Promise<void> { await this.client.destroy(this.name); }

  /** Makes a new sprite from a checkpoint, or from the disk as it is now. */
  async fork(name: string, options: { checkpoint?: string } = {}): Promise<Sprite> {
    const raw = await this.client.transport.json("POST", `${this.path}/fork`, { json: { name, ...options } });
    return new Sprite(this.client, name, infoOf(raw));
  }

  /** A command: a text for the shell, or a list of arguments. Nothing runs yet. */
  command(command: CommandLine, options: CommandOptions = {}): Command {
    return new Command(this.client.pool, this.name, command, options);
  }

  /** The commands that run. */
  async sessions(): Promise<Session[]> {
    return (await this.client.transport.json("GET", `${this.path}/exec`)).sessions.map(sessionOf);
  }

  /** Attaches to a command that runs: what it printed comes first. Leave with `detach`. */
  async attach(sessionId: string): Promise<Process> {
    return Process.make(undefined, (sink) => Exec.attach(this.client.pool, this.name, sessionId, sink));
  }

  /** Signals a command; SIGKILL follows after the timeout (milliseconds). Its exit code, if it has ended. */
  async kill(
    sessionId: string, options: { signal?: string; timeout?: number } = {},
  ): Promise<number | undefined> {
    const timeout = options.timeout ?? 10_000;
    const query: Query = [["signal", options.signal ?? "TERM"], ["timeout", durationOf(timeout)]];
    let last: JSONObject = {};
    const path = `${this.path}/exec/${segment(sessionId)}/kill`;
    for await (const raw of this.client.transport.lines("POST", path, { query })) last = raw;
    if (last.type === "error") throw fromEvent(last);
    return last.exit_code;
  }

  /** A TCP connection to a port of the sprite. */
  async connect(port: number, options: { host?: string } = {}): Promise<Connection> {
    return Connection.open(this.client.transport, this.name, port, options.host ?? "localhost");
  }

  /** Listens on a local port (0 takes a free one) and leads its connections to a port of the sprite. */
  async forward(
    port: number, options: { localPort?: number; localHost?: string; host?: string } = {},
  ): Promise<Forward> {
    const { localPort = 0, localHost = "127.0.0.1", host = "localhost" } = options;
    return Forward.listen(this.client.transport, this.name, port, host, localPort, localHost);
  }

  /** What differs between two checkpoints, or a checkpoint and the disk as it is now. */
  async diff(from: string, options: DiffOptions = {}): Promise<Diff> {
    return diff(this.client.transport, this.path, from, options);
  }

  /**
   * Runs a command, then `check`; unless both end with 0 the whole disk is rolled back, which ends every command. With
   * `dryRun` it runs in a fork that is dropped.
   */
  async attempt(command: CommandLine, options: AttemptOptions = {}): Promise<Attempt> {
    return attempt(this.client.transport, this.path, command, options);
  }

  /** What became of the sprite: starts, sleeps, checkpoints, restores; `raw.event` names each. As `logs`. */
  events(options: { follow?: boolean } & Record<string, string | boolean | undefined> = {}): AsyncGenerator<Event> {
    return this.logs({ kind: "system,checkpoint", ...options });
  }

  /** The sprite's journal, oldest first. With `follow` it goes on, through lost connections too. */
  async *logs(options: { follow?: boolean } & Record<string, string | boolean | undefined> = {}): AsyncGenerator<Event> {
    const { follow = false, cursor: from, ...filters } = options;
    let cursor = from as string | undefined;
    const path = `${this.path}/logs`;
    const fixed = Object.entries(filters).map(([name, value]): [string, string] => [name, String(value)]);
    const query = (name: string, value: string): Query =>
      [...fixed, [name, value], ...(cursor ? [["cursor", cursor] as [string, string]] : [])];
    for (let more = !follow; more;) {
      const page = await this.client.transport.json("GET", path, { query: query("order", "asc") });
      for (const raw of page.records) yield eventOf(raw);
      cursor = page.next_cursor;
      more = page.has_more && cursor !== undefined;
    }
    for (let wait = 100, failures = 0, wasThere = false; follow; wait = Math.min(wait * 2, 2000)) {
      try {
        for await (const raw of this.client.transport.lines("GET", path, { query: query("follow", "true") })) {
          wait = 100;
          failures = 0;
          if (raw.cursor !== undefined) cursor = String(raw.cursor);
          // A line without an id only says that the connection lives.
          if (raw.id !== undefined) yield eventOf(raw);
        }
      } catch (error) {
        const isPassing = error instanceof ConnectionLost || error instanceof CannotConnect || error instanceof Unavailable;
        // Without a cursor nothing was given yet: the same question again loses nothing, if the server was there.
        wasThere ||= !!cursor || error instanceof ConnectionLost;
        if (!isPassing || !wasThere || ++failures > 20) throw error;
      }
      // The server ends a stream when it stops; the next one goes on behind the last record.
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}
