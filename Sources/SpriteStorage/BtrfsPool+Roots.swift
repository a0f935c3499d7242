// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
package import SpriteDomain
import SpriteSystem
import Synchronization

/// Copies of the bases' mounts whose owners are shifted into the sprites' user namespace.
struct BaseMounts {
    /// By base; `device` tells whether a base of that name was replaced meanwhile.
    var open: [BaseName: (tree: Descriptor, device: UInt64)] = [:]
    var userNamespace: Descriptor?
    /// An empty filesystem without a UUID: `BtrfsPool.lowerLayers`.
    var nothing: Descriptor?
}

extension BtrfsPool {
    var nothingPath: String { "\(runDirectory)/nothing" }

    func rootPath(_ sprite: SpriteID) -> String { "\(runDirectory)/roots/\(sprite)" }

    package func mountRoot(
        _ sprite: SpriteID, base: BaseName, layer: String? = nil
    ) async throws -> String {
        try await blocking { [self] in
            try poolOperation("mount the root of sprite \(sprite)") {
                try withHeadroom(sprite) { try mountRootNow(sprite, base, layer) }
            }
        }
    }

    private func mountRootNow(_ sprite: SpriteID, _ base: BaseName, _ layer: String?) throws -> String {
        let lower = try lowerLayers(base, layer)
        let live = try openLive(sprite)
        let upper = try openDirectory("\(livePath(sprite))/upper")
        let work = try openDirectory("\(livePath(sprite))/work")
        let target = rootPath(sprite)
        // What a daemon before us, or an attempt that failed, left behind.
        detach(target)
        try makeDirectory(target, mode: 0o755, owner: shiftedRoot, group: shiftedRoot)
        let options = [
            "lowerdir=\(references(lower))", "upperdir=\(reference(upper))", "workdir=\(reference(work))",
            "index=off", "metacopy=off", "redirect_dir=on",
        ]
        _ = try withExtendedLifetime((lower, live, upper, work)) {
            try traced("mount.overlay") {
                try checked(
                    clinux_mount("sprite", target, "overlay", UInt(MS_NODEV), options.joined(separator: ",")),
                    "mount overlay at \(target)")
            }
        }
        do {
            try checkOverlayIsWritable(target)
        } catch {
            detach(target)
            throw error
        }
        return target
    }

    package func unmountRoot(_ sprite: SpriteID) async {
        _ = try? await blocking { [self] in
            detach(rootPath(sprite))
            rmdir(rootPath(sprite))
        }
    }

    package func openCheckpointRoot(
        _ sprite: SpriteID, base: BaseName, layer middle: String? = nil, _ checkpoint: CheckpointID
    ) async throws -> Int32 {
        try await blocking { [self] in
            try poolOperation("show checkpoint \(checkpoint)") {
                try openView(openSource(.checkpoint(sprite, checkpoint)), base, middle: middle)
            }
        }
    }

    /// A detached, read-only mount of what a sprite with this disk and base sees.
    func openView(_ snapshot: Descriptor, _ base: BaseName, middle: String?) throws -> Int32 {
        let lower = try lowerLayers(base, middle)
        let upper = try checked(
            clinux_open_in_root(snapshot.number, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0), "open upper")
        let layer = Descriptor(owning: upper)
        let place = "\(runDirectory)/views/\(SpriteID.random())"
        try makeDirectory(place, mode: 0o700)
        defer { rmdir(place) }
        let options = [
            "lowerdir=\(references([layer] + lower))", "index=off", "metacopy=off", "redirect_dir=follow",
        ]
        _ = try withExtendedLifetime((lower, layer)) {
            let flags = UInt(MS_RDONLY | MS_NODEV | MS_NOSUID)
            try traced("mount.overlay") {
                try checked(
                    clinux_mount("sprite", place, "overlay", flags, options.joined(separator: ",")),
                    "mount overlay at \(place)")
            }
        }
        defer { detach(place) }
        return try traced("mount.open_tree") { try checked(clinux_clone_mount(place, 0), "clone mount \(place)") }
    }

