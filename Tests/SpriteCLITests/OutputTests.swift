// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Sprites
import Testing

@testable import SpriteCLI

struct OutputTests {
    @Test func `columns are as wide as they need to be`() {
        var table = Table("ID", "COMMENT", "LAST")
        table.add("v10", "", "x")
        table.add("v1", "größer", "")
        #expect(table.lines == ["ID   COMMENT  LAST", "v10           x", "v1   größer"])
    }

    @Test func `text of a server cannot move the cursor`() {
        #expect(Table.printable("a\u{1B}[2Jb\nc\u{9B}") == "a?[2Jb?c?")
        #expect(Table.printable("grün ✓") == "grün ✓")
    }

    @Test(arguments: [
        (Duration.microseconds(6400), "6.4 ms"), (.milliseconds(120), "120 ms"), (.milliseconds(3210), "3.2 s"),
        (.zero, "0.0 ms"),
    ])
    func `times are short`(duration: Duration, text: String) {
        #expect(duration.shortText == text)
    }

    @Test func `every error has a code and a sentence`() {
        #expect(Ending(UsageError("x"), tokenSource: nil).code == 2)
        #expect(Ending(CommandFailure("x"), tokenSource: nil).code == 1)
        #expect(Ending(CancellationError(), tokenSource: nil).code == 130)
        let refused = Ending(SpritesError(.unauthorized, "unknown token"), tokenSource: "SPRITE_TOKEN")
        #expect(refused.code == 1)
        #expect(
            refused.message == "sprite: unknown token; the token came from SPRITE_TOKEN; `sprite login` stores another")
    }

    @Test(arguments: [
        ["list", "--bogus"], ["create", "a", "b"], ["restore"], ["use", "--unset", "x"], ["sessions", "kill"],
    ])
    func `wrong usage is exit code 2`(arguments: [String]) {
        let error = #expect(throws: (any Error).self) { try SpriteCommand.parseAsRoot(arguments) }
        guard let error else { return }
        let ending = Ending(error, tokenSource: nil)
        #expect(ending.code == 2)
        #expect(ending.message?.hasPrefix("sprite: ") == true)
    }
}
