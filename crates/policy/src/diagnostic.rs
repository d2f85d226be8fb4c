//! What is wrong with a pack, with its place: what a person reads, an editor underlines and a
//! program filters by code.

use std::ops::Range;

use serde::Serialize;

/// Whether it keeps a pack from being deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

impl Severity {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Longest line that is quoted, in bytes: ten thousand findings in one long line are not to hold
/// that line ten thousand times.
pub const MAX_QUOTED: usize = 1_000;

/// One error or warning. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub severity: Severity,
    /// Says the kind; never changes its meaning.
    pub code: &'static str,
    pub file: String,
    pub line: usize,
    pub column: usize,
    /// Just behind the last character, where that stands in the same line.
    pub end_column: Option<usize>,
    /// The id of the policy concerned.
    pub policy: Option<String>,
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// The text of the line; absent where it is longer than [`MAX_QUOTED`] or there is none.
    pub source_line: Option<String>,
}

/// Part of a file.
#[derive(Debug, Clone)]
pub(crate) struct Place<'t> {
    pub file: &'t str,
    pub text: &'t str,
    /// In bytes.
    pub range: Range<usize>,
}

impl<'t> Place<'t> {
    pub(crate) const fn new(file: &'t str, text: &'t str, range: Range<usize>) -> Self {
        Self { file, text, range }
    }
    /// The beginning of a file: for what concerns all of it.
    pub(crate) const fn whole(file: &'t str, text: &'t str) -> Self {
        Self::new(file, text, 0..0)
    }
    /// What Cedar says, if it says so, else `self`.
    pub(crate) fn at(&self, loc: Option<&'t cedar_policy_core::parser::Loc>) -> Self {
        loc.map_or_else(|| self.clone(), |l| Self::new(self.file, &l.src, l.start()..l.end()))
    }
}

/// Line and column of a byte offset, from 1.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    (line, column)
}

impl Diagnostic {
    pub(crate) fn new(severity: Severity, code: &'static str, place: &Place<'_>, message: impl Into<String>) -> Self {
        let Place { file, text, range } = place;
        let (line, column) = position(text, range.start);
        let begins = text.get(..range.start).and_then(|b| b.rfind('\n')).map_or(0, |at| at + 1);
        let source_line = text.get(begins..).and_then(|t| t.split('\n').next()).map(|l| l.trim_end_matches('\r'));
        let end_column = text
            .get(range.clone())
            .filter(|covered| !covered.is_empty() && !covered.contains('\n'))
            .map(|covered| column + covered.chars().count());
        Self {
            severity,
            code,
            file: (*file).to_owned(),
            line,
            column,
            end_column,
            policy: None,
            message: message.into(),
            help: None,
            source_line: source_line.filter(|l| !l.is_empty() && l.len() <= MAX_QUOTED).map(str::to_owned),
        }
    }
    pub(crate) fn error(code: &'static str, place: &Place<'_>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, place, message)
    }
    pub(crate) fn warning(code: &'static str, place: &Place<'_>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, place, message)
    }
    pub(crate) fn of(mut self, policy: &str) -> Self {
        self.policy = Some(policy.to_owned());
        self
    }
    pub(crate) fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }
    /// `file:line:column`.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One line, without the place.
impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(policy) = &self.policy {
            write!(f, "policy `{policy}`: ")?;
        }
        f.write_str(&self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "; {help}"))
    }
}

/// `did you mean …?`, if one of the names is near: a few typing errors away, or the same up to where
/// one of them ends.
pub(crate) fn did_you_mean<'n>(
    written: &str,
    known: impl IntoIterator<Item = &'n str>,
    shown: impl Fn(&str) -> String,
) -> Option<String> {
    let allowed = (written.chars().count() / 3).max(1);
    let near = |name: &'n str| {
        let distance = strsim::damerau_levenshtein(&written.to_lowercase(), &name.to_lowercase());
        let begins = written.len() >= 3 && (name.starts_with(written) || written.starts_with(name) && name.len() >= 3);
        (distance <= allowed || begins).then_some((distance, name))
    };
    let (_, name) = known.into_iter().filter_map(near).min()?;
    Some(format!("did you mean `{}`?", shown(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_characters_and_quotes_its_line() {
        let text = "eins\r\nzwö «drei» vier\r\nfünf";
        let start = text.find("drei").unwrap();
        let found = Diagnostic::error("x", &Place::new("f", text, start..start + 4), "m");
        assert_eq!((found.place().as_str(), found.end_column), ("f:2:6", Some(10)));
        assert_eq!(found.source_line.as_deref(), Some("zwö «drei» vier"));
        // To the next line and further: no end in this one.
        let found = Diagnostic::error("x", &Place::new("f", text, start..text.len()), "m");
        assert_eq!((found.column, found.end_column), (6, None));
        let long = "x".repeat(MAX_QUOTED + 1);
        assert_eq!(Diagnostic::error("x", &Place::whole("f", &long), "m").source_line, None);
        // A range that is not in the text is a place still.
        assert_eq!(Diagnostic::error("x", &Place::new("f", "ab", 7..9), "m").place(), "f:1:3");
    }

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
        let names = ["production", "staging", "support-leads"];
        let mean = |w| did_you_mean(w, names, str::to_owned);
        assert_eq!(mean("stagign").as_deref(), Some("did you mean `staging`?"));
        assert_eq!(mean("prod").as_deref(), Some("did you mean `production`?"));
        assert_eq!(mean("Staging").as_deref(), Some("did you mean `staging`?"));
        assert_eq!(mean("support").as_deref(), Some("did you mean `support-leads`?"));
        assert_eq!(mean("canary"), None);
        assert_eq!(mean(""), None);
    }
}
