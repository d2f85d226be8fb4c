//! Text differences between two packs.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use super::files::Files;
use super::safe_lines;

/// A unified diff of one file; empty for the same text.
pub fn unified(before: &str, after: &str, a: &str, b: &str) -> String {
    let diff = TextDiff::from_lines(a, b);
    let out = diff.unified_diff().context_radius(3).header(before, after).to_string();
    safe_lines(&out)
}

/// What has happened to one file.
pub struct Changed {
    pub file: String,
    /// `added`, `removed` or `changed`.
    pub kind: &'static str,
    pub added: usize,
    pub removed: usize,
    pub diff: String,
}

/// The files that differ.
pub fn between(a: &Files, b: &Files) -> Vec<Changed> {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let mut out = Vec::new();
    for name in names {
        let (before, after) = (a.get(name), b.get(name));
        if before == after {
            continue;
        }
        let nothing = String::new();
        let (old, new) = (before.unwrap_or(&nothing), after.unwrap_or(&nothing));
        let diff = TextDiff::from_lines(old.as_str(), new.as_str());
        let count = |tag| diff.iter_all_changes().filter(|c| c.tag() == tag).count();
        let side = |there: bool, letter| if there { format!("{letter}/{name}") } else { "/dev/null".to_owned() };
        out.push(Changed {
            file: name.clone(),
            kind: match (before, after) {
                (None, _) => "added",
                (_, None) => "removed",
                _ => "changed",
            },
            added: count(ChangeTag::Insert),
            removed: count(ChangeTag::Delete),
            diff: unified(&side(before.is_some(), 'a'), &side(after.is_some(), 'b'), old, new),
        });
    }
    out
}

/// A line for each file, as `git diff --stat` has them.
pub fn stat(changes: &[Changed]) -> String {
    let width = changes.iter().map(|c| c.file.chars().count()).max().unwrap_or(0);
    let line = |c: &Changed| format!("  {:<width$}  {:<8} +{} -{}", c.file, c.kind, c.added, c.removed);
    changes.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub fn value(changes: &[Changed]) -> Value {
    let row =
        |c: &Changed| json!({"file": c.file, "kind": c.kind, "added": c.added, "removed": c.removed, "diff": c.diff});
    Value::Array(changes.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_came_went_or_changed_are_told_apart() {
        let pack =
            |files: &[(&str, &str)]| files.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect::<Files>();
        let a = pack(&[("a", "1\n2\n"), ("b", "x\n"), ("same", "s\n")]);
        let b = pack(&[("a", "1\n3\n4\n"), ("c", "y\n"), ("same", "s\n")]);
        let changes = between(&a, &b);
        let seen: Vec<_> = changes.iter().map(|c| (c.file.as_str(), c.kind, c.added, c.removed)).collect();
        assert_eq!(seen, [("a", "changed", 2, 1), ("b", "removed", 0, 1), ("c", "added", 1, 0)]);
        assert!(changes[0].diff.contains("--- a/a") && changes[0].diff.contains("\n-2\n+3\n+4"), "{}", changes[0].diff);
        assert!(changes[2].diff.contains("--- /dev/null"), "{}", changes[2].diff);
        assert_eq!(stat(&changes).lines().count(), 3);
    }
}
