// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Foundation
import SpriteDomain
import SpriteRegistry
import Testing

@Suite struct RegistryTests {
    let folder: URL
    let registry: Registry

    init() throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "registry-\(SpriteID.random())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        registry = try Registry(path: folder.appending(path: "registry.db").path)
    }

    private func sprite(_ name: String) throws -> Sprite {
        Sprite(
            id: .random(), name: try SpriteName(name), base: try BaseName("base"),
            limits: ResourceLimits(memoryMiB: 64, cpus: 0.5, pids: 100), environment: ["A": "\"quoted\"\n"],
            labels: ["one", "two"], createdAt: Timestamp(nanoseconds: 1), updatedAt: Timestamp(nanoseconds: 2))
    }

    @Test func `a sprite is there once its creation is complete, and comes back as it was`() async throws {
        let sprite = try sprite("one")
        let intent = Intent.create(sprite, source: .empty)
        try await registry.begin(intent)
        #expect(try await registry.sprites().isEmpty)
        #expect(try await registry.intents() == [intent])
        let initial = Checkpoint(sprite: sprite.id, id: .initial, createdAt: sprite.createdAt)
        try await registry.complete(intent, .written(sprite, initial))
        #expect(try await registry.sprites() == [sprite])
        #expect(try await registry.checkpoints(sprite.id) == [initial])
        #expect(try await registry.intents().isEmpty)
        try? FileManager.default.removeItem(at: folder)
    }

    @Test func `a name that is taken is refused even while its sprite is being made`() async throws {
        try await registry.begin(.create(try sprite("one"), source: .empty))
        let error = await #expect(throws: SpriteError.self) {
            try await registry.begin(.create(try sprite("one"), source: .empty))
        }
        #expect(error?.code == .alreadyExists)
        #expect(try await registry.intents().count == 1)
        try? FileManager.default.removeItem(at: folder)
    }

    @Test func `an abandoned creation frees the name`() async throws {
        let first = Intent.create(try sprite("one"), source: .live(.random()))
        try await registry.begin(first)
        #expect(try await registry.intents() == [first])
        try await registry.abandon(first)
        try await registry.begin(.create(try sprite("one"), source: .empty))
        try? FileManager.default.removeItem(at: folder)
    }

    @Test func `a checkpoint number is never used again, even if the checkpoint was abandoned`() async throws {
        let sprite = try await made("one")
        let intent = Intent.checkpoint(sprite.id, .version(1))
        try await registry.begin(intent)
        try await registry.abandon(intent)
        #expect(try await registry.sprites().first?.nextVersion == 2)
        try? FileManager.default.removeItem(at: folder)
    }

    @Test func `every intent survives closing and opening the file`() async throws {
        let sprite = try await made("one")
        let intents: Set<Intent> = [
            .checkpoint(sprite.id, .version(3)), .restore(sprite.id, from: .version(1), replaced: .automatic(1)),
            .deleteCheckpoint(sprite.id, .version(2)),
        ]
        for intent in intents { try await registry.begin(intent) }
        let reopened = try Registry(path: folder.appending(path: "registry.db").path)
        let read = try await reopened.intents().map { intent -> Intent in intent }
        #expect(Set(read) == intents)
        try? FileManager.default.removeItem(at: folder)
    }

    @Test func `destroying removes rows, checkpoints and other intents`() async throws {
        let sprite = try await made("one")
        try await registry.begin(.checkpoint(sprite.id, .version(1)))
        let intent = Intent.destroy(sprite.id)
        try await registry.begin(intent)
        #expect(try await registry.sprites().isEmpty)
        #expect(try await registry.intents() == [intent])
        try await registry.complete(intent, .removed)
        #expect(try await registry.checkpoints(sprite.id).isEmpty)
        #expect(try await registry.intents().isEmpty)
        try? FileManager.default.removeItem(at: folder)
    }

    @Test func `a file that is no database is refused with its path`() async throws {
        let path = folder.appending(path: "garbage.db").path
        try Data(repeating: 0x41, count: 8192).write(to: URL(fileURLWithPath: path))
        let error = #expect(throws: SpriteError.self) { try Registry(path: path) }
        #expect(error?.message.contains(path) == true)
        try? FileManager.default.removeItem(at: folder)
    }

    private func made(_ name: String) async throws -> Sprite {
        let sprite = try sprite(name)
        let intent = Intent.create(sprite, source: .empty)
        try await registry.begin(intent)
        try await registry.complete(
            intent, .written(sprite, Checkpoint(sprite: sprite.id, id: .initial, createdAt: sprite.createdAt)))
        return sprite
    }
}
