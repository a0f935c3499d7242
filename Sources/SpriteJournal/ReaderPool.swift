// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import SpriteSystem
import Synchronization

/// Connections for reading; each is used by one call at a time.
final class ReaderPool: Sendable {
    private struct Idle: @unchecked Sendable {
        // Only one thread has it at any time.
        var connections: [Connection] = []
    }
    private static let keptMax = 4
    private let idle = Mutex(Idle())
    let path: String

    init(path: String) { self.path = path }

    /// Runs a read off the concurrency pool.
    func read<Value: Sendable>(_ body: @escaping @Sendable (Connection) throws -> Value) async throws -> Value {
        do {
            return try await blocking { [self] in
                let connection = try idle.withLock { $0.connections.popLast() } ?? Self.open(path)
                let value = try body(connection)
                connection.resetAll()
                idle.withLock { if $0.connections.count < Self.keptMax { $0.connections.append(connection) } }
                return value
            }
        } catch let error as SpriteError {
            throw error
        } catch {
            throw SpriteError(.internalError, "cannot read the journal", cause: error)
        }
    }

    static func open(_ path: String) throws -> Connection {
        let connection = try Connection(path: path, readOnly: true)
        try connection.execute("PRAGMA query_only = ON")
        try connection.execute("PRAGMA cache_size = -8192")
        return connection
    }
}
