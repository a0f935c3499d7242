#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// Does what the conformance suite asks for, with the Node.js SDK; conformance/README.md has the protocol.
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { Client, SpriteError } from "sprite-env";

const client = new Client();
const things = new Map();

const keep = (kind, thing) => {
  const name = `${kind}${things.size}`;
  things.set(name, thing);
  return name;
};
const bytes = (text) => Buffer.from(text, "base64");
const text = (data) => Buffer.from(data).toString("base64");
const sprite = (r) => client.sprite(r.sprite);
const info = (one) => ({ name: one.name, status: one.status, labels: one.labels, url: one.url });
const thing = (r) => things.get(r.process);
const seconds = (value) => (value === undefined ? undefined : value * 1000);

const options = (r) => ({
  environment: r.environment, directory: r.directory, user: r.user, detachable: r.detachable, tty: r.tty,
  timeout: seconds(r.timeout), killAfter: seconds(r.kill_after), maxRunAfterDisconnect: seconds(r.max_run_after_disconnect),
});

function* pattern(count) {
  const block = Buffer.alloc(65536, Buffer.from(Array.from({ length: 256 }, (_, i) => i)));
  for (let at = 0; at < count; at += block.length) yield block.subarray(0, Math.min(block.length, count - at));
}

const input = (r) =>
  r.input_bytes !== undefined ? pattern(r.input_bytes) : r.input !== undefined ? bytes(r.input) : undefined;

async function run(r) {
  const command = sprite(r).command(r.command, options(r));
  const result = await command.run({ input: input(r), check: r.check, outputLimit: r.output_limit });
  if (r.digest) {
    const digest = createHash("sha256").update(result.stdout).digest("hex");
    return { exit_code: result.exitCode, stdout_bytes: result.stdout.length, stdout_sha256: digest };
  }
  return { exit_code: result.exitCode, stdout: text(result.stdout), stderr: text(result.stderr) };
}

async function stream(r) {
  const process = await sprite(r).command(r.command, options(r)).start();
  process.stdin.end();
  const digest = createHash("sha256");
  let count = 0;
  for await (const chunk of process.stdout) {
    digest.update(chunk);
    count += chunk.length;
  }
  return { exit_code: await process.wait(), stdout_bytes: count, stdout_sha256: digest.digest("hex") };
}

async function burst(r) {
  const wrong = [];
  let next = 0;
  const work = async () => {
    for (let n = next++; n < r.count; n = next++) {
      try {
        const one = await sprite(r).command(["sh", "-c", `echo out ${n}; echo err ${n} >&2; exit ${n % 7}`]).run();
        if (one.exitCode !== n % 7 || one.stdoutText !== `out ${n}\n` || one.stderrText !== `err ${n}\n`) {
          wrong.push(`${n}: ${one.exitCode} ${one.stdoutText} ${one.stderrText}`);
        }
      } catch (error) {
        wrong.push(`${n}: ${error}`);
      }
    }
  };
  await Promise.all(Array.from({ length: r.at_once }, work));
  return { count: r.count, wrong: wrong.slice(0, 5) };
}

async function measure(r) {
  const times = [];
  for (let n = 0; n < r.count; n++) {
    const started = performance.now();
    await sprite(r).command(["true"]).run();
    times.push(performance.now() - started);
  }
  const started = performance.now();
  const process = await sprite(r).command(["head", "-c", String(r.bytes), "/dev/zero"]).start();
  process.stdin.end();
  let count = 0;
  for await (const chunk of process.stdout) count += chunk.length;
  await process.wait();
  return { times, seconds: (performance.now() - started) / 1000, bytes: count };
}

async function begun(process) {
  return { session_id: await process.started(), process: keep("process", process), tty: process.tty };
}

/** Reads of one stream go through one iterator, so that nothing is lost between them. */
const readers = new WeakMap();
function reader(output) {
  if (!readers.has(output)) readers.set(output, { chunks: output[Symbol.asyncIterator](), rest: Buffer.alloc(0) });
  const state = readers.get(output);
  return {
    async until(wanted) {
      for (;;) {
        const length = wanted(state.rest);
        if (length >= 0) break;
        const { value, done } = await state.chunks.next();
        if (done) break;
        state.rest = Buffer.concat([state.rest, value]);
      }
      const length = wanted(state.rest);
      const got = state.rest.subarray(0, length < 0 ? undefined : length);
      state.rest = state.rest.subarray(got.length);
      return got;
    },
  };
}

