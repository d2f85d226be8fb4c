//! Deciding.

use intended_engine::{decide, expect};
use intended_model::decision::GateName;
use intended_model::{Class, Code, Outcome, synthetic};

use super::{MADE_UP, count, credential, gate, input, listed};
use crate::capabilities::{Ask, Found, Probed};
use crate::rate::{Bucket, RateLimit};

/// Gates of one decision.
const GATES: usize = 9;
/// Look-alikes that are tried.
const LOOK_ALIKES: usize = 32;
/// Of a larger limit a bucket of this is emptied.
const MOST_TAKEN: u32 = 1_000;
/// From here on it matters to who compares times.
const AHEAD_MS: i64 = 5_000;

pub async fn gates(ask: &Ask) -> Probed {
    ask.aside(|ask, state| {
        let mut decided = 0;
        for environment in ask.environments(state) {
            let tool = state.catalogue.tools().next().map_or(MADE_UP, |(tool, ..)| tool);
            for (agent, tool, wrong) in [(MADE_UP, tool, GateName::Identity), (MADE_UP, MADE_UP, GateName::Classify)] {
                let decision = decide(state, &input(state, &environment.id, agent, tool, ask.now())?);
                let named =
                    gate(&decision, wrong).is_some_and(|g| g.outcome == intended_model::decision::GateOutcome::Deny);
                if decision.decision != Outcome::Deny || decision.gates.len() != GATES || !named {
                    return Ok(Found::unavailable(
                        format!(
                            "`{}` decides {} for an agent and a tool that nobody knows",
                            environment.id,
                            decision.decision.as_str()
                        ),
                        "halt the environment now: `intended emergency halt`",
                    ));
                }
                decided += 1;
            }
        }
        Ok(Found::working(format!("{} denied by name", count(decided, "made-up intent"))))
    })
    .await
}

pub async fn catalogue(ask: &Ask) -> Probed {
    ask.aside(|_, state| {
        let mut known = 0_usize;
        for (tool, category, _) in state.catalogue.tools() {
            if state.catalogue.classify(tool).category.as_deref() != Some(category) {
                return Ok(Found::unavailable(
                    format!("`{tool}` is not classified as the catalogue says"),
                    "re-install the release: its catalogue is not whole",
                ));
            }
            known += 1;
        }
        // As a reader would take them for the same.
        let alike = |tool: &str| tool.replacen('o', "\u{43e}", 1).replacen('e', "\u{435}", 1);
        let few = state.catalogue.tools().map(|(tool, ..)| (tool, alike(tool))).filter(|(tool, alike)| tool != alike);
        for (tool, alike) in few.take(LOOK_ALIKES) {
            if state.catalogue.classify(&alike).confidence > 0 {
                return Ok(Found::unavailable(
                    format!("a look-alike of `{tool}` is taken for a tool that is known"),
                    "look for a pattern in the tenant's own catalogue that is too wide",
                ));
            }
        }
        Ok(Found::working(format!("{} known, look-alikes are not", count(known, "tool"))))
    })
    .await
}

pub fn rate_limit(ask: &Ask) -> Probed {
    let per_second = ask.runtime().rate.load(std::sync::atomic::Ordering::Relaxed);
    let tried = per_second.min(MOST_TAKEN);
    let Some(limit) = RateLimit::per_second(tried) else {
        return Ok(Found::not_configured(
            "this server limits nobody",
            "set `requests_per_second` in the server's config file",
        ));
    };
    let (bucket, now) = (Bucket::default(), ask.now());
    let taken = (0..=tried).take_while(|_| bucket.take(limit, now).is_ok()).count();
    if usize::try_from(tried) == Ok(taken) {
        Ok(Found::working(format!("{per_second} requests a second for each credential")))
    } else {
        Ok(Found::unavailable(
            format!("a bucket of {tried} gave {taken}"),
            "limit requests in the proxy in front until it is found out why",
        ))
    }
}

pub async fn clock(ask: &Ask) -> Probed {
    let head = ask.runtime().store().head(&ask.tenant().id).await?;
    let (now, ahead) = (ask.now(), ask.runtime().clock().ahead_millis());
    if now < head.at {
        return Ok(Found::unavailable(
            format!("it is decided by {now}, and the ledger says {} already", head.at),
            "restart the server: what had expired must not come back",
        ));
    }
    if ahead > AHEAD_MS {
        return Ok(Found::degraded(
            format!("{} s ahead of the system's clock, which was set back", ahead / 1000),
            "set the system's clock right, with NTP",
        ));
    }
    Ok(Found::working("not behind the ledger, and with the system's clock"))
}

pub async fn self_test(ask: &Ask) -> Probed {
    ask.aside(|ask, state| {
        let (mut allowed, mut denied, mut deployed) = (0, Vec::new(), false);
        let wrong = |what: String| Ok(Found::unavailable(what, "rely on no self-test until it is found out why"));
        for environment in ask.environments(state) {
            let at = ask.now();
            let real = expect::input(state, synthetic::intent(environment.id.clone()), credential()?, at);
            let decision = decide(state, &real);
            if gate(&decision, GateName::Identity)
                .is_none_or(|g| g.outcome == intended_model::decision::GateOutcome::Deny)
            {
                return wrong(format!("`{}` does not know the self-test", environment.id));
            }
            deployed |= environment.deployed.is_some();
            if decision.decision.permits() {
                allowed += 1;
            } else {
                denied.push(format!("`{}`: {}", environment.id, decision.reason));
            }
            // What only looks like it, or has more in it than it has.
            let mut more = real.clone();
            more.intent.goal = Some(MADE_UP.into());
            let mut counted = real.clone();
            counted.class = Class::Traffic;
            for (what, forged, code) in [
                ("another tool", input(state, &environment.id, MADE_UP, "Intended.Self_Test", at)?, Code::NameReserved),
                (
                    "another agent",
                    input(state, &environment.id, "1ntended.self-test", MADE_UP, at)?,
                    Code::NameReserved,
                ),
                ("one with a goal in it", more, Code::SyntheticShape),
                ("one that says that it is traffic", counted, Code::SyntheticShape),
            ] {
                let decision = decide(state, &forged);
                let named = gate(&decision, GateName::Identity).is_some_and(|g| g.code == code);
                if decision.decision != Outcome::Deny || !named {
                    return wrong(format!("{what} passes for the self-test in `{}`", environment.id));
                }
            }
        }
        let look = "see which step: `intended token test`";
        Ok(match (allowed, denied.is_empty()) {
            (0, true) => {
                Found::not_configured("there is no environment", "make one: docs/api.md#tenants-and-environments")
            }
            (_, true) => {
                Found::working(format!("allowed in {}; what looks like it is refused", count(allowed, "environment")))
            }
            (0, false) if !deployed => Found::not_configured(
                format!("nothing is deployed: {}", listed(&denied)),
                "deploy a version: `intended policy deploy`",
            ),
            (_, false) => Found::degraded(format!("allowed in {allowed}, denied in {}", listed(&denied)), look),
        })
    })
    .await
}
