//! Printing: data to stdout, everything else to stderr.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::args::Format;

/// Prints a list: as a table of the named columns (JSON pointer or member → header), or whole.
pub fn list(format: Format, rows: &[Value], columns: &[(&str, &str)]) {
    match format {
        Format::Table => {
            let header: Vec<&str> = columns.iter().map(|(_, h)| *h).collect();
            let body = rows.iter().map(|row| columns.iter().map(|(member, _)| cell(row, member)).collect()).collect();
            println!("{}", table(&header, body));
        }
        Format::Json => println!("{}", pretty(&Value::Array(rows.to_vec()))),
        Format::Jsonl => rows.iter().for_each(|row| println!("{row}")),
        Format::Yaml => print!("{}", yaml(&Value::Array(rows.to_vec()), 0)),
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
            println!("{}", table(&[], rows.collect()));
        }
        Format::Json => println!("{}", pretty(value)),
        Format::Jsonl => println!("{value}"),
        Format::Yaml => print!("{}", yaml(value, 0)),
    }
}

/// A table without lines: fits a terminal, and can be cut with tools.
pub fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if !header.is_empty() {
        table.set_header(header.iter().map(|h| h.to_uppercase()));
    }
    for row in rows {
        table.add_row(row.into_iter().map(|c| safe(&c)));
    }
    table.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
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

/// YAML that any reader takes: strings in JSON quotes.
fn yaml(value: &Value, depth: usize) -> String {
    let pad = "  ".repeat(depth);
    let nested =
        |v: &Value| matches!(v, Value::Array(a) if !a.is_empty()) || matches!(v, Value::Object(o) if !o.is_empty());
    match value {
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .map(|v| if nested(v) { format!("{pad}-\n{}", yaml(v, depth + 1)) } else { format!("{pad}- {v}\n") })
            .collect(),
        Value::Object(members) if !members.is_empty() => members
            .iter()
            .map(
                |(n, v)| {
                    if nested(v) { format!("{pad}{n}:\n{}", yaml(v, depth + 1)) } else { format!("{pad}{n}: {v}\n") }
                },
            )
            .collect(),
        other => format!("{pad}{other}\n"),
    }
}
