// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import CLinux
import Glibc
import SpriteSystem

/// The bundle of a sprite that runs, changed only as far as needed to run `true` in it by hand with crun.
struct RawContainer {
    private let bundle: String
    private let state: String
    private let user: Descriptor

    /// - Parameters:
    ///   - sprite: The id of a running sprite; its `config.json` is copied.
    ///   - disk: A writable snapshot of the daemon's empty disk, in which `upper` and `work` lie.
    init(runDirectory: String, sprite: String, base: String, disk: String) throws {
        bundle = "\(runDirectory)/bench-\(getpid())"
        state = "\(bundle)/state"
        for path in [bundle, state, "\(bundle)/base", "\(bundle)/rootfs"] {
            guard mkdir(path, 0o711) == 0 else { throw SystemError(errno, "make \(path)") }
        }
        var namespace: Int32 = -1
        try checked(clinux_make_namespaces(100_000, 65_536, &namespace, nil), "make a user namespace")
        user = Descriptor(owning: namespace)
        let clone = Descriptor(owning: try checked(clinux_idmapped_clone(base, namespace), "idmap \(base)"))
        try checked(clinux_attach_mount(clone.number, "\(bundle)/base"), "attach the base")
        let options = "lowerdir=\(bundle)/base,upperdir=\(disk)/upper,workdir=\(disk)/work,index=off"
        try checked(clinux_mount("overlay", "\(bundle)/rootfs", "overlay", 0, options), "mount an overlay")

        var configuration = try JSONValue.parse(try readFile("\(runDirectory)/bundles/\(sprite)/config.json"))
        configuration["root"]?["path"] = .string("\(bundle)/rootfs")
        configuration["process"]?["args"] = .array([.string("/bin/true")])
        configuration["process"]?["terminal"] = .bool(false)
        configuration["linux"]?["cgroupsPath"] = .string("/sprite-bench-\(getpid())/run")
        let namespaces = configuration["linux"]?["namespaces"]?.elements ?? []
        configuration["linux"]?["namespaces"] = .array(
            namespaces.map { namespace in
                var own = namespace
                own["path"] = nil
                return own
            })
        let mapping = JSONValue.array([
            .object(["containerID": .number(0), "hostID": .number(100_000), "size": .number(65_536)])
        ])
        configuration["linux"]?["uidMappings"] = mapping
        configuration["linux"]?["gidMappings"] = mapping
        try writeFile("\(bundle)/config.json", configuration.text)
    }

    /// `crun run` of `true`, to its end.
    func run() throws {
        try runTool(
            "crun", ["--root", state, "--cgroup-manager=cgroupfs", "run", "--bundle", bundle, "bench-\(getpid())"])
    }

    func remove() {
        for mount in ["\(bundle)/rootfs", "\(bundle)/base"] { _ = clinux_detach_mount(mount) }
        for path in ["\(bundle)/rootfs", "\(bundle)/base"] { rmdir(path) }
        _ = try? runTool("rm", ["-rf", state, "\(bundle)/config.json"])
        rmdir(bundle)
        rmdir("/sys/fs/cgroup/sprite-bench-\(getpid())")
    }
}
