// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteDomain
import SpriteSystem

/// Unpacks archives that may be hostile into a root filesystem, with the host's tar locked into that filesystem.
///
/// tar runs after chroot(2), so that links an earlier layer made lead nowhere outside, whatever tar makes of them.
/// It and its libraries are copied into a folder of a random name, which goes when the unpacker is finished. The copy of
/// the loader knows no file outside of that folder: it would run what a lower layer's `/etc/ld.so.preload` names, as root.
/// For the case that an archive takes tar over, see ``Confinement``.
struct Unpacker {
    let tree: RootTree
    private let lock: Int32
    private let folder: String
    private let loader: String

    init(_ tree: RootTree, lock: Int32) throws {
        self.tree = tree
        self.lock = lock
        folder = ".sprite-\(SpriteID.random())"
        try tree.makeDirectory("/\(folder)", mode: 0o700)
        let place = "\(tree.path)/\(folder)"
        var loader: String?
        for name in ["tar", "setpriv"] {
            guard let program = findProgram(name) else { throw refuseImage("\(name) is not installed on this host") }
            try runTool("cp", ["-L", "--", program, "\(place)/\(name)"])
            // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, and the loader without an arrow.
            for line in try runTool("ldd", [program]).standardOutput.split(separator: "\n") {
                let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" }).map(String.init)
                if words.count >= 3, words[1] == "=>", words[2].hasPrefix("/") {
                    try runTool("cp", ["-L", "--", words[2], "\(place)/\(fileName(words[0]))"])
                } else if let first = words.first, first.hasPrefix("/"), loader == nil {
                    try Self.copyLoader(first, to: "\(place)/loader")
                    loader = "/\(folder)/loader"
                }
            }
        }
        guard let loader else { throw refuseImage("the programs of this host are not dynamic") }
        self.loader = loader
    }

    /// What the loader reads besides what it is told; an empty name is that of no file.
    private static let loaderFiles = ["/etc/ld.so.preload", "/etc/ld.so.cache"]

    private static func copyLoader(_ path: String, to target: String) throws {
        let file = try Descriptor.open(path, O_RDONLY)
        var facts = stat()
        try system("inspect \(path)") { fstat(file.number, &facts) }
        var bytes = [UInt8](repeating: 0, count: Int(facts.st_size))
        let count = bytes.withUnsafeMutableBytes { Glibc.read(file.number, $0.baseAddress, $0.count) }
        guard count == bytes.count else { throw SystemError(EIO, "read \(path)") }
        var known: Set<String> = []
        for name in loaderFiles {
            let wanted = Array(name.utf8) + [0]
            var place = 0
            while let start = bytes[place...].firstIndex(of: wanted[0]) {
                place = start + 1
                guard bytes[start...].starts(with: wanted) else { continue }
                bytes[start] = 0
                known.insert(name)
            }
        }
        // The loader of musl has neither.
        guard known.contains(loaderFiles[0]) || fileName(path).hasPrefix("ld-musl") else {
            throw refuseImage("the loader of this host, \(path), is not one that it can be unpacked with safely")
        }
        let copy = try Descriptor.open(target, O_WRONLY | O_CREAT | O_EXCL, mode: 0o700)
        let written = bytes.withUnsafeBytes { Glibc.write(copy.number, $0.baseAddress, $0.count) }
        guard written == bytes.count else { throw SystemError(written < 0 ? errno : EIO, "write \(target)") }
    }

    func finish() throws { try tree.removeTree("/\(folder)") }

    /// Unpacks one layer, or a whole root filesystem.
    ///
    /// - Parameters:
    ///   - archive: Read from its beginning.
    ///   - onTop: True: what the archive's whiteouts name is removed from what is there first.
    ///   - into: A directory of the tree to unpack into, from `/`.
    func unpack(_ archive: Descriptor, onTop: Bool, into: String = "/") throws {
        if onTop { try makeRoom(archive) }
        let options = [
            "--extract", "--file=-", "--directory=\(into)", "--numeric-owner", "--same-owner", "--preserve-permissions",
            "--delay-directory-restore", "--xattrs", "--xattrs-include=security.capability",
            "--xattrs-include=user.*", "--exclude=.wh.*", "--warning=no-unknown-keyword", "--warning=no-timestamp",
        ]
        let load = [loader, "--library-path", "/\(folder)"]
        let confined = load + ["/\(folder)/setpriv"] + Confinement.unpacking + load + ["/\(folder)/tar"]
        try withPlainArchive(archive) { plain in
            try runTool(
                "sh",
                ["-c", #"exec "$@" <&3"#, "sh"] + Confinement.apart + ["chroot", tree.path] + confined + options,
                descriptors: [plain.number, lock])
        }
    }

    /// Names of a layer's files, escaped: a million of 250 bytes.
    static let listBytesMax = 256 << 20

    /// Removes what the layers below have in the place of what this one brings or hides.
    ///
    /// Whiteouts are empty files named `.wh.<name>`; `.wh..wh..opq` hides all that is below its folder. They are about
    /// the layers below, so they come first. OCI image specification, "Whiteouts". A folder in the place of a file is
    /// removed here as well, since tar does that only with an option that also empties folders it should merge.
    private func makeRoom(_ archive: Descriptor) throws {
        let list = try listArchive(archive, bytesMax: Self.listBytesMax)
        guard list.utf8.count < Self.listBytesMax else { throw refuseImage("a layer holds too many files") }
        for line in list.split(separator: "\n") {
            let path = unescape(String(line))
            let parts = path.split(separator: "/").map(String.init).filter { $0 != "." }
            guard !parts.contains("..") else {
                throw refuseImage("it would write outside of itself: \(line.prefix(200))")
            }
            guard let last = parts.last else { continue }
            guard last.hasPrefix(".wh.") else {
                if !path.hasSuffix("/"), tree.isFolderItself(path) { try tree.removeTree(path) }
                continue
            }
            let parent = "/" + parts.dropLast().joined(separator: "/")
            if last == ".wh..wh..opq" {
                // At the top this would remove the tools we unpack with.
                guard parts.count > 1 else { throw refuseImage("a layer hides the whole image below it") }
                try tree.emptyDirectory(parent)
            } else {
                try tree.removeTree("\(parent)/\(last.dropFirst(4))")
            }
        }
    }
}

func fileName(_ path: String) -> String { String(path.split(separator: "/").last ?? "") }

/// Undoes tar's `--quoting-style=escape`: `\n`, `\\`, `\ooo` and the like.
func unescape(_ text: String) -> String {
    var result: [UInt8] = []
    let bytes = Array(text.utf8)
    let letters: [UInt8: UInt8] = [0x6E: 10, 0x74: 9, 0x72: 13, 0x62: 8, 0x66: 12, 0x76: 11, 0x61: 7, 0x5C: 0x5C]
    var index = 0
    while index < bytes.count {
        let byte = bytes[index]
        index += 1
        guard byte == 0x5C, index < bytes.count else {
            result.append(byte)
            continue
        }
        let digits = bytes[index..<min(index + 3, bytes.count)].prefix { (0x30...0x37).contains($0) }
        if digits.count == 3 {
            result.append(UInt8(truncatingIfNeeded: digits.reduce(0) { Int($0) * 8 + Int($1 - 0x30) }))
            index += 3
        } else {
            result.append(letters[bytes[index]] ?? bytes[index])
            index += 1
        }
    }
    return String(decoding: result, as: UTF8.self)
}
