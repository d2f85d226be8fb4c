//! Halts and revocations. Each is thrown on a copy of the live state: the same fold and the same
//! decision as of the real one, and nothing that anybody is stopped by.

use intended_engine::emergency::REVOKED_MS;
use intended_engine::{Dead, EmergencyError, FoldError, State, decide};
use intended_model::decision::{DecisionRecord, GateName, GateOutcome, Input};
use intended_model::emergency::{HaltTarget, TokenSelector, connector_of};
use intended_model::entry::{BODY_VERSION, HaltResumed, HaltThrown, Scope, TokensRevoked};
use intended_model::{CredentialId, EnvironmentId, Event, Timestamp};

use super::{MADE_UP, count, credential, gate, input, listed, name, two_tools};
use crate::RuntimeError;
use crate::capabilities::{Ask, Found, Probed};

/// A break-glass credential that is good for less is to be made anew.
const SOON_MS: i64 = 7 * 86_400_000;
/// Those who can throw a halt are counted up to here.
const ENOUGH: usize = 3;

const STOP: &str = "stop the enforcement points or the server: what it is asked to halt may go on";

fn none() -> Found {
    Found::not_configured("there is no environment", "make one: docs/api.md#tenants-and-environments")
}

fn thrown(state: &State, environment: Option<EnvironmentId>, on: Option<HaltTarget>) -> Result<State, RuntimeError> {
    let mut copy = State::clone(state);
    let event = Event::HaltThrown(HaltThrown {
        by: credential()?,
        resume_people: Some(state.resume_people(environment.as_ref())),
        environment,
        halt: name(MADE_UP)?,
        on,
        reason: "a probe".into(),
        v: BODY_VERSION,
    });
    copy.apply(u64::MAX, &event)?;
    Ok(copy)
}

/// What is asked of a tool of a category by an agent, whether or not either is known.
fn asked(
    ask: &Ask,
    state: &State,
    environment: &EnvironmentId,
    agent: &str,
    (tool, category): &(String, String),
) -> Result<Input, RuntimeError> {
    let mut input = input(state, environment, agent, tool, ask.now())?;
    input.classification.category = Some(category.as_str().into());
    input.classification.ambiguous = false;
    Ok(input)
}

/// Whether the emergency gate denies it for a halt.
fn halted(state: &State, input: &Input) -> bool {
    let decision = decide(state, input);
    gate(&decision, GateName::Emergency)
        .is_some_and(|g| g.outcome == GateOutcome::Deny && g.code.as_str().starts_with("halt."))
}

/// As if no environment were suspended: a halt is then what denies.
fn awake(state: &State) -> State {
    let mut state = State::clone(state);
    state.environments.values_mut().for_each(|e| e.suspended = None);
    state
}

pub async fn halts(ask: &Ask) -> Probed {
    ask.aside(|ask, state| {
        let state = &awake(state);
        let Some(here) = ask.environment(state) else { return Ok(none()) };
        let Some([tool, other]) = two_tools(state) else {
            return Ok(Found::not_configured("the catalogue has no tools", "see docs/policy.md#the-catalogue"));
        };
        let system = connector_of(&tool.0).map(|c| c.into_owned()).unwrap_or_default();
        let covered = asked(ask, state, &here, MADE_UP, &tool)?;
        let beside = asked(ask, state, &here, "capability-probe-2", &other)?;
        let elsewhere = ask.environments(state).map(|e| &e.id).find(|e| **e != here);
        let elsewhere = elsewhere.map(|e| asked(ask, state, e, MADE_UP, &tool)).transpose()?;
        // What halts that are in force deny already is denied with this one too, and beside it.
        let scopes = [
            ("the tenant", None, None, None),
            ("an environment", Some(here.clone()), None, elsewhere),
            ("an agent", None, Some(HaltTarget::Agent(MADE_UP.into())), Some(beside.clone())),
            ("a target system", None, Some(HaltTarget::Connector(system.into())), Some(beside.clone())),
            ("a tool", None, Some(HaltTarget::Tool(tool.0.as_str().into())), Some(beside.clone())),
            ("a category", None, Some(HaltTarget::Category(tool.1.as_str().into())), Some(beside)),
        ];
        let tried = scopes.len();
        for (what, environment, on, beside) in scopes {
            let copy = thrown(state, environment, on)?;
            if !halted(&copy, &covered) {
                return Ok(Found::unavailable(format!("a halt of {what} does not deny what it covers"), STOP));
            }
            if let Some(beside) = beside
                && halted(&copy, &beside) != halted(state, &beside)
            {
                return Ok(Found::unavailable(
                    format!("a halt of {what} denies what it does not cover"),
                    "halt a wider scope, and release it by name",
                ));
            }
        }
        let seen = |e: Option<&EnvironmentId>| e.is_none_or(|e| ask.by.sees(e));
        let now = state.halts.values().filter(|h| seen(h.environment.as_ref())).count();
        Ok(Found::working(format!("{} of {tried} scopes deny on a copy; {} in force", tried, count(now, "halt"))))
    })
    .await
}

