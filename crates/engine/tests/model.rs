//! A second model of fold and gates: naive, and obviously right. It keeps the entries as a list and
//! answers every question by looking through it from the end; it knows no index, no state, no
//! sharing. The engine must say the same, for any history and any intent.
//!
//! `PROPTEST_CASES` sets how many histories are generated (3,000 without it), each asked thirty times.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::collections::BTreeMap;

use intended_engine::{State, decide, needs};
use intended_intents::Catalogue;
use intended_model::decision::{DataClass, Input, Outcome, PROCEDURE, SessionContext};
use intended_model::entry::{
    AgentSet, AgentState, BODY_VERSION, BreakerClosed, BreakerHeld, BreakerMeasure, BreakerMetric, BreakerOpened,
    BreakerProbing, BreakerReleased, BreakerRules, BreakerScope, BreakerSet, BreakerTarget, BreakerWindow, Budget,
    CapabilitySet, Criticality, DeployCause, EnvironmentSet, HaltResumed, HaltThrown, MemberSet, PolicyDeployed,
    PolicyPublished, Settings, TenantCreated, Tier, WorkflowStep,
};
use intended_model::{
    Class, Code, CredentialId, Digest, EnvironmentId, Event, Intent, IntentId, MemberId, Name, TenantId, Timestamp,
};
use proptest::prelude::*;

/// What the self-test is called, and what reads like it.
const SELF: &str = "intended.self-test";
const LIKE_SELF: [&str; 2] = ["Intended.Self_Test", "lntended.self-test"];

const PACKS: [&str; 6] = [
    r#"@id("all") permit (principal, action, resource);"#,
    r#"@id("all") permit (principal, action, resource); @id("no") forbid (principal, action == Action::"stripe.create_refund", resource);"#,
    r#"@id("ask") @escalate("1 of owners") permit (principal, action, resource);"#,
    r#"@id("all") permit (principal, action, resource); @id("fails") permit (principal, action == Action::"orders.get_order", resource) when { context.text.getTag("zz") == "x" };"#,
    r#"@id("trusted") permit (principal, action, resource) when { principal.trust >= 50 };"#,
    r#"@id("all") permit (principal, action, resource); @id("no-tests") forbid (principal, action == Action::"intended.self-test", resource);"#,
];
const TOOLS: [&[&str]; 4] = [&[], &["orders.*"], &["stripe.create_refund"], &["orders.get_order", "s*"]];
const CATEGORIES: [&[&str]; 3] = [&[], &["OIL-9*"], &["OIL-502"]];

