// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOCore
package import SpriteDomain

extension Lifecycle {
    package func race(
        _ name: SpriteName, _ request: RaceRequest, onEvent: @escaping @Sendable (RaceEvent) async throws -> Void
    ) async throws -> RaceOutcome {
        let origin = try machine(name)
        guard (1...Limits.racersMax).contains(request.count) else {
            throw SpriteError(
                .invalidRequest, "cannot race: \(request.count) forks, use 1 to \(Limits.racersMax)")
        }
        let source = try await raceSource(origin, request)
        try await onEvent(.note("\(request.count) forks of \(source) run"))
        let results = try await withThrowingTaskGroup(of: (Racer, Machine).self) { group in
            var results: [(racer: Racer, fork: Machine)] = []
            do {
                for index in 1...request.count {
                    group.addTask { try await self.racer(index, origin, source, request) }
                }
                while let result = try await group.next() {
                    results.append(result)
                    try await onEvent(.finished(result.0))
                }
            } catch {
                // Those that are on their way drop their forks by themselves; those that have come in are ours.
                group.cancelAll()
                for result in results { await drop(result.fork) }
                while let late = await group.nextResult() {
                    if let (_, fork) = try? late.get() { await drop(fork) }
                }
                throw error
            }
            return results
        }
        var outcome = RaceOutcome(ranking: rank(results.map(\.racer), request), source: source)
        let failure: (any Error)?
        do {
            if request.promotes { try await promote(&outcome, origin, name, results, request) }
            failure = nil
        } catch {
            failure = error
        }
        for result in results { await drop(result.fork) }
        if let failure { throw failure }
        return outcome
    }

    /// All forks are of one state, so the live one is kept first.
    private func raceSource(_ origin: Machine, _ request: RaceRequest) async throws -> CheckpointID {
        if let checkpoint = request.checkpoint { return try await origin.checkpoint(checkpoint).id }
        return try await Task {
            try await origin.turns.withTurn {
                let made = try await origin.makeCheckpoint(
                    comment: "before the race: \(request.command.label)", reason: .attempt)
                await origin.thinAutomaticCheckpoints()
                return made.id
            }
        }.value
    }

    private func racer(
        _ index: Int, _ origin: Machine, _ source: CheckpointID, _ request: RaceRequest
    ) async throws -> (Racer, Machine) {
        let fork = try await throwAway(origin, "race", source)
        do {
            var racer = Racer(index: index)
            var command = request.command
            command.environment.append((name: "SPRITE_RACE_INDEX", value: "\(index)"))
            let output = OutputTail(bytesMax: Limits.racerOutputBytesMax)
            let begin = ContinuousClock.now
            do {
                racer.exit = try await run(fork, command, timeout: request.timeout) { _, bytes in
                    await output.append(bytes)
                }
                if racer.exit != .exited(0) { racer.problem = "the command ended with \(racer.exit?.code ?? 0)" }
            } catch let error as SpriteError where error.code == .timeout {
                racer.problem = error.message
            }
            racer.elapsed = ContinuousClock.now - begin
            racer.output = await output.bytes
            if racer.problem == nil, var score = request.score {
                score.environment.append((name: "SPRITE_RACE_INDEX", value: "\(index)"))
                try await self.score(&racer, fork, score, request.timeout)
            }
            do {
                racer.diff = try await diff(fork, .checkpoint(.initial), .live, TreeDiffOptions())
            } catch let error as SpriteError where error.code == .tooLarge {
                // Told without its differences.
            }
            return (racer, fork)
        } catch {
            await drop(fork)
            throw error
        }
    }

    private func score(
        _ racer: inout Racer, _ fork: Machine, _ command: ExecRequest, _ timeout: Duration
    ) async throws {
        let printed = OutputTail(bytesMax: 4096)
        do {
            let exit = try await run(fork, command, timeout: timeout) { stream, bytes in
                if stream == .stdout { await printed.append(bytes) }
            }
            let text = String(buffer: await printed.bytes)
            let last = text.split(whereSeparator: \.isWhitespace).last.map(String.init) ?? ""
            if exit != .exited(0) {
                racer.problem = "the score command ended with \(exit.code)"
            } else if let number = Double(last), number.isFinite {
                racer.score = number
            } else {
                racer.problem = "the score command printed no number at its end"
            }
        } catch let error as SpriteError where error.code == .timeout {
            racer.problem = "score: \(error.message)"
        }
    }

    private func rank(_ racers: [Racer], _ request: RaceRequest) -> [Racer] {
        racers.sorted { a, b in
            if (a.problem == nil) != (b.problem == nil) { return a.problem == nil }
            if let x = a.score, let y = b.score, x != y { return request.isLowestBest ? x < y : x > y }
            // Without scores, or with equal ones, the first to come in.
            return request.score == nil ? a.elapsed < b.elapsed : a.index < b.index
        }
    }

    private func promote(
        _ outcome: inout RaceOutcome, _ origin: Machine, _ name: SpriteName,
        _ results: [(racer: Racer, fork: Machine)], _ request: RaceRequest
    ) async throws {
        guard let best = outcome.ranking.first, best.problem == nil,
            let fork = results.first(where: { $0.racer.index == best.index })?.fork
        else {
            throw SpriteError(.conflict, "cannot promote: none of the \(request.count) commands succeeded")
        }
        let made = try await Task {
            try await fork.turns.withTurn {
                try await fork.stop()
                return try await origin.turns.withTurn {
                    try await origin.makeCheckpoint(
                        comment: "number \(best.index) of \(request.count): \(request.command.label)",
                        reason: .promoted, source: .live(fork.id)
                    ).id
                }
            }
        }.value
        outcome.replaced = try await restore(origin, name, { _ in }, { made })
        outcome.promoted = made
    }
}

/// The end of what a command prints.
actor OutputTail {
    private(set) var bytes = ByteBuffer()
    private let bytesMax: Int

    init(bytesMax: Int) { self.bytesMax = bytesMax }

    func append(_ more: ByteBuffer) {
        bytes.writeImmutableBuffer(more)
        let extra = bytes.readableBytes - bytesMax
        guard extra > 0 else { return }
        bytes.moveReaderIndex(forwardBy: extra)
        bytes.discardReadBytes()
    }
}
