// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import NIOHTTP1

/// A file operation that failed, under the name of its error in POSIX; clients know them by it.
struct FileProblem: Error {
    struct Body: Encodable {
        var error: String
        var code: String
        var path: String
    }

    var code: String
    var text: String
    var path: String

    var body: Body { Body(error: text, code: code, path: path) }

    var status: HTTPResponseStatus {
        switch code {
        case "ENOENT": .notFound
        case "EACCES", "EPERM", "EROFS": .forbidden
        case "EEXIST", "ENOTEMPTY", "EBUSY", "ETXTBSY": .conflict
        case "EISDIR", "ENOTDIR", "EINVAL", "ENAMETOOLONG", "ELOOP", "ENOTSUP": .badRequest
        case "ENOSPC", "EDQUOT": .insufficientStorage
        default: .internalServerError
        }
    }
}

/// What `sprite-env fs` says in its first line, as far as it matters here; it comes from inside, so nothing is certain.
struct FileHeader: Decodable {
    var error: String?
    var code: String?
    var path: String?
    var size: Int64?
    var offset: Int64?
    var length: Int64?
    var partial: Bool?
    var unsatisfiable: Bool?

    var problem: FileProblem? {
        guard let error, let code else { return nil }
        let isName =
            code.utf8.count <= 16
            && code.utf8.allSatisfy { (0x41...0x5A).contains($0) || (0x30...0x39).contains($0) }
        return FileProblem(
            code: isName ? code : "EIO", text: String(error.prefix(1024)), path: String((path ?? "").prefix(8192)))
    }
}
