//! `policy test`.

use std::path::{Path, PathBuf};

use intended_model::ExitCode;
use intended_model::decision::{Gate, GateOutcome};
use intended_rehearse::{CaseResult, SuiteReport};
use serde_json::{Value, json};

use super::local::{self, Loaded};
use super::{indented, many};
use crate::args::Format;
use crate::cmd::Outcome;
use crate::config::Global;
use crate::error::{CliError, file};
use crate::output::{note, one, say, table};

pub fn run(global: &Global, path: &Path, filter: Option<&str>, junit: Option<&Path>, threshold: Option<u8>) -> Outcome {
    let (directory, only) = pack_of(path)?;
    let pack = local::load(&directory)?;
    let wanted = |file: &intended_rehearse::suite::TestFile, test: &intended_rehearse::suite::Test| {
        only.as_ref().is_none_or(|only| file.file == *only)
            && filter.is_none_or(|f| test.name.contains(f) || file.file.contains(f))
    };
    let part = only.is_some() || filter.is_some();
    if part && !pack.suite.files.iter().any(|f| f.tests.iter().any(|t| wanted(f, t))) {
        let what = filter.map_or_else(|| path.display().to_string(), |f| format!("--filter {f}"));
        return Err(CliError::usage(format!("{what}: no test is named so"), "leave it out to run all"));
    }
    let report = intended_rehearse::run(&pack.suite, &pack.version, &wanted)
        .map_err(|e| CliError::Failed(format!("{}: {e}", directory.display()), ExitCode::Invalid))?;
    if let Some(path) = junit {
        let xml = intended_rehearse::junit::junit(pack.pack.name(), &report);
        std::fs::write(path, xml).map_err(file(path))?;
    }
    // Coverage of a part of the tests says nothing about the pack.
    let least =
        if part { threshold.unwrap_or(0) } else { threshold.unwrap_or(0).max(pack.pack.thresholds().coverage_percent) };
    let covered = report.coverage.percent() >= least;
    if global.output == Format::Table {
        print(global, &pack, &report, least, part);
    } else {
        one(global.output, &value(&pack, &report, least));
    }
    Ok(if report.passed() && covered { ExitCode::Ok } else { ExitCode::TestsFailed })
}

/// The pack that a path is about, and the test file if it names one.
fn pack_of(path: &Path) -> Result<(PathBuf, Option<String>), CliError> {
    if path.is_dir() {
        return Ok((path.to_owned(), None));
    }
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let tests = path.parent().filter(|p| p.file_name().is_some_and(|n| n == "tests"));
    match tests.and_then(Path::parent) {
        Some(directory) if path.is_file() => {
            let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            Ok((directory.to_owned(), Some(format!("tests/{name}"))))
        }
        _ => Err(CliError::usage(
            format!("{}: no pack's directory, and no file in its tests/", path.display()),
            "`intended policy new <directory>` writes a pack with tests",
        )),
    }
}

/// As its codes write it.
const fn outcome(outcome: GateOutcome) -> &'static str {
    match outcome {
        GateOutcome::Pass => "pass",
        GateOutcome::Deny => "deny",
        GateOutcome::Escalate => "escalate",
        GateOutcome::Defer => "defer",
        GateOutcome::Modify => "modify",
        GateOutcome::Skipped => "skipped",
    }
}

fn print(global: &Global, pack: &Loaded, report: &SuiteReport, least: u8, part: bool) {
    for case in report.cases.iter().filter(|c| !c.passed()) {
        let place = pack.directory.join(&case.file);
        say(&format!("FAIL {}:{}:{}  {}", place.display(), case.line, case.column, case.test));
        say(&format!("  {} → {} in {}", case.agent, case.intent, case.environment));
        for differs in &case.differs {
            say(&format!("  {differs}"));
        }
        let all = |g: &&Gate| g.outcome != GateOutcome::Skipped || global.verbose;
        let line = |g: &Gate| {
            vec![g.gate.as_str().to_owned(), outcome(g.outcome).to_owned(), g.code.to_string(), g.detail.to_string()]
        };
        let lines = case.gates.iter().filter(all).map(line).collect();
        say(&format!("\n{}\n", indented(&table(&["gate", "outcome", "code", "detail"], lines))));
    }
    let (failed, all) = (report.failed(), report.cases.len());
    let summary = if failed == 0 {
        if all == 1 { "1 case passes".to_owned() } else { format!("{} pass", many(all, "case", "cases")) }
    } else {
        format!("{failed} of {} FAIL", many(all, "case", "cases"))
    };
    say(&summary);
    let coverage = &report.coverage;
    let policies = coverage.covered.len() + coverage.uncovered.len();
    let wanted = match least {
        0 => String::new(),
        least if coverage.percent() < least => format!("; at least {least} % are wanted: FAIL"),
        least => format!("; at least {least} % are wanted"),
    };
    say(&format!(
        "coverage {} %: {} of {}{wanted}",
        coverage.percent(),
        coverage.covered.len(),
        many(policies, "policy", "policies")
    ));
    for (n, id) in coverage.uncovered.iter().enumerate() {
        let place = local::place(&pack.files, id).map(|p| pack.directory.join(p).display().to_string());
        let lead = if n == 0 { "not covered" } else { "" };
        say(format!("  {lead:<11}  {id}  {}", place.unwrap_or_default()).trim_end());
    }
    if part {
        note("a part of the tests: the pack's own coverage threshold does not count");
    } else if all == 0 {
        note("there are no tests: write some in tests/*.yaml, as `intended policy new` does");
    }
}

fn value(pack: &Loaded, report: &SuiteReport, least: u8) -> Value {
    let case = |c: &CaseResult| {
        let mut value = json!({
            "file": c.file, "line": c.line, "column": c.column, "test": c.test, "agent": c.agent,
            "environment": c.environment, "intent": c.intent, "expected": c.expected.as_str(),
            "decision": c.decision.decision.as_str(), "reason": c.decision.reason.as_str(),
            "passed": c.passed(), "differs": c.differs,
        });
        if let (false, Some(members)) = (c.passed(), value.as_object_mut()) {
            members.insert("gates".to_owned(), json!(c.gates));
        }
        value
    };
    let uncovered: Vec<Value> = report
        .coverage
        .uncovered
        .iter()
        .map(|id| json!({"policy": id, "place": local::place(&pack.files, id)}))
        .collect();
    json!({
        "pack": pack.pack.name(), "version": pack.pack.version(), "digest": pack.pack.digest(),
        "passed": report.cases.len() - report.failed(), "failed": report.failed(),
        "cases": report.cases.iter().map(case).collect::<Vec<_>>(),
        "coverage": {"percent": report.coverage.percent(), "threshold": least, "covered": report.coverage.covered, "uncovered": uncovered},
    })
}
