// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Sprites

/// Follows what a service prints.
@Sendable func logs() async throws {
    struct Enough: Error {}
    try await withSprite { sprite in
        var options = ServiceOptions()
        options.arguments = ["-c", "for i in 1 2 3; do echo tick $i; sleep 0.2; done; sleep 60"]
        _ = try await sprite.services.create("ticker", "sh", options)
        var seen = 0
        do {
            try await sprite.services.logs("ticker", follow: .seconds(30)) { event in
                guard event.type == "stdout" else { return }
                print(event.data ?? "", terminator: "")
                seen += (event.data ?? "").split(separator: "\n").count
                if seen == 3 { throw Enough() }
            }
        } catch is Enough {
            // What the function throws ends the stream.
        }
    }
}
