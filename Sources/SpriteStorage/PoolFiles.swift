// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteDomain
import SpriteSystem

/// First host user of every sprite's user namespace: what root is inside.
let shiftedRoot: uid_t = 100_000

func openDirectory(_ path: String) throws -> Descriptor {
    try Descriptor.open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
}

/// Like ``openDirectory(_:)``, with nil for a path that is not there.
func openDirectoryIfExists(_ path: String) throws -> Descriptor? {
    do {
        return try openDirectory(path)
    } catch let error as SystemError where error.number == ENOENT {
        return nil
    }
}

/// Makes a directory, or takes the one that is there.
///
/// `group` may pass through: the OCI runtime enters the sprite's user namespace before it mounts folders of the pool,
/// and other users of the host must not reach the programs with set-user-id bits in there.
func makeDirectory(_ path: String, mode: mode_t, owner: uid_t = 0, group: gid_t = 0) throws {
    do {
        try system("make directory \(path)") { mkdir(path, mode) }
    } catch let error as SystemError where error.number == EEXIST {
        return
    }
    try system("set owner of \(path)") { lchown(path, owner, group) }
    try system("set mode of \(path)") { chmod(path, mode) }
}

func renamePath(_ old: String, _ new: String) throws {
    try system("rename \(old) to \(new)") { rename(old, new) }
}

/// Names in a directory, without `.` and `..`; empty if it is not there.
func directoryNames(_ path: String) throws -> [String] {
    guard let stream = opendir(path) else {
        if errno == ENOENT { return [] }
        throw SystemError(errno, "list \(path)")
    }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) { tuple in
            tuple.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name != ".", name != ".." { names.append(name) }
    }
    return names
}

/// Takes an exclusive lock on a file, waiting for others at most that long.
func lock(_ file: Descriptor, _ what: String, seconds: Int) throws {
    let attempts = seconds * 50
    for attempt in 0...attempts {
        if flock(file.number, LOCK_EX | LOCK_NB) == 0 { return }
        guard errno == EWOULDBLOCK || errno == EINTR else { throw SystemError(errno, "lock \(what)") }
        if attempt < attempts { usleep(20_000) }
    }
    throw SystemError(ETIMEDOUT, "lock \(what)")
}

/// Runs an operation on the pool and turns what it throws into an error for the caller: `cannot <verb>: …`.
func poolOperation<Value>(_ verb: String, _ body: () throws -> Value) throws -> Value {
    do {
        return try body()
    } catch let error as SpriteError {
        throw error
    } catch let error as SystemError where error.number == EDQUOT {
        throw SpriteError(
            .noSpace,
            "cannot \(verb): the disk of the sprite has reached its limit; delete files or checkpoints of it, or raise "
                + "the limit", cause: error)
    } catch let error as SystemError where error.number == EROFS {
        throw SpriteError.poolGivenUp(verb, cause: error)
    } catch let error as SystemError where error.number == ENOSPC {
        throw SpriteError(
            .noSpace,
            "cannot \(verb): the pool has no space left; delete sprites or checkpoints that are no longer needed",
            cause: error)
    } catch let error as SystemError {
        throw SpriteError(.internalError, "cannot \(verb): \(errnoText(error.number))", cause: error)
    } catch {
        throw SpriteError(.internalError, "cannot \(verb): the storage failed", cause: error)
    }
}
