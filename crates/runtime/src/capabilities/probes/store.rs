//! The store: what it writes, refuses and reads. What is written here are facts of these probes' own,
//! which expire; never an entry.

use intended_engine::keys;
use intended_model::IntentId;
use intended_store::{Conflict, StoreError, Write};

use crate::capabilities::{Ask, Found, Probed};
use crate::submit::{answer_of, read_answer};
use crate::{Runtime, RuntimeError};

/// For how long a fact is kept that could not be removed.
const LEFT_MS: i64 = 60_000;
const NOT_KEPT: &str = "stop the server and look at its disk: nothing that it promises holds on such a store";

/// Writes one thing once, and says whether the second time is refused.
async fn once(ask: &Ask, key: &str, value: Vec<u8>) -> Result<Result<(), String>, RuntimeError> {
    let (runtime, tenant) = (ask.runtime(), &ask.tenant().id);
    let write =
        || Write::Put { key: key.into(), value: value.clone(), expires_at: Some(ask.now().plus_millis(LEFT_MS)) };
    runtime.follower.commit(ask.facts(vec![(key.into(), 0)], vec![write()])).await?;
    let read = runtime.store().fact_now(tenant, key)?;
    let again = runtime.follower.commit(ask.facts(vec![(key.into(), 0)], vec![write()])).await;
    runtime.follower.commit(ask.facts(Vec::new(), vec![Write::Delete { key: key.into() }])).await?;
    if read.is_none_or(|fact| fact.value != value) {
        return Ok(Err("what was written is not what is read".to_owned()));
    }
    Ok(match again {
        Err(StoreError::Conflict(Conflict::Fact { key: lost })) if *lost == *key => Ok(()),
        Err(error) => return Err(error.into()),
        Ok(_) => Err("it was done a second time".to_owned()),
    })
}

fn kept(result: Result<(), String>, good: &str) -> Found {
    match result {
        Ok(()) => Found::working(good),
        Err(why) => Found::unavailable(why, NOT_KEPT),
    }
}

fn made_up(runtime: &Runtime, what: &str) -> Result<String, RuntimeError> {
    Ok(keys::capability_probe(what, &runtime.random_id()?))
}

pub async fn single_use(ask: &Ask) -> Probed {
    let key = made_up(ask.runtime(), "use")?;
    Ok(kept(once(ask, &key, b"1".to_vec()).await?, "a second use was refused"))
}

pub async fn idempotency(ask: &Ask) -> Probed {
    let id = IntentId::v7(ask.now(), ask.runtime().random()?);
    let answer = answer_of(id, false);
    if read_answer(&answer) != Some((id, false)) {
        return Ok(Found::unavailable("an answer does not read back", NOT_KEPT));
    }
    let key = made_up(ask.runtime(), "answer")?;
    Ok(kept(once(ask, &key, answer).await?, "the first answer is kept, and a second refused"))
}

pub async fn durable_writes(ask: &Ask) -> Probed {
    let store = ask.runtime().store();
    let health = store.health().await;
    if !health.writable {
        return Ok(Found::unavailable(
            format!("the store takes no writes: {}", health.detail),
            "make room or give the disk back, then see `intended health check --verbose`; nothing is allowed until then",
        ));
    }
    let key = made_up(ask.runtime(), "write")?;
    let value = ask.runtime().random::<32>()?.to_vec();
    let put =
        Write::Put { key: key.as_str().into(), value: value.clone(), expires_at: Some(ask.now().plus_millis(LEFT_MS)) };
    ask.runtime().follower.commit(ask.facts(vec![(key.as_str().into(), 0)], vec![put])).await?;
    let read = store.fact_now(&ask.tenant().id, &key)?;
    ask.runtime().follower.commit(ask.facts(Vec::new(), vec![Write::Delete { key: key.as_str().into() }])).await?;
    let gone = store.fact_now(&ask.tenant().id, &key)?.is_none();
    Ok(match (read, gone) {
        (Some(fact), true) if fact.value == value => {
            Found::working(format!("{}: written, read and removed", store.engine()))
        }
        (Some(fact), _) if fact.value == value => Found::unavailable("what was removed is still there", NOT_KEPT),
        _ => Found::unavailable("what was written is not what is read", NOT_KEPT),
    })
}

pub async fn budgets(ask: &Ask) -> Probed {
    let key = made_up(ask.runtime(), "count")?;
    let add = Write::Add { key: key.into(), n: 2, max: 1, expires_at: Some(ask.now().plus_millis(LEFT_MS)) };
    Ok(match ask.runtime().follower.commit(ask.facts(Vec::new(), vec![add])).await {
        Err(StoreError::Conflict(Conflict::Bound { .. })) => {
            let state = ask.state();
            let budgets: usize = ask.environments(&state).map(|e| e.settings.budgets.len()).sum();
            if budgets == 0 {
                Found::not_configured(
                    "a counter keeps to its bound, but no environment has a budget",
                    "set `budgets` in an environment's settings: docs/policy.md",
                )
            } else {
                Found::working(format!("{budgets} set; a counter keeps to its bound"))
            }
        }
        Err(error) => return Err(error.into()),
        Ok(_) => Found::unavailable("a counter went above its bound", NOT_KEPT),
    })
}

pub async fn fence(ask: &Ask) -> Probed {
    let store = ask.runtime().store();
    let control = store.head(&ask.tenant().id).await?.control_version;
    let mut commit = ask.facts(Vec::new(), Vec::new());
    commit.control_version = Some(control.saturating_sub(1));
    Ok(match ask.runtime().follower.commit(commit).await {
        Err(StoreError::Conflict(Conflict::Control { .. })) => Found::working("a commit on an older state was refused"),
        Err(error) => return Err(error.into()),
        Ok(_) => Found::unavailable(
            "a commit on an older state was taken: a halt would have a window",
            "halt with the server stopped: `intended emergency halt --data-dir`",
        ),
    })
}

pub async fn engine(ask: &Ask, wanted: &'static str) -> Probed {
    let (store, tenant) = (ask.runtime().store(), &ask.tenant().id);
    let is = store.engine();
    if is != wanted {
        return Ok(Found::not_configured(
            format!("this server keeps its data in {is}"),
            "an engine is chosen by who builds the server; this is no fault",
        ));
    }
    let head = store.head(tenant).await?;
    let first = store.entry(tenant, 0).await?;
    Ok(match first {
        Some(first) if first.index == 0 && head.size > 0 => {
            let took = store.health().await.commit_micros;
            let took =
                took.map_or(String::new(), |micros| format!(", the last commit took {:.1} ms", micros as f64 / 1000.0));
            Found::working(format!("{is}, {} entries{took}", head.size))
        }
        _ => Found::unavailable("the ledger's first entry cannot be read", NOT_KEPT),
    })
}