async function read(r) {
  const from = reader(thing(r)[r.stream ?? "stdout"]);
  if (r.until !== undefined) {
    const mark = bytes(r.until);
    return { data: text(await from.until((got) => (got.includes(mark) ? got.indexOf(mark) + mark.length : -1))) };
  }
  if (r.lines !== undefined) {
    const lines = [];
    for (let i = 0; i < r.lines; i++) lines.push((await from.until((got) => got.indexOf(10) + 1 || -1)).toString());
    return { lines };
  }
  if (r.count !== undefined) return { data: text(await from.until((got) => (got.length ? Math.min(r.count, got.length) : -1))) };
  return { data: text(await from.until(() => -1)) };
}

async function write(r) {
  const stdin = thing(r).stdin;
  await new Promise((resolve, reject) => stdin.write(bytes(r.data), (error) => (error ? reject(error) : resolve())));
}

async function exchange(r) {
  const connection = await sprite(r).connect(r.port);
  connection.write(bytes(r.data));
  const got = [];
  for await (const chunk of connection) got.push(chunk);
  return { data: text(Buffer.concat(got)) };
}

const entry = (one) => ({
  name: one.name, path: one.path, type: one.type, size: one.size, mode: one.mode.toString(8).padStart(4, "0"),
});
const checkpoint = (one) => ({ id: one.id, comment: one.comment, source_id: one.sourceId, is_auto: one.isAuto });
const restored = (one) => ({ id: one.id, replaced_id: one.replacedId });
const service = (one) => ({ name: one.name, cmd: one.cmd, args: one.args, status: one.status, http_port: one.httpPort });
const events = (found) => ({ types: found.map((e) => e.type), text: found.map((e) => e.data).join("") });

async function all(items) {
  const found = [];
  for await (const item of items) found.push(item);
  return found;
}

const changes = (found) => found.map((one) => `${one.kind} ${one.path}`);

async function diff(r) {
  const { to, path, patch, renames, limit } = r;
  const found = await sprite(r).diff(r.from, { to, path, patch, renames, limit });
  const patches = found.changes.map((one) => one.patch ?? "").join("");
  return { changes: changes(found.changes), stat: found.stat, truncated: found.truncated, patch: patches };
}

async function attempt(r) {
  const types = [];
  const done = await sprite(r).attempt(r.command, {
    check: r.checked, dryRun: r.dry_run, timeout: seconds(r.timeout), environment: r.environment, directory: r.directory,
    user: r.user, onEvent: (event) => types.push(event.type),
  });
  return {
    outcome: done.outcome, kept: done.outcome === "kept", exit_code: done.exitCode, check_exit_code: done.checkExitCode,
    stdout: text(done.stdout), stderr: text(done.stderr), changes: changes(done.changes), stat: done.stat,
    checkpoint_id: done.checkpointId, replaced_id: done.replacedId, types,
  };
}

async function logs(r) {
  let count = 0;
  for await (const event of sprite(r)[r.do]({ follow: r.follow, ...r.filters })) {
    if (JSON.stringify(event.raw).includes(r.match) && ++count >= r.count) break;
  }
  return { count };
}

const limits = (given) => given && { ramMb: given.ram_mb, cpus: given.cpus, pids: given.pids };
const mode = (given) => (given === undefined ? undefined : parseInt(given, 8));

