//! `policy simulate`: on the server's ledger, or on an export.

use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use intended_ledger::{ExportHeader, ExportTrailer, Leaf};
use intended_model::{EnvironmentId, ExitCode, Timestamp};
use intended_rehearse::Simulator;
use serde_json::{Value, json};

use super::version::{self, Side};
use super::{environment, files, findings, grouped, indented, local, number, permille, rows, short, text};
use crate::args::{Format, Simulate};
use crate::client::Client;
use crate::cmd::{Outcome, encode};
use crate::config::Global;
use crate::error::{CliError, file};
use crate::output::{note, one, say, table};
use crate::when;

/// How often a running simulation is looked at.
const POLL: Duration = Duration::from_millis(150);
/// Changes that a table shows.
const SHOWN: usize = 20;
/// Rows of each breakdown that a table shows.
const ROWS: usize = 5;

pub async fn run(global: &Global, args: &Simulate) -> Outcome {
    let window = args.window.as_deref().map(|w| when::seconds("--window", w)).transpose()?;
    let (found, title) = match &args.file {
        Some(export) => offline(global, args, export, window)?,
        None => asked(global, args, window).await?,
    };
    let wanted = wanted(&found, args)?;
    if global.output != Format::Table {
        one(global.output, wanted.map_or(&found, |(_, change)| change));
    } else if let Some((number, change)) = wanted {
        open(number, rows(&found, "/changes").count(), change);
    } else {
        show(&found, &title, Some(&again(global, args)));
    }
    let radius = number(&found, "/blast_permille");
    if let Some(most) = args.max_blast.filter(|most| radius > u64::from(*most)) {
        let what = format!("blast radius {} is above {}", permille(radius), permille(u64::from(most)));
        return Err(CliError::Failed(what, ExitCode::Invalid));
    }
    Ok(ExitCode::Ok)
}

/// The same once more, for one change.
fn again(global: &Global, args: &Simulate) -> String {
    let mut words = format!("intended policy simulate {}", args.what);
    let file = args.file.as_ref().map(|f| f.display().to_string());
    let options = [
        ("-e", global.environment.as_deref()),
        ("--window", args.window.as_deref()),
        ("--against", args.against.as_deref()),
        ("--file", file.as_deref()),
    ];
    for (name, value) in options {
        if let Some(value) = value {
            words.push_str(&format!(" {name} {value}"));
        }
    }
    words
}

/// The intent to look at alone, so that any change can be opened, listed or not. With a limit the radius
/// of all decisions is wanted as well.
fn only(args: &Simulate) -> Option<&str> {
    args.intent.as_deref().filter(|_| args.change.is_none() && args.max_blast.is_none())
}

/// The change that was asked for, with its number.
fn wanted<'v>(found: &'v Value, args: &Simulate) -> Result<Option<(usize, &'v Value)>, CliError> {
    let missing = |what: String| {
        let listed = rows(found, "/changes").count();
        Err(CliError::usage(what, format!("{listed} of {} changes are listed", number(found, "/changed"))))
    };
    let unchanged = |intent: &str| {
        let what = match number(found, "/decisions") {
            0 => format!("no decision on {intent} is in the window"),
            _ => format!("the decision on {intent} does not change"),
        };
        Err(CliError::usage(what, "see what changes: the same without --intent"))
    };
    let mut all = (1..).zip(rows(found, "/changes"));
    match (args.change, &args.intent) {
        (Some(wanted), _) => match all.find(|(n, _)| u64::try_from(*n) == Ok(wanted)) {
            None => missing(format!("there is no change {wanted}")),
            change => Ok(change),
        },
        (None, Some(intent)) => match all.find(|(_, c)| c.get("intent").and_then(Value::as_str) == Some(intent)) {
            None => unchanged(intent),
            change => Ok(change),
        },
        (None, None) => Ok(None),
    }
}

