// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import FoundationEssentials
import SpriteDomain
import SpriteNetwork
import SpriteSandbox
import SpriteStorage

/// `sprited doctor`: what this host offers, what is lost without it, how to fix it.
struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Show what this host offers to sprites.",
        discussion: "Changes nothing. Exits with 1 if something that sprites need is missing.")

    @OptionGroup var data: DataOptions
    @Option(help: "The OCI runtime to look for.")
    var runtime = "crun"
    @Flag(help: "Print a JSON array.")
    var json = false

    func run() throws {
        let checks =
            Doctor.checks(runtime: runtime) + NetworkDoctor.checks()
            + StorageDoctor.checks(dataDirectory: data.dataDirectory)
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
            say(String(decoding: try encoder.encode(checks.map(CheckReport.init)), as: UTF8.self))
        } else {
            let width = checks.map(\.name.count).max() ?? 0
            for check in checks {
                let mark = check.state == .ok ? "ok     " : check.state == .warning ? "warning" : "MISSING"
                let padding = String(repeating: " ", count: width - check.name.count)
                say("\(mark)  \(check.name)\(padding)  \(check.found)")
                if !check.lost.isEmpty { say("         lost: \(check.lost)") }
                if !check.fix.isEmpty { say("         fix:  \(check.fix)") }
            }
        }
        if checks.contains(where: { $0.state == .missing }) { throw ExitCode(1) }
    }
}

private struct CheckReport: Encodable {
    var name: String
    var state: String
    var found: String
    var lost: String
    var fix: String

    init(_ check: HostCheck) {
        name = check.name
        state = check.state.rawValue
        found = check.found
        lost = check.lost
        fix = check.fix
    }
}
