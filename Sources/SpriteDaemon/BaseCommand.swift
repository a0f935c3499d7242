// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Logging
import SpriteDomain
import SpriteStorage
import SpriteSystem

struct BaseCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "base", abstract: "Root filesystems that sprites begin with.", subcommands: [BaseImport.self])
}

struct BaseImport: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "import", abstract: "Import.")
    @OptionGroup var data: DataOptions
    @Option var name: String
    @Argument var path: String
    func run() async throws {
        let names = try data.names()
        LoggingSystem.bootstrap { JSONLogHandler(logLevel: .warning, label: $0) }
        try makeRunDirectory(names.runDirectory)
        let pool = try await BtrfsPool.open(
            dataDirectory: names.dataDirectory, runDirectory: names.runDirectory, imageBytes: 10 << 30,
            logger: Logger(label: "sprited"))
        let path = path
        try await pool.importBase(try BaseName(name), replacing: true) { workspace in
            try runTool("tar", ["-C", workspace.path, "--numeric-owner", "-xf", path])
            return []
        }
    }
}
