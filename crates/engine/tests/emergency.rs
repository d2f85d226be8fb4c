//! What halts cover, looked up, against what they cover, said plainly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use intended_engine::emergency::{About, covers};
use intended_engine::{Dead, State};
use intended_intents::Catalogue;
use intended_model::decision::{Decision, DecisionRecord, Obligations, Outcome};
use intended_model::emergency::{HaltScope, HaltTarget};
use intended_model::entry::{BODY_VERSION, EnvironmentSet, HaltResumed, HaltThrown, Settings, TenantCreated, Tier};
use intended_model::{Code, CredentialId, EnvironmentId, Event, Intent, Name, TenantId, Timestamp};
use proptest::prelude::*;

fn by() -> CredentialId {
    CredentialId::new("c").unwrap()
}
fn environment(n: usize) -> EnvironmentId {
    EnvironmentId::new(["e0", "e1"][n]).unwrap()
}

fn state() -> State {
    let created = TenantCreated {
        catalogue: Catalogue::builtin().digest(),
        tenant: TenantId::new("t").unwrap(),
        vkey: "k".into(),
        v: BODY_VERSION,
    };
    let mut state = State::genesis(&Event::TenantCreated(created)).unwrap();
    for n in 0..2 {
        let set = EnvironmentSet {
            by: by(),
            environment: environment(n),
            settings: Settings::default(),
            tier: Tier::Staging,
            v: BODY_VERSION,
        };
        state.apply(1 + n as u64, &Event::EnvironmentSet(set)).unwrap();
    }
    state
}

const TOOLS: [&str; 6] = ["github.create_issue", "github.list", "GitHub.list", "stripe/refund", "sole", "é.x"];
const CATEGORIES: [Option<&str>; 4] = [Some("OIL-104"), Some("OIL-1504"), Some("OIL-204"), None];

fn scope() -> impl Strategy<Value = HaltScope> {
    let on = prop_oneof![
        Just(None),
        prop_oneof![Just("a0"), Just("a1"), Just("a2")].prop_map(|a| Some(HaltTarget::Agent(a.into()))),
        prop_oneof![Just("github"), Just("GITHUB"), Just("stripe")].prop_map(|c| Some(HaltTarget::Connector(c.into()))),
        prop_oneof![Just("github.create_issue"), Just("github.*"), Just("git*"), Just("*"), Just("s*"), Just("sole")]
            .prop_map(|t| Some(HaltTarget::Tool(t.into()))),
        prop_oneof![Just("OIL-104"), Just("OIL-100"), Just("OIL-1*"), Just("OIL-15*"), Just("OIL-204")]
            .prop_map(|c| Some(HaltTarget::Category(c.into()))),
    ];
    (proptest::option::of(0..2_usize), on).prop_map(|(e, on)| HaltScope { environment: e.map(environment), on })
}

#[derive(Debug, Clone)]
enum Step {
    Throw(usize, HaltScope),
    Lift(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..12_usize, scope()).prop_map(|(n, scope)| Step::Throw(n, scope)),
        2 => (0..12_usize).prop_map(Step::Lift),
    ]
}

