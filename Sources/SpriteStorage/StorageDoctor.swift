// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
package import SpriteDomain
import SpriteSystem

/// What is to be said of the pool of a data directory. Changes nothing, and needs no daemon.
package enum StorageDoctor {
    /// Empty if there is no image in use: the pool lies on btrfs itself, or there is none yet.
    package static func checks(dataDirectory: String) -> [HostCheck] {
        guard let file = try? Descriptor.open("\(dataDirectory)/pool.img", O_RDONLY | O_NOFOLLOW),
            let (_, number) = try? PoolImage.existingDevice(file)
        else { return [] }
        let name = "pool device"
        let setting = LoopFlushes.setting(of: number)
        let found = "/dev/loop\(number), write cache: \(setting ?? "unknown")"
        guard !LoopFlushes.arePassedOn(setting) else { return [HostCheck(name, .ok, found: found)] }
        return [
            HostCheck(
                name, .warning, found: found, lost: "a power cut may take checkpoints that were acknowledged",
                fix: "echo 'write back' > /sys/block/loop\(number)/queue/write_cache, or restart sprited, which does so"
            )
        ]
    }
}
