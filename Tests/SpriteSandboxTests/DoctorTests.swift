// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import SpriteSandbox
import Testing

struct DoctorTests {
    @Test func `every check that finds a lack says what is lost and what to do`() {
        let checks = Doctor.checks(runtime: "no-such-runtime")
        #expect(checks.contains { $0.name == "no-such-runtime" && $0.state == .missing })
        for check in checks where check.state != .ok {
            #expect(!check.lost.isEmpty, "\(check.name)")
            #expect(!check.fix.isEmpty, "\(check.name)")
        }
        #expect(Set(checks.map(\.name)).count == checks.count)
    }

    @Test func `the control groups of this host are understood`() throws {
        let layout = try CgroupLayout.detect()
        #expect(!layout.unified.isEmpty || !layout.legacy.isEmpty)
        #expect(layout.unified.isDisjoint(with: layout.legacy.keys) || layout.mode == .hybrid)
    }
}
