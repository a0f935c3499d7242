// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
package import SpriteDomain
import SpriteSystem

extension BridgeNetwork {
    package func broker(_ brokerage: Brokerage?, to address: String, of sprite: SpriteID) async throws {
        guard let plan, let nameGuard, let broker, let address = IPv4Address(address) else { return }
        let brokerage = brokerage.flatMap { $0.secrets.isEmpty ? nil : $0 }
        // The usual case costs nothing.
        guard brokerage != nil || brokered.contains(address) else { return }
        book.assign(address, sprite)
        // Before names lead there, and taken away before they lead elsewhere.
        broker.serve(address, sprite, brokerage)
        await nameGuard.broker(address, Set(brokerage?.secrets.map(\.host) ?? []))
        let isBrokered = brokerage != nil
        guard isBrokered != brokered.contains(address) else { return }
        let text = "\(isBrokered ? "add" : "delete") element inet \(Firewall.table(plan.tag)) brokered { \(address) }\n"
        do {
            try await blocking { try runTool("nft", ["-f", "-"], inputFile: text) }
        } catch {
            throw SpriteError(.internalError, "cannot lead the sprite's requests through the broker", cause: error)
        }
        if isBrokered { brokered.insert(address) } else { brokered.remove(address) }
    }

    package func makeAuthority(for sprite: SpriteName) async throws -> SpriteAuthority {
        guard isBroker else { throw notBrokered }
        do {
            return try await blocking { try CertificateTool.makeAuthority(named: "sprite \(sprite)") }
        } catch {
            throw SpriteError(
                .internalError, "cannot make a certificate authority: is openssl 3 installed?", cause: error)
        }
    }

    package nonisolated var isBroker: Bool { brokerSettings != nil }

    /// Whoever gets the address next begins without secrets.
    func liftBrokerage(_ address: IPv4Address) async {
        guard let sprite = book.sprite(at: address), brokered.contains(address) else { return }
        do { try await broker(nil, to: "\(address)", of: sprite) } catch {
            logger.error("cannot end brokering", metadata: ["address": "\(address)", "error": "\(error)"])
        }
    }

    private var notBrokered: SpriteError {
        SpriteError(
            .unsupported,
            "cannot broker secrets: the operator has not enabled it; start the server with --credential-broker")
    }
}
