// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Sprites

/// Creates a sprite, finds it again, lists and destroys it.
@Sendable func create() async throws {
    try await SpritesClient.with { client in
        let name = exampleName()
        var options = SpriteOptions()
        options.labels = ["example"]
        let sprite = try await client.create(name, options)
        print("created", try await client.get(name).info?.labels ?? [])
        for try await one in client.list(prefix: name) { print("listed", one.name == name) }
        try await sprite.destroy()
        do {
            _ = try await client.get(name)
        } catch let error as SpritesError where error.code == .notFound {
            print("destroyed", error.code.rawValue)
        }
    }
}
