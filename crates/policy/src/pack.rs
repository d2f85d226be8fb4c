//! A pack: `pack.toml` and `*.cedar` files. Its digest is over its content, so a version cannot
//! change without becoming another.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Policy, PolicyId, PolicySet};
use intended_model::{Digest, EnvironmentId, Intent, Name, Outcome};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::obligation::Obligation;

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

/// Why a pack was refused, with the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PackError {
    pub file: String,
    /// Line and column, from 1.
    pub position: Option<(usize, usize)>,
    pub message: String,
}

impl PackError {
    fn new(file: &str, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), position: None, message: message.into() }
    }
    /// `file:line:column`.
    #[must_use]
    pub fn place(&self) -> String {
        place(&self.file, self.position)
    }
}

pub(crate) fn place(file: &str, position: Option<(usize, usize)>) -> String {
    position.map_or_else(|| file.to_owned(), |(line, column)| format!("{file}:{line}:{column}"))
}

/// Line and column of a byte offset, from 1.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    (line, column)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    name: Name,
    version: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    owners: Vec<String>,
    #[serde(default)]
    thresholds: Thresholds,
    #[serde(default)]
    expect: Vec<toml::Spanned<Expected>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    name: String,
    #[serde(default)]
    environment: Option<EnvironmentId>,
    decision: Outcome,
    intent: toml::Value,
}

/// Reads an expectation; its intent has the form that the API takes.
fn expectation(expected: &Expected) -> Result<Expectation, String> {
    let wrong = |e: &dyn std::fmt::Display| format!("expectation `{}`: {e}", expected.name);
    let text = serde_json::to_string(&expected.intent).map_err(|e| wrong(&e))?;
    let value = intended_model::json::parse(text.as_bytes()).map_err(|e| wrong(&e))?;
    if value.get("environment").is_some() {
        return Err(wrong(&"the environment stands beside the intent, not in it"));
    }
    let anywhere = EnvironmentId::new("any").map_err(|e| wrong(&e))?;
    let environment = expected.environment.as_ref().unwrap_or(&anywhere);
    let intent = Intent::from_value(&value, Some(environment), false).map_err(|e| wrong(&e))?;
    if expected.name.is_empty() || expected.name.len() > 200 {
        return Err(wrong(&"its name has 1 to 200 characters"));
    }
    Ok(Expectation {
        name: expected.name.as_str().into(),
        environment: expected.environment.clone(),
        decision: expected.decision,
        intent,
    })
}

impl Pack {
    /// Reads a pack. Nothing outside `source` is looked at.
    pub fn parse(source: &PackSource) -> Result<Self, PackError> {
        stacker::maybe_grow(PARSE_STACK, PARSE_STACK, || Self::parse_here(source))
    }

