//! Time as a recorded value: milliseconds since the Unix epoch, UTC, without leap seconds.
//! Where time comes from is the shell's business (the `Clock` port); here it is only a number.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z. Never negative in a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

const DAY_MS: i64 = 86_400_000;

impl Timestamp {
    /// The latest instant accepted: 9999-12-31T23:59:59.999Z, well inside 2^53.
    pub const MAX: Self = Self(253_402_300_799_999);

    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }
    /// Whole seconds, rounded down: the unit of JWT times.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }
    #[must_use]
    pub const fn plus_secs(self, secs: i64) -> Self {
        Self(self.0.saturating_add(secs.saturating_mul(1000)))
    }
    /// Milliseconds from `earlier` to `self`; negative when `self` is before it.
    #[must_use]
    pub const fn millis_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
    /// Minutes since local midnight at a fixed offset from UTC, `0..1440`.
    #[must_use]
    pub const fn minute_of_day(self, offset_minutes: i32) -> i64 {
        (self.0 + offset_minutes as i64 * 60_000).rem_euclid(DAY_MS) / 60_000
    }
    /// ISO weekday at a fixed offset from UTC, Monday = 1 … Sunday = 7.
    #[must_use]
    pub const fn weekday(self, offset_minutes: i32) -> i64 {
        // 1970-01-01 was a Thursday.
        ((self.0 + offset_minutes as i64 * 60_000).div_euclid(DAY_MS) + 3).rem_euclid(7) + 1
    }
    /// Year, month, day in UTC (proleptic Gregorian).
    #[must_use]
    pub const fn date(self) -> (i64, i64, i64) {
        // Days to civil, after Howard Hinnant's "chrono-compatible low-level date algorithms".
        let z = self.0.div_euclid(DAY_MS) + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = doy - (153 * mp + 2) / 5 + 1;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = yoe + era * 400 + if month <= 2 { 1 } else { 0 };
        (year, month, day)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339, UTC, milliseconds: `2026-11-24T12:00:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date();
        let ms = self.0.rem_euclid(DAY_MS);
        let (h, m, s, frac) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
        if !(0..=9999).contains(&year) {
            return write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{frac:03}Z");
        }
        // Every answer has some: not number by number through a formatter.
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let numbers = [year, month, day, h, m, s, frac];
        for (digits, mut rest) in text.split_mut(|b| !b.is_ascii_digit()).zip(numbers) {
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
                rest /= 10;
            }
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants_are_written_as_rfc_3339() {
        assert_eq!(Timestamp::from_millis(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(951_782_400_000).to_string(), "2000-02-29T00:00:00.000Z");
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Timestamp::from_millis(1_795_654_348_299).to_string(), "2026-11-26T00:52:28.299Z");
        assert_eq!(Timestamp::from_millis(-62_198_755_200_000).to_string(), "-001-01-01T00:00:00.000Z");
    }

    #[test]
    fn weekday_and_minute_follow_the_offset() {
        let thursday_23_30 = Timestamp::from_millis(23 * 3_600_000 + 30 * 60_000);
        assert_eq!((thursday_23_30.weekday(0), thursday_23_30.minute_of_day(0)), (4, 23 * 60 + 30));
        assert_eq!((thursday_23_30.weekday(60), thursday_23_30.minute_of_day(60)), (5, 30));
    }
}
