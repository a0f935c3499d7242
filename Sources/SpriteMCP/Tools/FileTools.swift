// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import SpriteDomain

extension Toolbox {
    /// What one answer holds of a file.
    private static let readBytesMax = 64 << 10
    private static let writeBytesMax = 512 << 10

    var fileTools: [Tool] {
        let path = Parameter.text("path", "Absolute, or relative to /home/sprite.", required: true)
        return [
            Tool(
                name: "read_file", title: "Read a file",
                about:
                    "Reads part of a file, at most 64 KiB at once; what is not UTF-8 comes as base64. Changes nothing.",
                effect: .reads,
                parameters: spriteParameter + [
                    path, .number("offset", 0...Int.max, 0, "First byte; next_offset of the call before."),
                    .number("limit", 1...Toolbox.readBytesMax, 16 << 10, "Bytes at most."),
                ]
            ) { call in
                let offset = call.arguments.number("offset") ?? 0
                let (bytes, size) = try await world.files.read(
                    try await sprite(call.arguments), try absolute(call.arguments.text("path") ?? ""), offset: offset,
                    limit: call.arguments.number("limit") ?? 16 << 10)
                var answer: [String: JSON] = ["size": .integer(size), "offset": .integer(offset)]
                let text = wholeCharacters(bytes, isEnd: offset + bytes.count >= size)
                let taken: Int
                if let text {
                    answer["text"] = text.json
                    taken = text.utf8.count
                } else {
                    answer["base64"] = Data(bytes).base64EncodedString().json
                    taken = bytes.count
                }
                if offset + taken < size, taken > 0 { answer["next_offset"] = .integer(offset + taken) }
                return ToolResult(.object(answer))
            },
            Tool(
                name: "write_file", title: "Write a file",
                about:
                    "Writes a whole file, with the folders it needs, replacing what was there. Undo: restore_checkpoint "
                    + "of a checkpoint made before.",
                effect: .destroys, isIdempotent: true,
                parameters: spriteParameter + [
                    path, .text("content", "Its whole content.", required: true, bytesMax: Toolbox.writeBytesMax),
                    .text("mode", "Permissions of a new file in octal, such as 0755.", bytesMax: 5),
                ]
            ) { call in
                let mode = call.arguments.text("mode")
                if let mode {
                    guard let number = UInt32(mode, radix: 8), number <= 0o7777 else {
                        throw ToolFailure("'mode' is octal, such as 0644")
                    }
                }
                let content = Array(call.arguments.whole("content").utf8)
                let path = try absolute(call.arguments.text("path") ?? "")
                try await world.files.write(try await sprite(call.arguments), path, content, mode: mode)
                return ToolResult(["path": path.json, "size": .integer(content.count)])
            },
            Tool(
                name: "list_files", title: "List a folder",
                about: "Lists a folder, or shows one file, at most 200 entries from an offset on. Changes nothing.",
                effect: .reads,
                parameters: spriteParameter + [
                    path, .number("offset", 0...Int.max, 0, "First entry; next_offset of the call before."),
                ]
            ) { call in
                let bytes = try await world.files.list(
                    try await sprite(call.arguments), try absolute(call.arguments.text("path") ?? ""))
                guard let listed = JSON.parse(bytes) else { throw ToolFailure("the list cannot be read") }
                let entries: [JSON]
                if case .list(let items) = listed["entries"] ?? listed { entries = items } else { entries = [listed] }
                let offset = min(call.arguments.number("offset") ?? 0, entries.count)
                let page = entries[offset...].prefix(200)
                var answer: [String: JSON] = ["entries": .list(Array(page)), "count": .integer(entries.count)]
                if page.endIndex < entries.count { answer["next_offset"] = .integer(page.endIndex) }
                return ToolResult(.object(answer))
            },
            Tool(
                name: "delete_file", title: "Delete a file or folder",
                about:
                    "Deletes a file, or a folder with 'recursive'. Undo: restore_checkpoint of a checkpoint made before.",
                effect: .destroys,
                parameters: spriteParameter + [
                    path,
                    Parameter(
                        name: "recursive", kind: .flag, about: "Also a folder that is not empty.", standard: false),
                ]
            ) { call in
                let path = try absolute(call.arguments.text("path") ?? "")
                try await world.files.delete(
                    try await sprite(call.arguments), path, recursive: call.arguments.flag("recursive"))
                return ToolResult(["deleted": path.json])
            },
        ]
    }

    private func absolute(_ path: String) throws -> String {
        guard path.utf8.count < 4000 else { throw ToolFailure("'path' is too long") }
        return path.hasPrefix("/") ? path : "/home/sprite/" + path
    }
}

/// Text, without a character that is cut at the end; nil if it is not UTF-8.
func wholeCharacters(_ bytes: [UInt8], isEnd: Bool) -> String? {
    for dropped in 0...(isEnd ? 0 : min(3, bytes.count)) {
        if let text = String(validating: bytes.dropLast(dropped), as: UTF8.self) { return text }
    }
    return nil
}
