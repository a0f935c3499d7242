// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// Writes, reads and copies files, one by one and whole folders.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	sprites "github.com/sprite-env/sprite-env/sdks/go"
	. "github.com/sprite-env/sprite-env/sdks/go/examples/internal/example"
)

func main() {
	WithSprite(func(ctx context.Context, sprite *sprites.Sprite) {
		files := sprite.Files()
		Check(files.Write(ctx, "notes/today.txt", []byte("remember\n"), 0o644))
		fmt.Print(string(Must(files.Read(ctx, "notes/today.txt"))))
		for _, entry := range Must(files.List(ctx, "notes")) {
			fmt.Println(entry.Name)
		}
		var missing *sprites.Error
		if _, err := files.Read(ctx, "notes/tomorrow.txt"); errors.Is(err, fs.ErrNotExist) && errors.As(err, &missing) {
			fmt.Println(missing.Code)
		}
		folder := Must(os.MkdirTemp("", "example-"))
		defer os.RemoveAll(folder)
		Check(files.Download(ctx, "notes", folder))
		Check(os.WriteFile(filepath.Join(folder, "more.txt"), []byte("more\n"), 0o644))
		fmt.Println("uploaded", Must(files.Upload(ctx, folder, "copy")))
		fmt.Print(Must(sprite.Command("cat copy/*").Output(ctx)))
	})
}
