// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites

/// `sprite-bench`: measures a running daemon through its public API, beside the raw operations of the kernel.
///
/// Run it in a copy of the daemon's mount namespace (`scripts/bench.sh` does), where the pool is mounted.
@main
struct BenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sprite-bench", abstract: "Measures a daemon through its API, beside the raw operations.")

    @Option(help: "Base URL of the daemon.")
    var url = "http://127.0.0.1:7780"

    @Option(help: "File that holds the token.")
    var tokenFile = "/var/lib/sprited/token"

    @Option(help: "The daemon's process id; found out where its memory is looked at.")
    var daemonPid: Int32

    @Option(help: "Where the pool is mounted, as this process sees it.")
    var pool = "/var/lib/sprited/pool"

    @Option(help: "The daemon's run directory, for the bundle of a sprite and what it holds in memory.")
    var runDirectory: String

    @Option(help: "Name of the imported base that sprites are made from.")
    var base = "default"

    @Option(help: "Runs of each row.")
    var runs = 50

    @Option(help: "Runs of the throughput row, 1 GiB each.")
    var throughputRuns = 10

    @Option(help: "Sprites on the host for the rows with many.")
    var sprites = 300

    @Option(help: "Sprites for the row about the daemon at rest, of which ten run.")
    var sleepingSprites = 1000

    @Option(help: "Checkpoints of one sprite for the rows with many.")
    var checkpoints = 500

    @Option(name: .customLong("disk-gib"), help: "GiB on the disk for the rows with a large one.")
    var diskGiB = 5

    @Option(name: .customLong("silent-url"), help: "Base URL of a second daemon, which records no output.")
    var silentURL: String?

    @Option(help: "File that holds the second daemon's token.")
    var silentTokenFile: String?

    @Option(help: "Runs of the rows about the journal of a running daemon.")
    var journalRuns = 5

    @Option(help: "Records in the journal that is searched.")
    var journalRecords = 10_000_000

    @Option(help: "File of that journal; it stays, and is filled only once. (default: one that is removed afterwards)")
    var journalFile: String?

    @Option(parsing: .upToNextOption, help: "Groups to run: \(BenchGroup.names); all if none is named.")
    var only: [BenchGroup] = []

    @Flag(help: "Print JSON instead of a table.")
    var json = false

    func validate() throws {
        guard runs >= 1, throughputRuns >= 1, sprites >= 1, sleepingSprites >= 11, checkpoints >= 1, diskGiB >= 1 else {
            throw ValidationError("counts must be at least 1")
        }
    }

    func run() async throws {
        let token = try readFile(tokenFile).filter { !$0.isWhitespace }
        let report = Report(isJSON: json)
        try await SpritesClient.with(baseURL: url, token: token) { client in
            let raw = try RawOperations(pool: pool)
            defer { raw.removeEverything() }
            let bench = Bench(client: client, raw: raw, settings: self, report: report)
            for group in BenchGroup.allCases where only.isEmpty || only.contains(group) {
                try await bench.run(group)
            }
        }
        report.finish()
        if report.hasFailures { throw ExitCode(1) }
    }
}

/// Rows that share their preparation.
enum BenchGroup: String, CaseIterable, ExpressibleByArgument, Sendable {
    // Memory first: a daemon that was busy before has free memory of its own, which hides what sprites take.
    case memory, create, exec, checkpoint, inside, written, restore, fork, diff, throughput, url, wake, sprites,
        checkpoints, disk, journal, rest, limits

    static var names: String { allCases.map(\.rawValue).joined(separator: ", ") }
}
