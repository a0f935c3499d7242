// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import ArgumentParser

struct CheckpointGroup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "checkpoint", abstract: "Kept states of a sprite's disk.",
        subcommands: [
            CheckpointCreate.self, CheckpointList.self, CheckpointInfo.self, CheckpointDelete.self, CheckpointPin.self,
            CheckpointUnpin.self, CheckpointPolicy.self, Diff.self, Restore.self,
        ],
        aliases: ["checkpoints"])
}
