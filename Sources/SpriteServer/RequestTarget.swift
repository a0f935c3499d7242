// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteAPI
import SpriteDomain

/// The path and query of a request; the path is split while still encoded, since names may hold `%2F`.
struct RequestTarget: Sendable {
    /// The path as it came, for the log; without the query, which may hold secrets.
    let path: String
    /// Nil if an escape in the path is broken.
    let segments: [String]?
    private let encodedQuery: Substring

    init(_ uri: String) {
        var rest = Substring(uri)
        // RFC 9112 §3.2.2: a request line may hold a whole URL.
        if !rest.hasPrefix("/"), let scheme = rest.range(of: "://") {
            rest = rest[scheme.upperBound...].drop { $0 != "/" && $0 != "?" }
        }
        if let fragment = rest.utf8.firstIndex(of: 0x23) { rest = rest[..<fragment] }
        let end = rest.utf8.firstIndex(of: 0x3F) ?? rest.endIndex
        let path = rest[..<end]
        encodedQuery = end == rest.endIndex ? "" : rest[rest.utf8.index(after: end)...]
        self.path = String(path.prefix(512))
        var parts = path.utf8.split(separator: 0x2F, omittingEmptySubsequences: false).dropFirst()
        if let last = parts.last, last.isEmpty { parts = parts.dropLast() }
        let decoded = parts.compactMap { API.PercentCoding.decode($0, plusIsSpace: false) }
        segments = decoded.count == parts.count && !path.isEmpty ? decoded : nil
    }

    func query() throws -> API.Query {
        guard let query = API.Query(encoded: encodedQuery) else {
            throw SpriteError(
                .invalidRequest,
                "invalid query: it has a broken percent escape, or bytes that are not UTF-8, or a NUL byte")
        }
        return query
    }
}

extension Substring {
    fileprivate func range(of text: String) -> Range<Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
            // A scheme is letters, digits and three signs; anything else ends the search.
            guard self[start].isLetter || self[start].isNumber || "+-.".contains(self[start]) else { return nil }
            start = index(after: start)
        }
        return nil
    }
}
