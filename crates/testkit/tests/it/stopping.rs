//! What waits for people or for context, under halts, breakers and bulk revocation: they stop it when it
//! is decided again, and kill the token that waits for whoever asked.

use intended_model::decision::Outcome;
use intended_model::emergency::{HaltScope, HaltTarget, TokenSelector};
use intended_model::entry::{ActionOutcome, BreakerScope, BreakerTarget, Tier};
use intended_model::{Code, IntentId, Value};
use intended_runtime::breakers::{BreakerSpec, HoldSpec};
use intended_runtime::outcomes::Report;
use intended_runtime::tokens::Verification;
use intended_runtime::{Decided, Principal};
use intended_testkit::{environment, refund};
use intended_token::{Binding, Refusal};
use serde_json::json;

use crate::approving::{Office, name};

fn production(on: Option<(&str, &str)>) -> HaltScope {
    let on = on.map(|(kind, text)| HaltTarget::of(kind, text).unwrap());
    HaltScope { environment: Some(environment("production").unwrap()), on }
}

/// Halts that cover a refund, and the reason that is given.
fn halts() -> Vec<(HaltScope, Code)> {
    vec![
        (production(Some(("agent", "support-agent"))), Code::HaltAgent),
        (production(Some(("connector", "stripe"))), Code::HaltConnector),
        (production(Some(("tool", "stripe.*"))), Code::HaltTool),
        (production(Some(("category", "OIL-*"))), Code::HaltCategory),
        (production(None), Code::HaltEnvironment),
    ]
}

fn tool() -> BreakerTarget {
    BreakerTarget { scope: BreakerScope::Tool, target: Some("stripe.*".into()) }
}

async fn hold(office: &Office, breaker: &str) {
    let spec =
        HoldSpec { environment: Some(environment("production").unwrap()), on: Some(tool()), reason: "look".into() };
    office.world.runtime.hold_breaker(&office.world.owner, name(breaker), spec).await.unwrap();
}

/// One person lifts a halt.
async fn alone(office: &Office) {
    let settings = |now: &intended_model::entry::Settings| {
        let mut settings = now.clone();
        settings.emergency.resume_people = Some(1);
        Ok(settings)
    };
    let production = environment("production").unwrap();
    office.world.runtime.set_environment(&office.world.owner, production, Tier::Production, settings).await.unwrap();
}

async fn use_token(office: &Office, decided: &Decided) -> Result<(), Refusal> {
    let binding = Binding::IntentHash(decided.record.input.intent_hash);
    let (e, token) = (&decided.record.input.intent.environment, decided.token.as_ref().unwrap().as_str());
    match office.world.runtime.verify_token(&office.world.owner, token, "intended", e, &binding, true).await.unwrap() {
        Verification::Accepted(_) => Ok(()),
        Verification::Refused(refusal) => Err(refusal),
    }
}

/// The first thing that stands in the way of what was decided last, and what would have been allowed.
async fn explained(office: &Office, id: &IntentId) -> (String, Vec<String>) {
    let decided = office.world.runtime.decision(&office.world.owner, id).await.unwrap().unwrap();
    let why = office.world.runtime.explain(&office.world.owner, &decided.record, decided.index).await.unwrap();
    (why.obstacles[0].what.clone(), why.would_allow.into_iter().map(|c| c.change).collect())
}

/// What waits for who asked.
async fn mine(office: &Office, id: &IntentId) -> Decided {
    let decided = office.world.runtime.decision(&office.agent, id).await.unwrap().unwrap();
    office.world.runtime.with_token(&office.agent, decided).unwrap()
}

