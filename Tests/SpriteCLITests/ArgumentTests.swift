// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser
import Testing

@testable import SpriteCLI

@Suite(.serialized) struct ArgumentTests {
    @Test(arguments: [
        ("-s demo exec -- ls -s x", "exec -s demo -- ls -s x"),
        ("-s demo checkpoint create --comment x", "checkpoint create -s demo --comment x"),
        ("checkpoint -s demo ls", "checkpoint ls -s demo"),
        ("--debug -o acme list", "list --debug -o acme"),
        ("--sprite=demo x ls", "x --sprite=demo ls"),
        ("exec ls list", "exec ls list"),
        ("url demo", "url demo"),
        ("url update -a public", "url update -a public"),
        ("--version", "--version"),
        ("help exec", "help exec"),
        ("s ls -s demo", "s ls -s demo"),
        ("", ""),
        ("-s", "-s"),
    ])
    func `global options may stand in front`(given: String, expected: String) throws {
        let words = given.split(separator: " ").map(String.init)
        #expect(try orderedArguments(words).joined(separator: " ") == expected)
    }

    @Test(arguments: ["frob", "checkpoint frob", "-s demo frob", "sessions frob"])
    func `an unknown command is wrong usage`(given: String) {
        #expect(throws: UsageError.self) { try orderedArguments(given.split(separator: " ").map(String.init)) }
    }

    @Test(arguments: [
        ("exec -s demo -- ls -la -- x", "exec -s demo", ["ls", "-la", "--", "x"]),
        ("exec -s demo ls -la -- x", "exec -s demo", ["ls", "-la", "--", "x"]),
        ("exec --dir /x --env A=1 --tty -- sh -c true", "exec --dir /x --env A=1 --tty", ["sh", "-c", "true"]),
        ("exec --dir=/x - -", "exec --dir=/x", ["-", "-"]),
        ("x -- -weird --help", "x", ["-weird", "--help"]),
        ("exec --bogus -- ls", "exec --bogus", ["ls"]),
    ])
    func `the command of exec never meets the parser`(line: String, own: String, command: [String]) throws {
        let rest = PassedCommand.cut(line.split(separator: " ").map(String.init))
        #expect(rest.joined(separator: " ") == own)
        #expect(PassedCommand.arguments == command)
    }

    @Test(arguments: [
        (["A=1,B=2"], ["A": "1", "B": "2"]),
        (["A=1,2,B=", "C=x=y"], ["A": "1,2", "B": "", "C": "x=y"]),
        (["A=b=c,d-e=f"], ["A": "b=c,d-e=f"]),
        ([], [:]),
    ])
    func `environments are lists that may hold commas`(lists: [String], expected: [String: String]) throws {
        #expect(try parseEnvironment(lists) == expected)
    }

    @Test(arguments: ["", "A", "=x", ",A=1", "1x y=2"])
    func `what is no variable is wrong usage`(list: String) {
        #expect(throws: UsageError.self) { try parseEnvironment([list]) }
    }

    @Test(arguments: [
        ("512", 512), ("512M", 512), ("512MiB", 512), ("2G", 2048), ("1.5g", 1536), ("0", 0), ("G", nil), ("-1", nil),
        ("1T", nil), ("", nil), ("1e30", nil),
    ])
    func `amounts of memory`(text: String, expected: Int?) {
        #expect(Mebibytes(argument: text)?.count == expected)
    }

    @Test(arguments: [
        ("/v1/sprites", "demo", "/v1/sprites"), ("/health", "demo", "/health"),
        ("/exec", "demo", "/v1/sprites/demo/exec"),
        ("exec", "demo", "/v1/sprites/demo/exec"), ("/", "demo", "/v1/sprites/demo"), ("/sprites", nil, "/v1/sprites"),
        ("/v1x", "demo", "/v1/sprites/demo/v1x"),
    ])
    func `paths of api`(path: String, sprite: String?, expected: String) {
        #expect(RawAPI.fullPath(path, sprite: sprite) == expected)
    }

    @Test func `made up names are valid`() {
        for _ in 0..<100 {
            let name = RandomName.make()
            #expect(name.utf8.count <= 63)
            #expect(name.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D })
        }
    }
}
