//! Approvals. What is tried is tried on a copy, with people who are made up: nobody is asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use intended_engine::{State, Version, approvals, decide, keys};
use intended_model::decision::{DataClass, Outcome};
use intended_model::entry::{
    AgentSet, AgentState, ApprovalGranted, BODY_VERSION, CapabilitySet, Criticality, MemberSet, Role, RoleGrant, Scope,
    Settings,
};
use intended_model::{CredentialId, EnvironmentId, Event, MemberId, Timestamp};

use super::{MADE_UP, count, credential, input, name, two_tools};
use crate::RuntimeError;
use crate::capabilities::{Ask, Found, Probed};

/// After its time something is closed by the next round of housekeeping, each second.
const LATE_MS: i64 = 60_000;

const POLICY: &str =
    "@id(\"capability-probe\") @escalate(\"2 of capability-probe\") permit (principal, action, resource);";

/// What is open of ledger positions: the people are there before it is asked for, and answer after it.
const PEOPLE: u64 = 1;
const ASKED: u64 = 2;
const ANSWERED: u64 = 3;

/// A copy of the live state with one agent that may do anything, which two people must approve.
fn stage(state: &State, environment: &EnvironmentId) -> Result<Option<State>, RuntimeError> {
    let files: BTreeMap<Box<str>, Box<str>> = [
        ("pack.toml".into(), format!("name = \"{MADE_UP}\"\nversion = \"1.0.0\"\n").into()),
        ("probe.cedar".into(), POLICY.into()),
    ]
    .into();
    let version = Arc::new(Version::compile(&files)?);
    let mut copy = State::clone(state);
    // Nothing that the tenant has stands in the way or helps: not its halts, breakers, people or rules.
    (copy.members, copy.approvals, copy.agents, copy.capabilities) = Default::default();
    (copy.halts, copy.emergency, copy.breakers, copy.incidents) = Default::default();
    let Some(place) = copy.environments.get_mut(environment) else { return Ok(None) };
    place.settings = Arc::new(Settings { risk_deny_at: 101, confidence_threshold: 0, ..Settings::default() });
    place.suspended = None;
    let (agent, by) = (Box::<str>::from(MADE_UP), credential()?);
    copy.apply(
        PEOPLE,
        &Event::AgentSet(AgentSet {
            agent: agent.clone(),
            by: by.clone(),
            categories: Vec::new(),
            environments: vec![environment.clone()],
            kind: "agent".into(),
            // Of nobody's group: who owns it does not count.
            owner: "capability-probe-owner".into(),
            purpose: Box::default(),
            state: AgentState::Active,
            teams: Vec::new(),
            tools: Vec::new(),
            trust: 100,
            workflow: Vec::new(),
            v: BODY_VERSION,
        }),
    )?;
    copy.apply(
        PEOPLE,
        &Event::CapabilitySet(CapabilitySet {
            active: true,
            by: by.clone(),
            capability: name(MADE_UP)?,
            criticality: Criticality::Low,
            data_class: DataClass::Public,
            environment: None,
            owner: agent,
            pattern: "*".into(),
            resource_type: MADE_UP.into(),
            v: BODY_VERSION,
        }),
    )?;
    // Not by who asks: whoever lets somebody in is that somebody.
    let by = CredentialId::new("capability-probe-admin").map_err(RuntimeError::internal)?;
    for person in ["capability-probe-1", "capability-probe-2"] {
        let grant = RoleGrant { environments: Vec::new(), expires_at: None, role: Role::Approver, whole: true };
        copy.apply(
            PEOPLE,
            &Event::MemberSet(MemberSet {
                active: true,
                by: by.clone(),
                email: None,
                grants: vec![grant],
                groups: vec![name(MADE_UP)?],
                member: MemberId::new(person).map_err(RuntimeError::internal)?,
                name: None,
                v: BODY_VERSION,
            }),
        )?;
    }
    Ok(copy.trying(environment, &version))
}

