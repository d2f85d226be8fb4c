//! Policy, as each environment decides by it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use intended_engine::{
    Environment, FoldError, LifecycleError, State, Version, compare_policy, expect, verify_expectations,
};
use intended_model::Event;
use intended_model::decision::Input;
use intended_model::entry::{AgentState, BODY_VERSION, DeployCause, PolicyDeployed};
use intended_rehearse::suite::Suite;

use super::{count, credential, input, listed};
use crate::capabilities::{Ask, Found, Probed};
use crate::metrics::Stopwatch;
use crate::policy::previous;
use crate::tenant::event_of;

/// Agents and tools that each version is asked about.
const AGENTS: usize = 4;
const TOOLS: usize = 8;
/// From then on no more is asked: one question of a set of 10,000 policies takes some milliseconds.
const ASKING: Duration = Duration::from_secs(3);
/// Newest entries whose intents it is asked about as well.
const RECORDED: usize = 64;

const DEPLOY: &str = "deploy a pack: `intended policy deploy <pack> -e <environment>`";

/// The environments that decide by a version, and the names of those that do not.
fn deployed_in<'s>(ask: &'s Ask, state: &'s State) -> (Vec<(&'s Environment, &'s Arc<Version>)>, Vec<String>) {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for environment in ask.environments(state) {
        match &environment.deployed {
            Some(version) => with.push((environment, version)),
            None => without.push(environment.id.to_string()),
        }
    }
    (with, without)
}

fn nothing() -> Found {
    Found::not_configured("no policy is deployed: everything is denied", DEPLOY)
}

pub async fn deployed(ask: &Ask) -> Probed {
    ask.aside(|ask, state| {
        let (with, without) = deployed_in(ask, state);
        if with.is_empty() {
            return Ok(nothing());
        }
        if !without.is_empty() {
            return Ok(Found::degraded(
                format!("nothing is deployed in {}: everything is denied there", listed(&without)),
                DEPLOY,
            ));
        }
        for (environment, _) in &with {
            if let Some((name, policy)) = environment.missing.names.first() {
                return Ok(Found::degraded(
                    format!(
                        "in {}, policy `{policy}` names the {} `{}`, which is not there",
                        environment.id,
                        name.kind.as_str().to_lowercase(),
                        name.id
                    ),
                    "register it again, or deploy a version without it: `intended policy list`",
                ));
            }
            let results = verify_expectations(state, &environment.id, ask.now());
            if let Some(other) = results.iter().find(|r| !r.as_expected()) {
                return Ok(Found::degraded(
                    format!(
                        "in {}, `{}` is {} and not {}",
                        environment.id,
                        other.name,
                        other.decision.as_str(),
                        other.expected.as_str()
                    ),
                    "see `intended policy list`, and go back: `intended policy rollback`",
                ));
            }
        }
        let versions: BTreeSet<String> = with.iter().map(|(_, v)| format!("{} {}", v.pack, v.version)).collect();
        let policies: usize = with.iter().map(|(_, v)| v.compiled.ids().count()).max().unwrap_or(0);
        let versions: Vec<String> = versions.into_iter().collect();
        let most = if versions.len() > 1 { "up to " } else { "" };
        Ok(Found::working(format!(
            "{} by {} with {most}{policies} policies",
            count(with.len(), "environment"),
            listed(&versions)
        )))
    })
    .await
}

/// What is asked of each version: what was asked lately, and what some of its agents could ask.
fn questions(
    ask: &Ask,
    state: &State,
    environment: &Environment,
    recorded: &[Input],
) -> Result<Vec<Input>, crate::RuntimeError> {
    let mut out: Vec<Input> = recorded.iter().filter(|i| i.intent.environment == environment.id).cloned().collect();
    let mut agents: Vec<&str> = state
        .agents
        .iter()
        .filter(|(_, a)| a.state == AgentState::Active && a.environments.contains(&environment.id))
        .map(|(id, _)| &**id)
        .collect();
    agents.sort_unstable();
    // Spread over the catalogue: each time the same.
    let every = (state.catalogue.len() / TOOLS).max(1);
    let tools: Vec<&str> = state.catalogue.tools().map(|(tool, ..)| tool).step_by(every).take(TOOLS).collect();
    for agent in agents.into_iter().take(AGENTS) {
        for tool in &tools {
            out.push(input(state, &environment.id, agent, tool, ask.now())?);
        }
    }
    Ok(out)
}

pub async fn index(ask: &Ask) -> Probed {
    let (store, tenant) = (ask.runtime().store(), &ask.tenant().id);
    let head = store.head(tenant).await?;
    let newest = store.entries_before(tenant, head.size, RECORDED).await?;
    ask.aside(move |ask, state| {
        // As they would be asked now.
        let asked = newest.iter().filter_map(|entry| match event_of(&entry.leaf) {
            Ok(Event::Decision(record)) => {
                let (intent, by) = (record.input.intent, record.input.credential);
                Some(expect::input(state, intent, by, ask.now()))
            }
            _ => None,
        });
        let recorded: Vec<Input> = asked.collect();
        let watch = Stopwatch::start();
        let (mut compared, mut versions) = (0_usize, 0_usize);
        let (with, _) = deployed_in(ask, state);
        for (environment, version) in with {
            let full = version.compiled.full().map_err(crate::RuntimeError::internal)?;
            versions += 1;
            for question in questions(ask, state, environment, &recorded)? {
                if watch.elapsed() > ASKING {
                    break;
                }
                let Some((by_index, whole)) = compare_policy(state, &question, &full) else { continue };
                if by_index != whole {
                    return Ok(Found::unavailable(
                        format!(
                            "in {}, `{}` by `{}` is answered otherwise by the whole set",
                            environment.id, question.intent.action.name, question.intent.subject.id
                        ),
                        format!("halt the environment, and go back to the release before: {}", version.digest.short()),
                    ));
                }
                compared += 1;
            }
        }
        if versions == 0 {
            return Ok(nothing());
        }
        if compared == 0 {
            return Ok(Found::not_configured(
                "no agent is registered that it could be asked about",
                "register one: docs/access.md#agents",
            ));
        }
        Ok(Found::working(format!(
            "{} answered alike in {}",
            count(compared, "question"),
            count(versions, "environment")
        )))
    })
    .await
}

