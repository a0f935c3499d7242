// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// Keeps a command running.
package main

import (
	"context"
	"fmt"
	"time"

	sprites "github.com/sprite-env/sprite-env/sdks/go"
	. "github.com/sprite-env/sprite-env/sdks/go/examples/internal/example"
)

func main() {
	WithSprite(func(ctx context.Context, sprite *sprites.Sprite) {
		services := sprite.Services()
		worker := sprites.Service{Name: "worker", Cmd: "sh", Args: []string{"-c", "while :; do sleep 1; done"}}
		Must(services.Create(ctx, worker))
		fmt.Println(Must(services.Get(ctx, "worker")).State.Status)
		Must(services.Stop(ctx, "worker", 10*time.Second))
		fmt.Println(Must(services.Get(ctx, "worker")).State.Status)
		Must(services.Start(ctx, "worker"))
		for _, service := range Must(services.List(ctx)) {
			fmt.Println(service.Name, service.State.Status)
		}
		Check(services.Delete(ctx, "worker"))
	})
}
