// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// JSON that is written by hand, where an encoder would be too slow or is not at hand.
package enum JSONText {
    private static let digits = Array("0123456789abcdef".utf8)

    /// A string with its quotation marks; control characters are escaped, DEL too.
    package static func quoted(_ text: String) -> String {
        guard text.utf8.contains(where: { $0 < 0x20 || $0 == 0x22 || $0 == 0x5C || $0 == 0x7F }) else {
            return "\"\(text)\""
        }
        var result: [UInt8] = [0x22]
        for byte in text.utf8 {
            switch byte {
            case 0x22, 0x5C: result += [0x5C, byte]
            case 0x0A: result += [0x5C, 0x6E]
            case ..<0x20, 0x7F:
                result += Array("\\u00".utf8) + [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            default: result.append(byte)
            }
        }
        result.append(0x22)
        return String(decoding: result, as: UTF8.self)
    }
}