const verbs = {
  create: async (r) => info((await client.create(r.name, {
    labels: r.labels, environment: r.environment, limits: limits(r.limits), urlAuth: r.url_auth,
  })).info),
  get: async (r) => info((await client.get(r.sprite)).info),
  list: async (r) => ({ names: (await all(client.list({ prefix: r.prefix, pageSize: r.page_size }))).map((s) => s.name) }),
  update: async (r) => info(await sprite(r).update({ labels: r.labels, urlAuth: r.url_auth })),
  destroy: (r) => sprite(r).destroy(),
  fork: async (r) => info((await sprite(r).fork(r.to, { checkpoint: r.checkpoint })).info),
  run,
  output: async (r) => ({ text: await sprite(r).command(r.command).output({ input: input(r) }) }),
  stream,
  burst,
  measure,
  start: async (r) => begun(await sprite(r).command(r.command, options(r)).start()),
  attach: async (r) => begun(await sprite(r).attach(r.session_id)),
  write,
  close_input: (r) => new Promise((resolve) => thing(r).stdin.end(resolve)),
  read,
  wait: async (r) => ({ exit_code: await thing(r).wait() }),
  signal: (r) => thing(r).signal(r.signal),
  resize: (r) => thing(r).resize(r.rows, r.cols),
  detach: (r) => thing(r).detach(),
  sessions: async (r) => ({ ids: (await sprite(r).sessions()).map((s) => s.id) }),
  kill: async (r) => ({ exit_code: await sprite(r).kill(r.session_id, { signal: r.signal, timeout: seconds(r.timeout) }) }),
  exchange,
  forward: async (r) => {
    const forward = await sprite(r).forward(r.port);
    return { local_port: forward.localPort, forward: keep("forward", forward) };
  },
  "forward.close": (r) => things.get(r.forward).close(),
  "files.read": async (r) => ({ data: text(await sprite(r).files.read(r.path)) }),
  "files.write": (r) => sprite(r).files.write(r.path, bytes(r.data), { mode: mode(r.mode) }),
  "files.list": async (r) => ({ entries: (await sprite(r).files.list(r.path)).map(entry) }),
  "files.stat": async (r) => entry(await sprite(r).files.stat(r.path)),
  "files.exists": async (r) => ({ exists: await sprite(r).files.exists(r.path) }),
  "files.mkdir": (r) => sprite(r).files.mkdir(r.path),
  "files.remove": (r) => sprite(r).files.remove(r.path, { recursive: r.recursive }),
  "files.rename": (r) => sprite(r).files.rename(r.path, r.to),
  "files.copy": (r) => sprite(r).files.copy(r.path, r.to, { recursive: r.recursive }),
  "files.chmod": (r) => sprite(r).files.chmod(r.path, mode(r.mode)),
  "files.upload": async (r) => void (await sprite(r).files.upload(r.local, r.path)),
  "files.download": (r) => sprite(r).files.download(r.path, r.local),
  "checkpoints.create": async (r) => checkpoint(await sprite(r).checkpoints.create(r.comment)),
  "checkpoints.list": async (r) => ({ ids: (await sprite(r).checkpoints.list()).map((c) => c.id) }),
  "checkpoints.get": async (r) => checkpoint(await sprite(r).checkpoints.get(r.checkpoint)),
  "checkpoints.delete": (r) => sprite(r).checkpoints.delete(r.checkpoint),
  "checkpoints.restore": async (r) => restored(await sprite(r).checkpoints.restore(r.checkpoint)),
  "checkpoints.undo": async (r) => restored(await sprite(r).checkpoints.undo()),
  "services.create": async (r) => events(await sprite(r).services.create(r.name, r.cmd, {
    args: r.args, needs: r.needs, httpPort: r.http_port, environment: r.environment, directory: r.directory,
    follow: seconds(r.follow),
  })),
  "services.list": async (r) => ({ names: (await sprite(r).services.list()).map((s) => s.name) }),
  "services.get": async (r) => service(await sprite(r).services.get(r.name)),
  "services.start": async (r) => events(await sprite(r).services.start(r.name)),
  "services.stop": async (r) => events(await sprite(r).services.stop(r.name)),
  "services.restart": async (r) => events(await sprite(r).services.restart(r.name)),
  "services.signal": (r) => sprite(r).services.signal(r.name, r.signal),
  "services.delete": (r) => sprite(r).services.delete(r.name),
  "services.logs": async (r) => events(await all(sprite(r).services.logs(r.name, { follow: seconds(r.follow) }))),
  "policy.get": async (r) => ({ rules: await sprite(r).policy.get() }),
  "policy.set": (r) => sprite(r).policy.set(r.rules),
  "secrets.list": async (r) => ({
    secrets: (await sprite(r).secrets.list()).map(({ id, host, header, format }) => ({ id, host, header, format })),
  }),
  "secrets.set": (r) => sprite(r).secrets.set(r.name, { host: r.host, value: r.value, header: r.header, format: r.format }),
  "secrets.remove": (r) => sprite(r).secrets.remove(r.name),
  logs,
  events: logs,
  diff,
  attempt,
};

const problem = (error) => ({
  code: error.code, message: error.message, status: error.status, request_id: error.requestId, remedy: error.remedy,
  retry_after: error.retryAfter && error.retryAfter / 1000, session_id: error.sessionId, exit_code: error.exitCode,
  path: error.path, may_be_running: error.mayBeRunning,
  stdout: error.stdout && text(error.stdout), stderr: error.stderr && text(error.stderr),
});

async function answer(r) {
  let reply;
  try {
    reply = { id: r.id, ok: (await verbs[r.do](r)) ?? {} };
  } catch (error) {
    const told = error instanceof SpriteError ? problem(error) : { code: "driver", message: error?.stack ?? String(error) };
    reply = { id: r.id, error: told };
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}

createInterface({ input: process.stdin }).on("line", (line) => void answer(JSON.parse(line))).on("close", () => client.close());
