// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import SpriteDomain

extension Lifecycle {
    package func bisect(
        _ name: SpriteName, _ request: BisectRequest,
        onEvent: @escaping @Sendable (BisectEvent) async throws -> Void
    ) async throws -> BisectOutcome {
        let machine = try machine(name)
        var search = try Bisection(
            try await machine.between(request.good, request.bad, includesAutomatic: request.includesAutomatic))
        var tests = 0
        while let next = search.next {
            try await onEvent(.note("Testing \(next), \(search.left) left"))
            let exit = try await test(machine, next, request, onEvent)
            tests += 1
            let verdict: BisectVerdict
            switch exit {
            case .exited(0): verdict = .good
            case .exited(125): verdict = .skipped
            case .exited(let code) where code < 128: verdict = .bad
            default:
                throw SpriteError(
                    .conflict,
                    "cannot go on: the command ended with \(exit.code) at \(next); 0 means good, 125 cannot be tested, "
                        + "1 to 127 bad, and anything else breaks off")
            }
            search.note(verdict, of: next)
            try await onEvent(.tested(next, verdict, exit, left: search.left))
        }
        return BisectOutcome(firstBad: search.firstBad, lastGood: search.lastGood, tests: tests)
    }

    private func test(
        _ machine: Machine, _ checkpoint: CheckpointID, _ request: BisectRequest,
        _ onEvent: @escaping @Sendable (BisectEvent) async throws -> Void
    ) async throws -> ExitStatus {
        let fork = try await throwAway(machine, "bisect", checkpoint)
        do {
            let exit = try await run(fork, request.command, timeout: request.timeout) { stream, bytes in
                try await onEvent(.output(stream, bytes))
            }
            await drop(fork)
            return exit
        } catch {
            await drop(fork)
            throw error
        }
    }
}

extension Machine {
    /// The checkpoints from a good to a bad one: on the line of descent if there is one, else all in order of time.
    func between(_ good: CheckpointID, _ bad: CheckpointID, includesAutomatic: Bool) throws -> [CheckpointID] {
        let first = try checkpoint(good)
        let last = try checkpoint(bad)
        let sources = Dictionary(checkpoints.map { ($0.id, $0.source) }) { a, _ in a }
        var line = [bad]
        while line.count <= checkpoints.count, let next = sources[line[line.count - 1]] ?? nil, line.last != good {
            line.append(next)
        }
        if line.last == good, !includesAutomatic { return line.reversed().filter { sources.keys.contains($0) } }
        guard first.createdAt < last.createdAt else {
            throw SpriteError(
                .invalidRequest, "cannot bisect: \(good) is not older than \(bad); name the good one first")
        }
        return checkpoints.filter {
            ($0.createdAt >= first.createdAt && $0.createdAt <= last.createdAt)
                && (includesAutomatic || !$0.id.isAutomatic || $0.id == good || $0.id == bad)
        }.map(\.id)
    }
}

/// Which checkpoint to test next.
struct Bisection {
    /// The first is good, the last is bad.
    private var candidates: [CheckpointID]
    private var skipped: Set<CheckpointID> = []

    init(_ candidates: [CheckpointID]) throws {
        guard candidates.count >= 2 else {
            throw SpriteError(.invalidRequest, "cannot bisect: the good and the bad checkpoint are the same")
        }
        self.candidates = candidates
    }

    private var inner: ArraySlice<CheckpointID> { candidates.dropFirst().dropLast() }

    /// Those that may still be tested.
    var left: Int { inner.filter { !skipped.contains($0) }.count }

    /// The one nearest to the middle; nil when there is none.
    var next: CheckpointID? {
        let middle = (candidates.count - 1) / 2
        return inner.indices.filter { !skipped.contains(candidates[$0]) }.min { abs($0 - middle) < abs($1 - middle) }
            .map { candidates[$0] }
    }

    mutating func note(_ verdict: BisectVerdict, of id: CheckpointID) {
        guard let index = candidates.firstIndex(of: id) else { return }
        switch verdict {
        case .good: candidates.removeFirst(index)
        case .bad: candidates.removeLast(candidates.count - 1 - index)
        case .skipped: skipped.insert(id)
        }
    }

    var lastGood: CheckpointID { candidates[0] }
    /// Those that were skipped may be it as well.
    var firstBad: [CheckpointID] { Array(candidates.dropFirst()) }
}