/// Orders of actions that an agent may declare.
fn workflow(n: usize) -> Vec<WorkflowStep> {
    let step = |action: &str, after: &[&str], not_after: &[&str]| WorkflowStep {
        action: action.into(),
        after: after.iter().map(|p| (*p).into()).collect(),
        not_after: not_after.iter().map(|p| (*p).into()).collect(),
    };
    match n {
        0 => vec![step("orders.*", &[], &[]), step("stripe.create_refund", &["orders.get_order", "crm.*"], &[])],
        1 => vec![step("*", &[], &["stripe.*"])],
        2 => vec![step("orders.get_order", &["stripe.*"], &[]), step("orders.*", &[], &["orders.get_order"])],
        _ => Vec::new(),
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}
fn environment(n: usize) -> EnvironmentId {
    EnvironmentId::new(&format!("e{n}")).unwrap()
}
fn member(n: usize) -> MemberId {
    MemberId::new(&format!("m{n}")).unwrap()
}
fn by() -> CredentialId {
    CredentialId::new("owner").unwrap()
}
fn files(pack: usize) -> BTreeMap<Box<str>, Box<str>> {
    let manifest = format!("name = \"p{pack}\"\nversion = \"1\"\n");
    [("pack.toml".into(), manifest.into()), ("p.cedar".into(), PACKS[pack].into())].into()
}
fn digest(pack: usize) -> Digest {
    let files = files(pack).into_iter().map(|(n, t)| (n.into(), t.into())).collect();
    intended_policy::Pack::parse(&intended_policy::PackSource { files }).unwrap().digest()
}

fn genesis() -> Vec<Event> {
    let mut out = vec![Event::TenantCreated(TenantCreated {
        catalogue: Catalogue::builtin().digest(),
        tenant: TenantId::new("acme").unwrap(),
        vkey: "k".into(),
        v: BODY_VERSION,
    })];
    out.extend((0..2).map(|e| settings(e, 100, 101)));
    out.extend((0..PACKS.len()).map(|pack| {
        Event::PolicyPublished(PolicyPublished {
            by: by(),
            digest: digest(pack),
            files: files(pack),
            pack: name(&format!("p{pack}")),
            version: "1".into(),
            v: BODY_VERSION,
        })
    }));
    out
}

fn settings(e: usize, limit: i64, risk_deny_at: u8) -> Event {
    let budget = Budget {
        agent: None,
        amount: None,
        id: name("calls"),
        limit,
        per_agent: false,
        tool: None,
        window_secs: 3_600,
    };
    Event::EnvironmentSet(EnvironmentSet {
        by: by(),
        environment: environment(e),
        settings: Settings { budgets: vec![budget], risk_deny_at, ..Settings::default() },
        tier: Tier::Staging,
        v: BODY_VERSION,
    })
}

/// Four breakers: one of an agent, one of a pattern, one of each agent, one of a connector.
const WATCHED: [(usize, BreakerScope, Option<&str>); 4] = [
    (0, BreakerScope::Agent, Some("a0")),
    (1, BreakerScope::Tool, Some("stripe.*")),
    (0, BreakerScope::Agent, None),
    (1, BreakerScope::Connector, Some("orders")),
];

fn breaker_rules() -> BreakerRules {
    BreakerRules {
        error_rate_permille: Some(500),
        minimum_calls: 2,
        probes: 2,
        successes: 1,
        ..BreakerRules::default()
    }
}

/// What the runtime records of breakers: mostly lawful, taken by itself.
fn automatic() -> impl Strategy<Value = Event> {
    let often = |good: i64, bad: i64| prop_oneof![8 => Just(good), 1 => Just(bad)];
    (0..4_usize, 0..8_usize, 0..2_usize, often(60_000, 59_999), often(500, 499), often(2, 1), any::<bool>()).prop_map(
        |(b, what, agent, at, value, calls, odd)| {
            let (breaker, environment) = (name(&format!("x{b}")), environment(WATCHED[b].0));
            let each = WATCHED[b].2.is_none();
            let target = (each != (odd && calls == 1)).then(|| format!("a{agent}").into());
            let v = BODY_VERSION;
            match what {
                0 | 1 => Event::BreakerSet(BreakerSet {
                    active: what == 0 || odd,
                    breaker,
                    by: by(),
                    environment,
                    on: BreakerTarget { scope: WATCHED[b].1, target: WATCHED[b].2.map(Into::into) },
                    rules: breaker_rules(),
                    v,
                }),
                2..=4 => {
                    let probes = what == 4;
                    Event::BreakerOpened(BreakerOpened {
                        at: Timestamp::from_millis(0),
                        breaker,
                        environment,
                        measured: BreakerMeasure {
                            calls: calls.unsigned_abs(),
                            metric: if probes { BreakerMetric::Probes } else { BreakerMetric::ErrorRate },
                            threshold: if probes { 1 } else { 500 },
                            value: if probes { 1 } else { value },
                            window: BreakerWindow::Secs(300),
                        },
                        retry_at: Timestamp::from_millis(at),
                        target,
                        v,
                    })
                }
                5 | 6 => Event::BreakerProbing(BreakerProbing {
                    at: Timestamp::from_millis(at),
                    breaker,
                    environment,
                    target,
                    v,
                }),
                _ => Event::BreakerClosed(BreakerClosed {
                    at: Timestamp::from_millis(at),
                    breaker,
                    environment,
                    succeeded: if value == 500 { 1 } else { 0 },
                    target,
                    unreported: u32::from(odd && calls == 1),
                    v,
                }),
            }
        },
    )
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Closed,
    Open,
    Probing,
}

fn event() -> impl Strategy<Value = Event> {
    let some = |n: usize| 0..n;
    prop_oneof![
        8 => automatic(),
        5 => (some(3), 0..8_usize, 0..3_usize, any::<bool>(), (0..8_usize, 0..6_usize, 0..12_usize, any::<bool>())).prop_map(|(a, state, reach, service, (tools, categories, steps, trusted))| {
            Event::AgentSet(AgentSet {
                agent: format!("a{a}").into(),
                by: by(),
                environments: [vec![environment(0)], vec![environment(1)], vec![environment(0), environment(1)]][reach].clone(),
                kind: if service && state == 0 { "service" } else { "agent" }.into(),
                owner: "o".into(),
                state: match state { 7 => AgentState::Retired, 6 => AgentState::Paused, _ => AgentState::Active },
                teams: vec![],
                trust: if trusted { 60 } else { 40 },
                categories: CATEGORIES.get(categories).unwrap_or(&CATEGORIES[0]).iter().map(|c| (*c).into()).collect(),
                purpose: Box::default(),
                tools: TOOLS.get(tools).unwrap_or(&TOOLS[0]).iter().map(|t| (*t).into()).collect(),
                workflow: workflow(steps),
                v: BODY_VERSION,
            })
        }),
        2 => (some(2), any::<bool>()).prop_map(|(m, active)| Event::MemberSet(MemberSet {
            active, by: by(), email: None, grants: vec![], groups: vec![], member: member(m), name: None, v: BODY_VERSION,
        })),
        3 => (some(3), some(3), proptest::option::weighted(0.3, some(2)), any::<bool>()).prop_map(|(c, pattern, e, active)| {
            Event::CapabilitySet(CapabilitySet {
                active,
                by: by(),
                capability: name(&format!("c{c}")),
                criticality: Criticality::Low,
                data_class: DataClass::Public,
                environment: e.map(environment),
                owner: "o".into(),
                pattern: ["*", "o*", "o1"][pattern].into(),
                resource_type: "order".into(),
                v: BODY_VERSION,
            })
        }),
        1 => (some(3), proptest::option::of(some(2))).prop_map(|(h, e)| Event::HaltThrown(HaltThrown {
            by: by(), environment: e.map(environment), halt: name(&format!("h{h}")), reason: "r".into(),
            on: None, resume_people: None, v: BODY_VERSION,
        })),
        2 => some(3).prop_map(|h| Event::HaltResumed(HaltResumed {
            by: by(), halt: name(&format!("h{h}")), reason: "r".into(), v: BODY_VERSION,
        })),
        1 => (some(2), some(2), any::<bool>()).prop_map(|(b, e, agent)| Event::BreakerHeld(BreakerHeld {
            breaker: name(&format!("b{b}")),
            by: by(),
            environment: environment(e),
            reason: "r".into(),
            scope: if agent { BreakerScope::Agent } else { BreakerScope::Tool },
            target: if agent { "a0" } else { "stripe.create_refund" }.into(),
            v: BODY_VERSION,
        })),
        2 => (some(2), 0..5_usize).prop_map(|(b, who)| Event::BreakerReleased(BreakerReleased {
            breaker: name(&format!("b{b}")),
            by: if who > 0 { CredentialId::of_member(&member(0)).unwrap() } else { by() },
            reason: "r".into(),
            v: BODY_VERSION,
        })),
        3 => (some(2), prop_oneof![4 => 0..4_usize, 2 => Just(4), 1 => Just(5)]).prop_map(|(e, pack)| Event::PolicyDeployed(PolicyDeployed {
            cause: DeployCause::Deploy,
            draft: None,
            reason: None,
            replaces: None,
            simulation: None,
            by: by(), digest: digest(pack), environment: environment(e), pack: name(&format!("p{pack}")), v: BODY_VERSION,
        })),
        1 => (some(2), 0..120_i64, prop_oneof![9 => Just(101_u8), 1 => Just(0_u8)])
            .prop_map(|(e, limit, deny)| settings(e, limit, deny)),
    ]
}

#[derive(Debug, Clone)]
struct Asked {
    agent: String,
    tool: &'static str,
    kind: &'static str,
    id: &'static str,
    environment: usize,
    seen: i64,
    probed: i64,
    /// Whom the agent acts for, and so on: kind and id.
    chain: Vec<(&'static str, &'static str)>,
    /// Tools that were allowed in the session, and whether there were too many; absent: there is none.
    session: Option<(Vec<&'static str>, bool)>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let one = proptest::sample::select::<&'static str>;
    let behalf = prop_oneof![
        3 => Just(("agent", "a0")), 3 => Just(("agent", "a1")), 3 => Just(("agent", "a2")),
        1 => Just(("agent", "a9")), 1 => Just(("service", "a1")), 1 => Just(("agent", "intended.self-test")),
        3 => Just(("member", "m0")), 2 => Just(("member", "m1")),
    ];
    let weighted = |a: &'static str, b: &'static str| prop_oneof![6 => Just(a), 1 => Just(b)];
    (
        prop_oneof![12 => Just("a0"), 6 => Just("a1"), 6 => Just("a2"), 3 => Just("a9"), 1 => Just(LIKE_SELF[1]), 1 => Just(SELF)],
        prop_oneof![
            9 => Just("orders.get_order"), 9 => Just("stripe.create_refund"), 3 => Just("no.such_tool"),
            1 => Just(LIKE_SELF[0]), 1 => Just(SELF), 6 => Just(""),
        ],
        weighted("order", "page"),
        one(&["o1", "o2", "x"]),
        prop_oneof![4 => Just(0_usize), 3 => Just(1), 1 => Just(9)],
        0..130_i64,
        0..4_i64,
        prop_oneof![3 => Just(Vec::new()), 2 => proptest::collection::vec(behalf, 1..8)],
        proptest::option::weighted(
            0.7,
            (
                proptest::collection::vec(one(&["orders.get_order", "stripe.create_refund", "crm.read"]), 0..3),
                proptest::bool::weighted(0.1),
            ),
        ),
    )
        .prop_map(|(agent, tool, kind, id, environment, seen, probed, chain, session)| {
            let asked = Asked { chain, session, agent: agent.to_owned(), tool, kind, id, environment, seen, probed };
            // The self-test as it has to be; with its name and anything else it is none.
            if tool.is_empty() { Asked { environment, seen, probed, ..the_self_test() } } else { asked }
        })
}

fn the_self_test() -> Asked {
    Asked {
        agent: SELF.to_owned(),
        tool: SELF,
        kind: "intended",
        id: "self-test",
        environment: 0,
        seen: 0,
        probed: 0,
        chain: Vec::new(),
        session: None,
    }
}

/// The naive model: everything is looked up in the list.
struct Naive(Vec<Event>);

impl Naive {
    fn deployed(&self, environment: &EnvironmentId) -> Option<Digest> {
        self.last(|x| match x {
            Event::PolicyDeployed(d) if d.environment == *environment => Some(d.digest),
            _ => None,
        })
    }

    /// What is in force of things that are thrown and lifted by name: the last word on each.
    fn in_force<'e>(
        &'e self,
        on: fn(&'e Event) -> Option<&'e Name>,
        off: fn(&'e Event) -> Option<&'e Name>,
    ) -> BTreeMap<&'e Name, &'e Event> {
        let mut out = BTreeMap::new();
        for event in &self.0 {
            if let Some(name) = on(event) {
                out.insert(name, event);
            }
            if let Some(name) = off(event) {
                out.remove(name);
            }
        }
        out
    }
    fn halts(&self) -> BTreeMap<&Name, &Event> {
        self.in_force(
            |e| if let Event::HaltThrown(h) = e { Some(&h.halt) } else { None },
            |e| if let Event::HaltResumed(h) = e { Some(&h.halt) } else { None },
        )
    }
    fn breakers(&self) -> BTreeMap<&Name, &Event> {
        self.in_force(
            |e| if let Event::BreakerHeld(b) = e { Some(&b.breaker) } else { None },
            |e| if let Event::BreakerReleased(b) = e { Some(&b.breaker) } else { None },
        )
    }
    /// Whether the entry may follow.
    fn follows(&self, event: &Event) -> bool {
        match event {
            Event::HaltThrown(h) => !self.halts().contains_key(&h.halt),
            Event::HaltResumed(h) => self.halts().contains_key(&h.halt),
            Event::BreakerHeld(b) => !self.breakers().contains_key(&b.breaker),
            Event::BreakerReleased(b) => self.breakers().contains_key(&b.breaker),
            Event::BreakerSet(b) => b.active || self.watches(&b.breaker),
            Event::BreakerOpened(b) => {
                let (phase, found) = (self.phase(&b.breaker, &b.target), &b.measured);
                self.names(&b.breaker, &b.target)
                    && b.retry_at == Timestamp::from_millis(60_000)
                    && match phase {
                        Phase::Closed => {
                            found.metric == BreakerMetric::ErrorRate && found.value >= 500 && found.calls >= 2
                        }
                        Phase::Probing => found.metric == BreakerMetric::Probes,
                        Phase::Open => false,
                    }
            }
            Event::BreakerProbing(b) => {
                self.names(&b.breaker, &b.target)
                    && self.phase(&b.breaker, &b.target) == Phase::Open
                    && b.at >= Timestamp::from_millis(60_000)
            }
            Event::BreakerClosed(b) => {
                self.names(&b.breaker, &b.target)
                    && self.phase(&b.breaker, &b.target) == Phase::Probing
                    && (b.succeeded, b.unreported) == (1, 0)
            }
            Event::AgentSet(a) => {
                a.state == AgentState::Retired || self.agent(&a.agent).is_none_or(|a| a.state != AgentState::Retired)
            }
            _ => true,
        }
    }
    /// Whether there is such a breaker.
    fn watches(&self, breaker: &Name) -> bool {
        let set =
            |e: &Event| if let Event::BreakerSet(b) = e { (b.breaker == *breaker).then_some(b.active) } else { None };
        self.last(set).unwrap_or(false)
    }
    /// And whether it is one that stands for each of many, exactly when one of them is named.
    fn names(&self, breaker: &Name, target: &Option<Box<str>>) -> bool {
        self.watches(breaker) && (breaker.as_str() == "x2") == target.is_some()
    }
    /// The last word on a breaker.
    fn phase(&self, breaker: &Name, target: &Option<Box<str>>) -> Phase {
        let said = |e: &Event| match e {
            Event::BreakerSet(b) if b.breaker == *breaker => Some(Phase::Closed),
            Event::BreakerOpened(b) if b.breaker == *breaker && b.target == *target => Some(Phase::Open),
            Event::BreakerProbing(b) if b.breaker == *breaker && b.target == *target => Some(Phase::Probing),
            Event::BreakerClosed(b) if b.breaker == *breaker && b.target == *target => Some(Phase::Closed),
            _ => None,
        };
        self.last(said).unwrap_or(Phase::Closed)
    }
    /// Whether one that is not closed stands in the way.
    fn stands_in_the_way(&self, asked: &Asked) -> bool {
        let agent: Box<str> = asked.agent.as_str().into();
        let covering = [
            (0, asked.agent == "a0", None),
            (1, asked.tool.starts_with("stripe."), None),
            (0, true, Some(agent)),
            (1, asked.tool.starts_with("orders."), None),
        ];
        covering.into_iter().enumerate().any(|(b, (environment, covers, target))| {
            environment == asked.environment
                && covers
                && match self.phase(&name(&format!("x{b}")), &target) {
                    Phase::Closed => false,
                    Phase::Open => true,
                    // The self-test is no probe: it waits until the breaker is closed.
                    Phase::Probing => asked.tool == SELF || asked.probed >= 2,
                }
        })
    }
    fn last<'e, T>(&'e self, of: impl Fn(&'e Event) -> Option<T>) -> Option<T> {
        self.0.iter().rev().find_map(of)
    }

    fn agent(&self, id: &str) -> Option<&AgentSet> {
        self.last(|x| match x {
            Event::AgentSet(a) if *a.agent == *id => Some(a),
            _ => None,
        })
    }

    /// What of a registration stands in the way of what is asked.
    fn unable(agent: &AgentSet, asked: &Asked) -> Option<Code> {
        let fits = |patterns: &[Box<str>], text: &str| patterns.is_empty() || patterns.iter().any(|p| like(p, text));
        let category = match asked.tool {
            "orders.get_order" => Some("OIL-901"),
            "stripe.create_refund" => Some("OIL-502"),
            _ => None,
        };
        if !fits(&agent.tools, asked.tool) {
            return Some(Code::AgentTool);
        }
        category.filter(|c| !fits(&agent.categories, c)).map(|_| Code::AgentCategory)
    }

    /// Whether each of those who act for each other may do it, and the least trust of them.
    fn chain(&self, asked: &Asked, e: &EnvironmentId) -> Option<u8> {
        if asked.chain.len() > 5 {
            return None;
        }
        let mut trust = 100;
        let mut before = vec![asked.agent.as_str()];
        for (n, (kind, id)) in asked.chain.iter().enumerate() {
            if *kind == "member" {
                let active = self.last(|x| match x {
                    Event::MemberSet(m) if m.member.as_str() == *id => Some(m.active),
                    _ => None,
                });
                if active != Some(true) || n + 1 < asked.chain.len() {
                    return None;
                }
                continue;
            }
            let agent = self.agent(id)?;
            let good = *agent.kind == **kind
                && agent.state == AgentState::Active
                && agent.environments.contains(e)
                && Self::unable(agent, asked).is_none()
                && !before.contains(id);
            if !good {
                return None;
            }
            trust = trust.min(agent.trust);
            before.push(id);
        }
        Some(trust)
    }

    /// Whether the session is where the agent says it would be for this.
    fn in_order(agent: &AgentSet, asked: &Asked) -> Option<Code> {
        if agent.workflow.is_empty() {
            return None;
        }
        let Some((done, _)) = &asked.session else { return Some(Code::WorkflowSession) };
        let was = |patterns: &[Box<str>]| patterns.iter().any(|p| done.iter().any(|d| like(p, d)));
        let may = agent
            .workflow
            .iter()
            .any(|s| like(&s.action, asked.tool) && (s.after.is_empty() || was(&s.after)) && !was(&s.not_after));
        if may { None } else { Some(Code::WorkflowOrder) }
    }

    fn decide(&self, asked: &Asked) -> (Outcome, Code) {
        let e = environment(asked.environment);
        let deny = |code| (Outcome::Deny, code);
        let Some(settings) = self.last(|x| match x {
            Event::EnvironmentSet(s) if s.environment == e => Some(&s.settings),
            _ => None,
        }) else {
            return deny(Code::EnvironmentUnknown);
        };
        for halt in self.halts().values() {
            match halt {
                Event::HaltThrown(HaltThrown { environment: None, .. }) => return deny(Code::HaltTenant),
                Event::HaltThrown(h) if h.environment.as_ref() == Some(&e) => return deny(Code::HaltEnvironment),
                _ => {}
            }
        }
        for breaker in self.breakers().values() {
            if let Event::BreakerHeld(b) = breaker
                && b.environment == e
                && (if b.scope == BreakerScope::Agent {
                    *b.target == *asked.agent || asked.chain.iter().take(6).any(|(_, id)| *b.target == **id)
                } else {
                    *b.target == *asked.tool
                })
            {
                return deny(Code::BreakerOpen);
            }
        }
        if self.stands_in_the_way(asked) {
            return deny(Code::BreakerOpen);
        }
        if asked.tool == SELF {
            let own = the_self_test();
            let plain = (&*asked.agent, asked.kind, asked.id) == (&*own.agent, own.kind, own.id);
            if !plain || !asked.chain.is_empty() || asked.session.is_some() {
                return deny(Code::SyntheticShape);
            }
            if settings.risk_deny_at == 0 {
                return deny(Code::RiskAboveLimit);
            }
            // No registry, budget or permit of the organisation's has a say, and its forbid has.
            let deployed = self.deployed(&e);
            return match (0..PACKS.len()).find(|pack| Some(digest(*pack)) == deployed) {
                None => deny(Code::PolicyNone),
                Some(5) => deny(Code::PolicyForbid),
                Some(_) => (Outcome::Allow, Code::PolicyPermit),
            };
        }
        let named = [asked.tool, asked.agent.as_str()].into_iter().chain(asked.chain.iter().take(6).map(|(_, id)| *id));
        if named.into_iter().any(|name| name == SELF || LIKE_SELF.contains(&name)) {
            return deny(Code::NameReserved);
        }
        let agent = self.agent(&asked.agent);
        let Some(agent) = agent else { return deny(Code::AgentUnknown) };
        if *agent.kind != *"agent" {
            return deny(Code::AgentKind);
        }
        if agent.state != AgentState::Active {
            return deny(Code::AgentInactive);
        }
        if !agent.environments.contains(&e) {
            return deny(Code::AgentEnvironment);
        }
        if let Some(code) = Self::unable(agent, asked) {
            return deny(code);
        }
        let Some(trust) = self.chain(asked, &e) else { return deny(Code::DelegationWidens) };
        let trust = trust.min(agent.trust);
        if asked.tool == "no.such_tool" {
            return deny(Code::ToolUnknown);
        }
        // The last word on each capability; of those that match, the exact one, else the longest prefix.
        let capabilities: Vec<&CapabilitySet> = ["c0", "c1", "c2"]
            .iter()
            .filter_map(|c| {
                self.last(|x| match x {
                    Event::CapabilitySet(s) if s.capability.as_str() == *c => Some(s),
                    _ => None,
                })
            })
            .filter(|s| s.active && *s.resource_type == *asked.kind)
            .filter(|s| match &*s.pattern {
                "*" => true,
                "o*" => asked.id.starts_with('o'),
                exact => exact == asked.id,
            })
            .collect();
        let rank = |s: &CapabilitySet| ["*", "o*", "o1"].iter().position(|p| **p == *s.pattern);
        let best = capabilities.iter().map(|s| rank(s)).max();
        let of_best: Vec<_> = capabilities.iter().filter(|s| Some(rank(s)) == best).collect();
        match of_best.as_slice() {
            [] => return deny(Code::CapabilityUnknown),
            [one] if one.environment.as_ref().is_some_and(|only| *only != e) => {
                return deny(Code::CapabilityEnvironment);
            }
            [_] => {}
            _ => return deny(Code::CapabilityAmbiguous),
        }
        if asked.session.as_ref().is_some_and(|(_, too_many)| *too_many) {
            return deny(Code::SessionOverflow);
        }
        if let Some(code) = Self::in_order(agent, asked) {
            return deny(code);
        }
        if asked.seen + 1 > settings.budgets[0].limit {
            return deny(Code::BudgetExceeded);
        }
        if settings.risk_deny_at == 0 {
            return deny(Code::RiskAboveLimit);
        }
        let deployed = self.deployed(&e);
        let refund = asked.tool == "stripe.create_refund";
        match (0..PACKS.len()).find(|pack| Some(digest(*pack)) == deployed) {
            None => deny(Code::PolicyNone),
            Some(1) if refund => deny(Code::PolicyForbid),
            Some(3) if !refund => deny(Code::PolicyError),
            Some(2) => (Outcome::Escalate, Code::PolicyEscalate),
            Some(4) if trust < 50 => deny(Code::PolicyNoPermit),
            Some(_) => (Outcome::Allow, Code::PolicyPermit),
        }
    }
}

/// Whether a text is what a pattern says.
fn like(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, _)) => text.starts_with(start),
        None => pattern == text,
    }
}

