//! `access members`. The route replaces all that is said of somebody, so what is not named is read
//! first and sent along.

use intended_model::ExitCode;
use serde_json::{Value, json};

use super::{day, done, flag, grant, items, text, until, words, written};
use crate::args::{Format, Members};
use crate::client::Client;
use crate::cmd::{Outcome, encode};
use crate::config::Global;
use crate::confirm;
use crate::error::CliError;
use crate::output::{list, note, one, say, table};

pub async fn run(global: &Global, args: Members) -> Outcome {
    let client = Client::new(global)?;
    match args {
        Members::Invite { member, code_file } => {
            return super::invite::run(global, &member, code_file.as_deref()).await;
        }
        Members::List => {
            let rows = client.rows("members?limit=500").await?;
            if global.output != Format::Table {
                list(global.output, &rows, &[]);
                return Ok(ExitCode::Ok);
            }
            let line = |row: &Value| {
                // One on a line, to be broken between environments where that is too long.
                let roles: Vec<String> = items(row, "/grants").map(|g| written(g).replace(',', ", ")).collect();
                let state = if flag(row, "active") { "active" } else { "inactive" };
                vec![
                    text(row, "/member"),
                    state.to_owned(),
                    roles.join("\n"),
                    words(row, "/groups"),
                    text(row, "/name"),
                ]
            };
            say(&table(&["member", "state", "roles", "groups", "name"], rows.iter().map(line).collect()));
        }
        Members::Show { member } => {
            let known = read(&client, &member).await?.ok_or_else(|| nobody(&member))?;
            show(global, &known);
        }
        Members::Set { member, name, email, add_group, remove_group, active } => {
            if global.print_curl {
                client.call("PUT", &path(&member), Some(&fresh()), &[]).await?;
            }
            let known = read(&client, &member).await?;
            let new = known.is_none();
            let mut body = known.map_or_else(fresh, |k| kept(&k));
            let mut groups: Vec<Value> = items(&body, "/groups").cloned().collect();
            groups.retain(|g| g.as_str().is_none_or(|g| !remove_group.iter().any(|r| r == g)));
            groups.extend(add_group.into_iter().map(Value::String));
            groups.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
            groups.dedup();
            put(&mut body, "groups", Value::Array(groups));
            for (what, value) in [("name", name), ("email", email)] {
                if let Some(value) = value {
                    put(&mut body, what, if value.is_empty() { Value::Null } else { value.into() });
                }
            }
            if let Some(active) = active {
                put(&mut body, "active", active.into());
            }
            let reply = send(&client, &member, &body).await?;
            done(global, &format!("{} `{member}`", if new { "added" } else { "changed" }), &reply);
            if new {
                note(&format!("next: intended access members roles {member} --add viewer@<environment>"));
            }
        }
        Members::Remove { member, confirm } => {
            let known = read(&client, &member).await?.ok_or_else(|| nobody(&member))?;
            let roles: Vec<String> = items(&known, "/grants").map(written).collect();
            note(&format!("{member}: {}; groups: {}", listed(&roles), listed(&strings(&known, "/groups"))));
            note("  their sessions and keys end, and what they have approved counts no more");
            let body = json!({"groups": [], "grants": [], "name": known.get("name"), "email": known.get("email"), "active": false});
            client.would("PUT", &path(&member), &body)?;
            confirm::name(global, confirm.confirm.as_deref(), &member, "remove")?;
            let reply = send(&client, &member, &body).await?;
            done(global, &format!("removed `{member}`"), &reply);
        }
        Members::Roles { member, add, remove, until: end, confirm } => {
            let known = read(&client, &member).await?.ok_or_else(|| nobody(&member))?;
            if add.is_empty() && remove.is_empty() {
                show_roles(global, &known);
                return Ok(ExitCode::Ok);
            }
            let end = end.map(|text| until("--until", &text)).transpose()?;
            let mut body = kept(&known);
            let mut grants: Vec<Value> = items(&body, "/grants").cloned().collect();
            for taken in &remove {
                let wanted = written(&grant(taken, None)?);
                let before = grants.len();
                grants.retain(|g| written(g) != wanted);
                if grants.len() == before {
                    let has: Vec<String> = grants.iter().map(written).collect();
                    return Err(CliError::usage(
                        format!("`{member}` does not have {wanted}"),
                        format!("they have {}", listed(&has)),
                    ));
                }
            }
            let new: Vec<Value> = add.iter().map(|a| grant(a, end)).collect::<Result<_, _>>()?;
            for grant in new {
                // Given again, it lasts as long as is said now.
                grants.retain(|g| written(g) != written(&grant));
                grants.push(grant);
            }
            put(&mut body, "grants", Value::Array(grants));
            client.would("PUT", &path(&member), &body)?;
            if add.iter().any(|a| a.starts_with("owner@")) {
                note("an owner may do everything, and make owners");
                confirm::name(global, confirm.confirm.as_deref(), &member, "make an owner of")?;
            }
            let reply = send(&client, &member, &body).await?;
            let has: Vec<String> = items(&body, "/grants").map(written).collect();
            done(global, &format!("`{member}` has {}", listed(&has)), &reply);
        }
    }
    Ok(ExitCode::Ok)
}

