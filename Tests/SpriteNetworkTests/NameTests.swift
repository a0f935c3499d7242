// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import FoundationEssentials
import Testing

@testable import SpriteNetwork

private func rules(_ text: String) throws -> NameRules { try #require(try NameRules(policy: #"{"rules":[\#(text)]}"#)) }

private func encoded(_ name: String) -> [UInt8] {
    name.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } + [0]
}

private func question(_ name: String, type: UInt16 = 1) -> [UInt8] {
    [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0] + encoded(name) + [UInt8(type >> 8), UInt8(type & 0xFF), 0, 1]
}

private func record(_ owner: [UInt8], type: UInt16, seconds: UInt32 = 60, _ data: [UInt8]) -> [UInt8] {
    owner + [0, UInt8(type), 0, 1] + (0..<4).map { UInt8(truncatingIfNeeded: seconds >> (24 - 8 * $0)) }
        + [0, UInt8(data.count)] + data
}

private func answer(_ name: String, _ records: [[UInt8]]) -> [UInt8] {
    var bytes = question(name)
    bytes[2] = 0x81
    bytes[3] = 0x80
    bytes[7] = UInt8(records.count)
    return bytes + records.flatMap { $0 }
}

/// The name of the question, as an answer repeats it.
private let asked: [UInt8] = [0xC0, 12]

