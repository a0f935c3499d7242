// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ServiceLifecycle

/// Puts unused sprites to sleep, and notices limits that were hit.
package struct IdleWatch: Service {
    private let lifecycle: Lifecycle

    package init(_ lifecycle: Lifecycle) { self.lifecycle = lifecycle }

    /// Looks at every sprite once a second: a thousand cost about a millisecond.
    package func run() async throws {
        try? await cancelWhenGracefulShutdown {
            var round = 0
            var space = SpaceState.enough
            while true {
                try await Task.sleep(for: .seconds(1))
                round += 1
                let machines = await lifecycle.all()
                for machine in machines {
                    await machine.sleepIfUnused()
                    await machine.checkpointIfDue()
                    if round.isMultiple(of: 2) { await machine.recordLimitHits() }
                }
                if round.isMultiple(of: 10) { await lifecycle.watchSpace(&space) }
                if round.isMultiple(of: 60) { await lifecycle.thinPolicyCheckpoints() }
            }
        }
    }
}
