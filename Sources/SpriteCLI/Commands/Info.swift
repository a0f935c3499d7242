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
        let info = try await Context(global).sprite(name).fetchInfo()
        if json { return try printJSON(info) }
        let limits = info.configuration
        func limit(_ text: String?) -> String { text ?? "none" }
        try Table.fields([
            ("name", info.name), ("id", info.id), ("organization", info.organization), ("status", info.status),
            ("url", info.url), ("url access", info.urlSettings.auth ?? "sprite"), ("base", info.base ?? "-"),
            ("init", info.initSystem ?? "-"),
            ("memory", limit(limits?.memoryMiB.flatMap { $0 > 0 ? "\($0) MiB" : nil })),
            ("cpus", limit(limits?.cpus.flatMap { $0 > 0 ? "\($0)" : nil })),
            ("processes", limits?.pids.flatMap { $0 > 0 ? "\($0)" : nil } ?? "default"),
            ("labels", info.labels.isEmpty ? "-" : info.labels.joined(separator: ", ")),
            ("created", info.createdAt), ("last ran", info.lastRunningAt ?? "-"),
        ])
    }
}
