// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Sprites

extension Bench {
    /// A checkpoint of an idle sprite beside the snapshot ioctl on the same disk.
    func checkpoint() async throws {
        try await withSprite { sprite in
            let (samples, raw) = try await self.checkpointSamples(sprite)
            self.report.add(
                Row(
                    "checkpoint of an idle sprite", samples, raw: ("snapshot ioctl", raw),
                    bars: [.atMost(10), .atMost(2 * raw.median + 3, "2 × raw + 3")]))
        }
    }

    /// Alternates, so that whatever else the disk does meets both alike.
    func checkpointSamples(_ sprite: Sprite) async throws -> (api: Samples, raw: Samples) {
        let disk = raw.liveDisk(try await diskID(sprite))
        var snapshots = Samples()
        let samples = try await measure { run in
            let took = try await timed { try self.raw.snapshot(disk, as: "snapshot\(run)") }
            if run >= 0 { snapshots.add(took) }
            return try await timed { _ = try await sprite.createCheckpoint() }
        }
        for run in -3..<settings.runs { try raw.delete("snapshot\(run)") }
        return (samples, snapshots)
    }

    /// A checkpoint right after 200 MB were written, beside syncfs of the same bytes and a snapshot.
    func checkpointAfterWriting() async throws {
        let megabytes = 200
        try await withSprite { sprite in
            // Random bytes: the file system could compress or share others. In the sprite they come from its tmpfs.
            try await self.shell(sprite, "head -c \(megabytes)000000 /dev/urandom > /tmp/source")
            var generator = SystemRandomNumberGenerator()
            var bytes = [UInt8]()
            bytes.reserveCapacity(megabytes * 1_000_000 + 8)
            while bytes.count < megabytes * 1_000_000 {
                withUnsafeBytes(of: generator.next()) { bytes.append(contentsOf: $0) }
            }
            try self.raw.createSubvolume("written")
            var both = Samples()
            var dirty = (raw: Samples(), sprite: Samples())
            let samples = try await self.measure { run in
                // Each time a new file: btrfs writes a file that was cut to nothing and filled again out when it is
                // closed, and then nothing would be left to write when the clock starts.
                try self.raw.remove("written/file")
                try await self.shell(sprite, "rm -f file")
                try self.raw.synchronize()
                try self.raw.write(bytes, to: "written/file")
                dirty.raw.add(milliseconds: Memory.dirtyMB())
                let took = try await timed {
                    try self.raw.synchronize()
                    try self.raw.snapshot("\(self.raw.directory)/written", as: "written\(run)")
                }
                if run >= 0 { both.add(took) }
                try self.raw.delete("written\(run)")
                try await self.shell(sprite, "cat /tmp/source > file")
                dirty.sprite.add(milliseconds: Memory.dirtyMB())
                var made = ""
                let own = try await timed { made = try await sprite.createCheckpoint().id }
                try await self.forget(made, of: sprite)
                return own
            }
            try self.raw.delete("written")
            var row = Row(
                "checkpoint after \(megabytes) MB were written", samples, raw: ("syncfs + snapshot", both),
                bars: [.atMost(1.2 * both.median, "1.2 × raw")])
            row.note =
                "dirty when the clock started: raw \(Int(dirty.raw.median)) MB, sprite \(Int(dirty.sprite.median)) MB"
            // Less, and the row would say nothing about data that has to be written.
            row.isMeasured = min(dirty.raw.median, dirty.sprite.median) >= 0.8 * Double(megabytes)
            self.report.add(row)
        }
    }

    /// Deletes the checkpoint before `id`, so that the disk does not fill; the newest cannot go.
    private func forget(_ id: String, of sprite: Sprite) async throws {
        guard let number = Int(id.dropFirst()), number > 1 else { return }
        try await sprite.deleteCheckpoint("v\(number - 1)")
    }
}
