#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""Does what the conformance suite asks for, with the Python SDK; conformance/README.md has the protocol."""

import base64
import hashlib
import json
import sys
import threading
import time
import traceback

from sprite_env import Client, ConnectionLost, Limits, SpriteError, TerminalSize

client = Client()
things = {}
lock = threading.Lock()


def data_of(request, key="data"):
    return base64.b64decode(request[key]) if key in request else None


def text(data):
    return base64.b64encode(data).decode()


def sprite(request):
    return client.sprite(request["sprite"])


def keep(kind, thing):
    with lock:
        name = f"{kind}{len(things)}"
        things[name] = thing
    return name


def info(one):
    return {"name": one.name, "status": one.status, "labels": one.labels, "url": one.url}


def options(request):
    chosen = {
        key: request[key]
        for key in (
            "environment",
            "directory",
            "user",
            "detachable",
            "timeout",
            "kill_after",
            "max_run_after_disconnect",
        )
        if key in request
    }
    if "tty" in request:
        chosen["tty"] = TerminalSize(**request["tty"])
    return chosen


def input_of(request):
    if "input_bytes" in request:
        block, count = bytes(range(256)) * 256, request["input_bytes"]
        return (block[: min(len(block), count - at)] for at in range(0, count, len(block)))
    return data_of(request, "input")


def run(request):
    command = sprite(request).command(request["command"], **options(request))
    extra = {"output_limit": request["output_limit"]} if "output_limit" in request else {}
    result = command.run(input_of(request), check=request.get("check", False), **extra)
    if request.get("digest"):
        return {
            "exit_code": result.exit_code,
            "stdout_bytes": len(result.stdout),
            "stdout_sha256": hashlib.sha256(result.stdout).hexdigest(),
        }
    return {"exit_code": result.exit_code, "stdout": text(result.stdout), "stderr": text(result.stderr)}


def stream(request):
    """Reads standard output as a stream and tells its size and digest."""
    digest, count, smallest = hashlib.sha256(), 0, 0
    with sprite(request).command(request["command"], **options(request)).start() as process:
        process.stdin.close()
        while chunk := process.stdout.read1(1 << 20):
            digest.update(chunk)
            count += len(chunk)
            smallest = max(smallest, len(chunk))
        code = process.wait()
    return {"exit_code": code, "stdout_bytes": count, "stdout_sha256": digest.hexdigest()}


