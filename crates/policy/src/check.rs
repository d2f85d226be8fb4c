//! Everything that can be said of a pack before it is deployed, at once.

use std::collections::BTreeSet;

use crate::diagnostic::{Diagnostic, Severity};
use crate::lint;
use crate::pack::{self, PARSE_STACK, Pack, PackSource};
use crate::schema::Schema;
use crate::validate::strict;
use crate::vocabulary::Vocabulary;

/// A pack with all that is to be said of it.
#[derive(Debug, Clone)]
pub struct Checked {
    /// If it could be read, valid or not.
    pub pack: Option<Pack>,
    /// By file and line.
    pub diagnostics: Vec<Diagnostic>,
}

impl Checked {
    /// Whether there is no error. Warnings do not make a pack invalid.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.pack.is_some() && self.errors().next().is_none()
    }
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|d| d.severity == Severity::Error)
    }
    pub fn warnings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|d| d.severity == Severity::Warning)
    }
}

/// Reads, validates and lints a pack. Policies that can be read are validated even if others cannot;
/// lints look at sound policies only. Without a vocabulary, that of the schema counts, if it has one;
/// names that neither knows are not judged.
#[must_use]
pub fn check(source: &PackSource, schema: &Schema, vocabulary: Option<&Vocabulary>) -> Checked {
    stacker::maybe_grow(PARSE_STACK, PARSE_STACK, || {
        let vocabulary = vocabulary.or_else(|| schema.vocabulary());
        let reading = pack::read(source);
        let mut diagnostics = reading.found;
        diagnostics.extend(lint::run(&reading.sound, schema, vocabulary));
        // Why a policy can never match is said once, by the lint if that knows.
        let unreachable: BTreeSet<Option<String>> =
            diagnostics.iter().filter(|d| d.code == "unreachable").map(|d| d.policy.clone()).collect();
        let all: Vec<_> = reading.sound.iter().chain(&reading.unsound).collect();
        let mut cedar = BTreeSet::new();
        for found in strict(&all, schema, vocabulary) {
            let again = found.code == "unreachable"
                && (unreachable.contains(&found.policy) || !cedar.insert(found.policy.clone()));
            if !again {
                diagnostics.push(found);
            }
        }
        diagnostics.sort_by(|a, b| {
            let key = |d: &Diagnostic| (d.line, d.column, d.severity, d.code);
            a.file.cmp(&b.file).then_with(|| key(a).cmp(&key(b))).then_with(|| a.message.cmp(&b.message))
        });
        diagnostics.dedup();
        Checked { pack: reading.pack, diagnostics }
    })
}
