//! `token test|inspect|verify`.

use base64::Engine as _;
use intended_model::{ExitCode, Timestamp};
use intended_token::{Binding, Expectations, JwkSet, KeySet, Verifier};
use serde_json::{Value, json};

use super::{Outcome, exit_of, read};
use crate::args::{Format, Global, Token};
use crate::client::Client;
use crate::error::CliError;
use crate::output::{list, one, say, table};

pub async fn run(global: &Global, args: Token) -> Outcome {
    match args {
        Token::Inspect { file } => {
            let token = text(&read(&file)?);
            one(global.output, &claims(&token)?);
            eprintln!("not verified: anyone can write this");
            Ok(ExitCode::Ok)
        }
        Token::Keys => {
            let keys = Client::new(global)?.get("jwks.json").await?;
            // A document, and of use to other programs only.
            one(if global.output == Format::Table { Format::Json } else { global.output }, &keys);
            Ok(ExitCode::Ok)
        }
        Token::Verify { file, intent_hash, audience, consume, offline, jwks } => {
            let token = text(&read(&file)?);
            if offline || jwks.is_some() {
                let keys = match jwks {
                    Some(path) => serde_json::from_slice(&read(&path)?)
                        .map_err(|e| CliError::Failed(format!("{}: {e}", path.display()), ExitCode::Invalid))?,
                    None => public_keys(&Client::new(global)?).await?,
                };
                let audience = audience.unwrap_or_else(|| "intended".to_owned());
                let verdict = verify_offline(&keys, &global.tenant, &token, &audience, &intent_hash)?;
                let refusal = verdict.as_ref().err();
                one(
                    global.output,
                    &without_null(json!({"active": verdict.is_ok(), "single_use": "not_checked", "refusal": refusal})),
                );
                return Ok(if verdict.is_ok() { ExitCode::Ok } else { ExitCode::VerificationFailed });
            }
            let client = Client::new(global)?;
            let body = json!({"token": token, "environment": global.environment, "audience": audience, "intent_hash": intent_hash, "consume": consume});
            let verdict = client.call("POST", "tokens/verify", Some(&without_null(body)), &[]).await?.body;
            one(global.output, &verdict);
            Ok(if verdict.get("active") == Some(&Value::Bool(true)) {
                ExitCode::Ok
            } else {
                ExitCode::VerificationFailed
            })
        }
        Token::Test { file } => {
            let client = Client::new(global)?;
            let decision = client.call_raw("POST", "intents", Some(&read(&file)?), &[]).await?.body;
            let Some(token) = decision.get("token").and_then(Value::as_str) else {
                eprintln!("the intent was not allowed: {}", decision.get("reason").unwrap_or(&Value::Null));
                return Ok(exit_of(&decision));
            };
            let checks = check(&client, &decision, token).await?;
            show_checks(global.output, &checks);
            Ok(if checks.iter().all(|(_, held, _)| *held) { ExitCode::Ok } else { ExitCode::VerificationFailed })
        }
    }
}

/// What [`check`] found: a line each, or as data.
pub fn show_checks(format: Format, checks: &[Check]) {
    if format != Format::Table {
        return list(format, &checks.iter().map(check_value).collect::<Vec<_>>(), &[]);
    }
    let word = |held: bool| (if held { "pass" } else { "FAIL" }).to_owned();
    say(&table(&[], checks.iter().map(|(n, held, w)| vec![word(*held), (*n).to_owned(), w.clone()]).collect()));
}

/// One check as data.
pub fn check_value((name, held, what): &Check) -> Value {
    json!({"check": name, "held": held, "detail": what})
}

/// Drops members that are null.
pub fn without_null(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, v| !v.is_null());
    }
    value
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// The claims as they stand in the token.
pub fn claims(token: &str) -> Result<Value, CliError> {
    let wrong =
        || CliError::Failed("this is not a token: it has three parts with dots between".to_owned(), ExitCode::Invalid);
    let payload = token.split('.').nth(1).ok_or_else(wrong)?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).map_err(|_| wrong())?;
    serde_json::from_slice(&bytes).map_err(|_| wrong())
}

