//! Service connectivity: every component answers, the store gives and takes, and in time.

use std::collections::BTreeMap;
use std::sync::Arc;

use intended_engine::keys;
use intended_model::Timestamp;
use intended_store::{Commit, StoreError, Write};

use super::{Context, Figure, Limit, Verdict, late, micros};
use crate::Runtime;
use crate::health::Status;
use crate::metrics::Stopwatch;

/// What was written for a check and could not be removed again is gone after this.
const PROBE_TTL_MS: i64 = 3_600_000;

/// Why the store did not do it, with what the catalogue says to do.
fn refused(figure: &str, limit: Limit, context: &Context<'_>, error: &StoreError) -> Figure {
    let hint = error.code().parse::<intended_model::Code>().map_or(limit.hint(), |code| code.hint());
    let failed = Figure::without(figure, limit, context.thresholds, format!("{}: {error}", error.code()));
    Figure { advice: hint.to_owned(), ..failed }
}

impl Runtime {
    pub(super) async fn connectivity(&self, context: &Context<'_>, round_trip: Option<u64>) -> Vec<Figure> {
        let mut figures = vec![store_read(context).await, self.store_write(context).await];
        if let Some(micros) = round_trip {
            let held = Figure::held("round trip", Limit::RoundTrip, context.thresholds, micros);
            figures.push(held.with("as the caller measured it"));
        }
        figures.extend(self.components(context).await);
        figures
    }

    /// A fact is written, read again, and taken away.
    async fn store_write(&self, context: &Context<'_>) -> Figure {
        let (name, limit) = ("store write", Limit::StoreWrite);
        let missing = |why: String| Figure::without(name, limit, context.thresholds, why);
        let Ok(nonce) = self.random_id() else {
            return Figure::stated(name, Verdict::Fail, "the system gives no random bytes", "look at the system's log");
        };
        let key = keys::readiness_probe(&nonce);
        let commit = |now: Timestamp, write: Write| Commit {
            tenant: context.tenant.id.clone(),
            now,
            control_version: None,
            reads: Vec::new(),
            writes: vec![write],
            entries: Vec::new(),
        };
        let put = Write::Put {
            key: key.as_str().into(),
            value: nonce.as_bytes().to_vec(),
            expires_at: Some(self.now().plus_millis(PROBE_TTL_MS)),
        };
        let watch = Stopwatch::start();
        let took = match context.in_time(self.follower.commit(commit(self.now(), put))).await {
            None => return missing(late()),
            Some(Err(error)) => return refused(name, limit, context, &error),
            Some(Ok(_)) => watch.elapsed(),
        };
        let (store, tenant, named) = (Arc::clone(&self.follower.store), context.tenant.id.clone(), key.clone());
        let again = context.blocking(move || store.fact_now(&tenant, &named)).await;
        let figure = match again {
            None => return missing(format!("written, and reading it again: {}", late())),
            Some(Err(error)) => return refused(name, limit, context, &error),
            Some(Ok(Some(fact))) if fact.value == nonce.as_bytes() => {
                let held = Figure::held(name, limit, context.thresholds, micros(took));
                held.with("a fact until it was durable; it read back the same")
            }
            Some(Ok(_)) => return missing("what was written is not what is read".to_owned()),
        };
        // It ends by itself where this does not come through.
        let _ = context.in_time(self.follower.commit(commit(self.now(), Write::Delete { key: key.into() }))).await;
        figure
    }

    /// Whether each component answers, as far as it is of this tenant and these environments.
    async fn components(&self, context: &Context<'_>) -> Vec<Figure> {
        let advice = "`intended health check --verbose` says what, and what to do";
        let Some(checks) = context.in_time(self.health()).await else {
            return vec![Figure::stated("components", Verdict::Fail, format!("health: {}", late()), advice)];
        };
        let ours = checks.into_iter().filter(|c| {
            c.tenant.as_ref().is_none_or(|t| *t == context.tenant.id)
                && c.environment.as_ref().is_none_or(|e| context.environments.contains(e))
        });
        let mut components: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        for check in ours {
            let broken = components.entry(check.component).or_default();
            // That something works less well is health's to say; here it is whether it is there.
            if check.status == Status::Unavailable {
                broken.push(format!("{}: {}", check.check, check.detail));
            }
        }
        let one = |(component, broken): (&'static str, Vec<String>)| {
            if broken.is_empty() {
                Figure::stated(component, Verdict::Pass, "it answers", "")
            } else {
                Figure::stated(component, Verdict::Fail, broken.join("; "), advice)
            }
        };
        components.into_iter().map(one).collect()
    }
}

/// The head of the ledger is asked for.
async fn store_read(context: &Context<'_>) -> Figure {
    let (name, limit) = ("store read", Limit::StoreRead);
    let watch = Stopwatch::start();
    match context.in_time(context.follower.store.head(&context.tenant.id)).await {
        None => Figure::without(name, limit, context.thresholds, late()),
        Some(Err(error)) => refused(name, limit, context, &error),
        Some(Ok(head)) => {
            let held = Figure::held(name, limit, context.thresholds, micros(watch.elapsed()));
            held.with(format!("the head of the ledger: {} entries", head.size))
        }
    }
}
