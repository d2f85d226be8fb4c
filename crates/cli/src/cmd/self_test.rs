//! `token test` without a file: the self-test, step by step, in each environment that the credential may
//! test. The runtime decides and signs; whether the token, its single use and its proof hold is seen
//! here, with public keys.

use std::path::Path;

use intended_ledger::Receipt;
use intended_model::{Class, Code, ExitCode};
use intended_runtime::metrics::Stopwatch;
use intended_token::JwkSet;
use serde_json::{Value, json};

use super::token::{Offline, claims, public_keys};
use super::{Outcome, exit_of, trusted_key};
use crate::args::Format;
use crate::client::Client;
use crate::config::Global;
use crate::error::CliError;
use crate::output::{list, note, say, table};

/// One step, in the order in which they are done.
struct Step {
    name: &'static str,
    held: bool,
    took_ms: f64,
    detail: String,
}

/// What was seen in one environment.
struct Tested {
    environment: String,
    decision: Value,
    steps: Vec<Step>,
    exit: ExitCode,
    /// What to do, where something is wrong.
    hint: String,
}

/// What is known before anything is asked for.
struct Known {
    tenant: String,
    keys: JwkSet,
    vkey: String,
}

pub async fn run(global: &Global, vkey: Option<&Path>) -> Outcome {
    let client = Client::new(global)?;
    if client.says_only() {
        let asked = global.environment.as_ref().map_or_else(|| json!({}), |e| json!({"environment": e}));
        client.change("tokens/test", &asked).await?;
    }
    let trusted = trusted_key(vkey)?;
    let places = environments(global, &client).await?;
    let known = Known {
        tenant: client.tenant().to_owned(),
        keys: public_keys(&client).await?,
        vkey: match &trusted {
            Some(key) => key.clone(),
            None => servers_key(&client).await?,
        },
    };
    let mut all = Vec::new();
    for environment in places {
        let tested = test(&client, &known, environment).await?;
        if global.output == Format::Table {
            show(&tested, !all.is_empty());
        }
        all.push(tested);
    }
    if global.output != Format::Table {
        list(global.output, &all.iter().map(value).collect::<Vec<_>>(), &[]);
    }
    if trusted.is_none() {
        note(
            "the ledger's key is the server's own word: with --vkey and the key you know, the proof is of your ledger",
        );
    }
    // Of several environments, what is worst: something does not hold, before what is stopped or denied.
    let exits = || all.iter().map(|t| t.exit);
    let worst = [ExitCode::VerificationFailed, ExitCode::Unavailable, ExitCode::Halted, ExitCode::Deny];
    let worst = worst.into_iter().find(|w| exits().any(|e| e == *w));
    Ok(worst.or_else(|| exits().find(|e| *e != ExitCode::Ok)).unwrap_or(ExitCode::Ok))
}

/// Those that the credential may test, or the one that is named. What it may not test is refused by the
/// server, which says what is missing, before anything else is asked for.
async fn environments(global: &Global, client: &Client) -> Result<Vec<String>, CliError> {
    let who = client.get("session").await?;
    let scope = intended_model::entry::Scope::TokenTest.as_str();
    let may = |held: &&Value| {
        held.get("scopes").and_then(Value::as_array).is_some_and(|scopes| scopes.iter().any(|s| s == scope))
    };
    let held = who.get("environments").and_then(Value::as_array).into_iter().flatten();
    let mut found: Vec<String> =
        held.filter(may).filter_map(|h| Some(h.get("environment")?.as_str()?.to_owned())).collect();
    let asked = match &global.environment {
        Some(named) => {
            found.retain(|environment| environment == named);
            json!({"environment": named})
        }
        None => json!({}),
    };
    if found.is_empty() {
        client.call("POST", "tokens/test", Some(&asked), &[]).await?;
    }
    Ok(found)
}

async fn servers_key(client: &Client) -> Result<String, CliError> {
    match client.get("audit/checkpoint").await {
        Ok(checkpoint) => Ok(checkpoint.get("vkey").and_then(Value::as_str).unwrap_or_default().to_owned()),
        Err(error) if error.is(Code::ScopeMissing.as_str()) || error.is(Code::EnvironmentForbidden.as_str()) => {
            Err(CliError::usage(
                "the proof cannot be checked: the ledger's public key is not known",
                "give it with --vkey FILE, or use a credential that has audit:read as well",
            ))
        }
        Err(error) => Err(error),
    }
}

