// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

/// What an OCI runtime reads as `config.json`; only the parts we use.
///
/// The format is that of the OCI runtime specification 1.0.2, config.md and config-linux.md.
struct RuntimeConfiguration: Codable {
    var ociVersion = "1.0.2"
    var process: Process
    var root: Root
    var hostname: String
    var mounts: [Mount]
    var linux: Linux

    struct Process: Codable {
        var terminal = false
        var user = User()
        var args: [String]
        var env: [String]
        var cwd = "/"
        var capabilities: [String: [String]]
        var rlimits: [ResourceLimit]
        var noNewPrivileges = false
        var oomScoreAdj: Int
    }

    struct User: Codable {
        var uid = 0
        var gid = 0
    }

    struct ResourceLimit: Codable {
        var type: String
        var soft: UInt64
        var hard: UInt64
    }

    struct Root: Codable {
        var path: String
        var readonly = false
    }

    struct Mount: Codable {
        var destination: String
        var type: String
        var source: String
        var options: [String]
    }

    struct Linux: Codable {
        var namespaces: [Namespace]
        var uidMappings: [Mapping]
        var gidMappings: [Mapping]
        var cgroupsPath: String
        var seccomp: SeccompProfile
        var maskedPaths: [String]
        var readonlyPaths: [String]
    }

    struct Namespace: Codable {
        var type: String
        /// One to join; nil to make a new one.
        var path: String?
    }

    struct Mapping: Codable {
        var containerID: UInt32
        var hostID: UInt32
        var size: UInt32
    }
}
