// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteAgentWire
import Testing

/// A fixed number of damaged messages; `make fuzz` tries more of them.
@Suite struct AgentWireFuzzTests {
    @Test func `whatever a sprite sends, its events are read or refused`() {
        let seeds = AgentWireTests.events.map { $0.frame(descriptorCount: 2).encoded() }
        var inputs = Mutations(seed: 1, from: seeds)
        for _ in 0..<8_000 {
            let input = inputs.next()
            if let problem = agentEventProblem(input) { Issue.record("\(problem), by \(input)") }
        }
    }

    @Test func `whatever comes from outside, requests are read or refused`() {
        let seeds = AgentWireTests.requests.map { $0.frame(descriptorCount: 2).encoded() }
        var inputs = Mutations(seed: 2, from: seeds)
        for _ in 0..<8_000 {
            let input = inputs.next()
            if let problem = agentRequestProblem(input) { Issue.record("\(problem), by \(input)") }
        }
    }
}
