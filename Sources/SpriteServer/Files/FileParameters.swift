// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteAPI

/// What a client asks of a file operation, from the query or a JSON body.
struct FileParameters: Sendable {
    private let query: API.Query
    private let body: Body?

    /// Every field of every body.
    struct Body: Decodable, Sendable {
        var path: String?
        var source: String?
        var dest: String?
        var workingDir: String?
        var mode: TextOrNumber?
        var uid: TextOrNumber?
        var gid: TextOrNumber?
        var recursive: Bool?
        var preserveAttrs: Bool?
        var asRoot: Bool?
    }

    enum TextOrNumber: Decodable, Sendable {
        case text(String)
        case number(UInt32)

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let number = try? container.decode(UInt32.self) {
                self = .number(number)
            } else {
                self = .text(try container.decode(String.self))
            }
        }
    }

    init(_ query: API.Query, _ body: Body? = nil) {
        self.query = query
        self.body = body
    }

    /// - Parameter required: Without, an absent path is the working directory.
    func path(_ name: String = "path", required: Bool = true) throws -> String {
        let given: String?
        switch name {
        case "source": given = body?.source ?? query["source"]
        case "dest": given = body?.dest ?? query["dest"]
        default: given = body?.path ?? query["path"]
        }
        if required, given?.isEmpty != false {
            throw FileProblem(code: "EINVAL", text: "invalid argument: '\(name)' is missing", path: "")
        }
        return try FilePath.resolve(given ?? "", in: body?.workingDir ?? query["workingDir"])
    }

    func flag(_ name: String, default value: Bool = false) throws -> Bool {
        let given: Bool?
        switch name {
        case "recursive": given = body?.recursive
        case "preserveAttrs": given = body?.preserveAttrs
        case "asRoot": given = body?.asRoot
        default: given = nil
        }
        if let given { return given }
        switch query[name]?.lowercased() {
        case nil, "": return value
        case "true", "1": return true
        case "false", "0": return false
        case .some(let text):
            throw FileProblem(
                code: "EINVAL", text: "invalid argument: '\(name)' is '\(text.prefix(40))', use true or false", path: ""
            )
        }
    }

    /// Octal text; a number in a body is the mode itself, so 493 means 0755.
    func mode() throws -> String? {
        switch body?.mode {
        case .number(let number): return String(number, radix: 8)
        case .text(let text): return try checkedMode(text)
        case nil: return try query["mode"].flatMap { $0.isEmpty ? nil : try checkedMode($0) }
        }
    }

    private func checkedMode(_ text: String) throws -> String {
        let digits = text.hasPrefix("0o") ? text.dropFirst(2) : text[...]
        guard let mode = UInt32(digits, radix: 8), mode <= 0o7777 else {
            throw FileProblem(
                code: "EINVAL", text: "invalid argument: 'mode' is '\(text.prefix(40))', use octal text such as 0644",
                path: "")
        }
        return String(mode, radix: 8)
    }

    func owner(_ name: String) throws -> String? {
        let given: String?
        switch name == "uid" ? body?.uid : body?.gid {
        case .number(let number): given = String(number)
        case .text(let text): given = text
        case nil: given = query[name]
        }
        guard given?.utf8.contains(0) != true, (given?.utf8.count ?? 0) <= 256 else {
            throw FileProblem(code: "EINVAL", text: "invalid argument: '\(name)' is no name", path: "")
        }
        return given
    }

    func text(_ name: String) -> String? { query[name].flatMap { $0.isEmpty ? nil : $0 } }
}