pub fn bar(global: &Global) -> ProgressBar {
    if global.quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} entries, {per_sec}, {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

async fn asked(global: &Global, args: &Simulate, window: Option<i64>) -> Result<(Value, String), CliError> {
    let environment = environment(global)?;
    let side = version::side(global, &args.what).await?;
    if let Side::Directory { name, files } = &side {
        local::readable(Path::new(name), files)?;
    }
    let base = match &args.against {
        Some(against) => Some(base(&version::side(global, against).await?)?),
        None => None,
    };
    let mut body = json!({"environment": environment});
    if let Some(members) = body.as_object_mut() {
        match &side {
            Side::Directory { files, .. } => members.insert("files".to_owned(), json!(files)),
            Side::Published(published) => members.insert("digest".to_owned(), published.digest.clone().into()),
        };
        if let Some(base) = base {
            members.insert("base".to_owned(), base.into());
        }
        if let Some(intent) = only(args) {
            members.insert("intent".to_owned(), intent.into());
        }
        if let Some(window) = window {
            members.insert("window_secs".to_owned(), window.into());
        }
    }
    let client = Client::new(global)?;
    let found = match (online(global, &client, &body).await, &side) {
        (Err(error), Side::Directory { name, files }) => {
            return Err(findings::refused(&client, Path::new(name), files, error).await);
        }
        (found, _) => found?,
    };
    Ok((found, format!("{} in {environment}", side.name())))
}

/// What decisions are compared with, which the server has.
pub fn base(side: &Side) -> Result<String, CliError> {
    side.digest().map(str::to_owned).ok_or_else(|| {
        CliError::usage(
            format!("`{}` is a directory: decisions are compared with a version that the server has", side.name()),
            "name a digest, a draft, or `deployed` instead",
        )
    })
}

/// Starts a simulation and waits for what it finds.
pub async fn online(global: &Global, client: &Client, body: &Value) -> Result<Value, CliError> {
    let began = when::started();
    let started = client.call("POST", "simulations", Some(body), &[]).await?.body;
    let path = format!("simulations/{}", encode(&text(&started, "/id")));
    let bar = bar(global);
    let mut at = started;
    loop {
        match at.get("state").and_then(Value::as_str) {
            Some("running") => {}
            Some("done") => break,
            _ => {
                bar.finish_and_clear();
                let why = text(&at, "/error");
                return Err(CliError::Failed(format!("the simulation failed: {why}"), ExitCode::Unavailable));
            }
        }
        // Before it has begun there is nothing to show.
        if number(&at, "/total") > 0 {
            bar.set_length(number(&at, "/total"));
            bar.set_position(number(&at, "/done"));
        }
        tokio::time::sleep(POLL).await;
        at = client.get(&path).await?;
    }
    bar.finish_and_clear();
    let mut found = at.get_mut("result").map(Value::take).unwrap_or_default();
    if let Some(members) = found.as_object_mut() {
        members.insert("elapsed_ms".to_owned(), u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX).into());
    }
    Ok(found)
}

/// Replays an export's decisions here.
fn offline(global: &Global, args: &Simulate, export: &Path, window: Option<i64>) -> Result<(Value, String), CliError> {
    let name = environment(global)?;
    let environment = EnvironmentId::new(name)
        .map_err(|e| CliError::usage(format!("`{name}` cannot name an environment: {e}"), "name it: -e staging"))?;
    let directory = Path::new(&args.what);
    if !directory.is_dir() {
        return Err(CliError::usage(
            format!("`{}`: with --file no server is asked, so this is a pack's directory", args.what),
            "get the version's files with `intended policy show`",
        ));
    }
    let pack = local::load(directory)?;
    let (first, last) = ends(export)?;
    let to = last.plus_millis(1);
    let from = window.map_or(first, |secs| to.plus_secs(-secs));
    let mut simulator = Simulator::new(environment, Arc::clone(&pack.version), from, to);
    if let Some(base) = &args.against {
        let base = Path::new(base);
        if !base.is_dir() {
            return Err(CliError::usage("--against: with --file this is a pack's directory", "name a directory"));
        }
        simulator = simulator.against(Arc::new(local::compiled(base, &files::read(base)?)?));
    }
    if let Some(intent) = only(args) {
        let id = intent.parse().map_err(|e| CliError::usage(format!("--intent: {e}"), "copy it from the changes"))?;
        simulator = simulator.only(id);
    }
    let bar = bar(global);
    let began = when::started();
    let outcome = each(export, |at, size, leaf| {
        bar.set_length(size);
        if at.is_multiple_of(1024) {
            bar.set_position(at);
        }
        simulator
            .entry(leaf)
            .map_err(|e| CliError::Failed(format!("{}: {e}", export.display()), ExitCode::VerificationFailed))
    });
    bar.finish_and_clear();
    outcome?;
    let took = began.elapsed();
    let found = simulator.finish();
    let replayed = found.summary.replayed;
    let mut found = serde_json::to_value(&found).map_err(|e| CliError::Failed(e.to_string(), ExitCode::Usage))?;
    if let Some(members) = found.as_object_mut() {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        members.insert("elapsed_ms".to_owned(), millis.into());
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        members.insert("decisions_per_second".to_owned(), replayed.saturating_mul(1_000_000).div_euclid(micros).into());
    }
    Ok((found, format!("{} in {name}, on {}", args.what, export.display())))
}

