// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// Machines that this host reaches its packages through; bases take the same settings over.
package enum HostMirrors {
    /// Their IPv4 addresses. Asks name servers, so it may take seconds: call inside `blocking`.
    package static func addresses() -> [String] {
        Array(Set(hosts(HostNetwork.ofThisHost()).flatMap(resolve))).sorted()
    }

    static func hosts(_ network: HostNetwork) -> [String] {
        var urls = network.proxies.filter { $0.name.lowercased() != "no_proxy" }.map(\.value)
        urls += network.aptSettings.filter { $0.contains("::Proxy") }.compactMap { line in
            line.split(separator: "\"").dropFirst().first.map(String.init)
        }
        urls += network.sources.flatMap(\.uris)
        for (key, value) in network.pip where ["index-url", "extra-index-url", "proxy", "find-links"].contains(key) {
            urls += value.words
        }
        return Array(Set(urls.compactMap(host))).sorted()
    }

    /// `http://user:word@HOST:port/path`, or without the scheme.
    static func host(_ url: String) -> String? {
        let rest = url.range(of: "://").map { url[$0.upperBound...] } ?? url[...]
        let authority = rest.prefix { $0 != "/" }.split(separator: "@").last ?? ""
        let host = authority.prefix { $0 != ":" }
        // IPv6 addresses stand in brackets; sprites have no IPv6.
        return host.isEmpty || host.hasPrefix("[") ? nil : String(host)
    }

    private static func resolve(_ host: String) -> [String] {
        var hints = addrinfo()
        hints.ai_family = AF_INET
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, nil, &hints, &list) == 0 else { return [] }
        defer { freeaddrinfo(list) }
        var found: [String] = []
        var entry = list
        while let current = entry {
            var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            let address = current.pointee
            if getnameinfo(
                address.ai_addr, address.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST) == 0
            {
                found.append(String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self))
            }
            entry = address.ai_next
        }
        return found
    }
}