async fn public_keys(client: &Client) -> Result<JwkSet, CliError> {
    serde_json::from_value(client.get("jwks.json").await?)
        .map_err(|e| CliError::Failed(e.to_string(), ExitCode::VerificationFailed))
}

/// Verifies with the public keys alone.
fn verify_offline(
    set: &JwkSet,
    tenant: &str,
    token: &str,
    audience: &str,
    intent_hash: &str,
) -> Result<Result<(), String>, CliError> {
    let unverified = claims(token)?;
    let claim = |name: &str| unverified.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let keys = KeySet::from_jwks(set).map_err(|e| CliError::Failed(e.to_string(), ExitCode::VerificationFailed))?;
    let hash = intent_hash
        .parse()
        .map_err(|_| CliError::usage("--intent-hash: not a digest", "it is written sha256:<64 hex digits>"))?;
    // Issuer and environment are taken as they are claimed: they are shown, and the key vouches for them.
    let expect = Expectations {
        issuer: claim("iss"),
        audience: audience.to_owned(),
        tenant: tenant.to_owned(),
        environment: claim("env"),
    };
    let verifier = Verifier { keys: &keys, expect, revocations: None };
    Ok(verifier.verify(token, &Binding::IntentHash(hash), now()).map(drop).map_err(|r| format!("{}: {r}", r.code())))
}

/// What was checked, whether it held, and the detail.
pub type Check = (&'static str, bool, String);

/// Local verification, consumption, refused replay, inclusion: of an allowed decision.
pub async fn check(client: &Client, decision: &Value, token: &str) -> Result<Vec<Check>, CliError> {
    let mut out = Vec::new();
    let hash = decision.get("effective_intent_hash").or_else(|| decision.get("intent_hash"));
    let hash = hash.and_then(Value::as_str).unwrap_or_default();
    let environment = decision.get("environment").cloned().unwrap_or_default();
    let claims = claims(token)?;
    let audience = claims.get("aud").and_then(Value::as_str).unwrap_or_default().to_owned();
    let keys = public_keys(client).await?;
    let offline = verify_offline(&keys, client.tenant(), token, &audience, hash)?;
    out.push((
        "offline",
        offline.is_ok(),
        offline
            .err()
            .unwrap_or_else(|| "signature, times and binding hold; single use is not checked offline".to_owned()),
    ));
    let body =
        json!({"token": token, "environment": environment, "audience": audience, "intent_hash": hash, "consume": true});
    let first = client.call("POST", "tokens/verify", Some(&body), &[]).await?.body;
    let consumed = first.get("active") == Some(&Value::Bool(true));
    out.push(("consume", consumed, format!("ledger entry {}", first.get("consumed_index").unwrap_or(&Value::Null))));
    let again = client.call("POST", "tokens/verify", Some(&body), &[]).await?.body;
    let refusal = again.get("refusal").and_then(Value::as_str).unwrap_or_default();
    out.push(("replay", refusal == "token.consumed", format!("refused with {refusal}")));
    let vkey = client.get("audit/checkpoint").await?.get("vkey").and_then(Value::as_str).unwrap_or_default().to_owned();
    let receipt: Option<intended_ledger::Receipt> =
        decision.get("receipt").and_then(|r| serde_json::from_str(&r.to_string()).ok());
    let proved = receipt.map(|r| r.verify(&vkey));
    let (held, what) = match proved {
        Some(Ok(p)) => (true, format!("entry {} of {}", p.index, p.size)),
        Some(Err(e)) => (false, e.to_string()),
        None => (false, "no receipt".to_owned()),
    };
    out.push(("inclusion", held, what));
    Ok(out)
}

#[expect(clippy::disallowed_methods, reason = "the command's own clock")]
pub(super) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
