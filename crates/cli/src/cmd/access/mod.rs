//! `access`. One file per noun.

use std::path::Path;

use intended_model::{ExitCode, Timestamp};
use serde_json::{Value, json};

use super::Outcome;
use crate::args::{Access, Format};
use crate::client::Client;
use crate::config::Global;
use crate::error::CliError;
use crate::output::{note, one, safe, say};
use crate::when;

mod agents;
mod credentials;
mod invite;
mod members;
mod review;

pub async fn run(global: &Global, args: Access) -> Outcome {
    match args {
        Access::Members(args) => members::run(global, args).await,
        Access::Roles => roles(global).await,
        Access::Credentials(args) => credentials::run(global, args).await,
        Access::Agents(args) => agents::run(global, args).await,
        Access::Review(args) => review::run(global, args).await,
    }
}

/// The table of roles.
async fn roles(global: &Global) -> Outcome {
    let rows = Client::new(global)?.rows("roles").await?;
    if global.output != Format::Table {
        crate::output::list(global.output, &rows, &[]);
        return Ok(ExitCode::Ok);
    }
    let lines = rows.iter().map(|row| vec![text(row, "/role"), scopes(row)]).collect();
    say(&crate::output::table(&["role", "may"], lines));
    Ok(ExitCode::Ok)
}

/// What stands at a pointer, for people.
fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => safe(text),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn items<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// A list of words.
fn words(value: &Value, pointer: &str) -> String {
    items(value, pointer).map(|v| text(v, "")).collect::<Vec<_>>().join(" ")
}

/// What something may do; all of it is one word.
fn scopes(value: &Value) -> String {
    let all = items(value, "/scopes").count() == intended_model::entry::Scope::ALL.len();
    if all { "everything".to_owned() } else { words(value, "/scopes") }
}

/// Where something is good: the environments' names, or everywhere.
fn places(value: &Value) -> String {
    if value.get("whole") == Some(&Value::Bool(true)) { "*".to_owned() } else { words(value, "/environments") }
}

fn flag(value: &Value, name: &str) -> bool {
    value.get(name) == Some(&Value::Bool(true))
}

/// The day of a time as the server writes it, in either way.
fn day(value: Option<&Value>) -> String {
    let text = match value {
        Some(Value::Number(n)) => n.as_i64().map(|ms| Timestamp::from_millis(ms).to_string()).unwrap_or_default(),
        Some(Value::String(text)) => safe(text),
        _ => String::new(),
    };
    text.split('T').next().unwrap_or_default().to_owned()
}

/// A time to come: a length from now on (`90d`), or a time itself.
fn until(flag: &str, text: &str) -> Result<Timestamp, CliError> {
    let now = when::now();
    let at = match when::seconds(flag, text) {
        Ok(secs) => now.plus_secs(secs),
        Err(_) => when::parse(flag, text, now)?,
    };
    if at > now {
        return Ok(at);
    }
    Err(CliError::usage(format!("{flag}: `{text}` is over already"), "write a time to come, or a length such as 90d"))
}

/// What came of a change: what was done, and where it is recorded.
fn done(global: &Global, what: &str, reply: &Value) {
    if global.output == Format::Table {
        say(&format!("{what} (ledger entry {})", text(reply, "/index")));
    } else {
        one(global.output, reply);
    }
}

/// A key that is in one answer and nowhere else: to stdout alone, or to a file.
fn key(global: &Global, reply: &Value, to: Option<&Path>) -> Result<(), CliError> {
    let key = text(reply, "/key");
    if let Some(path) = to {
        crate::server::write_secret(path, &format!("{key}\n"))?;
        note(&format!("the key is in {}; nothing else has it", path.display()));
        let rest = json!({"credential": reply.get("credential"), "index": reply.get("index")});
        one(global.output, &rest);
    } else if global.output == Format::Table {
        note("the key, shown this once:");
        say(&key);
    } else {
        one(global.output, reply);
    }
    Ok(())
}

/// A file for a key must not be there yet; that is found out before the key is made.
fn key_file_is_new(to: Option<&Path>) -> Result<(), CliError> {
    match to {
        Some(path) if path.exists() => Err(CliError::usage(
            format!("{} is there already", path.display()),
            "name a new file: keys overwrite nothing",
        )),
        _ => Ok(()),
    }
}

/// The names of roles in a hint.
const ROLES: &str = "owner, admin, operator, policy-author, approver, auditor, viewer";

/// `operator@staging,production` as a grant; `*` is everywhere.
fn grant(written: &str, until: Option<Timestamp>) -> Result<Value, CliError> {
    let wrong = |why: String| CliError::usage(why, "write it like operator@staging,production or viewer@*");
    let (role, places) = written
        .split_once('@')
        .ok_or_else(|| wrong(format!("`{written}` does not say where; nothing is given everywhere by omission")))?;
    role.parse::<intended_model::entry::Role>()
        .map_err(|_| CliError::usage(format!("`{role}` is no role"), format!("one of {ROLES}")))?;
    let mut grant = json!({"role": role});
    let places: Vec<&str> = places.split(',').map(str::trim).filter(|p| !p.is_empty()).collect();
    let members = grant.as_object_mut().into_iter();
    for members in members {
        match places.as_slice() {
            [] => return Err(wrong(format!("`{written}` does not say where"))),
            ["*"] => drop(members.insert("whole".to_owned(), true.into())),
            some if some.contains(&"*") => return Err(wrong(format!("`{written}`: `*` stands by itself"))),
            some => drop(members.insert("environments".to_owned(), json!(some))),
        }
        if let Some(until) = until {
            members.insert("expires_at".to_owned(), until.as_millis().into());
        }
    }
    Ok(grant)
}

/// A grant as [`grant`] reads it.
fn written(grant: &Value) -> String {
    format!("{}@{}", text(grant, "/role"), places(grant).replace(' ', ","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_written_with_where_it_is_good() {
        let read = |text: &str| grant(text, None).ok();
        assert_eq!(read("operator@staging"), Some(json!({"role": "operator", "environments": ["staging"]})));
        assert_eq!(read("viewer@a, b"), Some(json!({"role": "viewer", "environments": ["a", "b"]})));
        assert_eq!(read("auditor@*"), Some(json!({"role": "auditor", "whole": true})));
        for bad in ["operator", "operator@", "@staging", "king@staging", "viewer@a,*", "Operator@a"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        for text in ["operator@staging", "viewer@a,b", "auditor@*"] {
            assert_eq!(written(&read(text).unwrap()), text);
        }
        let timed = grant("viewer@a", Some(Timestamp::from_millis(7))).unwrap();
        assert_eq!(timed["expires_at"], json!(7));
    }

    #[test]
    fn a_time_to_come_is_a_length_or_a_time_and_not_over() {
        let now = when::now();
        let in_days = until("--expires", "90d").unwrap().millis_since(now) / 86_400_000;
        assert!((89..=90).contains(&in_days));
        assert_eq!(until("--expires", "2999-01-01").unwrap().to_string(), "2999-01-01T00:00:00.000Z");
        assert!(until("--expires", "2001-01-01").is_err() && until("--expires", "soon").is_err());
    }
}
