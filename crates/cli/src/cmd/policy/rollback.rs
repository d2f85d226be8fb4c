//! `policy rollback`.

use intended_model::ExitCode;
use serde_json::{Value, json};

use super::{deploy, environment, number, short, text, version, words};
use crate::args::Format;
use crate::client::Client;
use crate::cmd::Outcome;
use crate::config::Global;
use crate::confirm;
use crate::error::CliError;
use crate::output::{note, one, say};
use crate::when;

pub async fn run(global: &Global, to: Option<&str>, reason: &str, confirm: Option<&str>) -> Outcome {
    let environment = environment(global)?;
    let client = Client::new(global)?;
    let mut body = json!({"environment": environment, "reason": reason});
    if let (Some(members), Some(to)) = (body.as_object_mut(), to) {
        members.insert("to".to_owned(), to.into());
    }
    if global.print_curl {
        client.call("POST", "deployments/<index>/rollback", Some(&body), &[]).await?;
    }
    let now = version::deployment(&client, environment).await?;
    let Some(index) = now.get("index").and_then(Value::as_u64) else {
        return Err(CliError::Failed(format!("nothing is deployed in `{environment}`"), ExitCode::Usage));
    };
    let target = to.map_or_else(|| text(&now, "/previous"), str::to_owned);
    if target.is_empty() {
        return Err(CliError::usage(
            format!("there is no version before this one in `{environment}`"),
            "name one that was deployed here: intended policy list --status superseded",
        ));
    }
    let people = number(&now, "/rollback_people");
    let others = now.get("rollback_waiting").filter(|w| !w.is_null());
    note(&format!("{environment}: {}@{} → {}", text(&now, "/pack"), short(&text(&now, "/digest")), short(&target)));
    let needed =
        if people > 1 { format!("{people} people must ask for it") } else { "one person may do it".to_owned() };
    note(&format!("  {needed}, with policy:write in `{environment}`"));
    if let Some(waiting) = others {
        let same = text(waiting, "/to");
        let hint = if same.contains(target.strip_prefix("sha256:").unwrap_or(&target)) {
            String::new()
        } else {
            format!("; to join it: --to {}", short(&same))
        };
        note(&format!(
            "  {} has asked for {} (until {}){hint}",
            text(waiting, "/by"),
            short(&same),
            text(waiting, "/expires_at")
        ));
    }
    let path = format!("deployments/{index}/rollback");
    client.would("POST", &path, &body)?;
    confirm::name(global, confirm, environment, "roll back")?;
    let began = when::started();
    let reply = client.call("POST", &path, Some(&body), &[]).await?.body;
    if reply.get("state") == Some(&json!("waiting")) {
        if global.output == Format::Table {
            say(&format!(
                "waiting: a second person must ask for the same until {} (ledger entry {})",
                text(&reply, "/expires_at"),
                text(&reply, "/index")
            ));
        } else {
            one(global.output, &reply);
        }
        let second = format!(
            "intended policy rollback -e {environment} --to {} --reason '…' --confirm {environment}",
            short(&text(&reply, "/to"))
        );
        let who = words(&now, "/approvers");
        let among = if who.is_empty() { String::new() } else { format!(" (such as {who})") };
        note(&format!(
            "\nnext: another person{among} runs\n      {second}\n      or opens an incident: intended incident open -e {environment} --title '…'"
        ));
        return Ok(ExitCode::Pending);
    }
    deploy::effect(global, "rolled back", reply, began.elapsed());
    Ok(ExitCode::Ok)
}
