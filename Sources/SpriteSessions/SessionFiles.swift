// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteAgentWire
import SpriteDomain
import SpriteSystem

// runDirectory/agents/<sprite>.sock                       PID 1 listens here
// runDirectory/sessions/<sprite>/<session>/{stdout,stderr,meta}
//
// `meta`, written before the command is started:
//
// | field                                                        | type |
// |--------------------------------------------------------------|------|
// | version, 2                                                   | u8   |
// | flags: 1 terminal, 2 has a limit without clients, 4 has size | u8   |
// | rows, columns                                                | u16  |
// | created, nanoseconds since 1970                              | u64  |
// | limit without clients, nanoseconds                           | u64  |
// | command, directory, tag (empty: none)                        | text |

/// What of a session outlives the daemon, apart from what PID 1 keeps.
struct SessionRecord: Equatable {
    private static let version: UInt8 = 2

    var info: SessionInfo
    var maxRunAfterDisconnect: Duration?

    func encoded() -> [UInt8] {
        var writer = WireWriter()
        writer.u8(SessionRecord.version)
        let flags: UInt8 =
            (info.isTerminal ? 1 : 0) | (maxRunAfterDisconnect == nil ? 0 : 2) | (info.terminalSize == nil ? 0 : 4)
        writer.u8(flags)
        writer.u16(info.terminalSize?.rows ?? 0)
        writer.u16(info.terminalSize?.columns ?? 0)
        writer.u64(UInt64(bitPattern: info.createdAt.nanoseconds))
        writer.u64(UInt64(bitPattern: maxRunAfterDisconnect?.nanoseconds ?? 0))
        writer.text(info.command)
        writer.text(info.directory)
        writer.text(info.tag ?? "")
        return writer.bytes
    }

    init(info: SessionInfo, maxRunAfterDisconnect: Duration?) {
        self.info = info
        self.maxRunAfterDisconnect = maxRunAfterDisconnect
    }

    init(id: String, _ bytes: [UInt8]) throws {
        var reader = WireReader(bytes)
        guard try reader.u8() == SessionRecord.version else { throw WireError.badValue("version") }
        let flags = try reader.u8()
        let size = TerminalSize(rows: try reader.u16(), columns: try reader.u16())
        let created = Timestamp(nanoseconds: Int64(bitPattern: try reader.u64()))
        let limit = Int64(bitPattern: try reader.u64())
        info = SessionInfo(
            id: id, command: try reader.text(), directory: try reader.text(), isTerminal: flags & 1 != 0,
            terminalSize: flags & 4 != 0 ? size : nil, createdAt: created)
        let tag = try reader.text()
        info.tag = tag.isEmpty ? nil : tag
        maxRunAfterDisconnect = flags & 2 != 0 ? .nanoseconds(limit) : nil
        try reader.finish()
    }
}

/// The run directory's files of one session.
struct SessionFiles {
    let directory: String

    /// Makes the folder with empty files and returns them, stdout first.
    func create(_ record: SessionRecord) throws -> [Descriptor] {
        try system("create \(directory)") { mkdir(directory, 0o700) }
        try save(record)
        return try open(isTerminal: record.info.isTerminal, creating: true)
    }

    func save(_ record: SessionRecord) throws {
        let temporary = "\(directory)/meta.new"
        let bytes = record.encoded()
        let file = try Descriptor.open(temporary, O_WRONLY | O_CREAT | O_TRUNC)
        let count = write(file.number, bytes, bytes.count)
        guard count == bytes.count else { throw SystemError(count < 0 ? errno : ENOSPC, "write \(temporary)") }
        try system("rename \(temporary)") { rename(temporary, "\(directory)/meta") }
    }

    /// Nil if there is no session of that id, or its record is damaged.
    func load(id: String) -> SessionRecord? {
        guard let file = try? Descriptor.open("\(directory)/meta", O_RDONLY) else { return nil }
        var bytes = [UInt8](repeating: 0, count: 64 << 10)
        let count = read(file.number, &bytes, bytes.count)
        guard count > 0 else { return nil }
        return try? SessionRecord(id: id, Array(bytes[..<count]))
    }

    func open(isTerminal: Bool, creating: Bool = false) throws -> [Descriptor] {
        try (isTerminal ? ["stdout"] : ["stdout", "stderr"]).map {
            try Descriptor.open("\(directory)/\($0)", O_RDWR | (creating ? O_CREAT | O_EXCL : 0))
        }
    }

    func remove() {
        for name in ["stdout", "stderr", "meta.new", "meta"] { unlink("\(directory)/\(name)") }
        rmdir(directory)
    }

    /// The first byte that was not punched out, and the end.
    static func extent(_ file: Descriptor) -> (start: Int64, end: Int64) {
        var facts = stat()
        guard fstat(file.number, &facts) == 0 else { return (0, 0) }
        let end = Int64(facts.st_size)
        // SEEK_DATA, whose name needs _GNU_SOURCE.
        let start = lseek(file.number, 0, 3)
        return (start < 0 ? end : min(Int64(start), end), end)
    }

    /// Names in a folder, without `.` and `..`.
    static func names(in folder: String) -> [String] {
        guard let listing = opendir(folder) else { return [] }
        defer { closedir(listing) }
        var names: [String] = []
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }
}