/// Goes through an export's entries; gives each its position and how many there are.
fn each(path: &Path, mut take: impl FnMut(u64, u64, &[u8]) -> Result<(), CliError>) -> Result<(), CliError> {
    let wrong = |what: &dyn std::fmt::Display| {
        CliError::Failed(format!("{}: {what}", path.display()), ExitCode::VerificationFailed)
    };
    let mut reader = BufReader::with_capacity(1 << 20, std::fs::File::open(path).map_err(file(path))?);
    let mut line = Vec::new();
    if !crate::cmd::verify::next(&mut reader, &mut line, path)? {
        return Err(wrong(&"the file is empty"));
    }
    let size = ExportHeader::parse(&line).map_err(|e| wrong(&e))?.size;
    for at in 0..size {
        if !crate::cmd::verify::next(&mut reader, &mut line, path)? {
            return Err(wrong(&"the file was cut short"));
        }
        take(at, size, &line)?;
    }
    let ended = crate::cmd::verify::next(&mut reader, &mut line, path)?
        && ExportTrailer::parse(&line).is_ok_and(|t| t.size == size)
        && reader.fill_buf().map_err(file(path))?.is_empty();
    if ended { Ok(()) } else { Err(wrong(&"the trailer does not fit the entries: the file was cut short")) }
}

/// When the first and the last entry were made.
fn ends(path: &Path) -> Result<(Timestamp, Timestamp), CliError> {
    let (mut first, mut last) = (None, None);
    each(path, |at, size, leaf| {
        if at == 0 || at + 1 == size {
            let leaf = Leaf::parse(leaf).map_err(|e| {
                CliError::Failed(format!("{}: entry {at}: {e}", path.display()), ExitCode::VerificationFailed)
            })?;
            first = first.or(Some(leaf.at));
            last = Some(leaf.at);
        }
        Ok(())
    })?;
    first.zip(last).ok_or_else(|| {
        CliError::Failed(format!("{}: there are no entries", path.display()), ExitCode::VerificationFailed)
    })
}

/// What was found: how far it can be trusted first.
pub fn show(found: &Value, title: &str, again: Option<&str>) {
    let count = |pointer: &str| grouped(number(found, pointer));
    let (decisions, replayed, changed) =
        (number(found, "/decisions"), number(found, "/replayed"), number(found, "/changed"));
    say(&format!("simulation: {title}\n"));
    let mut facts: Vec<(&str, String)> = Vec::new();
    let share = (replayed * 100).checked_div(decisions).unwrap_or(100);
    facts.push((
        "coverage",
        format!("{} of {} decisions replayed ({share} %)", count("/replayed"), count("/decisions")),
    ));
    for (why, count) in found.get("skipped").and_then(Value::as_object).into_iter().flatten() {
        let said = match why.as_str() {
            "unreadable" => "recorded in a form that this release does not read",
            "procedure" => "made by a decision procedure that this release does not have",
            "environment" => "made before there was the environment",
            other => other,
        };
        facts.push(("", format!("{} not: {said}", grouped(count.as_u64().unwrap_or(0)))));
    }
    let by: Vec<String> = found
        .get("recorded_by")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(digest, n)| format!("{} ({})", short(digest), grouped(n.as_u64().unwrap_or(0))))
        .collect();
    if !by.is_empty() {
        facts.push(("recorded by", by.join(", ")));
    }
    facts.push(("window", when::span(i64::try_from(number(found, "/window_secs")).unwrap_or(i64::MAX))));
    let other = number(found, "/other_reason");
    let reason = if other > 0 { format!(" ({} for another reason)", grouped(other)) } else { String::new() };
    facts.push(("unchanged", format!("{}{reason}", grouped(replayed.saturating_sub(changed)))));
    let transitions = found.get("transitions").and_then(Value::as_object).into_iter().flatten();
    let transitions: Vec<String> =
        transitions.map(|(what, n)| format!("{} {what}", grouped(n.as_u64().unwrap_or(0)))).collect();
    let list = if transitions.is_empty() { String::new() } else { format!(": {}", transitions.join(", ")) };
    facts.push(("changed", format!("{}{list}", grouped(changed))));
    facts.push(("escalations", format!("{} new in the busiest hour", count("/new_escalations_per_hour"))));
    facts.push(("blast radius", permille(number(found, "/blast_permille"))));
    if let Some(speed) = found.get("decisions_per_second").and_then(Value::as_u64) {
        facts.push(("took", format!("{} ms, {} decisions a second", count("/elapsed_ms"), grouped(speed))));
    }
    say(&table(&[], facts.into_iter().map(|(n, v)| vec![n.to_owned(), v]).collect()));
    if changed == 0 {
        return;
    }
    breakdowns(found);
    let all = rows(found, "/changes").count();
    let line = |(n, change): (usize, &Value)| {
        vec![
            n.to_string(),
            text(change, "/agent"),
            text(change, "/action"),
            text(change, "/resource"),
            format!("{} → {}", text(change, "/before"), text(change, "/after")),
        ]
    };
    let lines = (1..).zip(rows(found, "/changes")).take(SHOWN).map(line).collect();
    say(&format!("\n{}", table(&["#", "agent", "action", "resource", "decision"], lines)));
    if all > SHOWN {
        note(&format!("{} more are listed with -o json", grouped((all - SHOWN) as u64)));
    }
    let omitted = number(found, "/changes_omitted");
    if omitted > 0 {
        note(&format!("{} are not listed: open one with --intent", grouped(omitted)));
    }
    if let Some(again) = again {
        note(&format!("\nnext: {again} --change 1"));
    }
}

