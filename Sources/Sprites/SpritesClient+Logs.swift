// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import NIOCore
import NIOHTTP1
public import SpriteAPI

extension SpritesClient {
    /// A stream of records goes on until one side ends it.
    private static let withoutEnd: Duration = .seconds(365 * 24 * 3600)

    /// One page of the journal.
    ///
    /// - Parameters:
    ///   - sprite: Nil means all sprites and the server itself.
    ///   - query: Filters, order, limit and cursor, as the API names them.
    public func logs(sprite: String? = nil, _ query: API.Query = API.Query()) async throws -> API.LogPage {
        try await http.get(
            logsPath(sprite, query), as: API.LogPage.self, timeout: options.requestTimeout)
    }

    /// Hands out records that are there and then those that come, without end.
    public func followLogs(
        sprite: String? = nil, _ query: API.Query = API.Query(), onRecord: (API.LogRecord) async throws -> Void
    ) async throws {
        var query = query
        query.items.append(API.Query.Item("follow", "true"))
        try await http.lines(.GET, logsPath(sprite, query), body: nil, timeout: Self.withoutEnd) { line in
            // Lines without a record only show that the connection is alive.
            guard let record = try? JSONDecoder().decode(API.LogRecord.self, from: Data(line.readableBytesView)) else {
                return
            }
            try await onRecord(record)
        }
    }

    /// The steps of one request.
    public func trace(_ id: String) async throws -> API.Trace {
        try await http.get(
            "/v1/traces/\(API.PercentCoding.encode(id))", as: API.Trace.self, timeout: options.requestTimeout)
    }

    /// Asks the journal a question in SQL, which may only read.
    public func queryLogs(_ sql: String, limit: Int? = nil) async throws -> API.LogAnswer {
        try await http.call(
            .POST, "/v1/logs/query", API.LogQuestion(sql: sql, limit: limit), as: API.LogAnswer.self,
            timeout: options.requestTimeout)
    }

    private func logsPath(_ sprite: String?, _ query: API.Query) -> String {
        let path = sprite.map { "/v1/sprites/\(API.PercentCoding.encode($0))/logs" } ?? "/v1/logs"
        return query.items.isEmpty ? path : "\(path)?\(query.encoded)"
    }
}
