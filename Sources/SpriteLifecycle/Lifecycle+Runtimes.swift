// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import SpriteDomain

extension Lifecycle {
    /// The layer of a new sprite.
    func runtimes(_ wish: String?, base: BaseName) async throws -> RuntimesVersion? {
        if let driver = drivers.runtimes { return try await driver.resolve(wish, base: base) }
        guard wish == nil || wish == "none" else { throw noRuntimes }
        return nil
    }

    package func upgrade(_ name: SpriteName, runtimes wish: String?) async throws -> SpriteView {
        let machine = try machine(name)
        let drivers = drivers
        return try await machine.turns.withTurn {
            try await machine.checkExists()
            var sprite = await machine.sprite
            let chosen: RuntimesVersion?
            if let wish {
                chosen = try await self.runtimes(wish, base: sprite.base)
            } else if let driver = drivers.runtimes, let current = sprite.runtimes {
                chosen = try await driver.newest(of: current, base: sprite.base)
            } else {
                chosen = sprite.runtimes
            }
            guard chosen != sprite.runtimes else { return await machine.view }
            sprite.runtimes = chosen
            sprite.updatedAt = .now()
            try await drivers.registry.update(sprite)
            await machine.setSprite(sprite)
            return await machine.view
        }
    }

    /// Sprites that run or are frozen.
    package func spritesWithSandboxes() async -> Set<SpriteID> {
        var result: Set<SpriteID> = []
        for machine in all() where await machine.sandbox != nil { result.insert(machine.id) }
        return result
    }
}

/// Where the layer of a sprite that starts now is mounted; nil for a sprite without one.
func layer(of sprite: Sprite, _ drivers: Drivers) async throws -> String? {
    guard let version = sprite.runtimes else {
        drivers.runtimes?.release(sprite.id)
        return nil
    }
    guard let driver = drivers.runtimes else { throw noRuntimes }
    return try await driver.mount(version, for: sprite.id)
}

/// Where the layer under a sprite that runs is mounted.
func mountedLayer(of sprite: Sprite, _ drivers: Drivers) async throws -> String? {
    guard let driver = drivers.runtimes, let version = driver.mounted(by: sprite.id) else { return nil }
    return try await driver.mount(version, for: sprite.id)
}

/// Whether a sprite that outlived the last daemon lost the layer under it.
func hasLostLayer(_ sprite: Sprite, _ drivers: Drivers) async -> Bool {
    guard let driver = drivers.runtimes, let version = driver.mounted(by: sprite.id) else { return false }
    return await !driver.isAlive(version)
}

private let noRuntimes = SpriteError(
    .unsupported, "cannot use runtimes: juicefs is not installed on this host; `sprited doctor` tells more")
