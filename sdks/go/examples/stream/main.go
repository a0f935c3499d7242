// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// Talks to a command that runs.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"

	sprites "github.com/sprite-env/sprite-env/sdks/go"
	. "github.com/sprite-env/sprite-env/sdks/go/examples/internal/example"
)

func main() {
	WithSprite(func(ctx context.Context, sprite *sprites.Sprite) {
		process := Must(sprite.Command(`while read x; do echo "got $x"; done; echo bye >&2`).Start(ctx))
		defer process.Close()
		lines := bufio.NewReader(process.Stdout)
		for _, word := range []string{"one", "two"} {
			fmt.Fprintln(process.Stdin, word)
			fmt.Print(Must(lines.ReadString('\n')))
		}
		process.Stdin.Close()
		fmt.Print(string(Must(io.ReadAll(process.Stderr))))
		fmt.Println("exit code", Must(process.Wait()))
	})
}
