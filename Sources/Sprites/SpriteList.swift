// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteAPI

/// Sprites of a server, fetched page by page.
public struct SpriteList: AsyncSequence, Sendable {
    /// A sprite with what the server said about it.
    public typealias Element = Sprite

    let client: SpritesClient
    let prefix: String
    let pageSize: Int

    /// Starts from the first page.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(list: self) }

    /// Goes through the pages.
    public struct AsyncIterator: AsyncIteratorProtocol {
        let list: SpriteList
        private var page: [SpriteInfo] = []
        private var position = 0
        private var token: String?
        private var isAtEnd = false

        init(list: SpriteList) { self.list = list }

        /// The next sprite, or nil after the last.
        public mutating func next() async throws -> Sprite? {
            while position == page.count {
                guard !isAtEnd else { return nil }
                try await fetch()
            }
            defer { position += 1 }
            return Sprite(client: list.client, name: page[position].name, info: page[position])
        }

        private mutating func fetch() async throws {
            var query = API.Query([.init("max_results", "\(list.pageSize)")])
            if !list.prefix.isEmpty { query.items.append(.init("prefix", list.prefix)) }
            if let token { query.items.append(.init("continuation_token", token)) }
            let answer = try await list.client.http.get(
                "/v1/sprites?" + query.encoded, as: API.SpritePage.self, timeout: list.client.options.requestTimeout)
            page = answer.sprites
            position = 0
            let next = answer.nextContinuationToken
            // A server that repeats its token would make us go round for ever.
            isAtEnd = !answer.hasMore || next == nil || next == token
            token = next
        }
    }
}