@Suite struct NameRuleTests {
    @Test func `the most specific rule wins, wherever it stands`() throws {
        let rules = try rules(
            #"""
            {"domain":"*","action":"allow"},{"domain":"a.b.example.com","action":"deny"},
            {"domain":"*.b.example.com","action":"allow"},{"domain":"*.example.com","action":"deny"}
            """#)
        #expect(rules.decide("elsewhere.org") == .allowed(byExactName: false))
        #expect(rules.decide("a.b.example.com") == .denied)
        #expect(rules.decide("c.b.example.com") == .allowed(byExactName: false))
        #expect(rules.decide("b.example.com") == .allowed(byExactName: false))
        #expect(rules.decide("example.com") == .denied)
        #expect(rules.decide("notexample.com") == .allowed(byExactName: false))
    }

    @Test func `what no rule names is denied, and case does not matter`() throws {
        let rules = try rules(#"{"domain":"Example.COM","action":"allow"}"#)
        #expect(rules.decide("example.com") == .allowed(byExactName: true))
        #expect(rules.decide("www.example.com") == .unnamed)
        #expect(rules.decide("") == .unnamed)
    }

    @Test func `rules win over an include, and an include can be denied`() throws {
        let some = try rules(#"{"domain":"pypi.org","action":"deny"},{"include":"defaults"}"#)
        #expect(some.decide("pypi.org") == .denied)
        #expect(some.decide("raw.githubusercontent.com") == .allowed(byExactName: false))
        let none = try rules(#"{"domain":"*","action":"allow"},{"include":"defaults","action":"deny"}"#)
        #expect(none.decide("pypi.org") == .denied)
        #expect(none.decide("example.com") == .allowed(byExactName: false))
    }

    @Test func `no rules restrict nothing, and addresses are rules of their own`() throws {
        #expect(try NameRules(policy: #"{"rules":[]}"#) == nil)
        let rules = try rules(#"{"domain":"192.0.2.7","action":"allow"},{"domain":"192.0.2.8","action":"deny"}"#)
        #expect(rules.addresses.map(\.description) == ["192.0.2.7"])
    }

    @Test func `the page lists the defaults`() throws {
        let here = URL(filePath: #filePath).deletingLastPathComponent().path
        let page = String(
            decoding: try Data(contentsOf: URL(filePath: here + "/../../docs/network-policy.md")), as: UTF8.self)
        for name in DefaultNames.all { #expect(page.contains("`\(name)`"), "docs/network-policy.md lacks \(name)") }
    }
}

@Suite struct NameMessageTests {
    @Test func `a question is read and asked anew`() throws {
        let read = try NameQuestion(question("WWW.Example.com"))
        #expect(read.name == "www.example.com")
        #expect(read.identifier == 7 && read.type == 1 && read.answerBytesMax == 512)
        let sent = read.message(identifier: 0x1234)
        #expect(sent[0] == 0x12 && sent[1] == 0x34 && sent.count == 12 + 17 + 4 + 11)
    }

    @Test(
        arguments: [
            [UInt8](), [0, 7, 1], Array(question("a.b").dropLast(3)),
            [0, 7, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0] + encoded("a"),
            [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xC0, 12, 0, 1, 0, 1],
            [0, 7, 0x81, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1],
            [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 0x61, 0x2E, 0x62, 0, 0, 1, 0, 1],
            [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0x61, 0, 0, 0, 1, 0, 1],
            question(Array(repeating: String(repeating: "a", count: 63), count: 4).joined(separator: ".")),
        ] as [[UInt8]])
    func `broken questions are refused`(_ bytes: [UInt8]) {
        #expect(throws: (any Error).self) { try NameQuestion(bytes) }
    }

    @Test func `every cut of a message is read or refused, never more`() throws {
        let whole = answer(
            "a.test", [record(asked, type: 5, encoded("b.test")), record(encoded("b.test"), type: 1, [192, 0, 2, 1])])
        let asked = try NameQuestion(question("a.test"))
        for count in 0..<whole.count {
            #expect(NameAnswer(Array(whole[..<count]), to: asked, identifier: 7, secondsToLiveMax: 3600) == nil)
        }
        var random = SystemRandomNumberGenerator()
        for _ in 0..<20_000 {
            var bytes = whole
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(in: .min ... .max, using: &random)
            }
            _ = NameAnswer(bytes, to: asked, identifier: 7, secondsToLiveMax: 3600)
            _ = NameAnswer.observed(bytes)
            _ = try? NameQuestion(bytes)
        }
    }

    @Test func `aliases and addresses of the chain are found, and lifetimes capped`() throws {
        let bytes = answer(
            "a.test",
            [
                record(asked, type: 5, seconds: 90, encoded("b.test")),
                record(encoded("B.test"), type: 1, seconds: 86_400, [192, 0, 2, 1]),
            ])
        let read = try #require(
            NameAnswer(bytes, to: try NameQuestion(question("a.test")), identifier: 7, secondsToLiveMax: 3600))
        #expect(read.aliases == ["b.test"] && read.addresses.map(\.description) == ["192.0.2.1"])
        #expect(read.secondsToLive == 90)
        // 86400 is 0x15180, 3600 is 0xE10.
        #expect(Array(read.bytes.suffix(10)) == [0, 0, 0x0E, 0x10, 0, 4, 192, 0, 2, 1])
    }

    @Test func `addresses of other names spoil the answer`() throws {
        let asked = try NameQuestion(question("a.test"))
        let other = answer("a.test", [record(encoded("b.test"), type: 1, [192, 0, 2, 1])])
        #expect(NameAnswer(other, to: asked, identifier: 7, secondsToLiveMax: 60) == nil)
        let fitting = answer("a.test", [record(encoded("a.test"), type: 1, [192, 0, 2, 1])])
        #expect(NameAnswer(fitting, to: asked, identifier: 8, secondsToLiveMax: 60) == nil, "another number")
        #expect(
            NameAnswer(fitting, to: try NameQuestion(question("c.test")), identifier: 7, secondsToLiveMax: 60) == nil)
    }

    @Test func `an allowance is used up and fills again`() async throws {
        var allowance = Allowance(perSecond: 1000, burst: 2)
        let first = [allowance.take(), allowance.take(), allowance.take()]
        #expect(first == [true, true, false])
        try await Task.sleep(for: .milliseconds(20))
        let later = allowance.take()
        #expect(later)
    }
}
