// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// A range of IPv4 addresses, such as `10.64.16.0/20`.
///
/// The first address after the network's own is the gateway; the sprites' follow, each known by its offset.
package struct Subnet: Hashable, Sendable, CustomStringConvertible {
    package let network: IPv4Address
    package let prefixLength: Int

    /// Nil if bits behind the prefix are set, or the prefix is not one.
    package init?(network: IPv4Address, prefixLength: Int) {
        guard (0...32).contains(prefixLength), network.rawValue & ~Subnet.mask(prefixLength) == 0 else { return nil }
        self.network = network
        self.prefixLength = prefixLength
    }

    /// Accepts `address/prefix`.
    package init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let network = IPv4Address(parts[0]), let prefixLength = Int(parts[1]) else {
            return nil
        }
        self.init(network: network, prefixLength: prefixLength)
    }

    package var description: String { "\(network)/\(prefixLength)" }
    package var gateway: IPv4Address { IPv4Address(rawValue: network.rawValue | 1) }

    /// Offsets that sprites may have: without the network, the gateway and the broadcast address.
    package var offsets: Range<UInt32> {
        let size = UInt64(1) << UInt64(32 - prefixLength)
        return size < 4 ? 2..<2 : 2..<UInt32(size - 1)
    }

    package func address(_ offset: UInt32) -> IPv4Address { IPv4Address(rawValue: network.rawValue | offset) }

    package func offset(of address: IPv4Address) -> UInt32? {
        guard contains(address) else { return nil }
        return address.rawValue & ~Subnet.mask(prefixLength)
    }

    package func contains(_ address: IPv4Address) -> Bool {
        address.rawValue & Subnet.mask(prefixLength) == network.rawValue
    }

    package func overlaps(_ other: Subnet) -> Bool {
        let shorter = Subnet.mask(min(prefixLength, other.prefixLength))
        return network.rawValue & shorter == other.network.rawValue & shorter
    }

    /// Chooses a /20 of 10.64.0.0/10 that no route of the host leads to.
    ///
    /// Begins at a place derived from `tag`, so that a daemon gets the same again and two daemons that start at the
    /// same moment get different ones. If wide routes (a VPN's 10.0.0.0/8, say) cover everything, they are tolerated:
    /// ours is more specific and wins on this host.
    package static func choose(tag: String, routes: [Subnet]) -> Subnet? {
        var hash: UInt32 = 2_166_136_261
        for byte in tag.utf8 { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
        let candidates = (UInt32(0)..<1024).compactMap { step in
            Subnet(network: IPv4Address(rawValue: 0x0A40_0000 | (((hash &+ step) % 1024) << 12)), prefixLength: 20)
        }
        let relevant = routes.filter { $0.prefixLength > 0 }
        return candidates.first { candidate in !relevant.contains { $0.overlaps(candidate) } }
            ?? candidates.first { candidate in
                !relevant.contains { $0.prefixLength >= candidate.prefixLength && $0.overlaps(candidate) }
            }
    }

    private static func mask(_ length: Int) -> UInt32 { length == 0 ? 0 : ~UInt32(0) << UInt32(32 - length) }
}