/// Takes the time of each step.
struct Steps {
    steps: Vec<Step>,
    watch: Stopwatch,
}

impl Steps {
    fn add(&mut self, name: &'static str, held: bool, detail: impl Into<String>) {
        let took_ms = (self.watch.lap().as_secs_f64() * 100_000.0).round() / 100.0;
        self.steps.push(Step { name, held, took_ms, detail: detail.into() });
    }
}

async fn test(client: &Client, known: &Known, environment: String) -> Result<Tested, CliError> {
    let mut steps = Steps { steps: Vec::new(), watch: Stopwatch::start() };
    let asked = json!({"environment": environment});
    let decision = match client.call("POST", "tokens/test", Some(&asked), &[]).await {
        Ok(reply) => reply.body,
        // A halt that came between decision and token, a key that is sealed, a disk that is full.
        Err(CliError::Refused {
            code,
            title,
            detail,
            hint,
            exit: exit @ (ExitCode::Halted | ExitCode::Unavailable),
            ..
        }) => {
            steps.add("decision", false, format!("{code}: {title}{detail}"));
            return Ok(Tested { environment, decision: Value::Null, steps: steps.steps, exit, hint });
        }
        Err(error) => return Err(error),
    };
    let text = |name: &str| decision.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let reason = text("reason");
    let Some(token) = decision.get("token").and_then(Value::as_str) else {
        steps.add("decision", false, format!("{} ({reason}){}", text("decision"), objection(&decision)));
        let hint = reason.parse::<Code>().map_or("", Code::hint).to_owned();
        let exit = exit_of(&decision);
        return Ok(Tested { environment, steps: steps.steps, exit, hint, decision });
    };
    steps.add("decision", true, format!("{} ({reason}), recorded before the token was signed", text("decision")));
    // A server that stops answering half-way fails that step: what was seen before it is told all the same.
    if let Err(error) = checks(&mut steps, client, known, &decision, token).await {
        steps.add("goes on", false, error.to_string());
        let hint = error.hint().unwrap_or_default();
        return Ok(Tested { environment, steps: steps.steps, exit: error.exit(), hint, decision });
    }
    let held = steps.steps.iter().all(|s| s.held);
    let (exit, hint) = if held {
        (ExitCode::Ok, String::new())
    } else {
        let hint = "No token of this environment is to be relied on until this is understood: `intended health check`, then `intended audit verify`.";
        (ExitCode::VerificationFailed, hint.to_owned())
    };
    Ok(Tested { environment, steps: steps.steps, exit, hint, decision })
}

/// What the first gate that denied has to say.
fn objection(decision: &Value) -> String {
    let gates = decision.get("gates").and_then(Value::as_array).into_iter().flatten();
    let denied = gates.into_iter().find(|g| g.get("outcome").is_some_and(|o| o == "deny"));
    let text = |name: &str| denied.and_then(|g| g.get(name)).and_then(Value::as_str).unwrap_or_default();
    match (text("gate"), text("detail")) {
        ("", _) => String::new(),
        (gate, "") => format!(" at the gate {gate}"),
        (gate, detail) => format!(" at the gate {gate}: {detail}"),
    }
}

