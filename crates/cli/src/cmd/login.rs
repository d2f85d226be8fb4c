//! `login`, `logout`, `whoami`.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::Path;

use intended_model::ExitCode;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Outcome, encode, read};
use crate::args::{Format, Login};
use crate::client::Client;
use crate::config::Global;
use crate::error::{CliError, file};
use crate::output::{note, one, say};
use crate::session::{self, Kept};

mod provider;

type Clear = Zeroizing<String>;

/// Where secrets come from: a terminal without an echo, or line by line from stdin or a file.
enum Source {
    Terminal,
    Stdin,
    Lines(std::vec::IntoIter<Clear>),
}

impl Source {
    fn new(global: &Global, path: Option<&Path>) -> Result<Self, CliError> {
        if let Some(path) = path.filter(|p| *p != Path::new("-")) {
            let text = Zeroizing::new(read(path)?);
            let text = std::str::from_utf8(&text).map_err(|_| CliError::Usage("a password is UTF-8".into(), None))?;
            let lines: Vec<Clear> = text.lines().map(|l| Zeroizing::new(l.to_owned())).collect();
            return Ok(Self::Lines(lines.into_iter()));
        }
        let terminal = path.is_none() && !global.no_input && std::io::stdin().is_terminal();
        Ok(if terminal { Self::Terminal } else { Self::Stdin })
    }
    fn next(&mut self, what: &str) -> Result<Clear, CliError> {
        let line = match self {
            Self::Terminal => {
                let typed = rpassword::prompt_password(format!("{what}: ")).map_err(file(Path::new("the terminal")))?;
                Some(Zeroizing::new(typed))
            }
            Self::Stdin => {
                let mut line = Zeroizing::new(String::new());
                std::io::stdin().lock().read_line(&mut line).map_err(file(Path::new("stdin")))?;
                Some(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned()))
            }
            Self::Lines(lines) => lines.next(),
        };
        line.filter(|l| !l.is_empty())
            .ok_or_else(|| CliError::usage(format!("there is no {what}"), "it has a line of its own"))
    }
}

pub async fn login(global: &Global, args: Login) -> Outcome {
    // Whoever signs in is nobody yet.
    let client = Client::new(&Global { key_file: None, api_key: None, ..global.clone() })?;
    if client.says_only() {
        // What would be sent, without what nobody is to see.
        let (path, body) = match (&args.member, &args.provider) {
            (_, Some(provider)) => (format!("identity-providers/{}/begin", encode(provider)), json!({})),
            (Some(member), _) => ("sessions".to_owned(), json!({"member": member, "password": "…"})),
            (None, None) => ("sessions".to_owned(), json!({"link": "…"})),
        };
        client.change(&path, &body).await?;
        return Ok(ExitCode::Ok);
    }
    let begun = match &args.provider {
        Some(provider) => provider::sign_in(&client, provider).await?,
        None => {
            let mut source = Source::new(global, args.password_file.as_deref())?;
            let mut body = match &args.member {
                Some(member) => json!({"member": member, "password": source.next("password")?.as_str()}),
                None => json!({"link": source.next("code of the invitation")?.as_str()}),
            };
            let begun = match client.call("POST", "sessions", Some(&body), &[]).await {
                Err(error) if error.is("sign_in.second_factor") => {
                    let code = source.next("code of the authenticator")?;
                    if let Some(members) = body.as_object_mut() {
                        members.insert("code".to_owned(), code.as_str().into());
                    }
                    client.call("POST", "sessions", Some(&body), &[]).await?.body
                }
                other => other?.body,
            };
            if args.link {
                set_password(global, &begun, &mut source).await?;
            }
            begun
        }
    };
    keep(global, &begun)
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What an invitation is for.
async fn set_password(global: &Global, begun: &Value, source: &mut Source) -> Result<(), CliError> {
    let signed_in = Client::new(&Global { key_file: None, api_key: Some(text(begun, "key")), ..global.clone() })?;
    let path = format!("members/{}/password", encode(&text(begun, "member")));
    loop {
        let password = source.next("new password (12 to 128 characters)")?;
        if matches!(source, Source::Terminal) && *source.next("once more")? != *password {
            note("these are two passwords");
            continue;
        }
        match signed_in.call("PUT", &path, Some(&json!({"password": password.as_str()})), &[]).await {
            Err(error) if error.is("sign_in.weak") && matches!(source, Source::Terminal) => note(&error.to_string()),
            other => return other.map(drop),
        }
    }
}

fn keep(global: &Global, begun: &Value) -> Outcome {
    let path = place(global)?;
    let kept = Kept {
        server: global.server.clone(),
        tenant: global.tenant.clone(),
        member: text(begun, "member"),
        expires_at: text(begun, "expires_at"),
        key: text(begun, "key"),
    };
    session::keep(path, &kept)?;
    match global.output {
        Format::Table => note(&format!("signed in as `{}` until {}", kept.member, kept.expires_at)),
        format => one(
            format,
            &json!({"member": kept.member, "expires_at": kept.expires_at, "session_file": path.display().to_string()}),
        ),
    }
    if global.has_other_key {
        note("note: INTENDED_API_KEY or --key-file stands before the session");
    }
    Ok(ExitCode::Ok)
}

fn place(global: &Global) -> Result<&Path, CliError> {
    global.session_file.as_deref().ok_or_else(|| {
        CliError::usage("there is no place for the session", "set XDG_CONFIG_HOME or HOME; a profile's name is plain")
    })
}

pub async fn logout(global: &Global) -> Outcome {
    let path = place(global)?;
    let Some(kept) = session::read(path).filter(|k| k.server == global.server && k.tenant == global.tenant) else {
        return Err(CliError::usage("nobody is signed in here", "sign in: intended login --member NAME"));
    };
    let client = Client::new(&Global { key_file: None, api_key: Some(kept.key), ..global.clone() })?;
    client.would("DELETE", "sessions/current", &Value::Null)?;
    match client.call("DELETE", "sessions/current", None, &[]).await {
        // It has ended before.
        Err(CliError::Refused { exit: ExitCode::Auth, .. }) | Ok(_) => {}
        Err(error) => return Err(error),
    }
    session::forget(path)?;
    match global.output {
        Format::Table => note(&format!("`{}` is signed out", kept.member)),
        format => one(format, &json!({"member": kept.member, "signed_out": true})),
    }
    Ok(ExitCode::Ok)
}

pub async fn whoami(global: &Global) -> Outcome {
    let who = Client::new(global)?.get("session").await?;
    if global.output != Format::Table {
        one(global.output, &who);
        return Ok(ExitCode::Ok);
    }
    let words = |value: Option<&Value>| -> String {
        let all = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
    };
    let mut rows = vec![vec!["acts as".to_owned(), format!("{} in {}", text(&who, "acts_as"), text(&who, "tenant"))]];
    for grant in who.get("grants").and_then(Value::as_array).into_iter().flatten() {
        let place = if grant.get("whole") == Some(&Value::Bool(true)) {
            "the whole tenant".to_owned()
        } else {
            words(grant.get("environments"))
        };
        rows.push(vec!["role".to_owned(), format!("{} in {place}", text(grant, "role"))]);
    }
    for held in who.get("environments").and_then(Value::as_array).into_iter().flatten() {
        rows.push(vec![text(held, "environment"), words(held.get("scopes"))]);
    }
    for (name, what) in [("signed in by", "method"), ("until", "expires_at")] {
        if who.get(what).is_some() {
            rows.push(vec![name.to_owned(), text(&who, what)]);
        }
    }
    say(&crate::output::table(&["", ""], rows));
    Ok(ExitCode::Ok)
}
