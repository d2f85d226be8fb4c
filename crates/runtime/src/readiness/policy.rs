//! Policy engine response time: the pure core decides on the live state with the deployed policy, a
//! thousand times for each environment. What it decides is thrown away: nothing is committed, counted,
//! signed or told to breakers. It asks what was asked last; where nothing was, what the registered agents
//! could ask.

use std::sync::Arc;

use intended_engine::{Environment, State, decide};
use intended_model::decision::{DecisionRecord, Input, PROCEDURE};
use intended_model::entry::{AgentState, Tier};
use intended_model::{Class, CredentialId, Digest, EnvironmentId, Event, Intent, IntentId, Timestamp};

use super::burst::{Times, budget, burst};
use super::{Context, Figure, Limit, Verdict};
use crate::tenant::event_of;

/// Decisions of one burst.
const BURST: usize = 1_000;
/// How many recorded intents it goes through, and among how many of the newest entries they are looked for.
const RECORDED: usize = 32;
const LOOKED_AT: usize = 256;
/// How many agents, tools and kinds of resources made-up intents are of.
const AGENTS: usize = 4;
const TOOLS: usize = 8;
const KINDS: usize = 4;

const DEPLOY: &str = "deploy one: `intended policy deploy <directory> -e <environment>`";

pub(super) async fn figures(context: &Context<'_>) -> Vec<Figure> {
    let recorded = recorded(context).await;
    let mut out = Vec::new();
    for environment in context.environments {
        let Some(known) = context.state.environments.get(environment) else { continue };
        out.extend(of_environment(context, known, &recorded).await.into_iter().map(|f| f.of(environment)));
    }
    out
}

async fn of_environment(context: &Context<'_>, environment: &Environment, recorded: &[Input]) -> Vec<Figure> {
    let Some(version) = &environment.deployed else {
        let verdict = if environment.tier == Tier::Production { Verdict::Fail } else { Verdict::Warn };
        return vec![Figure::stated("deployed policy", verdict, "there is none: everything is denied", DEPLOY)];
    };
    let deployed = Figure::stated(
        "deployed policy",
        Verdict::Pass,
        format!("{} {} ({})", version.pack, version.version, version.digest.short()),
        "",
    );
    let asked: Vec<Input> = recorded.iter().filter(|i| i.intent.environment == environment.id).cloned().collect();
    let (inputs, source) = if asked.is_empty() {
        (made_up(&context.state, environment, context.now), "made-up")
    } else {
        (asked, "recorded")
    };
    let (state, now, count, budget) = (Arc::clone(&context.state), context.now, inputs.len(), budget(context));
    let inputs: Vec<Input> = inputs.into_iter().map(|input| as_of(&state, now, input)).collect();
    let times = burst(context, move || {
        Times::of(BURST, budget, |n| {
            let input = inputs.get(n % inputs.len().max(1)).ok_or("there is nothing to ask")?;
            std::hint::black_box(decide(&state, std::hint::black_box(input)));
            Ok(())
        })
    });
    let mut out = vec![deployed];
    match times.await {
        Ok(times) => {
            let what = format!("{} decisions on {source} intents ({count})", times.count());
            out.extend(times.figures(context, Limit::PolicyP50, Limit::PolicyP99, &what));
        }
        Err(why) => out.push(Figure::without("p99", Limit::PolicyP99, context.thresholds, why)),
    }
    out
}

/// The newest decisions' inputs. Where the ledger cannot be read that is said elsewhere.
async fn recorded(context: &Context<'_>) -> Vec<Input> {
    let store = &context.follower.store;
    let page = context.in_time(async {
        let size = store.head(&context.tenant.id).await?.size;
        store.entries_before(&context.tenant.id, size, LOOKED_AT).await
    });
    let Some(Ok(page)) = page.await else { return Vec::new() };
    let mut out: Vec<Input> = Vec::new();
    for environment in context.environments {
        let decisions = page.iter().filter_map(|entry| match event_of(&entry.leaf) {
            Ok(Event::Decision(DecisionRecord { input, .. })) if input.intent.environment == *environment => {
                Some(input)
            }
            _ => None,
        });
        out.extend(decisions.take(RECORDED));
    }
    out
}

/// What would be asked now: on this state, at this time.
fn as_of(state: &State, now: Timestamp, input: Input) -> Input {
    Input {
        at: now,
        catalogue: state.catalogue.digest(),
        classification: state.catalogue.classify(&input.intent.action.name),
        control: state.control,
        procedure: PROCEDURE,
        ..input
    }
}

/// What the agents of an environment could ask: of the tools that its policy names, on the kinds of
/// resources that are registered.
fn made_up(state: &State, environment: &Environment, now: Timestamp) -> Vec<Input> {
    let names =
        |tool: &&str| environment.deployed.as_ref().is_some_and(|v| v.files.values().any(|text| text.contains(tool)));
    let registered =
        state.agents.iter().filter(|(_, a)| a.state == AgentState::Active && a.environments.contains(&environment.id));
    let agents = or(registered.take(AGENTS).map(|(name, _)| name.to_string()).collect(), "readiness-check");
    let tools = state.catalogue.tools().map(|(tool, ..)| tool).filter(names).take(TOOLS).map(str::to_owned);
    let tools = or(tools.collect(), "readiness.check");
    let kinds = state.capabilities.iter().map(|c| c.resource_type.to_string()).take(KINDS);
    let kinds = or(kinds.collect(), "thing");
    let mut out = Vec::new();
    for agent in &agents {
        for tool in &tools {
            for kind in &kinds {
                out.extend(input(state, &environment.id, now, (agent, tool, kind)));
            }
        }
    }
    out
}

fn or(mut names: Vec<String>, otherwise: &str) -> Vec<String> {
    if names.is_empty() {
        names.push(otherwise.to_owned());
    }
    names
}

fn input(
    state: &State,
    environment: &EnvironmentId,
    now: Timestamp,
    (agent, tool, kind): (&str, &str, &str),
) -> Option<Input> {
    let value = serde_json::json!({
        "subject": {"type": "agent", "id": agent}, "action": {"name": tool, "properties": {"amount": 1}},
        "resource": {"type": kind, "id": "readiness-check"}, "environment": environment,
    });
    let value = intended_model::json::parse(value.to_string().as_bytes()).ok()?;
    let intent = Intent::from_value(&value, None, false).ok()?;
    Some(Input {
        approvals: Vec::new(),
        at: now,
        audience: None,
        catalogue: state.catalogue.digest(),
        class: Class::Traffic,
        classification: state.classify(PROCEDURE, tool),
        control: state.control,
        counters: intended_engine::needs(state, PROCEDURE, &intent, now)
            .counters()
            .map(|n| (n.key.as_str().into(), 0))
            .collect(),
        credential: CredentialId::new("readiness-check").ok()?,
        expires_at: None,
        id: IntentId::v7(now, [0; 10]),
        intent_hash: intent.digest().unwrap_or_else(|_| Digest::of(b"")),
        intent,
        procedure: PROCEDURE,
        session: None,
    })
}
