// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Foundation
import Testing

@testable import SpriteCLI

struct ConfigurationFileTests {
    private let folder: String

    init() throws {
        folder = NSTemporaryDirectory() + "/sprite-configuration-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    }

    private var path: String { folder + "/.sprites/sprites.json" }

    @Test func `tokens are kept in a file nobody else can read`() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        var file = try ConfigurationFile(path: path)
        file.setToken("secret", url: "http://a", organization: "acme")
        file.setToken("other", url: "http://a", organization: "b")
        file.selection = .init(url: "http://a", organization: "acme")
        try file.save()
        let attributes = try FileManager.default.attributesOfItem(atPath: path)
        #expect(attributes[.posixPermissions] as? Int == 0o600)
        let folderAttributes = try FileManager.default.attributesOfItem(atPath: folder + "/.sprites")
        #expect(folderAttributes[.posixPermissions] as? Int == 0o700)

        var read = try ConfigurationFile(path: path)
        #expect(read.token(url: "http://a", organization: "acme") == "secret")
        #expect(read.token(url: "http://b", organization: "acme") == nil)
        #expect(read.organizations.map(\.organization) == ["acme", "b"])
        #expect(read.selection == .init(url: "http://a", organization: "acme"))
        read.remove(.init(url: "http://a", organization: "acme"))
        #expect(read.selection == nil)
        #expect(read.token(url: "http://a", organization: "acme") == nil)
        #expect(read.token(url: "http://a", organization: "b") == "other")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder + "/.sprites") == ["sprites.json"])
    }

    @Test func `what others keep in the file survives`() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try FileManager.default.createDirectory(atPath: folder + "/.sprites", withIntermediateDirectories: true)
        let given =
            #"{"version":"1","users":[{"id":7,"x":1.5}],"disable_keyring":true,"urls":{"u":{"extra":null,"orgs":{}}}}"#
        try Data(given.utf8).write(to: URL(fileURLWithPath: path))
        var file = try ConfigurationFile(path: path)
        file.setToken("t", url: "u", organization: "o")
        try file.save()
        let text = try String(contentsOfFile: path, encoding: .utf8)
        for part in [#""disable_keyring" : true"#, #""id" : 7"#, #""x" : 1.5"#, #""extra" : null"#] {
            #expect(text.contains(part), "\(part) is in \(text)")
        }
    }

    @Test func `a damaged file is not overwritten`() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try FileManager.default.createDirectory(atPath: folder + "/.sprites", withIntermediateDirectories: true)
        try Data("{half".utf8).write(to: URL(fileURLWithPath: path))
        #expect(throws: CommandFailure.self) { try ConfigurationFile(path: path) }
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "{half")
    }
}
