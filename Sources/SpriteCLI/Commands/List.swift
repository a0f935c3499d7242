// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List sprites.",
        discussion: "Prints only names when its output is not a terminal.", aliases: ["ls"])

    @OptionGroup var global: GlobalOptions

    @Option(help: "Only sprites whose names begin with this.")
    var prefix = ""

    @Flag(name: [.customShort("w"), .long], help: "Go on and tell of every change.")
    var watch = false

    @Flag(help: "Print the sprites as JSON; with --watch one object a line.")
    var json = false

    func run() async throws {
        let client = try Context(global).client()
        if watch { return try await follow(client) }
        var sprites: [SpriteInfo] = []
        for try await sprite in client.list(prefix: prefix) {
            if let info = sprite.info { sprites.append(info) }
        }
        if json { return try printJSON(sprites) }
        guard isTerminal(1) else {
            for sprite in sprites { try printLine(sprite.name) }
            return
        }
        guard !sprites.isEmpty else { return printNote("no sprites yet; `sprite create NAME` makes one") }
        var table = Table("NAME", "STATUS", "WHY", "CREATED", "LABELS", "URL")
        for sprite in sprites {
            table.add(
                sprite.name, sprite.status, sprite.statusReason ?? "-", ago(sprite.createdAt),
                sprite.labels.joined(separator: ","), sprite.url)
        }
        try table.print()
    }

    private func follow(_ client: SpritesClient) async throws {
        try await client.watch(prefix: prefix) { event in
            guard event.type != "heartbeat", let name = event.name else { return }
            if json { return try printLine(compactJSON(event)) }
            let status = event.type == "removed" ? "destroyed" : event.status ?? ""
            let why = event.statusReason.map { " (\($0))" } ?? ""
            try printLine("\(event.timestamp)  \(Table.printable(name))  \(Table.printable(status + why))")
        }
        throw CommandFailure("the server ended the list")
    }
}
