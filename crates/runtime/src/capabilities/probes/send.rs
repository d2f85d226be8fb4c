//! What is sent to others. Nothing is sent by these: `intended webhook test` and `intended siem test` do.

use intended_model::{Event, about};

use super::listed;
use crate::RuntimeError;
use crate::audit::Environments;
use crate::capabilities::{Ask, Found, Probed};
use crate::siem::{BEHIND_MS, Format, line_of};
use crate::tenant::event_of;

pub fn webhooks(ask: &Ask) -> Probed {
    let runtime = ask.runtime();
    let rows = runtime.webhooks(&ask.by)?;
    if rows.is_empty() {
        return Ok(Found::not_configured("none is set", "set one: `intended webhook set`"));
    }
    let see = "see `intended webhook list`, put the receiver right, and try it: `intended webhook test`";
    if !runtime.sends() {
        return Ok(Found::unavailable(
            "this server sends nothing",
            "serve with the `intended` binary: what embeds it has set no sender",
        ));
    }
    let (mut bad, mut delivered) = (Vec::new(), 0);
    for (webhook, cursor) in &rows {
        if let Err(error) = runtime.signable(ask.tenant(), webhook) {
            return Ok(Found::unavailable(
                format!("`{}` cannot be signed: {}", webhook.webhook, error.code.title()),
                "give it a new secret: `intended webhook rotate`",
            ));
        }
        delivered += cursor.delivered;
        if cursor.gone {
            bad.push(format!("`{}`: its receiver says that it is gone", webhook.webhook));
        } else if let Some(why) = &cursor.failed {
            bad.push(format!("`{}` failed {} times: {why}", webhook.webhook, cursor.attempt.max(1)));
        } else if cursor.dropped > 0 {
            bad.push(format!(
                "`{}` has given up {}",
                webhook.webhook,
                super::count(usize::try_from(cursor.dropped).unwrap_or(usize::MAX), "event")
            ));
        }
    }
    if bad.is_empty() {
        return Ok(Found::working(format!("{} set, {delivered} delivered", rows.len())));
    }
    Ok(Found::degraded(listed(&bad), see))
}

pub async fn siem(ask: &Ask) -> Probed {
    let sinks = ask.runtime().siem(ask.tenant()).await?;
    if sinks.is_empty() {
        return Ok(Found::not_configured("no sink", "add a [[siem]] table to the server's config file: docs/siem.md"));
    }
    let bad: Vec<String> = sinks
        .iter()
        .filter(|s| s.state() != "ok")
        .map(|s| {
            let why = s.progress.last_error.as_deref().filter(|_| s.progress.failing);
            let why = why.map_or_else(|| format!("more than {} s behind", BEHIND_MS / 1000), str::to_owned);
            format!("`{}` is {}, {} entries behind: {why}", s.sink.spec.name, s.state(), s.lag_entries)
        })
        .collect();
    if bad.is_empty() {
        let sent: u64 = sinks.iter().map(|s| s.progress.exported).sum();
        return Ok(Found::working(format!("{} up to date, {sent} events sent", super::count(sinks.len(), "sink"))));
    }
    Ok(Found::degraded(
        listed(&bad),
        "nothing is lost: it goes on when the collector takes events again; see `intended siem status`",
    ))
}

pub async fn formats(ask: &Ask) -> Probed {
    let (store, tenant) = (ask.runtime().store(), &ask.tenant().id);
    let head = store.head(tenant).await?;
    let newest = store.entries_before(tenant, head.size, 1).await?;
    let Some(entry) = newest.first() else {
        return Ok(Found::unavailable("the ledger has no entry", "verify the ledger: `intended audit verify`"));
    };
    let event: Event = event_of(&entry.leaf)?;
    for format in [Format::Ocsf, Format::Cef] {
        let line = line_of(format, tenant, entry, &event, Environments::Every);
        let whole = !line.text.contains(['\n', '\r']);
        let reads = match format {
            Format::Ocsf => {
                let value: serde_json::Value = serde_json::from_str(&line.text).map_err(RuntimeError::internal)?;
                value.pointer("/unmapped/ledger_index").and_then(serde_json::Value::as_u64) == Some(entry.index)
                    && value.get("class_uid").is_some_and(serde_json::Value::is_u64)
            }
            Format::Cef => line.text.starts_with("CEF:") && line.text.contains(&format!("{}/{}", tenant, entry.index)),
        };
        if !whole || !reads {
            return Ok(Found::unavailable(
                format!("entry {} is not one {} event that says which it is", entry.index, format.as_str()),
                "take the other format: docs/siem.md",
            ));
        }
    }
    let severity = about::about(&event).severity;
    Ok(Found::working(format!("entry {} in both, of severity {}", entry.index, severity.as_str())))
}