/// Where the changes are.
fn breakdowns(found: &Value) {
    let mut lines = Vec::new();
    for (by, pointer) in
        [("agent", "/by_agent"), ("action", "/by_action"), ("category", "/by_category"), ("resource", "/by_resource")]
    {
        for (n, row) in rows(found, pointer).take(ROWS).enumerate() {
            let by = if n == 0 { by } else { "" };
            let numbers = [grouped(number(row, "/changed")), grouped(number(row, "/replayed"))];
            lines.push(vec![by.to_owned(), text(row, "/name"), format!("{} of {}", numbers[0], numbers[1])]);
        }
        let more = rows(found, pointer).count().saturating_sub(ROWS);
        if more > 0 {
            lines.push(vec![String::new(), format!("… and {more} more"), String::new()]);
        }
    }
    say(&format!("\n{}", table(&["by", "", "changed"], lines)));
}

/// When a change's decision was recorded.
fn time(change: &Value) -> String {
    let millis = change.get("at").and_then(Value::as_i64);
    millis.map_or_else(|| text(change, "/at"), |m| Timestamp::from_millis(m).to_string())
}

/// One change: before and after.
fn open(number: usize, all: usize, change: &Value) {
    say(&format!("change {number} of {all} listed\n"));
    let facts = [
        ("intent", text(change, "/intent")),
        ("recorded", format!("{}, ledger entry {}", time(change), text(change, "/index"))),
        ("agent", text(change, "/agent")),
        ("action", format!("{} ({})", text(change, "/action"), text(change, "/category"))),
        ("resource", text(change, "/resource")),
    ];
    say(&table(&[], facts.into_iter().map(|(n, v)| vec![n.to_owned(), v]).collect()));
    let policies = |pointer: &str| {
        let all: Vec<String> = rows(change, pointer).map(|p| text(p, "")).collect();
        if all.is_empty() { "none matched".to_owned() } else { all.join("\n") }
    };
    let obligation = |pointer: &str| match text(change, pointer) {
        none if none.is_empty() => "none".to_owned(),
        some => some,
    };
    let line = |name: &str, before: String, after: String| vec![name.to_owned(), before, after];
    let lines = vec![
        line("decision", text(change, "/before"), text(change, "/after")),
        line("reason", text(change, "/before_reason"), text(change, "/after_reason")),
        line("obligation", obligation("/before_obligation"), obligation("/after_obligation")),
        line("policies", policies("/before_policies"), policies("/after_policies")),
    ];
    say(&format!("\n{}", indented(&table(&["", "before", "after"], lines))));
}
