// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteAPI
import SpriteDomain

extension ResumePoint {
    /// Nil if the query attaches to a session without resuming it.
    init?(_ query: API.Query) throws {
        self.init(
            instance: query["instance"].flatMap { $0.isEmpty ? nil : $0 },
            stdout: try Self.offset("stdout_offset", query), stderr: try Self.offset("stderr_offset", query))
        if self == ResumePoint() { return nil }
    }

    private static func offset(_ name: String, _ query: API.Query) throws -> Int64? {
        guard let text = query[name], !text.isEmpty else { return nil }
        guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let offset = Int64(text) else {
            throw SpriteError(
                .invalidRequest, "invalid query: '\(name)' is '\(text.prefix(40))', use a number of bytes from 0")
        }
        return offset
    }
}
