// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

extension API {
    /// RFC 3339 times in UTC with at most six digits of fraction: some clients cannot read more.
    public enum TimeText {
        /// The text for nanoseconds since 1970, such as `2026-02-03T04:05:06.123456Z`; cut to microseconds.
        public static func text(nanoseconds: Int64) -> String {
            let seconds = floorDivide(nanoseconds, 1_000_000_000)
            let microseconds = (nanoseconds - seconds * 1_000_000_000) / 1000
            let days = floorDivide(seconds, 86_400)
            let second = seconds - days * 86_400
            let date = civil(days)
            var text =
                padded(date.year, 4) + "-" + padded(date.month, 2) + "-" + padded(date.day, 2) + "T"
                + padded(second / 3600, 2) + ":" + padded(second / 60 % 60, 2) + ":" + padded(second % 60, 2)
            if microseconds != 0 { text += "." + padded(microseconds, 6) }
            return text + "Z"
        }

        /// Nanoseconds since 1970 for a text; nil if it is no RFC 3339 time between the years 1700 and 2200.
        public static func nanoseconds(_ text: String) -> Int64? {
            let bytes = Array(text.utf8)
            func number(_ range: Range<Int>) -> Int64? {
                guard range.upperBound <= bytes.count else { return nil }
                return bytes[range].reduce(Int64(0)) { value, byte -> Int64? in
                    guard let value, byte >= 0x30, byte <= 0x39 else { return nil }
                    return value * 10 + Int64(byte - 0x30)
                }
            }
            guard bytes.count >= 20, bytes[4] == 0x2D, bytes[7] == 0x2D, bytes[13] == 0x3A, bytes[16] == 0x3A,
                [0x54, 0x74, 0x20].contains(bytes[10]),
                let year = number(0..<4), let month = number(5..<7), let day = number(8..<10),
                let hour = number(11..<13), let minute = number(14..<16), let second = number(17..<19),
                (1700...2200).contains(year), (1...12).contains(month), (1...31).contains(day), hour < 24, minute < 60,
                second <= 60
            else { return nil }
            var index = 19
            var fraction: Int64 = 0
            if bytes[index] == 0x2E {
                index += 1
                var scale: Int64 = 100_000_000
                while index < bytes.count, bytes[index] >= 0x30, bytes[index] <= 0x39 {
                    fraction += Int64(bytes[index] - 0x30) * scale
                    scale /= 10
                    index += 1
                }
            }
            guard index < bytes.count else { return nil }
            var offset: Int64 = 0
            switch bytes[index] {
            case 0x5A, 0x7A:
                guard index + 1 == bytes.count else { return nil }
            case 0x2B, 0x2D:
                guard index + 6 == bytes.count, bytes[index + 3] == 0x3A, let hours = number(index + 1..<index + 3),
                    let minutes = number(index + 4..<index + 6)
                else { return nil }
                offset = (hours * 3600 + minutes * 60) * (bytes[index] == 0x2D ? -1 : 1)
            default:
                return nil
            }
            let seconds = daysFromCivil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset
            return seconds * 1_000_000_000 + fraction
        }

        private static func padded(_ number: Int64, _ width: Int) -> String {
            let digits = String(number)
            return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
        }

        private static func floorDivide(_ a: Int64, _ b: Int64) -> Int64 {
            a >= 0 ? a / b : -((b - 1 - a) / b)
        }

        /// The proleptic Gregorian date of a day counted from 1970-01-01, with eras of 400 years from March on.
        private static func civil(_ days: Int64) -> (year: Int64, month: Int64, day: Int64) {
            let shifted = days + 719_468
            let era = floorDivide(shifted, 146_097)
            let dayOfEra = shifted - era * 146_097
            let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
            let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
            let shiftedMonth = (5 * dayOfYear + 2) / 153
            let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
            return (
                yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
            )
        }

        private static func daysFromCivil(_ year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
            let shiftedYear = month <= 2 ? year - 1 : year
            let era = floorDivide(shiftedYear, 400)
            let yearOfEra = shiftedYear - era * 400
            let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
            return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
        }
    }
}
