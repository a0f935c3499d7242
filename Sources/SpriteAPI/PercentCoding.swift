// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// Percent encoding of path segments and queries (RFC 3986, and `+` for a space in queries).
    public enum PercentCoding {
        /// Encodes everything but unreserved characters; right for a path segment and for a value in a query.
        public static func encode(_ text: String) -> String {
            var bytes: [UInt8] = []
            bytes.reserveCapacity(text.utf8.count)
            for byte in text.utf8 {
                if isUnreserved(byte) {
                    bytes.append(byte)
                } else {
                    bytes.append(0x25)
                    bytes.append(digits[Int(byte >> 4)])
                    bytes.append(digits[Int(byte & 15)])
                }
            }
            return String(decoding: bytes, as: UTF8.self)
        }

        /// Decodes; nil for a broken escape, or for bytes that are not UTF-8 or contain NUL.
        public static func decode(_ text: some Sequence<UInt8>, plusIsSpace: Bool) -> String? {
            var bytes: [UInt8] = []
            var iterator = text.makeIterator()
            while let byte = iterator.next() {
                if byte == 0x25 {
                    guard let high = iterator.next().flatMap(digit), let low = iterator.next().flatMap(digit) else {
                        return nil
                    }
                    bytes.append(high << 4 | low)
                } else {
                    bytes.append(byte == 0x2B && plusIsSpace ? 0x20 : byte)
                }
            }
            guard !bytes.contains(0) else { return nil }
            return String(validating: bytes, as: UTF8.self)
        }

        private static let digits = Array("0123456789ABCDEF".utf8)

        private static func isUnreserved(_ byte: UInt8) -> Bool {
            (byte >= 0x30 && byte <= 0x39) || (byte >= 0x41 && byte <= 0x5A) || (byte >= 0x61 && byte <= 0x7A)
                || byte == 0x2D || byte == 0x2E || byte == 0x5F || byte == 0x7E
        }

        private static func digit(_ byte: UInt8) -> UInt8? {
            switch byte {
            case 0x30...0x39: byte - 0x30
            case 0x41...0x46: byte - 0x41 + 10
            case 0x61...0x66: byte - 0x61 + 10
            default: nil
            }
        }
    }

    /// The parameters of a query in their order, decoded; a name may come several times.
    public struct Query: Sendable, Hashable {
        /// One parameter.
        public struct Item: Sendable, Hashable {
            /// The decoded name.
            public var name: String
            /// The decoded value; empty if there was none.
            public var value: String

            /// A parameter.
            public init(_ name: String, _ value: String) {
                self.name = name
                self.value = value
            }
        }

        /// All parameters.
        public var items: [Item]

        /// A query of these parameters.
        public init(_ items: [Item] = []) { self.items = items }

        /// Reads the part of a URL after `?`; nil if an escape in it is broken or its bytes are not UTF-8.
        public init?(encoded: some StringProtocol) {
            items = []
            for part in encoded.utf8.split(separator: 0x26) {
                let end = part.firstIndex(of: 0x3D) ?? part.endIndex
                let rest = part[end...].dropFirst()
                guard let name = PercentCoding.decode(part[..<end], plusIsSpace: true),
                    let value = PercentCoding.decode(rest, plusIsSpace: true)
                else { return nil }
                items.append(Item(name, value))
            }
        }

        /// The last value under a name.
        public subscript(name: String) -> String? { items.last { $0.name == name }?.value }

        /// The part of a URL after `?`.
        public var encoded: String {
            items.map { PercentCoding.encode($0.name) + "=" + PercentCoding.encode($0.value) }.joined(separator: "&")
        }
    }
}
