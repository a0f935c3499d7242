// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// Connections to ports of a sprite, and local ports that lead there.
import * as net from "node:net";
import { Duplex } from "node:stream";
import { CannotConnect, ConnectionLost, Timeout } from "./errors.js";
import { segment, Transport } from "./http.js";
import type { WebSocketConnection } from "./websocket.js";

/** A TCP connection to a port of the sprite: a Duplex. The end of either side closes the other. */
export class Connection extends Duplex {
  private constructor(private readonly socket: WebSocketConnection) {
    super();
    socket.onText = () => {};
    socket.onBinary = (data) => { if (data.length > 0 && !this.push(data)) socket.hold(true); };
    socket.onClose = (close) => {
      if (close.code === 1000) this.push(null);
      else this.destroy(new ConnectionLost("the connection to the port broke off"));
    };
  }

  /** @internal */
  static async open(transport: Transport, sprite: string, port: number, host: string): Promise<Connection> {
    const socket = await transport.dial(`/v1/sprites/${segment(sprite)}/proxy`);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        socket.destroy();
        reject(new Timeout(`port ${port} of '${sprite}' did not answer in time`));
      }, 30_000);
      const refuse = (why: string) => {
        clearTimeout(timer);
        reject(new CannotConnect(`cannot connect to port ${port} of '${sprite}': ${why}`, {
          remedy: "check that something listens there",
        }));
      };
      socket.onClose = (close) => refuse(close.reason || "the connection ended");
      socket.onText = (text) => {
        clearTimeout(timer);
        if (text.includes('"connected"')) resolve(new Connection(socket));
        else { refuse(text); socket.destroy(); }
      };
      socket.sendText(JSON.stringify({ host, port }));
    });
  }

  override _read(): void { this.socket.hold(false); }
  override _write(chunk: Buffer, _: string, done: (error?: Error | null) => void): void {
    if (this.socket.sendBinary(chunk)) done();
    else this.socket.drain().then(() => done(), done);
  }
  override _final(done: (error?: Error | null) => void): void { void this.socket.close().then(() => done()); }
  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    void this.socket.close().then(() => done(error));
  }
}

/** A local port whose connections go to a port of the sprite. */
export class Forward {
  private readonly open = new Set<net.Socket>();
  private constructor(private readonly server: net.Server, readonly port: number) {}

  /** @internal */
  static async listen(
    transport: Transport, sprite: string, port: number, host: string, localPort: number, localHost: string,
  ): Promise<Forward> {
    const server = net.createServer();
    const forward = new Forward(server, port);
    server.on("connection", (local: net.Socket) => {
      forward.open.add(local);
      local.on("error", () => {});
      local.on("close", () => forward.open.delete(local));
      Connection.open(transport, sprite, port, host).then((remote) => {
        remote.on("error", () => local.destroy());
        local.on("close", () => remote.destroy());
        local.pipe(remote).pipe(local);
      }, () => local.destroy()); // The local side sees that the connection ends.
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(localPort, localHost, resolve);
    });
    return forward;
  }

  get localPort(): number { return (this.server.address() as net.AddressInfo).port; }

  async close(): Promise<void> {
    for (const local of this.open) local.destroy();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }
}
