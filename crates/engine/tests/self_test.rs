//! The self-test belongs to the third procedure: what was decided before under its name is decided so
//! for ever.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use intended_engine::{State, decide, expect};
use intended_intents::Catalogue;
use intended_model::decision::{Decision, PROCEDURE};
use intended_model::entry::{
    AgentSet, AgentState, BODY_VERSION, CatalogueSet, EnvironmentSet, Settings, TenantCreated, Tier,
};
use intended_model::{Class, Code, CredentialId, Digest, EnvironmentId, Event, Intent, TenantId, Timestamp, synthetic};

const AT: Timestamp = Timestamp::from_millis(1_795_521_600_000);
const OWN: &str = "\"intended.self-test\" = { category = \"OIL-502\", operation = \"transfer\" }";

/// A tenant that had an agent and a tool of that name before it was kept.
fn state() -> State {
    let by = || CredentialId::new("owner").unwrap();
    let environment = || EnvironmentId::new("e").unwrap();
    let events = [
        Event::TenantCreated(TenantCreated {
            catalogue: Catalogue::builtin().digest(),
            tenant: TenantId::new("acme").unwrap(),
            vkey: "k".into(),
            v: BODY_VERSION,
        }),
        Event::EnvironmentSet(EnvironmentSet {
            by: by(),
            environment: environment(),
            settings: Settings::default(),
            tier: Tier::Staging,
            v: BODY_VERSION,
        }),
        Event::CatalogueSet(CatalogueSet {
            by: by(),
            digest: Digest::of(OWN.as_bytes()),
            shipped: Catalogue::builtin().digest(),
            text: OWN.into(),
            v: BODY_VERSION,
        }),
        Event::AgentSet(AgentSet {
            agent: synthetic::NAME.into(),
            by: by(),
            categories: Vec::new(),
            environments: vec![environment()],
            kind: "agent".into(),
            owner: "o".into(),
            purpose: Box::default(),
            state: AgentState::Active,
            teams: Vec::new(),
            tools: Vec::new(),
            trust: 50,
            workflow: Vec::new(),
            v: BODY_VERSION,
        }),
    ];
    let mut state = State::genesis(&events[0]).unwrap();
    events.iter().enumerate().skip(1).for_each(|(index, event)| state.apply(index as u64, event).unwrap());
    state
}

fn decided(state: &State, intent: &Intent, procedure: u32) -> Decision {
    let mut input = expect::input(state, intent.clone(), CredentialId::new("owner").unwrap(), AT);
    input.procedure = procedure;
    input.class = Class::of(procedure, &intent.action.name);
    input.classification = state.classify(procedure, &intent.action.name);
    decide(state, &input)
}

fn code(decision: &Decision, gate: usize) -> Code {
    decision.gates[gate].code
}

#[test]
fn before_the_third_procedure_its_name_was_one_like_any_other() {
    let state = state();
    let own = synthetic::intent(EnvironmentId::new("e").unwrap());
    for procedure in 1..PROCEDURE {
        let then = decided(&state, &own, procedure);
        // The agent was registered and the tool was the catalogue's; the target was nobody's.
        assert_eq!((code(&then, 2), code(&then, 3)), (Code::GatePass, Code::GatePass), "{procedure}");
        assert_eq!(code(&then, 4), Code::CapabilityUnknown);
        assert_eq!(state.classify(procedure, synthetic::NAME).category.as_deref(), Some("OIL-502"));
    }
    let now = decided(&state, &own, PROCEDURE);
    assert_eq!((code(&now, 2), code(&now, 4), now.reason), (Code::GatePass, Code::GatePass, Code::PolicyNone));
    assert_eq!(state.classify(PROCEDURE, synthetic::NAME), synthetic::classification());
    // And an agent of that name does nothing else any more.
    let mut other = own;
    other.action.name = "orders.get_order".into();
    assert_eq!(code(&decided(&state, &other, PROCEDURE - 1), 2), Code::GatePass);
    assert_eq!(code(&decided(&state, &other, PROCEDURE), 2), Code::NameReserved);
}

#[test]
fn a_class_that_is_not_the_tools_is_refused_either_way() {
    let state = state();
    let own = synthetic::intent(EnvironmentId::new("e").unwrap());
    let mut real = own.clone();
    real.action.name = "orders.get_order".into();
    for (intent, says) in [(own, Class::Traffic), (real, Class::Synthetic)] {
        let mut input = expect::input(&state, intent, CredentialId::new("owner").unwrap(), AT);
        input.class = says;
        assert_eq!(code(&decide(&state, &input), 2), Code::SyntheticShape);
    }
}
