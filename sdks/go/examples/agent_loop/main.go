// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// An agent's loop: every step starts from a checkpoint, and a step that fails is undone.
package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	sprites "github.com/sprite-env/sprite-env/sdks/go"
	. "github.com/sprite-env/sprite-env/sdks/go/examples/internal/example"
)

func main() {
	WithSprite(func(ctx context.Context, sprite *sprites.Sprite) {
		for _, step := range []string{"echo a > work", "echo b >> work; exit 1", "echo c >> work"} {
			before := Must(sprite.Checkpoints().Create(ctx, step))
			command := sprite.Command(step)
			command.Timeout = 30 * time.Second
			outcome := "kept"
			if Must(command.Run(ctx)).ExitCode != 0 {
				Must(sprite.Checkpoints().Restore(ctx, before.ID))
				outcome = "undone"
			}
			fmt.Println(outcome, step)
		}
		fmt.Println(strings.Fields(string(Must(sprite.Files().Read(ctx, "work")))))
	})
}
