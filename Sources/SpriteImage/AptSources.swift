// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// One archive that apt reads packages from; sources.list(5).
struct AptSource: Hashable, Sendable {
    var uris: [String]
    var suites: [String]
    var components: [String]
    /// A path of a keyring, or the lines of an armoured key; nil means apt's own keyrings.
    var signedBy: String?
    /// Options such as `Trusted: yes`, in the words of the deb822 form.
    var options: [String: String] = [:]

    /// The deb822 form.
    var text: String {
        var lines = ["Types: deb", "URIs: \(uris.joined(separator: " "))", "Suites: \(suites.joined(separator: " "))"]
        if !components.isEmpty { lines.append("Components: \(components.joined(separator: " "))") }
        if let signedBy { lines.append("Signed-By: \(signedBy)") }
        for (key, value) in options.sorted(by: { $0.key < $1.key }) { lines.append("\(key): \(value)") }
        return lines.joined(separator: "\n") + "\n"
    }

    /// True if a URI carries a user name or password.
    var hasCredentials: Bool {
        uris.contains { uri in
            guard let scheme = uri.range(of: "://") else { return false }
            return uri[scheme.upperBound...].prefix { $0 != "/" }.contains("@")
        }
    }

    var hosts: [String] {
        uris.compactMap { uri in
            guard let scheme = uri.range(of: "://") else { return nil }
            let authority = uri[scheme.upperBound...].prefix { $0 != "/" }
            return String(authority.split(separator: "@").last ?? authority)
        }
    }

    // MARK: Reading

    /// Every archive an apt configuration folder names, such as `/etc/apt`.
    static func all(_ folder: String) -> [AptSource] {
        var result = parseLines((try? readSmallFile("\(folder)/sources.list")) ?? "")
        for name in folderNames("\(folder)/sources.list.d").sorted() {
            let text = (try? readSmallFile("\(folder)/sources.list.d/\(name)")) ?? ""
            if name.hasSuffix(".list") { result += parseLines(text) }
            if name.hasSuffix(".sources") { result += parseStanzas(text) }
        }
        return result
    }

    /// `deb [signed-by=/path trusted=yes] uri suite component…`, one a line.
    static func parseLines(_ text: String) -> [AptSource] {
        text.split(separator: "\n").compactMap { line in
            var rest = line.prefix { $0 != "#" }.trimmed
            guard rest.hasPrefix("deb ") || rest.hasPrefix("deb\t") else { return nil }
            rest = rest.dropFirst(4).trimmed
            var source = AptSource(uris: [], suites: [], components: [])
            if rest.hasPrefix("["), let end = rest.firstIndex(of: "]") {
                for option in rest[rest.index(after: rest.startIndex)..<end].words {
                    let parts = option.split(separator: "=", maxSplits: 1).map(String.init)
                    if parts.count == 2 { source.set(parts[0], parts[1]) }
                }
                rest = rest[rest.index(after: end)...].trimmed
            }
            let words = rest.words
            guard words.count >= 2 else { return nil }
            source.uris = [words[0]]
            source.suites = [words[1]]
            source.components = Array(words[2...])
            return source
        }
    }

    /// Stanzas of `Key: value` lines, parted by empty lines; a line that begins with a blank goes on with the value.
    static func parseStanzas(_ text: String) -> [AptSource] {
        var result: [AptSource] = []
        var fields: [(key: String, value: String)] = []
        func finish() {
            var source = AptSource(uris: [], suites: [], components: [])
            var types: [String] = []
            var enabled = true
            for (key, value) in fields {
                switch key.lowercased() {
                case "types": types = value.words
                case "uris": source.uris = value.words
                case "suites": source.suites = value.words
                case "components": source.components = value.words
                case "enabled": enabled = !["no", "false", "0", "off", "without"].contains(value.lowercased())
                default: source.set(key, value)
                }
            }
            if enabled, types.contains("deb"), !source.uris.isEmpty, !source.suites.isEmpty { result.append(source) }
            fields = []
        }
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.hasPrefix("#") { continue }
            if line.allSatisfy(\.isWhitespace) {
                finish()
            } else if line.first?.isWhitespace == true {
                if !fields.isEmpty { fields[fields.count - 1].value += "\n\(line)" }
            } else if let colon = line.firstIndex(of: ":") {
                fields.append((String(line[..<colon]), String(line[line.index(after: colon)...].trimmed)))
            }
        }
        finish()
        return result
    }

    private mutating func set(_ key: String, _ value: String) {
        // One-line names are those of the deb822 form in lower case; only what a sprite needs is taken over.
        switch key.lowercased() {
        case "signed-by": signedBy = value
        case "trusted": options["Trusted"] = value
        case "check-valid-until": options["Check-Valid-Until"] = value
        case "check-date": options["Check-Date"] = value
        case "allow-insecure": options["Allow-Insecure"] = value
        case "allow-weak": options["Allow-Weak"] = value
        case "by-hash": options["By-Hash"] = value
        default: break
        }
    }
}

extension StringProtocol {
    var words: [String] { split { $0.isWhitespace }.map { String($0) } }

    var trimmed: SubSequence {
        var rest = self[...]
        while rest.first?.isWhitespace == true { rest = rest.dropFirst() }
        while rest.last?.isWhitespace == true { rest = rest.dropLast() }
        return rest
    }

    func range(of text: String) -> Range<Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
            start = index(after: start)
        }
        return nil
    }
}

/// Names in a folder of the host; empty if it cannot be read.
func folderNames(_ path: String) -> [String] {
    guard let stream = opendir(path) else { return [] }
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
