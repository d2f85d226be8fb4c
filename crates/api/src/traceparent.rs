//! The `traceparent` header of W3C Trace Context, in and out.

use std::fmt;

use http::HeaderMap;

pub const HEADER: &str = "traceparent";

/// Which trace a request belongs to, and which span of it asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub sampled: bool,
}

/// Put on a request by who traces this server: the span that the request is. Without it a caller's
/// `traceparent` goes into the log and back in the answer, and that is all.
#[derive(Debug, Clone, Copy)]
pub struct Traced(pub TraceParent);

impl TraceParent {
    /// What the caller says. What is not well-formed, or said twice, was not said.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut given = headers.get_all(HEADER).iter();
        let one = given.next()?;
        if given.next().is_some() { None } else { Self::parse(one.as_bytes()) }
    }

    /// Version 00 as it is; of a later one the part that it has in common with it.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (head, rest) = text.split_first_chunk::<55>()?;
        let [version, trace_id, span_id, flags] =
            [(0, 2), (3, 32), (36, 16), (53, 2)].map(|(at, n)| head.get(at..at + n));
        let version: [u8; 1] = hex(version?)?;
        let between = [2, 35, 52].iter().all(|at| head.get(*at) == Some(&b'-'));
        let ends = rest.is_empty() || (version != [0] && rest.first() == Some(&b'-'));
        let (trace_id, span_id, flags): ([u8; 16], [u8; 8], [u8; 1]) = (hex(trace_id?)?, hex(span_id?)?, hex(flags?)?);
        if version == [0xff] || !between || !ends || trace_id == [0; 16] || span_id == [0; 8] {
            return None;
        }
        Some(Self { trace_id, span_id, sampled: flags[0] & 1 == 1 })
    }

    /// The trace's id as it is written everywhere: 32 hex digits.
    #[must_use]
    pub fn trace(&self) -> String {
        self.trace_id.iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// Lower-case digits only, as the specification has it.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    if pairs.len() != N {
        return None;
    }
    for (to, [high, low]) in out.iter_mut().zip(pairs) {
        *to = digit(*high)? << 4 | digit(*low)?;
    }
    Some(out)
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-", self.trace())?;
        self.span_id.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        write!(f, "-{:02x}", u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_well_formed_is_read_and_written_as_it_was() {
        let read = TraceParent::parse(GOOD.as_bytes()).unwrap();
        assert!(read.sampled);
        assert_eq!(read.to_string(), GOOD);
        assert_eq!(read.trace(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(!TraceParent::parse(GOOD.replace("-01", "-02").as_bytes()).unwrap().sampled);
        let later = GOOD.replacen("00", "cc", 1);
        assert_eq!(TraceParent::parse(format!("{later}-what-comes").as_bytes()), Some(read));
    }

    #[test]
    fn what_is_not_well_formed_was_not_said() {
        let zeros = [
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ];
        let bad = [
            String::new(),
            GOOD.to_uppercase(),
            GOOD.replacen("00", "ff", 1),
            format!("{GOOD}-more"),
            format!("{GOOD} "),
            GOOD.replace("-01", "-1"),
            GOOD.replace("-01", "-0g"),
            GOOD.replace("4736-", "4736_"),
            GOOD.replacen("00", "cc", 1) + ".x",
        ];
        for text in zeros.iter().map(|z| (*z).to_owned()).chain(bad) {
            assert_eq!(TraceParent::parse(text.as_bytes()), None, "{text}");
        }
        let mut twice = HeaderMap::new();
        twice.append(HEADER, GOOD.parse().unwrap());
        assert!(TraceParent::of(&twice).is_some());
        twice.append(HEADER, GOOD.parse().unwrap());
        assert_eq!(TraceParent::of(&twice), None, "said twice");
    }
}
