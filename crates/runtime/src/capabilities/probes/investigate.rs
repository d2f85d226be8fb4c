//! Finding out what happened.

use intended_engine::{State, explain};
use intended_ledger::{Leaf, NoteVerifier};
use intended_model::entry::{BODY_VERSION, IncidentClosed, IncidentOpened};
use intended_model::{CredentialId, Event};

use super::ledger::{Newest, newest_decision, nothing_decided, on_its_state};
use super::{MADE_UP, count, credential, name};
use crate::RuntimeError;
use crate::capabilities::{Ask, Found, Probed};
use crate::outcomes::answers_for;
use crate::tenant::event_of;

/// Newest entries that are read.
const READ: usize = 256;

const DAMAGED: &str = "verify the ledger: `intended audit verify`";

pub async fn query(ask: &Ask) -> Probed {
    let (store, tenant) = (ask.runtime().store(), ask.tenant());
    let head = store.head(&tenant.id).await?;
    let entries = store.entries_before(&tenant.id, head.size, READ).await?;
    let (Some(newest), Some(oldest)) = (entries.first(), entries.last()) else {
        return Ok(Found::unavailable("the ledger has no entry", DAMAGED));
    };
    let bad = |index: u64, what: &str| Ok(Found::unavailable(format!("entry {index} {what}"), DAMAGED));
    for (expected, entry) in (oldest.index..head.size).rev().zip(&entries) {
        if entry.index != expected {
            return bad(expected, "is not found");
        }
        match Leaf::parse(&entry.leaf) {
            Ok(leaf) if leaf.index == entry.index && leaf.at == entry.at => {}
            _ => return bad(entry.index, "does not read as what it is"),
        }
    }
    if let Some([later, _]) = entries
        .windows(2)
        .find(|pair| matches!(pair, [later, earlier] if later.at < earlier.at))
        .and_then(|p| p.first_chunk::<2>())
    {
        return bad(later.index, "is from before the one before it");
    }
    // Found by its time as by its place: the first one of that moment.
    let first = ask.runtime().position_at(tenant, newest.at).await?;
    let of_then = entries.iter().filter(|e| e.at == newest.at).map(|e| e.index).min().unwrap_or(newest.index);
    if first > newest.index || (of_then > oldest.index && first != of_then) {
        return bad(newest.index, "is not found by its time");
    }
    Ok(Found::working(format!("the newest {} read, the last at {}", entries.len(), newest.at)))
}

pub async fn explain(ask: &Ask) -> Probed {
    let (record, entry) = match newest_decision(ask).await? {
        Newest::None => return Ok(nothing_decided()),
        Newest::Damaged(found) => return Ok(found),
        Newest::Found(record, entry) => (record, entry),
    };
    let (decision, environments) = (record.decision.clone(), ask.by.access.environments().to_vec());
    let explained = on_its_state(ask, &record, entry.index, move |state: &State, input| {
        // Of what would be allowed instead only the number that was tried is told.
        explain::explain(state, input, &decision, &environments, true)
    });
    let explained = explained.await?;
    if !record.decision.decision.permits() && explained.obstacles.is_empty() {
        return Ok(Found::unavailable(
            format!("entry {} is {}, and nothing stands in its way", entry.index, record.decision.decision.as_str()),
            "read its gates: `intended intent show`",
        ));
    }
    Ok(Found::working(format!(
        "entry {}: {}, {} tried",
        entry.index,
        count(explained.obstacles.len(), "obstacle"),
        count(explained.tried, "change")
    )))
}

