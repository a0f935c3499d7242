// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// Connections to the server: plain or TLS, straight or through an HTTP proxy.
import * as net from "node:net";
import * as tls from "node:tls";
import { CannotConnect } from "./errors.js";

/** How connections are made. */
export interface DialOptions {
  /** Milliseconds that making a connection may take. */
  connectTimeout: number;
  /** A proxy's URL; undefined takes HTTP_PROXY, HTTPS_PROXY and NO_PROXY from the environment, false uses none. */
  proxy?: string | false;
  /** Certificates to trust instead of the system's, in PEM. */
  ca?: string;
}

function proxyFor(url: URL, options: DialOptions): URL | undefined {
  if (options.proxy === false) return undefined;
  if (options.proxy !== undefined) return new URL(options.proxy);
  const env = (name: string) => process.env[name] || process.env[name.toLowerCase()];
  const host = url.hostname.replace(/^\[|\]$/g, "");
  for (const entry of (env("NO_PROXY") ?? "").split(",").map((text) => text.trim().replace(/^\*?\./, ""))) {
    if (entry === "*" || (entry && (host === entry || host.endsWith(`.${entry}`)))) return undefined;
  }
  const text = url.protocol === "https:" ? env("HTTPS_PROXY") : env("HTTP_PROXY");
  return text ? new URL(text.includes("://") ? text : `http://${text}`) : undefined;
}

function portOf(url: URL): number {
  return Number(url.port) || (url.protocol === "https:" ? 443 : 80);
}

/** An open connection to the server of a URL. */
export async function dial(url: URL, options: DialOptions): Promise<net.Socket> {
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const proxy = proxyFor(url, options);
  let socket = await open(proxy ?? url, options);
  if (proxy) {
    await tunnel(socket, url, proxy, options);
    if (url.protocol === "https:") socket = await secure(socket, host, options);
    // Whoever takes it over does not know that it was held; a server says nothing before it is asked.
    else socket.resume();
  }
  socket.setNoDelay(true);
  return socket;
}

async function open(target: URL, options: DialOptions): Promise<net.Socket> {
  const name = target.hostname.replace(/^\[|\]$/g, "");
  const plain = net.connect({ host: name, port: portOf(target) });
  await ready(plain, "connect", target, options);
  return target.protocol === "https:" ? secure(plain, name, options) : plain;
}

async function secure(plain: net.Socket, host: string, options: DialOptions): Promise<net.Socket> {
  const secured = tls.connect({
    socket: plain, servername: net.isIP(host) ? "" : host, host, ca: options.ca, ALPNProtocols: ["http/1.1"],
  });
  await ready(secured, "secureConnect", new URL(`https://${net.isIP(host) === 6 ? `[${host}]` : host}`), options);
  return secured;
}

function ready(socket: net.Socket, event: string, target: URL, options: DialOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (why: string, cause?: unknown) => {
      clearTimeout(timer);
      socket.destroy();
      reject(new CannotConnect(`cannot connect to ${target.origin}: ${why}`, { cause }));
    };
    const timer = setTimeout(() => fail("it took too long"), options.connectTimeout);
    socket.once("error", (error: Error) => fail(error.message || String((error as { code?: string }).code), error));
    socket.once(event, () => {
      clearTimeout(timer);
      socket.removeAllListeners("error");
      resolve();
    });
  });
}

/** Asks a proxy for a way to the server. */
function tunnel(socket: net.Socket, url: URL, proxy: URL, options: DialOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const target = `${url.hostname}:${portOf(url)}`;
    const login = decodeURIComponent(proxy.username) + ":" + decodeURIComponent(proxy.password);
    const auth = proxy.username ? `Proxy-Authorization: Basic ${Buffer.from(login).toString("base64")}\r\n` : "";
    let head = Buffer.alloc(0);
    const done = (why?: string) => {
      clearTimeout(timer);
      socket.removeListener("data", take);
      socket.removeAllListeners("error");
      socket.removeAllListeners("close");
      if (why === undefined) return resolve();
      socket.destroy();
      reject(new CannotConnect(`cannot connect through the proxy ${proxy.host}: ${why}`));
    };
    const timer = setTimeout(() => done("it took too long"), options.connectTimeout);
    const take = (chunk: Buffer) => {
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf("\r\n\r\n");
      if (end < 0) return head.length > 65536 ? done("its answer is too long") : undefined;
      const status = head.toString("latin1", 0, head.indexOf("\r\n"));
      if (!/^HTTP\/1\.[01] 2/.test(status)) return done(status);
      socket.pause();
      if (head.length > end + 4) socket.unshift(head.subarray(end + 4));
      return done();
    };
    socket.on("data", take);
    socket.once("error", (error: Error) => done(error.message));
    socket.once("close", () => done("it hung up"));
    socket.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n${auth}\r\n`);
  });
}
