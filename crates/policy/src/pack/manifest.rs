//! `pack.toml`.

use intended_model::{Code, EnvironmentId, Intent, Name, Outcome};
use serde::Deserialize;

use crate::diagnostic::{Diagnostic, Place};
use crate::pack::{Expectation, MAX_EXPECTATIONS, PackSource, Thresholds};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub name: Name,
    pub version: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub owners: Vec<String>,
    #[serde(default)]
    pub thresholds: Option<toml::Spanned<Thresholds>>,
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
    #[serde(default)]
    reason: Option<Code>,
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
        reason: expected.reason,
        intent,
    })
}

/// Reads the manifest with what it expects; what is wrong goes to `found`.
pub(super) fn read(source: &PackSource, found: &mut Vec<Diagnostic>) -> Option<(Manifest, Vec<Expectation>)> {
    let file = "pack.toml";
    let Some(text) = source.files.get(file) else {
        found.push(Diagnostic::error("file", &Place::whole(file, ""), "the pack has no `pack.toml`"));
        return None;
    };
    let wrong = |range, message: String| Diagnostic::error("manifest", &Place::new(file, text, range), message);
    let manifest: Manifest = match toml::from_str(text) {
        Ok(manifest) => manifest,
        Err(e) => {
            found.push(wrong(e.span().unwrap_or(0..0), e.message().to_owned()));
            return None;
        }
    };
    if let Some(thresholds) = manifest.thresholds.as_ref().filter(|t| t.as_ref().coverage_percent > 100) {
        found.push(wrong(thresholds.span(), "`thresholds.coverage_percent` lies within 0 to 100".to_owned()));
    }
    if let Some(beyond) = manifest.expect.get(MAX_EXPECTATIONS) {
        found.push(wrong(beyond.span(), format!("a pack has at most {MAX_EXPECTATIONS} expected outcomes")));
        return None;
    }
    let mut expectations: Vec<Expectation> = Vec::with_capacity(manifest.expect.len());
    for expected in &manifest.expect {
        match expectation(expected.as_ref()) {
            Err(message) => found.push(wrong(expected.span(), message)),
            Ok(read) if expectations.iter().any(|e| e.name == read.name && e.environment == read.environment) => {
                found.push(wrong(expected.span(), format!("the expectation `{}` stands twice", read.name)));
            }
            Ok(read) => expectations.push(read),
        }
    }
    Some((manifest, expectations))
}
