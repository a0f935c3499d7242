// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
package import SpriteDomain
import SpriteSystem
import Synchronization

/// Checkpoints shown at `/.sprite/checkpoints/<name>` inside.
extension OCISandboxDriver {
    package func showCheckpoint(_ sandbox: Sandbox, mount: Int32, name: String) async throws {
        try await blocking { try self.show(sandbox, mount, name) }
    }

    package func hideCheckpoint(_ sandbox: Sandbox, name: String) async throws {
        try await blocking { try self.hide(sandbox, name) }
    }

    private func show(_ sandbox: Sandbox, _ mount: Int32, _ name: String) throws {
        try require(name)
        let namespace = try mountNamespace(of: sandbox)
        let place = guest.checkpoint(sandbox.id, name)
        if mkdir(place, 0o755) < 0 {
            guard errno == EEXIST else { throw SystemError(errno, "make directory \(place)") }
            // Shown already: the newer mount replaces the older one instead of covering it.
            _ = clinux_detach_mount_in(namespace.number, checkpointsInside, name)
        }
        let result = traced("mount.move_mount", name) {
            clinux_attach_mount_in(namespace.number, mount, checkpointsInside, name)
        }
        guard result >= 0 else {
            rmdir(place)
            throw SpriteError(
                .internalError, "cannot show checkpoint \(name) inside",
                cause: SystemError(-result, "attach \(checkpointsInside)/\(name)"))
        }
    }

    private func hide(_ sandbox: Sandbox, _ name: String) throws {
        try require(name)
        let place = guest.checkpoint(sandbox.id, name)
        guard access(place, F_OK) == 0 else { return }
        let namespace = try mountNamespace(of: sandbox)
        let result = traced("mount.umount", name) {
            clinux_detach_mount_in(namespace.number, checkpointsInside, name)
        }
        guard result >= 0 || result == -EINVAL || result == -ENOENT else {
            throw SpriteError(
                .internalError, "cannot hide checkpoint \(name) inside",
                cause: SystemError(-result, "detach \(checkpointsInside)/\(name)"))
        }
        rmdir(place)
    }

    private func require(_ name: String) throws {
        guard CheckpointID(name) != nil else {
            throw SpriteError(.invalidRequest, "cannot show checkpoint: '\(name)' is not the name of one")
        }
    }

    /// The mount namespace of PID 1 while that certainly still is our PID 1.
    private func mountNamespace(of sandbox: Sandbox) throws -> Descriptor {
        guard let entry = entries.withLock({ $0[sandbox.id] }), entry.sandbox == sandbox,
            let namespace = try? Descriptor.open("/proc/\(sandbox.processID)/ns/mnt", O_RDONLY),
            ProcessIdentity(running: sandbox.processID) == entry.process
        else { throw SpriteError(.conflict, "cannot reach the sprite's sandbox: it does not run") }
        return namespace
    }
}

private let checkpointsInside = ".sprite/checkpoints"
