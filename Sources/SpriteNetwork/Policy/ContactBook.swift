// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import SpriteDomain
import Synchronization

/// What sprites contacted, and what was refused to them, since the daemon started.
///
/// Bounded per sprite: what is inside decides how many names there are.
package final class ContactBook: Sendable {
    private struct State {
        var sprites: [IPv4Address: SpriteID] = [:]
        var contacts: [SpriteID: [Key: NetworkContact]] = [:]
        /// Names by the addresses they led to, per sprite.
        var names: [SpriteID: [IPv4Address: String]] = [:]
        /// When the journal was last told that a sprite reached a limit.
        var limits: [SpriteID: [NetworkLimitHit: ContinuousClock.Instant]] = [:]
    }

    private struct Key: Hashable {
        var target: String
        var port: UInt16?
        var isAllowed: Bool
    }

    private let state = Mutex(State())
    private let onFirst: @Sendable (SpriteID, NetworkContact) -> Void
    private let onLimit: @Sendable (SpriteID, NetworkLimitHit) -> Void

    /// - Parameters:
    ///   - onLimit: Called when a sprite reaches a limit, once a minute while that goes on.
    ///   - onFirst: Called for the first contact of a kind, and for the first refusal.
    package init(
        onLimit: @escaping @Sendable (SpriteID, NetworkLimitHit) -> Void = { _, _ in },
        onFirst: @escaping @Sendable (SpriteID, NetworkContact) -> Void = { _, _ in }
    ) {
        self.onLimit = onLimit
        self.onFirst = onFirst
    }

    func assign(_ address: IPv4Address, _ sprite: SpriteID) { state.withLock { $0.sprites[address] = sprite } }
    func release(_ address: IPv4Address) { state.withLock { $0.sprites[address] = nil } }
    func sprite(at address: IPv4Address) -> SpriteID? { state.withLock { $0.sprites[address] } }

    package func forget(_ sprite: SpriteID) {
        state.withLock {
            $0.contacts[sprite] = nil
            $0.names[sprite] = nil
            $0.limits[sprite] = nil
        }
    }

    /// Newest last.
    package func contacts(_ sprite: SpriteID) -> [NetworkContact] {
        state.withLock { $0.contacts[sprite].map { Array($0.values) } ?? [] }
            .sorted { ($0.firstAt, $0.target) < ($1.firstAt, $1.target) }
    }

    /// A name was asked for.
    func record(
        name: String, isAllowed: Bool, reason: NetworkContact.Reason?, addresses: [IPv4Address] = [],
        from address: IPv4Address
    ) {
        let first: (SpriteID, NetworkContact)? = state.withLock { state in
            guard let sprite = state.sprites[address] else { return nil }
            if isAllowed {
                for address in addresses where state.names[sprite, default: [:]].count < contactsMax {
                    state.names[sprite, default: [:]][address] = name
                }
            }
            // Of a flood every name is new; what they have in common tells more.
            let target = reason == .flood ? family(name) : name
            return add(Key(target: target, isAllowed: isAllowed), reason, &state, sprite)
        }
        if let first { onFirst(first.0, first.1) }
    }

    /// A packet went out, or was refused.
    func record(destination: IPv4Address, port: UInt16?, isAllowed: Bool, from address: IPv4Address) {
        let first: (SpriteID, NetworkContact)? = state.withLock { state in
            guard let sprite = state.sprites[address] else { return nil }
            // Recorded under its name when that was asked for.
            if isAllowed, state.names[sprite]?[destination] != nil { return nil }
            let key = Key(target: destination.description, port: port, isAllowed: isAllowed)
            return add(key, isAllowed ? nil : .address, &state, sprite)
        }
        if let first { onFirst(first.0, first.1) }
    }

    /// A packet was over a limit of one of the two.
    func record(_ limit: NetworkLimitHit, from source: IPv4Address, to destination: IPv4Address) {
        let now = ContinuousClock.now
        let sprite: SpriteID? = state.withLock { state in
            guard let sprite = state.sprites[source] ?? state.sprites[destination] else { return nil }
            if let last = state.limits[sprite]?[limit], now - last < .seconds(60) { return nil }
            state.limits[sprite, default: [:]][limit] = now
            return sprite
        }
        if let sprite { onLimit(sprite, limit) }
    }

    private func add(
        _ key: Key, _ reason: NetworkContact.Reason?, _ state: inout State, _ sprite: SpriteID
    ) -> (SpriteID, NetworkContact)? {
        let now = Timestamp.now()
        var key = key
        let known = state.contacts[sprite, default: [:]]
        if known[key] == nil, known.count >= contactsMax / 2, IPv4Address(key.target) == nil {
            // Whoever makes names up must not hide what comes after them.
            key.target = family(key.target)
        }
        if state.contacts[sprite]?[key] != nil {
            state.contacts[sprite]?[key]?.count += 1
            state.contacts[sprite]?[key]?.lastAt = now
            return nil
        }
        guard state.contacts[sprite, default: [:]].count < contactsMax else { return nil }
        let contact = NetworkContact(
            target: key.target, port: key.port, isAllowed: key.isAllowed, reason: reason, count: 1, firstAt: now,
            lastAt: now)
        state.contacts[sprite, default: [:]][key] = contact
        return (sprite, contact)
    }
}

private let contactsMax = 1024

/// `*.` and the last two labels.
private func family(_ name: String) -> String {
    let labels = name.split(separator: ".")
    return labels.count > 2 ? "*." + labels.suffix(2).joined(separator: ".") : name
}