fn intent(e: usize, agent: &str, behalf: Option<&str>, tool: &str) -> Intent {
    let properties =
        behalf.map_or(String::new(), |b| format!(r#","properties":{{"on_behalf_of":{{"type":"agent","id":"{b}"}}}}"#));
    let text = format!(
        r#"{{"subject":{{"type":"agent","id":"{agent}"{properties}}},"action":{{"name":"x"}},"resource":{{"type":"r","id":"1"}},"environment":"{}"}}"#,
        environment(e)
    );
    let value = intended_model::json::parse(text.as_bytes()).unwrap();
    let mut intent = Intent::from_value(&value, None, false).unwrap();
    intent.action.name = tool.into();
    intent
}

fn record(state: &State, intent: Intent, category: Option<&str>) -> DecisionRecord {
    let mut input = intended_engine::expect::input(state, intent, by(), Timestamp::from_millis(0));
    input.classification.category = category.map(Into::into);
    input.classification.ambiguous = false;
    let decision = Decision {
        decision: Outcome::Allow,
        gates: Vec::new(),
        obligations: Obligations::default(),
        policy: None,
        reason: Code::PolicyPermit,
        risk: None,
    };
    DecisionRecord { decision, grant: None, input, v: BODY_VERSION }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn looking_halts_up_finds_what_going_through_them_finds(steps in proptest::collection::vec(step(), 0..24)) {
        let mut state = state();
        let mut ever: Vec<(u64, HaltScope)> = Vec::new();
        for (index, step) in (10_u64..).zip(steps) {
            let name = |n| Name::new(&format!("h{n}")).unwrap();
            match step {
                Step::Throw(n, scope) => {
                    let thrown = HaltThrown {
                        by: by(), environment: scope.environment.clone(), halt: name(n), on: scope.on.clone(),
                        reason: "r".into(), resume_people: Some(1), v: BODY_VERSION,
                    };
                    let known = state.halts.contains_key(&name(n));
                    prop_assert_eq!(state.apply(index, &Event::HaltThrown(thrown)).is_ok(), !known);
                    if !known { ever.push((index, scope)); }
                }
                Step::Lift(n) => {
                    let known = state.halts.contains_key(&name(n));
                    let resumed = HaltResumed { by: by(), halt: name(n), reason: "r".into(), v: BODY_VERSION };
                    prop_assert_eq!(state.apply(index, &Event::HaltResumed(resumed)).is_ok(), known);
                }
            }
        }
        for e in 0..2 {
            for (agent, behalf) in [("a0", None), ("a1", Some("a0")), ("a3", None)] {
                for tool in TOOLS {
                    for category in CATEGORIES {
                        let record = record(&state, intent(e, agent, behalf, tool), category);
                        let about = About::of(&record.input.intent, &record.input.classification);
                        let plain = state.halts.iter().find(|(_, h)| covers(&h.scope(), &about)).map(|(name, _)| name);
                        prop_assert_eq!(state.halt_over(&about).map(|(name, _)| name), plain, "{:?}", about);
                        for granted in [0, 12, 20, 40] {
                            let killed = plain.is_some()
                                || ever.iter().any(|(index, scope)| *index > granted && covers(scope, &about));
                            let dead = state.dead_token(&record, granted);
                            prop_assert_eq!(matches!(dead, Some(Dead::Halted(_))), killed, "{:?} at {}", about, granted);
                        }
                    }
                }
            }
        }
    }
}

/// What is forgotten of old halts kills more than they did, and never less.
#[test]
fn what_is_forgotten_of_ten_thousand_halts_stays_dead() {
    let mut state = state();
    let throw = |state: &mut State, n: u64| {
        let halt = Name::new("h").unwrap();
        let on = Some(HaltTarget::Agent(format!("agent-{n}").into()));
        let thrown = HaltThrown {
            by: by(),
            environment: Some(environment(0)),
            halt: halt.clone(),
            on,
            reason: "r".into(),
            resume_people: Some(1),
            v: BODY_VERSION,
        };
        state.apply(10 + 2 * n, &Event::HaltThrown(thrown)).unwrap();
        let resumed = HaltResumed { by: by(), halt, reason: "r".into(), v: BODY_VERSION };
        state.apply(11 + 2 * n, &Event::HaltResumed(resumed)).unwrap();
    };
    for n in 0..10_001 {
        throw(&mut state, n);
    }
    let of = |state: &State, agent: &str| record(state, intent(0, agent, None, "x.y"), Some("OIL-104"));
    assert_eq!(state.dead_token(&of(&state, "agent-0"), 5), Some(Dead::Revoked), "forgotten, and dead all the same");
    assert_eq!(state.dead_token(&of(&state, "agent-1"), 5), Some(Dead::Halted(Code::HaltAgent)));
    assert_eq!(state.dead_token(&of(&state, "other"), 10), None);
    assert_eq!(state.emergency.dead_before(), 10);
}
