//! The catalogue and the classifier.
//!
//! A name is looked up once in a hash table; only what is not named goes through the patterns. What
//! two patterns disagree on is ambiguous and what nothing matches is unknown: both have confidence
//! 0 and the worst of everything else, so no later gate can take them for harmless.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use intended_model::Digest;
use intended_model::decision::{Classification, Operation, Reversible};
use intended_model::emergency::connector_of;
use serde::Deserialize;
use toml::Spanned;

use crate::oil;
use crate::pattern::{Found, MAX_SUFFIXES, Patterns};

/// Most tools in one catalogue file.
pub const MAX_TOOLS: usize = 20_000;
/// Confidence of a name and of a pattern.
const EXACT: u8 = 100;
const PATTERN: u8 = 80;

/// What a catalogue may say of a tool besides category and operation. A closed list: policies rely
/// on the spelling.
pub const INDICATORS: &[&str] = &[
    "bulk",
    "code_execution",
    "credential",
    "data_export",
    "destructive",
    "external_communication",
    "financial",
    "irreversible",
    "network_egress",
    "permission_change",
    "personal_data",
    "privileged",
    "production_change",
    "secret_access",
];

/// What the catalogue says of one tool or pattern.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolEntry {
    pub category: String,
    pub operation: Operation,
    #[serde(default)]
    pub reversible: Option<Reversible>,
    #[serde(default)]
    pub blast: Option<u8>,
    #[serde(default)]
    pub indicators: Vec<String>,
    #[serde(default)]
    pub confidence: Option<u8>,
}

/// Why a catalogue was refused, with the line (from 1) of the entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// Not TOML, a tool named twice, a field that is unknown, missing or of the wrong type.
    #[error("{message} (line {line})")]
    Syntax { line: usize, message: String },
    #[error("tool `{}`: a name has 1 to 128 of `A-Z a-z 0-9 . _ : / -`, and at most one `*`, not at its start (line {line})", tool.escape_default())]
    Name { line: usize, tool: String },
    #[error("tool `{tool}`: `{}` is not an Open Intent Layer category (line {line})", category.escape_default())]
    Category { line: usize, tool: String, category: String },
    #[error("tool `{tool}`: `{}` is not an indicator; known are {} (line {line})", indicator.escape_default(), INDICATORS.join(", "))]
    Indicator { line: usize, tool: String, indicator: String },
    #[error("tool `{tool}`: blast and confidence lie within 0 to 100 (line {line})")]
    Range { line: usize, tool: String },
    #[error("tool `{tool}`: more than {MAX_SUFFIXES} patterns begin alike up to their `*` (line {line})")]
    Suffixes { line: usize, tool: String },
    #[error("tool `{tool}`: `probe` is what the self-test does, and no tool (line {line})")]
    Probe { line: usize, tool: String },
    #[error("the catalogue has more than {MAX_TOOLS} tools")]
    TooMany,
}

/// A set of tools and patterns. Immutable; classification is a look-up.
#[derive(Debug, Clone)]
pub struct Catalogue {
    exact: HashMap<Box<str>, Classification>,
    patterns: Patterns,
    /// Names without their case and with `_` for `-` → the first such name.
    folded: BTreeMap<Box<str>, Box<str>>,
    operations: BTreeMap<Box<str>, (Box<str>, Operation)>,
    digest: Digest,
}

/// Texts of the catalogues that earlier releases shipped. A change of `data/catalogue.toml` after a
/// release moves the text of that release here: old ledgers name it.
const EARLIER: &[&str] = &[];

impl Catalogue {
    /// The shipped catalogue.
    #[must_use]
    pub fn builtin() -> Arc<Self> {
        static BUILTIN: OnceLock<Arc<Catalogue>> = OnceLock::new();
        let read = || Self::parse(include_str!("../data/catalogue.toml")).unwrap_or_else(|_| Self::empty());
        Arc::clone(BUILTIN.get_or_init(|| Arc::new(read())))
    }

    /// The shipped catalogue with this digest, of this release or an earlier one. A ledger says which
    /// it was decided by, and is re-executed with that one.
    #[must_use]
    pub fn shipped(digest: Digest) -> Option<Arc<Self>> {
        static EARLIER_READ: OnceLock<Vec<Arc<Catalogue>>> = OnceLock::new();
        let builtin = Self::builtin();
        if builtin.digest == digest {
            return Some(builtin);
        }
        let read = || EARLIER.iter().filter_map(|text| Self::parse(text).ok()).map(Arc::new).collect();
        EARLIER_READ.get_or_init(read).iter().find(|c| c.digest == digest).cloned()
    }