pub async fn incidents(ask: &Ask) -> Probed {
    ask.aside(|ask, state| {
        let mut copy = State::clone(state);
        let open = Event::IncidentOpened(IncidentOpened {
            by: credential()?,
            environment: None,
            incident: name(MADE_UP)?,
            title: "a probe".into(),
            v: BODY_VERSION,
        });
        let close = Event::IncidentClosed(IncidentClosed {
            by: credential()?,
            incident: name(MADE_UP)?,
            reason: "a probe".into(),
            v: BODY_VERSION,
        });
        let wrong = |what: &str| Ok(Found::unavailable(what, "keep the notes elsewhere until it is found out why"));
        copy.apply(u64::MAX, &open)?;
        if !copy.incidents.contains_key(MADE_UP) {
            return wrong("an incident that was opened is not there");
        }
        if copy.apply(u64::MAX, &open).is_ok() {
            return wrong("two incidents have one name");
        }
        copy.apply(u64::MAX, &close)?;
        if copy.incidents.contains_key(MADE_UP) || copy.apply(u64::MAX, &close).is_ok() {
            return wrong("an incident that was closed is still open");
        }
        let seen = |e: Option<&intended_model::EnvironmentId>| e.map_or(ask.by.sees_all(), |e| ask.by.sees(e));
        let open = state.incidents.values().filter(|i| seen(i.environment.as_ref())).count();
        Ok(Found::working(format!("opened and closed on a copy; {open} open now")))
    })
    .await
}

pub fn evidence(ask: &Ask) -> Probed {
    // Its first line says what it is, as of everything that the ledger's key signs: no evidence, and
    // nothing else that anybody takes.
    let text = format!("{}/capability-probe\n{}\n", intended_ledger::origin(&ask.tenant().id), ask.now());
    let note = ask.tenant().sign_note(&text);
    let key = NoteVerifier::parse(&ask.state().vkey).map_err(RuntimeError::internal)?;
    let bad = |what: &str| Ok(Found::unavailable(what, "do not hand evidence out until it is found out why"));
    if key.verify(&note).ok() != Some(text.as_str()) {
        return bad("what the ledger's key signs does not verify");
    }
    if key.verify(&note.replacen("capability-probe", "capability-prove", 1)).is_ok() {
        return bad("what was altered verifies");
    }
    Ok(Found::working("signed and verified with the ledger's key"))
}

/// From this procedure on the verifier holds who may say what came of an action.
const HELD_SINCE: u32 = 3;

pub async fn outcomes(ask: &Ask) -> Probed {
    let (state, store, tenant) = (ask.state(), ask.runtime().store(), ask.tenant());
    let named = |text: &str| CredentialId::new(text).map_err(RuntimeError::internal);
    let (agent, point, other) = (named("capability-probe-agent")?, credential()?, named("capability-probe-other")?);
    let wrong = |what: String| {
        Ok(Found::unavailable(
            what,
            "set thresholds that are not about outcomes, and hold by hand: `intended breaker hold`",
        ))
    };
    for (what, by, used, asked, may) in [
        ("who consumed the token", &point, &point, &agent, true),
        ("who asked for it", &agent, &point, &agent, false),
        ("somebody else", &other, &point, &agent, false),
        ("one who did both", &agent, &agent, &agent, true),
    ] {
        if answers_for(&state, by, used, asked) != may {
            return wrong(format!("{what} {} say what came of an action", if may { "may not" } else { "may" }));
        }
    }
    let rules = "who consumed the token may say it, who asked may not";
    let head = store.head(&tenant.id).await?;
    for entry in store.entries_before(&tenant.id, head.size, READ).await? {
        let Event::IntentOutcome(said) = event_of(&entry.leaf)? else { continue };
        if !ask.by.sees(&said.environment) {
            continue;
        }
        let Some((record, others)) = ask.runtime().granted_of(tenant, &said.intent).await? else { continue };
        if record.input.procedure < HELD_SINCE {
            continue;
        }
        let jti = record.grant.as_ref().map(|g| &g.jti);
        let used = others.iter().find_map(|(_, e)| match e {
            Event::TokenConsumed(used) if Some(&used.jti) == jti => Some(&used.by),
            _ => None,
        });
        return match used {
            Some(used) if answers_for(&state, &said.by, used, &record.input.credential) => {
                Ok(Found::working(format!("{rules}; entry {} is by who did", entry.index)))
            }
            _ => wrong(format!("entry {} is not by who consumed the token", entry.index)),
        };
    }
    Ok(Found::working(format!("{rules}; none is among the newest {READ} entries")))
}
