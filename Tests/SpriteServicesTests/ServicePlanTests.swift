// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import Testing

@testable import SpriteServices

@Suite struct ServicePlanTests {
    private let start = Timestamp(nanoseconds: 1_000_000_000_000)

    private func later(_ seconds: Int64) -> Timestamp {
        Timestamp(nanoseconds: start.nanoseconds + seconds * 1_000_000_000)
    }

    private func service(_ name: String, needs: [String] = [], port: Int? = nil) -> ServiceDefinition {
        ServiceDefinition(name: name, command: "/bin/true", needs: needs, httpPort: port)
    }

    @Test func `services start in the order of their needs, in parallel where they can`() {
        var plan = ServicePlan()
        let effects = plan.boot([service("web", needs: ["db", "cache"]), service("db"), service("cache")])
        #expect(effects == [.run("cache"), .run("db")])
        #expect(plan.didStart("db", now: start) == [])
        #expect(plan.didStart("cache", now: start) == [.run("web")])
    }

    @Test func `a stop by the user holds over a reboot`() throws {
        var plan = ServicePlan()
        _ = try plan.define(service("web"))
        _ = plan.didStart("web", now: start)
        #expect(plan.stop("web", timeout: .seconds(3)) == [.terminate("web", .seconds(3))])
        #expect(plan.didEnd("web", now: later(1)) == [])
        let definitions = plan.entries.values.map(\.definition)
        var next = ServicePlan()
        #expect(next.boot(definitions) == [])
        #expect(next.start("web") == [.run("web")])
    }

    @Test func `a crash is answered with growing waits, which a long run forgets`() {
        var plan = ServicePlan()
        _ = plan.boot([service("web")])
        var now = start
        for wait: Int64 in [1, 2, 4, 8, 16, 32, 60, 60] {
            #expect(plan.didStart("web", now: now) == [])
            let again = Timestamp(nanoseconds: now.nanoseconds + wait * 1_000_000_000)
            #expect(plan.didEnd("web", now: now) == [.wake(at: again)])
            #expect(plan.timePassed(now: now) == [])
            #expect(plan.timePassed(now: again) == [.run("web")])
            now = again
        }
        #expect(plan.entries["web"]?.restarts == 8)
        _ = plan.didStart("web", now: now)
        let end = Timestamp(nanoseconds: now.nanoseconds + 61_000_000_000)
        #expect(plan.didEnd("web", now: end) == [.wake(at: Timestamp(nanoseconds: end.nanoseconds + 1_000_000_000))])
    }

    @Test func `defining anew replaces the process`() throws {
        var plan = ServicePlan()
        #expect(try plan.define(service("web")) == [.run("web")])
        _ = plan.didStart("web", now: start)
        #expect(try plan.define(service("web", port: 80)) == [.terminate("web", .seconds(10))])
        #expect(plan.didEnd("web", now: start) == [.run("web")])
    }

    @Test func `starting a service starts what it needs`() {
        var plan = ServicePlan()
        var database = service("db")
        database.isStopped = true
        var web = service("web", needs: ["db"])
        web.isStopped = true
        #expect(plan.boot([database, web]) == [])
        #expect(plan.start("web") == [.run("db")])
        #expect(plan.didStart("db", now: start) == [.run("web")])
    }

    @Test func `unknown and circular needs and a second HTTP port are refused`() throws {
        var plan = ServicePlan()
        #expect(throws: SpriteError.self) { try plan.define(service("web", needs: ["db"])) }
        #expect(throws: SpriteError.self) { try plan.define(service("web", needs: ["web"])) }
        _ = try plan.define(service("db", port: 1))
        _ = try plan.define(service("web", needs: ["db"]))
        #expect(throws: SpriteError.self) { try plan.define(service("db", needs: ["web"], port: 1)) }
        let error = #expect(throws: SpriteError.self) { try plan.define(service("web", port: 2)) }
        #expect(error?.code == .conflict)
    }

    @Test func `what ran before the daemon's restart is not started twice`() {
        var plan = ServicePlan()
        let effects = plan.boot([service("db"), service("web", needs: ["db"])], running: ["db": start])
        #expect(effects == [.run("web")])
    }

    @Test func `fifty services in a chain start one after the other, in a star all at once`() {
        var plan = ServicePlan()
        let chain = (0..<50).map { service("s\($0)", needs: $0 == 0 ? [] : ["s\($0 - 1)"]) }
        #expect(plan.boot(chain) == [.run("s0")])
        for index in 0..<49 { #expect(plan.didStart("s\(index)", now: start) == [.run("s\(index + 1)")]) }
        let star = (0..<50).map { service("s\($0)") }
        #expect(plan.boot(star).count == 50)
    }

    @Test func `an end that nobody waits for changes nothing`() {
        var plan = ServicePlan()
        _ = plan.boot([service("web")])
        _ = plan.didStart("web", now: start)
        _ = plan.stop("web", timeout: .zero)
        _ = plan.didEnd("web", now: start)
        #expect(plan.didEnd("web", now: start) == [])
        #expect(plan.didEnd("unknown", now: start) == [])
    }
}
