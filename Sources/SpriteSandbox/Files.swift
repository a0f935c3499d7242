// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import Glibc
import SpriteSystem

/// Makes a directory if it is not there, with exactly these permissions and this owner.
package func makeDirectory(_ path: String, mode: mode_t = 0o755, owner: uid_t = 0) throws {
    if mkdir(path, mode) < 0, errno != EEXIST { throw SystemError(errno, "make directory \(path)") }
    try system("set permissions of \(path)") { chmod(path, mode) }
    if owner != 0 { try system("set owner of \(path)") { chown(path, owner, owner) } }
}

/// Writes a file under another name first, so that a reader or a crash sees all of it or none.
package func writeFileAtomically(_ path: String, _ text: String, mode: mode_t = 0o600) throws {
    let temporary = path + ".new"
    unlink(temporary)
    try writeSmallFile(temporary, text, flags: O_WRONLY | O_CREAT | O_EXCL, mode: mode)
    try system("rename \(temporary)") { rename(temporary, path) }
}

/// The names in a directory, without `.` and `..`; empty if there is no such directory.
package func directoryEntries(_ path: String) throws -> [String] {
    guard let directory = opendir(path) else {
        if errno == ENOENT { return [] }
        throw SystemError(errno, "open directory \(path)")
    }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
            pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name != ".", name != ".." { names.append(name) }
    }
    return names
}

/// Removes a directory of ours with all it holds; one that is not there is no error.
///
/// Only for directories nobody else can write to: between look and removal nothing may be exchanged.
package func removeTree(_ path: String) throws {
    var facts = stat()
    guard lstat(path, &facts) == 0 else {
        if errno == ENOENT { return }
        throw SystemError(errno, "look at \(path)")
    }
    guard facts.st_mode & S_IFMT == S_IFDIR else {
        if unlink(path) < 0, errno != ENOENT { throw SystemError(errno, "remove \(path)") }
        return
    }
    for name in try directoryEntries(path) { try removeTree("\(path)/\(name)") }
    if rmdir(path) < 0, errno != ENOENT { throw SystemError(errno, "remove directory \(path)") }
}