fn engine(state: &State, asked: &Asked) -> (Outcome, Code) {
    let behalf = asked.chain.iter().rev().fold(None, |inner: Option<String>, (kind, id)| {
        let properties =
            inner.map(|i| format!(",{}", i.strip_prefix('{').unwrap().strip_suffix('}').unwrap())).unwrap_or_default();
        Some(format!(r#"{{"on_behalf_of":{{"type":"{kind}","id":"{id}"{properties}}}}}"#))
    });
    let text = format!(
        r#"{{"subject":{{"type":"agent","id":"{}","properties":{}}},"action":{{"name":"{}"}},"resource":{{"type":"{}","id":"{}"}},"environment":"e{}"{}}}"#,
        asked.agent,
        behalf.unwrap_or_else(|| "{}".to_owned()),
        asked.tool,
        asked.kind,
        asked.id,
        asked.environment,
        if asked.session.is_some() { r#","session":"s""# } else { "" }
    );
    let value = intended_model::json::parse(text.as_bytes()).unwrap();
    let intent = Intent::from_value(&value, None, false).unwrap();
    let at = Timestamp::from_millis(1_795_521_600_000);
    let wanted = needs(state, PROCEDURE, &intent, at);
    let input = Input {
        approvals: vec![],
        at,
        audience: None,
        catalogue: state.catalogue.digest(),
        class: Class::of(PROCEDURE, asked.tool),
        classification: state.classify(PROCEDURE, asked.tool),
        control: state.control,
        counters: (wanted.budgets.iter().map(|b| (b.key.as_str().into(), asked.seen)))
            .chain(wanted.probes.iter().map(|b| (b.key.as_str().into(), asked.probed)))
            .collect(),
        credential: by(),
        expires_at: None,
        id: IntentId::v7(at, [7; 10]),
        intent_hash: intent.digest().unwrap(),
        intent,
        procedure: PROCEDURE,
        session: asked.session.as_ref().map(|(tools, overflow)| SessionContext {
            tools: tools.iter().map(|t| (*t).into()).collect(),
            overflow: *overflow,
            ..SessionContext::default()
        }),
    };
    let decision = decide(state, &input);
    assert_eq!(decide(state, &input), decision, "the same state and input, the same decision");
    (decision.decision, decision.reason)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(3_000), ..ProptestConfig::default() })]

    #[test]
    fn the_engine_says_what_a_list_and_common_sense_say(
        events in proptest::collection::vec(event(), 0..60),
        questions in proptest::collection::vec(asked(), 30),
    ) {
        let (state, naive) = folded(events)?;
        for asked in &questions {
            prop_assert_eq!(engine(&state, asked), naive.decide(asked), "{:?}", asked);
        }
    }
}

