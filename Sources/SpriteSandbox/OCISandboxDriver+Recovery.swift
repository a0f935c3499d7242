// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
package import SpriteDomain
import SpriteSystem
import Synchronization

/// What a restarted daemon finds.
extension OCISandboxDriver {
    package func running() async throws -> [Sandbox] {
        try await blocking { try self.takeOver() }
    }

    private func takeOver() throws -> [Sandbox] {
        var result: [Sandbox] = []
        for name in try traces() {
            guard let id = SpriteID(rawValue: name) else {
                logger.warning("left alone what is not a sandbox of ours", metadata: ["sandbox.name": "\(name)"])
                continue
            }
            if let sandbox = try adopt(id) {
                result.append(sandbox)
                continue
            }
            logger.notice("removing what is left of a sandbox", metadata: ["sprite.id": "\(id)"])
            do { try destroyNow(id) } catch {
                // One that cannot be removed must not keep the others from being served.
                logger.error(
                    "cannot remove what is left of a sandbox",
                    metadata: ["sprite.id": "\(id)", "error": "\(error)"])
            }
        }
        return result.sorted { $0.id < $1.id }
    }

    /// Every name that something on the host has, so that no half-made or half-removed sandbox is overlooked.
    private func traces() throws -> Set<String> {
        var names = try cgroups.names()
        names.formUnion(try directoryEntries("\(runDirectory)/bundles"))
        names.formUnion(try directoryEntries("\(runDirectory)/crun"))
        names.formUnion(try guest.ids())
        for name in try directoryEntries("\(runDirectory)/state") {
            if name.hasSuffix(".json") { names.insert(String(name.dropLast(5))) }
        }
        return names
    }

    /// Takes a running sandbox over; nil if it does not run, or was never started in full.
    private func adopt(_ id: SpriteID) throws -> Sandbox? {
        if let entry = entries.withLock({ $0[id] }) {
            return ProcessIdentity(running: entry.process.processID) == entry.process ? entry.sandbox : nil
        }
        guard let state = SandboxState.read(statePath(id)), let pidfd = state.process.open(),
            cgroups.holds(id, processID: state.process.processID)
        else { return nil }
        // The daemon before us may have ended between freezing for a checkpoint and thawing.
        try cgroups.thaw(id)
        let sandbox = Sandbox(
            id: id, processID: state.process.processID, address: state.address, initSystem: state.initSystem)
        entries.withLock { $0[id] = Entry(sandbox: sandbox, process: state.process, pidfd: pidfd) }
        return sandbox
    }
}
