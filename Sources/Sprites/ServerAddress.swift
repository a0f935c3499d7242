// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// Where the server is: the parts of its base URL.
struct ServerAddress: Sendable, Hashable {
    var isSecure: Bool
    var host: String
    var port: Int
    /// Path in front of `/v1`, without a trailing slash; mostly empty.
    var prefix: String

    /// Accepts `http://` and `https://` with an optional port and path.
    ///
    /// - Throws: ``SpritesError`` with `.invalidRequest`.
    init(_ text: String) throws {
        func invalid(_ why: String) -> SpritesError {
            SpritesError(.invalidRequest, "invalid API URL \"\(text)\": \(why)")
        }
        var rest = text[...]
        if rest.hasPrefix("http://") {
            isSecure = false
            rest = rest.dropFirst(7)
        } else if rest.hasPrefix("https://") {
            isSecure = true
            rest = rest.dropFirst(8)
        } else {
            throw invalid("it must begin with http:// or https://")
        }
        guard text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }), !rest.contains("?"), !rest.contains("#") else {
            throw invalid("it may hold a host, a port and a path only")
        }
        let slash = rest.firstIndex(of: "/") ?? rest.endIndex
        var authority = rest[..<slash]
        var path = rest[slash...]
        while path.hasSuffix("/") { path = path.dropLast() }
        prefix = String(path)
        guard !authority.contains("@") else { throw invalid("give the token apart, not in the URL") }

        if authority.hasPrefix("[") {
            guard let close = authority.firstIndex(of: "]") else { throw invalid("']' is missing") }
            host = String(authority[authority.index(after: authority.startIndex)..<close])
            authority = authority[authority.index(after: close)...]
        } else {
            let colon = authority.firstIndex(of: ":") ?? authority.endIndex
            host = String(authority[..<colon])
            authority = authority[colon...]
        }
        guard !host.isEmpty else { throw invalid("the host is missing") }
        if authority.isEmpty {
            port = isSecure ? 443 : 80
        } else {
            guard authority.hasPrefix(":"), let number = UInt16(authority.dropFirst()), number > 0 else {
                throw invalid("the port is not a number from 1 to 65535")
            }
            port = Int(number)
        }
    }

    /// The value of the Host header.
    var authority: String {
        let name = host.contains(":") ? "[\(host)]" : host
        return port == (isSecure ? 443 : 80) ? name : "\(name):\(port)"
    }

    /// The base URL without a trailing slash.
    var text: String { "\(isSecure ? "https" : "http")://\(authority)\(prefix)" }
}
