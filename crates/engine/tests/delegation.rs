//! Who acts for whom: what was decided by the first procedure is decided so for ever, whatever is
//! looked at since.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

use intended_engine::{FoldError, State, agents, decide};
use intended_intents::Catalogue;
use intended_model::decision::{Decision, GateName, GateOutcome, Input, PROCEDURE};
use intended_model::entry::{
    AgentSet, AgentState, BODY_VERSION, EnvironmentSet, Settings, TenantCreated, Tier, WorkflowStep,
};
use intended_model::{Code, CredentialId, EnvironmentId, Event, Intent, IntentId, TenantId, Timestamp};

const AT: Timestamp = Timestamp::from_millis(1_795_521_600_000);

fn agent(name: &str) -> AgentSet {
    AgentSet {
        agent: name.into(),
        by: CredentialId::new("owner").unwrap(),
        categories: Vec::new(),
        environments: vec![EnvironmentId::new("e").unwrap()],
        kind: "agent".into(),
        owner: "o".into(),
        purpose: Box::default(),
        state: AgentState::Active,
        teams: Vec::new(),
        tools: Vec::new(),
        trust: 50,
        workflow: Vec::new(),
        v: BODY_VERSION,
    }
}

fn state(agents: impl IntoIterator<Item = AgentSet>) -> State {
    let created = TenantCreated {
        catalogue: Catalogue::builtin().digest(),
        tenant: TenantId::new("acme").unwrap(),
        vkey: "k".into(),
        v: BODY_VERSION,
    };
    let mut state = State::genesis(&Event::TenantCreated(created)).unwrap();
    let environment = EnvironmentSet {
        by: CredentialId::new("owner").unwrap(),
        environment: EnvironmentId::new("e").unwrap(),
        settings: Settings::default(),
        tier: Tier::Staging,
        v: BODY_VERSION,
    };
    state.apply(1, &Event::EnvironmentSet(environment)).unwrap();
    for (index, agent) in (2..).zip(agents) {
        state.apply(index, &Event::AgentSet(agent)).unwrap();
    }
    state
}

fn decided(state: &State, behalf: &str, procedure: u32) -> Decision {
    let text = format!(
        r#"{{"subject":{{"type":"agent","id":"a","properties":{{"on_behalf_of":{behalf}}}}},"action":{{"name":"orders.get_order"}},"resource":{{"type":"order","id":"1"}},"environment":"e"}}"#
    );
    let intent = Intent::from_value(&intended_model::json::parse(text.as_bytes()).unwrap(), None, false).unwrap();
    let input = Input {
        audience: None,
        expires_at: None,
        approvals: Vec::new(),
        at: AT,
        catalogue: state.catalogue.digest(),
        class: Default::default(),
        classification: state.catalogue.classify("orders.get_order"),
        control: state.control,
        counters: Default::default(),
        credential: CredentialId::new("owner").unwrap(),
        id: IntentId::v7(AT, [7; 10]),
        intent_hash: intent.digest().unwrap(),
        intent,
        procedure,
        session: None,
    };
    decide(state, &input)
}

fn identity(decision: &Decision) -> (GateOutcome, Code) {
    let gate = decision.gates.iter().find(|g| g.gate == GateName::Identity).unwrap();
    (gate.outcome, gate.code)
}

#[test]
fn a_nested_chain_of_the_first_procedure_is_decided_as_it_was_then() {
    let state = state([agent("a"), agent("b")]);
    // Behind the first one, names that nobody has: the first procedure did not look.
    for behalf in [
        r#"{"type":"agent","id":"b","on_behalf_of":{"type":"agent","id":"nobody"}}"#,
        r#"{"type":"agent","id":"b","on_behalf_of":{"type":"agent","id":"a"}}"#,
        r#"{"type":"agent","id":"a"}"#,
        r#"{"type":"agent","id":"b","on_behalf_of":"b"}"#,
    ] {
        assert_eq!(identity(&decided(&state, behalf, 1)), (GateOutcome::Pass, Code::GatePass), "{behalf}");
        let now = identity(&decided(&state, behalf, PROCEDURE));
        assert_eq!(now, (GateOutcome::Deny, Code::DelegationWidens), "{behalf}");
    }
    // What it did look at it looks at still.
    let first = r#"{"type":"agent","id":"nobody"}"#;
    assert_eq!(identity(&decided(&state, first, 1)).1, Code::DelegationWidens);
}

