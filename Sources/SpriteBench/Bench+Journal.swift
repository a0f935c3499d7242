// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteAPI
import Sprites

/// The journal of a running daemon; docs/journal.md has the figures.
extension Bench {
    func journal() async throws {
        try await journalIngest()
        try await journalLatency()
        try await journalSlowdown()
        try await journalRecords()
    }

    // MARK: Ingest

    /// Four sprites print a million lines of 100 bytes at once; the time ends when the last line can be read.
    private func journalIngest() async throws {
        let lines = 250_000
        try await withSprites(4) { sprites in
            var rates = Samples()
            var shares: [Double] = []
            for run in 0..<self.settings.journalRuns {
                let busy = try self.processorTicks()
                let took = try await timed {
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        for sprite in sprites {
                            group.addTask { try await printLines(sprite, bytes: lines * 100, "ingest\(run)") }
                        }
                        try await group.waitForAll()
                    }
                    // Besides the one that showed that the sprite runs.
                    for sprite in sprites { try await self.waitForEnds(sprite, run + 2) }
                }
                shares.append(Double(try self.processorTicks() - busy) * 10 / took.milliseconds)
                for sprite in sprites { try await self.expectRecorded(sprite, lines * (run + 1)) }
                rates.add(milliseconds: Double(lines * sprites.count) / (took.milliseconds / 1e3))
            }
            var row = Row("journal: lines of 100 bytes from 4 sprites", rates, bars: [.atLeast(100_000)])
            row.unit = "lines/s"
            let share = Int(shares.reduce(0, +) / Double(shares.count) * 100)
            row.note = "the whole daemon took \(share) % of one processor meanwhile"
            self.report.add(row)
        }
        try await waitForIndex()
    }

    private func withSprites(_ count: Int, _ body: ([Sprite]) async throws -> Void) async throws {
        var sprites: [Sprite] = []
        for _ in 0..<count { sprites.append(try await client.create(freshName())) }
        let result: Result<Void, any Error>
        do {
            for sprite in sprites { try await expectTrue(sprite) }
            result = .success(try await body(sprites))
        } catch {
            result = .failure(error)
        }
        for sprite in sprites { try? await sprite.destroy() }
        try result.get()
    }

    /// Fails if anything was left out.
    private func expectRecorded(_ sprite: Sprite, _ lines: Int) async throws {
        let answer = try await client.queryLogs(
            "SELECT sum(length(text) + 1) / 100 FROM log WHERE sprite = '\(sprite.name)' AND stream IS NOT NULL")
        let recorded = Int(answer.rows[0][0].number ?? 0)
        guard recorded == lines else { throw BenchFailure("\(recorded) of \(lines) lines were recorded") }
    }

    /// The end of a command is recorded behind all of its output.
    private func waitForEnds(_ sprite: Sprite, _ count: Int) async throws {
        let query = API.Query([.init("event", "exec.ended"), .init("limit", "\(count)")])
        for _ in 0..<10_000 {
            if try await client.logs(sprite: sprite.name, query).records.count == count { return }
            try await Task.sleep(for: .milliseconds(5))
        }
        throw BenchFailure("not all lines were recorded within a minute")
    }

    /// What still has to be indexed would disturb the rows that follow.
    private func waitForIndex() async throws {
        for _ in 0..<1200 {
            let answer = try await client.queryLogs("SELECT max(id) FROM records")
            let newest = answer.rows[0][0].number ?? 0
            let state = try await client.queryLogs("SELECT value FROM state WHERE name = 'indexed'")
            if let indexed = state.rows.first?[0].number, indexed >= newest - 100 { return }
            try await Task.sleep(for: .milliseconds(100))
        }
        report.progress("the index is still behind")
    }

    // MARK: Latency

    /// From write(2) in a sprite to the line at a follower: the line is the time at which it is written.
    private func journalLatency() async throws {
        try await withSprite { sprite in
            let count = 400
            let script = "for run in $(seq \(count + 20)); do echo $EPOCHREALTIME; sleep 0.02; done"
            var samples = Samples()
            do {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        let result = try await sprite.command(["bash", "-c", "sleep 0.5; \(script)"]).run()
                        guard result.exitCode == 0 else { throw BenchFailure("the printer ended badly") }
                    }
                    var seen = 0
                    let query = API.Query([.init("stream", "stdout"), .init("limit", "1")])
                    try await self.client.followLogs(sprite: sprite.name, query) { record in
                        guard let written = Double(record.text) else { return }
                        seen += 1
                        if seen > 20 { samples.add(milliseconds: (realTime() - written) * 1e3) }
                        if seen == count + 20 { throw Enough() }
                    }
                    try await group.waitForAll()
                }
            } catch  where samples.values.count >= count {
                // Breaking off is how a stream without end is left.
            }
            self.report.add(Row("journal: write(2) to a follower", samples, bars: [.atMost(20)]))
            var tail = Samples()
            tail.add(milliseconds: samples.quantile(0.99))
            self.report.add(Row("journal: the same, 99th percentile", tail, bars: [.atMost(50)]))
        }
    }

    private struct Enough: Error {}

    // MARK: What it costs a process

    /// 200 MB of lines through a daemon that records them, and through one that does not.
    private func journalSlowdown() async throws {
        guard let url = settings.silentURL, let file = settings.silentTokenFile else {
            return report.progress("no daemon without recording was given: that row is left out")
        }
        try await withSprite { sprite in
            try await SpritesClient.with(baseURL: url, token: try readFile(file).filter { !$0.isWhitespace }) { other in
                let silent = try await other.create(self.freshName())
                var (with, without) = (Samples(), Samples())
                for run in -1..<self.settings.journalRuns * 2 {
                    let raw = try await timed { try await printLines(silent, bytes: 200_000_000, "slow") }
                    let took = try await timed { try await printLines(sprite, bytes: 200_000_000, "slow") }
                    // The burst that a session may print fills again in eight seconds.
                    try await Task.sleep(for: .seconds(4))
                    guard run >= 0 else { continue }
                    without.add(raw)
                    with.add(took)
                }
                self.report.add(
                    Row(
                        "journal: a process prints 200 MB", with, raw: ("not recorded", without),
                        bars: [.atMost(without.median * 1.25, "1.25 × not recorded")]))
                try await silent.destroy()
            }
        }
        try await waitForIndex()
    }
}

/// Seconds since 1970.
private func realTime() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

/// Lines of 100 bytes, newline included, into a client that throws them away.
private func printLines(_ sprite: Sprite, bytes: Int, _ word: String) async throws {
    let line = (word + " " + String(repeating: "0123456789 ", count: 10)).prefix(99)
    let running = try await sprite.command(["sh", "-c", "yes '\(line)' | head -c \(bytes)"]).start()
    running.closeInput()
    var count = 0
    for try await chunk in running.output { count += chunk.count }
    let code = try await running.exitCode()
    try await running.close()
    guard count == bytes, code == 0 else { throw BenchFailure("\(count) bytes came, code \(code)") }
}
