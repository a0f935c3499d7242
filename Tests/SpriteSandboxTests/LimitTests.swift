// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain
import SpriteSandbox
import Testing

extension SandboxTests {
    @Suite(.serialized)
    struct LimitTests {
        let id = SpriteID.random()

        @Test func `a fork bomb stays inside`() async throws {
            try await withSandboxes { fixture in
                _ = try await fixture.start(id, limits: .init(pids: 32))
                let result = try fixture.run(
                    id, "sh -c 'n=0; while [ $n -lt 100 ]; do sleep 100 & n=$((n+1)); done'; true")
                #expect(result.output.contains("fork"))
                try await fixture.driver.setLimits(id, .init(pids: 64))
                // Without a fork: the limit is reached.
                #expect(try fixture.run(id, "set -- /proc/[0-9]*; echo $#").output.contains("3"))
            }
        }

        @Test func `memory beyond the limit is refused, also when set later`() async throws {
            try await withSandboxes { fixture in
                _ = try await fixture.start(id, limits: .init(memoryMiB: 64))
                let fill = "perl -e '$x = \"a\" x (150 << 20); print length($x), \"\\n\"'"
                #expect(try fixture.run(id, fill).status != 0)
                try await fixture.driver.setLimits(id, .init(memoryMiB: 512))
                #expect(try fixture.run(id, fill).status == 0)

                let later = SpriteID.random()
                _ = try await fixture.start(later)
                #expect(try fixture.run(later, fill).status == 0)
                try await fixture.driver.setLimits(later, .init(memoryMiB: 64))
                #expect(try fixture.run(later, fill).status != 0)
                try await fixture.driver.setLimits(later, .init())
                #expect(try fixture.run(later, fill).status == 0)
            }
        }

        @Test func `processor time is limited where the host can`() async throws {
            try await withSandboxes { fixture in
                do { try fixture.driver.checkLimits(.init(cpus: 0.2)) } catch let error as SpriteError {
                    #expect(error.code == .unsupported)
                    #expect(error.message.contains("processor time"))
                    return
                }
                _ = try await fixture.start(id, limits: .init(cpus: 0.2))
                let spin = "perl -e '1 while (times)[0] + (times)[1] < 0.4'"
                let slow = try ContinuousClock().measure { _ = try fixture.run(id, spin) }
                #expect(slow > .seconds(1))
                try await fixture.driver.setLimits(id, .init(cpus: 4))
            }
        }

        @Test(arguments: [
            ResourceLimits(memoryMiB: 1), ResourceLimits(memoryMiB: -5), ResourceLimits(cpus: 0),
            ResourceLimits(cpus: -1), ResourceLimits(cpus: .nan), ResourceLimits(cpus: .infinity),
            ResourceLimits(pids: 1), ResourceLimits(pids: Int.max), ResourceLimits(memoryMiB: Int.max),
        ])
        func `senseless limits are refused before anything is made`(_ limits: ResourceLimits) async throws {
            try await withSandboxes { fixture in
                let error = await #expect(throws: SpriteError.self) { _ = try await fixture.start(id, limits: limits) }
                #expect(error?.code == .invalidRequest)
                let traces = try fixture.traces(id)
                #expect(traces == [])
            }
        }
    }
}