/// A decision that nobody made, as it would be recorded.
fn recorded(state: &State, input: Input) -> DecisionRecord {
    DecisionRecord { decision: decide(state, &input), grant: None, input, v: BODY_VERSION }
}

pub async fn halted_tokens(ask: &Ask) -> Probed {
    ask.aside(|ask, state| {
        let state = &awake(state);
        let Some(here) = ask.environment(state) else { return Ok(none()) };
        let Some([tool, _]) = two_tools(state) else {
            return Ok(Found::not_configured("the catalogue has no tools", "see docs/policy.md#the-catalogue"));
        };
        // Where nothing is halted already, so that it is seen to be this one.
        let mut calm = State::clone(state);
        (calm.halts, calm.emergency) = Default::default();
        let grant = recorded(&calm, asked(ask, &calm, &here, MADE_UP, &tool)?);
        let (before, after) = (u64::MAX - 1, u64::MAX);
        let copy = thrown(&calm, Some(here.clone()), None)?;
        let mut lifted = copy.clone();
        // However many it takes: what is looked at is what a lifted halt leaves behind.
        if let Some(halt) = std::sync::Arc::make_mut(&mut lifted.halts).get_mut(MADE_UP) {
            halt.people = 1;
        }
        lifted.apply(
            u64::MAX,
            &Event::HaltResumed(HaltResumed {
                by: credential()?,
                halt: name(MADE_UP)?,
                reason: "a probe".into(),
                v: BODY_VERSION,
            }),
        )?;
        let dead = |state: &State, index| matches!(state.dead_token(&grant, index), Some(Dead::Halted(_)));
        let wrong = |what: &str| Ok(Found::unavailable(what, STOP));
        if dead(&calm, before) {
            return wrong("a token is dead without a halt");
        }
        if !dead(&copy, before) || !dead(&copy, after) {
            return wrong("a token that a halt covers is not dead under it");
        }
        if !dead(&lifted, before) {
            return wrong("a token from before a halt lives again when it is lifted");
        }
        if dead(&lifted, after) {
            return wrong("what is granted after a halt was lifted is dead");
        }
        Ok(Found::working("dead under a halt, and from before it for good"))
    })
    .await
}

pub async fn halt_offline(ask: &Ask) -> Probed {
    let runtime = ask.runtime();
    runtime.follow(ask.tenant()).await?;
    // A change can come between the two: what is asked first is the smaller.
    let stored = runtime.store().head(&ask.tenant().id).await?.control_version;
    let control = ask.state().control;
    if control < stored {
        return Ok(Found::unavailable(
            format!("{control} of {stored} control entries of the store are followed"),
            "restart the server: it does not see what others halt",
        ));
    }
    Ok(Found::working(format!("all {control} control entries of the store are followed")))
}

/// Who may throw a halt in an environment, counted up to [`ENOUGH`].
fn throwers(state: &State, environment: &EnvironmentId, at: Timestamp) -> usize {
    let may = |by: &CredentialId| {
        state.access(by, at).is_ok_and(|a| {
            [Scope::EmergencyWrite, Scope::EmergencyHalt].into_iter().any(|s| a.may(s, Some(environment)))
        })
    };
    // A member with a means of signing in, or anybody's key; break-glass is a row of its own.
    let keys = state.credentials.values().filter(|c| c.glass.is_none()).map(|c| c.id.clone());
    let people = state.members.iter().filter(|(_, m)| m.active && !m.sign_in.is_empty());
    let people = people.filter_map(|(id, _)| CredentialId::of_member(id));
    keys.chain(people).filter(may).take(ENOUGH).count()
}

pub async fn halt_reach(ask: &Ask) -> Probed {
    ask.aside(|ask, state| {
        let (mut nobody, mut one, mut all) = (Vec::new(), Vec::new(), 0);
        for environment in ask.environments(state) {
            all += 1;
            match throwers(state, &environment.id, ask.now()) {
                0 => nobody.push(environment.id.to_string()),
                1 => one.push(environment.id.to_string()),
                _ => {}
            }
        }
        let give = "give it to people or a key: `intended access members roles`, `intended access credentials create`";
        if all == 0 {
            return Ok(none());
        }
        if !nobody.is_empty() {
            return Ok(Found::unavailable(format!("nobody can throw a halt in {}", listed(&nobody)), give));
        }
        if !one.is_empty() {
            return Ok(Found::degraded(format!("only one can throw a halt in {}", listed(&one)), give));
        }
        Ok(Found::working(format!("at least two can in each of {}", count(all, "environment"))))
    })
    .await
}

