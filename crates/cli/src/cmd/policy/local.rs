//! A pack as it is on this machine: read, checked against what is shipped, compiled.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use intended_engine::Version;
use intended_intents::Catalogue;
use intended_model::ExitCode;
use intended_policy::{Checked, Obligation, Pack, PackSource, Schema, ToolAction, Vocabulary};
use intended_rehearse::Suite;

use super::files::{self, Files};
use super::findings::{Finding, invalid};
use crate::error::CliError;

/// A valid pack with its tests.
pub struct Loaded {
    pub directory: PathBuf,
    pub files: Files,
    pub pack: Pack,
    pub version: Arc<Version>,
    pub suite: Suite,
}

/// Reads a directory that must hold a valid pack; what is wrong goes to stderr.
pub fn load(directory: &Path) -> Result<Loaded, CliError> {
    let files = files::read(directory)?;
    let (pack, found) = findings(&files)?;
    let suite = Suite::parse(files.iter().map(|(n, t)| (n.as_str(), t.as_str())));
    let (Some(pack), Ok(suite)) = (pack, suite) else { return Err(invalid(directory, &found)) };
    if found.iter().any(Finding::is_error) {
        return Err(invalid(directory, &found));
    }
    let version = Arc::new(compiled(directory, &files)?);
    Ok(Loaded { directory: directory.to_owned(), files, pack, version, suite })
}

/// Refuses test files that cannot be read, before anything is sent: a server that is asked about the
/// policies alone would not look at them.
pub fn readable(directory: &Path, files: &Files) -> Result<(), CliError> {
    match Suite::parse(files.iter().map(|(n, t)| (n.as_str(), t.as_str()))) {
        Ok(_) => Ok(()),
        Err(error) => Err(invalid(directory, &[Finding::of_tests(&error, files)])),
    }
}

/// A pack's files as what decides.
pub fn compiled(place: &Path, files: &Files) -> Result<Version, CliError> {
    let boxed = files.iter().map(|(n, t)| (n.as_str().into(), t.as_str().into())).collect();
    Version::compile(&boxed).map_err(|e| CliError::Failed(format!("{}: {e}", place.display()), ExitCode::Invalid))
}

/// Everything that can be said of a pack without a server, in the order of files and lines.
pub fn findings(files: &Files) -> Result<(Option<Pack>, Vec<Finding>), CliError> {
    let suite = Suite::parse(files.iter().map(|(n, t)| (n.as_str(), t.as_str())));
    let schema = schema(suite.as_ref().ok())?;
    let vocabulary = suite.as_ref().ok().and_then(|suite| vocabulary(suite, files));
    let source = PackSource { files: files.clone() };
    let Checked { pack, diagnostics } = intended_policy::check(&source, &schema, vocabulary.as_ref());
    let same = |d| serde_json::to_value(d).and_then(serde_json::from_value);
    let found: Result<Vec<Finding>, _> = diagnostics.iter().map(same).collect();
    let mut found = found.map_err(|e| CliError::Failed(e.to_string(), ExitCode::Usage))?;
    if let Err(error) = &suite {
        found.push(Finding::of_tests(error, files));
    }
    found.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    Ok((pack, found))
}

/// The schema of the shipped catalogue, with the tools that the pack's own fixtures add.
pub fn schema(suite: Option<&Suite>) -> Result<Schema, CliError> {
    let mut catalogue = Arc::unwrap_or_clone(Catalogue::builtin());
    let own = suite.into_iter().flat_map(|s| &s.files).filter_map(|f| f.fixtures.catalogue.as_ref());
    for text in own.collect::<BTreeSet<_>>() {
        let own = Catalogue::parse(text)
            .map_err(|e| CliError::Failed(format!("tests: the fixtures' catalogue: {e}"), ExitCode::Invalid))?;
        catalogue = Catalogue::with_overlay(&catalogue, &own);
    }
    let tools: Vec<ToolAction> = catalogue
        .tools()
        .map(|(tool, category, operation)| ToolAction {
            tool: tool.to_owned(),
            category: category.to_owned(),
            domain: intended_intents::domain_of(category).to_owned(),
            operation: operation.as_str(),
        })
        .collect();
    Schema::generate(&tools).map_err(|e| CliError::Failed(e.to_string(), ExitCode::Usage))
}

/// The names of the fixtures, as far as they name any: those of a kind that they leave out are not judged.
fn vocabulary(suite: &Suite, files: &Files) -> Option<Vocabulary> {
    let mut names = Vocabulary::default();
    for fixtures in suite.files.iter().map(|f| &f.fixtures) {
        names.agents.extend(fixtures.agents.keys().cloned());
        names.teams.extend(fixtures.agents.values().flat_map(|a| &a.teams).map(ToString::to_string));
        names.capabilities.extend(fixtures.capabilities.keys().map(ToString::to_string));
        let environments = fixtures.environments.iter();
        names.environments.extend(environments.map(|(e, f)| (e.to_string(), f.tier.as_str().to_owned())));
    }
    if names.agents.is_empty() && names.capabilities.is_empty() {
        return None;
    }
    for (kind, known) in
        [("Agent", &mut names.agents), ("Team", &mut names.teams), ("Capability", &mut names.capabilities)]
    {
        if known.is_empty() {
            known.extend(mentioned(kind, files));
        }
    }
    // Fixtures have no members: whom an escalation asks is not judged here.
    if let Ok(pack) = Pack::parse(&PackSource { files: files.clone() }) {
        for policy in pack.policies() {
            if let Some(Obligation::Escalate(asked)) = &policy.obligation {
                names.groups.extend(asked.iter().flat_map(|r| r.groups()).map(str::to_owned));
            }
        }
    }
    Some(names)
}

/// The names that policies write as `Kind::"name"`.
fn mentioned(kind: &str, files: &Files) -> BTreeSet<String> {
    let mark = format!("{kind}::\"");
    let texts = files.iter().filter(|(name, _)| name.ends_with(".cedar")).map(|(_, text)| text);
    texts.flat_map(|t| t.split(&mark).skip(1)).filter_map(|r| r.split('"').next()).map(str::to_owned).collect()
}

/// `file:line` of a policy.
pub fn place(files: &Files, id: &str) -> Option<String> {
    let mark = format!("@id(\"{id}\")");
    files.iter().filter(|(name, _)| name.ends_with(".cedar")).find_map(|(name, text)| {
        let line = text.lines().position(|line| line.contains(&mark))?;
        Some(format!("{name}:{}", line + 1))
    })
}
