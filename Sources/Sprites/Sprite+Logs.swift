// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

public import SpriteAPI

extension Sprite {
    /// How often a lost connection is made again without a record in between.
    private static let failuresMax = 20
    private static let waitMin: Duration = .milliseconds(100)
    private static let waitMax: Duration = .seconds(2)

    /// Hands out the sprite's journal, oldest first.
    ///
    /// - Parameters:
    ///   - filters: As the API names them, such as `["stream": "stdout"]`.
    ///   - follow: Goes on with what is recorded from now on, through lost connections too, until the task is cancelled.
    ///   - onRecord: Ends it by throwing.
    public func logs(
        _ filters: [String: String] = [:], follow: Bool = false, onRecord: (API.LogRecord) async throws -> Void
    ) async throws {
        let items = filters.sorted { $0.key < $1.key }.map { API.Query.Item($0.key, $0.value) }
        guard follow else { return try await pages(items, onRecord) }
        var cursor: String?
        var wait = Self.waitMin
        var failures = 0
        var wasThere = false
        while true {
            do {
                var query = API.Query(items)
                if let cursor {
                    query.items.removeAll { $0.name == "cursor" }
                    query.items.append(API.Query.Item("cursor", cursor))
                }
                try await client.followLogs(sprite: name, query) { record in
                    (wait, failures, cursor) = (Self.waitMin, 0, record.cursor)
                    try await onRecord(record)
                }
            } catch let error as SpritesError
                where [.connectionLost, .cannotConnect, .unavailable].contains(error.code)
                && failures < Self.failuresMax
            {
                // Nothing was given yet if there is no cursor: the same question again loses nothing, if the server
                // was there.
                wasThere = wasThere || cursor != nil || error.code == .connectionLost
                guard wasThere else { throw error }
                failures += 1
            }
            // The server ends a stream when it stops; the next one goes on behind the last record.
            try await Task.sleep(for: wait)
            wait = min(wait * 2, Self.waitMax)
        }
    }

    /// Hands out what became of the sprite: starts, sleeps, checkpoints, restores. As ``logs(_:follow:onRecord:)``.
    public func events(
        _ filters: [String: String] = [:], follow: Bool = false, onRecord: (API.LogRecord) async throws -> Void
    ) async throws {
        let kinds = ["kind": "system,checkpoint"].merging(filters) { _, given in given }
        try await logs(kinds, follow: follow, onRecord: onRecord)
    }

    private func pages(_ items: [API.Query.Item], _ onRecord: (API.LogRecord) async throws -> Void) async throws {
        var query = API.Query(items + [API.Query.Item("order", "asc")])
        while true {
            let page = try await client.logs(sprite: name, query)
            for record in page.records { try await onRecord(record) }
            guard page.hasMore, let next = page.nextCursor else { return }
            query.items.removeAll { $0.name == "cursor" }
            query.items.append(API.Query.Item("cursor", next))
        }
    }
}
