//! `access agents`.

use intended_model::ExitCode;
use serde_json::{Value, json};

use super::{day, done, items, text, words};
use crate::args::{Agents, Format, Part, SetAgent};
use crate::client::Client;
use crate::cmd::{Outcome, encode, read};
use crate::config::Global;
use crate::confirm;
use crate::error::CliError;
use crate::output::{list, note, one, say, table};

pub async fn run(global: &Global, args: Agents) -> Outcome {
    let client = Client::new(global)?;
    match args {
        Agents::List => {
            let rows = client.rows("agents?limit=500").await?;
            if global.output != Format::Table {
                list(global.output, &rows, &[]);
                return Ok(ExitCode::Ok);
            }
            let line = |row: &Value| {
                vec![
                    text(row, "/agent"),
                    text(row, "/state"),
                    text(row, "/owner"),
                    words(row, "/environments").replace(' ', "\n"),
                    any(&words(row, "/tools").replace(' ', "\n")),
                    text(row, "/trust"),
                ]
            };
            let header = ["agent", "state", "owner", "where", "tools", "trust"];
            say(&table(&header, rows.iter().map(line).collect()));
        }
        Agents::Show { agent } => {
            let known = client.get(&path(&agent)).await.map_err(|e| unknown(e, &agent))?;
            show(global, &known);
        }
        Agents::Set(args) => return set(global, &client, args).await,
        Agents::Pause { agent } => state(global, &client, &agent, "paused", "paused").await?,
        Agents::Resume { agent } => state(global, &client, &agent, "active", "resumed").await?,
        Agents::Retire { agent, confirm } => {
            if !client.says_only() {
                let known = client.get(&path(&agent)).await.map_err(|e| unknown(e, &agent))?;
                let last = day(known.get("last_used"));
                let last = if last.is_empty() { "never".to_owned() } else { last };
                note(&format!("{agent}: {}, last used {last}", words(&known, "/environments")));
                note("  for good: it does not come back, and policies that name it help nothing through");
                confirm::name(global, confirm.confirm.as_deref(), &agent, "retire")?;
            }
            state(global, &client, &agent, "retired", "retired").await?;
        }
    }
    Ok(ExitCode::Ok)
}

fn path(agent: &str) -> String {
    format!("agents/{}", encode(agent))
}

fn unknown(error: CliError, agent: &str) -> CliError {
    if error.is("not_found") {
        let hint = format!("register it: intended access agents set {agent} --in <environment> --trust 50");
        return CliError::usage(format!("there is no agent `{agent}`"), hint);
    }
    error
}

fn any(words: &str) -> String {
    if words.is_empty() { "any".to_owned() } else { words.to_owned() }
}

/// What the route always wants, as it is now.
async fn now(client: &Client, agent: &str) -> Result<Value, CliError> {
    let known = client.get(&path(agent)).await.map_err(|e| unknown(e, agent))?;
    Ok(json!({"environments": known.get("environments"), "trust": known.get("trust")}))
}

async fn state(global: &Global, client: &Client, agent: &str, state: &str, verb: &str) -> Result<(), CliError> {
    let mut body = if global.print_curl { json!({"environments": [], "trust": 0}) } else { now(client, agent).await? };
    put(&mut body, "state", state.into());
    client.would("PUT", &path(agent), &body)?;
    let reply = client.call("PUT", &path(agent), Some(&body), &[]).await?.body;
    done(global, &format!("{verb} `{agent}`"), &reply);
    Ok(())
}

fn put(body: &mut Value, name: &str, value: Value) {
    if let Some(members) = body.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}

async fn set(global: &Global, client: &Client, args: SetAgent) -> Outcome {
    let agent = args.agent;
    let known = if global.print_curl { Err(CliError::Done) } else { now(client, &agent).await };
    let (mut body, new) = match known {
        Ok(body) => (body, false),
        Err(error @ (CliError::Usage(..) | CliError::Done)) => {
            if args.environments.is_empty() || args.trust.is_none() {
                return Err(match error {
                    CliError::Usage(what, _) => {
                        CliError::usage(what, "a new one needs --in <environment> and --trust 50")
                    }
                    other => other,
                });
            }
            (json!({}), true)
        }
        Err(error) => return Err(error),
    };
    if !args.environments.is_empty() {
        put(&mut body, "environments", json!(args.environments));
    }
    if let Some(trust) = args.trust {
        put(&mut body, "trust", trust.into());
    }
    for (name, value) in [("owner", args.owner), ("purpose", args.purpose), ("kind", args.kind)] {
        if let Some(value) = value {
            put(&mut body, name, value.into());
        }
    }
    for (name, part, given) in [
        ("teams", Part::Teams, args.team),
        ("tools", Part::Tools, args.tool),
        ("categories", Part::Categories, args.category),
    ] {
        let clear = args.clear.contains(&part);
        if clear && !given.is_empty() {
            return Err(CliError::usage(format!("{name} cannot be both given and cleared"), "leave one out"));
        }
        if clear || !given.is_empty() {
            put(&mut body, name, json!(given));
        }
    }
    if let Some(file) = &args.workflow {
        let steps: Value = serde_json::from_slice(&read(file)?)
            .map_err(|e| CliError::Failed(format!("{}: {e}", file.display()), ExitCode::Invalid))?;
        put(&mut body, "workflow", steps);
    } else if args.clear.contains(&Part::Workflow) {
        put(&mut body, "workflow", json!([]));
    }
    client.would("PUT", &path(&agent), &body)?;
    let reply = client.call("PUT", &path(&agent), Some(&body), &[]).await?.body;
    done(global, &format!("{} `{agent}`", if new { "registered" } else { "changed" }), &reply);
    Ok(ExitCode::Ok)
}

fn show(global: &Global, known: &Value) {
    if global.output != Format::Table {
        return one(global.output, known);
    }
    let owner = match text(known, "/owner_kind").as_str() {
        "member" => text(known, "/owner"),
        "none" => "nobody".to_owned(),
        _ => format!("{} (no member)", text(known, "/owner")),
    };
    let last = text(known, "/last_used");
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("agent", text(known, "/agent")),
        row("state", text(known, "/state")),
        row("owner", owner),
        row("purpose", text(known, "/purpose")),
        row("kind", text(known, "/kind")),
        row("where", words(known, "/environments")),
        row("teams", words(known, "/teams")),
        row("trust", text(known, "/trust")),
        row("tools", any(&words(known, "/tools"))),
        row("categories", any(&words(known, "/categories"))),
        row("last used", if last.is_empty() { "never".to_owned() } else { last }),
    ];
    rows.retain(|r| r.get(1).is_some_and(|v| !v.is_empty()));
    for (n, step) in items(known, "/workflow").enumerate() {
        let after = words(step, "/after");
        let not_after = words(step, "/not_after");
        let mut line = text(step, "/action");
        if !after.is_empty() {
            line.push_str(&format!(", after {}", after.replace(' ', " or ")));
        }
        if !not_after.is_empty() {
            line.push_str(&format!(", not after {}", not_after.replace(' ', " or ")));
        }
        rows.push(row(if n == 0 { "workflow" } else { "" }, line));
    }
    say(&table(&[], rows));
}