#[test]
fn a_retired_agent_stays_retired_whatever_is_said_of_it_later() {
    let mut state = state([agent("a"), AgentSet { state: AgentState::Retired, ..agent("a") }]);
    for back in [AgentState::Active, AgentState::Paused] {
        let refused = state.apply(9, &Event::AgentSet(AgentSet { state: back, ..agent("a") }));
        assert_eq!(refused, Err(FoldError::AgentRetired("a".into())));
    }
    assert_eq!(state.agents["a"].state, AgentState::Retired);
    // Who answers for it can still be said.
    let owned = AgentSet { state: AgentState::Retired, owner: "ann".into(), ..agent("a") };
    state.apply(9, &Event::AgentSet(owned)).unwrap();
    assert_eq!(&*state.agents["a"].owner, "ann");
}

#[test]
fn a_registration_keeps_to_its_bounds_and_says_where_it_does_not() {
    let step = |action: &str| WorkflowStep { action: action.into(), after: Vec::new(), not_after: Vec::new() };
    let some = |n: usize| (0..n).map(|n| format!("t.{n}").into()).collect::<Vec<Box<str>>>();
    let good = AgentSet {
        tools: some(agents::MAX_PATTERNS),
        categories: vec!["OIL-1*".into(), "*".into()],
        purpose: "é".repeat(agents::MAX_PURPOSE).into(),
        workflow: (0..agents::MAX_PATTERNS).map(|_| step("a.*")).collect(),
        ..agent("a")
    };
    agents::check(&good).unwrap();
    for (wrong, pointer) in [
        (AgentSet { tools: some(65), ..agent("a") }, "/tools"),
        (AgentSet { categories: some(65), ..agent("a") }, "/categories"),
        (AgentSet { workflow: (0..65).map(|_| step("a")).collect(), ..agent("a") }, "/workflow"),
        (AgentSet { tools: vec!["good".into(), "a*b".into()], ..agent("a") }, "/tools/1"),
        (AgentSet { tools: vec!["".into()], ..agent("a") }, "/tools/0"),
        (AgentSet { categories: vec!["é".into()], ..agent("a") }, "/categories/0"),
        (AgentSet { workflow: vec![step("a"), step("a b")], ..agent("a") }, "/workflow/1/action"),
        (
            AgentSet { workflow: vec![WorkflowStep { after: vec!["**".into()], ..step("a") }], ..agent("a") },
            "/workflow/0/after/0",
        ),
        (
            AgentSet { workflow: vec![WorkflowStep { not_after: some(65), ..step("a") }], ..agent("a") },
            "/workflow/0/not_after",
        ),
        (AgentSet { purpose: "é".repeat(501).into(), ..agent("a") }, "/purpose"),
        (AgentSet { purpose: "hid\u{202e}den".into(), ..agent("a") }, "/purpose"),
        (AgentSet { owner: "two\nlines".into(), ..agent("a") }, "/owner"),
        (AgentSet { owner: "o".repeat(201).into(), ..agent("a") }, "/owner"),
    ] {
        assert_eq!(agents::check(&wrong).unwrap_err().pointer, pointer);
        let mut state = state([]);
        assert!(matches!(state.apply(9, &Event::AgentSet(wrong)), Err(FoldError::Agent(_))), "{pointer}");
        assert!(state.agents.is_empty());
    }
}