fn folded(events: Vec<Event>) -> Result<(State, Naive), TestCaseError> {
    let start = genesis();
    let mut state = State::genesis(&start[0]).unwrap();
    let mut naive = Naive(Vec::new());
    for mut event in start.into_iter().skip(1).chain(events) {
        // A deployment names what it replaces; what does not is refused, and tested elsewhere.
        if let Event::PolicyDeployed(deployed) = &mut event {
            deployed.replaces = naive.deployed(&deployed.environment);
        }
        let index = state.control;
        let taken = state.apply(index, &event).is_ok();
        prop_assert_eq!(taken, naive.follows(&event), "{:?}", event);
        prop_assert_eq!(state.control, index + u64::from(taken), "what is refused changes nothing");
        if taken {
            naive.0.push(event);
        }
    }
    Ok((state, naive))
}

/// The same for the breakers that open by themselves: each is seen open, half-open with probes left and
/// with none, and closed again.
#[test]
fn the_generated_histories_take_breakers_everywhere() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..600 {
        let events = proptest::collection::vec(automatic(), 0..60).new_tree(&mut runner).unwrap().current();
        let (_, naive) = folded(events).unwrap();
        for event in &naive.0 {
            let (breaker, kind) = match event {
                Event::BreakerOpened(b) if b.measured.metric == BreakerMetric::Probes => (&b.breaker, "again"),
                Event::BreakerOpened(b) => (&b.breaker, "open"),
                Event::BreakerProbing(b) => (&b.breaker, "probing"),
                Event::BreakerClosed(b) => (&b.breaker, "closed"),
                _ => continue,
            };
            seen.insert(format!("{breaker} {kind}"));
        }
    }
    assert_eq!(seen.len(), 16, "{seen:?}");
}

