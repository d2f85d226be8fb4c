//! `token test|inspect|verify`.

use base64::Engine as _;
use intended_model::{Class, ExitCode};
use intended_token::{Binding, Expectations, JwkSet, KeySet, RevocationList, Verifier};
use serde_json::{Value, json};

use super::{Outcome, encode, exit_of, intent, read, self_test};
use crate::args::{Format, Token};
use crate::client::Client;
use crate::config::Global;
use crate::error::CliError;
use crate::output::{list, note, one, say, table};
use crate::when;

pub async fn run(global: &Global, args: Token) -> Outcome {
    match args {
        Token::Inspect { file } => {
            let token = text(&read(&file)?);
            one(global.output, &claims(&token)?);
            note("not verified: anyone can write this");
            Ok(ExitCode::Ok)
        }
        Token::Keys => {
            let keys = Client::new(global)?.get("jwks.json").await?;
            // A document, and of use to other programs only.
            one(if global.output == Format::Table { Format::Json } else { global.output }, &keys);
            Ok(ExitCode::Ok)
        }
        Token::Revocations => {
            let client = Client::new(global)?;
            let environment = global
                .environment
                .as_deref()
                .ok_or_else(|| CliError::usage("which environment?", "name it: -e production"))?;
            let list = client.text(&format!("revocations?environment={}", encode(environment))).await?;
            match global.output {
                Format::Table => say(list.trim()),
                format => one(format, &json!({"revocations": list.trim()})),
            }
            Ok(ExitCode::Ok)
        }
        Token::Revoke { file, reason } => {
            let claims = claims(&text(&read(&file)?))?;
            let claim = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let path = format!("tokens/{}/revoke", encode(&claim("jti")));
            let body = json!({"intent": claim("txn"), "reason": reason});
            one(global.output, &Client::new(global)?.change(&path, &body).await?.body);
            Ok(ExitCode::Ok)
        }
        Token::Verify { file, intent_hash, audience, issuer, consume, offline, jwks, revocations, max_age } => {
            let token = text(&read(&file)?);
            if offline || jwks.is_some() {
                let check = Offline {
                    class: Class::Traffic,
                    tenant: &global.tenant,
                    environment: global.environment.as_deref(),
                    audience: audience.as_deref(),
                    issuer: issuer.as_deref(),
                    intent_hash: &intent_hash,
                    max_age,
                };
                let verdict = match jwks {
                    Some(path) => {
                        let keys = serde_json::from_slice(&read(&path)?)
                            .map_err(|e| CliError::Failed(format!("{}: {e}", path.display()), ExitCode::Invalid))?;
                        let list = revocations.map(|path| read(&path).map(|b| text(&b))).transpose()?;
                        check.run(&keys, &token, list.as_deref())?
                    }
                    None => {
                        let client = Client::new(global)?;
                        let keys = public_keys(&client).await?;
                        let list = revocation_list(&client, global, &token).await?;
                        check.run(&keys, &token, list.as_deref())?
                    }
                };
                one(global.output, &verdict);
                return Ok(exit_of_verdict(&verdict));
            }
            let client = Client::new(global)?;
            let body = without_null(
                json!({"token": token, "environment": global.environment, "audience": audience, "intent_hash": intent_hash, "consume": consume}),
            );
            // Before it is used up. That the claim is genuine is what the server is asked.
            if let Some(issuer) = issuer
                && claims(&token)?.get("iss").and_then(Value::as_str) != Some(issuer.as_str())
            {
                let refusal = intended_token::Refusal::Issuer;
                let verdict = json!({"active": false, "refusal": refusal.code(), "message": refusal.to_string()});
                one(global.output, &verdict);
                return Ok(ExitCode::VerificationFailed);
            }
            if consume {
                client.would("POST", "tokens/verify", &body)?;
            }
            let verdict = client.call("POST", "tokens/verify", Some(&body), &[]).await?.body;
            one(global.output, &verdict);
            Ok(exit_of_verdict(&verdict))
        }
        Token::Test { file: None, vkey } => self_test::run(global, vkey.as_deref()).await,
        Token::Test { file: Some(file), .. } => {
            let client = Client::new(global)?;
            let body = intent::body(global, &file)?;
            client.would("POST", "intents", &serde_json::from_slice(&body).unwrap_or_default())?;
            let decision = client.call_raw("POST", "intents", Some(&body), &[]).await?.body;
            let Some(token) = decision.get("token").and_then(Value::as_str) else {
                let reason = decision.get("reason").and_then(Value::as_str).unwrap_or_default();
                note(&format!("the intent was not allowed, so there is no token to test: {reason}"));
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

pub async fn public_keys(client: &Client) -> Result<JwkSet, CliError> {
    serde_json::from_value(client.get("jwks.json").await?)
        .map_err(|e| CliError::Failed(e.to_string(), ExitCode::VerificationFailed))
}

/// The revocation list as the server has it, if this credential may have it.
async fn revocation_list(client: &Client, global: &Global, token: &str) -> Result<Option<String>, CliError> {
    let claimed = claims(token)?.get("env").and_then(Value::as_str).unwrap_or_default().to_owned();
    let environment = global.environment.as_deref().unwrap_or(&claimed);
    match client.text(&format!("revocations?environment={}", encode(environment))).await {
        Ok(list) => Ok(Some(list.trim().to_owned())),
        Err(CliError::Refused { code, title, .. }) => {
            note(&format!("the server gives no revocation list ({code}: {title})"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn exit_of_verdict(verdict: &Value) -> ExitCode {
    if verdict.get("active") == Some(&Value::Bool(true)) { ExitCode::Ok } else { ExitCode::VerificationFailed }
}

/// Verification with public keys and what else is at hand.
pub struct Offline<'a> {
    /// Of what the token must be.
    pub class: Class,
    pub tenant: &'a str,
    pub environment: Option<&'a str>,
    pub audience: Option<&'a str>,
    pub issuer: Option<&'a str>,
    pub intent_hash: &'a str,
    /// Oldest list that is relied on, in seconds.
    pub max_age: Option<i64>,
}

impl Offline<'_> {
    /// The verdict, and with it what was not checked: a token that stands offline may still have
    /// been used, revoked or overtaken by a halt.
    pub fn run(&self, set: &JwkSet, token: &str, list: Option<&str>) -> Result<Value, CliError> {
        let unverified = claims(token)?;
        let claim = |name: &str| unverified.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let keys = KeySet::from_jwks(set).map_err(|e| CliError::Failed(e.to_string(), ExitCode::VerificationFailed))?;
        let hash = self
            .intent_hash
            .parse()
            .map_err(|_| CliError::usage("--intent-hash: not a digest", "it is written sha256:<64 hex digits>"))?;
        let mut checked = vec!["signature", "times", "audience", "tenant", "intent_hash"];
        let mut not_checked = Vec::new();
        // What nobody has said is taken as it is claimed, and named as not checked.
        let mut expect = |what: &'static str, name: &str, given: Option<&str>| match given {
            Some(given) => {
                checked.push(what);
                given.to_owned()
            }
            None => {
                not_checked.push(what);
                claim(name)
            }
        };
        let expect = Expectations {
            environment: expect("environment", "env", self.environment),
            issuer: expect("issuer", "iss", self.issuer),
            audience: self.audience.unwrap_or("intended").to_owned(),
            tenant: self.tenant.to_owned(),
        };
        let list = list.map(|list| RevocationList::open(list, &expect.issuer, &keys)).transpose();
        if matches!(list, Ok(None)) { &mut not_checked } else { &mut checked }.extend(["revocations", "halts"]);
        not_checked.push("single_use");
        let bounded = |list: RevocationList| match self.max_age {
            Some(seconds) => list.not_older_than(seconds),
            None => list,
        };
        let verdict = list.map_err(|r| ("the revocation list: ", r)).and_then(|list| {
            let list = list.map(bounded);
            let verifier = Verifier { keys: &keys, expect, revocations: list.as_ref() };
            verifier.verify_class(self.class, token, &Binding::IntentHash(hash), when::now()).map_err(|r| ("", r))
        });
        Ok(match verdict {
            Ok(accepted) => json!({
                "active": true, "single_use": "not_checked", "revocations": accepted.revocations.to_string(),
                "halts": accepted.halts.to_string(), "checked": checked, "not_checked": not_checked,
            }),
            Err((of, refusal)) => {
                json!({"active": false, "refusal": refusal.code(), "message": format!("{of}{refusal}")})
            }
        })
    }
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
    let check = Offline {
        class: Class::Traffic,
        tenant: client.tenant(),
        environment: environment.as_str(),
        audience: Some(&audience),
        issuer: None,
        intent_hash: hash,
        max_age: None,
    };
    let offline = check.run(&keys, token, None)?;
    let held = offline.get("active") == Some(&Value::Bool(true));
    let message = offline.get("message").and_then(Value::as_str).unwrap_or_default();
    out.push((
        "offline",
        held,
        if held {
            "signature, times and binding hold; single use is not checked offline".to_owned()
        } else {
            message.to_owned()
        },
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
