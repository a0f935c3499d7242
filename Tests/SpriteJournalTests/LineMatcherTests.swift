// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import Testing

@testable import SpriteJournal

@Suite struct LineMatcherTests {
    private func matches(_ line: String, words: String? = nil, pattern: String? = nil) throws -> Bool {
        let matcher = try LineMatcher(words: words, pattern: pattern)
        return Array(line.utf8).withUnsafeBytes { matcher.matches($0) }
    }

    @Test(
        arguments: [
            ("the quick brown fox", "quick", true), ("the quick brown fox", "QUICK Fox", true),
            ("the quick brown fox", "fox the", true), ("the quickest", "quick", false), ("requick", "quick", false),
            ("a-quick.fox", "quick fox", true), ("quick", "quick", true), ("", "quick", false),
            ("error 42", "42", true), ("error 420", "42", false), ("Größe: 12", "größe", true),
            ("ein Maß", "ein", true), ("日本語 text", "text", true), ("x_y", "x y", true),
            ("quick\u{FFFD}", "quick", true),
        ])
    func `words are whole and of any case`(_ line: String, _ words: String, _ expected: Bool) throws {
        #expect(try matches(line, words: words) == expected)
    }

    @Test(
        arguments: [
            ("error 42", "^error [0-9]+$", true), ("Error 42", "^error", false), ("Error 42", "(?i)^error", true),
            ("abc", "a.c", true), ("", "^$", true), ("a|b", "a\\|b", true),
        ])
    func `patterns are extended regular expressions`(_ line: String, _ pattern: String, _ expected: Bool) throws {
        #expect(try matches(line, pattern: pattern) == expected)
    }

    @Test(arguments: [
        "(", "a{1000}{1000}", "(a{32767,}){1000,}", "((a{1,10}){10}){11}", "(a)\\1", "[",
        String(repeating: "a", count: 1001),
    ])
    func `patterns that are wrong or endless are refused`(_ pattern: String) {
        #expect { try LineMatcher(words: nil, pattern: pattern) } throws: {
            ($0 as? SpriteError)?.code == .invalidRequest
        }
    }

    @Test(arguments: ["", "...", String(repeating: "a ", count: 17)])
    func `searches without words, or with too many, are refused`(_ words: String) {
        #expect { try LineMatcher(words: words, pattern: nil) } throws: {
            ($0 as? SpriteError)?.code == .invalidRequest
        }
    }
}
