// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

import Glibc
import SpriteSystem

/// A user commands can run as.
struct Account: Equatable {
    var name: String
    var user: UInt32
    var group: UInt32
    var supplementaryGroups: [UInt32] = []
    var home: String
    var shell: String

    var credentials: Credentials {
        Credentials(user: user, group: group, supplementaryGroups: supplementaryGroups)
    }
}

/// The users of the sprite, read from its files without the C library, whose look-ups need shared libraries.
struct Accounts {
    /// Files with more than this are cut: whoever wrote them only harms themselves.
    private static let bytesMax = 1 << 20
    /// Linux takes more, no distribution uses more.
    private static let groupsMax = 256

    private var passwd: [UInt8]
    private var group: [UInt8]

    init() {
        passwd = readRegularFile("/etc/passwd", bytesMax: Accounts.bytesMax) ?? []
        group = readRegularFile("/etc/group", bytesMax: Accounts.bytesMax) ?? []
    }

    init(passwd: String, group: String) {
        self.passwd = Array(passwd.utf8)
        self.group = Array(group.utf8)
    }

    /// The user of this name or number; nil if there is none.
    ///
    /// The two users every sprite has are there even if its files are not: somebody must be able to repair them. A
    /// number nobody has a name for is taken as it is.
    func find(_ wanted: String) -> Account? {
        let number = UInt32(wanted)
        var found = entry { $0[0] == wanted } ?? number.flatMap { number in entry { UInt32($0[2]) == number } }
        if found == nil {
            if wanted == "root" || number == 0 {
                found = Account(name: "root", user: 0, group: 0, home: "/root", shell: "/bin/sh")
            } else if wanted == "sprite" || number == 1000 {
                found = Account(name: "sprite", user: 1000, group: 1000, home: "/home/sprite", shell: "/bin/sh")
            } else if let number, number != .max {
                found = Account(name: wanted, user: number, group: number, home: "/", shell: "/bin/sh")
            }
        }
        guard var account = found else { return nil }
        account.supplementaryGroups = groups(of: account)
        return account
    }

    private func entry(where matches: ([Substring]) -> Bool) -> Account? {
        for line in lines(passwd) {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            guard fields.count >= 7, matches(fields), let user = UInt32(fields[2]), let group = UInt32(fields[3])
            else { continue }
            return Account(
                name: String(fields[0]), user: user, group: group, home: fields[5].isEmpty ? "/" : String(fields[5]),
                shell: fields[6].isEmpty ? "/bin/sh" : String(fields[6]))
        }
        return nil
    }

    private func groups(of account: Account) -> [UInt32] {
        var numbers = [account.group]
        for line in lines(group) where line.contains(account.name) {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            guard fields.count >= 4, let number = UInt32(fields[2]), numbers.count < Accounts.groupsMax,
                !numbers.contains(number), fields[3].split(separator: ",").contains(Substring(account.name))
            else { continue }
            numbers.append(number)
        }
        return numbers
    }

    private func lines(_ bytes: [UInt8]) -> [Substring] {
        String(decoding: bytes, as: UTF8.self).split(separator: "\n")
    }
}
