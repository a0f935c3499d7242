// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// Runs commands to their end.
package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	sprites "github.com/sprite-env/sprite-env/sdks/go"
	. "github.com/sprite-env/sprite-env/sdks/go/examples/internal/example"
)

func main() {
	WithSprite(func(ctx context.Context, sprite *sprites.Sprite) {
		fmt.Print(Must(sprite.Command("echo hello from $(hostname | cut -c1-8)").Output(ctx)))
		result := Must(sprite.CommandArgs("sh", "-c", "echo out; echo err >&2; exit 3").Run(ctx))
		fmt.Println(result.ExitCode, strings.TrimSpace(string(result.Stdout)), strings.TrimSpace(string(result.Stderr)))
		upper := sprite.CommandArgs("tr", "a-z", "A-Z")
		upper.Stdin = strings.NewReader("input\n")
		fmt.Print(Must(upper.Output(ctx)))
		var failed *sprites.Error
		if _, err := sprite.Command("exit 7").Output(ctx); errors.As(err, &failed) {
			fmt.Println("failed with", failed.Result.ExitCode)
		}
		slow := sprite.Command("sleep 60")
		slow.Timeout = 300 * time.Millisecond
		if _, err := slow.Run(ctx); errors.Is(err, sprites.Timeout) {
			fmt.Println("ended:", sprites.Timeout)
		}
	})
}
