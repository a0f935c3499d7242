// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.
// Reaches a port of the sprite through a local one.
import { connect } from "node:net";
import { randomUUID } from "node:crypto";
import { Client } from "sprite-env";

const sprites = new Client();
const sprite = await sprites.create(`example-${randomUUID().slice(0, 8)}`);
try {
  const server = [
    "import socket",
    "listener = socket.create_server(('127.0.0.1', 4000))",
    "print('ready', flush=True)",
    "while True:",
    "    peer, _ = listener.accept()",
    "    peer.sendall(b'hello ' + peer.recv(100))",
    "    peer.close()",
  ].join("\n");
  const command = await sprite.command(["python3", "-c", server]).start();
  console.log((await command.stdout.lines().next()).value);
  const forward = await sprite.forward(4000);
  const connection = connect(forward.localPort, "127.0.0.1");
  connection.write("port");
  let got = "";
  for await (const chunk of connection) got += chunk;
  console.log(got);
  await forward.close();
  command.close();
} finally {
  await sprite.destroy();
  await sprites.close();
}