def burst(request):
    """Many quick commands, some at a time; each must have its own output and exit code."""
    box, wrong = sprite(request), []
    numbers = iter(range(request["count"]))
    turn = threading.Lock()

    def work():
        while True:
            with turn:
                number = next(numbers, None)
            if number is None:
                return
            try:
                result = box.command(
                    ["sh", "-c", f"echo out {number}; echo err {number} >&2; exit {number % 7}"]
                ).run()
                got = (result.exit_code, result.stdout, result.stderr)
                if got != (number % 7, b"out %d\n" % number, b"err %d\n" % number):
                    wrong.append(f"{number}: {got}")
            except SpriteError as error:
                wrong.append(f"{number}: {error!r}")

    threads = [threading.Thread(target=work) for _ in range(request["at_once"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"count": request["count"], "wrong": wrong[:5]}


def measure(request):
    """Milliseconds of each of many quick commands, one after another, and seconds of a stream of so many bytes."""
    box, times = sprite(request), []
    for _ in range(request["count"]):
        started = time.perf_counter()
        box.command(["true"]).run()
        times.append((time.perf_counter() - started) * 1000)
    started, count = time.perf_counter(), 0
    with box.command(["head", "-c", str(request["bytes"]), "/dev/zero"]).start() as process:
        process.stdin.close()
        while chunk := process.stdout.read1(1 << 20):
            count += len(chunk)
        process.wait()
    return {"times": times, "seconds": time.perf_counter() - started, "bytes": count}


def start(request):
    process = sprite(request).command(request["command"], **options(request)).start()
    return {"session_id": process.started(), "process": keep("process", process), "tty": process.tty}


def attach(request):
    process = sprite(request).attach(request["session_id"])
    return {"session_id": process.started(), "process": keep("process", process), "tty": process.tty}


def read(request):
    output = getattr(things[request["process"]], request.get("stream", "stdout"))
    if "until" in request:
        wanted, got = base64.b64decode(request["until"]), b""
        while wanted not in got and (chunk := output.read1(1)):
            got += chunk
        return {"data": text(got)}
    if "lines" in request:
        return {"lines": [output.readline().decode() for _ in range(request["lines"])]}
    return {"data": text(output.read1(request["count"]) if "count" in request else output.read())}


def process(request):
    return things[request["process"]]


def detach(request):
    process(request).detach()


def exchange(request):
    with sprite(request).connect(request["port"]) as connection:
        connection.write(data_of(request))
        got = b""
        while chunk := connection.read():
            got += chunk
    return {"data": text(got)}


def entry(one):
    return {"name": one.name, "path": one.path, "type": one.type, "size": one.size, "mode": f"{one.mode:04o}"}


def checkpoint(one):
    return {"id": one.id, "comment": one.comment, "source_id": one.source_id, "is_auto": one.is_auto}


def restored(one):
    return {"id": one.id, "replaced_id": one.replaced_id}


def service(one):
    return {"name": one.name, "cmd": one.cmd, "args": one.args, "status": one.status, "http_port": one.http_port}


def events(all_of_them):
    found = list(all_of_them)
    return {"types": [event.type for event in found], "text": "".join(event.data for event in found)}


def forward(request):
    opened = sprite(request).forward(request["port"])
    return {"local_port": opened.local_port, "forward": keep("forward", opened)}


def create(request):
    limits = Limits(**request["limits"]) if "limits" in request else None
    more = {key: request[key] for key in ("labels", "environment", "url_auth") if key in request}
    return info(client.create(request["name"], limits=limits, **more).info)


def services_create(r):
    more = {key: r[key] for key in ("http_port", "environment", "directory", "needs", "follow") if key in r}
    return events(sprite(r).services.create(r["name"], r["cmd"], r.get("args", []), **more))


def changes(found):
    return [f"{one.kind} {one.path}" for one in found]


def diff(r):
    how = {key: r[key] for key in ("to", "path", "patch", "renames", "limit") if key in r}
    found = sprite(r).diff(r["from"], **how)
    patch = "".join(one.patch or "" for one in found.changes)
    return {"changes": changes(found.changes), "stat": found.stat, "truncated": found.truncated, "patch": patch}


def attempt(r):
    how = {key: r[key] for key in ("dry_run", "timeout", "environment", "directory", "user") if key in r}
    seen = []
    how["on_event"] = lambda event: seen.append(event.type)
    done = sprite(r).attempt(r["command"], check=r.get("checked"), **how)
    return {
        "outcome": done.outcome, "kept": done.kept,
        "exit_code": done.exit_code, "check_exit_code": done.check_exit_code,
        "stdout": text(done.stdout), "stderr": text(done.stderr), "changes": changes(done.changes), "stat": done.stat,
        "checkpoint_id": done.checkpoint_id, "replaced_id": done.replaced_id, "types": seen,
    }  # fmt: skip


def journal(r):
    """Lines of the journal, or of what became of the sprite, until as many matched as were asked for."""
    found = []
    box = sprite(r)
    asked = box.events if r["do"] == "events" else box.logs
    for event in asked(follow=r.get("follow", False), **r.get("filters", {})):
        if r["match"] in json.dumps(event.raw):
            found.append(event.raw)
            if len(found) >= r["count"]:
                break
    return {"count": len(found)}


VERBS = {
    "create": create,
    "get": lambda r: info(client.get(r["sprite"]).info),
    "list": lambda r: {
        "names": [one.name for one in client.list(prefix=r["prefix"], page_size=r.get("page_size", 50))]
    },
    "update": lambda r: info(sprite(r).update(**{k: r[k] for k in ("labels", "url_auth") if k in r})),
    "destroy": lambda r: sprite(r).destroy(),
    "fork": lambda r: info(sprite(r).fork(r["to"], checkpoint=r.get("checkpoint")).info),
    "run": run,
    "output": lambda r: {"text": sprite(r).command(r["command"]).output(input_of(r))},
    "stream": stream,
    "burst": burst,
    "measure": measure,
    "start": start,
    "attach": attach,
    "write": lambda r: process(r).stdin.write(data_of(r)) and None,
    "close_input": lambda r: process(r).stdin.close(),
    "read": read,
    "wait": lambda r: {"exit_code": process(r).wait()},
    "signal": lambda r: process(r).signal(r["signal"]),
    "resize": lambda r: process(r).resize(r["rows"], r["cols"]),
    "detach": detach,
    "sessions": lambda r: {"ids": [s.id for s in sprite(r).sessions()]},
    "kill": lambda r: {
        "exit_code": sprite(r).kill(r["session_id"], r.get("signal", "TERM"), timeout=r.get("timeout", 10))
    },
    "exchange": exchange,
    "forward": forward,
    "forward.close": lambda r: things[r["forward"]].close(),
    "files.read": lambda r: {"data": text(sprite(r).files.read(r["path"]))},
    "files.write": lambda r: sprite(r).files.write(
        r["path"], data_of(r), mode=int(r["mode"], 8) if "mode" in r else None
    ),
    "files.list": lambda r: {"entries": [entry(e) for e in sprite(r).files.list(r["path"])]},
    "files.stat": lambda r: entry(sprite(r).files.stat(r["path"])),
    "files.exists": lambda r: {"exists": sprite(r).files.exists(r["path"])},
    "files.mkdir": lambda r: sprite(r).files.mkdir(r["path"]),
    "files.remove": lambda r: sprite(r).files.remove(r["path"], recursive=r.get("recursive", False)),
    "files.rename": lambda r: sprite(r).files.rename(r["path"], r["to"]),
    "files.copy": lambda r: sprite(r).files.copy(r["path"], r["to"], recursive=r.get("recursive", False)),
    "files.chmod": lambda r: sprite(r).files.chmod(r["path"], int(r["mode"], 8)),
    "files.upload": lambda r: sprite(r).files.upload(r["local"], r["path"]) and None,
    "files.download": lambda r: sprite(r).files.download(r["path"], r["local"]),
    "checkpoints.create": lambda r: checkpoint(sprite(r).checkpoints.create(r.get("comment"))),
    "checkpoints.list": lambda r: {"ids": [c.id for c in sprite(r).checkpoints.list()]},
    "checkpoints.get": lambda r: checkpoint(sprite(r).checkpoints.get(r["checkpoint"])),
    "checkpoints.delete": lambda r: sprite(r).checkpoints.delete(r["checkpoint"]),
    "checkpoints.restore": lambda r: restored(sprite(r).checkpoints.restore(r["checkpoint"])),
    "checkpoints.undo": lambda r: restored(sprite(r).checkpoints.undo()),
    "services.create": services_create,
    "services.list": lambda r: {"names": [s.name for s in sprite(r).services.list()]},
    "services.get": lambda r: service(sprite(r).services.get(r["name"])),
    "services.start": lambda r: events(sprite(r).services.start(r["name"])),
    "services.stop": lambda r: events(sprite(r).services.stop(r["name"])),
    "services.restart": lambda r: events(sprite(r).services.restart(r["name"])),
    "services.signal": lambda r: sprite(r).services.signal(r["name"], r["signal"]),
    "services.delete": lambda r: sprite(r).services.delete(r["name"]),
    "services.logs": lambda r: events(sprite(r).services.logs(r["name"], follow=r.get("follow", 0))),
    "policy.get": lambda r: {"rules": sprite(r).policy.get()},
    "policy.set": lambda r: sprite(r).policy.set(r["rules"]),
    "secrets.list": lambda r: {"secrets": [
        {"id": s.id, "host": s.host, "header": s.header, "format": s.format} for s in sprite(r).secrets.list()
    ]},
    "secrets.set": lambda r: sprite(r).secrets.set(
        r["name"], r["host"], r["value"], header=r.get("header"), format=r.get("format")),
    "secrets.remove": lambda r: sprite(r).secrets.remove(r["name"]),
    "logs": journal,
    "events": journal,
    "diff": diff,
    "attempt": attempt,
}


def problem(error):
    told = {key: getattr(error, key, None) for key in (
        "code", "message", "status", "request_id", "remedy", "retry_after", "session_id", "exit_code", "path",
    )}  # fmt: skip
    for key in ("stdout", "stderr"):
        if hasattr(error, key):
            told[key] = text(getattr(error, key))
    if isinstance(error, ConnectionLost) or hasattr(error, "may_be_running"):
        told["may_be_running"] = error.may_be_running
    return {key: value for key, value in told.items() if value is not None}


def answer(request):
    try:
        reply = {"id": request["id"], "ok": VERBS[request["do"]](request) or {}}
    except SpriteError as error:
        reply = {"id": request["id"], "error": problem(error)}
    except Exception:
        reply = {"id": request["id"], "error": {"code": "driver", "message": traceback.format_exc()}}
    with lock:
        print(json.dumps(reply), flush=True)


for line in sys.stdin:
    threading.Thread(target=answer, args=(json.loads(line),), daemon=True).start()
client.close()
