// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteSystem

/// Standard input, which ends only after the daemon has all of it; a signal tells that the rest will not come.
final class FileInput {
    private let signals: Int32

    init() { signals = clinux_signals() }

    /// Reads some bytes; 0 at the end. Fails with EINTR when told to give up.
    func read(_ buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        while true {
            var polled = [
                pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0),
                pollfd(fd: signals, events: Int16(POLLIN), revents: 0),
            ]
            if poll(&polled, 2, -1) < 0 {
                if errno == EINTR { continue }
                throw FileFailure(errno, "standard input")
            }
            if polled[1].revents != 0 {
                var sender: pid_t = 0
                let number = clinux_next_signal(signals, &sender)
                if number > 0, number != SIGCHLD { throw FileFailure(EINTR, "standard input") }
            }
            guard polled[0].revents != 0 else { continue }
            let count = Glibc.read(STDIN_FILENO, buffer.baseAddress, buffer.count)
            if count < 0 {
                if errno == EINTR || errno == EAGAIN { continue }
                throw FileFailure(errno, "standard input")
            }
            return count
        }
    }
}

/// Writes a file in whole or not at all: under another name in the same directory first, then in its place.
///
/// A file that is there keeps its mode and its owner. Where a second file cannot be made or could not have that owner,
/// the one that is there is written over.
struct FileWriting {
    private let path: String
    private let mode: mode_t
    private let makesParents: Bool
    private let size: Int64?

    init(_ request: FileRequest) throws {
        path = try request.path()
        mode = try request.mode() ?? 0o644
        makesParents = request.has("parents")
        size = try request.number("size")
    }

    func run(_ output: FileOutput) throws {
        let target = try FileWriting.resolveLinks(path)
        let directory = try openFolder(of: target)
        let name = EntryName(FileTree.split(target).name)
        let existing = try FileWriting.existing(directory, name, path)
        var written: Int64 = 0
        let input = FileInput()
        try FileWriting.replace(directory, name, path, existing: existing, mode: mode) { file in
            written = try take(input, into: file)
        }
        let permissions = existing?.permissions ?? mode
        try output.line(
            .object([("path", .text(path)), ("size", .number(written)), ("mode", .text(octal(permissions)))]))
    }

    private func take(_ input: FileInput, into file: Int32) throws -> Int64 {
        var buffer = [UInt8](repeating: 0, count: 256 << 10)
        var total: Int64 = 0
        while true {
            let count = try buffer.withUnsafeMutableBytes { try input.read($0) }
            if count == 0 { break }
            try buffer.withUnsafeBytes { try writeAll(file, UnsafeRawBufferPointer(rebasing: $0[..<count]), path) }
            total += Int64(count)
        }
        if let size, size != total { throw FileFailure(EIO, path, "the content ended early") }
        return total
    }

    private func openFolder(of target: String) throws -> Descriptor {
        let (folder, name) = FileTree.split(target)
        guard !name.isEmpty else { throw FileFailure(EISDIR, path) }
        func open() -> Int32 { clinux_open_path(AT_FDCWD, folder, O_DIRECTORY) }
        var number = open()
        if number == -ENOENT {
            if makesParents {
                try FileTree.makeDirectories(folder)
            } else if name == ".keep" {
                // How clients make a directory: there is no operation for it in the public API.
                if mkdir(folder, 0o777) < 0, errno != EEXIST { throw FileFailure(errno, path) }
            }
            number = open()
        }
        guard number >= 0 else { throw FileFailure(-number, path) }
        return Descriptor(owning: number)
    }

    /// The path that a chain of links ends at; what is there need not exist.
    static func resolveLinks(_ path: String) throws -> String {
        var target = path
        for _ in 0..<40 {
            var facts = stat()
            guard lstat(target, &facts) == 0, facts.isLink else { return target }
            var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
            let count = readlink(target, &buffer, buffer.count - 1)
            guard count > 0 else { throw FileFailure(count < 0 ? errno : ENOENT, path) }
            let link = String(decoding: buffer[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
            target = link.hasPrefix("/") ? link : FileTree.split(target).folder + "/" + link
            while target.count > 1, target.hasSuffix("/") { target.removeLast() }
        }
        throw FileFailure(ELOOP, path)
    }

    /// What is there already, if it can be written to.
    static func existing(_ directory: Descriptor, _ name: EntryName, _ path: String) throws -> stat? {
        var facts = stat()
        guard fstatat(directory.number, name.bytes, &facts, AT_SYMLINK_NOFOLLOW) == 0 else {
            if errno == ENOENT { return nil }
            throw FileFailure(errno, path)
        }
        try FileReading.check(facts, path)
        if faccessat(directory.number, name.bytes, W_OK, AT_EACCESS) < 0, errno != ETXTBSY {
            throw FileFailure(errno, path)
        }
        return facts
    }

    /// Puts what `fill` writes in the place of `name`.
    static func replace(
        _ directory: Descriptor, _ name: EntryName, _ path: String, existing: stat?, mode: mode_t,
        fill: (Int32) throws -> Void
    ) throws {
        guard let (staged, stage) = try makeStage(directory, path, existing) else {
            let file = try openInPlace(directory, name, path)
            return try fill(file.number)
        }
        do {
            try fill(staged.number)
            try attempt(path) { fchmod(staged.number, existing?.permissions ?? mode) }
            try attempt(path) { renameat(directory.number, stage.bytes, directory.number, name.bytes) }
        } catch {
            unlinkat(directory.number, stage.bytes, 0)
            throw error
        }
    }

    /// Nil if what is there has to be written over.
    private static func makeStage(
        _ directory: Descriptor, _ path: String, _ existing: stat?
    ) throws -> (Descriptor, EntryName)? {
        let name = EntryName(".sprite-write-\(String(UInt64.random(in: .min ... .max), radix: 36))")
        let number = openat(
            directory.number, name.bytes, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode_t(0o600))
        guard number >= 0 else {
            let problem = errno
            if existing != nil, [EACCES, EPERM, EROFS].contains(problem) { return nil }
            throw FileFailure(problem, path)
        }
        let file = Descriptor(owning: number)
        guard let existing else { return (file, name) }
        let facts = try FileTree.facts(number, path)
        guard facts.st_uid != existing.st_uid || facts.st_gid != existing.st_gid else { return (file, name) }
        if fchown(number, existing.st_uid, existing.st_gid) == 0 { return (file, name) }
        unlinkat(directory.number, name.bytes, 0)
        return nil
    }

    private static func openInPlace(_ directory: Descriptor, _ name: EntryName, _ path: String) throws -> Descriptor {
        let flags = O_WRONLY | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC
        return Descriptor(owning: try attempt(path) { openat(directory.number, name.bytes, flags) })
    }
}
