// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// Appends fields to a message's body.
package struct WireWriter: Sendable {
    package var bytes: [UInt8] = []

    package init() {}

    package mutating func u8(_ value: UInt8) { bytes.append(value) }
    package mutating func u16(_ value: UInt16) { integer(value) }
    package mutating func u32(_ value: UInt32) { integer(value) }
    package mutating func u64(_ value: UInt64) { integer(value) }

    package mutating func text(_ value: String) {
        u32(UInt32(truncatingIfNeeded: value.utf8.count))
        bytes.append(contentsOf: value.utf8)
    }

    package mutating func texts(_ values: [String]) {
        u32(UInt32(truncatingIfNeeded: values.count))
        for value in values { text(value) }
    }

    private mutating func integer<Value: FixedWidthInteger>(_ value: Value) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }
}

/// Takes fields from a message's body; every length is checked against what is there before anything is made of it.
package struct WireReader: Sendable {
    private var rest: ArraySlice<UInt8>

    package init(_ bytes: ArraySlice<UInt8>) { rest = bytes }
    package init(_ bytes: [UInt8]) { rest = bytes[...] }

    package mutating func u8() throws(WireError) -> UInt8 {
        guard let value = rest.popFirst() else { throw .truncated }
        return value
    }

    package mutating func u16() throws(WireError) -> UInt16 { try integer() }
    package mutating func u32() throws(WireError) -> UInt32 { try integer() }
    package mutating func u64() throws(WireError) -> UInt64 { try integer() }

    /// Bytes that are not UTF-8 become U+FFFD.
    package mutating func text() throws(WireError) -> String {
        let length = Int(try u32())
        guard length <= rest.count else { throw .truncated }
        let bytes = rest.prefix(length)
        rest = rest.dropFirst(length)
        return String(decoding: bytes, as: UTF8.self)
    }

    package mutating func texts(countMax: Int) throws(WireError) -> [String] {
        let count = Int(try u32())
        guard count <= countMax else { throw .tooLong(count, limit: countMax) }
        // Each text has at least its length field, so the count is bounded by what came before memory is reserved.
        guard count <= rest.count / 4 else { throw .truncated }
        var values: [String] = []
        values.reserveCapacity(count)
        for _ in 0..<count { values.append(try text()) }
        return values
    }

    package func finish() throws(WireError) {
        guard rest.isEmpty else { throw .trailingBytes(rest.count) }
    }

    private mutating func integer<Value: FixedWidthInteger & UnsignedInteger>() throws(WireError) -> Value {
        let size = MemoryLayout<Value>.size
        guard rest.count >= size else { throw .truncated }
        var value: Value = 0
        for (index, byte) in rest.prefix(size).enumerated() { value |= Value(byte) << (8 * index) }
        rest = rest.dropFirst(size)
        return value
    }
}
