// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
package import SpriteDomain
import SpriteSystem
import Synchronization

extension BridgeNetwork {
    package func apply(policy: String?, to address: String, of sprite: SpriteID) async throws {
        guard let address = IPv4Address(address) else { return }
        book.assign(address, sprite)
        let rules = try policy.flatMap { try NameRules(policy: $0) }
        // The usual case costs nothing.
        guard rules != nil || epochs[address] != nil else { return }
        guard let rules, let policy else {
            try await change(address, to: nil, opening: [])
            return
        }
        guard let nameGuard else { throw SpriteError(.unavailable, "cannot restrict the sprite: no network yet") }
        let epoch = number(of: policy, sprite, address)
        let kept = await nameGuard.restrict(address, rules, epoch: epoch)
        // Nobody meanwhile had it otherwise: a daemon before us put the same in force, and what is open stays open.
        guard epochs[address] != epoch else { return }
        defer { broker?.review(address) }
        let lasting = rules.addresses.map { "\(mark(epoch)) . \($0)" }
        let passing = kept.filter { !rules.addresses.contains($0.address) }
            .map { "\(mark(epoch)) . \($0.address) timeout \($0.seconds)s" }
        try await change(address, to: epoch, opening: lasting + passing)
    }

    package func contacts(_ sprite: SpriteID) -> [NetworkContact] { book.contacts(sprite) }

    package func forget(_ sprite: SpriteID) { book.forget(sprite) }

    /// Opens those of these addresses that lie in private networks, for every sprite; returns them.
    ///
    /// For what the host itself reaches its packages through. Never link-local addresses or the loopback.
    package func open(_ addresses: [IPv4Address]) async throws -> [IPv4Address] {
        guard let plan else { return [] }
        let never = [Subnet("169.254.0.0/16"), Subnet("127.0.0.0/8"), Subnet("0.0.0.0/8"), plan.subnet]
        let wanted = Set(addresses).filter { address in
            !opened.allows(address) && !never.contains { $0?.contains(address) == true }
        }
        guard !wanted.isEmpty else { return [] }
        let list = wanted.sorted().map(\.description).joined(separator: ", ")
        let text = "add element inet \(Firewall.table(plan.tag)) opened { \(list) }\n"
        try await blocking { try runTool("nft", ["-f", "-"], inputFile: text) }
        for address in wanted { if let network = Subnet(network: address, prefixLength: 32) { opened.open(network) } }
        return wanted.sorted()
    }

    /// Whoever gets the address next begins without a policy.
    func liftPolicy(_ address: IPv4Address) async {
        book.release(address)
        await nameGuard?.release(address)
        guard epochs[address] != nil else { return }
        do { try await change(address, to: nil, opening: []) } catch {
            logger.error("cannot lift a network policy", metadata: ["address": "\(address)", "error": "\(error)"])
        }
    }

    /// Replaces what is in force for one sprite, in one transaction of the kernel.
    ///
    /// Flows carry the number of the policy that let them begin. Those that carry the old one are looked at anew with
    /// their next packet, in either direction.
    private func change(_ address: IPv4Address, to epoch: UInt32?, opening: [String]) async throws {
        guard let plan else { return }
        let table = Firewall.table(plan.tag)
        var lines: [String] = []
        if let old = epochs[address] {
            lines.append("delete element inet \(table) epochs { \(address) }")
            lines.append("delete element inet \(table) current { \(mark(old)) }")
        }
        if let epoch {
            lines.append("add element inet \(table) restricted { \(address) }")
            lines.append("add element inet \(table) epochs { \(address) : \(mark(epoch)) }")
            lines.append("add element inet \(table) current { \(mark(epoch)) }")
        } else {
            lines.append("delete element inet \(table) restricted { \(address) }")
        }
        for group in opening.indices.by(512, in: opening) {
            lines.append("add element inet \(table) names { \(group.joined(separator: ", ")) }")
        }
        let text = lines.joined(separator: "\n") + "\n"
        do {
            try await blocking { try runTool("nft", ["-f", "-"], inputFile: text) }
        } catch {
            throw SpriteError(
                .internalError, "cannot put the network policy in force; what was in force before still is",
                cause: error)
        }
        if epoch == nil { await nameGuard?.release(address) }
        epochs[address] = epoch
    }

    /// The same for the same policy of the same sprite, so that the next daemon sees what is in force.
    private func number(of policy: String, _ sprite: SpriteID, _ address: IPv4Address) -> UInt32 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in "\(sprite) \(address) \(policy)".utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        let folded = UInt32(truncatingIfNeeded: hash >> 32 ^ hash)
        // Zero is the mark of everything that has none.
        return folded == 0 ? 1 : folded
    }

    private func mark(_ epoch: UInt32) -> String { "0x" + String(epoch, radix: 16) }
}

extension Range<Int> {
    /// The elements of a list, `count` at a time.
    fileprivate func by(_ count: Int, in list: [String]) -> [ArraySlice<String>] {
        stride(from: lowerBound, to: upperBound, by: count).map { list[$0..<Swift.min($0 + count, upperBound)] }
    }
}

/// Which addresses sprites may use at all.
final class OpenNetworks: Sendable {
    private let opened: Mutex<[Subnet]>
    private let closed = Firewall.privateNetworks.compactMap { Subnet($0) }

    init(_ networks: [Subnet]) { opened = Mutex(networks) }

    var networks: [Subnet] { opened.withLock { $0 } }

    func isPrivate(_ address: IPv4Address) -> Bool { closed.contains { $0.contains(address) } }

    func allows(_ address: IPv4Address) -> Bool {
        !isPrivate(address) || opened.withLock { $0.contains { $0.contains(address) } }
    }

    func open(_ network: Subnet) { opened.withLock { $0.append(network) } }
}
