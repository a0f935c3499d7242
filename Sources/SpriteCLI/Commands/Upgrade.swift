// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

struct Upgrade: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "upgrade", abstract: "Move a sprite to a new version of its language runtimes or of its base.",
        usage: """
            sprite upgrade [NAME] [--runtimes LAYER]
            sprite upgrade NAME --base [NEWBASE] [--dry-run]
            sprite upgrade NAME --undo
            """,
        discussion: """
            Other runtimes are there from the next start on. With --base another version of the base is put under the sprite. \
            What the sprite changed stays as it is. Files of the new version that it therefore does not see are listed. \
            The sprite is stopped and started; the state before is kept, and --undo goes back to it.
            """)

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The sprite, and with --base another base or version, such as debian-bookworm@2.")
    var names: [String] = []

    @Option(help: "The layer to move to: none, NAME or NAME@VERSION. (default: the version in use of what it has)")
    var runtimes: String?

    @Flag(help: "To the newest version of its base, or to the one that is named.")
    var base = false

    @Flag(help: "Only list what the sprite would not see.")
    var dryRun = false

    @Flag(help: "Go back to the state before the last upgrade or restore, and its base.")
    var undo = false

    @Flag(help: "Print the result as JSON.")
    var json = false

    func validate() throws {
        guard [base, undo, runtimes != nil].count(where: { $0 }) <= 1 else {
            throw ValidationError("give one of --runtimes, --base and --undo")
        }
        guard names.count <= (base ? 2 : 1) else { throw ValidationError("give a sprite and at most one base") }
    }

    func run() async throws {
        let sprite = try Context(global).sprite(names.first)
        guard base || undo else {
            try await sprite.upgrade(runtimes: runtimes)
            let info = try await sprite.fetchInfo()
            return try printLine(
                info.runtimes.map { "\(sprite.name) has runtimes \($0)" } ?? "\(sprite.name) has no runtimes")
        }
        if undo {
            let (restored, duration) = try await timed { try await sprite.undoRestore() }
            if json { return try printJSON(Undone(restored: restored.id, replaced: restored.replacedID)) }
            return printNote("\(sprite.name) is back in the state before, in \(duration.shortText)")
        }
        let target = names.count == 2 ? names[1] : nil
        let (done, duration) = try await timed { try await sprite.upgradeBase(to: target, isTrial: dryRun) }
        if json { return try printJSON(done) }
        for file in done.shadowed { try printLine("\(file.kind)  \(file.path)") }
        let more = done.shadowedCount - done.shadowed.count
        if more > 0 { printNote("... and \(more) more") }
        guard done.from != done.to else { return printNote("\(sprite.name) has the newest version, \(done.to)") }
        let hidden = "\(done.shadowedCount) files of \(done.to) are hidden by the sprite's own changes"
        if let kept = done.keptAs {
            printNote(
                "\(sprite.name) went from \(done.from) to \(done.to) in \(duration.shortText); \(hidden); "
                    + "the state before is kept as \(kept), --undo goes back")
        } else {
            printNote("\(sprite.name) would go from \(done.from) to \(done.to); \(hidden)")
        }
    }

    private struct Undone: Encodable {
        var restored: String?
        var replaced: String?
    }
}
