// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// The public wire contract: JSON bodies, frames, texts. Values only, no I/O; server, SDK and CLI share it.
///
/// Decoding is tolerant: unknown fields are ignored, unknown values of strings are kept as they are, and optional
/// fields may be absent or null.
public enum API {
    /// The prefix of every path but `/health`.
    public static let version = "v1"
}

/// A key of a JSON object whose names are not known in advance, or have more than one spelling.
struct TextKey: CodingKey {
    var stringValue: String
    var intValue: Int? { nil }
    init(_ text: String) { stringValue = text }
    init?(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
}

extension KeyedDecodingContainer where Key == TextKey {
    /// The value under the first of the spellings that is present and not null.
    func value<Value: Decodable>(_ spellings: String...) throws -> Value? {
        for spelling in spellings {
            if let value = try decodeIfPresent(Value.self, forKey: TextKey(spelling)) { return value }
        }
        return nil
    }

    /// Like `value`, but missing and unreadable are the same; for fields that only inform.
    func tolerant<Value: Decodable>(_ spelling: String) -> Value? {
        (try? decodeIfPresent(Value.self, forKey: TextKey(spelling))) ?? nil
    }
}
