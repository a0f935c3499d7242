// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteDomain
import SpriteSandbox
import SpriteSystem
import Testing

extension SandboxTests {
    @Suite(.serialized)
    struct OCISandboxDriverTests {
        let id = SpriteID.random()

        @Test func `a sandbox has its own names, users and processes`() async throws {
            try await withSandboxes { fixture in
                _ = try await fixture.start(id)
                #expect(try fixture.run(id, "hostname").output == "tester\n")
                #expect(try fixture.run(id, "id -u").output == "0\n")
                #expect(try fixture.run(id, "echo $$").output == "1\n")
                #expect(try fixture.run(id, "stat -c %u /etc/passwd").output == "0\n")
                #expect(try fixture.run(id, "touch /etc/x && rm /etc/x").status == 0)
                #expect(try fixture.run(id, "cat /proc/self/uid_map | tr -s ' '").output == " 0 100000 65536\n")
                #expect(try fixture.run(id, "cat /proc/self/cgroup").output.contains("0::/\n"))
                #expect(
                    try fixture.run(id, "ls /.sprite").output
                        == "bin\ncheckpoints\nllm-checkpoints.txt\nllm-languages.txt\nllm-mcp.txt\nllm-services.txt\nllm.txt\npolicy\nversion.txt\n"
                )
                #expect(try fixture.run(id, "/.sprite/bin/sprite-env").status == 0)
                #expect(try fixture.run(id, "stat -c %u /.sprite/bin/sprite-env /.sprite/llm.txt").output == "0\n0\n")
            }
        }

        @Test func `nothing is left of a destroyed sandbox`() async throws {
            try await withSandboxes { fixture in
                let sandbox = try await fixture.start(id, limits: .init(memoryMiB: 256, cpus: 1, pids: 64))
                #expect(try !fixture.traces(id).isEmpty)
                _ = try fixture.run(id, "sleep 1000 & setsid sleep 1000 &")
                try await fixture.driver.destroy(id)
                #expect(try fixture.traces(id) == [])
                #expect(ProcessIdentity(running: sandbox.processID) == nil)
                try await fixture.driver.destroy(id)
            }
        }

        @Test func `a frozen sandbox stands still, goes on, and can be destroyed`() async throws {
            try await withSandboxes { fixture in
                _ = try await fixture.start(id)
                _ = try fixture.run(id, "(while :; do echo x >>/tmp/count; done) >/dev/null 2>&1 &")
                try await fixture.driver.freeze(id)
                #expect(throws: SystemError.self) { try fixture.run(id, "echo never", seconds: 1) }
                try await fixture.driver.thaw(id)
                #expect(try fixture.run(id, "echo again").output.contains("again\n"))
                try await fixture.driver.freeze(id)
                try await fixture.driver.destroy(id)
                #expect(try fixture.traces(id) == [])
            }
        }

        @Test func `the end of PID 1 is noticed, whoever ended it`() async throws {
            try await withSandboxes { fixture in
                let sandbox = try await fixture.start(id)
                let driver = fixture.driver
                let waiting = Task { await driver.waitForEnd(sandbox) }
                kill(sandbox.processID, SIGKILL)
                await waiting.value
                await fixture.driver.waitForEnd(sandbox)
                try await fixture.driver.destroy(id)
                await fixture.driver.waitForEnd(sandbox)
            }
        }

        @Test func `a restarted daemon takes over what runs, thawed, and removes the rest`() async throws {
            try await withSandboxes { fixture in
                let sandbox = try await fixture.start(id)
                let dead = SpriteID.random()
                let deadSandbox = try await fixture.start(dead)
                kill(deadSandbox.processID, SIGKILL)
                await fixture.driver.waitForEnd(deadSandbox)
                let half = SpriteID.random()
                _ = try await fixture.start(half)
                unlink("\(fixture.directory)/run/state/\(half).json")
                try await fixture.driver.freeze(id)

                try fixture.restart()
                #expect(try await fixture.driver.running() == [sandbox])
                #expect(try fixture.run(id, "echo thawed").output == "thawed\n")
                #expect(try fixture.traces(dead) == [])
                #expect(try fixture.traces(half) == [])
                #expect(try await fixture.driver.running() == [sandbox])
                let driver = fixture.driver
                let waiting = Task { await driver.waitForEnd(sandbox) }
                try await fixture.driver.destroy(id)
                await waiting.value
                #expect(try await fixture.driver.running() == [])
            }
        }

        @Test func `a process number that was used again is not taken for the sandbox`() async throws {
            try await withSandboxes { fixture in
                let sandbox = try await fixture.start(id)
                let path = "\(fixture.directory)/run/state/\(id).json"
                let text = try readSmallFile(path)
                let own = try #require(ProcessIdentity(running: sandbox.processID))
                unlink(path)
                try writeSmallFile(
                    path, text.replacing("\(own.startTime)", with: "\(own.startTime + 1)"), flags: O_WRONLY | O_CREAT)
                try fixture.restart()
                #expect(try await fixture.driver.running() == [])
            }
        }

        @Test func `checkpoints appear and disappear inside, read-only`() async throws {
            try await withSandboxes { fixture in
                let sandbox = try await fixture.start(id)
                let source = "\(fixture.directory)/checkpoint"
                try makeDirectory(source)
                try writeSmallFile("\(source)/file", "content\n", flags: O_WRONLY | O_CREAT, mode: 0o644)
                let mount = try checked(clinux_clone_mount(source, 0), "clone mount")
                defer { close(mount) }
                try await fixture.driver.showCheckpoint(sandbox, mount: mount, name: "v1")
                #expect(try fixture.run(id, "cat /.sprite/checkpoints/v1/file").output == "content\n")
                try await fixture.driver.hideCheckpoint(sandbox, name: "v1")
                #expect(try fixture.run(id, "ls /.sprite/checkpoints").output == "")
                try await fixture.driver.hideCheckpoint(sandbox, name: "v1")
                #expect(try fixture.run(id, "touch /.sprite/x").output.contains("Read-only file system"))
                #expect(try fixture.run(id, "mount -o remount,rw,bind /.sprite").status != 0)
                #expect(try fixture.run(id, "rm /.sprite/bin/sprite-env").status != 0)
                await #expect(throws: SpriteError.self) {
                    try await fixture.driver.showCheckpoint(sandbox, mount: mount, name: "../v1")
                }
            }
        }

        @Test func `a sandbox whose PID 1 cannot run leaves nothing and says why in the cause`() async throws {
            try await withSandboxes(initArguments: ["/no/such/program"]) { fixture in
                let error = await #expect(throws: SpriteError.self) { _ = try await fixture.start(id) }
                #expect(error?.code == .internalError)
                #expect("\(error.map { "\($0)" } ?? "")".contains("/no/such/program"))
                let traces = try fixture.traces(id)
                #expect(traces == [])
            }
        }

        @Test func `starting what runs is refused`() async throws {
            try await withSandboxes { fixture in
                _ = try await fixture.start(id)
                let error = await #expect(throws: SpriteError.self) { _ = try await fixture.start(id) }
                #expect(error?.code == .conflict)
            }
        }

        @Test func `the host's null device keeps its owner`() async throws {
            var before = stat()
            var after = stat()
            stat("/dev/null", &before)
            try await withSandboxes { fixture in
                _ = try await fixture.start(id)
                stat("/dev/null", &after)
                #expect(before.st_uid == after.st_uid)
            }
        }
    }
}
