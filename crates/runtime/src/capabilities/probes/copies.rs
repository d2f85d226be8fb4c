//! Older copies of a ledger: what makes one safe to go on from, and what one that was put back unseen
//! would be found by.

use std::sync::Arc;

use intended_engine::{Dead, State, decide};
use intended_model::Event;
use intended_model::decision::{DecisionRecord, GateName, GateOutcome};
use intended_model::emergency::TreeAt;
use intended_model::entry::{BODY_VERSION, LedgerRestored};

use super::watching::age;
use super::{MADE_UP, count, credential, gate, input, name};
use crate::RuntimeError;
use crate::capabilities::{Ask, Found, Probed};
use crate::restore::Kept;

/// It is kept every ten seconds.
const LATE_MS: i64 = 60_000;

pub async fn restore(ask: &Ask) -> Probed {
    let head = ask.runtime().store().head(&ask.tenant().id).await?;
    let copied = TreeAt { root: head.root.to_base64().into(), size: head.size };
    ask.aside(move |ask, state| {
        let Some(environment) = ask.environment(state) else {
            return Ok(Found::not_configured(
                "there is no environment",
                "make one: docs/api.md#tenants-and-environments",
            ));
        };
        // Where nothing is halted already, so that it is seen to be this.
        let mut calm = State::clone(state);
        (calm.halts, calm.emergency) = Default::default();
        calm.environments.values_mut().for_each(|e| e.suspended = None);
        let question = input(&calm, &environment, MADE_UP, MADE_UP, ask.now())?;
        let decision = decide(&calm, &question);
        let grant = DecisionRecord { decision, grant: None, input: question.clone(), v: BODY_VERSION };
        let (before, at) = (u64::MAX - 1, u64::MAX);
        let mut copy = calm.clone();
        let event = Event::LedgerRestored(LedgerRestored {
            also_lost: Vec::new(),
            at: ask.now(),
            by: credential()?,
            copied,
            halt: name(MADE_UP)?,
            lost: None,
            reason: "a probe".into(),
            resume_people: calm.resume_people(None),
            v: BODY_VERSION,
        });
        copy.apply(at, &event)?;
        let wrong = |what: &str| Ok(Found::unavailable(what, "do not go on from a backup until it is found out why"));
        let denied = decide(&copy, &question);
        if !gate(&denied, GateName::Emergency).is_some_and(|g| g.outcome == GateOutcome::Deny) {
            return wrong("a ledger that goes on from a copy is not halted");
        }
        if calm.dead_token(&grant, before).is_some()
            || !matches!(copy.dead_token(&grant, before), Some(Dead::Halted(_)))
        {
            return wrong("a token from before the copy is not dead after it");
        }
        if !copy.from_before_a_copy(before) {
            return wrong("what waited when the copy was made can still be approved");
        }
        let lived = match state.restored.last() {
            None => "never gone on from one here".to_owned(),
            Some(last) => {
                format!("gone on from {} here, last at entry {}", count(state.restored.len(), "copy"), last.index)
            }
        };
        Ok(Found::working(format!("halted, and everything from before is dead; {lived}")))
    })
    .await
}

pub async fn kept(ask: &Ask) -> Probed {
    let (runtime, tenant) = (ask.runtime(), ask.tenant());
    let Some(place) = runtime.elsewhere.get().map(Arc::clone) else {
        return Ok(Found::not_configured(
            "this server keeps none elsewhere: an older copy that is put back looks whole",
            "set `checkpoint_dir` in the server's config file: docs/backup.md#keep-checkpoints-elsewhere",
        ));
    };
    let of = tenant.id.clone();
    let read = tokio::task::spawn_blocking(move || place.newest(&of)).await.map_err(RuntimeError::internal)?;
    let mend = "give the directory of `checkpoint_dir` back, and see the server's log";
    let note = match read {
        Ok(Some(note)) => note,
        Ok(None) => return Ok(Found::degraded("none is kept yet", mend)),
        Err(why) => return Ok(Found::unavailable(format!("what is kept is not there to read: {why}"), mend)),
    };
    let size = match runtime.hold_against(&note).await {
        Ok(Kept::Holds { tenant: of, size }) if of == tenant.id => size,
        // Which one that is, is none of this tenant's business.
        Ok(Kept::Holds { .. }) => {
            return Ok(Found::unavailable("the checkpoint in its place is another ledger's", mend));
        }
        Ok(Kept::KnownLost { .. }) => {
            return Ok(Found::degraded("what is kept is of what was lost when the ledger was restored", mend));
        }
        Err(error) if error.code == intended_model::Code::NotFound => {
            return Ok(Found::unavailable("the checkpoint in its place is another ledger's", mend));
        }
        Err(error) => return Err(error),
    };
    let head = runtime.store().head(&tenant.id).await?;
    let written = async |index: u64| -> Result<i64, RuntimeError> {
        let entry = runtime.store().entry(&tenant.id, index).await?;
        Ok(entry.map_or(0, |e| ask.now().millis_since(e.at)))
    };
    // Of its last entry: a checkpoint itself has no time.
    let of_then = age(written(size.saturating_sub(1)).await?);
    let what = format!("signs for {size} of {} entries, the last from {of_then} ago, and holds", head.size);
    if size < head.size && written(size).await? > LATE_MS {
        return Ok(Found::degraded(format!("it is behind: {what}"), mend));
    }
    Ok(Found::working(what))
}
