// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

// Whichever C module is read first is taken for the one that defines `timespec`.
import CBtrfs
import CLinux
import Glibc
import SpriteDomain
import SpriteSystem

/// Builds a copy of a part of a checkpoint, sharing the blocks of its files.
struct TreeCopy {
    private let state: TreeState
    /// Where the files of the view really lie: the checkpoint's own layer, then the base.
    private let layers: [Descriptor]
    private let top: Descriptor
    /// Where the first name of each file with several was put, from the top.
    private var linked: [UInt64: [UInt8]] = [:]
    private(set) var result = RestoredPath(files: 0, bytes: 0, copiedBytes: 0)

    init(state: TreeState, layers: [Descriptor], top: Descriptor) {
        self.state = state
        self.layers = layers
        self.top = top
    }

    /// Builds `path` as `new` in `staging`; directories of the path from `first` on are made around it.
    mutating func build(_ path: [UInt8], from first: Int, in staging: StagedDirectory) throws {
        let parts = path.split(separator: 0x2F).map(Array.init)
        var directory = staging
        var name = Array("new".utf8)
        var stagedPath = name
        var around: [(path: [UInt8], made: StagedDirectory)] = []
        for count in first..<parts.count - 1 {
            let place = [0x2F] + Array(parts[...count].joined(separator: [0x2F]))
            directory = try makeDirectory(name, in: directory)
            around.append((place, directory))
            name = parts[count + 1]
            stagedPath += [0x2F] + name
        }
        try copy(path, to: name, in: directory, stagedPath: stagedPath, depth: 0)
        for one in around.reversed() {
            guard let entry = try state.inspect(one.path) else { continue }
            try setAttributes(one.made.view, of: one.path, entry)
        }
    }

    private mutating func copy(
        _ path: [UInt8], to name: [UInt8], in directory: StagedDirectory, stagedPath: [UInt8], depth: Int
    ) throws {
        guard let entry = try state.inspect(path) else { return }
        result.files += 1
        guard result.files <= Limits.restoredEntriesMax, depth < Limits.treeDepthMax else {
            throw SpriteError(
                .tooLarge,
                "cannot restore: more than \(Limits.restoredEntriesMax) names, or directories in each other deeper than "
                    + "\(Limits.treeDepthMax); restore the whole checkpoint, or its parts")
        }
        switch TreeEntry(entry).kind {
        case .directory:
            let made = try makeDirectory(name, in: directory)
            if let source = try state.open(path, O_RDONLY | O_DIRECTORY) {
                for inner in try sortedNames(in: source) {
                    try copy(
                        join(path, inner), to: inner, in: made, stagedPath: stagedPath + [0x2F] + inner,
                        depth: depth + 1)
                }
            }
            try setAttributes(made.view, of: path, entry)
        case .file:
            if entry.links > 1, let first = linked[entry.inode], link(first, name, directory) { return }
            try copyFile(path, entry, name, directory)
            if entry.links > 1 { linked[entry.inode] = stagedPath }
        case .symlink:
            try copyLink(path, entry, name, directory)
        case .fifo, .socket:
            try system("make \(shown(name))") {
                withPath(name) { mknodat(directory.view.number, $0, mode_t(entry.mode), 0) }
            }
            let made = try withPath(name) {
                try checked(clinux_open_path(directory.view.number, $0, O_NOFOLLOW), "open \(shown(name))")
            }
            try setAttributes(ofName: name, Descriptor(owning: made), directory, entry)
        case .characterDevice, .blockDevice:
            throw SpriteError(
                .unsupported, "cannot restore \(shown(path)): it is a device; only a whole restore brings devices back")
        }
    }

    private func makeDirectory(_ name: [UInt8], in directory: StagedDirectory) throws -> StagedDirectory {
        try system("make \(shown(name))") { withPath(name) { mkdirat(directory.view.number, $0, 0o700) } }
        func open(_ parent: Descriptor) throws -> Descriptor {
            Descriptor(
                owning: try checked(
                    withPath(name) { clinux_open_beneath(parent.number, $0, O_RDONLY | O_DIRECTORY, 0, 1) },
                    "open \(shown(name))"))
        }
        return StagedDirectory(view: try open(directory.view), below: try open(directory.below))
    }

    private func link(_ first: [UInt8], _ name: [UInt8], _ directory: StagedDirectory) -> Bool {
        withPath(first) { old in withPath(name) { linkat(top.number, old, directory.view.number, $0, 0) == 0 } }
    }

    // MARK: Files

    private mutating func copyFile(
        _ path: [UInt8], _ entry: clinux_entry, _ name: [UInt8], _ directory: StagedDirectory
    ) throws {
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        let file = Descriptor(
            owning: try system("make \(shown(name))") {
                withPath(name) { openat(directory.view.number, $0, flags, 0o600) }
            })
        result.bytes += entry.size
        if entry.size > 0, !share(path, entry, name, directory) {
            try copyBytes(path, to: file)
            result.copiedBytes += entry.size
        }
        // Also tells the overlay the size of what was put below it.
        try setAttributes(file, of: path, entry)
    }

