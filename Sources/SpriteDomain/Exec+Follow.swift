// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension ExecSession {
    /// Stays attached until the command ends or the time is over; what it prints is kept for other clients only.
    package func follow(for limit: Duration) async {
        let reader = attach()
        defer { reader.detach() }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { while (try? await reader.next()) != nil {} }
            group.addTask { try? await Task.sleep(for: limit) }
            await group.next()
            group.cancelAll()
        }
    }
}
