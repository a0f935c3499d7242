// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import NIOCore
import SpriteDomain
import SpriteSessions
import Testing

@Suite(
    .serialized, .timeLimit(.minutes(5)),
    .enabled(if: InitFixture.isAvailable, "needs root and the static sprite-env (SPRITE_ENV_BINARY)"))
struct SessionTests {
    @Test func `output, errors and status are exact, 10,000 times`() async throws {
        let fixture = try await InitFixture()
        let count = getenv("SPRITE_STREAM_ROUNDS").flatMap { Int(String(cString: $0)) } ?? 10_000
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<count {
                if index >= 20 { try await group.next() }
                group.addTask {
                    let (output, errors) = (UInt64.random(in: 0 ... .max), UInt64.random(in: 0 ... .max))
                    let code = UInt8.random(in: 0...255)
                    let outcome = try await fixture.run("echo \(output); echo \(errors) >&2; exit \(code)")
                    #expect(outcome == Run(output: "\(output)\n", errors: "\(errors)\n", status: .exited(code)))
                }
            }
            try await group.waitForAll()
        }
        #expect(await fixture.engine.sessions(fixture.sprite).isEmpty)
        await fixture.end()
    }

    @Test(
        arguments: [
            (["no-such-command"], nil, "sprite-env: no-such-command: command not found\n", UInt8(127)),
            (["/no/such"], nil, "sprite-env: /no/such: No such file or directory\n", 127),
            (["/etc/passwd"], nil, "sprite-env: /etc/passwd: Permission denied\n", 126),
            (["/"], nil, "sprite-env: /: Permission denied\n", 126),
            (["true"], "/no/such", "sprite-env: cannot enter /no/such: No such file or directory\n", 127),
            (["echo", String(repeating: "x", count: 200_000)], nil, "sprite-env: echo: Argument list too long\n", 126),
        ] as [([String], String?, String, UInt8)])
    func `what cannot be started ends as under a shell`(
        _ arguments: [String], _ directory: String?, _ text: String, _ code: UInt8
    ) async throws {
        let fixture = try await InitFixture()
        let outcome = try await fixture.run(ExecRequest(arguments: arguments, directory: directory))
        #expect(outcome == Run(output: "", errors: text, status: .exited(code)))
        await fixture.end()
    }

    @Test func `bad requests are refused`() async throws {
        let fixture = try await InitFixture()
        for (request, code) in [
            (ExecRequest(arguments: []), SpriteError.Code.invalidRequest),
            (ExecRequest(arguments: ["a\0b"]), .invalidRequest),
            (ExecRequest(arguments: ["true"], environment: [("A=", "b")]), .invalidRequest),
            (ExecRequest(arguments: ["true"], user: "nobody-knows"), .invalidRequest),
            (ExecRequest(arguments: ["true"] + [String](repeating: "", count: 100_001)), .tooLarge),
            (ExecRequest(arguments: ["true", String(repeating: "x", count: 5 << 20)]), .tooLarge),
        ] {
            let error = await #expect(throws: SpriteError.self) { _ = try await fixture.exec(request) }
            #expect(error?.code == code)
        }
        await fixture.end()
    }

    @Test func `a command gets its environment, user and large arguments`() async throws {
        let fixture = try await InitFixture()
        var request = fixture.shell("echo $# $FROM_SPRITE $LANG $HOME $USER $A; id -u; env | wc -l")
        request.arguments += (0..<11).map { _ in String(repeating: "y", count: 100_000) }
        request.environment = [("A", "1"), ("A", "2")] + (0..<10_000).map { ("V\($0)", "") }
        request.user = "root"
        let outcome = try await fixture.run(request)
        // The first argument after the script is $0; 12 variables are PATH, LANG, those of the user, PWD and so on.
        #expect(outcome.output.hasPrefix("10 1 C /root root 2\n0\n100"))
        #expect(outcome.status == .exited(0))
        await fixture.end()
    }

    @Test func `what is printed before the first client attaches is not lost`() async throws {
        let fixture = try await InitFixture()
        let session = try await fixture.exec(ExecRequest(arguments: ["head", "-c", "30000000", "/dev/zero"]))
        try await Task.sleep(for: .milliseconds(500))
        let reader = session.attach()
        var bytes = 0
        while let event = try await reader.next() {
            switch event {
            case .output(_, let buffer): bytes += buffer.readableBytes
            case .exited(let status): #expect(status == .exited(0))
            }
        }
        #expect(bytes == 30_000_000)
        await fixture.end()
    }

    @Test func `input arrives whole and ends`() async throws {
        let fixture = try await InitFixture()
        let session = try await fixture.exec(ExecRequest(arguments: ["wc", "-c"], takesInput: true))
        for _ in 0..<100 { try await session.writeInput(ByteBuffer(repeating: 65, count: 1 << 20)) }
        session.closeInput()
        session.closeInput()
        #expect(try await collect(session.attach()).output == "\(100 << 20)\n")
        try await session.writeInput(ByteBuffer(string: "late"))
        #expect(try await fixture.run(ExecRequest(arguments: ["cat"])).status == .exited(0))
        await fixture.end()
    }

    @Test func `a descendant that keeps the pipe does not hold back the end, and does not get SIGPIPE`() async throws {
        let fixture = try await InitFixture()
        let file = "\(fixture.directory)/survived"
        var request = fixture.shell("(sleep 1; echo late; echo yes > \(file)) & echo now; exit 3")
        request.user = "root"
        let start = ContinuousClock.now
        #expect(try await fixture.run(request) == Run(output: "now\n", errors: "", status: .exited(3)))
        #expect(ContinuousClock.now - start < .milliseconds(900))
        try await eventually { access(file, F_OK) == 0 }
        unlink(file)
        await fixture.end()
    }

    @Test func `a terminal has its size, and signals go to its foreground group`() async throws {
        let fixture = try await InitFixture()
        let session = try await fixture.exec(
            ExecRequest(
                arguments: ["sh"], environment: [("PS1", "> ")], terminal: TerminalSize(rows: 24, columns: 80),
                takesInput: true))
        let reader = session.attach()
        reader.resize(TerminalSize(rows: 50, columns: 132))
        try await session.writeInput(ByteBuffer(string: "stty size; echo $TERM; sleep 100; echo after\n"))
        try await Task.sleep(for: .milliseconds(300))
        session.signal(SIGINT)
        try await Task.sleep(for: .milliseconds(100))
        try await session.writeInput(ByteBuffer(string: "seq 1 10000 | tail -1; exit 5\n"))
        let outcome = try await collect(reader)
        #expect(outcome.output.contains("50 132\r\nxterm-256color\r\n"))
        #expect(outcome.output.contains("10000\r\n"))
        #expect(outcome.status == .exited(5))
        #expect(session.info.terminalSize == TerminalSize(rows: 50, columns: 132))
        await fixture.end()
    }

    @Test(arguments: [false, true])
    func `an engine that goes away loses not one byte`(_ isTerminal: Bool) async throws {
        let fixture = try await InitFixture()
        let count = 200_000
        for _ in 0..<3 {
            let session = try await fixture.exec(
                ExecRequest(
                    arguments: ["sh", "-c", "seq 1 \(count); sleep 0.3; exit 9"],
                    terminal: isTerminal ? TerminalSize(rows: 2, columns: 2) : nil,
                    maxRunAfterDisconnect: .seconds(60)))
            let reader = session.attach()
            _ = try await reader.next()
            try await Task.sleep(for: .milliseconds(Int.random(in: 0...30)))
            try await fixture.restart()
            let info = try #require(await fixture.engine.sessions(fixture.sprite).first)
            #expect(info.id == session.info.id && info.command == session.info.command)
            #expect(info.isTerminal == isTerminal && info.directory == session.info.directory)
            let again = try await fixture.engine.session(fixture.sprite, info.id, ended: false)
            let ending = isTerminal ? "\r\n" : "\n"
            let outcome = try await collect(again.attach())
            #expect(outcome.output == (1...count).map { "\($0)\(ending)" }.joined() && outcome.status == .exited(9))
        }
        await fixture.end()
    }

    @Test func `input goes on after a restart`() async throws {
        let fixture = try await InitFixture()
        let session = try await fixture.exec(
            ExecRequest(arguments: ["cat"], takesInput: true, maxRunAfterDisconnect: .seconds(60)))
        try await session.writeInput(ByteBuffer(string: "one\n"))
        _ = try await session.attach().next()
        try await fixture.restart()
        let again = try await fixture.engine.session(fixture.sprite, session.info.id, ended: false)
        try await again.writeInput(ByteBuffer(string: "two\n"))
        again.closeInput()
        #expect(try await collect(again.attach()) == Run(output: "one\ntwo\n", errors: "", status: .exited(0)))
        await fixture.end()
    }

    @Test func `several clients that read get everything`() async throws {
        let fixture = try await InitFixture()
        let session = try await fixture.exec(fixture.shell("head -c 10000000 /dev/zero; echo done >&2"))
        async let first = collect(session.attach())
        async let second = collect(session.attach())
        #expect(try await first.output.utf8.count == 10_000_000)
        #expect(try await second.output.utf8.count == 10_000_000)
        await fixture.end()
    }

    @Test func `a client that stops reading holds nobody up, and is let go when it is far behind`() async throws {
        let fixture = try await InitFixture()
        let session = try await fixture.exec(fixture.shell("head -c 50000000 /dev/zero; echo done >&2"))
        let slow = session.attach()
        _ = try await slow.next()
        let outcome = try await collect(session.attach())
        #expect(outcome.output.utf8.count == 50_000_000 && outcome.errors == "done\n")
        await #expect(throws: TooSlow.self) { while try await slow.next() != nil {} }
        await fixture.end()
    }

    @Test func `an only client holds its command back, as a pipe does`() async throws {
        let fixture = try await InitFixture()
        let session = try await fixture.exec(fixture.shell("head -c 50000000 /dev/zero; echo done >&2"))
        let slow = session.attach()
        try await Task.sleep(for: .milliseconds(500))
        #expect(
            try await fixture.engine.session(fixture.sprite, session.info.id, ended: false).info.attachedClients == 1)
        #expect(try await collect(slow).output.utf8.count == 50_000_000)
        await fixture.end()
    }

    @Test func `without clients the last megabytes are kept`() async throws {
        let fixture = try await InitFixture()
        let session = try await fixture.exec(fixture.shell("seq 1 3000000; sleep 3; echo end"))
        // The client that the command was held back for has come and gone.
        session.attach().detach()
        try await Task.sleep(for: .seconds(2))
        let outcome = try await collect(session.attach())
        #expect(outcome.output.hasSuffix("2999999\n3000000\nend\n"))
        #expect(outcome.output.utf8.count >= Limits.scrollbackBytesMax)
        #expect(outcome.output.utf8.count < Limits.scrollbackBytesMax + (2 << 20))
        await fixture.end()
    }

    @Test func `a command without a client is asked to end, then killed`() async throws {
        let fixture = try await InitFixture()
        func run(_ traps: String) async throws -> (SpriteDomain.ExitStatus, Duration) {
            var request = fixture.shell("\(traps); while :; do sleep 0.05; done")
            request.maxRunAfterDisconnect = .milliseconds(500)
            let session = try await fixture.exec(request)
            let start = ContinuousClock.now
            session.attach().detach()
            return (try await session.waitForExit(), ContinuousClock.now - start)
        }
        let (asked, soon) = try await run("trap '' HUP; trap 'exit 4' TERM")
        #expect(asked == .exited(4) && soon < .seconds(3))
        let (killed, later) = try await run("trap '' HUP TERM")
        #expect(killed == .signaled(9) && later > .seconds(5))
        await fixture.end()
    }

    @Test func `ended sessions are gone, unknown ones were never there`() async throws {
        let fixture = try await InitFixture()
        let session = try await fixture.exec(fixture.shell("exit 1"))
        #expect(try await session.waitForExit() == .exited(1))
        #expect(await fixture.engine.sessions(fixture.sprite).isEmpty)
        for (id, code) in [
            (session.info.id, SpriteError.Code.gone), ("999999", .notFound), ("x", .notFound), ("-1", .notFound),
            ("0", .notFound), ("18446744073709551616", .notFound),
        ] {
            let error = await #expect(throws: SpriteError.self) {
                _ = try await fixture.engine.session(fixture.sprite, id, ended: false)
            }
            #expect(error?.code == code)
        }
        #expect(try await collect(session.attach()).status == .exited(1), "whoever started it can still attach")
        await fixture.end()
    }

    @Test func `sessions of a sandbox that is gone are lost, and nothing is left`() async throws {
        let fixture = try await InitFixture()
        let session = try await fixture.exec(fixture.shell("echo before; sleep 100"))
        let reader = session.attach()
        guard case .output(.stdout, let first) = try await reader.next() else {
            Issue.record("no output")
            return
        }
        #expect(String(buffer: first) == "before\n")
        fixture.kill()
        await fixture.engine.disconnect(fixture.sprite)
        #expect(try await collect(reader).status == .lost)
        #expect(await fixture.engine.sessions(fixture.sprite).isEmpty)
        #expect(access("\(fixture.directory)/sessions/\(fixture.sprite)", F_OK) != 0)
        #expect(access("\(fixture.directory)/agents/\(fixture.sprite).sock", F_OK) != 0)
        let error = await #expect(throws: SpriteError.self) { _ = try await fixture.run("true") }
        #expect(error?.code == .unavailable)
        await fixture.end()
    }

    @Test func `cancelling a wait for output ends it`() async throws {
        let fixture = try await InitFixture()
        let reader = try await fixture.exec(fixture.shell("sleep 100")).attach()
        let task = Task { try await reader.next() }
        try await Task.sleep(for: .milliseconds(50))
        task.cancel()
        await #expect(throws: CancellationError.self) { _ = try await task.value }
        await fixture.end()
    }
}

func eventually(_ condition: () -> Bool) async throws {
    for _ in 0..<500 {
        if condition() { return }
        try await Task.sleep(for: .milliseconds(10))
    }
    Issue.record("the condition did not become true in 5 s")
}
