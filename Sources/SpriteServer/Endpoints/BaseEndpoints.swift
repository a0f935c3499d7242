// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteAPI
import SpriteDomain

extension APIService {
    func upgradeBase(_ exchange: Exchange, _ name: SpriteName) async throws {
        let body = try await exchange.body(API.UpgradeBase.self) ?? API.UpgradeBase()
        let base = try body.base.flatMap { $0.isEmpty ? nil : try BaseName($0) }
        let upgrade = try await control.upgradeBase(name, to: base, isTrial: body.isTrial ?? false)
        try await exchange.send(json: wire(upgrade))
    }

    private func wire(_ upgrade: BaseUpgrade) -> API.BaseUpgrade {
        var wire = API.BaseUpgrade(from: upgrade.from.rawValue, to: upgrade.to.rawValue)
        wire.keptAs = upgrade.kept?.rawValue
        wire.shadowedCount = upgrade.shadowed.count
        wire.shadowed = upgrade.shadowed.files.map { API.ShadowedFile(path: $0.path, kind: $0.kind.rawValue) }
        return wire
    }
}
