//! The self-test as the gates see it: an agent, a tool and a target that are the runtime's own and need
//! nobody's registration. Everything else that can deny denies it as well: halts, breakers, suspension,
//! the credential, risk, a missing policy version, a `forbid`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use intended_model::decision::{Classification, DataClass, Input};
use intended_model::entry::{AgentState, Criticality};
use intended_model::{Class, Code, Name, Value, synthetic};

use crate::decide::delegation;
use crate::state::{Agent, Capability, State};

/// Who does it. Where it may is not asked: it is of every environment.
static AGENT: LazyLock<Agent> = LazyLock::new(|| Agent {
    categories: Vec::new(),
    environments: Vec::new(),
    kind: "agent".into(),
    owned_until: BTreeMap::new(),
    owner: "intended".into(),
    purpose: "tests decisions, tokens and proofs".into(),
    state: AgentState::Active,
    teams: Vec::new(),
    tools: Vec::new(),
    trust: 100,
    workflow: Vec::new(),
});

/// What it touches, which is nothing.
static TARGET: LazyLock<Option<Capability>> = LazyLock::new(|| {
    Some(Capability {
        id: Name::new(synthetic::NAME).ok()?,
        criticality: Criticality::Low,
        data_class: DataClass::Public,
        environment: None,
        owner: "intended".into(),
        pattern: synthetic::RESOURCE_ID.into(),
        resource_type: synthetic::RESOURCE_TYPE.into(),
    })
});

pub fn agent() -> &'static Agent {
    &AGENT
}

pub fn target() -> Option<&'static Capability> {
    TARGET.as_ref()
}

impl State {
    /// What a tool does, for a decision procedure: the catalogue's word, but for the self-test, which no
    /// catalogue says anything about.
    #[must_use]
    pub fn classify(&self, procedure: u32, tool: &str) -> Classification {
        match Class::of(procedure, tool) {
            Class::Synthetic => synthetic::classification(),
            Class::Traffic => self.catalogue.classify_by(procedure, tool),
        }
    }
}

/// What is wrong with an input that is, or reads as, the self-test: another class than its tool says, a
/// self-test with anything more in it than it has, a name that is kept. Nothing of it before the third
/// procedure, when names were like any other.
pub fn objection(input: &Input) -> Option<(Code, String)> {
    let (intent, tool) = (&input.intent, &input.intent.action.name);
    let class = Class::of(input.procedure, tool);
    if class != input.class {
        return Some((Code::SyntheticShape, format!("it is {class} and says that it is {}", input.class)));
    }
    if class.is_synthetic() {
        let wanted = synthetic::intent(intent.environment.clone());
        let differs = [
            ("action", intent.action != wanted.action),
            ("context", intent.context != wanted.context),
            ("goal", intent.goal.is_some()),
            ("resource", intent.resource != wanted.resource),
            ("session", intent.session.is_some() || input.session.is_some()),
            ("subject", intent.subject != wanted.subject),
            ("audience", input.audience.is_some()),
            ("approvals", !input.approvals.is_empty() || input.expires_at.is_some()),
            ("counters", !input.counters.is_empty()),
        ];
        let more: Vec<&str> = differs.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
        return (!more.is_empty()).then(|| (Code::SyntheticShape, more.join(", ")));
    }
    if input.procedure < 3 {
        return None;
    }
    if synthetic::is_reserved(tool) {
        return Some((Code::NameReserved, format!("tool `{tool}`")));
    }
    let chain = delegation(intent);
    let acting = chain.iter().filter_map(|v| v.get("id").and_then(Value::as_str));
    let kept = std::iter::once(&*intent.subject.id).chain(acting).find(|name| synthetic::is_reserved(name))?;
    Some((Code::NameReserved, format!("agent `{kept}`")))
}
