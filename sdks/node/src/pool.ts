// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// Control connections that are used again, and the bound on connections of commands.
import { NotFound } from "./errors.js";
import { Query, segment, Transport } from "./http.js";
import { WebSocketConnection } from "./websocket.js";

/** A kept connection that was idle for longer is asked whether it still lives before it gets a command. */
const trustedIdle = 2000;

interface Kept { connection: WebSocketConnection; since: number }

export class Pool {
  private readonly idle = new Map<string, Kept[]>();
  private places: number;
  private waiting: (() => void)[] = [];
  private readonly withoutControl = new Set<string>();
  private sweeper?: ReturnType<typeof setInterval>;

  constructor(readonly transport: Transport) { this.places = transport.options.connectionsMax; }

  private async take(): Promise<void> {
    if (this.places > 0) this.places--;
    else await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  private give(): void {
    const next = this.waiting.shift();
    if (next) next();
    else this.places++;
  }

  /** A control connection, with a place taken; undefined (and no place) where the server has none. */
  async control(sprite: string): Promise<WebSocketConnection | undefined> {
    if (!this.transport.options.control || this.withoutControl.has(sprite)) return undefined;
    await this.take();
    try {
      const kept = this.idle.get(sprite) ?? [];
      for (let one = kept.pop(); one; one = kept.pop()) {
        if (!one.connection.isOpen) continue;
        one.connection.ref(true);
        if (Date.now() - one.since < trustedIdle || await one.connection.ping(2000)) return one.connection;
        one.connection.destroy();
      }
      return await this.transport.dial(`/v1/sprites/${segment(sprite)}/control`);
    } catch (error) {
      this.give();
      if (!(error instanceof NotFound) || error.message.startsWith("there is no sprite")) throw error;
      this.withoutControl.add(sprite);
      return undefined;
    }
  }

  /** A connection for one command, with a place taken. */
  async direct(path: string, query: Query = []): Promise<WebSocketConnection> {
    await this.take();
    try {
      return await this.transport.dial(path, query);
    } catch (error) {
      this.give();
      throw error;
    }
  }

  /** Takes a control connection back, and its place; false if there are enough and it is to be closed. */
  keep(sprite: string, connection: WebSocketConnection): boolean {
    if (!connection.isOpen) return false;
    let kept = this.idle.get(sprite);
    if (!kept) this.idle.set(sprite, kept = []);
    if (kept.length >= this.transport.options.idleConnectionsMax) return false;
    connection.onText = () => {};
    connection.onBinary = () => {};
    connection.onClose = () => {};
    // Being kept is no reason for a program to go on.
    connection.ref(false);
    kept.push({ connection, since: Date.now() });
    this.give();
    if (!this.sweeper) {
      this.sweeper = setInterval(() => this.sweep(), Math.min(this.transport.options.idleTimeout, 5000));
      (this.sweeper as unknown as { unref(): void }).unref();
    }
    return true;
  }

  /** Closes a connection and gives its place back. */
  async closeOne(connection: WebSocketConnection): Promise<void> {
    this.give();
    await connection.close();
  }

  private sweep(): void {
    const now = Date.now();
    for (const [sprite, kept] of this.idle) {
      while (kept[0] && (now - kept[0].since >= this.transport.options.idleTimeout || !kept[0].connection.isOpen)) {
        void kept.shift()!.connection.close();
      }
      if (kept.length === 0) this.idle.delete(sprite);
    }
    if (this.idle.size === 0) {
      clearInterval(this.sweeper);
      this.sweeper = undefined;
    }
  }

  /** Closes the kept connections of a sprite that is gone. */
  forget(sprite: string): void {
    this.withoutControl.delete(sprite);
    const kept = this.idle.get(sprite) ?? [];
    this.idle.delete(sprite);
    for (const one of kept) void one.connection.close();
  }

  async close(): Promise<void> {
    clearInterval(this.sweeper);
    const kept = [...this.idle.values()].flat();
    this.idle.clear();
    await Promise.all(kept.map((one) => one.connection.close()));
  }
}
