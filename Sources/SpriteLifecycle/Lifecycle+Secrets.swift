// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import SpriteDomain

extension Lifecycle {
    package func secrets(_ name: SpriteName) async throws -> [BrokeredSecret] {
        try await drivers.registry.secrets(try machine(name).id)
    }

    package func setSecret(_ name: SpriteName, _ secret: BrokeredSecret) async throws {
        let machine = try machine(name)
        // Once begun it is finished, whether or not the client stays.
        try await Task { try await machine.turns.withTurn { try await machine.setSecret(secret, name) } }.value
        machine.note(
            "secret.set", "secret \(secret.id) set for \(secret.host)",
            fields: [("secret", .text(secret.id)), ("host", .text(secret.host)), ("header", .text(secret.header))])
    }

    package func removeSecret(_ name: SpriteName, _ id: String) async throws {
        let machine = try machine(name)
        try await Task { try await machine.turns.withTurn { try await machine.removeSecret(id) } }.value
        machine.note("secret.removed", "secret \(id) removed", fields: [("secret", .text(id))])
    }
}

extension Machine {
    /// The caller holds the turn. Kept first: whatever ends the daemon in between, the next one uses what is kept.
    fileprivate func setSecret(_ secret: BrokeredSecret, _ name: SpriteName) async throws {
        try checkExists()
        let others = try await drivers.registry.secrets(id).filter { $0.id != secret.id }
        if let same = others.first(where: { $0.host == secret.host && $0.header == secret.header }) {
            throw SpriteError(
                .conflict,
                "cannot set the secret: '\(same.id)' has the header \(secret.header) of \(secret.host) already")
        }
        guard others.count < Limits.secretsPerSpriteMax else {
            throw SpriteError(
                .limitReached,
                "cannot set the secret: the sprite has \(others.count), the limit is \(Limits.secretsPerSpriteMax)")
        }
        if try await drivers.registry.authority(id) == nil {
            try await drivers.registry.setAuthority(id, try await drivers.network.makeAuthority(for: name))
        } else if !drivers.network.isBroker {
            // Says why.
            _ = try await drivers.network.makeAuthority(for: name)
        }
        try await drivers.registry.setSecret(id, secret)
        try await broker()
    }

    fileprivate func removeSecret(_ secret: String) async throws {
        try checkExists()
        guard try await drivers.registry.removeSecret(id, secret) else {
            throw SpriteError(.notFound, "there is no secret '\(secret.prefix(Limits.secretIDBytesMax))'")
        }
        try await broker()
    }

    /// Puts in force what the registry has.
    private func broker() async throws {
        guard let sandbox else { return }
        let brokerage = try await drivers.brokerage(id)
        // Programs can trust the authority before a request needs it.
        if let brokerage { try await drivers.sandboxes.showAuthority(id, brokerage.authority.certificate) }
        try await drivers.network.broker(brokerage, to: sandbox.address, of: id)
        await drivers.sessions.setEnvironment(id, sprite.environment(brokerage))
    }
}

extension Drivers {
    /// Puts in force what the registry has for a sprite.
    func broker(_ sprite: SpriteID, at address: String) async throws -> Brokerage? {
        let brokerage = try await brokerage(sprite)
        try await network.broker(brokerage, to: address, of: sprite)
        return brokerage
    }

    /// Nil for sprites without secrets, and where brokering is not enabled.
    func brokerage(_ sprite: SpriteID) async throws -> Brokerage? {
        guard network.isBroker else { return nil }
        let secrets = try await registry.secrets(sprite)
        guard !secrets.isEmpty, let authority = try await registry.authority(sprite) else { return nil }
        return Brokerage(authority: authority, secrets: secrets)
    }
}

extension Sprite {
    /// What every command of the sprite has in its environment.
    func environment(_ brokerage: Brokerage?) -> [String: String] {
        brokerage == nil ? environment : BrokerEnvironment.adding(to: environment)
    }
}
