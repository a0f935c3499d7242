// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct Create: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create", abstract: "Make a sprite and start it.",
        discussion: "In a terminal a console of it is opened, unless --skip-console is given.")

    @OptionGroup var global: GlobalOptions

    @Argument(help: "Its name: up to 63 of a-z, 0-9 and '-'. Without one a name is made up.")
    var name: String?

    @Flag(help: "Do not open a console.")
    var skipConsole = false

    @Option(name: .customLong("label"), help: "A word to find it by; may be repeated.")
    var labels: [String] = []

    @Option(help: "Memory limit, such as 512M or 2G; a bare number means MiB.")
    var memory: Mebibytes?

    @Option(help: "CPU limit, such as 0.5 or 2.")
    var cpus: Double?

    @Option(help: "Limit of processes and threads.")
    var pids: Int?

    @Option(help: "Limit of its disk with all checkpoints, such as 512M or 10G; a bare number means MiB.")
    var disk: Mebibytes?

    @Option(help: "Megabits a second that it may send, and receive.")
    var bandwidth: Int?

    @Option(help: "Connections outwards at once.")
    var connections: Int?

    @Flag(help: "Start it together with the daemon, as after a reboot of the host.")
    var autostart = false

    @Option(help: "The base image to make it from.")
    var base: String?

    @Option(help: "The layer of language runtimes: none, NAME or NAME@VERSION. (default: what the operator chose)")
    var runtimes: String?

    @Option(name: .customLong("env"), help: "Variables that every command gets, as NAME=VALUE,NAME2=VALUE2.")
    var environment: [String] = []

    @Flag(help: "Print the sprite as JSON.")
    var json = false

    func run() async throws {
        let context = try Context(global)
        let client = try context.client()
        var options = SpriteOptions()
        options.labels = labels
        options.limits = SpriteLimits(memoryMiB: memory?.count, cpus: cpus, pids: pids)
        options.limits.diskMiB = disk?.count
        options.limits.bandwidthMbit = bandwidth
        options.limits.connections = connections
        options.limits.startsWithHost = autostart ? true : nil
        options.base = base
        options.runtimes = runtimes
        options.environment = try parseEnvironment(environment)
        let name = name ?? RandomName.make()
        let (sprite, duration) = try await timed { try await client.create(name, options) }
        if json {
            if let info = sprite.info { try printJSON(info) }
        } else {
            try printLine(sprite.name)
            printNote("created in \(duration.shortText)")
        }
        if !json, !skipConsole, isTerminal(0), isTerminal(1) { try await Console.open(sprite) }
    }
}

/// An amount of memory in MiB.
struct Mebibytes: ExpressibleByArgument {
    var count: Int

    /// Takes `512`, `512M`, `512MiB`, `2G`, `2GB` and the like.
    init?(argument: String) {
        let digits = argument.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        guard let number = Double(digits), number >= 0, number < 1e9 else { return nil }
        switch argument.dropFirst(digits.count).lowercased() {
        case "", "m", "mb", "mib": count = Int(number.rounded())
        case "g", "gb", "gib": count = Int((number * 1024).rounded())
        default: return nil
        }
    }
}

/// Takes `A=1,B=2` apart; a part without `=` belongs to the value before it, so that values may hold commas.
func parseEnvironment(_ lists: [String]) throws -> [String: String] {
    var result: [String: String] = [:]
    for list in lists {
        var last: String?
        for part in list.split(separator: ",", omittingEmptySubsequences: false) {
            let name = part.prefix { $0 != "=" }
            let isName = !name.isEmpty && name.utf8.allSatisfy { isNameByte($0) } && !name.utf8.isEmpty
            if isName, name.endIndex != part.endIndex {
                last = String(name)
                result[String(name)] = String(part[part.index(after: name.endIndex)...])
            } else if let name = last, let value = result[name] {
                result[name] = "\(value),\(part)"
            } else {
                throw UsageError("invalid --env '\(part)'; use NAME=VALUE")
            }
        }
    }
    return result
}

private func isNameByte(_ byte: UInt8) -> Bool {
    (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) || byte == 0x5F
}

/// Names for sprites whose makers did not care.
enum RandomName {
    private static let first = [
        "amber", "brave", "calm", "clever", "copper", "eager", "fuzzy", "gentle", "jolly", "lively", "lucky", "mellow",
        "nimble", "quick", "quiet", "silver", "sunny", "swift", "tidy", "witty",
    ]
    private static let second = [
        "badger", "beacon", "brook", "canyon", "cedar", "comet", "falcon", "harbor", "heron", "lantern", "maple",
        "meadow", "otter", "pebble", "quartz", "raven", "river", "spark", "sparrow", "willow",
    ]

    static func make() -> String {
        "\(first.randomElement() ?? "a")-\(second.randomElement() ?? "b")-\(Int.random(in: 1000...9999))"
    }
}