    fn parse_here(source: &PackSource) -> Result<Self, PackError> {
        let mut total = 0;
        for (name, text) in &source.files {
            total += text.len();
            if text.len() > MAX_FILE {
                return Err(PackError::new(
                    name,
                    format!("the file has {} bytes; at most {MAX_FILE} are read", text.len()),
                ));
            }
            if total > MAX_TOTAL {
                return Err(PackError::new(name, format!("the pack has more than {MAX_TOTAL} bytes")));
            }
        }
        let manifest =
            source.files.get("pack.toml").ok_or_else(|| PackError::new("pack.toml", "the pack has no `pack.toml`"))?;
        let manifest: Manifest = toml::from_str(manifest).map_err(|e| PackError {
            file: "pack.toml".to_owned(),
            position: e.span().map(|s| position(manifest, s.start)),
            message: e.message().to_owned(),
        })?;
        let text = source.files.get("pack.toml").map_or("", String::as_str);
        let at = |offset, message: String| PackError {
            file: "pack.toml".to_owned(),
            position: Some(position(text, offset)),
            message,
        };
        if manifest.thresholds.coverage_percent > 100 {
            return Err(PackError::new("pack.toml", "`thresholds.coverage_percent` lies within 0 to 100"));
        }
        if manifest.expect.len() > MAX_EXPECTATIONS {
            return Err(PackError::new(
                "pack.toml",
                format!("a pack has at most {MAX_EXPECTATIONS} expected outcomes"),
            ));
        }
        let mut expectations: Vec<Expectation> = Vec::with_capacity(manifest.expect.len());
        for expected in &manifest.expect {
            let offset = expected.span().start;
            let read = expectation(expected.as_ref()).map_err(|e| at(offset, e))?;
            if expectations.iter().any(|e| e.name == read.name && e.environment == read.environment) {
                return Err(at(offset, format!("the expectation `{}` stands twice", read.name)));
            }
            expectations.push(read);
        }
        let mut policies = Vec::new();
        let mut ids = BTreeSet::new();
        for (file, text) in source.files.iter().filter(|(n, _)| n.ends_with(".cedar")) {
            nesting(file, text)?;
            read(file, text, &mut policies, &mut ids)?;
        }
        if policies.is_empty() {
            return Err(PackError::new("pack.toml", "the pack has no policies; it denies everything"));
        }
        policies.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Self {
            name: manifest.name.to_string(),
            version: manifest.version,
            description: manifest.description,
            digest: source.digest(),
            policies,
            owners: manifest.owners,
            thresholds: manifest.thresholds,
            expectations,
        })
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

/// Refuses text nested so deeply that a recursive parser could run out of stack. Strings and
/// comments do not count.
fn nesting(file: &str, text: &str) -> Result<(), PackError> {
    let mut depth = 0_usize;
    let mut run = 0_usize;
    let (mut tokens, mut in_word) = (0_usize, false);
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let word = c.is_alphanumeric() || c == '_';
        tokens += usize::from(!(c.is_whitespace() || word && in_word));
        in_word = word;
        if c == ';' && depth == 0 {
            tokens = 0;
        }
        if tokens > MAX_TOKENS {
            return Err(PackError {
                file: file.to_owned(),
                position: Some(position(text, at)),
                message: format!("a policy has more than {MAX_TOKENS} words and signs: make several of it"),
            });
        }
        match c {
            '"' => {
                let mut closed = false;
                while let Some((_, c)) = chars.next() {
                    match c {
                        '\\' => {
                            chars.next();
                        }
                        '"' => {
                            closed = true;
                            break;
                        }
                        _ => {}
                    }
                }
                if !closed {
                    return Err(PackError {
                        file: file.to_owned(),
                        position: Some(position(text, at)),
                        message: "a string never ends".to_owned(),
                    });
                }
            }
            '/' if chars.peek().is_some_and(|(_, n)| *n == '/') => {
                while chars.next_if(|(_, c)| *c != '\n').is_some() {}
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        // A run of negations, or of `if … then if …` without brackets, nests too.
        if matches!(c, '!' | '-') {
            run += 1;
        } else if c == ';' {
            run = 0;
        } else if c == 'i' && text.get(at..).is_some_and(|t| t.starts_with("if ")) {
            run += 1;
        }
        if depth > MAX_NESTING || run > MAX_NESTING * 4 {
            return Err(PackError {
                file: file.to_owned(),
                position: Some(position(text, at)),
                message: format!("conditions are nested deeper than {MAX_NESTING} levels"),
            });
        }
    }
    Ok(())
}

fn read(file: &str, text: &str, policies: &mut Vec<PackPolicy>, ids: &mut BTreeSet<String>) -> Result<(), PackError> {
    let set: PolicySet = text.parse().map_err(|e: cedar_policy::ParseErrors| PackError {
        file: file.to_owned(),
        position: first_label(&e).map(|o| position(text, o)),
        message: e.to_string(),
    })?;
    if set.templates().next().is_some() {
        return Err(PackError::new(file, "templates are not supported: write policies without slots"));
    }
    for policy in set.policies() {
        let id =
            policy.annotation("id").ok_or_else(|| PackError::new(file, "a policy has no `@id(\"…\")`"))?.to_owned();
        let wrong = |message: String| PackError::new(file, format!("policy `{id}`: {message}"));
        Name::new(&id).map_err(|e| wrong(e.to_string()))?;
        let deep = depth(AsRef::<cedar_policy_core::ast::Policy>::as_ref(&policy).condition());
        if deep > MAX_DEPTH {
            return Err(wrong(format!(
                "its condition is {deep} expressions deep, at most {MAX_DEPTH}: instead of a long chain use a set and `contains`, or several policies"
            )));
        }
        if !ids.insert(id.clone()) {
            return Err(wrong("the id stands twice in the pack".to_owned()));
        }
        let mut obligation = None;
        for (name, value) in policy.annotations() {
            if !ANNOTATIONS.contains(&name) {
                let near = ANNOTATIONS
                    .iter()
                    .find(|a| near(a, name))
                    .map_or(String::new(), |a| format!("; did you mean `@{a}`?"));
                return Err(wrong(format!("unknown annotation `@{name}`{near}")));
            }
            if let Some(parsed) = Obligation::parse(name, value) {
                let parsed = parsed.map_err(&wrong)?;
                if policy.effect() == cedar_policy::Effect::Forbid {
                    return Err(wrong(format!("`@{name}` stands on a forbid; obligations belong on permits")));
                }
                if obligation.replace(parsed).is_some() {
                    return Err(wrong("a policy has one kind of obligation".to_owned()));
                }
            }
        }
        policies.push(PackPolicy {
            policy: policy.new_id(PolicyId::new(&id)),
            id: id.into(),
            file: file.to_owned(),
            obligation,
        });
        if policies.len() > MAX_POLICIES {
            return Err(PackError::new(file, format!("a pack has at most {MAX_POLICIES} policies")));
        }
    }
    Ok(())
}

/// How deep an expression is; without recursion, because that is what it is asked for.
fn depth(expr: cedar_policy_core::ast::Expr) -> usize {
    use cedar_policy_core::ast::{Expr, ExprKind as E};
    let mut deepest = 0;
    let mut todo: Vec<(&Expr, usize)> = vec![(&expr, 1)];
    while let Some((expr, depth)) = todo.pop() {
        deepest = deepest.max(depth);
        let below = depth + 1;
        match expr.expr_kind() {
            E::If { test_expr, then_expr, else_expr } => {
                todo.extend([test_expr, then_expr, else_expr].map(|e| (&**e, below)));
            }
            E::And { left, right } | E::Or { left, right } => todo.extend([left, right].map(|e| (&**e, below))),
            E::BinaryApp { arg1, arg2, .. } => todo.extend([arg1, arg2].map(|e| (&**e, below))),
            E::UnaryApp { arg: e, .. }
            | E::GetAttr { expr: e, .. }
            | E::HasAttr { expr: e, .. }
            | E::Like { expr: e, .. }
            | E::ExtHasAttr { expr: e, .. }
            | E::Is { expr: e, .. } => todo.push((e, below)),
            E::ExtensionFunctionApp { args, .. } => todo.extend(args.iter().map(|e| (e, below))),
            E::Set(items) => todo.extend(items.iter().map(|e| (e, below))),
            E::Record(members) => todo.extend(members.values().map(|e| (e, below))),
            E::Lit(_) | E::Var(_) | E::Slot(_) | E::Unknown(_) => {}
        }
    }
    deepest
}

/// One sign more, fewer or different.
fn near(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let common = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let tail = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
    a.len().abs_diff(b.len()) <= 1 && common + tail + 2 >= a.len().max(b.len())
}

/// Where the parser says that something is wrong: a byte offset.
fn first_label(errors: &cedar_policy::ParseErrors) -> Option<usize> {
    use miette::Diagnostic as _;
    errors.labels()?.next().map(|label| label.offset())
}
