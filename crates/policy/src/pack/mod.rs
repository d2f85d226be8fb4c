//! A pack: `pack.toml` and `*.cedar` files. Its digest is over its content, so a version cannot
//! change without becoming another.

mod limits;
mod manifest;
mod read;

use std::collections::BTreeMap;

use cedar_policy::Policy;
use intended_model::{Digest, EnvironmentId, Intent, Outcome};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use crate::obligation::Obligation;

pub(crate) use read::syntax;

/// Largest file, and most policies in a pack.
pub const MAX_FILE: usize = 1024 * 1024;
pub const MAX_TOTAL: usize = 4 * 1024 * 1024;
pub const MAX_POLICIES: usize = 10_000;
/// Deepest nesting of brackets, negations and conditionals.
pub const MAX_NESTING: usize = 64;
/// Most tokens of one policy. Cedar's parser and validator recurse over what they read: this bounds
/// how deep, whatever the tokens are, to less than [`PARSE_STACK`] holds.
pub const MAX_TOKENS: usize = 4_096;
/// Deepest expression of a policy, counted in its tree: a chain of a hundred `||` is a hundred deep.
/// Cedar's evaluator gives up when its thread's stack runs out; no expression may come near that, or
/// a decision would depend on where it is made.
pub const MAX_DEPTH: usize = 100;
/// Stack for parsing and validating.
pub(crate) const PARSE_STACK: usize = 128 << 20;
/// The annotations that mean something. Any other is refused: a typing error must not be silent.
pub const ANNOTATIONS: &[&str] = &["advice", "defer", "description", "escalate", "id", "modify", "reason"];

/// The files of a pack, by name relative to its directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackSource {
    pub files: BTreeMap<String, String>,
}

impl PackSource {
    /// SHA-256 over each file in the order of names: length and bytes of the name, length and bytes
    /// of the text; lengths as eight bytes, big-endian.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        for (name, text) in &self.files {
            for part in [name, text] {
                hasher.update((part.len() as u64).to_be_bytes());
                hasher.update(part.as_bytes());
            }
        }
        Digest::from_bytes(hasher.finalize().into())
    }
}

/// A parsed pack.
#[derive(Debug, Clone)]
pub struct Pack {
    name: String,
    version: String,
    description: String,
    digest: Digest,
    policies: Vec<PackPolicy>,
    owners: Vec<String>,
    thresholds: Thresholds,
    expectations: Vec<Expectation>,
}

/// What a pack asks of itself before it is deployed. An environment's own rules hold besides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Policies that its tests must have satisfied at least once, in percent.
    #[serde(default)]
    pub coverage_percent: u8,
    /// Most recorded decisions that it may change, in thousandths; absent: the environment's limit.
    #[serde(default)]
    pub max_blast_permille: Option<u32>,
    /// Most new escalations in an hour; absent: the environment's limit.
    #[serde(default)]
    pub max_new_escalations_per_hour: Option<u32>,
}

/// An outcome that a pack is expected to have where it is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    pub name: Box<str>,
    /// Where it is expected; absent: everywhere.
    pub environment: Option<EnvironmentId>,
    pub decision: Outcome,
    /// The reason that is expected, where one is named.
    pub reason: Option<intended_model::Code>,
    /// Its environment is the one that it is verified in.
    pub intent: Intent,
}

/// Most expected outcomes of a pack: each is decided at every deployment.
pub const MAX_EXPECTATIONS: usize = 256;

/// One policy of a pack.
#[derive(Debug, Clone)]
pub struct PackPolicy {
    pub id: std::sync::Arc<str>,
    pub file: String,
    pub policy: Policy,
    pub obligation: Option<Obligation>,
}

impl PackPolicy {
    /// Where it stands.
    pub(crate) fn place(&self) -> Place<'_> {
        let ast: &cedar_policy_core::ast::Policy = self.policy.as_ref();
        Place::whole(&self.file, "").at(ast.loc())
    }
    /// The line that it begins in, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        let place = self.place();
        crate::diagnostic::position(place.text, place.range.start).0
    }
    /// Where one of its annotations stands.
    pub(crate) fn annotation(&self, name: &str) -> Place<'_> {
        let ast: &cedar_policy_core::ast::Policy = self.policy.as_ref();
        let found = ast.annotations().find(|(key, _)| key.as_ref() == name);
        self.place().at(found.and_then(|(_, a)| a.loc.as_ref()))
    }
}

