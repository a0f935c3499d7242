// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// Takes a checkpoint and goes back to it.
package main

import (
	"context"
	"fmt"

	sprites "github.com/sprite-env/sprite-env/sdks/go"
	. "github.com/sprite-env/sprite-env/sdks/go/examples/internal/example"
)

func main() {
	WithSprite(func(ctx context.Context, sprite *sprites.Sprite) {
		files, checkpoints := sprite.Files(), sprite.Checkpoints()
		Check(files.Write(ctx, "state", []byte("good\n"), 0o644))
		checkpoint := Must(checkpoints.Create(ctx, "before the experiment"))
		fmt.Println(checkpoint.ID, checkpoint.Comment)
		Must(sprite.Command("echo broken > state").Run(ctx))
		Must(checkpoints.Restore(ctx, checkpoint.ID))
		fmt.Print(string(Must(files.Read(ctx, "state"))))
		Must(checkpoints.Undo(ctx))
		fmt.Print(string(Must(files.Read(ctx, "state"))))
	})
}
