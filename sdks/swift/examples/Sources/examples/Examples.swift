// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Sprites

/// Runs the example whose name is given: `swift run examples exec`.
@main
struct Examples {
    static let all: [String: @Sendable () async throws -> Void] = [
        "create": create, "exec": exec, "stream": stream, "tty": tty, "files": files, "checkpoint": checkpoint,
        "fork": fork, "logs": logs, "service": service, "proxy": proxy, "agent_loop": agentLoop,
    ]

    static func main() async throws {
        guard let name = CommandLine.arguments.dropFirst().first, let example = all[name] else {
            return print("usage: examples \(all.keys.sorted().joined(separator: "|"))")
        }
        try await example()
    }
}

/// A name that is not taken.
func exampleName() -> String { "example-\(String(UInt32.random(in: .min ... .max), radix: 16))" }

/// Runs an example with a sprite that is destroyed afterwards.
func withSprite(_ body: (Sprite) async throws -> Void) async throws {
    try await SpritesClient.with { client in
        let sprite = try await client.create(exampleName())
        do {
            try await body(sprite)
        } catch {
            try? await sprite.destroy()
            throw error
        }
        try await sprite.destroy()
    }
}
