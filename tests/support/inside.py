# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""A server that runs inside a sprite, with every behaviour that the proxies have to cope with."""

from support.api import Api
from support.exec import run, shell
from support.wait import eventually

#: Only modules of a minimal Python; one thread a connection.
SERVER = r'''
import base64, hashlib, os, socket, sys, threading, time

def lines(f):
    head = []
    while True:
        line = f.readline()
        if line in (b"", b"\r\n"):
            return head if line else None
        head.append(line.decode("latin-1").rstrip("\r\n"))

def body(f, fields):
    if "chunked" in fields.get("transfer-encoding", ""):
        while True:
            size = int(f.readline(), 16)
            data = f.read(size)
            f.readline()
            if not size:
                return
            yield data
    left = int(fields.get("content-length", "0"))
    while left:
        data = f.read1(min(left, 65536))
        if not data:
            return
        left -= len(data)
        yield data

def frames(f):
    while True:
        a = f.read(2)
        if len(a) < 2:
            return
        n = a[1] & 127
        if n == 126: n = int.from_bytes(f.read(2), "big")
        if n == 127: n = int.from_bytes(f.read(8), "big")
        mask = f.read(4)
        data = f.read(n)
        yield a[0] & 15, bytes(b ^ mask[i % 4] for i, b in enumerate(data))

def frame(op, data):
    n = len(data)
    size = bytes([n]) if n < 126 else bytes([126]) + n.to_bytes(2, "big") if n < 65536 else bytes([127]) + n.to_bytes(8, "big")
    return bytes([128 | op]) + size + data

def answer(c, status, data, *fields):
    head = ["HTTP/1.1 " + status, "Content-Length: %d" % len(data), *fields, "", ""]
    c.sendall("\r\n".join(head).encode() + data)

count = 0
def serve(c):
    global count
    count += 1
    number = count
    f = c.makefile("rb")
    while True:
        head = lines(f)
        if head is None:
            break
        method, path, _ = head[0].split(" ")
        fields = {}
        for line in head[1:]:
            k, _, v = line.partition(":")
            fields.setdefault(k.lower(), v.strip())
        if path == "/head":
            answer(c, "200 OK", "\n".join(head).encode(), "X-Connection: %d" % number, "Keep-Alive: timeout=5", "Connection: keep-alive, X-Gone", "X-Gone: 1")
        elif path == "/early":
            answer(c, "413 Too Large", b"no", "Connection: close")
            break
        elif path == "/drop":
            break
        elif path == "/cut":
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
            break
        elif path == "/until-close":
            c.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nno length")
            break
        elif path == "/empty":
            c.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif path == "/only-head" and method == "HEAD":
            c.sendall(b"HTTP/1.1 200 OK\r\nX-Here: 1\r\n\r\n")
        elif path.startswith("/big/"):
            left = int(path[5:])
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
            block = bytes(range(256)) * 1024
            while left:
                left -= c.send(block[: min(left, len(block))])
        elif path == "/sum":
            h, n = hashlib.sha256(), 0
            for data in body(f, fields):
                h.update(data)
                n += len(data)
            answer(c, "200 OK", ("%d %s" % (n, h.hexdigest())).encode())
        elif path == "/slow-body":
            h = b""
            c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for data in body(f, fields):
                c.sendall(b"%x\r\n%s\r\n" % (len(data), data))
            c.sendall(b"0\r\n\r\n")
        elif path == "/events":
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for i in range(3):
                data = b"data: %d\n\n" % i
                c.sendall(b"%x\r\n%s\r\n" % (len(data), data))
                time.sleep(0.3)
            c.sendall(b"0\r\n\r\n")
        elif path == "/silent":
            open("/tmp/silent", "w").write("open")
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hello\n\n")
            c.recv(1)
            open("/tmp/silent", "w").write("closed")
            break
        elif path == "/socket" and "upgrade" in fields:
            key = fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
            # The first message in the same packet as the handshake.
            c.sendall(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n" % accept).encode() + frame(1, b"welcome"))
            for op, data in frames(f):
                c.sendall(frame(op, data))
                if op == 8:
                    break
            break
        elif path == "/no-socket":
            answer(c, "403 Forbidden", b"not for you")
        else:
            answer(c, "200 OK", b"hello from " + path.encode())
    # What the other side still sends is read, so that it gets the answer and no reset.
    c.shutdown(socket.SHUT_WR)
    c.settimeout(2)
    try:
        while c.recv(65536): pass
    except OSError: pass
    c.close()

def echo(c):
    while data := c.recv(65536):
        c.sendall(data)
    c.sendall(b"") or c.close()

def sink(c):
    h = hashlib.sha256()
    n = 0
    while data := c.recv(65536):
        h.update(data)
        n += len(data)
    open("/tmp/sink", "w").write("%d %s" % (n, h.hexdigest()))
    c.close()

def pour(c):
    n = int(c.makefile("rb").readline())
    block = bytes(range(256)) * 1024
    while n:
        n -= c.send(block[: min(n, len(block))])
    c.close()

kind, host, port = sys.argv[1:4]
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((host, int(port)))
s.listen(128)
while True:
    c, _ = s.accept()
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target={"http": serve, "echo": echo, "sink": sink, "pour": pour}[kind], args=(c,), daemon=True).start()
'''


def start(api: Api, sprite: str, kind: str, port: int = 8080, host: str = "127.0.0.1") -> None:
    """Starts a server that outlives its session, and waits until it listens."""
    script = 'setsid -f python3 -c "$@" </dev/null >/tmp/server.log 2>&1'
    started = run(api, sprite, "sh", "-c", script, "sh", SERVER, kind, host, str(port))
    assert started.code == 0, started
    eventually(lambda: f":{port} " in shell(api, sprite, "ss -Htln") or None, f"a server listens on {port}")
