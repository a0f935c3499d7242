// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// Every limit of the system, with the reason for its value.
package enum Limits {
    /// RFC 1035: a DNS label holds at most 63 bytes, and the name is one.
    package static let spriteNameBytesMax = 63
    package static let baseNameBytesMax = 100
    /// Bodies of JSON requests; the largest legitimate one is an environment map.
    package static let jsonBodyBytesMax = 1 << 20
    /// A command line (all arguments) and its environment: twice what Linux takes by default (ARG_MAX is 2 MiB).
    package static let execArgumentBytesMax = 4 << 20
    package static let execArgumentCountMax = 100_000
    package static let execEnvironmentCountMax = 20_000
    /// A request line with arguments in its query: 1 MB of arguments, percent-encoded, is 3 MB.
    package static let requestHeadBytesMax = 16 << 20
    /// Header fields of a request; browsers and the largest proxies send some 40.
    package static let requestHeadersMax = 256
    /// The same, all together; what is long is in the request line.
    package static let requestHeaderBytesMax = 256 << 10
    /// Connections to the API and to sprites' URLs in all; each costs some 50 KB of memory and a descriptor.
    package static let connectionsMax = 16_384
    /// Of one address: a program with a thousand commands at once has a connection for each, and several may run.
    package static let connectionsPerAddressMax = 8192
    /// WebSocket messages from clients; the contract asks for 16 MiB.
    package static let webSocketMessageBytesMax = 16 << 20
    package static let commentBytesMax = 4096
    package static let labelCountMax = 64
    package static let labelBytesMax = 256
    package static let environmentVariableCountMax = 1024
    package static let environmentBytesMax = 256 << 10
    /// Sessions running at once in one sprite.
    package static let sessionsPerSpriteMax = 1024
    /// Kept output per stream of a session, in tmpfs; the contract asks for "the last few hundred KiB".
    package static let scrollbackBytesMax = 4 << 20
    /// Output that waits for the journal, per stream: a command that prints faster than can be recorded goes on, and what
    /// is beyond is dropped and counted.
    package static let journalBacklogBytesMax = 256 << 20
    /// The same over all sessions, shared evenly: it takes memory. One session alone may have all of it: 200 MB come in
    /// a quarter of a second, in which the journal, stepping back, reads little of them.
    package static let journalBacklogBytesInAllMax = 256 << 20
    /// How far a stream's producer may run ahead of the fastest attached client before its pipe fills.
    package static let streamWindowBytesMax = 4 << 20
    /// How far a client may be behind the fastest of its session; what it still needs lies in tmpfs.
    package static let readerLagBytesMax = 16 << 20
    /// Standard input accepted from a client and not yet taken by the command.
    package static let stdinQueueBytesMax = 16 << 20
    /// A message from inside a sprite; anything larger is hostile.
    package static let agentMessageBytesMax = 64 << 10
    /// Processes and threads in one sprite unless set otherwise: a fork bomb stays inside.
    package static let defaultPidsMax = 4096
    package static let pidsMin = 16
    /// Control groups that an init system may make in its sprite: systemd takes one for each unit.
    package static let groupsInSpriteMax = 4096
    package static let groupDepthInSpriteMax = 32
    /// Files that the report of a base's upgrade lists; all are counted.
    package static let shadowedFilesMax = 1000
    /// How long an init system of a base may take to stop its services; what is left then is killed.
    package static let orderlyStopTimeout: Duration = .seconds(20)
    /// How long a restore waits for what journald holds to be read, which takes some 30 ms; its reader gives up a little
    /// before.
    package static let initLogEndTimeout: Duration = .seconds(1)
    /// 100 Gbit/s; the kernel counts bytes in 64 bits.
    package static let bandwidthMbitMax = 100_000
    /// More than the kernel tracks for a whole host.
    package static let outwardConnectionsMax = 1_000_000
    package static let memoryMiBMin = 32
    /// Checkpoints shown inside at /.sprite/checkpoints.
    package static let visibleCheckpointsMax = 5
    /// States that restores replaced, per sprite; older ones are deleted, so that restoring for ever does not fill a pool.
    package static let automaticCheckpointsMax = 10
    /// Without use for this long a sprite is frozen, unless set otherwise; the public service does the same.
    package static let freezeAfterSecondsDefault = 30
    /// Without use for this long a sprite is stopped, unless set otherwise: its memory is free for others.
    package static let stopAfterSecondsDefault = 30 * 60
    /// A week; longer waits are as good as never, which is zero.
    package static let idleSecondsMax = 7 * 24 * 3600
    package static let taskNameBytesMax = 100
    /// Tasks that hold one sprite awake at once; an agent needs one.
    package static let tasksPerSpriteMax = 100
    /// Secrets of one sprite: each adds a header to requests.
    package static let secretsPerSpriteMax = 32
    package static let secretIDBytesMax = 64
    /// Servers take 8 KiB of a header's line and often less.
    package static let secretBytesMax = 7168
    /// A task that nobody refreshes lets go after an hour at most: what forgot to end it must not cost for ever.
    package static let taskSecondsMax = 3600
    package static let taskSecondsDefault = 300
    /// Connections that one sprite has to its own API at once; with the head and body limits at most 35 MB in all.
    package static let insideConnectionsMax = 32
    /// Request heads from inside: no command lines, so what browsers and servers use is plenty.
    package static let insideHeadBytesMax = 64 << 10
    /// A request from inside arrives in whole in this time, and an unused connection is closed after it.
    package static let insideRequestTimeout: Duration = .seconds(10)
    /// Requests a second that one sprite may send to its own API over time, and at once.
    package static let insideRequestsPerSecond = 100.0
    package static let insideRequestsBurst = 300.0
    /// Checkpoints a sprite can have and still make another from inside: a loop in there must not fill the pool.
    package static let insideCheckpointsMax = 1000
    /// The command that goes on after a restore from inside.
    package static let thenCommandBytesMax = 64 << 10
    /// How long a restore from inside waits for the one who asked to read the acknowledgement.
    package static let insideFarewell: Duration = .milliseconds(250)
    /// Requests of one model's client under way at once.
    package static let mcpRequestsMax = 16
    /// What runs after a restore holds its sprite awake for this long at most.
    package static let onRestoreTimeout: Duration = .seconds(3600)
    /// Starting a sandbox, from the OCI runtime's start to the first answer of PID 1.
    package static let startTimeout: Duration = .seconds(30)
    /// Waiting for a cgroup to report frozen before a snapshot; processes in uninterruptible waits delay it.
    package static let freezeTimeout: Duration = .seconds(2)
    /// Waiting until everything of a killed sandbox is gone.
    package static let killTimeout: Duration = .seconds(20)
    /// Between asking the processes of a sprite to end and killing them, when it is put to sleep; one that is asked for
    /// meanwhile waits that long.
    package static let stopGrace: Duration = .seconds(5)
    /// An answer of PID 1 to a request.
    package static let agentReplyTimeout: Duration = .seconds(15)
    /// A file operation without a body: deleting a large tree takes minutes; one that a process inside stopped never ends.
    package static let fileOperationTimeout: Duration = .seconds(600)
    /// What is still read of an upload that has failed, so that its client gets to read the answer.
    package static let discardedBodyBytesMax = 64 << 20
    /// Connecting to a port inside a sprite; the contract gives clients 10 s for it.
    package static let dialTimeout: Duration = .seconds(8)
    /// The head of an answer of a service in a sprite: cookies of large applications take tens of KiB.
    package static let responseHeadBytesMax = 256 << 10
    /// How long half a connection goes on after its other half has ended.
    package static let halfClosedTimeout: Duration = .seconds(5)
    /// Between two looks at which ports a sprite listens on, while somebody watches.
    package static let portPollInterval: Duration = .milliseconds(500)
    /// Listening sockets looked at in one sprite.
    package static let listeningPortsMax = 4096
    /// Pieces of contents that are counted to measure one disk; each takes some 40 bytes of memory.
    package static let diskPiecesMax = 4_000_000
    /// Differences between two states that are told one by one; each takes some 300 bytes of memory.
    package static let diffEntriesMax = 200_000
    /// Names the kernel may mention while it tells two states apart; more than differ, since directories count too.
    package static let diffNamesMax = 1_000_000
    /// One comparison; a thousand changes take some 50 ms, but what lies in a sprite may be made to take long.
    package static let diffTimeout: Duration = .seconds(60)
    /// Comparisons and measurements under way or waiting for their turn, in all sprites together.
    package static let diffsWaitingMax = 32
    /// Contents that are read to tell two files apart; beyond it a file that was written to counts as changed.
    package static let diffReadBytesMax: UInt64 = 1 << 30
    /// A file of which a patch is made, and all of one comparison together.
    package static let patchFileBytesMax = 256 << 10
    package static let patchBytesMax = 16 << 20
    /// Lines between the first and the last difference of a file; beyond it they are replaced as one block.
    package static let patchLinesMax = 1000
    /// Directories within each other; every one of them holds a descriptor while it is worked on.
    package static let treeDepthMax = 1000
    /// Names brought back by one restore of a path.
    package static let restoredEntriesMax = 1_000_000
    /// Checkpoints made by policy that are kept of one sprite, however young.
    package static let policyCheckpointsMax = 100
    /// Checkpoints made by policy go, oldest first, while less of the pool than this is free.
    package static let policyFreeShare = 0.1
    /// Of the pool that nothing new may take, so that what runs can still write and what makes room again works: a
    /// part of it, within these two bounds.
    package static let poolReservePercent: UInt64 = 2
    package static let poolReserveBytesMin: UInt64 = 16 << 20
    package static let poolReserveBytesMax: UInt64 = 2 << 30
    /// Less is used up by the folders of a disk and what starts on it.
    package static let diskMiBMin = 16
    /// What the daemon itself may write to a disk that has reached its limit; the kernel sets 2.5 MiB aside for a file.
    package static let diskHeadroomBytes: UInt64 = 8 << 20
    /// Until deleted checkpoints show as free space: the pool commits every 30 seconds and cleans up after that.
    package static let poolReclaimTime: Duration = .seconds(45)
    /// A try, and each run of a race or bisection, ends after this long unless told otherwise.
    package static let attemptTimeout: Duration = .seconds(3600)
    /// Forks of one race.
    package static let racersMax = 16
    /// Output of one run of a race that is kept, from its end.
    package static let racerOutputBytesMax = 16 << 10
    /// Differences told along with a try or a race; the rest is counted.
    package static let attemptChangesMax = 1000
}
