// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Sprites

/// Keeps a command running.
@Sendable func service() async throws {
    try await withSprite { sprite in
        let services = sprite.services
        var options = ServiceOptions()
        options.arguments = ["-c", "while :; do sleep 1; done"]
        _ = try await services.create("worker", "sh", options)
        print(try await services.get("worker").state.status)
        try await services.stop("worker")
        print(try await services.get("worker").state.status)
        try await services.start("worker")
        for one in try await services.list() { print(one.name, one.state.status) }
        try await services.delete("worker")
    }
}
