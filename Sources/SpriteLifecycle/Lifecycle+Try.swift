// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import SpriteDomain

extension Lifecycle {
    package func attempt(
        _ name: SpriteName, _ request: AttemptRequest,
        onEvent: @escaping @Sendable (AttemptEvent) async throws -> Void
    ) async throws -> AttemptOutcome {
        let machine = try machine(name)
        // What runs in a fork of a try could make forks of that, and so on.
        guard await !machine.sprite.isEphemeral else {
            throw SpriteError(.conflict, "cannot try a command: '\(name)' is itself a fork that will be dropped")
        }
        guard await machine.claimAttempt() else {
            throw SpriteError(
                .conflict,
                "cannot try a command: another is being tried in sprite '\(name)', and undoing it would undo this one; "
                    + "wait until it is done")
        }
        do {
            let outcome =
                request.isDryRun
                ? try await dryRun(machine, request, onEvent) : try await attempt(machine, name, request, onEvent)
            await machine.endAttempt()
            return outcome
        } catch {
            await machine.endAttempt()
            throw error
        }
    }

    private func attempt(
        _ machine: Machine, _ name: SpriteName, _ request: AttemptRequest,
        _ onEvent: @escaping @Sendable (AttemptEvent) async throws -> Void
    ) async throws -> AttemptOutcome {
        guard await !machine.isRestoring else { throw restoreUnderWay(name, "try a command") }
        let before = try await Task {
            try await machine.turns.withTurn {
                try await machine.makeCheckpoint(
                    comment: "before trying: \(request.command.label)", reason: .attempt
                ).id
            }
        }.value
        let run: Result<AttemptOutcome, any Error>
        do {
            try await onEvent(.note("The state before is kept as \(before)"))
            run = .success(try await runBoth(machine, request, onEvent))
        } catch {
            run = .failure(error)
        }
        // From here on nothing is cancelled: a client that has gone gets its state back as well.
        return try await Task {
            let isGood = (try? run.get().isSuccess) == true
            if (try? run.get()) != nil { await report(machine, .checkpoint(before), onEvent) }
            var replaced: CheckpointID?
            if !isGood { replaced = try await restore(machine, name, { _ in }, { before }) }
            await thinAfterAttempt(machine)
            var outcome = try run.get()
            outcome.before = before
            outcome.replaced = replaced
            outcome.result = isGood ? .kept : .rolledBack
            return outcome
        }.value
    }

    private func dryRun(
        _ machine: Machine, _ request: AttemptRequest,
        _ onEvent: @escaping @Sendable (AttemptEvent) async throws -> Void
    ) async throws -> AttemptOutcome {
        let fork = try await throwAway(machine, "try", nil)
        do {
            var outcome = try await runBoth(fork, request, onEvent)
            await report(fork, .checkpoint(.initial), onEvent)
            outcome.result = .dropped
            await drop(fork)
            return outcome
        } catch {
            await drop(fork)
            throw error
        }
    }

    private func runBoth(
        _ machine: Machine, _ request: AttemptRequest,
        _ onEvent: @escaping @Sendable (AttemptEvent) async throws -> Void
    ) async throws -> AttemptOutcome {
        let exit = try await run(machine, request.command, timeout: request.timeout) { stream, bytes in
            try await onEvent(.output(stream, bytes))
        }
        try await onEvent(.commandEnded(exit))
        guard exit == .exited(0), let check = request.check else { return AttemptOutcome(result: .kept, exit: exit) }
        let verdict = try await run(machine, check, timeout: request.timeout) { stream, bytes in
            try await onEvent(.output(stream, bytes))
        }
        try await onEvent(.checkEnded(verdict))
        return AttemptOutcome(result: .kept, exit: exit, check: verdict)
    }

    /// A difference that cannot be told must not keep anybody from rolling back.
    private func report(
        _ machine: Machine, _ from: StateReference, _ onEvent: @Sendable (AttemptEvent) async throws -> Void
    ) async {
        do {
            try await onEvent(.diff(try await diff(machine, from, .live, TreeDiffOptions())))
        } catch let error as SpriteError {
            try? await onEvent(.note("The difference cannot be shown: \(error.message)"))
        } catch {
            // The client has gone.
        }
    }

    private func thinAfterAttempt(_ machine: Machine) async {
        _ = try? await machine.turns.withTurn { await machine.thinAutomaticCheckpoints() }
    }
}
