// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Logging
import ServiceLifecycle
import SpriteDomain

private let hookPath = "/etc/sprite/on-restore"

extension Lifecycle {
    /// Starts what follows a restore: `/etc/sprite/on-restore` of the restored disk, if there is one, as root, and the
    /// command that was given with the request. The sprite runs.
    ///
    /// Each is an ordinary session, so it can be listed, attached to and killed, and holds its sprite awake while it
    /// runs, for an hour at most. The registry forgets them when they were started: a daemon that ends before starts
    /// them at its next start, and one that ends in between starts them twice.
    func resume(_ machine: Machine, _ resumption: Resumption) async {
        var request = ExecRequest(
            arguments: [hookPath, resumption.restored.rawValue], directory: "/", user: "root",
            maxRunAfterDisconnect: nil)
        request.environment = [
            ("SPRITE_RESTORED", resumption.restored.rawValue), ("SPRITE_REPLACED", resumption.replaced.rawValue),
            ("SPRITE_RESTORE_ORIGIN", resumption.origin),
        ]
        do {
            if try await drivers.storage.hasFile(machine.id, base: await machine.sprite.base, hookPath) {
                let session = try await drivers.sessions.exec(machine.id, request)
                // Holds the sprite awake while it runs.
                Task { await session.follow(for: Limits.onRestoreTimeout) }
            }
        } catch {
            await machine.logger.notice("the hook after a restore did not run", metadata: ["error": "\(error)"])
        }
        if let followUp = resumption.followUp {
            await start(followUp, in: machine, replaced: resumption.replaced, origin: resumption.origin)
        }
        do {
            try await drivers.registry.endResumption(machine.id, replaced: resumption.replaced)
        } catch {
            await machine.logger.error(
                "what follows a restore was started and will be again", metadata: ["error": "\(error)"])
        }
    }

    /// Takes the work up again: as the user who asked for the restore, in a session that can be attached to.
    func start(_ followUp: FollowUp, in machine: Machine, replaced: CheckpointID, origin: String) async {
        var request = ExecRequest(
            arguments: ["/bin/sh", "-c", followUp.command], user: String(followUp.user), maxRunAfterDisconnect: nil)
        request.environment = [("SPRITE_REPLACED", replaced.rawValue), ("SPRITE_RESTORE_ORIGIN", origin)]
        await machine.noteCommand(request.label)
        do {
            let session = try await drivers.sessions.exec(machine.id, request)
            Task { await session.follow(for: Limits.onRestoreTimeout) }
        } catch {
            let sentence = SpriteError.sentence(error)
            machine.note("restore.not_resumed", level: .error, "the command after the restore did not run: \(sentence)")
        }
    }

    /// Starts what the last daemon did not come to. What was restored is started for it, as the restore would have.
    func resumeAll() async {
        await withTaskGroup { group in
            for machine in all() {
                group.addTask {
                    do {
                        guard let resumption = try await self.drivers.registry.resumption(machine.id) else { return }
                        // A restore that is asked for from now on has a resumption of its own.
                        try await machine.turns.withTurn {
                            _ = try await machine.start()
                            await self.resume(machine, resumption)
                        }
                    } catch {
                        // The wish stays for the next start of the daemon.
                        await machine.logger.error(
                            "not started after its restore, which the last daemon did not finish",
                            metadata: ["error": "\(error)"])
                    }
                }
            }
        }
    }
}

/// Finishes, once per run of the daemon, what restores of the last one left to be started.
package struct Resumptions: Service {
    private let lifecycle: Lifecycle

    package init(_ lifecycle: Lifecycle) { self.lifecycle = lifecycle }

    package func run() async throws {
        await lifecycle.resumeAll()
        // A service that ends would end the daemon.
        try await gracefulShutdown()
    }
}