    private func share(
        _ path: [UInt8], _ entry: clinux_entry, _ name: [UInt8], _ directory: StagedDirectory
    ) -> Bool {
        guard let source = source(path, entry) else { return false }
        let opened = withPath(name) { clinux_open_beneath(directory.below.number, $0, O_WRONLY | O_NOFOLLOW, 0, 1) }
        guard opened >= 0 else { return false }
        let below = Descriptor(owning: opened)
        var facts = stat()
        // Ours, made a moment ago: nobody in the sprite can put anything here.
        guard fstat(below.number, &facts) == 0, facts.st_mode & S_IFMT == S_IFREG, facts.st_size == 0,
            facts.st_nlink == 1
        else { return false }
        return clinux_clone_file(source.number, below.number) == 0
    }

    /// The file in the layer it really lies in.
    private func source(_ path: [UInt8], _ entry: clinux_entry) -> Descriptor? {
        let inner = Array(path.drop { $0 == 0x2F })
        for layer in layers {
            let opened = withPath(inner) {
                clinux_open_beneath(layer.number, $0, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY, 0, 1)
            }
            guard opened >= 0 else { continue }
            let file = Descriptor(owning: opened)
            var facts = clinux_entry()
            guard clinux_inspect(file.number, "", &facts) == 0, mode_t(facts.mode) & S_IFMT == S_IFREG,
                // An overlay over several filesystems marks the upper bits with the one it means.
                (facts.inode ^ entry.inode) << 8 == 0, facts.size == entry.size, facts.born == entry.born,
                facts.modified == entry.modified
            else { continue }
            return file
        }
        return nil
    }

    private func copyBytes(_ path: [UInt8], to file: Descriptor) throws {
        guard let source = try state.openFile(path) else { throw SystemError(ENOENT, "open \(shown(path))") }
        while true {
            let count = clinux_copy_range(source.number, file.number, 16 << 20)
            if count == 0 { return }
            guard count > 0 else { throw SystemError(Int32(truncatingIfNeeded: -count), "copy \(shown(path))") }
        }
    }

    private func copyLink(
        _ path: [UInt8], _ entry: clinux_entry, _ name: [UInt8], _ directory: StagedDirectory
    ) throws {
        guard let source = try state.open(path, clinux_path_only()) else {
            throw SystemError(ENOENT, "open \(shown(path))")
        }
        var target = [CChar](repeating: 0, count: 4097)
        let count = clinux_read_link(source.number, &target, 4096)
        guard count >= 0 else { throw SystemError(Int32(truncatingIfNeeded: count), "read \(shown(path))") }
        target[Int(count)] = 0
        try system("make \(shown(name))") { withPath(name) { symlinkat(target, directory.view.number, $0) } }
        try system("set owner of \(shown(name))") {
            withPath(name) {
                fchownat(directory.view.number, $0, entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW)
            }
        }
        try setTimes(directory.view.number, name, entry)
    }

    // MARK: Attributes

    private func setAttributes(_ made: Descriptor, of path: [UInt8], _ entry: clinux_entry) throws {
        try setOwner(made, entry)
        try system("set mode of \(shown(path))") { fchmod(made.number, mode_t(entry.mode & 0o7777)) }
        for (name, value) in try state.attributes(path) {
            // A filesystem that cannot keep one loses that, not the file.
            _ = withPath(name) { clinux_set_entry_attribute(made.number, $0, value, value.count) }
        }
        var times = [timespec(tv_sec: 0, tv_nsec: Int(UTIME_OMIT_VALUE)), time(entry)]
        try system("set times of \(shown(path))") { futimens(made.number, &times) }
    }

    private func setOwner(_ made: Descriptor, _ entry: clinux_entry) throws {
        try checked(clinux_change_owner(made.number, entry.uid, entry.gid), "set owner of a restored file")
    }

    /// - Parameter made: Opened as a name only. Whoever is inside may have put something else there, such as a link: the
    ///   mode is set of what was opened, and only if that is what was made.
    private func setAttributes(
        ofName name: [UInt8], _ made: Descriptor, _ directory: StagedDirectory, _ entry: clinux_entry
    ) throws {
        var facts = stat()
        try system("inspect \(shown(name))") { fstat(made.number, &facts) }
        guard facts.st_mode & S_IFMT == mode_t(entry.mode) & S_IFMT, facts.st_nlink == 1 else {
            throw SystemError(ESTALE, "find what was made of \(shown(name))")
        }
        try setOwner(made, entry)
        try system("set mode of \(shown(name))") {
            chmod("/proc/self/fd/\(made.number)", mode_t(entry.mode & 0o7777))
        }
        try setTimes(directory.view.number, name, entry)
    }

    private func setTimes(_ directory: Int32, _ name: [UInt8], _ entry: clinux_entry) throws {
        var times = [timespec(tv_sec: 0, tv_nsec: Int(UTIME_OMIT_VALUE)), time(entry)]
        try system("set times of \(shown(name))") {
            withPath(name) { utimensat(directory, $0, &times, AT_SYMLINK_NOFOLLOW) }
        }
    }

    private func time(_ entry: clinux_entry) -> timespec {
        let (seconds, rest) = entry.modified.quotientAndRemainder(dividingBy: 1_000_000_000)
        // Before 1970 as well, nanoseconds count forwards.
        return rest < 0
            ? timespec(tv_sec: Int(seconds) - 1, tv_nsec: Int(rest) + 1_000_000_000)
            : timespec(tv_sec: Int(seconds), tv_nsec: Int(rest))
    }
}

/// UTIME_OMIT of utimensat(2), a macro that Swift does not import.
private let UTIME_OMIT_VALUE = (1 << 30) - 2
