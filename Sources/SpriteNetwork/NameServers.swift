// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteSystem

/// Name servers that a sprite can reach.
package enum NameServers {
    /// Used when the host has none but its own loopback: two of different operators.
    package static let publicDefaults = ["1.1.1.1", "8.8.8.8"]

    /// The host's IPv4 name servers as they are now.
    ///
    /// One on the host's loopback, such as systemd-resolved's 127.0.0.53, cannot be reached from another network
    /// namespace; then those that systemd-resolved itself asks are taken.
    package static func current() -> [String] {
        choose(
            resolvConf: (try? readSmallFile("/etc/resolv.conf")) ?? "",
            resolved: (try? readSmallFile("/run/systemd/resolve/resolv.conf")) ?? "")
    }

    /// At most three, which is what a resolver reads (resolv.conf(5)).
    package static func choose(resolvConf: String, resolved: String) -> [String] {
        for text in [resolvConf, resolved] {
            let servers = nameServers(text).filter { !$0.isLoopback }
            if !servers.isEmpty { return servers.prefix(3).map(\.description) }
        }
        return publicDefaults
    }

    private static func nameServers(_ text: String) -> [IPv4Address] {
        text.split(separator: "\n").compactMap { line in
            let words = line.split { $0 == " " || $0 == "\t" }
            return words.count >= 2 && words[0] == "nameserver" ? IPv4Address(words[1]) : nil
        }
    }
}
