// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import Testing

@testable import SpriteServer

@Suite struct InsideRouteTests {
    private let own: SpriteName

    init() throws { own = try SpriteName("own") }

    @Test(arguments: [
        (["v1", "info"], InsideRoute.shared(.sprite("own"))),
        (["v1", "checkpoints"], .shared(.checkpoints("own"))),
        (["v1", "checkpoints", "v1"], .shared(.checkpoint("own", id: "v1"))),
        (["v1", "checkpoints", "v1", "restore"], .restore(id: "v1")),
        (["v1", "checkpoints", "undo", "restore"], .restore(id: nil)),
        (["v1", "restore", "undo"], .restore(id: nil)),
        (["v1", "restore"], .lastRestore),
        (["v1", "services", "web", "logs"], .shared(.services("own", .logs("web")))),
        (["v1", "tasks", "../other"], .shared(.task("own", name: "../other"))),
        (["v1", "policy", "network"], .shared(.policy("own", .network))),
        (["mcp"], .mcp), (["mcp", "stdio"], .conversation), (["health"], .health),
    ])
    func `a path means this sprite`(_ segments: [String], _ route: InsideRoute) {
        #expect(InsideRoute(segments, sprite: own) == route)
    }

    @Test(arguments: [
        ["v1"], ["v1", "sprites"], ["v1", "sprites", "other"], ["v1", "sprites", "own", "checkpoints"],
        ["v1", "exec"], ["v1", "fork"], ["v1", "control"], ["v1", "proxy"], ["v1", "fs", "read"], ["v1", "upgrade"],
        ["v1", "..", "sprites"], ["", "v1", "sprites"], ["v1", ""], [], ["mcp", "other"], ["v1", "ports", "watch"],
        ["v1", "policy", "unknown"], ["v1", "services", "a", "b", "c"],
    ])
    func `no path leads elsewhere`(_ segments: [String]) {
        #expect(InsideRoute(segments, sprite: own) == nil)
    }

    @Test func `settings and policies can only be read`() {
        for route in [InsideRoute.shared(.sprite("own")), .shared(.policy("own", .network)), .lastRestore] {
            #expect(route.methods == ["GET", "HEAD"])
        }
    }

    @Test func `a burst of requests is taken, and then only so many a second`() {
        var allowance = RequestAllowance()
        let taken = (0..<1000).filter { _ in allowance.take() }.count
        #expect((Int(Limits.insideRequestsBurst)...Int(Limits.insideRequestsBurst) + 50).contains(taken))
    }
}