async fn approved(office: &Office, lead: &Principal) -> Decided {
    let id = office.ask().await;
    office.approve(lead, &id).await.unwrap();
    let decided = mine(office, &id).await;
    assert!(decided.token.is_some(), "{:?}", decided.record.decision);
    decided
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_under_a_halt_or_a_breaker_denies() {
    for (scope, code) in halts() {
        let office = Office::new().await;
        let lead = office.person("lead", &["leads"]).await;
        let id = office.ask().await;
        office.world.runtime.throw(&office.world.owner, scope, "stop").await.unwrap();
        office.approve(&lead, &id).await.unwrap();
        assert_eq!(office.outcome(&id).await, (Outcome::Deny, code));
        assert!(!office.open(&id).await);
        // Why, and what would have to change, is said of these halts too.
        let (obstacle, instead) = explained(&office, &id).await;
        assert!(
            obstacle.starts_with("halt `halt-") && obstacle.contains("It can be lifted by `lead`, `owner`"),
            "{code}: {obstacle}"
        );
        assert!(instead.iter().any(|c| c.starts_with("halt `halt-") && c.ends_with("` lifted")), "{code}: {instead:?}");
        office.verifies().await;
    }
    let office = Office::new().await;
    let lead = office.person("lead", &["leads"]).await;
    let id = office.ask().await;
    hold(&office, "stripe-down").await;
    office.approve(&lead, &id).await.unwrap();
    assert_eq!(office.outcome(&id).await, (Outcome::Deny, Code::BreakerOpen));
    let (obstacle, instead) = explained(&office, &id).await;
    assert!(obstacle.starts_with("breaker `stripe-down` is held on `stripe.*`"), "{obstacle}");
    assert!(instead.contains(&"breaker `stripe-down` released".to_owned()), "{instead:?}");
    office.verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn context_that_comes_under_a_halt_or_a_breaker_denies() {
    let pack = r#"
@id("ticket") @defer("ticket") permit (principal, action, resource) unless { context.text.hasTag("@context.ticket") };
@id("refund") permit (principal, action, resource) when { context.text.hasTag("@context.ticket") };
"#;
    let ticket: Value = intended_model::json::parse(br#"{"ticket":"T-1"}"#).unwrap();
    for (scope, code) in halts().into_iter().map(|(s, c)| (Some(s), c)).chain([(None, Code::BreakerOpen)]) {
        let office = Office::new().await;
        office.pack(pack).await;
        let decided = office.submit_as(&office.agent, refund(40, None).unwrap()).await;
        assert_eq!(decided.record.decision.decision, Outcome::Defer);
        match scope {
            Some(scope) => drop(office.world.runtime.throw(&office.world.owner, scope, "stop").await.unwrap()),
            None => hold(&office, "stripe-down").await,
        }
        let id = decided.record.input.id;
        let again = office.world.runtime.add_context(&office.agent, &id, &ticket).await.unwrap();
        assert_eq!((again.record.decision.decision, again.record.decision.reason), (Outcome::Deny, code));
        assert!(again.token.is_none());
        office.verifies().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_approved_before_a_halt_or_a_revocation_stays_dead_also_when_it_is_asked_for_later() {
    for (scope, code) in halts() {
        let office = Office::new().await;
        alone(&office).await;
        let lead = office.person("lead", &["leads"]).await;
        let before = approved(&office, &lead).await;
        let id = before.record.input.id;
        let thrown = office.world.runtime.throw(&office.world.owner, scope, "stop").await.unwrap();
        assert_eq!(use_token(&office, &before).await, Err(Refusal::Halted), "{code}");
        assert!(mine(&office, &id).await.token.is_none(), "{code}");
        office.world.runtime.resume(&office.world.owner, thrown.halt, "go on").await.unwrap();
        assert_eq!(use_token(&office, &before).await, Err(Refusal::Halted), "{code}");
        assert!(mine(&office, &id).await.token.is_none(), "{code}: dead tokens are not handed out");
        // What is approved after it is as good as ever.
        let after = approved(&office, &lead).await;
        assert_eq!(use_token(&office, &after).await, Ok(()), "{code}");
        office.verifies().await;
    }
    let office = Office::new().await;
    let lead = office.person("lead", &["leads"]).await;
    let before = approved(&office, &lead).await;
    let selector = TokenSelector { agent: Some("support-agent".into()), ..TokenSelector::default() };
    office.world.runtime.revoke_tokens(&office.world.owner, selector, "leaked").await.unwrap();
    assert_eq!(use_token(&office, &before).await, Err(Refusal::Revoked));
    assert!(mine(&office, &before.record.input.id).await.token.is_none());
    // A breaker kills nothing that was granted, and hands nothing out while it is held.
    let before = approved(&office, &lead).await;
    hold(&office, "stripe-down").await;
    assert!(mine(&office, &before.record.input.id).await.token.is_none());
    office.verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_suspended_hands_out_nothing_that_was_approved() {
    let office = Office::new().await;
    let lead = office.person("lead", &["leads"]).await;
    let before = approved(&office, &lead).await;
    let production = environment("production").unwrap();
    let runtime = &office.world.runtime;
    runtime.suspend_environment(&office.world.owner, &production, "audit").await.unwrap();
    assert_eq!(use_token(&office, &before).await, Err(Refusal::Suspended));
    assert!(mine(&office, &before.record.input.id).await.token.is_none());
    office.verifies().await;
}

/// Escalated and approved, it is one call to a half-open breaker, not two and not none.
#[tokio::test(flavor = "multi_thread")]
async fn an_approved_intent_takes_one_probe_of_a_half_open_breaker() {
    let office = Office::new().await;
    let runtime = &office.world.runtime;
    let owner = &office.world.owner;
    let lead = office.person("lead", &["leads"]).await;
    let rules = json!({"error_rate_permille": 1000, "minimum_calls": 1, "probes": 2, "successes": 2});
    let spec = BreakerSpec {
        active: true,
        environment: Some(environment("production").unwrap()),
        on: Some(tool()),
        rules: serde_json::from_value(rules).unwrap(),
    };
    runtime.set_breaker(owner, name("refunds"), spec).await.unwrap();
    let report = async |decided: &Decided, outcome| {
        assert_eq!(use_token(&office, decided).await, Ok(()));
        let report = Report { outcome, duration_ms: Some(100), detail: None };
        runtime.report_outcome(owner, &decided.record.input.id, report).await.unwrap();
    };
    let state = || runtime.breakers(owner).unwrap().into_iter().find(|r| r.breaker == name("refunds")).unwrap().state;
    let failed = office.submit_as(&office.agent, refund(1, None).unwrap()).await;
    let waits = office.ask().await;
    report(&failed, ActionOutcome::Failed).await;
    assert_eq!(state(), "open");
    // The one that waited meets it open.
    office.approve(&lead, &waits).await.unwrap();
    assert_eq!(office.outcome(&waits).await, (Outcome::Deny, Code::BreakerOpen));
    let (obstacle, instead) = explained(&office, &waits).await;
    assert!(obstacle.contains("`refunds`") && obstacle.contains("tried again by itself"), "{obstacle}");
    assert!(instead.contains(&"breaker `refunds` closed".to_owned()), "{instead:?}");
    office.world.clock.advance_millis(60_000);
    runtime.tend_breakers().await;
    assert_eq!(state(), "half_open");
    // Asking takes no probe; being allowed does.
    let (one, two, three) = (office.ask().await, office.ask().await, office.ask().await);
    for id in [&one, &two] {
        office.approve(&lead, id).await.unwrap();
        assert_eq!(office.outcome(id).await, (Outcome::Allow, Code::ApprovalMet));
    }
    office.approve(&lead, &three).await.unwrap();
    assert_eq!(office.outcome(&three).await, (Outcome::Deny, Code::BreakerOpen));
    office.verifies().await;
    for id in [&one, &two] {
        report(&mine(&office, id).await, ActionOutcome::Succeeded).await;
    }
    runtime.tend_breakers().await;
    assert_eq!(state(), "closed");
    office.verifies().await;
}