pub async fn quorum(ask: &Ask) -> Probed {
    ask.aside(|ask, state| {
        let Some(environment) = ask.environment(state) else {
            return Ok(Found::not_configured(
                "there is no environment",
                "make one: docs/api.md#tenants-and-environments",
            ));
        };
        let Some([(tool, _), _]) = two_tools(state) else {
            return Ok(Found::not_configured("the catalogue has no tools", "see docs/policy.md#the-catalogue"));
        };
        let Some(mut copy) = stage(state, &environment)? else {
            return Ok(Found::not_configured(
                "there is no environment",
                "make one: docs/api.md#tenants-and-environments",
            ));
        };
        let mut asked = input(&copy, &environment, MADE_UP, &tool, ask.now())?;
        let first = decide(&copy, &asked);
        let policy = first.policy.as_ref().map(|p| p.digest);
        let wrong = |what: String| {
            Found::unavailable(
                what,
                "approve nothing until it is found out why; halt what must not happen: `intended emergency halt`",
            )
        };
        let (Outcome::Escalate, Some(policy)) = (first.decision, policy) else {
            return Ok(wrong(format!("what two must approve is {} ({})", first.decision.as_str(), first.reason)));
        };
        let mut approve =
            |copy: &mut State, person: &str, at: Timestamp| -> Result<Result<Outcome, String>, RuntimeError> {
                let approver = MemberId::new(person).map_err(RuntimeError::internal)?;
                let by = CredentialId::of_member(&approver)
                    .ok_or_else(|| RuntimeError::internal("no credential of a member"))?;
                let given = ApprovalGranted {
                    approver,
                    at: Some(at),
                    by,
                    environment: environment.clone(),
                    expires_at: at.plus_secs(60),
                    intent: asked.id,
                    intent_hash: asked.intent_hash,
                    policy,
                    reason: "a probe".into(),
                    request: Some(ASKED),
                    v: BODY_VERSION,
                };
                if let Err(refused) = copy.apply(ANSWERED, &Event::ApprovalGranted(given)) {
                    return Ok(Err(refused.to_string()));
                }
                asked.approvals = approvals::references(copy, &asked.id);
                asked.control = copy.control;
                Ok(Ok(decide(copy, &asked).decision))
            };
        let now = ask.now();
        let steps = [
            ("one of two", approve(&mut copy, "capability-probe-1", now)?, Some(Outcome::Escalate)),
            ("the same person again", approve(&mut copy, "capability-probe-1", now)?, None),
            ("the second of two", approve(&mut copy, "capability-probe-2", now)?, Some(Outcome::Allow)),
        ];
        for (who, came, wanted) in &steps {
            if came.as_ref().ok() != wanted.as_ref() {
                return Ok(wrong(format!("with {who} it comes to {came:?}")));
            }
        }
        Ok(Found::working("one of two is not enough, nor the same person twice; two are"))
    })
    .await
}

pub async fn approvers(ask: &Ask) -> Probed {
    ask.aside(|ask, state| {
        let (mut quorums, mut short) = (0_usize, Vec::new());
        for environment in ask.environments(state) {
            let Some(version) = &environment.deployed else { continue };
            for (policy, requirements) in version.compiled.escalations() {
                for step in requirements.iter().flat_map(|r| r.steps()) {
                    quorums += 1;
                    // Any of them is enough.
                    let met = step.iter().any(|q| eligible(state, &environment.id, &q.group, ask.now()) >= q.count);
                    if !met {
                        let of: Vec<String> = step.iter().map(|q| format!("{} of {}", q.count, q.group)).collect();
                        short.push(format!("`{policy}` in {} asks {}", environment.id, of.join(" or ")));
                    }
                }
            }
        }
        if quorums == 0 {
            return Ok(Found::not_configured("no deployed policy asks people", "let one escalate: docs/policy.md#the-outcome"));
        }
        if short.is_empty() {
            return Ok(Found::working(format!("enough people for {}", count(quorums, "quorum"))));
        }
        let more = match short.len().saturating_sub(1) {
            0 => String::new(),
            more => format!(", and {more} more like it"),
        };
        Ok(Found::degraded(
            format!("too few people: {}{more}", short.first().map_or("", String::as_str)),
            "put people into the group: `intended access members set`; what is asked until then is denied by its timeout",
        ))
    })
    .await
}

/// How many members of a group may decide in an environment now.
fn eligible(state: &State, environment: &EnvironmentId, group: &str, at: Timestamp) -> u32 {
    let may =
        |id: &MemberId| state.member_access(id, at).is_ok_and(|a| a.may(Scope::ApprovalDecide, Some(environment)));
    let in_group = state.members.iter().filter(|(_, m)| m.active && m.groups.iter().any(|g| g.as_str() == group));
    u32::try_from(in_group.filter(|(id, _)| may(id)).count()).unwrap_or(u32::MAX)
}

pub async fn timeouts(ask: &Ask) -> Probed {
    let (store, tenant, now) = (ask.runtime().store(), &ask.tenant().id, ask.now());
    let (mut open, mut late, mut after) = (0_usize, 0_usize, String::new());
    loop {
        let page = store.facts(tenant, keys::OPEN_PREFIX, &after, 1000).await?;
        let Some((last, _)) = page.last() else { break };
        after = last.clone();
        for (_, fact) in &page {
            open += 1;
            let until = std::str::from_utf8(&fact.value).ok().and_then(|t| t.parse().ok());
            // What does not read is past any time.
            late += usize::from(until.is_none_or(|until| now.millis_since(Timestamp::from_millis(until)) > LATE_MS));
        }
    }
    // How many, of the whole tenant; what they are is not said.
    if late > 0 {
        return Ok(Found::degraded(
            format!("{late} of {open} open ones are past their time and not closed"),
            "they are denied all the same; see why housekeeping does not write: `intended health check --verbose`",
        ));
    }
    Ok(Found::working(format!("{open} open, none past its time")))
}
