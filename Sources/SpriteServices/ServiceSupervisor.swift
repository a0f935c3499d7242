// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Glibc
package import Logging
package import SpriteDomain

/// What every crew works with.
struct SupervisorParts: Sendable {
    var sessions: any SessionDriver
    var store: DefinitionStore
    var logFile: @Sendable (SpriteID, String) -> String?
    var logger: Logger
}

/// Keeps the services of every sprite running.
package actor ServiceSupervisor: ServiceDriver {
    private let parts: SupervisorParts
    private var crews: [SpriteID: Crew] = [:]

    /// - Parameter guestFolder: The folder on the host that a sprite sees as /.sprite; logs go into it.
    package init(
        sessions: any SessionDriver, storage: any StorageDriver, guestFolder: @escaping @Sendable (SpriteID) -> String,
        logger: Logger
    ) {
        parts = SupervisorParts(
            sessions: sessions, store: DefinitionStore(storage: storage),
            logFile: { sprite, name in logPath(guestFolder(sprite), name) }, logger: logger)
    }

    package func started(_ sprite: SpriteID) async { await crew(sprite).started() }

    package func stopping(_ sprite: SpriteID) async {
        await crews[sprite]?.stopping()
    }

    func crew(_ sprite: SpriteID) -> Crew {
        if let crew = crews[sprite] { return crew }
        let crew = Crew(sprite, parts)
        crews[sprite] = crew
        return crew
    }

    package func forget(_ sprite: SpriteID) { crews[sprite] = nil }
}

/// Services as the API asks for them: by the sprite's name, waking it.
package struct ServiceRequests: ServiceControl {
    private let supervisor: ServiceSupervisor
    private let control: any SpriteControl

    package init(_ supervisor: ServiceSupervisor, _ control: any SpriteControl) {
        self.supervisor = supervisor
        self.control = control
    }

    private func with<Value: Sendable>(
        _ sprite: SpriteName, _ body: @Sendable (Crew) async throws -> Value
    ) async throws -> Value {
        let use = try await control.use(sprite)
        defer { use.end() }
        let crew = await supervisor.crew(use.id)
        try await crew.waitUntilLoaded()
        return try await body(crew)
    }

    package func services(_ sprite: SpriteName) async throws -> [ServiceView] {
        try await with(sprite) { await $0.views }
    }
    package func service(_ sprite: SpriteName, _ name: String) async throws -> ServiceView {
        try await with(sprite) { try await $0.view(name) }
    }
    package func define(
        _ sprite: SpriteName, _ definition: ServiceDefinition
    ) async throws -> AsyncStream<ServiceEvent> {
        try await with(sprite) { try await $0.define(definition) }
    }
    package func start(_ sprite: SpriteName, _ name: String) async throws -> AsyncStream<ServiceEvent> {
        try await with(sprite) { try await $0.start(name) }
    }
    package func restart(_ sprite: SpriteName, _ name: String) async throws -> AsyncStream<ServiceEvent> {
        try await with(sprite) { try await $0.restart(name) }
    }
    package func stop(
        _ sprite: SpriteName, _ name: String, timeout: Duration
    ) async throws -> AsyncStream<ServiceEvent> {
        try await with(sprite) { try await $0.stop(name, timeout: timeout) }
    }
    package func delete(_ sprite: SpriteName, _ name: String) async throws {
        try await with(sprite) { try await $0.delete(name) }
    }
    package func signal(_ sprite: SpriteName, _ name: String, _ signal: Int32) async throws {
        try await with(sprite) { try await $0.signal(name, signal) }
    }
    package func logs(_ sprite: SpriteName, _ name: String, lines: Int) async throws -> AsyncStream<ServiceEvent> {
        try await with(sprite) { try await $0.logs(name, lines: lines) }
    }
    package func httpPort(_ sprite: SpriteName) async throws -> Int? { try await with(sprite) { await $0.httpPort } }
}

/// Definitions in the sprite's disk, so that checkpoints, restores and forks carry them.
struct DefinitionStore: Sendable {
    static let fileName = "services.json"
    let storage: any StorageDriver

    func load(_ sprite: SpriteID) async throws -> [ServiceDefinition] {
        guard let bytes = try await storage.readDiskFile(sprite, DefinitionStore.fileName) else { return [] }
        return try JSONDecoder().decode([ServiceDefinition].self, from: Data(bytes))
    }

    func save(_ sprite: SpriteID, _ definitions: [ServiceDefinition]) async throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        try await storage.writeDiskFile(sprite, DefinitionStore.fileName, Array(try encoder.encode(definitions)))
        FaultPoint.serviceKept.reached()
    }
}

/// Makes the folders on the way; nil if there is no such sprite's folder.
private func logPath(_ guestFolder: String, _ name: String) -> String? {
    guard access(guestFolder, F_OK) == 0 else { return nil }
    for folder in ["\(guestFolder)/logs", "\(guestFolder)/logs/services"] { mkdir(folder, 0o755) }
    return "\(guestFolder)/logs/services/\(name).log"
}
