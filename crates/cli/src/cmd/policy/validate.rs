//! `policy validate` and `policy lint`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use intended_model::ExitCode;
use serde_json::{Value, json};

use super::files::{self, Files};
use super::findings::{Finding, counts};
use super::{local, many, text, version};
use crate::args::{Format, Validate};
use crate::client::Client;
use crate::cmd::Outcome;
use crate::config::Global;
use crate::error::CliError;
use crate::output::{list, say};

/// What was found in one place.
struct Report {
    /// As people name it.
    place: String,
    /// What the files' names are relative to.
    directory: PathBuf,
    digest: Option<String>,
    found: Vec<Finding>,
}

/// `lint`: warnings are shown; otherwise they are only counted, unless they fail.
pub async fn run(global: &Global, args: &Validate, lint: bool) -> Outcome {
    let reports = if args.all {
        super::environment(global)?;
        everything(global).await?
    } else {
        let mut reports = Vec::new();
        for path in &args.paths {
            reports.push(one(global, path).await?);
        }
        reports
    };
    let shown = |f: &&Finding| f.is_error() || lint || args.deny_warnings;
    let mut failed = false;
    let mut rows = Vec::new();
    for report in &reports {
        let errors = report.found.iter().filter(|f| f.is_error()).count();
        let warnings = report.found.len() - errors;
        failed |= errors > 0 || args.deny_warnings && warnings > 0;
        rows.push(json!({
            "path": report.place, "valid": errors == 0, "digest": report.digest,
            "errors": errors, "warnings": warnings, "diagnostics": report.found,
        }));
        if global.output != Format::Table {
            continue;
        }
        for finding in report.found.iter().filter(shown) {
            say(&format!("{}\n", finding.render(&report.directory)));
        }
        let unseen =
            if warnings > 0 && !lint && !args.deny_warnings { "; `intended policy lint` shows them" } else { "" };
        say(&format!("{}: {}{unseen}", report.place, counts(&report.found)));
    }
    if global.output != Format::Table {
        list(global.output, &rows, &[]);
    }
    Ok(if failed { ExitCode::Invalid } else { ExitCode::Ok })
}

async fn one(global: &Global, path: &Path) -> Result<Report, CliError> {
    let place = path.display().to_string();
    let (directory, files) = if path.is_dir() { (path.to_owned(), files::read(path)?) } else { alone(path)? };
    // Only where it was said of this very command: a profile's environment is no wish to ask a server.
    if global.environment_flag.is_some() {
        let client = Client::new(global)?;
        let found = asked(&client, &files).await?;
        return Ok(Report { place, directory, digest: found.0, found: found.1 });
    }
    let (pack, found) = local::findings(&files)?;
    let digest = pack.filter(|_| path.is_dir()).map(|p| p.digest().to_string());
    Ok(Report { place, directory, digest, found })
}

/// A single file of policies, as if it were a pack.
fn alone(path: &Path) -> Result<(PathBuf, Files), CliError> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    if !name.ends_with(".cedar") || !files::belongs(name) {
        return Err(CliError::usage(
            format!("{}: no *.cedar and no directory", path.display()),
            "name a pack's directory, or a file with policies",
        ));
    }
    let text = files::one(path)?;
    let manifest = "name = \"file\"\nversion = \"0\"\n".to_owned();
    let files = [("pack.toml".to_owned(), manifest), (name.to_owned(), text)].into_iter().collect();
    Ok((path.parent().map(Path::to_owned).unwrap_or_default(), files))
}

/// Asks the tenant; what it does not look at, the test files' form, is looked at here.
async fn asked(client: &Client, files: &Files) -> Result<(Option<String>, Vec<Finding>), CliError> {
    let body = client.call("POST", "validations", Some(&json!({"files": files})), &[]).await?.body;
    let found = body.get("diagnostics").cloned().unwrap_or(Value::Array(Vec::new()));
    let mut found: Vec<Finding> = serde_json::from_value(found).map_err(|e| {
        CliError::Failed(format!("the server's diagnostics cannot be read: {e}"), ExitCode::Unavailable)
    })?;
    let suite = intended_rehearse::Suite::parse(files.iter().map(|(n, t)| (n.as_str(), t.as_str())));
    if let Err(error) = suite
        && !found.iter().any(|f| f.file == error.file)
    {
        found.push(Finding::of_tests(&error, files));
    }
    Ok((body.get("digest").and_then(Value::as_str).map(str::to_owned), found))
}

/// Every version that decides in the environment or waits to.
async fn everything(global: &Global) -> Result<Vec<Report>, CliError> {
    let client = Client::new(global)?;
    let filter = [("environment", global.environment.clone())];
    let rows = client.list("policies", &filter, "policies", u64::MAX, None).await?.rows;
    let wanted = ["active", "submitted", "approved"];
    let mut seen = BTreeSet::new();
    let mut reports = Vec::new();
    for row in &rows {
        let stands = super::rows(row, "/status").any(|s| s.as_str().is_some_and(|s| wanted.contains(&s)));
        if !stands || !seen.insert(text(row, "/digest")) {
            continue;
        }
        let found = version::fetch(&client, &text(row, "/pack"), &text(row, "/digest")).await?;
        let (_, findings) = asked(&client, &found.files).await?;
        reports.push(Report {
            place: format!("{} ({})", found.name(), super::words(row, "/status")),
            directory: PathBuf::from(found.name()),
            digest: Some(found.digest),
            found: findings,
        });
    }
    if reports.is_empty() && global.output == Format::Table {
        say(&format!("nothing stands in `{}`: {}", super::environment(global)?, many(0_usize, "version", "versions")));
    }
    Ok(reports)
}