pub async fn tests(ask: &Ask) -> Probed {
    ask.aside(|ask, state| {
        let (with, _) = deployed_in(ask, state);
        let versions: std::collections::BTreeMap<_, _> = with.iter().map(|(_, v)| (v.digest, *v)).collect();
        let (mut cases, mut without) = (0, Vec::new());
        for version in versions.values() {
            let named = format!("{} {}", version.pack, version.version);
            let files = version.files.iter().map(|(name, text)| (&**name, &**text));
            let suite = match Suite::parse(files) {
                Ok(suite) => suite,
                Err(error) => {
                    return Ok(Found::degraded(
                        format!("{named}: {error}"),
                        "put the tests right: `intended policy test`",
                    ));
                }
            };
            if suite.tests() == 0 {
                without.push(named);
                continue;
            }
            let report = match intended_rehearse::run(&suite, version, &|_, _| true) {
                Ok(report) => report,
                Err(error) => {
                    return Ok(Found::degraded(
                        format!("{named}: {error}"),
                        "put the tests right: `intended policy test`",
                    ));
                }
            };
            if let Some(failed) = report.cases.iter().find(|c| !c.passed()) {
                return Ok(Found::degraded(
                    format!("{named}: {} of {} fail, first {}", report.failed(), report.cases.len(), failed.name()),
                    "it no longer does what its tests say: `intended policy test`",
                ));
            }
            cases += report.cases.len();
        }
        if versions.is_empty() {
            return Ok(nothing());
        }
        if cases == 0 {
            return Ok(Found::not_configured(
                format!("no tests in {}", listed(&without)),
                "add a tests file to the pack: docs/policy.md#tests",
            ));
        }
        let also = if without.is_empty() { String::new() } else { format!("; none in {}", listed(&without)) };
        Ok(Found::working(format!("{} pass{also}", count(cases, "case"))))
    })
    .await
}

/// A deployment that nobody asked for.
fn deployment(environment: &Environment, version: &Version, cause: DeployCause) -> Result<Event, crate::RuntimeError> {
    Ok(Event::PolicyDeployed(PolicyDeployed {
        by: credential()?,
        cause,
        digest: version.digest,
        draft: None,
        environment: environment.id.clone(),
        pack: version.pack.clone(),
        reason: (cause == DeployCause::Rollback).then(|| "a probe".into()),
        replaces: environment.deployed.as_ref().map(|v| v.digest),
        simulation: None,
        v: BODY_VERSION,
    }))
}

pub async fn lifecycle(ask: &Ask) -> Probed {
    ask.aside(|ask, state| {
        let Some(version) = state.versions.values().next() else { return Ok(nothing()) };
        let mut asks = Vec::new();
        let mut any = None;
        for environment in ask.environments(state) {
            any = Some(environment);
            if environment.settings.policy.approvals == 0 {
                continue;
            }
            let mut copy = State::clone(state);
            match copy.apply(u64::MAX, &deployment(environment, version, DeployCause::Deploy)?) {
                Err(FoldError::Policy(LifecycleError::DraftNeeded(_))) => asks.push(environment.id.to_string()),
                other => {
                    return Ok(Found::unavailable(
                        format!("`{}` would take a version without its approvals: {other:?}", environment.id),
                        "take the deployers' keys away until it is found out why",
                    ));
                }
            }
        }
        if any.is_none() || asks.is_empty() {
            return Ok(Found::not_configured(
                "no environment asks for approvals: one person deploys",
                "set `policy.approvals` in the environment's settings: docs/policy.md",
            ));
        }
        Ok(Found::working(format!("{} takes no version without its quorum", listed(&asks))))
    })
    .await
}

pub async fn rollback(ask: &Ask) -> Probed {
    ask.aside(|ask, state| {
        let (mut alone, mut two) = (0, 0);
        for environment in ask.environments(state) {
            let Some(version) = previous(environment).and_then(|digest| state.versions.get(&digest)) else { continue };
            let mut copy = State::clone(state);
            let people = state.rollback_people(environment);
            let done = copy.apply(u64::MAX, &deployment(environment, version, DeployCause::Rollback)?);
            let back = copy.environments.get(&environment.id).and_then(|e| e.deployed.as_ref()).map(|v| v.digest);
            match done {
                Ok(()) if people < 2 && back == Some(version.digest) => alone += 1,
                Err(FoldError::Policy(LifecycleError::RollbackPeople { .. })) if people > 1 => two += 1,
                other => {
                    return Ok(Found::unavailable(
                        format!(
                            "`{}` does not go back to {} {}: {other:?}",
                            environment.id, version.pack, version.version
                        ),
                        "deploy the version that you want instead: `intended policy deploy`",
                    ));
                }
            }
        }
        if alone + two == 0 {
            return Ok(Found::not_configured(
                "no environment has decided by an earlier version",
                "it is there after the next deployment",
            ));
        }
        Ok(Found::working(format!("{alone} by one person, {two} by two")))
    })
    .await
}
