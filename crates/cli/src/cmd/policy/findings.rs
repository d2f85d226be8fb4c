//! What is wrong with a pack, as a compiler says it: the place, the line, what to do.

use std::path::Path;

use intended_model::ExitCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::files::Files;
use super::{many, safe_lines};
use crate::client::Client;
use crate::error::CliError;
use crate::output::safe;

/// Most of a source line that is shown.
const WIDTH: usize = 68;

/// One error or warning: from here or from the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finding {
    pub severity: String,
    pub code: String,
    pub file: String,
    pub line: usize,
    pub column: usize,
    #[serde(default)]
    pub end_column: Option<usize>,
    #[serde(default)]
    pub policy: Option<String>,
    pub message: String,
    #[serde(default)]
    pub help: Option<String>,
    #[serde(default)]
    pub source_line: Option<String>,
}

impl Finding {
    pub fn is_error(&self) -> bool {
        self.severity == "error"
    }

    /// What a test file has wrong.
    pub fn of_tests(error: &intended_rehearse::SuiteError, files: &Files) -> Self {
        let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let line = files.get(&error.file).and_then(|text| text.lines().nth(at(error.line).saturating_sub(1)));
        Self {
            severity: "error".to_owned(),
            code: "tests".to_owned(),
            file: error.file.clone(),
            line: at(error.line),
            column: at(error.column),
            end_column: None,
            policy: None,
            message: error.message.clone(),
            help: None,
            source_line: line.filter(|l| !l.is_empty()).map(str::to_owned),
        }
    }

    /// `file:line:column: error[code]: message`, the line with a mark, and what to do.
    pub fn render(&self, directory: &Path) -> String {
        let path = if directory.as_os_str().is_empty() {
            self.file.clone()
        } else {
            directory.join(&self.file).display().to_string()
        };
        let policy = self.policy.as_ref().map(|p| format!("policy `{p}`: ")).unwrap_or_default();
        let mut out = safe(&format!(
            "{path}:{}:{}: {}[{}]: {policy}{}",
            self.line,
            self.column,
            self.severity,
            self.code,
            self.message.replace('\n', " ")
        ));
        if let Some(line) = &self.source_line {
            let (shown, mark) = marked(line, self.column, self.end_column);
            let gutter = self.line.to_string();
            let blank = " ".repeat(gutter.len());
            out.push_str(&format!("\n {gutter} | {}\n {blank} | {mark}", safe(&shown)));
        }
        if let Some(help) = &self.help {
            out.push_str(&format!("\n  help: {}", safe_lines(help).replace('\n', "\n        ")));
        }
        out
    }
}

/// The part of a line around a place, and the mark under it.
fn marked(line: &str, column: usize, end: Option<usize>) -> (String, String) {
    let chars: Vec<char> = line.chars().map(|c| if c == '\t' { ' ' } else { c }).collect();
    let start = column.saturating_sub(1).min(chars.len());
    let length = end.map_or(1, |e| e.saturating_sub(column).max(1)).min(chars.len().saturating_sub(start).max(1));
    // Far right of a long line: what stands before it is left out.
    let from = if start + length.min(WIDTH / 2) > WIDTH { start.saturating_sub(WIDTH / 3) } else { 0 };
    let lead = if from > 0 { "… " } else { "" };
    let shown: String = chars.iter().skip(from).take(WIDTH).collect();
    let tail = if chars.len() > from + WIDTH { " …" } else { "" };
    let offset = start - from + lead.chars().count();
    let length = length.min(WIDTH.saturating_sub(start - from).max(1));
    (format!("{lead}{}{tail}", shown.trim_end()), format!("{}{}", " ".repeat(offset), "^".repeat(length)))
}

/// How many there are of each.
pub fn counts(findings: &[Finding]) -> String {
    let errors = findings.iter().filter(|f| f.is_error()).count();
    let warnings = findings.len() - errors;
    match (errors, warnings) {
        (0, 0) => "no errors, no warnings".to_owned(),
        (e, 0) => many(e, "error", "errors"),
        (0, w) => many(w, "warning", "warnings"),
        (e, w) => format!("{}, {}", many(e, "error", "errors"), many(w, "warning", "warnings")),
    }
}

/// A pack that is not valid, as an error: its findings on stderr.
pub fn invalid(directory: &Path, findings: &[Finding]) -> CliError {
    for finding in findings.iter().filter(|f| f.is_error()) {
        eprintln!("{}\n", finding.render(directory));
    }
    let errors = findings.iter().filter(|f| f.is_error()).count();
    let what = format!("{}: the pack is not valid: {}", directory.display(), many(errors, "error", "errors"));
    CliError::Failed(what, ExitCode::Invalid)
}

/// Asks the server what is wrong with a pack that it has refused. Where that cannot be had, its refusal
/// is all there is to say.
pub async fn refused(client: &Client, directory: &Path, files: &Files, error: CliError) -> CliError {
    if !error.is("pack.invalid") {
        return error;
    }
    let Ok(reply) = client.call("POST", "validations", Some(&json!({"files": files})), &[]).await else { return error };
    let found = reply.body.get("diagnostics").cloned().and_then(|d| serde_json::from_value::<Vec<Finding>>(d).ok());
    match found {
        Some(found) if found.iter().any(Finding::is_error) => invalid(directory, &found),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(line: &str, column: usize, end: Option<usize>) -> String {
        let finding = Finding {
            severity: "error".into(),
            code: "unknown-name".into(),
            file: "a.cedar".into(),
            line: 12,
            column,
            end_column: end,
            policy: Some("p".into()),
            message: "there is no\naction".into(),
            help: Some("did you mean `x`?".into()),
            source_line: Some(line.into()),
        };
        finding.render(Path::new("dir"))
    }

    #[test]
    fn a_finding_points_at_its_place() {
        assert_eq!(
            finding("\twhen { nope };", 9, Some(13)),
            "dir/a.cedar:12:9: error[unknown-name]: policy `p`: there is no action\n 12 |  when { nope };\n    |         ^^^^\n  help: did you mean `x`?"
        );
        // A place in a very long line, one behind its end, and what a terminal would act on.
        let long = finding(&format!("{}NOPE{}", "a".repeat(500), "b".repeat(300)), 501, Some(505));
        let lines: Vec<&str> = long.lines().collect();
        assert!(lines.iter().skip(1).all(|l| l.chars().count() <= 80), "{long}");
        let at = lines[2].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[1].chars().skip(at).take(4).collect::<String>(), "NOPE");
        assert!(finding("ab", 900, Some(1_000)).ends_with("|   ^\n  help: did you mean `x`?"));
        assert!(!finding("a\u{1b}[2J", 1, None).contains('\u{1b}'));
    }
}
