// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// A file operation that failed, with the number of errno(3) and what it was done to.
struct FileFailure: Error {
    var number: Int32
    var path: String
    /// Replaces the usual text of the number.
    var text: String?

    init(_ number: Int32, _ path: String, _ text: String? = nil) {
        self.number = number
        self.path = path
        self.text = text
    }

    /// The line that the daemon reads.
    var json: JSONText {
        .object([("error", .text(text ?? sentence)), ("code", .text(FileFailure.name(number))), ("path", .text(path))])
    }

    /// As strerror(3), but lower case, since clients look for words such as "is a directory".
    private var sentence: String {
        let text = errnoText(number)
        return text.prefix(1).lowercased() + text.dropFirst()
    }

    static func name(_ number: Int32) -> String { names[number] ?? "EIO" }

    private static let names: [Int32: String] = [
        EPERM: "EPERM", ENOENT: "ENOENT", ENXIO: "ENXIO", E2BIG: "E2BIG", EAGAIN: "EAGAIN", ENOMEM: "ENOMEM",
        EACCES: "EACCES", EBUSY: "EBUSY", EEXIST: "EEXIST", EXDEV: "EXDEV", ENODEV: "ENODEV", ENOTDIR: "ENOTDIR",
        EISDIR: "EISDIR", EINVAL: "EINVAL", ENFILE: "ENFILE", EMFILE: "EMFILE", ETXTBSY: "ETXTBSY", EFBIG: "EFBIG",
        ENOSPC: "ENOSPC", EROFS: "EROFS", EMLINK: "EMLINK", ENAMETOOLONG: "ENAMETOOLONG", ENOTEMPTY: "ENOTEMPTY",
        ELOOP: "ELOOP", EDQUOT: "EDQUOT", ENOTSUP: "ENOTSUP", EINTR: "EINTR", EOVERFLOW: "EOVERFLOW",
    ]
}

/// Runs a call that returns -1 and sets errno, again after EINTR; what it was done to goes into the failure.
@discardableResult
func attempt(_ path: @autoclosure () -> String, _ call: () -> Int32) throws -> Int32 {
    while true {
        let result = call()
        if result >= 0 { return result }
        let number = errno
        if number != EINTR { throw FileFailure(number, path()) }
    }
}
