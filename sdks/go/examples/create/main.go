// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// Creates a sprite, finds it again, lists and destroys it.
package main

import (
	"context"
	"errors"
	"fmt"

	sprites "github.com/sprite-env/sprite-env/sdks/go"
	. "github.com/sprite-env/sprite-env/sdks/go/examples/internal/example"
)

func main() {
	ctx := context.Background()
	client := Must(sprites.New(sprites.Options{}))
	defer client.Close()
	name := Name()
	sprite := Must(client.Create(ctx, name, &sprites.CreateOptions{Labels: []string{"example"}}))
	fmt.Println("created", Must(client.Get(ctx, name)).Info.Labels)
	list := client.List(ctx, sprites.ListOptions{Prefix: name})
	for list.Next() {
		fmt.Println("listed", list.Sprite().Name == name)
	}
	Check(list.Err())
	Check(sprite.Destroy(ctx))
	if _, err := client.Get(ctx, name); errors.Is(err, sprites.NotFound) {
		fmt.Println("destroyed", sprites.NotFound)
	}
}
