// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc

/// One file operation, as `sprite-env fs` is given it.
///
/// `fs OPERATION [--name=value | --flag]… -- PATH…`; paths are absolute.
struct FileRequest {
    let operation: String
    let options: [String: String]
    let paths: [String]

    init(_ arguments: [String]) throws {
        guard let operation = arguments.first else { throw FileFailure(EINVAL, "", "no operation is named") }
        self.operation = operation
        var options: [String: String] = [:]
        var rest = arguments.dropFirst()
        while let argument = rest.first, argument != "--" {
            guard argument.hasPrefix("--") else { break }
            let parts = argument.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            options[String(parts[0])] = parts.count == 2 ? String(parts[1]) : ""
            rest = rest.dropFirst()
        }
        if rest.first == "--" { rest = rest.dropFirst() }
        self.options = options
        paths = Array(rest)
        for path in paths {
            guard path.hasPrefix("/") else { throw FileFailure(EINVAL, path, "the path is not absolute") }
            guard path.utf8.count < Int(PATH_MAX) else { throw FileFailure(ENAMETOOLONG, path) }
        }
    }

    func has(_ name: String) -> Bool { options[name] != nil }

    func path(_ index: Int = 0) throws -> String {
        guard index < paths.count else { throw FileFailure(EINVAL, "", "a path is missing") }
        return paths[index]
    }

    func number(_ name: String) throws -> Int64? {
        guard let text = options[name] else { return nil }
        guard let number = Int64(text), number >= 0 else {
            throw FileFailure(EINVAL, paths.first ?? "", "'\(name)' is not a number")
        }
        return number
    }

    /// Permission bits in octal.
    func mode() throws -> mode_t? {
        guard let text = options["mode"] else { return nil }
        guard let mode = mode_t(text, radix: 8), mode <= 0o7777 else {
            throw FileFailure(EINVAL, paths.first ?? "", "the mode is not octal text up to 7777")
        }
        return mode
    }
}

/// `sprite-env fs`: file operations in the sprite, with the credentials of whoever runs it.
package enum FileCommand {
    /// Returns the exit code: 0, or 1 with a line that tells the failure.
    package static func run(_ arguments: [String]) -> Int32 {
        umask(0o022)
        FileTree.allowManyDescriptors()
        let output = FileOutput()
        do {
            try perform(try FileRequest(arguments), output)
            try output.flush()
            return 0
        } catch let failure as FileFailure {
            if !output.hasBegun {
                try? output.line(failure.json)
            } else {
                try? failure.json.bytes.withUnsafeBytes { try writeAll(STDERR_FILENO, $0, "") }
            }
        } catch {}
        return 1
    }

    private static func perform(_ request: FileRequest, _ output: FileOutput) throws {
        switch request.operation {
        case "read": try FileReading(request).run(output)
        case "list": try FileListing(request).run(output)
        case "write": try FileWriting(request).run(output)
        case "delete": try FileRemoval.run(request, output)
        case "rename": try FileCopying.rename(request, output)
        case "copy": try FileCopying.copy(request, output)
        case "chmod", "chown": try AttributeChange(request).run(output)
        case "watch": try FileWatching(request).run(output)
        case "tar-out": try TarWriting(request, output).run()
        case "tar-in": try TarReading(request).run(output)
        default: throw FileFailure(EINVAL, "", "there is no operation '\(request.operation)'")
        }
    }
}
