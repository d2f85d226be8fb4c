//! Printing: data to stdout, everything else to stderr.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::args::Format;
use crate::logging::stderr;

/// Whether something could not be written.
static LOST: AtomicBool = AtomicBool::new(false);

/// A line to stdout. A reader that has gone away (`| head`) is no error and changes no exit code;
/// anything else, a full disk say, is.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush())
        && error.kind() != std::io::ErrorKind::BrokenPipe
        && !LOST.swap(true, Ordering::Relaxed)
    {
        stderr(&format!("error: stdout: {error}"));
    }
}

/// Whether messages are wanted.
static QUIET: AtomicBool = AtomicBool::new(false);

pub fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Whether messages are lines of a log for machines.
static JSON_NOTES: AtomicBool = AtomicBool::new(false);

pub fn notes_as_json() {
    JSON_NOTES.store(true, Ordering::Relaxed);
}

/// A message to stderr, unless --quiet. Errors are not messages.
pub fn note(text: &str) {
    if QUIET.load(Ordering::Relaxed) {
        return;
    }
    if JSON_NOTES.load(Ordering::Relaxed) {
        let (level, text) = match text.trim().strip_prefix("warning: ") {
            Some(text) => (tracing::Level::WARN, text),
            None => (tracing::Level::INFO, text.trim()),
        };
        stderr(&intended_telemetry::log::line(level, text, None));
    } else {
        stderr(text);
    }
}

/// Whether colour may be used, if there is somebody to see it.
static COLOUR: AtomicBool = AtomicBool::new(true);

pub fn no_colour() {
    COLOUR.store(false, Ordering::Relaxed);
}

/// A line that stands out, where that is possible. What it says says it too.
pub fn loud(text: &str, is_loud: bool) -> String {
    use std::io::IsTerminal as _;
    let colour = is_loud
        && COLOUR.load(Ordering::Relaxed)
        && std::io::stdout().is_terminal()
        && crate::config::variable("NO_COLOR").is_none()
        && crate::config::variable("TERM").is_none_or(|term| term != "dumb");
    if colour { format!("\x1b[1;31m{text}\x1b[0m") } else { text.to_owned() }
}

/// What went wrong, and what to do about it, to stderr.
pub fn complain(text: &str, hint: Option<&str>) {
    if JSON_NOTES.load(Ordering::Relaxed) {
        // What is done needs no line.
        if !text.is_empty() {
            stderr(&intended_telemetry::log::line(tracing::Level::ERROR, text, hint));
        }
        return;
    }
    if !text.is_empty() {
        stderr(&format!("error: {}", safe(text)));
    }
    if let Some(hint) = hint {
        stderr(&format!("\nhint: {}", safe(hint)));
    }
}

/// Whether part of the output was lost.
pub fn lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// Prints a list: as a table of the named columns (JSON pointer or member → header), or whole.
pub fn list(format: Format, rows: &[Value], columns: &[(&str, &str)]) {
    match format {
        Format::Table => {
            let header: Vec<&str> = columns.iter().map(|(_, h)| *h).collect();
            let body = rows.iter().map(|row| columns.iter().map(|(member, _)| cell(row, member)).collect()).collect();
            say(&table(&header, body));
        }
        Format::Json => say(&pretty(&Value::Array(rows.to_vec()))),
        Format::Jsonl => rows.iter().for_each(|row| say(&row.to_string())),
        Format::Yaml => say(yaml(&Value::Array(rows.to_vec()), 0).trim_end()),
    }
}

/// Prints one thing: as `name  value` lines, or whole.
pub fn one(format: Format, value: &Value) {
    match format {
        Format::Table => {
            let rows = value
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, v)| !v.is_null())
                .map(|(n, v)| vec![n.clone(), plain(v)]);
            say(&table(&[], rows.collect()));
        }
        Format::Json => say(&pretty(value)),
        Format::Jsonl => say(&value.to_string()),
        Format::Yaml => say(yaml(value, 0).trim_end()),
    }
}

/// How wide what people read may be: the terminal, or a line that is easily read where there is none.
pub fn width() -> usize {
    let terminal = Table::new().width().map_or(100, usize::from);
    terminal.clamp(usize::from(NARROWEST), 120)
}

/// Below this a table is not squeezed: it runs over.
const NARROWEST: u16 = 40;

/// A table without lines: fits a terminal, and can be cut with tools.
pub fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    // A terminal that does not say how wide it is says 0, which would put every letter on its own line.
    if table.width().is_some_and(|width| width < NARROWEST) {
        table.set_width(NARROWEST);
    }
    if !header.is_empty() {
        table.set_header(header.iter().map(|h| h.to_uppercase()));
    }
    for row in rows {
        table.add_row(row.into_iter().map(|c| safe(&c)));
    }
    table.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// How many columns the terminal has; `None` where there is none.
fn columns() -> Option<usize> {
    Table::new().width().filter(|w| *w >= NARROWEST).map(usize::from)
}

/// One line that ends where the terminal does.
pub fn fit(line: &str) -> String {
    let line: String = safe(line).replace('\n', " ");
    let Some(width) = columns() else { return line };
    if line.chars().count() <= width {
        return line;
    }
    line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Text from outside without anything a terminal would act on.
pub fn safe(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

fn cell(row: &Value, member: &str) -> String {
    let value = if member.starts_with('/') { row.pointer(member) } else { row.get(member) };
    value.map(plain).unwrap_or_default()
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// YAML that any reader takes: strings in JSON quotes, and names too unless they are plain words.
fn yaml(value: &Value, depth: usize) -> String {
    let pad = "  ".repeat(depth);
    let nested =
        |v: &Value| matches!(v, Value::Array(a) if !a.is_empty()) || matches!(v, Value::Object(o) if !o.is_empty());
    match value {
        Value::Array(items) if !items.is_empty() => {
            items
                .iter()
                .map(|v| {
                    if nested(v) {
                        format!("{pad}-\n{}", yaml(v, depth + 1))
                    } else {
                        format!("{pad}- {}\n", scalar(v))
                    }
                })
                .collect()
        }
        Value::Object(members) if !members.is_empty() => members
            .iter()
            .map(|(n, v)| {
                let n = member(n);
                if nested(v) {
                    format!("{pad}{n}:\n{}", yaml(v, depth + 1))
                } else {
                    format!("{pad}{n}: {}\n", scalar(v))
                }
            })
            .collect(),
        other => format!("{pad}{}\n", scalar(other)),
    }
}

fn member(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if plain && !word.contains(&name.to_ascii_lowercase().as_str()) {
        name.to_owned()
    } else {
        scalar(&Value::String(name.to_owned()))
    }
}

/// JSON, with what YAML does not take as it is escaped.
fn scalar(value: &Value) -> String {
    let odd =
        |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    let text = value.to_string();
    if !text.contains(odd) {
        return text;
    }
    text.chars().map(|c| if odd(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_and_text_that_mean_something_to_yaml_are_quoted() {
        let value = json!({"a: b": 1, "no": [], "- x": {"plain": "#\u{85}\u{9b}31m"}, "": null});
        let text = yaml(&value, 0);
        let lines: Vec<&str> = text.lines().collect();
        let expected = ["\"\": null", "\"- x\":", "\"a: b\": 1", "\"no\": []", "  plain: \"#\\u0085\\u009b31m\""];
        assert!(expected.iter().all(|e| lines.contains(e)) && lines.len() == expected.len(), "{text}");
    }
}
