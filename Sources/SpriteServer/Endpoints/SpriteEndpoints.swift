// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import NIOHTTP1
import SpriteAPI
import SpriteDomain

extension APIService {
    private static let pageSizeMax = 50

    func createSprite(_ exchange: Exchange) async throws {
        let creation = try creation(try await exchange.requiredBody(API.CreateSprite.self))
        try exchange.grant?.require(creation.name.rawValue, toWrite: true)
        try creations.take(exchange.client.address)
        let sprite = try await control.create(creation)
        try await exchange.send(.created, json: wire(sprite))
    }

    func listSprites(_ exchange: Exchange) async throws {
        let query = try exchange.target.query()
        var limit = Self.pageSizeMax
        if let text = query["max_results"], !text.isEmpty {
            guard let number = Int(text), number >= 1 else {
                throw SpriteError(
                    .invalidRequest,
                    "invalid query: 'max_results' is '\(text.prefix(40))', use a number from 1 to \(Self.pageSizeMax)")
            }
            limit = min(number, Self.pageSizeMax)
        }
        var after: String?
        if let token = query["continuation_token"], !token.isEmpty {
            guard let text = ContinuationToken.decode(token) else {
                throw SpriteError(
                    .invalidRequest, "invalid query: 'continuation_token' is not one that this server gave")
            }
            after = text
        }
        let scope = exchange.grant?.scope ?? .all
        let prefix = query["prefix"] ?? ""
        if exchange.head.headers[canonicalForm: "accept"].contains(where: { $0.hasPrefix("application/x-ndjson") }) {
            return try await watchSprites(exchange, prefix: prefix, scope)
        }
        let page = try await control.list(prefix: prefix, after: after, limit: limit, in: scope)
        var answer = API.SpritePage(
            sprites: page.sprites.map(wire), nextContinuationToken: page.next.map(ContinuationToken.encode))
        answer.counts = counts(page)
        try await exchange.send(json: answer)
    }

    func getSprite(_ exchange: Exchange, _ name: SpriteName) async throws {
        try await exchange.send(json: wire(try await control.get(name)))
    }

    func updateSprite(_ exchange: Exchange, _ name: SpriteName) async throws {
        let body = try await exchange.requiredBody(API.UpdateSprite.self)
        var update = SpriteUpdate()
        update.labels = try body.labels.map(checkedLabels)
        if body.clearLabels == true { update.labels = [] }
        update.urlAuthentication = try urlAuthentication(body.urlSettings)
        if let configuration = body.configuration {
            let current = try await control.get(name).sprite
            if let runtime = configuration.ociRuntime, runtime != current.ociRuntime {
                throw SpriteError(
                    .invalidRequest, "cannot change config: oci_runtime is chosen when a sprite is created")
            }
            update.limits = try limits(configuration, over: current.limits)
            update.idle = try idle(configuration, over: current.idle)
            update.startsWithHost = configuration.startsWithHost
        }
        try await exchange.send(json: wire(try await control.update(name, update)))
    }

    func diskUse(_ exchange: Exchange, _ name: SpriteName) async throws {
        let limit = try await control.get(name).sprite.limits.diskBytes
        try await whileConnected(exchange) {
            let use = try await self.stateControl().diskUse(name)
            try await exchange.send(json: wire(use, limit: limit))
        }
    }

    func destroySprite(_ exchange: Exchange, _ name: SpriteName) async throws {
        try await control.destroy(name)
        try await exchange.send(.noContent)
    }

    func upgradeSprite(_ exchange: Exchange, _ name: SpriteName) async throws {
        let body = try await exchange.body(API.UpgradeSprite.self)
        _ = try await control.upgrade(name, runtimes: try checkedRuntimes(body?.runtimes))
        try await exchange.send(.noContent)
    }

    func stopSprite(_ exchange: Exchange, _ name: SpriteName) async throws {
        try await exchange.send(json: wire(try await control.stop(name)))
    }

    func restartSprite(_ exchange: Exchange, _ name: SpriteName) async throws {
        let view = try await control.restart(name)
        try await exchange.send(
            json: API.SpriteRestart(
                spriteName: name.rawValue, machineID: "sprite-\(view.sprite.id)", message: "sprite '\(name)' runs again"
            ))
    }

    /// Looks without waking it.
    func checkSprite(_ exchange: Exchange, _ name: SpriteName) async throws {
        let start = ContinuousClock.now
        let view = try await control.get(name)
        var check = API.SpriteCheck(
            spriteName: name.rawValue, spriteID: "sprite-\(view.sprite.id)", status: view.status.rawValue,
            checkedAt: Timestamp.now().text)
        check.reason = view.reason
        check.elapsed = "\((ContinuousClock.now - start) / .microseconds(1))µs"
        try await exchange.send(json: check)
    }

    func forkSprite(_ exchange: Exchange, _ name: SpriteName) async throws {
        let body = try await exchange.requiredBody(API.ForkSprite.self)
        let checkpoint = try body.checkpoint.flatMap { $0.isEmpty ? nil : try checkpointID($0, of: name) }
        let newName = try SpriteName(body.name)
        try exchange.grant?.require(newName.rawValue, toWrite: true)
        try creations.take(exchange.client.address)
        guard let states = configuration.states else {
            let fork = try await control.fork(name, to: newName, checkpoint: checkpoint)
            return try await exchange.send(.created, json: wire(fork))
        }
        let fork = try await states.fork(
            name, to: newName, checkpoint: checkpoint, keepsIdentity: body.keepIdentity ?? false)
        var answer = wire(fork.view)
        answer.identity = API.Identity(renewed: fork.identity.renewed, removed: fork.identity.removed)
        try await exchange.send(.created, json: answer)
    }
}

/// Where the next page of a list begins; opaque to clients, so that it can change.
enum ContinuationToken {
    static func encode(_ name: String) -> String {
        Data(name.utf8).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_")
            .replacing("=", with: "")
    }

    static func decode(_ token: String) -> String? {
        var text = token.replacing("-", with: "+").replacing("_", with: "/")
        while text.utf8.count % 4 != 0, text.utf8.count < 1024 { text += "=" }
        guard let data = Data(base64Encoded: text), !data.isEmpty else { return nil }
        return String(data: data, encoding: .utf8)
    }
}
