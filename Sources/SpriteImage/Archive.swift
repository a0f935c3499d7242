// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteSystem

/// How programs are started that read what may be hostile: a fault in one of them must not be a way to the host.
enum Confinement {
    /// Without the host's network, and with no processes but its own, which end with the first.
    static let apart = ["unshare", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--"]

    /// The kernel forgets whose end is theirs when users change, so that is said once more.
    private static let without = ["--no-new-privs", "--inh-caps=-all", "--pdeathsig=KILL"]

    /// Options of setpriv: what tar needs to give files any owner, mode, capability and kind, and nothing that leads
    /// out of the folder that it is locked into. Devices that it makes there cannot be opened: the pool is mounted so.
    static let unpacking =
        without + ["--bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+mknod,+setfcap", "--"]

    /// For what reads one open file and writes another.
    static let nobody =
        apart + ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] + without + [
            "--bounding-set=-all", "--",
        ]
}

/// The names of an archive's files, one on each line, escaped.
///
/// - Returns: At most `bytesMax`.
func listArchive(_ archive: Descriptor, bytesMax: Int) throws -> String {
    var list = ""
    try withPlainArchive(archive) { plain in
        list = try runTool(
            "sh",
            ["-c", #"exec "$@" <&3"#, "sh"] + Confinement.nobody + [
                "tar", "--list", "--file=-", "--quoting-style=escape",
            ],
            descriptors: [plain.number], outputBytesMax: bytesMax
        ).standardOutput
    }
    return list
}

/// Runs `body` with the archive as a plain tar, through a decompressor if it is compressed.
func withPlainArchive(_ archive: Descriptor, _ body: (Descriptor) throws -> Void) throws {
    try system("rewind archive") { lseek(archive.number, 0, SEEK_SET) < 0 ? -1 : 0 }
    var start = [UInt8](repeating: 0, count: 8)
    let count = pread(archive.number, &start, start.count, 0)
    guard count > 0 else { throw refuseImage("a layer is empty") }
    guard let decompressor = decompressor(start) else { return try body(archive) }
    guard let program = findProgram(decompressor) else {
        throw refuseImage("it is compressed with \(decompressor), which is not installed on this host")
    }
    guard let launcher = findProgram("unshare") else { throw refuseImage("unshare is not installed on this host") }
    var ends: [Int32] = [-1, -1]
    try checked(clinux_pipe(&ends, 1 << 20), "pipe")
    let plain = Descriptor(owning: ends[0])
    var writer: Descriptor? = Descriptor(owning: ends[1])
    let nothing = try Descriptor.open("/dev/null", O_WRONLY)
    let child = try spawn(
        SpawnRequest(
            paths: [launcher], arguments: Confinement.nobody + [program, "-dc"],
            environment: ["LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            descriptors: [archive.number, writer?.number ?? -1, nothing.number]))
    writer = nil
    let outcome = Result { try body(plain) }
    // What follows the end of a tar is not read by it; the decompressor must not wait for that.
    var rest = [UInt8](repeating: 0, count: 1 << 16)
    if case .success = outcome { while read(plain.number, &rest, rest.count) > 0 {} }
    if case .failure = outcome { clinux_pidfd_send_signal(child.pidfd.number, SIGKILL) }
    let ending = try child.wait()
    try outcome.get()
    guard ending == .exited(0) else {
        throw refuseImage("\(decompressor) cannot decompress it; it is damaged or cut off")
    }
}

private func decompressor(_ start: [UInt8]) -> String? {
    let known: [([UInt8], String)] = [
        ([0x1F, 0x8B], "gzip"), ([0x28, 0xB5, 0x2F, 0xFD], "zstd"), ([0xFD, 0x37, 0x7A, 0x58, 0x5A], "xz"),
        ([0x42, 0x5A, 0x68], "bzip2"), ([0x5D, 0x00, 0x00], "lzma"), ([0x4C, 0x5A, 0x49, 0x50], "lzip"),
    ]
    return known.first { start.starts(with: $0.0) }?.1
}
