// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// Names and numbers of the signals of Linux.
    public enum SignalName {
        private static let names = [
            "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
            "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
            "WINCH", "IO", "PWR", "SYS",
        ]

        /// The number for a name such as `TERM`, `SIGTERM` or `15`; nil if there is no such signal.
        public static func number(_ text: String) -> Int32? {
            var name = text.uppercased()
            if name.hasPrefix("SIG") { name.removeFirst(3) }
            if let index = names.firstIndex(of: name) { return Int32(index + 1) }
            guard let number = Int32(name), (1...64).contains(number) else { return nil }
            return number
        }

        /// The name for a number, such as `SIGTERM`; the number itself where there is none.
        public static func name(_ number: Int32) -> String {
            guard number >= 1, number <= Int32(names.count) else { return "\(number)" }
            return "SIG" + names[Int(number) - 1]
        }
    }
}
