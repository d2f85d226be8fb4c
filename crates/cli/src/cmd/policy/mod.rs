//! `policy …`: one file per verb.

use serde_json::Value;

use super::Outcome;
use crate::args::Policy;
use crate::config::Global;
use crate::error::CliError;
use crate::output::safe;

mod bench;
mod changes;
mod deploy;
mod diff;
mod drift;
mod explain;
pub mod files;
mod findings;
mod fmt;
mod git;
mod list;
mod local;
mod new;
mod review;
mod rollback;
mod schema;
mod show;
mod simulate;
mod submit;
mod test;
mod validate;
mod verdict;
mod version;

pub async fn run(global: &Global, args: Policy) -> Outcome {
    match args {
        Policy::New { directory, name } => new::run(global, &directory, name.as_deref()),
        Policy::Fmt { paths, check } => fmt::run(global, &paths, check),
        Policy::Validate(args) => validate::run(global, &args, false).await,
        Policy::Lint(args) => validate::run(global, &args, true).await,
        Policy::Schema => schema::run(global).await,
        Policy::Test { path, filter, junit, threshold } => {
            test::run(global, &path, filter.as_deref(), junit.as_deref(), threshold)
        }
        Policy::Bench { path, seconds } => bench::run(global, &path, seconds),
        Policy::List { status } => list::run(global, status).await,
        Policy::Show { what } => show::run(global, &what).await,
        Policy::Diff { a, b, decisions, window } => {
            diff::run(global, &a, &b, decisions.then_some(window.as_deref())).await
        }
        Policy::Explain { intent } => explain::run(global, &intent).await,
        Policy::Simulate(args) => simulate::run(global, &args).await,
        Policy::Submit { directory, title, draft } => submit::run(global, &directory, title, draft).await,
        Policy::Review { draft } => review::run(global, draft.as_deref()).await,
        Policy::Approve(args) => verdict::run(global, &args, "approve").await,
        Policy::Reject(args) => verdict::run(global, &args, "reject").await,
        Policy::Deploy { what } => deploy::run(global, &what).await,
        Policy::Rollback { to, reason, confirm } => {
            rollback::run(global, to.as_deref(), &reason, confirm.as_deref()).await
        }
        Policy::Drift { directory: Some(directory), git, report, .. } => {
            drift::source(global, &directory, git.as_deref(), report).await
        }
        Policy::Drift { window, .. } => drift::decisions(global, window.as_deref().unwrap_or("24h")).await,
    }
}

/// The environment, which must be named.
fn environment(global: &Global) -> Result<&str, CliError> {
    global.environment.as_deref().ok_or_else(|| CliError::usage("which environment?", "name it: -e staging"))
}

/// What stands at a pointer, for people.
fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => safe(text),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

fn rows<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// A list of words.
fn words(value: &Value, pointer: &str) -> String {
    rows(value, pointer).map(|v| text(v, "")).collect::<Vec<_>>().join(", ")
}

/// Enough of a digest for a table.
fn short(digest: &str) -> String {
    digest.strip_prefix("sha256:").unwrap_or(digest).chars().take(12).collect()
}

/// `1 policy`, `2 policies`.
fn many(count: impl TryInto<u64>, one: &str, more: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{} {}", grouped(count), if count == 1 { one } else { more })
}

/// With a comma between thousands.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Thousandths as percent.
fn permille(n: u64) -> String {
    if n.is_multiple_of(10) { format!("{} %", n / 10) } else { format!("{}.{} %", n / 10, n % 10) }
}

/// A text of several lines from outside, for a terminal.
fn safe_lines(text: &str) -> String {
    text.lines().map(|line| safe(&line.replace('\t', "    "))).collect::<Vec<_>>().join("\n")
}

/// A table with what there is to say of each row below it: beside it there would be no room on a
/// terminal. Where rows take several lines all of that stands at the end, with the row's `name`.
fn detailed(header: &[&str], rows: Vec<Vec<String>>, name: usize, details: &[Vec<String>]) -> String {
    let names: Vec<String> = rows.iter().map(|r| r.get(name).cloned().unwrap_or_default()).collect();
    let table = crate::output::table(header, rows);
    let mut lines: Vec<String> = table.lines().map(str::to_owned).collect();
    let head = usize::from(!header.is_empty());
    let all = names.iter().zip(details);
    if lines.len() == head + names.len() {
        for (at, (_, details)) in all.enumerate().rev() {
            let at = (head + at + 1).min(lines.len());
            lines.splice(at..at, details.iter().map(|d| format!("     {d}")));
        }
    } else {
        lines.extend(all.flat_map(|(name, details)| details.iter().map(move |d| format!("  {name}: {d}"))));
    }
    lines.join("\n")
}

/// A table set in by two columns.
fn indented(table: &str) -> String {
    table.lines().map(|line| format!("  {line}").trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_to_say_of_a_row_stands_below_it() {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        let why = [vec!["because".to_owned(), "and".to_owned()], Vec::new(), vec!["so".to_owned()]];
        let text = detailed(&["a", "b"], vec![row("1", "x"), row("2", "y"), row("3", "z")], 0, &why);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(lines, ["A  B", "1  x", "because", "and", "2  y", "3  z", "so"]);
        // A row of two lines: nothing is lost.
        let text = detailed(&[], vec![row("1", "x\nxx"), row("2", "y")], 0, &why[..2]);
        assert!(text.ends_with("2  y\n  1: because\n  1: and"), "{text}");
    }

    #[test]
    fn numbers_are_written_for_people() {
        let written: Vec<String> = [0, 999, 1_000, 123_456, 1_234_567].into_iter().map(grouped).collect();
        assert_eq!(written, ["0", "999", "1,000", "123,456", "1,234,567"]);
        assert_eq!((permille(0), permille(25), permille(1000)), ("0 %".into(), "2.5 %".into(), "100 %".into()));
        assert_eq!(
            (many(1_usize, "case", "cases"), many(0_usize, "case", "cases")),
            ("1 case".into(), "0 cases".into())
        );
    }
}