fn path(member: &str) -> String {
    format!("members/{}", encode(member))
}

fn nobody(member: &str) -> CliError {
    CliError::usage(format!("there is no member `{member}`"), format!("add them: intended access members set {member}"))
}

/// What is said of somebody; `None` of whom nothing is.
async fn read(client: &Client, member: &str) -> Result<Option<Value>, CliError> {
    match client.get(&path(member)).await {
        Ok(known) => Ok(Some(known)),
        Err(error) if error.is("not_found") => Ok(None),
        Err(error) => Err(error),
    }
}

fn fresh() -> Value {
    json!({"groups": [], "grants": [], "active": true})
}

/// All that the route takes, as it is now.
fn kept(known: &Value) -> Value {
    let mut body = fresh();
    for name in ["groups", "grants", "name", "email", "active"] {
        if let Some(value) = known.get(name) {
            put(&mut body, name, value.clone());
        }
    }
    body
}

fn put(body: &mut Value, name: &str, value: Value) {
    if let Some(members) = body.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}

async fn send(client: &Client, member: &str, body: &Value) -> Result<Value, CliError> {
    client.would("PUT", &path(member), body)?;
    Ok(client.call("PUT", &path(member), Some(body), &[]).await?.body)
}

fn strings(value: &Value, pointer: &str) -> Vec<String> {
    items(value, pointer).map(|v| text(v, "")).collect()
}

fn listed(all: &[String]) -> String {
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

fn show(global: &Global, known: &Value) {
    if global.output != Format::Table {
        return one(global.output, known);
    }
    let state = if flag(known, "active") { "active" } else { "inactive" };
    let mut rows = vec![vec!["member".to_owned(), text(known, "/member")], vec!["state".to_owned(), state.to_owned()]];
    for name in ["name", "email", "last_used"] {
        let value = text(known, &format!("/{name}"));
        if !value.is_empty() {
            rows.push(vec![name.replace('_', " "), value]);
        }
    }
    rows.push(vec!["groups".to_owned(), listed(&strings(known, "/groups"))]);
    for (n, grant) in items(known, "/grants").enumerate() {
        rows.push(vec![if n == 0 { "roles" } else { "" }.to_owned(), lasting(grant)]);
    }
    say(&table(&[], rows));
}

fn lasting(grant: &Value) -> String {
    let end = day(grant.get("expires_at"));
    if end.is_empty() { written(grant) } else { format!("{} until {end}", written(grant)) }
}

fn show_roles(global: &Global, known: &Value) {
    let grants: Vec<Value> = items(known, "/grants").cloned().collect();
    if global.output != Format::Table {
        return list(global.output, &grants, &[]);
    }
    let line = |g: &Value| vec![written(g), day(g.get("expires_at"))];
    say(&table(&["role", "until"], grants.iter().map(line).collect()));
}