/// Why a pack was refused: the first thing that is wrong with it. [`crate::check`] names all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PackError(pub Box<Diagnostic>);

impl PackError {
    /// `file:line:column`.
    #[must_use]
    pub fn place(&self) -> String {
        self.0.place()
    }
}

impl From<Diagnostic> for PackError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(Box::new(diagnostic))
    }
}

/// A pack as far as it can be read.
pub(crate) struct Reading {
    /// If nothing is wrong.
    pub pack: Option<Pack>,
    /// Policies with which nothing is wrong so far, by id.
    pub sound: Vec<PackPolicy>,
    /// Policies with wrong annotations: they can still be validated.
    pub unsound: Vec<PackPolicy>,
    /// In the order of reading: sizes and names, manifest, policies.
    pub found: Vec<Diagnostic>,
}

impl Pack {
    /// Reads a pack. Nothing outside `source` is looked at.
    pub fn parse(source: &PackSource) -> Result<Self, PackError> {
        let Reading { pack, found, .. } = stacker::maybe_grow(PARSE_STACK, PARSE_STACK, || read(source));
        match (pack, found.into_iter().next()) {
            (Some(pack), None) => Ok(pack),
            (_, Some(first)) => Err(first.into()),
            (None, None) => Err(Diagnostic::error("file", &Place::whole("pack.toml", ""), "the pack is empty").into()),
        }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }
    #[must_use]
    pub fn owners(&self) -> &[String] {
        &self.owners
    }
    #[must_use]
    pub const fn thresholds(&self) -> &Thresholds {
        &self.thresholds
    }
    /// In the order of the manifest.
    #[must_use]
    pub fn expectations(&self) -> &[Expectation] {
        &self.expectations
    }
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
    /// By id.
    #[must_use]
    pub fn policies(&self) -> &[PackPolicy] {
        &self.policies
    }
}

/// Whether a file of this name belongs to a pack. One that is not read is refused rather than passed
/// over: it would be part of the digest and of nothing else.
fn belongs(name: &str) -> bool {
    let plain = |stem: &str| !stem.is_empty() && !stem.starts_with('.') && !stem.contains(['/', '\\']);
    let test = || {
        let test = name.strip_prefix("tests/")?;
        test.strip_suffix(".yaml").or_else(|| test.strip_suffix(".yml"))
    };
    name == "pack.toml" || name.strip_suffix(".cedar").is_some_and(plain) || test().is_some_and(plain)
}

/// Reads as much as can be read.
pub(crate) fn read(source: &PackSource) -> Reading {
    let mut found = Vec::new();
    let mut total = 0;
    for (name, text) in &source.files {
        let wrong = |code, message| Diagnostic::error(code, &Place::whole(name, text), message);
        total += text.len();
        if !belongs(name) {
            let files = "a pack consists of `pack.toml`, `*.cedar` beside it, and `tests/*.yaml`";
            found.push(wrong("file", format!("`{}` is no file of a pack", name.escape_debug())).help(files.to_owned()));
        } else if text.len() > MAX_FILE {
            found.push(wrong("limit", format!("the file has {} bytes; at most {MAX_FILE} are read", text.len())));
        }
        if total > MAX_TOTAL {
            found.push(wrong("limit", format!("the pack has more than {MAX_TOTAL} bytes")));
            return Reading { pack: None, sound: Vec::new(), unsound: Vec::new(), found };
        }
    }
    let manifest = manifest::read(source, &mut found);
    let mut policies = read::Policies::default();
    for (file, text) in source.files.iter().filter(|(n, t)| n.ends_with(".cedar") && belongs(n) && t.len() <= MAX_FILE)
    {
        policies.read(file, text, &mut found);
    }
    let read::Policies { mut sound, unsound, .. } = policies;
    if sound.is_empty() && found.is_empty() {
        let place = Place::whole("pack.toml", source.files.get("pack.toml").map_or("", String::as_str));
        found.push(Diagnostic::error("file", &place, "the pack has no policies; it denies everything"));
    }
    sound.sort_by(|a, b| a.id.cmp(&b.id));
    let pack = manifest.filter(|_| found.is_empty()).map(|(manifest, expectations)| Pack {
        name: manifest.name.to_string(),
        version: manifest.version,
        description: manifest.description,
        digest: source.digest(),
        policies: sound.clone(),
        owners: manifest.owners,
        thresholds: manifest.thresholds.map(toml::Spanned::into_inner).unwrap_or_default(),
        expectations,
    });
    Reading { pack, sound, unsound, found }
}