async fn checks(
    steps: &mut Steps,
    client: &Client,
    known: &Known,
    decision: &Value,
    token: &str,
) -> Result<(), CliError> {
    let text = |name: &str| decision.get(name).and_then(Value::as_str).unwrap_or_default();
    let (environment, hash) = (text("environment"), text("intent_hash"));
    let claimed = claims(token)?;
    let claim = |name: &str| claimed.get(name).and_then(Value::as_str).unwrap_or_default();
    // That it is the fixed intent is computed here, not read.
    let own = environment.parse().ok().and_then(|e| intended_model::synthetic::intent(e).digest().ok());
    let marked = claim("class") == Class::Synthetic.as_str() && claim("aud") == intended_model::synthetic::NAME;
    let same = own.is_some_and(|own| own.to_string() == hash);
    let what = match (marked, same) {
        (true, true) => "marked as a self-test's, for no enforcement point and no call",
        (false, _) => "not marked as a self-test's",
        (true, false) => "of another intent than the self-test",
    };
    steps.add("token", marked && same, what);

    let offline = |class| Offline {
        class,
        tenant: &known.tenant,
        environment: Some(environment),
        audience: Some(intended_model::synthetic::NAME),
        issuer: None,
        intent_hash: hash,
        max_age: None,
    };
    let verdict = offline(Class::Synthetic).run(&known.keys, token, None)?;
    let held = verdict.get("active") == Some(&Value::Bool(true));
    let message = verdict.get("message").and_then(Value::as_str).unwrap_or_default();
    steps.add(
        "verified here",
        held,
        if held { "signature, times and binding, with the public keys alone" } else { message },
    );

    let verdict = offline(Class::Traffic).run(&known.keys, token, None)?;
    let refusal = verdict.get("refusal").and_then(Value::as_str).unwrap_or("nothing");
    let refused = refusal == intended_token::Refusal::Class.code();
    steps.add("useless elsewhere", refused, format!("for a real call it is refused with {refusal}"));

    let body = json!({
        "token": token, "class": Class::Synthetic, "environment": environment, "intent_hash": hash, "consume": true,
    });
    let first = client.call("POST", "tokens/verify", Some(&body), &[]).await?.body;
    let used = first.get("active") == Some(&Value::Bool(true));
    let what = match (used, first.get("consumed_index")) {
        (true, Some(index)) => format!("ledger entry {index}"),
        _ => format!("refused with {}", first.get("refusal").and_then(Value::as_str).unwrap_or("nothing")),
    };
    steps.add("used once", used, what);

    let again = client.call("POST", "tokens/verify", Some(&body), &[]).await?.body;
    let refusal = again.get("refusal").and_then(Value::as_str).unwrap_or("nothing");
    let refused = refusal == intended_token::Refusal::Consumed.code();
    steps.add("not twice", refused, format!("refused with {refusal}"));

    let receipt: Option<Receipt> = decision.get("receipt").and_then(|r| serde_json::from_str(&r.to_string()).ok());
    let (held, what) = match receipt.map(|r| r.verify(&known.vkey)) {
        Some(Ok(p)) => (true, format!("entry {} is in the signed tree of {}", p.index, p.size)),
        Some(Err(e)) => (false, e.to_string()),
        None => (false, "there is no receipt".to_owned()),
    };
    steps.add("in the ledger", held, what);
    Ok(())
}

fn show(tested: &Tested, more: bool) {
    let text = |name: &str| tested.decision.get(name).and_then(Value::as_str).unwrap_or_default();
    let verdict = match tested.exit {
        ExitCode::Ok => "works",
        ExitCode::Halted => "halted",
        ExitCode::Deny => "denied",
        _ => "FAILS",
    };
    let place = &tested.environment;
    let intent = if text("id").is_empty() { String::new() } else { format!("  intent {}", text("id")) };
    say(&format!("{}{place}: {verdict}{intent}", if more { "\n" } else { "" }));
    let word = |held: bool| (if held { "pass" } else { "FAIL" }).to_owned();
    let rows = tested
        .steps
        .iter()
        .map(|s| vec![word(s.held), s.name.to_owned(), format!("{:.1} ms", s.took_ms), s.detail.clone()]);
    say(&table(&[], rows.collect()));
    if !tested.hint.is_empty() {
        note(&format!("{place}: {}", tested.hint));
    }
}

fn value(tested: &Tested) -> Value {
    let steps =
        tested.steps.iter().map(|s| json!({"step": s.name, "held": s.held, "took_ms": s.took_ms, "detail": s.detail}));
    let member = |name: &str| tested.decision.get(name).cloned().unwrap_or(Value::Null);
    json!({
        "environment": tested.environment,
        "passed": tested.exit == ExitCode::Ok,
        "exit_code": tested.exit as u8,
        "intent": member("id"),
        "decision": member("decision"),
        "reason": member("reason"),
        "hint": tested.hint,
        "steps": steps.collect::<Vec<_>>(),
    })
}
