// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import SpriteDomain

/// Turns what mmdebstrap, apt and dpkg print into progress; used on one thread.
final class BuildLines {
    private let progress: BaseProgressHandler
    private var expected = 0
    private var downloaded = 0
    private var unpacked = 0
    private var configured = 0
    /// The first complaint says why; the ones after it only that something failed.
    private var complaint: String?

    init(_ progress: @escaping BaseProgressHandler) { self.progress = progress }

    func take(_ line: String) {
        let words = line.words
        if complaint == nil, line.hasPrefix("E: ") || line.hasPrefix("dpkg: error") { complaint = line }
        // `0 upgraded, 144 newly installed, 0 to remove and 0 not upgraded.`; once for each of two rounds.
        if let index = words.firstIndex(of: "newly"), index > 0, let count = Int(words[index - 1]) {
            expected += count
        } else if line.hasPrefix("I: running apt-get update") {
            report("reading the package lists", 0.02)
        } else if line.hasPrefix("Get:"), line.contains("["), expected > 0 {
            downloaded += 1
            report("downloading packages (\(downloaded))", 0.05 + 0.25 * share(downloaded))
        } else if line.hasPrefix("I: extracting archives") {
            report("unpacking the essential packages", 0.3)
        } else if line.hasPrefix("Unpacking "), words.count > 1 {
            unpacked += 1
            report("unpacking \(words[1]) (\(unpacked) of \(max(expected, unpacked)))", 0.35 + 0.25 * share(unpacked))
        } else if line.hasPrefix("Setting up "), words.count > 2 {
            configured += 1
            report(
                "setting up \(words[2]) (\(configured) of \(max(expected, configured)))", 0.6 + 0.35 * share(configured)
            )
        } else if line.hasPrefix("I: cleaning") {
            report("cleaning up", 0.96)
        }
    }

    func explain(suite: String) -> String {
        let reason = complaint.map { "; it says '\($0.prefix(300))'" } ?? ""
        return "cannot build base: mmdebstrap could not make a root filesystem of suite '\(suite)'\(reason)"
    }

    private func share(_ count: Int) -> Double {
        expected > 0 ? min(1, Double(count) / Double(expected)) : 0.5
    }

    private func report(_ step: String, _ fraction: Double) {
        progress(BaseProgress(step, fraction: fraction))
    }
}
