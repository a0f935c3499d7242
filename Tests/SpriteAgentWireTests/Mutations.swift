// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// Inputs for decoders, made from good ones; the same seed makes the same inputs.
struct Mutations {
    private var state: UInt64
    private let seeds: [[UInt8]]
    /// Lengths and counts are where decoders fail.
    private static let interesting: [UInt8] = [0, 1, 2, 4, 8, 125, 126, 127, 128, 129, 254, 255]

    init(seed: UInt64, from seeds: [[UInt8]]) {
        state = seed
        self.seeds = seeds
    }

    /// SplitMix64.
    private mutating func number(below limit: Int) -> Int {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return Int((value ^ value >> 31) % UInt64(limit))
    }

    mutating func next() -> [UInt8] {
        var bytes: [UInt8] = []
        for _ in 0...number(below: 3) { bytes += seeds[number(below: seeds.count)] }
        for _ in 0..<number(below: 6) { change(&bytes) }
        return bytes
    }

    private mutating func change(_ bytes: inout [UInt8]) {
        guard !bytes.isEmpty else { return bytes.append(UInt8(number(below: 256))) }
        let place = number(below: bytes.count)
        switch number(below: 7) {
        case 0: bytes[place] = UInt8(number(below: 256))
        case 1: bytes[place] ^= 1 << UInt8(number(below: 8))
        case 2: bytes[place] = Mutations.interesting[number(below: Mutations.interesting.count)]
        case 3: bytes.removeSubrange(place..<min(bytes.count, place + 1 + number(below: 8)))
        case 4: bytes.insert(contentsOf: (0..<number(below: 8)).map { _ in UInt8(number(below: 256)) }, at: place)
        case 5: bytes.removeSubrange(place...)
        default: bytes += bytes[place..<min(bytes.count, place + 64)]
        }
    }
}
