// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct Diff: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff", abstract: "Show what differs between two states of a sprite's disk.",
        usage: """
            sprite diff [-s NAME] FROM [TO] [PATH] [--stat | --patch | --json]
            """,
        discussion: """
            FROM and TO are checkpoints, such as v3, or current, the live state, which TO is if it is left out. PATH is \
            absolute. Each line is a letter and a path: A added, D removed, M changed (with what differs), R renamed.
            """)

    @OptionGroup var global: GlobalOptions

    @Argument(help: "FROM, TO and PATH.")
    var arguments: [String]

    @Flag(help: "Print numbers only.")
    var stat = false

    @Flag(help: "Print a patch of texts, as patch(1) takes it.")
    var patch = false

    @Flag(help: "Print the differences as JSON, one a line.")
    var json = false

    @Flag(help: "Tell what was renamed as removed and added.")
    var noRenames = false

    func validate() throws {
        guard (1...3).contains(arguments.count) else {
            throw ValidationError("give a checkpoint, and perhaps another and a path")
        }
        guard [stat, patch, json].filter({ $0 }).count <= 1 else {
            throw ValidationError("give one of --stat, --patch and --json")
        }
        _ = try options()
    }

    private func options() throws -> DiffOptions {
        var rest = arguments[...]
        var options = DiffOptions(from: rest.removeFirst())
        if let last = rest.last, last.hasPrefix("/") {
            options.path = last
            rest.removeLast()
        }
        if let to = rest.popFirst() { options.to = to }
        guard rest.isEmpty, !options.from.hasPrefix("/") else {
            throw ValidationError("give a checkpoint, perhaps another, and perhaps an absolute path")
        }
        options.patch = patch
        options.renames = !noRenames
        if stat { options.limit = 0 }
        return options
    }

    func run() async throws {
        let sprite = try Context(global).sprite()
        let (json, patch) = (json, patch)
        let summary = try await sprite.diff(try options()) { change in
            if json {
                try printJSONLine(change)
            } else if patch {
                try ChangeText.printPatch(change)
            } else {
                try printLine(ChangeText.line(change))
            }
        }
        if json { return }
        if stat { return try printLine(ChangeText.summary(summary.stat)) }
        let time = summary.elapsed.map { " in \($0.shortText)" } ?? ""
        printNote(ChangeText.summary(summary.stat) + time)
    }
}

/// Differences as people read them.
enum ChangeText {
    static func line(_ change: API.TreeChange) -> String {
        let isDirectory = (change.new ?? change.old)?.type == "directory"
        let path = Table.printable(change.path) + (isDirectory && change.path != "/" ? "/" : "")
        switch change.change {
        case "added": return "A  \(path)"
        case "removed": return "D  \(path)"
        case "renamed":
            let fields = change.fields.map { " (\($0.joined(separator: ", ")))" } ?? ""
            return "R  \(Table.printable(change.fromPath ?? "?")) -> \(path)\(fields)"
        default: return "M  \(path)  \(details(change))"
        }
    }

    private static func details(_ change: API.TreeChange) -> String {
        (change.fields ?? []).map { field in
            switch (field, change.old, change.new) {
            case ("mode", .some(let old), .some(let new)): "mode \(old.mode) -> \(new.mode)"
            case ("owner", .some(let old), .some(let new)):
                "owner \(old.uid):\(old.gid) -> \(new.uid):\(new.gid)"
            case ("content", .some(let old), .some(let new)) where old.size != new.size:
                "content \(old.size) -> \(new.size) bytes"
            case ("type", .some(let old), .some(let new)): "\(old.type) -> \(new.type)"
            default: field
            }
        }.joined(separator: ", ")
    }

    static func summary(_ stat: API.DiffStat) -> String {
        let bytes = stat.bytes > 0 ? "+\(stat.bytes)" : "\(stat.bytes)"
        return "\(stat.added) added, \(stat.removed) removed, \(stat.changed) changed, \(stat.renamed) renamed, "
            + "\(bytes) bytes"
    }

    /// What has no patch is a comment, which patch(1) passes over.
    static func printPatch(_ change: API.TreeChange) throws {
        guard let patch = change.patch, !patch.isEmpty else {
            let reason = change.patchOmitted.map { ": \($0.replacing("_", with: " "))" } ?? ""
            return try printLine("# \(line(change))\(reason)")
        }
        for text in patch.split(separator: "\n", omittingEmptySubsequences: false).dropLast() {
            try printLine(Table.printableLine(String(text)))
        }
    }
}