    fn empty() -> Self {
        Self {
            exact: HashMap::new(),
            patterns: Patterns::default(),
            folded: BTreeMap::new(),
            operations: BTreeMap::new(),
            digest: Digest::of(b""),
        }
    }

    /// Reads a catalogue file: TOML, one entry a tool, `"system.tool" = { category, operation, … }`.
    ///
    /// # Errors
    /// The first entry that is wrong, in the order of names, with its line. Patterns that overlap
    /// are no error: what they disagree on is classified as ambiguous.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        let line_of = |at: usize| text.get(..at).map_or(0, |before| before.matches('\n').count() + 1);
        let entries: BTreeMap<Spanned<String>, ToolEntry> =
            toml::from_str(text).map_err(|e| CatalogueError::Syntax {
                line: e.span().map_or(0, |span| line_of(span.start)),
                message: e.message().to_owned(),
            })?;
        if entries.len() > MAX_TOOLS {
            return Err(CatalogueError::TooMany);
        }
        let mut catalogue = Self { digest: Digest::of(text.as_bytes()), ..Self::empty() };
        for (name, entry) in entries {
            catalogue.add(name.get_ref(), &entry, || line_of(name.span().start))?;
        }
        Ok(catalogue)
    }

    fn add(&mut self, name: &str, entry: &ToolEntry, line: impl Fn() -> usize) -> Result<(), CatalogueError> {
        let tool = || name.to_owned();
        let (prefix, suffix) = name.split_once('*').map_or((name, None), |(prefix, suffix)| (prefix, Some(suffix)));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '/' | '-');
        let signs = prefix.chars().chain(suffix.unwrap_or_default().chars()).all(plain);
        if prefix.is_empty() || name.len() > intended_model::intent::MAX_TOOL || !signs {
            return Err(CatalogueError::Name { line: line(), tool: tool() });
        }
        if oil::category_name(&entry.category).is_none() {
            return Err(CatalogueError::Category { line: line(), tool: tool(), category: entry.category.clone() });
        }
        if entry.operation == Operation::Probe {
            return Err(CatalogueError::Probe { line: line(), tool: tool() });
        }
        if let Some(wrong) = entry.indicators.iter().find(|i| !INDICATORS.contains(&i.as_str())) {
            return Err(CatalogueError::Indicator { line: line(), tool: tool(), indicator: wrong.clone() });
        }
        let confidence = entry.confidence.unwrap_or(if suffix.is_some() { PATTERN } else { EXACT });
        let blast = entry.blast.unwrap_or_else(|| usual_blast(entry.operation));
        if confidence > 100 || blast > 100 {
            return Err(CatalogueError::Range { line: line(), tool: tool() });
        }
        let indicators: BTreeSet<Box<str>> = entry.indicators.iter().map(|i| i.as_str().into()).collect();
        let classification = Classification {
            ambiguous: false,
            blast,
            category: Some(entry.category.as_str().into()),
            confidence,
            indicators: indicators.into_iter().collect(),
            operation: Some(entry.operation),
            reversible: entry.reversible.unwrap_or_else(|| usually_reversible(entry.operation)),
            system: prefix.split_once('.').map(|(system, _)| system.into()),
        };
        match suffix {
            Some(suffix) => {
                if !self.patterns.set(prefix, suffix, classification) {
                    return Err(CatalogueError::Suffixes { line: line(), tool: tool() });
                }
            }
            None => {
                self.folded.entry(fold(name)).or_insert_with(|| name.into());
                self.operations.insert(name.into(), (entry.category.as_str().into(), entry.operation));
                self.exact.insert(name.into(), classification);
            }
        }
        Ok(())
    }

    /// `base` with `own` over it: the own entry replaces the shipped one of the same name or the
    /// same pattern, and nothing else changes. Its digest is over both.
    #[must_use]
    pub fn with_overlay(base: &Self, own: &Self) -> Self {
        let mut both = base.clone();
        both.exact.extend(own.exact.iter().map(|(n, c)| (n.clone(), c.clone())));
        both.patterns.extend(&own.patterns);
        for (folded, name) in &own.folded {
            both.folded.entry(folded.clone()).or_insert_with(|| name.clone());
        }
        both.operations.extend(own.operations.iter().map(|(n, o)| (n.clone(), o.clone())));
        both.digest = Digest::of(format!("{}\n{}", base.digest, own.digest).as_bytes());
        both
    }

    /// SHA-256 of the text it was read from.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
    #[must_use]
    pub fn len(&self) -> usize {
        self.exact.len() + self.patterns.len()
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a tool does. Unknown and ambiguous tools have confidence 0 and the worst of everything
    /// else. The same catalogue and name always give the same answer.
    #[must_use]
    pub fn classify(&self, tool: &str) -> Classification {
        let mut found = self.entry(tool);
        found.system = connector_of(tool).filter(|_| found.category.is_some()).map(Into::into);
        found
    }

    /// [`Self::classify`] as a decision procedure did it: until the second one, a tool's system was what
    /// the entry that it matches begins with.
    #[must_use]
    pub fn classify_by(&self, procedure: u32, tool: &str) -> Classification {
        if procedure < 3 { self.entry(tool) } else { self.classify(tool) }
    }

    fn entry(&self, tool: &str) -> Classification {
        if let Some(found) = self.exact.get(tool) {
            return found.clone();
        }
        match self.patterns.find(tool) {
            Found::One(found) => found.clone(),
            Found::Nothing => nothing_known(false),
            Found::Disagree => nothing_known(true),
        }
    }

    /// Whether a tool of this name, or of a name that a pattern ending in `*` means, can be known.
    #[must_use]
    pub fn has(&self, pattern: &str) -> bool {
        match pattern.strip_suffix('*') {
            None => self.exact.contains_key(pattern) || self.patterns.find(pattern) != Found::Nothing,
            Some(prefix) => {
                self.exact.keys().any(|tool| tool.starts_with(prefix))
                    || self.patterns.prefixes().any(|p| p.starts_with(prefix) || prefix.starts_with(p))
            }
        }
    }

    /// The target systems of the tools that it names, in lower case.
    #[must_use]
    pub fn systems(&self) -> BTreeSet<String> {
        let named = self.exact.keys().map(|tool| &**tool).chain(self.patterns.prefixes());
        named.filter_map(|tool| connector_of(tool).map(Into::into)).collect()
    }

    /// Whether a pattern whose beginning does not say of which system it is may mean tools of this one.
    #[must_use]
    pub fn may_have_system(&self, system: &str) -> bool {
        let open = self.patterns.prefixes().filter(|prefix| connector_of(prefix).is_none());
        open.map(str::to_ascii_lowercase).any(|prefix| system.starts_with(&prefix))
    }

    /// A known tool that differs only in case, `-` and `_`: what was probably meant. For a hint
    /// to a person, never for a decision. Of several, the first by name, the shipped before own.
    #[must_use]
    pub fn near(&self, tool: &str) -> Option<&str> {
        if self.exact.contains_key(tool) {
            return None;
        }
        self.folded.get(&fold(tool)).map(|name| &**name)
    }

    /// The first name that is kept for the self-test, or would be taken for it. A ledger may hold one
    /// from before it was kept: it is read, and such a tool is denied.
    #[must_use]
    pub fn reserved(&self) -> Option<&str> {
        self.operations.keys().find(|name| intended_model::synthetic::is_reserved(name)).map(|name| &**name)
    }

    /// Every tool named exactly: name, category, operation. By name.
    pub fn tools(&self) -> impl Iterator<Item = (&str, &str, Operation)> {
        self.operations.iter().map(|(name, (category, operation))| (&**name, &**category, *operation))
    }
}

