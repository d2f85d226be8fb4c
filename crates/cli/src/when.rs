//! Times on the command line.

use intended_model::Timestamp;

use crate::error::CliError;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// RFC 3339 (also a day alone), milliseconds since 1970, or an age such as `15m`.
pub fn parse(flag: &str, text: &str, now: Timestamp) -> Result<Timestamp, CliError> {
    let millis = text.parse().ok().filter(|n| *n >= 0).or_else(|| age(text).map(|a| now.as_millis() - a));
    let millis = millis.or_else(|| rfc3339(text)).filter(|m| *m <= Timestamp::MAX.as_millis());
    millis.map(Timestamp::from_millis).ok_or_else(|| {
        CliError::usage(
            format!("{flag}: `{text}` is not a time"),
            "write it like 2026-03-01T12:00:00Z, 2026-03-01, or as an age: 15m, 2h, 7d",
        )
    })
}

/// A length of time such as `24h`, in seconds.
pub fn seconds(flag: &str, text: &str) -> Result<i64, CliError> {
    age(text).map(|millis| millis / 1000).filter(|secs| *secs > 0).ok_or_else(|| {
        CliError::usage(format!("{flag}: `{text}` is not a length of time"), "write it like 30m, 24h, 7d")
    })
}

/// A length of time for people: the largest unit that fits.
pub fn span(secs: i64) -> String {
    match secs {
        s if s > 0 && s % 86_400 == 0 && s > 86_400 => format!("{} days", s / 86_400),
        s if s > 0 && s % 3_600 == 0 => format!("{} h", s / 3_600),
        s if s > 0 && s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

/// A clock that only measures.
#[expect(clippy::disallowed_methods, reason = "the command's own clock")]
pub fn started() -> std::time::Instant {
    std::time::Instant::now()
}

fn age(text: &str) -> Option<i64> {
    let unit = text.chars().next_back()?;
    let length = match unit {
        's' => 1000,
        'm' => MINUTE,
        'h' => 60 * MINUTE,
        'd' => DAY,
        _ => return None,
    };
    text.strip_suffix(unit)?.parse::<u32>().ok().and_then(|n| i64::from(n).checked_mul(length))
}

/// `2026-03-01`, `2026-03-01T12:00:00Z`, `2026-03-01T12:00:00.5+01:00`.
fn rfc3339(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' ']).unwrap_or((text, "00:00:00Z"));
    let number = |t: &str, digits: usize| {
        (t.len() == digits && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse::<i64>().ok()).flatten()
    };
    let mut parts = date.splitn(3, '-');
    let (y, m, d) = (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    let days = match m {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    let at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at_checked(at)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = clock.splitn(3, ':');
    let (hour, minute, second) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    if !(1..=days).contains(&d) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let millis: i64 = fraction.bytes().chain(*b"000").take(3).fold(0, |n, b| n * 10 + i64::from(b - b'0'));
    let offset = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => 0,
        (sign, rest) => {
            let (h, m) = rest.split_once(':')?;
            let (h, m) = (number(h, 2).filter(|h| *h < 24)?, number(m, 2).filter(|m| *m < 60)?);
            (h * 60 + m) * if sign == "-" { -1 } else { 1 }
        }
    };
    // Civil to days, after Howard Hinnant.
    let (y, m) = if m <= 2 { (y - 1, m + 9) } else { (y, m - 3) };
    let of_era = y.rem_euclid(400) * 365 + y.rem_euclid(400) / 4 - y.rem_euclid(400) / 100 + (153 * m + 2) / 5 + d - 1;
    let days = y.div_euclid(400) * 146_097 + of_era - 719_468;
    Some(days * DAY + (hour * 60 + minute - offset) * MINUTE + second * 1000 + millis)
}

/// How long ago, for people.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    let secs = now.millis_since(then).max(0) / 1000;
    match secs {
        0..120 => format!("{secs} s ago"),
        120..7_200 => format!("{} min ago", secs / 60),
        7_200..172_800 => format!("{} h ago", secs / 3_600),
        _ => format!("{} days ago", secs / 86_400),
    }
}

/// The clock of this machine.
#[expect(clippy::disallowed_methods, reason = "the command's own clock")]
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A time as a ledger writes it.
pub fn recorded(text: &str) -> Option<Timestamp> {
    rfc3339(text).map(Timestamp::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let read = |text: &str| parse("--since", text, now).ok().map(Timestamp::as_millis);
        assert_eq!(read("0"), Some(0));
        assert_eq!(read("15m"), Some(1_800_000_000_000 - 900_000));
        assert_eq!(read("7d"), Some(1_800_000_000_000 - 604_800_000));
        assert_eq!(read("1970-01-02"), Some(DAY));
        assert_eq!(read("2024-02-29T23:59:59.1234Z"), Some(1_709_251_199_123));
        assert_eq!(read("2024-03-01T01:29:59+01:30"), Some(1_709_251_199_000));
        // What a ledger writes comes back.
        for millis in [0, 951_868_799_999, 1_709_164_800_000, 4_107_542_399_001] {
            assert_eq!(read(&Timestamp::from_millis(millis).to_string()), Some(millis));
        }
        let bad = ["", "m", "-5m", "yesterday", "2024-02-30", "2023-02-29", "2024-13-01", "2024-01-01T00:00:00"];
        for text in bad.into_iter().chain(["2024-01-01T24:00:00Z", "2024-01-01T00:00Z", "1-1-1", "-5"]) {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
