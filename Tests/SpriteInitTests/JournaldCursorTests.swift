// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteInit
import Testing

struct JournaldCursorTests {
    private static let cursor = "s=0f;i=1a;b=2c;m=3;t=4;x=5"

    @Test(arguments: [
        #"{"__CURSOR":"s=0f;i=1a;b=2c;m=3;t=4;x=5","MESSAGE":"hello"}"#,
        #"{"MESSAGE":"hello","__CURSOR":"s=0f;i=1a;b=2c;m=3;t=4;x=5"}"#,
        // As older versions print it.
        #"{ "__CURSOR" : "s=0f;i=1a;b=2c;m=3;t=4;x=5", "MESSAGE" : "hello" }"#,
        // Of several lines the last counts.
        #"{"__CURSOR":"s=1;i=1"}"# + "\n" + #"{"__CURSOR":"s=0f;i=1a;b=2c;m=3;t=4;x=5"}"#,
        // Text is not taken for it, whatever it says.
        #"{"MESSAGE":"\"__CURSOR\":\"s=1;i=2\"","__CURSOR":"s=0f;i=1a;b=2c;m=3;t=4;x=5"}"#,
        #"{"MESSAGE":"__CURSOR","_PID":"1","__CURSOR":"s=0f;i=1a;b=2c;m=3;t=4;x=5"}"#,
        #"{"MESSAGE":"so ends \"__CURSOR","__CURSOR":"s=0f;i=1a;b=2c;m=3;t=4;x=5"}"#,
    ])
    func `the cursor of the last line is found`(_ lines: String) {
        #expect(JournaldCursor.last(of: Array(lines.utf8)[...]) == Self.cursor)
    }

    @Test(arguments: [
        "", "\n", "y", #""__CURSOR""#, #"{"__CURSOR"}"#, #"{"__CURSOR":1}"#, #"{"__CURSOR":"#, #"{"__CURSOR":""}"#,
        #"{"__CURSOR":"i=1"}"#, #"{"__CURSOR":"s=1 --file=/etc/shadow"}"#, #"{"__CURSOR":"s=1"}"# + "\nno entry",
        #"{"__CURSOR":"s=\#(String(repeating: "1", count: 600))"}"#,
    ])
    func `what is no cursor is none`(_ lines: String) {
        #expect(JournaldCursor.last(of: Array(lines.utf8)[...]) == nil)
    }
}
