// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
package import SpriteDomain

/// An IP address, as bytes in network order.
package struct TargetAddress: Sendable, Hashable {
    package let bytes: [UInt8]
    package var isIPv6: Bool { bytes.count == 16 }

    package static let loopback4 = TargetAddress(bytes: [127, 0, 0, 1])
    package static let loopback6 = TargetAddress(bytes: [UInt8](repeating: 0, count: 15) + [1])

    private init(bytes: [UInt8]) { self.bytes = bytes }

    /// Reads `127.0.0.1`, `::1` or `[::1]`.
    package init?(_ text: String) {
        var text = text
        if text.hasPrefix("["), text.hasSuffix("]") { text = String(text.dropFirst().dropLast()) }
        var bytes = [UInt8](repeating: 0, count: 16)
        if inet_pton(AF_INET, text, &bytes) == 1 {
            self.bytes = Array(bytes[..<4])
        } else if inet_pton(AF_INET6, text, &bytes) == 1 {
            self.bytes = bytes
        } else {
            return nil
        }
    }

    /// What a host given by a client means inside the sprite; empty if that cannot be told without asking the sprite.
    package static func candidates(_ host: String, sprite: SpriteName) -> [TargetAddress] {
        let name = host.lowercased()
        if name.isEmpty || name == "localhost" || name.hasSuffix(".localhost") || name == sprite.rawValue {
            return [.loopback4, .loopback6]
        }
        guard let address = TargetAddress(host) else { return [] }
        // "Any address" is what a listening socket shows; connecting to it means the loopback.
        if address.bytes.allSatisfy({ $0 == 0 }) {
            return address.isIPv6 ? [.loopback6, .loopback4] : [.loopback4, .loopback6]
        }
        return [address]
    }
}
