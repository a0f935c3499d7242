// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Logging
import SpriteDomain

extension CheckpointPolicy {
    private struct Form: Decodable {
        var before_exec: Bool?
        var every_minutes: Double?
    }

    /// From the JSON that the registry keeps: `{"before_exec": true, "every_minutes": 10}`.
    init(text: String) throws {
        let form = try JSONDecoder().decode(Form.self, from: Data(text.utf8))
        self.init(
            isBeforeExec: form.before_exec ?? false,
            interval: form.every_minutes.flatMap { $0 > 0 ? .milliseconds(Int64(min($0, 1e6) * 60_000)) : nil })
    }
}

extension Machine {
    /// Makes a checkpoint that the policy asks for, unless nothing changed since the last one. The caller holds the turn.
    ///
    /// Nobody waits for what fails here: it is logged, and the command runs or the next time comes all the same.
    func makePolicyCheckpoint(_ label: String) async {
        lastPolicyCheckpoint = .now
        do {
            try checkExists()
            if let newest = checkpoints.last, newest.id != .initial,
                try await !drivers.trees.hasChanged(id, since: newest.id)
            {
                return
            }
            // Before it is made: a nearly full pool refuses it.
            if await drivers.isPoolShort() { await giveUpOlderHalf() }
            let made = try await makeCheckpoint(comment: label, reason: .policy)
            logger.debug("checkpoint by policy", metadata: ["checkpoint.id": "\(made.id)"])
            await thinPolicyCheckpoints()
        } catch {
            logger.warning("no checkpoint by policy", metadata: ["error": "\(error)"])
        }
    }

    /// Called every second, so it decides cheaply.
    func checkpointIfDue() async {
        guard let interval = policy.interval, !isRestoring, sandbox != nil, !isFrozen,
            lastUse > lastPolicyCheckpoint, lastPolicyCheckpoint.duration(to: .now) >= interval
        else { return }
        _ = try? await turns.withTurn {
            guard await self.sandbox != nil else { return }
            let last = await self.lastCommand.map { "; last: \($0)" } ?? ""
            await self.makePolicyCheckpoint("every \(interval.minutesText)\(last)")
        }
    }

    /// Those made by policy, oldest first, without what must stay.
    private var removable: [Checkpoint] {
        checkpoints.filter { $0.reason == .policy && !$0.isPinned && $0.id != sprite.source }
    }

    private func thinPolicyCheckpoints() async {
        for old in agedOut(removable, now: .now()) { await thin(old.id) }
        // A command every second fills a pool sooner than the next look at all sprites comes.
        if await drivers.isPoolShort() { await giveUpOlderHalf() }
    }

    /// Gives up the older half of what the policy made, since the pool is nearly full.
    func makeRoom() async {
        guard removable.count > 1 else { return }
        _ = try? await turns.withTurn { await self.giveUpOlderHalf() }
    }

    /// The caller holds the turn.
    private func giveUpOlderHalf() async {
        // The pool takes a while to reclaim what was deleted; until then there is nothing new to be seen in it.
        guard lastRoomMade.map({ $0.duration(to: .now) > Limits.poolReclaimTime }) ?? true else { return }
        lastRoomMade = .now
        let all = removable
        for old in all.prefix(all.count / 2) { await thin(old.id) }
    }
}

/// What goes of checkpoints in order of age: all of the last hour stay, of the last day the newest of each hour, of the
/// last thirty days the newest of each day, and no more than a number altogether.
func agedOut(_ checkpoints: [Checkpoint], now: Timestamp) -> [Checkpoint] {
    let hour: Int64 = 3600 * 1_000_000_000
    var kept = 0
    var lastSlot: Int64?
    var gone: [Checkpoint] = []
    for one in checkpoints.reversed() {
        let age = now.nanoseconds - one.createdAt.nanoseconds
        let slot: Int64? =
            switch age {
            case ..<hour: nil
            case ..<(24 * hour): one.createdAt.nanoseconds / hour
            // Days have negative numbers, so that no hour is taken for one.
            default: -1 - one.createdAt.nanoseconds / (24 * hour)
            }
        let isTooMuch = kept >= Limits.policyCheckpointsMax || age > 30 * 24 * hour
        if isTooMuch || (slot != nil && slot == lastSlot) {
            gone.append(one)
        } else {
            kept += 1
        }
        lastSlot = slot
    }
    return gone.reversed()
}

extension Duration {
    fileprivate var minutesText: String {
        let seconds = components.seconds
        return seconds.isMultiple(of: 60) ? "\(seconds / 60) minutes" : "\(seconds) seconds"
    }
}

extension Drivers {
    /// So little of the pool is free that checkpoints by policy go.
    fileprivate func isPoolShort() async -> Bool {
        guard let space = try? await storage.space() else { return false }
        return Double(space.availableBytes) < Limits.policyFreeShare * Double(space.totalBytes)
    }
}

extension Lifecycle {
    func checkpointBefore(_ request: ExecRequest, _ machine: Machine) async {
        await machine.noteCommand(request.label)
        guard await machine.policy.isBeforeExec, await !machine.isRestoring else { return }
        // In a task of its own: a client that hangs up leaves no half checkpoint.
        await Task {
            _ = try? await machine.turns.withTurn { await machine.makePolicyCheckpoint("before: \(request.label)") }
        }.value
    }

    /// While little of the pool is free, checkpoints by policy go.
    func thinPolicyCheckpoints() async {
        guard await drivers.isPoolShort() else { return }
        for machine in all() { await machine.makeRoom() }
    }
}