pub async fn resume(ask: &Ask) -> Probed {
    ask.aside(|ask, state| {
        let mut two = Vec::new();
        let mut alone = Vec::new();
        for environment in ask.environments(state) {
            let people = state.resume_people(Some(&environment.id));
            let mut copy = thrown(state, Some(environment.id.clone()), None)?;
            let lifted = copy.apply(
                u64::MAX,
                &Event::HaltResumed(HaltResumed {
                    by: credential()?,
                    halt: name(MADE_UP)?,
                    reason: "a probe".into(),
                    v: BODY_VERSION,
                }),
            );
            match lifted {
                Err(FoldError::Emergency(EmergencyError::ResumePeople { .. })) if people > 1 => {
                    two.push(environment.id.to_string())
                }
                Ok(()) if people < 2 => alone.push(environment.id.to_string()),
                other => {
                    return Ok(Found::unavailable(
                        format!(
                            "a halt of `{}`, which takes {people} to lift, is lifted by one: {other:?}",
                            environment.id
                        ),
                        "take `emergency:write` away from who must not lift it",
                    ));
                }
            }
        }
        if two.is_empty() {
            return Ok(Found::not_configured(
                "no environment asks for two people: one person lifts any halt",
                "set `emergency.resume_people` in the environment's settings: docs/emergency.md#lift-it",
            ));
        }
        let also = if alone.is_empty() { String::new() } else { format!("; one is enough in {}", listed(&alone)) };
        Ok(Found::working(format!("one person was refused in {}{also}", listed(&two))))
    })
    .await
}

pub async fn bulk_revocation(ask: &Ask) -> Probed {
    ask.aside(|ask, state| {
        let Some(here) = ask.environment(state) else { return Ok(none()) };
        let mut calm = State::clone(state);
        (calm.halts, calm.emergency) = Default::default();
        let of = |agent: &str| Ok::<_, RuntimeError>(recorded(&calm, input(&calm, &here, agent, MADE_UP, ask.now())?));
        let (meant, other) = (of(MADE_UP)?, of("capability-probe-2")?);
        let mut copy = State::clone(&calm);
        let selector = TokenSelector { agent: Some(MADE_UP.into()), ..TokenSelector::default() };
        let (reason, until) = ("a probe".into(), ask.now().plus_millis(REVOKED_MS));
        copy.apply(
            u64::MAX,
            &Event::TokensRevoked(TokensRevoked { by: credential()?, reason, selector, until, v: BODY_VERSION }),
        )?;
        let before = u64::MAX - 1;
        let wrong = |what: &str| Ok(Found::unavailable(what, STOP));
        if calm.dead_token(&meant, before).is_some() {
            return wrong("a token is dead that nobody has revoked");
        }
        if copy.dead_token(&meant, before) != Some(Dead::Revoked) {
            return wrong("a token that a revocation means is not dead");
        }
        if copy.dead_token(&other, before).is_some() || copy.dead_token(&meant, u64::MAX).is_some() {
            return wrong("a token is dead that the revocation does not mean");
        }
        Ok(Found::working("what it means is dead, and nothing else"))
    })
    .await
}

pub fn break_glass(ask: &Ask) -> Probed {
    let (state, now) = (ask.state(), ask.now());
    let seen = |scope: Option<&EnvironmentId>| scope.map_or(ask.by.sees_all(), |e| ask.by.sees(e));
    let glass = state.credentials.values().filter_map(|c| Some((c, c.glass.as_ref()?)));
    let good = glass.filter(|(c, g)| {
        g.spent.is_none()
            && !c.revoked
            && c.expires_at.is_none_or(|end| end > now)
            && seen(g.scope.environment.as_ref())
    });
    let until: Vec<Timestamp> = good.filter_map(|(c, _)| c.expires_at).collect();
    let prepare = "prepare one and put the file where it is found: `intended emergency prepare`";
    // The last that is good decides for how long there is one.
    let Some(last) = until.iter().max() else {
        return Ok(Found::not_configured("none is prepared that is good", prepare));
    };
    if last.millis_since(now) < SOON_MS {
        return Ok(Found::degraded(format!("the last of {} is good until {last}", until.len()), prepare));
    }
    Ok(Found::working(format!("{} prepared, one good until {last}", until.len())))
}

pub fn drills(ask: &Ask) -> Probed {
    let state = ask.state();
    let seen: Vec<_> = state.emergency.drills().iter().filter(|d| ask.by.sees(&d.environment)).collect();
    let mut newest: Vec<&intended_engine::Drill> = Vec::new();
    for drill in seen.iter().rev() {
        if !newest.iter().any(|n| n.drill == drill.drill) {
            newest.push(drill);
        }
    }
    let hold = "hold one: `intended emergency drill halt -e staging`";
    if newest.is_empty() {
        return Ok(Found::not_configured("none was held", hold));
    }
    let bad = newest.iter().find(|d| !d.passed || !d.restored);
    if let Some(bad) = bad {
        let what = if bad.restored { "failed" } else { "left something changed" };
        return Ok(Found::degraded(
            format!("the last {} drill, in {} at entry {}, {what}", bad.drill.as_str(), bad.environment, bad.index),
            "see `intended emergency drills`, put right what it names, and hold it again",
        ));
    }
    let kinds: Vec<String> = newest.iter().map(|d| format!("{} {}", d.drill.as_str(), d.started_at)).collect();
    Ok(Found::working(format!("passed: {}", kinds.join(", "))))
}
