// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Foundation
import GRDB
import SpriteDomain
import SpriteRegistry
import Testing

/// Registries as daemons of each former schema wrote them, in `Tests/Fixtures/registry`.
@Suite struct MigrationTests {
    static let fixtures: [URL] = {
        let folder = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../Fixtures/registry").standardizedFileURL
        let files = try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
        return (files ?? []).filter { $0.pathExtension == "sql" }
            .sorted { $0.lastPathComponent < $1.lastPathComponent }
    }()

    private func database(_ fixture: URL) throws -> String {
        let path = FileManager.default.temporaryDirectory.appending(path: "registry-\(SpriteID.random()).db").path
        let text = try String(contentsOf: fixture, encoding: .utf8)
        var configuration = Configuration()
        // A dump has tables in the order of their names.
        configuration.foreignKeysEnabled = false
        let queue = try DatabaseQueue(path: path, configuration: configuration)
        try queue.writeWithoutTransaction { try $0.execute(sql: text) }
        return path
    }

    private func remove(_ path: String) {
        for suffix in ["", "-wal", "-shm"] { try? FileManager.default.removeItem(atPath: path + suffix) }
    }

    @Test(arguments: fixtures)
    func `what a daemon of an older schema wrote is all there, and can be changed`(fixture: URL) async throws {
        let version = try #require(Int(fixture.lastPathComponent.prefix(2)))
        let path = try database(fixture)
        defer { remove(path) }
        let registry = try Registry(path: path)

        let sprites = try await registry.sprites()
        #expect(sprites.map(\.name.rawValue) == ["first", "second"])
        var first = try #require(sprites.first)
        #expect(first.id.rawValue == "00000000000000a1")
        #expect((first.limits.memoryMiB, first.limits.cpus, first.limits.pids) == (512, 1.5, 100))
        #expect((first.environment, first.labels) == (["KEY": "value"], ["a", "b"]))
        #expect((first.urlAuthentication, first.source, first.nextVersion) == (.public, .version(2), 3))
        #expect(first.lastRunningAt == Timestamp(nanoseconds: 3000))
        #expect(first.idle.freezeAfterSeconds == (version >= 2 ? 60 : nil))
        #expect(first.runtimes == (version >= 5 ? try RuntimesVersion("default@0123456789ab") : nil))
        #expect(first.ociRuntime == (version >= 8 ? "runc" : nil))
        #expect(first.limits.diskMiB == (version >= 10 ? 1024 : nil))
        #expect(first.limits.bandwidthMbit == (version >= 11 ? 100 : nil))
        #expect(first.limits.connections == (version >= 11 ? 50 : nil))
        #expect(first.startsWithHost == (version >= 10))
        #expect(!first.isEphemeral)

        let checkpoints = try await registry.checkpoints(first.id)
        #expect(checkpoints.map(\.id.rawValue) == ["v0", "v1", "auto-1", "v2"])
        // What was automatic was what a restore had replaced, before there were reasons.
        #expect(checkpoints[2].reason == .replaced)
        #expect((checkpoints[1].comment, checkpoints[1].source) == ("kept", .initial))
        #expect(checkpoints[1].isPinned == (version >= 6))
        #expect(try await registry.policy(first.id, .network) == (version >= 3 ? #"{"rules":[]}"# : nil))
        #expect(try await registry.tasks(first.id).map(\.name) == (version >= 4 ? ["build"] : []))
        #expect(try await registry.resumption(first.id)?.followUp?.command == (version >= 9 ? "make" : nil))

        // What was under way is finished or undone by the new daemon.
        let intents = try await registry.intents()
        #expect(intents.count == 2)
        #expect(intents.contains(.checkpoint(first.id, .version(3))))
        for intent in intents { try await registry.abandon(intent) }

        first.limits.diskMiB = 64
        first.startsWithHost = true
        try await registry.update(first)
        #expect(try await Registry(path: path).sprites().first == first)
    }

    @Test func `every schema there was has its fixture`() throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "registry-\(SpriteID.random()).db").path
        defer { remove(path) }
        _ = try Registry(path: path)
        let migrations = try DatabaseQueue(path: path).read {
            try Int.fetchOne($0, sql: "SELECT COUNT(*) FROM grdb_migrations")
        }
        #expect(Self.fixtures.count == migrations, "add a dump of the new schema; the older ones stay as they are")
    }
}
