//! Reasons that a gate can have, each brought about, on the running runtime where it can be.

use intended_engine::effects::MAX_SESSION_TOOLS;
use intended_engine::{Effect, decide, effects};
use intended_model::Code;
use intended_model::decision::{DecisionRecord, Outcome};
use intended_model::entry::{AgentSet, AgentState, BODY_VERSION, Settings, Tier};
use intended_runtime::escalations::Standing;
use intended_runtime::{Decided, Submission};
use intended_testkit::{World, environment, intent, refund};

use crate::tampering::verify;

async fn submit(world: &World, intent: intended_model::Intent) -> Decided {
    let submission = Submission { intent, idempotency_key: None, audience: None };
    world.runtime.submit(&world.owner, submission).await.unwrap()
}

fn outcome(decided: &Decided) -> (Outcome, Code) {
    (decided.record.decision.decision, decided.record.decision.reason)
}

fn call(tool: &str, resource: &str, more: &str) -> intended_model::Intent {
    intent(&format!(
        r#"{{"subject":{{"type":"agent","id":"support-agent"{more}}},"action":{{"name":"{tool}"}},"resource":{{"type":"{resource}","id":"1"}},"environment":"production"}}"#
    ))
    .unwrap()
}

/// The demo pack with these policies in the place of the support agent's.
async fn deploy(world: &World, policies: &str) {
    let mut pack = intended_testkit::demo_pack();
    pack.insert("support.cedar".into(), policies.into());
    world.runtime.deploy_pack(&world.owner, &environment("production").unwrap(), pack).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ambiguous_tool_and_one_that_is_known_too_vaguely_are_denied_by_name() {
    let world = World::new().await.unwrap();
    let catalogue = r#"
"acme.get_*" = { category = "OIL-101", operation = "read" }
"acme.*_order" = { category = "OIL-101", operation = "delete" }
"vague.*" = { category = "OIL-101", operation = "read", confidence = 69 }
"plain.*" = { category = "OIL-101", operation = "read", confidence = 70 }
"#;
    world.runtime.set_catalogue(&world.owner, catalogue).await.unwrap();
    for (tool, reason) in [
        ("acme.get_order", Code::ToolAmbiguous),
        ("vague.read", Code::ConfidenceLow),
        ("plain.read", Code::PolicyNoPermit),
    ] {
        let decided = submit(&world, call(tool, "order", "")).await;
        assert_eq!(outcome(&decided), (Outcome::Deny, reason), "{tool}");
    }
    verify(world.export().await.unwrap()).unwrap();
}

/// An agent that may act for others is not worth more than whom it acts for, nor can it act for who
/// may not act.
#[tokio::test(flavor = "multi_thread")]
async fn delegation_only_narrows() {
    let world = World::new().await.unwrap();
    let production = environment("production").unwrap();
    for (agent, trust, state) in
        [("support-agent", 90, AgentState::Active), ("low", 5, AgentState::Active), ("gone", 90, AgentState::Retired)]
    {
        let event = AgentSet {
            agent: agent.into(),
            by: world.owner.credential.clone(),
            environments: vec![production.clone()],
            kind: "agent".into(),
            owner: "platform".into(),
            state,
            teams: vec![],
            trust,
            categories: Vec::new(),
            purpose: Box::default(),
            tools: Vec::new(),
            workflow: Vec::new(),
            v: BODY_VERSION,
        };
        world.runtime.set_agent(&world.owner, event).await.unwrap();
    }
    deploy(&world, r#"@id("trusted") permit (principal, action, resource) when { principal.trust >= 50 };"#).await;
    let for_whom = |kind: &str, id: &str| {
        call(
            "orders.get_order",
            "order",
            &format!(r#","properties":{{"on_behalf_of":{{"type":"{kind}","id":"{id}"}}}}"#),
        )
    };
    assert_eq!(
        outcome(&submit(&world, call("orders.get_order", "order", "")).await),
        (Outcome::Allow, Code::PolicyPermit)
    );
    let narrowed = submit(&world, for_whom("agent", "low")).await;
    assert_eq!(outcome(&narrowed), (Outcome::Deny, Code::PolicyNoPermit));
    for (kind, id) in [("agent", "gone"), ("agent", "nobody"), ("member", "nobody"), ("service", "low")] {
        let decided = submit(&world, for_whom(kind, id)).await;
        assert_eq!(outcome(&decided), (Outcome::Deny, Code::DelegationWidens), "{kind} {id}");
    }
    let named_by_text = call("orders.get_order", "order", r#","properties":{"on_behalf_of":"low"}"#);
    assert_eq!(outcome(&submit(&world, named_by_text).await), (Outcome::Deny, Code::DelegationWidens));
    verify(world.export().await.unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_more_tools_than_are_tracked_is_denied_by_name() {
    let world = World::new().await.unwrap();
    let decided = submit(&world, refund(40, Some("s")).unwrap()).await;
    let state = world.owner.tenant.state();
    let after = |record: &DecisionRecord| {
        let session = effects(&state, record).into_iter().find_map(|effect| match effect {
            Effect::Session { context, .. } => Some(context),
            _ => None,
        });
        session.unwrap()
    };
    let mut record = decided.record;
    let seen = |record: &mut DecisionRecord, tools: usize| {
        record.input.session.as_mut().unwrap().tools = (0..tools).map(|n| format!("tool.{n:03}").into()).collect();
    };
    seen(&mut record, MAX_SESSION_TOOLS - 1);
    assert!(!after(&record).overflow, "there is room for one more");
    seen(&mut record, MAX_SESSION_TOOLS);
    let full = after(&record);
    assert!(full.overflow && full.tools.len() == MAX_SESSION_TOOLS);
    assert_eq!(decide(&state, &record.input).decision, Outcome::Allow, "the one that overflows it");
    record.input.session = Some(full);
    let decision = decide(&state, &record.input);
    assert_eq!((decision.decision, decision.reason), (Outcome::Deny, Code::SessionOverflow));
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_cannot_be_transformed_deny_by_name() {
    let world = World::new().await.unwrap();
    let modify = |change: &str| {
        format!(
            r#"@id("m") @modify("{change}") permit (principal, action == Action::"stripe.create_refund", resource);"#
        )
    };
    deploy(&world, &modify("cap fee = 1")).await;
    assert_eq!(outcome(&submit(&world, refund(40, None).unwrap()).await), (Outcome::Deny, Code::PolicyModifyFailed));
    deploy(&world, &modify("cap amount = 10")).await;
    let decided = submit(&world, refund(40, None).unwrap()).await;
    assert_eq!(outcome(&decided), (Outcome::Modify, Code::PolicyModify));
    let arguments = decided.record.decision.obligations.arguments.as_ref().unwrap();
    assert_eq!(arguments.to_canonical(), r#"{"amount":10}"#);
    verify(world.export().await.unwrap()).unwrap();
}

/// What policy makes of an amount is what is counted: beyond the budget it is denied, not tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_raises_an_amount_beyond_its_budget_is_denied_by_name() {
    let world = World::new().await.unwrap();
    for (change, reason) in [
        ("set amount = 1001", Code::BudgetExceeded),
        ("drop amount", Code::BudgetUnreadable),
        ("set amount = 1000", Code::PolicyModify),
    ] {
        let text = format!(
            r#"@id("m") @modify("{change}") permit (principal, action == Action::"stripe.create_refund", resource);"#
        );
        deploy(&world, &text).await;
        let decided = submit(&world, refund(40, None).unwrap()).await;
        let wanted = if reason == Code::PolicyModify { Outcome::Modify } else { Outcome::Deny };
        assert_eq!(outcome(&decided), (wanted, reason), "{change}");
    }
    verify(world.export().await.unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferral_waits_and_its_timeout_denies() {
    let world = World::new().await.unwrap();
    let text = r#"@id("d") @defer("ticket") permit (principal, action, resource) unless { context.text.hasTag("ticket") };
@id("p") permit (principal, action, resource) when { context.text.hasTag("ticket") };"#;
    deploy(&world, text).await;
    let decided = submit(&world, call("orders.get_order", "order", "")).await;
    assert_eq!(outcome(&decided), (Outcome::Defer, Code::PolicyDefer));
    assert_eq!(decided.record.decision.obligations.needs, ["ticket".into()]);
    assert!(decided.token.is_none() && decided.record.grant.is_none());
    assert!(matches!(world.runtime.standing(&world.owner, &decided.record).await.unwrap(), Standing::Open { .. }));
    let mut with_ticket = call("orders.get_order", "order", "");
    with_ticket.action.properties = intended_model::json::parse(br#"{"ticket":"T-1"}"#).unwrap();
    assert_eq!(outcome(&submit(&world, with_ticket).await), (Outcome::Allow, Code::PolicyPermit));
    world.clock.advance_millis(3_601_000);
    assert_eq!(world.runtime.standing(&world.owner, &decided.record).await.unwrap(), Standing::TimedOut);
    assert_eq!(world.runtime.close_overdue().await.unwrap(), 1);
    verify(world.export().await.unwrap()).unwrap();
}

/// No argument is unseen by policy: one that is null or an empty object is a flag of its own name.
#[tokio::test(flavor = "multi_thread")]
async fn null_and_empty_arguments_can_be_asked_about() {
    let world = World::new().await.unwrap();
    let text = r#"@id("all") permit (principal, action, resource);
@id("null") forbid (principal, action, resource) when { context.flag.hasTag("force[null]") };
@id("empty") forbid (principal, action, resource) when { context.flag.hasTag("to.who[empty]") };"#;
    deploy(&world, text).await;
    for (arguments, reason) in [
        (r#"{"force":null}"#, Code::PolicyForbid),
        (r#"{"to":{"who":{}}}"#, Code::PolicyForbid),
        (r#"{"force":{},"to":{"who":null}}"#, Code::PolicyPermit),
        (r#"{"force[null]":true}"#, Code::ContextUnrepresentable),
        (r#"{"to":{"who[empty]":true}}"#, Code::ContextUnrepresentable),
    ] {
        let mut intent = call("orders.get_order", "order", "");
        intent.action.properties = intended_model::json::parse(arguments.as_bytes()).unwrap();
        let decided = submit(&world, intent).await;
        assert_eq!(decided.record.decision.reason, reason, "{arguments}");
    }
}

/// Two agents whose names share a digest's first digits do not share a budget: the key is the whole one.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_of_each_agent_is_kept_by_the_whole_digest_of_its_name() {
    let world = World::new().await.unwrap();
    let decided = submit(&world, refund(40, None).unwrap()).await;
    let key = decided.record.input.counters.keys().next().unwrap();
    let digest = intended_model::Digest::of(b"support-agent").to_hex();
    assert_eq!(key.split('/').nth(3), Some(&*digest), "{key}");
    let settings = Settings::default();
    let production = environment("production").unwrap();
    world.runtime.set_environment(&world.owner, production, Tier::Production, |_| Ok(settings.clone())).await.unwrap();
    assert!(submit(&world, refund(40, None).unwrap()).await.record.input.counters.is_empty());
    verify(world.export().await.unwrap()).unwrap();
}
