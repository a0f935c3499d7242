// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem
import Sprites

/// Runs groups of rows, one after the other, from one client.
final class Bench {
    let client: SpritesClient
    let raw: RawOperations
    let settings: BenchCommand
    let report: Report
    private var counter = 0

    init(client: SpritesClient, raw: RawOperations, settings: BenchCommand, report: Report) {
        self.client = client
        self.raw = raw
        self.settings = settings
        self.report = report
    }

    func run(_ group: BenchGroup) async throws {
        report.progress("— \(group.rawValue)")
        switch group {
        case .memory: try await memory()
        case .create: try await create()
        case .exec: try await exec()
        case .checkpoint: try await checkpoint()
        case .inside: try await checkpointInside()
        case .written: try await checkpointAfterWriting()
        case .restore: try await restore()
        case .fork: try await fork()
        case .diff: try await diff()
        case .throughput: try await throughput()
        case .url: try await url()
        case .wake: try await wake()
        case .rest: try await rest()
        case .sprites: try await manySprites()
        case .checkpoints: try await manyCheckpoints()
        case .disk: try await largeDisk()
        case .journal: try await journal()
        case .limits: try await limits()
        }
    }

    // MARK: What the groups share

    func freshName() -> String {
        counter += 1
        return "bench-\(getpid())-\(counter)"
    }

    /// A sprite for the time of `body`.
    func withSprite(_ body: (Sprite) async throws -> Void) async throws {
        let sprite = try await client.create(freshName())
        do {
            try await expectTrue(sprite)
            try await body(sprite)
        } catch {
            try? await sprite.destroy()
            throw error
        }
        try await sprite.destroy()
    }

    /// Runs `true` over a WebSocket of its own.
    func expectTrue(_ sprite: Sprite) async throws {
        let result = try await sprite.command(["true"]).run()
        guard result.exitCode == 0 else {
            throw BenchFailure("true ended with \(result.exitCode): \(result.stderrText)")
        }
    }

    func shell(_ sprite: Sprite, _ script: String) async throws {
        let result = try await sprite.command(["sh", "-c", script]).run()
        guard result.exitCode == 0 else {
            throw BenchFailure("\(script) ended with \(result.exitCode): \(result.stderrText)")
        }
    }

    /// The id that names a sprite's disk; the API shows it with or without a prefix.
    func diskID(_ sprite: Sprite) async throws -> String {
        let id = try await sprite.fetchInfo().id
        return id.hasPrefix("sprite-") ? String(id.dropFirst(7)) : id
    }

    /// Measures `body` as often as asked for, after three runs that do not count.
    func measure(_ runs: Int? = nil, _ body: (Int) async throws -> Duration) async throws -> Samples {
        var samples = Samples()
        for warmUp in 0..<3 { _ = try await body(-1 - warmUp) }
        for run in 0..<(runs ?? settings.runs) { samples.add(try await body(run)) }
        return samples
    }
}