/// Without this the property could hold because everything is denied for one reason.
#[test]
fn the_generated_histories_reach_every_gate() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..1200 {
        let events = proptest::collection::vec(event(), 0..60).new_tree(&mut runner).unwrap().current();
        let (state, _) = folded(events).unwrap();
        for _ in 0..20 {
            seen.insert(engine(&state, &asked().new_tree(&mut runner).unwrap().current()).1);
        }
    }
    for code in [
        Code::EnvironmentUnknown,
        Code::HaltTenant,
        Code::HaltEnvironment,
        Code::BreakerOpen,
        Code::NameReserved,
        Code::SyntheticShape,
        Code::AgentUnknown,
        Code::AgentKind,
        Code::AgentInactive,
        Code::AgentEnvironment,
        Code::AgentTool,
        Code::AgentCategory,
        Code::DelegationWidens,
        Code::SessionOverflow,
        Code::WorkflowSession,
        Code::WorkflowOrder,
        Code::PolicyNoPermit,
        Code::ToolUnknown,
        Code::CapabilityUnknown,
        Code::CapabilityEnvironment,
        Code::CapabilityAmbiguous,
        Code::BudgetExceeded,
        Code::RiskAboveLimit,
        Code::PolicyNone,
        Code::PolicyForbid,
        Code::PolicyError,
        Code::PolicyEscalate,
        Code::PolicyPermit,
    ] {
        assert!(seen.contains(&code), "{code} is not among {seen:?}");
    }
}
