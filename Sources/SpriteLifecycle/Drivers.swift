// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package import Logging
package import SpriteDomain

/// What the lifecycle works with; only the daemon names the concrete ones.
package struct Drivers: Sendable {
    package var registry: any RegistryDriver
    package var storage: any StorageDriver
    package var trees: any TreeStorageDriver
    package var sandboxes: any SandboxDriver
    package var network: any NetworkDriver
    package var sessions: any SessionDriver
    package var services: any ServiceDriver
    package var journal: any JournalRecorder
    package var inside: any InsideDriver
    package var closeSocket: @Sendable (Int32) -> Void
    /// What runs as PID 1 in sprites of a base.
    package var initSystem: @Sendable (BaseName) async throws -> InitSystem
    package var logger: Logger
    /// Nil where layers cannot be used.
    package var runtimes: (any RuntimesDriver)?
    package var awake: AwakeLimit

    package init(
        registry: any RegistryDriver, storage: any StorageDriver, trees: any TreeStorageDriver,
        sandboxes: any SandboxDriver, network: any NetworkDriver, sessions: any SessionDriver,
        services: any ServiceDriver, inside: any InsideDriver, journal: any JournalRecorder = NoJournal(),
        closeSocket: @escaping @Sendable (Int32) -> Void,
        initSystem: @escaping @Sendable (BaseName) async throws -> InitSystem = { _ in .sprite },
        logger: Logger, runtimes: (any RuntimesDriver)? = nil, awake: AwakeLimit = AwakeLimit()
    ) {
        self.registry = registry
        self.storage = storage
        self.trees = trees
        self.sandboxes = sandboxes
        self.network = network
        self.sessions = sessions
        self.services = services
        self.journal = journal
        self.inside = inside
        self.closeSocket = closeSocket
        self.initSystem = initSystem
        self.logger = logger
        self.runtimes = runtimes
        self.awake = awake
    }
}
