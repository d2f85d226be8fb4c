//! `intended emergency`: what an operator reaches for when something is wrong.

use std::path::Path;

use intended_keyring::RngSource as _;
use intended_model::emergency::{HaltScope, HaltTarget};
use intended_model::{EnvironmentId, ExitCode, TenantId};
use intended_runtime::emergency::{GlassFile, GlassTerms, name_of};
use intended_store_sqlite::{ReadOnly, SqliteStore};
use serde_json::{Value, json};

use super::token::without_null;
use super::{Outcome, encode, read};
use crate::args::{Emergency, Format, Halt, Revoke};
use crate::client::Client;
use crate::config::Global;
use crate::confirm;
use crate::error::{CliError, file};
use crate::output::{list, note, one, safe, say, table};
use crate::requests::{self, Answer, Request};
use crate::server::{Config, reopen, write_secret};
use crate::when;

pub async fn run(global: &Global, args: Emergency) -> Outcome {
    match args {
        Emergency::Status => status(global).await,
        Emergency::Halt(args) if args.data_dir.is_some() => direct(global, &args).await,
        Emergency::Halt(args) => halt(global, &args).await,
        Emergency::Resume { halt, reason, confirm } => resume(global, &halt, &reason, confirm.as_deref()).await,
        Emergency::Revoke(args) => revoke(global, args).await,
        Emergency::Prepare { scope, expires, out } => prepare(global, scope.as_deref(), &expires, &out).await,
        Emergency::Inspect { file, vkey } => inspect(global, &file, vkey.as_deref()),
        Emergency::Drill { drill: kind, intent } => drill(global, kind.as_str(), intent.as_deref()).await,
        Emergency::Drills => {
            let body = Client::new(global)?.get("drills").await?;
            let rows = body.get("drills").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let columns = ["drill", "environment", "passed", "restored", "started_at", "by"].map(|c| (c, c));
            list(global.output, rows, &columns);
            Ok(ExitCode::Ok)
        }
    }
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).map(|v| v.as_str().map_or_else(|| v.to_string(), safe)).unwrap_or_default()
}

