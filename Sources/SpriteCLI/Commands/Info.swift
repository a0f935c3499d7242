// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct Info: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "info", abstract: "Show a sprite.")

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The sprite.", completion: .shellCommand("sprite list 2>/dev/null"))
    var name: String?

    @Flag(help: "Print the sprite as JSON.")
    var json = false

    func run() async throws {
        let sprite = try Context(global).sprite(name)
        let info = try await sprite.fetchInfo()
        if json { return try printJSON(info) }
        let use = try await Self.diskUse(sprite)
        let limits = info.configuration
        func limit(_ text: String?) -> String { text ?? "none" }
        try Table.fields([
            ("name", info.name), ("id", info.id), ("organization", info.organization), ("status", info.status),
            ("url", info.url), ("url access", info.urlSettings.auth ?? "sprite"), ("base", info.base ?? "-"),
            ("init", info.initSystem ?? "-"),
            ("memory", limit(limits?.memoryMiB.flatMap { $0 > 0 ? "\($0) MiB" : nil })),
            ("cpus", limit(limits?.cpus.flatMap { $0 > 0 ? "\($0)" : nil })),
            ("processes", limits?.pids.flatMap { $0 > 0 ? "\($0)" : nil } ?? "default"),
            ("disk limit", limit(limits?.diskMiB.flatMap { $0 > 0 ? "\($0) MiB" : nil })),
            ("bandwidth", limit(limits?.bandwidthMbit.flatMap { $0 > 0 ? "\($0) Mbit/s" : nil })),
            ("connections", limit(limits?.connections.flatMap { $0 > 0 ? "\($0)" : nil })),
            ("autostart", limits?.startsWithHost == true ? "yes" : "no"),
            ("labels", info.labels.isEmpty ? "-" : info.labels.joined(separator: ", ")),
            ("created", info.createdAt), ("last ran", info.lastRunningAt ?? "-"),
        ])
        guard let use else { return }
        try Table.fields([
            ("disk", "\(size(use.ownBytes)) of its own, \(size(use.sharedBytes)) shared"),
            ("counted against the limit", use.countedBytes.map(size) ?? "-"),
        ])
        var table = Table("STATE", "CONTENT", "ITS OWN")
        for state in [use.live] + use.checkpoints {
            table.add(state.id ?? "live", size(state.bytes), size(state.ownBytes))
        }
        try table.print()
    }

    /// Nil where the server is an older one, or another.
    private static func diskUse(_ sprite: Sprite) async throws -> API.DiskUse? {
        do {
            return try await sprite.fetchDiskUse()
        } catch let error as SpritesError where error.code == .notFound {
            return nil
        }
    }

    private func size(_ bytes: UInt64) -> String {
        let mebibytes = Double(bytes) / 1_048_576
        return mebibytes < 10 ? "\(Double(Int(mebibytes * 100)) / 100) MiB" : "\(Int(mebibytes)) MiB"
    }
}
