// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// Reaches a port of the sprite through a local one.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"

	sprites "github.com/sprite-env/sprite-env/sdks/go"
	. "github.com/sprite-env/sprite-env/sdks/go/examples/internal/example"
)

func main() {
	WithSprite(func(ctx context.Context, sprite *sprites.Sprite) {
		const server = `
import socket
listener = socket.create_server(("127.0.0.1", 4000))
print("ready", flush=True)
while True:
    peer, _ = listener.accept()
    peer.sendall(b"hello " + peer.recv(100))
    peer.close()
`
		process := Must(sprite.CommandArgs("python3", "-c", server).Start(ctx))
		defer process.Close()
		fmt.Print(Must(bufio.NewReader(process.Stdout).ReadString('\n')))
		forward := Must(sprite.Forward(ctx, "127.0.0.1:0", 4000))
		defer forward.Close()
		connection := Must(net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(forward.Port())))
		fmt.Fprint(connection, "port")
		fmt.Println(string(Must(io.ReadAll(connection))))
	})
}
