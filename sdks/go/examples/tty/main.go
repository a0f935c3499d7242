// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// Uses a terminal, leaves it and comes back.
package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	sprites "github.com/sprite-env/sprite-env/sdks/go"
	. "github.com/sprite-env/sprite-env/sdks/go/examples/internal/example"
)

func main() {
	WithSprite(func(ctx context.Context, sprite *sprites.Sprite) {
		command := sprite.Command(`stty size; read x; echo "got $x"`)
		command.TTY = &sprites.TerminalSize{Rows: 30, Cols: 100}
		process := Must(command.Start(ctx))
		fmt.Println(strings.TrimSpace(Must(bufio.NewReader(process.Stdout).ReadString('\n'))))
		session := Must(process.SessionID())
		process.Detach()
		process = Must(sprite.Attach(ctx, session))
		defer process.Close()
		lines := bufio.NewReader(process.Stdout)
		fmt.Println(strings.TrimSpace(Must(lines.ReadString('\n'))), "again")
		fmt.Fprintln(process.Stdin, "hello")
		Must(lines.ReadString('\n')) // What was typed.
		fmt.Println(strings.TrimSpace(Must(lines.ReadString('\n'))))
		fmt.Println("exit code", Must(process.Wait()))
	})
}
