// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

#if DEBUG
import Glibc
import Synchronization
#endif

/// Moments at which a debug build can be made to die, so that tests can show what a crash at each of them leaves.
///
/// `SPRITED_FAULT_POINT=restore.exchanged` kills the process the first time that moment comes, `restore.exchanged:3`
/// the third time. A release build knows none of it.
package enum FaultPoint: String, CaseIterable, Sendable {
    case createBegun = "create.begun"
    case createFolderMade = "create.folder-made"
    case createInitialKept = "create.initial-kept"
    case createPoliciesKept = "create.policies-kept"
    case createDiskMade = "create.disk-made"
    case createIdentityRenewed = "create.identity-renewed"
    case createBooted = "create.booted"
    case createCompleted = "create.completed"

    case bootRootMounted = "boot.root-mounted"
    case bootNetworkAcquired = "boot.network-acquired"
    case bootStarted = "boot.started"
    case bootConnected = "boot.connected"

    case checkpointBegun = "checkpoint.begun"
    case checkpointFlushed = "checkpoint.flushed"
    case checkpointFrozen = "checkpoint.frozen"
    case checkpointTaken = "checkpoint.taken"
    case checkpointThawed = "checkpoint.thawed"
    case checkpointCompleted = "checkpoint.completed"

    case checkpointDeletionBegun = "checkpoint-deletion.begun"
    case checkpointDeletionDone = "checkpoint-deletion.done"
    case checkpointDeletionCompleted = "checkpoint-deletion.completed"

    case restoreBegun = "restore.begun"
    case restoreStopped = "restore.stopped"
    case restoreCopied = "restore.copied"
    case restoreExchanged = "restore.exchanged"
    case restoreReplacedMoved = "restore.replaced-moved"
    case restoreReplacedKept = "restore.replaced-kept"
    case restoreCompleted = "restore.completed"
    case restoreRunning = "restore.running"

    case destroyBegun = "destroy.begun"
    case destroyStopped = "destroy.stopped"
    case destroyMovedToTrash = "destroy.moved-to-trash"
    case destroyDiskDeleted = "destroy.disk-deleted"
    case destroyCompleted = "destroy.completed"
    case trashHalfEmptied = "trash.half-emptied"

    case serviceKept = "service.kept"
    case serviceStarted = "service.started"
    case serviceTerminated = "service.terminated"

    case layerIndexed = "layer.indexed"
    case layerLaunched = "layer.launched"
    case layerRecorded = "layer.recorded"
    case layerServed = "layer.served"
    case layerMounted = "layer.mounted"

    case baseFilled = "base.filled"
    case baseDescribed = "base.described"
    case baseInstalled = "base.installed"

    /// Dies here if it was asked to; otherwise nothing happens.
    @inline(__always)
    package func reached() {
        #if DEBUG
        guard let armed = Self.armed, armed.point == self else { return }
        guard
            armed.left.withLock({ left in
                left -= 1; return left == 0
            })
        else { return }
        kill(getpid(), SIGKILL)
        // The signal is under way; no other thread may go on with what follows from here.
        while true { pause() }
        #endif
    }

    #if DEBUG
    private final class Armed: Sendable {
        let point: FaultPoint
        let left: Mutex<Int>

        init(_ point: FaultPoint, times: Int) {
            self.point = point
            left = Mutex(times)
        }
    }

    private static let armed: Armed? = {
        guard let text = getenv("SPRITED_FAULT_POINT").map({ String(cString: $0) }), !text.isEmpty else {
            return nil
        }
        let words = text.split(separator: ":", maxSplits: 1)
        guard let point = FaultPoint(rawValue: String(words[0])), let times = Int(words.count > 1 ? words[1] : "1"),
            times > 0
        else {
            // A test that dies nowhere would show nothing.
            fatalError("SPRITED_FAULT_POINT=\(text): no such point; there are \(allCases.map(\.rawValue))")
        }
        return Armed(point, times: times)
    }()
    #endif
}