    func detach(_ path: String) { traced("mount.umount") { _ = clinux_detach_mount(path) } }

    /// Names a layer so that no character of its path, nor its length, matters to the mount options.
    private func reference(_ descriptor: Descriptor) -> String { "/proc/self/fd/\(descriptor.number)" }

    private func references(_ layers: [Descriptor]) -> String {
        layers.map { reference($0) }.joined(separator: ":")
    }

    /// What lies below the disk, the upper one first.
    ///
    /// A file of the disk that began in a lower layer says so by a file handle. Where the kernel has the lower file's inode
    /// but no name for it any more, overlayfs gets from FUSE a nameless entry that FUSE calls outdated at once, and the
    /// file, whole as it is, is a stale file handle (ESTALE) for ever. Two lower filesystems without a UUID make overlayfs
    /// leave such handles alone, since it cannot tell whose they are: FUSE has none, and neither has an empty ramfs.
    private func lowerLayers(_ base: BaseName, _ layer: String?) throws -> [Descriptor] {
        let base = try shiftedBase(base)
        guard let layer else { return [base] }
        return [try openDirectory(layer), base, try nothing()]
    }

    /// Mounted once while this process lives, in its own mount namespace.
    private func nothing() throws -> Descriptor {
        try mounts.withLock { mounts in
            if let known = mounts.nothing { return known }
            detach(nothingPath)
            try makeDirectory(nothingPath, mode: 0o755)
            try checked(
                clinux_mount("sprite", nothingPath, "ramfs", UInt(MS_RDONLY | MS_NODEV | MS_NOSUID), "mode=755"),
                "mount an empty ramfs at \(nothingPath)")
            let opened = try openDirectory(nothingPath)
            mounts.nothing = opened
            return opened
        }
    }

    /// The overlay of a sprite must be writable; where it is not, only the kernel's log says why.
    private func checkOverlayIsWritable(_ target: String) throws {
        var facts = statvfs()
        try system("inspect \(target)") { statvfs(target, &facts) }
        guard facts.f_flag & UInt(ST_RDONLY) != 0 else { return }
        throw SpriteError(
            .internalError,
            "cannot mount the root of a sprite: the overlay came up read-only, because the kernel could not write into "
                + "its work directory; the kernel's log names the reason (look for 'overlayfs')")
    }

    /// The base as root of a sprite's user namespace sees it; made once per base while this process lives.
    func shiftedBase(_ base: BaseName) throws -> Descriptor {
        var facts = stat()
        guard lstat(basePath(base), &facts) == 0 else {
            guard errno == ENOENT else { throw SystemError(errno, "inspect \(basePath(base))") }
            throw SpriteError(
                .notFound, "cannot use base \(base): there is none of this name; 'sprited base list' shows all")
        }
        // Every subvolume has a device number of its own.
        let device = UInt64(facts.st_dev)
        return try mounts.withLock { mounts in
            if let known = mounts.open[base], known.device == device { return known.tree }
            let userNamespace: Descriptor
            if let made = mounts.userNamespace {
                userNamespace = made
            } else {
                var number: Int32 = -1
                try checked(clinux_make_namespaces(UInt32(shiftedRoot), 65536, &number, nil), "make user namespace")
                userNamespace = Descriptor(owning: number)
                mounts.userNamespace = userNamespace
            }
            let detached = Descriptor(
                owning: try traced("mount.setattr_idmap", base.rawValue) {
                    try checked(
                        clinux_idmapped_clone(basePath(base), userNamespace.number),
                        "make idmapped mount of base \(base)")
                })
            let target = "\(runDirectory)/bases/\(base)"
            detach(target)
            try makeDirectory(target, mode: 0o700)
            try checked(clinux_attach_mount(detached.number, target), "attach base at \(target)")
            let tree = try openDirectory(target)
            mounts.open[base] = (tree, device)
            return tree
        }
    }
}
