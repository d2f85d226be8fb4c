//! Text from outside, in a line that stays one line and does nothing to a terminal.

use std::fmt::Write as _;

/// Longest value that is said; what an agent writes can be longer than what anybody reads.
const MAX: usize = 4 << 10;

/// Whether a character acts on what shows it, or is not seen there: controls (C1 too, which some
/// terminals obey), directions, zero widths, line ends, and what stands outside any script.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The characters of `text` as they may be shown: what acts, as `\u{…}` or the escape of JSON.
pub fn escape(text: &str, json: bool, out: &mut String) {
    let mut end = MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (said, cut) = text.split_at(end);
    for c in said.chars() {
        match c {
            '"' | '\\' if json => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if acts(c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    if !cut.is_empty() {
        out.push('…');
    }
}

/// A JSON string.
pub fn quoted(text: &str, out: &mut String) {
    out.push('"');
    escape(text, true, out);
    out.push('"');
}

/// A value in a line of text: as it is where that cannot be taken for something else.
pub fn value(text: &str, out: &mut String) {
    let plain = |c: char| !(c.is_whitespace() || matches!(c, '"' | '\\' | '=') || acts(c));
    if !text.is_empty() && text.chars().all(plain) { escape(text, false, out) } else { quoted(text, out) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_on_a_terminal_is_left_and_json_reads_it_back() {
        let nasty = "a\u{1b}[31m\u{9b}2J\r\n\u{7}\u{202e}\u{200b}\u{2028}\u{e0041}\0\"\\ é 🦀";
        let mut out = String::new();
        quoted(nasty, &mut out);
        assert!(out.chars().all(|c| !acts(c)), "{out:?}");
        assert_eq!(serde_json::from_str::<String>(&out).unwrap(), nasty);
        let mut plain = String::new();
        value(nasty, &mut plain);
        assert_eq!(plain, out, "what needs it is quoted");
        for (text, shown) in [("x-1/é", "x-1/é"), ("", "\"\""), ("a b", "\"a b\""), ("a=b", "\"a=b\"")] {
            let mut out = String::new();
            value(text, &mut out);
            assert_eq!(out, shown);
        }
    }

    #[test]
    fn what_is_very_long_is_cut_between_characters() {
        let mut out = String::new();
        escape(&"é".repeat(MAX), false, &mut out);
        assert!(out.len() <= MAX + 3 && out.ends_with('…'), "{}", out.len());
    }
}