async fn status(global: &Global) -> Outcome {
    let body = Client::new(global)?.get("emergency").await?;
    let halts = body.get("halts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    // Everywhere is a place as well.
    let placed = |halt: &Value| {
        let mut halt = halt.clone();
        if let Some(members) = halt.as_object_mut().filter(|_| global.output == Format::Table) {
            members.entry("environment").or_insert_with(|| "every".into());
        }
        halt
    };
    let columns = [
        ("halt", "halt"),
        ("scope", "scope"),
        ("environment", "in"),
        ("since", "since"),
        ("person", "who"),
        ("reason", "why"),
        ("resume", "who lifts it"),
    ];
    list(global.output, &halts.iter().map(placed).collect::<Vec<_>>(), &columns);
    Ok(if halts.is_empty() { ExitCode::Ok } else { ExitCode::Halted })
}

/// What `--scope` and `-e` say together.
fn scope_of(global: &Global, scope: Option<&str>) -> Result<HaltScope, CliError> {
    let wrong =
        |what: String| CliError::usage(what, "it is tenant, environment=…, agent=…, connector=…, tool=… or category=…");
    let environment = |name: &str| EnvironmentId::new(name).map_err(|e| wrong(format!("`{name}`: {e}")));
    let here = global.environment.as_deref().map(environment).transpose()?;
    match scope {
        None => Ok(HaltScope { environment: here, on: None }),
        // The tenant is every environment, whatever a profile says.
        Some("tenant") if global.environment_flag.is_none() => Ok(HaltScope { environment: None, on: None }),
        Some("tenant") => Err(wrong("--scope tenant is every environment, and -e names one".to_owned())),
        Some(scope) => match scope.split_once('=') {
            Some(("environment", name)) => {
                let named = environment(name)?;
                if global.environment_flag.is_some() && here.as_ref() != Some(&named) {
                    return Err(wrong("--scope and -e name two environments".to_owned()));
                }
                Ok(HaltScope { environment: Some(named), on: None })
            }
            Some((kind, text)) => {
                let on = HaltTarget::of(kind, text).filter(HaltTarget::is_valid);
                let on = on.ok_or_else(|| wrong(format!("--scope: `{scope}` is nothing that could be halted")))?;
                Ok(HaltScope { environment: here, on: Some(on) })
            }
            None => Err(wrong(format!("--scope: `{scope}` is nothing that could be halted"))),
        },
    }
}

/// A break-glass file, and what it says by its own word.
fn glass(global: &Global, path: &Path) -> Result<(GlassFile, GlassTerms), CliError> {
    if global.environment_flag.is_some() {
        return Err(CliError::usage("the break-glass file says what is halted", "leave -e out"));
    }
    let file: GlassFile = serde_json::from_slice(&read(path)?)
        .map_err(|e| CliError::Failed(format!("{}: {e}", path.display()), ExitCode::Invalid))?;
    let terms = file.open(&file.vkey.clone()).map_err(|e| CliError::from(e).about(path))?;
    Ok((file, terms))
}

async fn halt(global: &Global, args: &Halt) -> Outcome {
    let glass = args.glass.as_deref().map(|path| glass(global, path)).transpose()?;
    let (client, scope) = match &glass {
        None => (Client::new(global)?, scope_of(global, args.scope.as_deref())?),
        Some((file, terms)) => {
            let own = Global {
                tenant: terms.tenant.to_string(),
                key_file: None,
                api_key: Some(file.key.clone()),
                ..global.clone()
            };
            (Client::new(&own)?, terms.scope.clone())
        }
    };
    let tenant = TenantId::new(client.tenant()).map_err(|e| CliError::Usage(format!("--tenant: {e}"), None))?;
    let name = name_of(&tenant, &scope);
    if !client.says_only() || global.dry_run {
        if (args.confirm.is_none() || global.dry_run) && glass.is_none() {
            radius(&client, &scope, "would stop").await;
        }
        if !global.dry_run {
            confirm::name(global, args.confirm.as_deref(), &name, "halt")?;
        }
    }
    let body = without_null(json!({"environment": scope.environment, "on": scope.on, "reason": args.reason}));
    let reply = client.change("emergency/halts", &body).await?;
    let mut shown = reply.body;
    let took = |part: &str| reply.timing.iter().find(|(name, _)| name == part).map(|(_, ms)| *ms);
    if let Some(members) = shown.as_object_mut() {
        members.extend(took("commit").map(|ms| ("committed_ms".to_owned(), ms.into())));
        members.extend(took("refused").map(|ms| ("refused_ms".to_owned(), ms.into())));
    }
    one(global.output, &shown);
    thrown(&scope, shown.get("index").and_then(Value::as_u64), took("commit"), took("refused"));
    Ok(ExitCode::Ok)
}

/// Says that a halt stands, where, and since when.
fn thrown(scope: &HaltScope, index: Option<u64>, committed: Option<f64>, refused: Option<f64>) {
    let ms = |took: Option<f64>| took.map_or("-".to_owned(), |ms| format!("{ms:.3} ms"));
    note(&format!(
        "halted: nothing of {scope} can be allowed after ledger entry {}",
        index.map_or("-".to_owned(), |i| i.to_string())
    ));
    match refused {
        Some(_) => {
            note(&format!("in effect: durable after {}, refused by this server after {}", ms(committed), ms(refused)))
        }
        None => note(&format!(
            "durable after {}; it was NOT SEEN to be refused: look at `intended emergency status`",
            ms(committed)
        )),
    }
}

/// Says what a halt would stop. Who may halt and see nothing can halt all the same.
async fn radius(client: &Client, scope: &HaltScope, verb: &str) {
    let mut query = Vec::new();
    query.extend(scope.environment.iter().map(|e| format!("environment={e}")));
    query.extend(scope.on.iter().map(|on| format!("{}={}", on.kind(), encode(on.text()))));
    let path = format!("emergency/blast-radius?{}", query.join("&"));
    match client.get(&path).await {
        Ok(radius) => show_radius(scope, &radius, verb),
        Err(error) => note(&format!("{scope}: what {verb} is not to be seen: {error}")),
    }
}

fn show_radius(scope: &HaltScope, radius: &Value, verb: &str) {
    note(&format!("{verb}: {scope}"));
    for covered in radius.get("environments").and_then(Value::as_array).into_iter().flatten() {
        let halted = if covered.get("halted") == Some(&Value::Bool(true)) { ", halted already" } else { "" };
        note(&format!("  environment {} ({}{halted})", text(covered, "environment"), text(covered, "tier")));
    }
    let agents: Vec<String> = radius
        .get("agents")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(safe)
        .collect();
    let shown = agents.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
    let more = agents.len().checked_sub(10).filter(|n| *n > 0).map_or(String::new(), |n| format!(", and {n} more"));
    let plural = if agents.len() == 1 { "" } else { "s" };
    note(format!("  {} active agent{plural}: {shown}{more}", agents.len()).trim_end_matches(": "));
    let number = |name: &str| radius.get(name).and_then(Value::as_f64).unwrap_or_default();
    note(&format!(
        "  {:.1} decisions a minute, {:.1} of them allowed",
        number("decisions_per_minute"),
        number("allowed_per_minute")
    ));
    let least = if radius.get("at_least") == Some(&Value::Bool(true)) { " or more" } else { "" };
    note(&format!("  {}{least} live tokens, which die for good", text(radius, "live_tokens")));
    note(&format!("  {}{least} open approvals", text(radius, "open_approvals")));
    note(&format!("  people that lifting it takes: {}", text(radius, "resume_people")));
}

async fn resume(global: &Global, halt: &str, reason: &str, given: Option<&str>) -> Outcome {
    let client = Client::new(global)?;
    if !client.says_only() || global.dry_run {
        if given.is_none() || global.dry_run {
            lifting(&client, halt).await;
        }
        if !global.dry_run {
            confirm::name(global, given, halt, "lift")?;
        }
    }
    let path = format!("emergency/halts/{}/resume", encode(halt));
    let reply = client.change(&path, &json!({"reason": reason})).await?.body;
    one(global.output, &reply);
    if reply.get("state").and_then(Value::as_str) == Some("waiting") {
        note(&format!("still halted: a second person gives the same command before {}", text(&reply, "expires_at")));
        return Ok(ExitCode::Pending);
    }
    Ok(ExitCode::Ok)
}

/// What lifting a halt sets free.
async fn lifting(client: &Client, halt: &str) {
    let body = match client.get("emergency").await {
        Ok(body) => body,
        Err(error) => return note(&format!("halts are not to be seen: {error}")),
    };
    let found = body.get("halts").and_then(Value::as_array).into_iter().flatten();
    let Some(found) = found.into_iter().find(|h| h.get("halt").and_then(Value::as_str) == Some(halt)) else { return };
    note(&format!("{halt}: thrown by {} because: {}", text(found, "by"), text(found, "reason")));
    let named = text(found, "scope");
    let on = named.split_once(':').and_then(|(kind, text)| HaltTarget::of(kind, text));
    let environment = found.get("environment").and_then(Value::as_str).and_then(|e| EnvironmentId::new(e).ok());
    radius(client, &HaltScope { environment, on }, "would run again").await;
    note(&format!("to lift it: {}", text(found, "resume")));
}

async fn revoke(global: &Global, args: Revoke) -> Outcome {
    let client = Client::new(global)?;
    let now = when::now();
    let time = |flag, given: &Option<String>| given.as_deref().map(|t| when::parse(flag, t, now)).transpose();
    let selector = without_null(json!({
        "agent": args.agent, "credential": args.credential, "environment": global.environment,
        "from": time("--from", &args.from)?, "intent": args.intent, "member": args.member, "policy": args.policy,
        "to": time("--to", &args.to)?,
    }));
    let named = [&args.agent, &args.credential, &args.member, &args.intent, &args.policy, &global.environment];
    let name = named.into_iter().flatten().next().cloned().unwrap_or_else(|| client.tenant().to_owned());
    let count = json!({"selector": selector, "reason": "counting", "dry_run": true});
    if global.dry_run && !global.print_curl {
        let counted = client.call("POST", "revocations", Some(&count), &[]).await?.body;
        one(global.output, &counted);
        concerned(&counted, "would be");
        return Ok(ExitCode::Ok);
    }
    let reason = args
        .reason
        .ok_or_else(|| CliError::usage("why is it revoked?", "say it: --reason '…'; --dry-run only counts"))?;
    if !client.says_only() {
        if args.confirm.is_none() {
            concerned(&client.call("POST", "revocations", Some(&count), &[]).await?.body, "would be");
        }
        confirm::name(global, args.confirm.as_deref(), &name, "revoke tokens of")?;
    }
    let reply = client.change("revocations", &json!({"selector": selector, "reason": reason})).await?.body;
    one(global.output, &reply);
    concerned(&reply, "are");
    Ok(ExitCode::Ok)
}

fn concerned(counted: &Value, verb: &str) {
    if counted.get("tokens").is_none() {
        return note("they are revoked; how many there were could not be counted");
    }
    let least = if counted.get("at_least") == Some(&Value::Bool(true)) { " or more" } else { "" };
    note(&format!("{}{least} live tokens {verb} revoked", text(counted, "tokens")));
    for (agent, n) in counted.get("agents").and_then(Value::as_object).into_iter().flatten() {
        note(&format!("  {}  {n}", safe(agent)));
    }
}

async fn prepare(global: &Global, scope: Option<&str>, expires: &str, out: &Path) -> Outcome {
    let client = Client::new(global)?;
    let scope = scope_of(global, scope)?;
    if out.exists() {
        return Err(CliError::usage(
            format!("{}: it is there already", out.display()),
            "keys are not written over: name another file",
        ));
    }
    let until = when::now().plus_secs(when::seconds("--expires", expires)?);
    let body = without_null(json!({"environment": scope.environment, "on": scope.on, "expires_at": until}));
    let reply = client.change("emergency/break-glass", &body).await?.body;
    let kept = reply.get("file").map(|f| serde_json::to_string_pretty(f).unwrap_or_default()).unwrap_or_default();
    write_secret(out, &format!("{kept}\n"))?;
    let mut shown = reply;
    if let Some(members) = shown.as_object_mut() {
        members.insert("file".to_owned(), out.display().to_string().into());
    }
    one(global.output, &shown);
    note("whoever has this file can throw that halt, once: keep it where the server's trouble does not reach");
    note(&format!("next: intended emergency halt --glass {} --reason '…'", out.display()));
    Ok(ExitCode::Ok)
}

fn inspect(global: &Global, path: &Path, vkey: Option<&Path>) -> Outcome {
    let file: GlassFile = serde_json::from_slice(&read(path)?)
        .map_err(|e| CliError::Failed(format!("{}: {e}", path.display()), ExitCode::Invalid))?;
    let trusted = vkey.map(|path| std::fs::read_to_string(path).map_err(crate::error::file(path))).transpose()?;
    let by = trusted.as_deref().map_or(&*file.vkey, str::trim);
    let terms = match file.open(by) {
        Ok(terms) => terms,
        Err(error) => {
            one(global.output, &json!({"genuine": false, "why": error.detail}));
            return Ok(ExitCode::VerificationFailed);
        }
    };
    let expired = terms.expires_at <= when::now();
    one(
        global.output,
        &json!({
            "genuine": true, "signed_by": if trusted.is_some() { "the key that you gave" } else { "the key in the file" },
            "tenant": terms.tenant, "halts": terms.scope.to_string(), "credential": terms.credential,
            "prepared_at": terms.prepared_at.to_string(), "expires_at": terms.expires_at.to_string(), "expired": expired,
        }),
    );
    if trusted.is_none() {
        note("whose key that is was not checked: --vkey names the one that you trust");
    }
    note("whether it was used or taken back is known to the server alone");
    Ok(if expired { ExitCode::VerificationFailed } else { ExitCode::Ok })
}

async fn drill(global: &Global, kind: &str, intent: Option<&Path>) -> Outcome {
    let client = Client::new(global)?;
    let environment =
        global.environment.as_deref().ok_or_else(|| CliError::usage("which environment?", "name it: -e staging"))?;
    let sample: Option<Value> = match intent {
        None => None,
        Some(path) => Some(
            serde_json::from_slice(&read(path)?)
                .map_err(|e| CliError::Failed(format!("{}: {e}", path.display()), ExitCode::Invalid))?,
        ),
    };
    let body = without_null(json!({"drill": kind, "environment": environment, "intent": sample}));
    let report = client.change("drills", &body).await?.body;
    let steps = report.get("steps").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if global.output == Format::Table {
        let row = |step: &Value| {
            let passed = step.get("passed") == Some(&Value::Bool(true));
            let micros = step.get("micros").and_then(Value::as_u64).unwrap_or_default();
            let took = format!("{}.{:03} ms", micros / 1000, micros % 1000);
            vec![(if passed { "pass" } else { "FAIL" }).to_owned(), text(step, "step"), took, text(step, "detail")]
        };
        say(&table(&["", "step", "took", "what"], steps.iter().map(row).collect()));
    } else {
        one(global.output, &report);
    }
    if report.get("restored") != Some(&Value::Bool(true)) {
        let what = "THE DRILL COULD NOT PUT EVERYTHING BACK. See the last steps, and put it back by hand.";
        return Err(CliError::Failed(what.to_owned(), ExitCode::Usage));
    }
    let passed = report.get("passed") == Some(&Value::Bool(true));
    note(&format!("{}; recorded as ledger entry {}", if passed { "passed" } else { "FAILED" }, text(&report, "index")));
    Ok(if passed { ExitCode::Ok } else { ExitCode::TestsFailed })
}

/// The API is down: the halt goes into the ledger of the data directory, or to the process that holds it.
async fn direct(global: &Global, args: &Halt) -> Outcome {
    let dir = args.data_dir.as_deref().unwrap_or(Path::new("."));
    let glass = args.glass.as_deref().map(|path| glass(global, path)).transpose()?;
    let (key, scope, tenant) = match glass {
        Some((file, terms)) => (file.key, terms.scope, terms.tenant),
        None => {
            let key = match (&global.key_file, &global.api_key) {
                (Some(path), _) => std::fs::read_to_string(path).map_err(file(path))?.trim().to_owned(),
                (None, Some(key)) => key.clone(),
                (None, None) => {
                    return Err(CliError::usage(
                        "who throws it?",
                        "--key-file with an API key, or --glass with a break-glass file",
                    ));
                }
            };
            (key, scope_of(global, args.scope.as_deref())?, tenant(global, dir)?)
        }
    };
    let name = name_of(&tenant, &scope);
    if global.dry_run {
        one(
            global.output,
            &json!({"dry_run": true, "data_dir": dir.display().to_string(), "tenant": tenant, "scope": scope.to_string()}),
        );
        return Ok(ExitCode::Ok);
    }
    confirm::name(global, args.confirm.as_deref(), &name, "halt")?;
    let request = Request { asked_at: when::now(), key, reason: args.reason.clone(), scope, tenant };
    // Nothing is made where nothing was.
    ReadOnly::open(dir).map_err(|e| CliError::from(intended_runtime::RuntimeError::from(e)).about(dir))?;
    // Who has the lock has the ledger.
    let answer = match SqliteStore::open(dir, &intended_store_sqlite::Options { max_bytes: None, shared: false }) {
        Err(intended_store::StoreError::Locked(_)) => handed(dir, &request)?,
        Err(error) => return Err(CliError::from(intended_runtime::RuntimeError::from(error)).about(dir)),
        Ok(store) => {
            drop(store);
            let config = Config::read(dir)?;
            let runtime = reopen(dir, config.root_key(dir)?, &config.issuer, config.max_bytes).await?;
            let thrown = requests::throw(&runtime, &request).await;
            runtime.close().await?;
            note("no server runs on it: the halt was put into the ledger, and is in force when one starts");
            thrown.into()
        }
    };
    match answer {
        Answer::Thrown { halt, index, committed_ms, refused_ms } => {
            one(
                global.output,
                &json!({"halt": halt, "index": index, "scope": request.scope.to_string(), "name": name}),
            );
            thrown(&request.scope, Some(index), Some(committed_ms), refused_ms);
            Ok(ExitCode::Ok)
        }
        Answer::Refused { code, detail } => Err(CliError::from(intended_runtime::RuntimeError::new(code, detail))),
    }
}

/// Hands the halt to the process that holds the directory.
fn handed(dir: &Path, request: &Request) -> Result<Answer, CliError> {
    note("a process holds the data directory: the halt is handed to it");
    let mut random = [0; 8];
    intended_keyring::SystemRng::default().fill(&mut random).map_err(|e| CliError::Usage(e.to_string(), None))?;
    let name = intended_model::digest::hex(&random);
    requests::ask(dir, &name, request)?.ok_or_else(|| {
        CliError::Failed(
            format!(
                "NOT HALTED: the process that holds {} did not take the halt within {} s. It hangs: kill it (kill -9), \
                 then give this command again",
                dir.display(),
                requests::PATIENCE.as_secs()
            ),
            ExitCode::Unavailable,
        )
    })
}

/// Whose data it is: the only tenant there, or the one that is named.
fn tenant(global: &Global, dir: &Path) -> Result<TenantId, CliError> {
    let store = ReadOnly::open(dir).map_err(|e| CliError::from(intended_runtime::RuntimeError::from(e)).about(dir))?;
    let tenants = store.tenants().map_err(|e| CliError::from(intended_runtime::RuntimeError::from(e)).about(dir))?;
    match tenants.as_slice() {
        [only] => Ok(only.clone()),
        _ => TenantId::new(&global.tenant).map_err(|e| CliError::Usage(format!("--tenant: {e}"), None)),
    }
}
