// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

/// Tells from the host name of a request whether it is for a sprite's own URL, and whose.
struct SpriteHosts: Sendable, Hashable {
    private let prefix: String
    private let suffix: String

    /// - Parameter template: Such as `http://<name>.sprites.localhost:<port>`; nil if its host has no `<name>`.
    init?(template: String) {
        let rest = template.split(separator: "://", maxSplits: 1).last ?? ""
        let host = rest.prefix { $0 != "/" && $0 != ":" }.lowercased()
        guard let place = host.firstRange(of: "<name>") else { return nil }
        prefix = String(host[..<place.lowerBound])
        suffix = String(host[place.upperBound...])
        // The name alone would take every host for a sprite's.
        guard !prefix.isEmpty || !suffix.isEmpty else { return nil }
    }

    /// The sprite that `Host: NAME.sprites.localhost:7780` means; nil for any other host, such as the API's own.
    func name(_ host: String?) -> String? {
        guard let host else { return nil }
        let name = host.prefix { $0 != ":" }.lowercased()
        guard name.utf8.count > prefix.utf8.count + suffix.utf8.count, name.hasPrefix(prefix), name.hasSuffix(suffix)
        else { return nil }
        return String(name.dropFirst(prefix.count).dropLast(suffix.count))
    }
}
