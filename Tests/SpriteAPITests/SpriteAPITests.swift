// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteAPI
import Testing

@Suite struct TextFormTests {
    @Test(arguments: [
        ("10s", 10.0), ("500ms", 0.5), ("1m0s", 60), ("1h", 3600), ("1.5s", 1.5), ("5.0s", 5), ("7", 7), ("0", 0),
        ("0s", 0), ("2.5", 2.5), ("1h30m", 5400), ("3us", 0.000003), ("+1s", 1),
    ])
    func `durations are read`(_ text: String, _ seconds: Double) {
        #expect(API.DurationText.parse(text) == .nanoseconds(Int64(seconds * 1e9)))
    }

    @Test(arguments: ["", "s", "-1s", "1x", "1s2", "abc", "1..2s", "9e99", "999999999h", "١s"])
    func `other texts are no durations`(_ text: String) {
        #expect(API.DurationText.parse(text) == nil)
    }

    @Test(
        arguments: [
            (0, "1970-01-01T00:00:00Z"), (1_770_091_506_123_456_789, "2026-02-03T04:05:06.123456Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00Z"), (-1, "1969-12-31T23:59:59.999999Z"),
            (4_102_444_799_000_001_000, "2099-12-31T23:59:59.000001Z"),
        ] as [(Int64, String)])
    func `times are written and read`(_ nanoseconds: Int64, _ text: String) {
        #expect(API.TimeText.text(nanoseconds: nanoseconds) == text)
        let microseconds = nanoseconds - (nanoseconds % 1000 + 1000) % 1000
        #expect(API.TimeText.nanoseconds(text) == microseconds)
    }

    @Test func `times of other places are read`() {
        #expect(API.TimeText.nanoseconds("1970-01-01T01:00:00.5+01:00") == 500_000_000)
        for text in ["", "2026", "2026-13-01T00:00:00Z", "2026-02-03T04:05:06", "2026-02-03T04:05:06+1:00"] {
            #expect(API.TimeText.nanoseconds(text) == nil)
        }
    }

    @Test func `signals have names and numbers`() {
        #expect(API.SignalName.number("TERM") == 15)
        #expect(API.SignalName.number("sigusr2") == 12)
        #expect(API.SignalName.number("9") == 9)
        #expect(API.SignalName.number("NOPE") == nil)
        #expect(API.SignalName.number("-9") == nil)
        #expect(API.SignalName.name(31) == "SIGSYS")
        #expect(API.SignalName.name(40) == "40")
    }

    @Test func `queries keep order and repeated names`() throws {
        let query = try #require(API.Query(encoded: "cmd=sh&cmd=-c&cmd=a+b%2Bc%3D%26&env=A=B=C&x&cmd[]=%C3%A9"))
        #expect(query.items.filter { $0.name.hasPrefix("cmd") }.map(\.value) == ["sh", "-c", "a b+c=&", "é"])
        #expect(query["env"] == "A=B=C")
        #expect(query["x"] == "")
        #expect(API.Query(encoded: query.encoded) == query)
        for broken in ["a=%", "a=%4", "a=%zz", "a=%ff", "a=%00"] { #expect(API.Query(encoded: broken) == nil) }
    }

    @Test func `an exec query survives the way there and back`() throws {
        var query = API.ExecQuery(command: ["sh", "-c", "echo 'ä' && true", ""])
        query.path = "/bin/sh"
        query.environment = ["A=1", "B=x=y"]
        query.directory = "/tmp"
        query.tty = true
        query.rows = 40
        query.columns = 100
        query.takesInput = false
        query.detachable = true
        query.maxRunAfterDisconnect = .milliseconds(1500)
        query.user = "root"
        let encoded = try #require(API.Query(encoded: query.query.encoded))
        #expect(try API.ExecQuery(encoded) == query)
    }

    @Test(arguments: ["tty=maybe", "rows=-1", "cols=70000", "rows=x", "max_run_after_disconnect=soon"])
    func `a bad value names its parameter`(_ text: String) throws {
        let query = try #require(API.Query(encoded: text))
        let name = try #require(text.split(separator: "=").first)
        #expect(throws: API.ExecQuery.Problem.self) { try API.ExecQuery(query) }
        do { _ = try API.ExecQuery(query) } catch { #expect(error.description.contains(name)) }
    }
}
