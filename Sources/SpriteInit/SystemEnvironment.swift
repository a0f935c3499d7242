// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// `/etc/environment` as pam_env(8) reads it: `NAME=VALUE` lines, optional quotes and `export`, `#` comments.
enum SystemEnvironment {
    private static let bytesMax = 64 << 10
    private static let linesMax = 256

    static func lines() -> [String] {
        guard let bytes = readRegularFile("/etc/environment", bytesMax: bytesMax) else { return [] }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").prefix(linesMax).compactMap(line)
    }

    private static func line(_ text: Substring) -> String? {
        var rest = text.drop { $0 == " " || $0 == "\t" }
        if rest.hasPrefix("export ") { rest = rest.dropFirst(7) }
        guard let equals = rest.firstIndex(of: "="), rest.first != "#" else { return nil }
        let name = rest[..<equals]
        let isName = name.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0) || $0 == 0x5F
        }
        // PATH of the sprite holds its own tool folder, which a file of the base does not know.
        guard isName, !name.isEmpty, name != "PATH" else { return nil }
        var value = rest[rest.index(after: equals)...]
        while let last = value.last, last == " " || last == "\r" || last == "\t" { value = value.dropLast() }
        for quote in ["\"", "'"] where value.utf8.count >= 2 && value.hasPrefix(quote) && value.hasSuffix(quote) {
            value = value.dropFirst().dropLast()
            break
        }
        return "\(name)=\(value)"
    }
}