fn fold(name: &str) -> Box<str> {
    name.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

const fn nothing_known(ambiguous: bool) -> Classification {
    Classification {
        ambiguous,
        blast: 100,
        category: None,
        confidence: 0,
        indicators: Vec::new(),
        operation: None,
        reversible: Reversible::No,
        system: None,
    }
}

const fn usual_blast(operation: Operation) -> u8 {
    match operation {
        Operation::Probe => 0,
        Operation::Read | Operation::List | Operation::Authenticate => 5,
        Operation::Create | Operation::Send => 15,
        Operation::Update | Operation::Transfer => 25,
        Operation::Execute | Operation::Revoke => 40,
        Operation::Delete | Operation::Grant | Operation::Configure => 50,
    }
}

const fn usually_reversible(operation: Operation) -> Reversible {
    match operation {
        Operation::Read
        | Operation::List
        | Operation::Authenticate
        | Operation::Create
        | Operation::Configure
        | Operation::Probe => Reversible::Yes,
        Operation::Update | Operation::Grant | Operation::Revoke | Operation::Execute => Reversible::Partly,
        Operation::Delete | Operation::Send | Operation::Transfer => Reversible::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_shipped_catalogue_names_at_least_150_tools_and_all_classify() {
        let shipped = Catalogue::parse(include_str!("../data/catalogue.toml")).unwrap();
        assert!(shipped.len() >= 150, "{}", shipped.len());
        for (tool, category, operation) in shipped.tools() {
            let c = shipped.classify(tool);
            assert_eq!((c.confidence, c.category.as_deref(), c.operation), (100, Some(category), Some(operation)));
            assert!(c.system.is_some());
        }
    }

    #[test]
    fn an_unknown_tool_has_confidence_zero_also_when_it_looks_like_a_known_one() {
        let shipped = Catalogue::builtin();
        for alias in [
            "Stripe.create_refund",
            "stripe.create-refund",
            "stripe.create_refund2",
            "stripe.create_refun",
            "create_refund",
            "",
        ] {
            assert_eq!(shipped.classify(alias).confidence, 0, "{alias}");
        }
        assert_eq!(shipped.near("Stripe.create-refund"), Some("stripe.create_refund"));
    }

    #[test]
    fn a_name_beats_a_pattern_and_the_own_entry_beats_the_shipped_one() {
        let own = Catalogue::parse(
            "\"stripe.*\" = { category = \"OIL-503\", operation = \"execute\" }\n\
             \"stripe.test_*\" = { category = \"OIL-103\", operation = \"execute\" }\n\
             \"stripe.create_refund\" = { category = \"OIL-502\", operation = \"delete\" }\n",
        )
        .unwrap();
        let both = Catalogue::with_overlay(&Catalogue::builtin(), &own);
        assert_eq!(both.classify("stripe.create_refund").operation, Some(Operation::Delete));
        assert_eq!(both.classify("stripe.list_customers").operation, Some(Operation::List));
        assert_eq!(both.classify("stripe.test_card").category.as_deref(), Some("OIL-103"));
        assert_eq!(
            (both.classify("stripe.new").confidence, both.classify("stripe.new").category.as_deref()),
            (80, Some("OIL-503"))
        );
        assert_ne!(both.digest(), Catalogue::builtin().digest());
    }

    #[test]
    fn bad_catalogues_are_refused_by_name() {
        let parse = |t: &str| Catalogue::parse(t).unwrap_err();
        assert!(matches!(parse("x"), CatalogueError::Syntax { line: 1, .. }));
        assert!(matches!(
            parse("\"a.b\" = { category = \"OIL-999\", operation = \"read\" }"),
            CatalogueError::Category { .. }
        ));
        for name in ["a*b*", "*", "*a", "", "a b", "аa", "a\\u202eb", &"a".repeat(129)] {
            let text = format!("# a note\n\n\"{name}\" = {{ category = \"OIL-101\", operation = \"read\" }}");
            assert!(matches!(parse(&text), CatalogueError::Name { line: 3, .. }), "{name}");
        }
        assert!(matches!(
            parse("\"a\" = { category = \"OIL-101\", operation = \"reed\" }"),
            CatalogueError::Syntax { .. }
        ));
        assert!(matches!(
            parse("\"a\" = { category = \"OIL-101\", operation = \"read\", risk = 0 }"),
            CatalogueError::Syntax { .. }
        ));
        assert!(matches!(
            parse("\"a\" = { category = \"OIL-101\", operation = \"read\", indicators = [\"nice\"] }"),
            CatalogueError::Indicator { .. }
        ));
        let twice = "\"a\" = { category = \"OIL-101\", operation = \"read\" }\n\"a\" = { category = \"OIL-101\", operation = \"delete\" }";
        assert!(matches!(parse(twice), CatalogueError::Syntax { .. }));
    }

    proptest! {
        #[test]
        fn the_longest_matching_pattern_wins(tool in "[ab]{1,8}") {
            let c = Catalogue::parse("\"a*\" = { category = \"OIL-101\", operation = \"read\" }\n\"ab*\" = { category = \"OIL-102\", operation = \"read\" }\n").unwrap();
            let expected = if tool.starts_with("ab") { Some("OIL-102") } else if tool.starts_with('a') { Some("OIL-101") } else { None };
            let found = c.classify(&tool);
            prop_assert_eq!(found.category.as_deref(), expected);
        }
    }
}
