//! Breakers on the whole runtime: what opens them, what they deny, how they close; outcomes.

use std::sync::Arc;

use intended_model::decision::{GateName, Outcome};
use intended_model::entry::{ActionOutcome, BreakerRules, BreakerTarget, Role, RoleGrant, Scope};
use intended_model::{Code, CredentialId, IntentId, MemberId, Name};
use intended_runtime::access::{CredentialSpec, MemberSpec};
use intended_runtime::breakers::{BreakerSpec, HoldSpec};
use intended_runtime::outcomes::Report;
use intended_runtime::{Decided, Principal, Submission};
use intended_testkit::{World, environment, intent, refund};
use intended_token::Binding;
use intended_verify::Check;
use serde_json::{Value, json};

use crate::http_edge::{GOOD, INTENTS, app, call, raw};
use crate::slow;
use crate::tampering::{Forge, verify};

pub fn named(text: &str) -> Name {
    Name::new(text).unwrap()
}
pub fn on(target: Value) -> BreakerTarget {
    serde_json::from_value(target).unwrap()
}
pub fn rules(rules: Value) -> BreakerRules {
    serde_json::from_value(rules).unwrap()
}

pub async fn set(world: &World, name: &str, target: Value, its: Value) {
    let environment = Some(environment("production").unwrap());
    let spec = BreakerSpec { active: true, environment, on: Some(on(target)), rules: rules(its) };
    world.runtime.set_breaker(&world.owner, named(name), spec).await.unwrap();
}

pub async fn submit(world: &World, intent: intended_model::Intent) -> Decided {
    let submission = Submission { intent, idempotency_key: None, audience: None };
    world.runtime.submit(&world.owner, submission).await.unwrap()
}
pub async fn small(world: &World) -> Decided {
    submit(world, refund(1, None).unwrap()).await
}

/// A person with a key of their own, who can do all that the owner can.
pub async fn person(world: &World, id: &str) -> Principal {
    let grants = vec![RoleGrant { environments: Vec::new(), expires_at: None, role: Role::Owner, whole: true }];
    let spec = MemberSpec { active: true, email: None, grants, groups: Vec::new(), name: None };
    let member = MemberId::new(id).unwrap();
    world.runtime.set_member(&world.owner, member.clone(), spec).await.unwrap();
    key(world, &format!("{id}-key"), Some(member), &[Scope::EmergencyWrite, Scope::EmergencyRead]).await
}

pub async fn key(world: &World, id: &str, member: Option<MemberId>, scopes: &[Scope]) -> Principal {
    let made = world.runtime.create_credential(&world.owner, spec_of(id, member, scopes)).await.unwrap();
    world.runtime.authenticate(&made.key).unwrap()
}

/// A key for production.
pub fn spec_of(id: &str, member: Option<MemberId>, scopes: &[Scope]) -> CredentialSpec {
    CredentialSpec {
        actions: Vec::new(),
        agents: Vec::new(),
        credential: CredentialId::new(id).unwrap(),
        environments: vec![environment("production").unwrap()],
        scopes: scopes.to_vec(),
        expires_at: None,
        live: true,
        member,
        networks: Vec::new(),
        whole: false,
    }
}

pub async fn consume(world: &World, decided: &Decided) {
    consume_as(world, &world.owner, decided).await;
}

pub async fn consume_as(world: &World, by: &Principal, decided: &Decided) {
    let binding = Binding::IntentHash(decided.record.input.intent_hash);
    let token = decided.token.as_ref().unwrap().as_str();
    let production = environment("production").unwrap();
    let used = world.runtime.verify_token(by, token, "intended", &production, &binding, true).await.unwrap();
    assert!(matches!(used, intended_runtime::tokens::Verification::Accepted(_)), "{used:?}");
}

pub async fn report(world: &World, by: &Principal, id: IntentId, outcome: ActionOutcome) -> Result<u64, Code> {
    let report = Report { outcome, duration_ms: Some(100), detail: None };
    world.runtime.report_outcome(by, &id, report).await.map_err(|e| e.code)
}

/// An action that is allowed, carried out, and comes to that.
pub async fn done(world: &World, outcome: ActionOutcome) -> Decided {
    let decided = small(world).await;
    assert!(decided.record.decision.decision.permits(), "{:?}", decided.record.decision);
    consume(world, &decided).await;
    report(world, &world.owner, decided.record.input.id, outcome).await.unwrap();
    decided
}

pub fn denied_by_breaker(decided: &Decided) -> String {
    let decision = &decided.record.decision;
    assert_eq!((decision.decision, decision.reason), (Outcome::Deny, Code::BreakerOpen), "{decision:?}");
    decision.gates.iter().find(|g| g.gate == GateName::Breaker).unwrap().detail.to_string()
}

pub fn standing(world: &World, name: &str) -> Option<&'static str> {
    let rows = world.runtime.breakers(&world.owner).unwrap();
    rows.iter().find(|r| r.breaker.as_str() == name).map(|r| r.state)
}

pub async fn kinds(world: &World) -> Vec<String> {
    let (_, leaves) = world.export().await.unwrap();
    leaves.iter().map(|l| intended_ledger::Leaf::parse(l).unwrap().kind.to_owned()).collect()
}

/// Everything that verification holds, the working facts included.
pub async fn holds(world: &World) {
    let (header, leaves) = world.export().await.unwrap();
    let mut verifier = intended_verify::Verifier::new(header, None).unwrap();
    leaves.iter().for_each(|leaf| verifier.entry(leaf).unwrap());
    let mut facts = Vec::new();
    for prefix in intended_verify::FACTS {
        let page = world.runtime.store().facts(&world.owner.tenant.id, prefix, "", 100_000).await.unwrap();
        facts.extend(page.into_iter().map(|(key, fact)| (key, fact.value)));
    }
    verifier.facts(facts, world.runtime.now()).unwrap();
    verifier.finish().unwrap();
}

pub const TOOL: &str = "stripe.create_refund";

#[tokio::test(flavor = "multi_thread")]
async fn an_error_rate_opens_at_its_threshold_and_the_next_decision_is_denied_with_what_and_until_when() {
    let world = World::new().await.unwrap();
    let tool = json!({"scope": "tool", "target": TOOL});
    set(&world, "refunds", tool, json!({"error_rate_permille": 500, "minimum_calls": 4})).await;
    done(&world, ActionOutcome::Succeeded).await;
    done(&world, ActionOutcome::Failed).await;
    done(&world, ActionOutcome::Succeeded).await;
    assert_eq!(standing(&world, "refunds"), Some("closed"), "half of three failed, and three are too few");
    done(&world, ActionOutcome::Unknown).await;
    assert_eq!(standing(&world, "refunds"), Some("open"));
    let detail = denied_by_breaker(&small(&world).await);
    for part in
        ["`refunds`", "error_rate 500 reached 500 permille", "4 of the last 300 s", "retry at 2026-11-24T12:01:00"]
    {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    // What it does not watch goes on.
    let lookup = intent(
        r#"{"subject":{"type":"agent","id":"support-agent"},"action":{"name":"orders.get_order"},"resource":{"type":"order","id":"7"},"environment":"production"}"#,
    );
    assert_eq!(submit(&world, lookup.unwrap()).await.record.decision.decision, Outcome::Allow);
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn denial_rate_latency_velocity_and_spend_open_when_they_are_reached_and_not_before() {
    // Each with: its rules, what happens, how often it may before it opens.
    let deny = async |world: &World| {
        let unknown = GOOD.replace(TOOL, "no.such_tool");
        submit(world, intent(&unknown).unwrap()).await;
    };
    let world = World::new().await.unwrap();
    set(
        &world,
        "b",
        json!({"scope": "agent", "target": "support-agent"}),
        json!({"denial_rate_permille": 600, "minimum_calls": 5}),
    )
    .await;
    for _ in 0..2 {
        small(&world).await;
    }
    for n in 0..3 {
        assert_eq!(standing(&world, "b"), Some("closed"), "{n} denied");
        deny(&world).await;
    }
    assert!(denied_by_breaker(&small(&world).await).contains("denial_rate 600 reached 600"));
    holds(&world).await;

    let world = World::new().await.unwrap();
    set(&world, "b", json!({"scope": "connector", "target": "stripe"}), json!({"latency_ms": 100, "minimum_calls": 3}))
        .await;
    for n in 0..3 {
        assert_eq!(standing(&world, "b"), Some("closed"), "{n} reported");
        done(&world, ActionOutcome::Succeeded).await;
    }
    assert!(denied_by_breaker(&small(&world).await).contains("latency 100 reached 100 ms"));

    let world = World::new().await.unwrap();
    set(&world, "b", json!({"scope": "category", "target": "OIL-5*"}), json!({"velocity": 4, "minimum_calls": 1}))
        .await;
    for n in 0..4 {
        assert_eq!(standing(&world, "b"), Some("closed"), "{n} allowed");
        assert!(small(&world).await.token.is_some());
    }
    assert!(denied_by_breaker(&small(&world).await).contains("velocity 4 reached 4 allowed"));

    let world = World::new().await.unwrap();
    let spend = json!({"spend": {"argument": "amount", "limit": 10_000}, "minimum_calls": 1});
    set(&world, "b", json!({"scope": "tenant"}), spend).await;
    for amount in [60, 39, 1] {
        assert_eq!(standing(&world, "b"), Some("closed"), "before {amount}");
        assert!(submit(&world, refund(amount, None).unwrap()).await.token.is_some());
    }
    assert!(denied_by_breaker(&small(&world).await).contains("spend 10000 reached 10000 hundredths"));
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amount_that_cannot_be_read_counts_as_all_there_may_be_and_one_that_is_not_there_as_nothing() {
    let world = World::new().await.unwrap();
    let production = environment("production").unwrap();
    let mut pack = intended_testkit::demo_pack();
    let all = r#"@id("all") permit (principal, action, resource);"#;
    pack.insert("support.cedar".into(), all.into());
    world.runtime.deploy_pack(&world.owner, &production, pack).await.unwrap();
    let spend = json!({"spend": {"argument": "sum", "limit": 9_007_199_254_740_991_i64}, "minimum_calls": 1});
    set(&world, "b", json!({"scope": "tenant"}), spend).await;
    assert!(small(&world).await.token.is_some());
    assert_eq!(standing(&world, "b"), Some("closed"));
    let odd = GOOD.replace("\"amount\":40", "\"amount\":40,\"sum\":\"many\"");
    assert!(submit(&world, intent(&odd).unwrap()).await.token.is_some());
    denied_by_breaker(&small(&world).await);
    holds(&world).await;
}

/// Opens the breaker `refunds` and lets the time pass until it is tried again.
async fn half_open(probes: u32, successes: u32) -> World {
    let world = World::new().await.unwrap();
    let its = json!({"error_rate_permille": 1000, "minimum_calls": 1, "probes": probes, "successes": successes});
    set(&world, "refunds", json!({"scope": "tool", "target": "stripe.*"}), its).await;
    done(&world, ActionOutcome::Failed).await;
    world.clock.advance_millis(59_999);
    world.runtime.tend_breakers().await;
    assert_eq!(standing(&world, "refunds"), Some("open"), "not before its time");
    denied_by_breaker(&small(&world).await);
    world.clock.advance_millis(1);
    world.runtime.tend_breakers().await;
    assert_eq!(standing(&world, "refunds"), Some("half_open"));
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn half_open_lets_exactly_so_many_through_however_many_come_at_once_and_the_ledger_proves_it() {
    let world = Arc::new(half_open(5, 5).await);
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let mut allowed = 0;
                for _ in 0..4 {
                    let submission =
                        Submission { intent: refund(1, None).unwrap(), idempotency_key: None, audience: None };
                    // Whoever loses too often gets no answer, and no token.
                    if let Ok(decided) = world.runtime.submit(&world.owner, submission).await {
                        allowed += usize::from(decided.token.is_some());
                    }
                }
                allowed
            })
        })
        .collect();
    let mut allowed = 0;
    for task in tasks {
        allowed += task.await.unwrap();
    }
    assert_eq!(allowed, 5);
    let detail = denied_by_breaker(&small(&world).await);
    assert!(detail.contains("half-open and its 5 probes are used"), "{detail}");
    holds(&world).await;
    // One more, written past the runtime, is found.
    let (_, leaves) = world.export().await.unwrap();
    let mut forge = Forge::of(&leaves);
    let probe = forge.0.iter().rposition(|(_, _, body)| body.contains("\"p/refunds/") && body.contains("\"grant\""));
    let mut sixth = forge.0[probe.unwrap()].clone();
    let mut body: Value = serde_json::from_str(&sixth.2).unwrap();
    body["input"]["id"] = json!("0192f0c1-7b1e-7fff-bfff-fffffffffffe");
    body["grant"]["jti"] = json!("A".repeat(43));
    sixth.2 = intended_model::json::canonical(&body).unwrap();
    forge.0.push(sixth);
    let failure = verify(forge.rebuild()).unwrap_err();
    assert!(failure.what.contains("to 6 of 5"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_that_succeed_close_it_and_one_that_fails_or_stays_unknown_opens_it_again() {
    let world = half_open(3, 2).await;
    done(&world, ActionOutcome::Succeeded).await;
    assert_eq!(standing(&world, "refunds"), Some("half_open"));
    done(&world, ActionOutcome::Succeeded).await;
    assert_eq!(standing(&world, "refunds"), Some("closed"));
    assert!(small(&world).await.token.is_some());
    holds(&world).await;

    for outcome in [ActionOutcome::Failed, ActionOutcome::Unknown] {
        let world = half_open(3, 2).await;
        done(&world, ActionOutcome::Succeeded).await;
        done(&world, outcome).await;
        assert_eq!(standing(&world, "refunds"), Some("open"), "{outcome:?}");
        assert!(denied_by_breaker(&small(&world).await).contains("probes 1 reached 1 failed"));
        // And again, with as many probes as before.
        world.clock.advance_millis(60_000);
        world.runtime.tend_breakers().await;
        for _ in 0..2 {
            done(&world, ActionOutcome::Succeeded).await;
        }
        assert_eq!(standing(&world, "refunds"), Some("closed"), "{outcome:?}");
        holds(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_nobody_reports_counts_as_failed_after_its_time() {
    let world = half_open(3, 2).await;
    let probe = small(&world).await;
    assert!(probe.token.is_some());
    // The token's minute, and another one.
    world.clock.advance_millis(120_000);
    world.runtime.tend_breakers().await;
    assert_eq!(standing(&world, "refunds"), Some("half_open"));
    world.clock.advance_millis(1_000);
    world.runtime.tend_breakers().await;
    assert_eq!(standing(&world, "refunds"), Some("open"));
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_survives_automatic_closing_and_a_restart_and_only_a_release_ends_it() {
    let world = half_open(1, 1).await;
    let hold = HoldSpec { environment: None, on: None, reason: "wrong amounts".into() };
    let probe = small(&world).await;
    let held = world.runtime.hold_breaker(&world.owner, named("refunds"), hold.clone()).await.unwrap();
    assert_eq!(held.answer.as_str(), "refunds");
    let again = world.runtime.hold_breaker(&world.owner, named("refunds"), hold).await.unwrap_err();
    assert_eq!(again.code, Code::Conflict);
    consume(&world, &probe).await;
    report(&world, &world.owner, probe.record.input.id, ActionOutcome::Succeeded).await.unwrap();
    assert!(kinds(&world).await.contains(&"breaker.closed".to_owned()), "the automatic part has closed");
    assert!(denied_by_breaker(&small(&world).await).contains("held on `stripe.*`: wrong amounts"));
    let world = world.reopen().await.unwrap();
    world.clock.advance_millis(86_400_000);
    world.runtime.tend_breakers().await;
    denied_by_breaker(&small(&world).await);
    assert_eq!(standing(&world, "refunds"), Some("held"));
    let ana = person(&world, "ana").await;
    world.runtime.release_breaker(&ana, named("refunds"), "fixed").await.unwrap();
    assert!(small(&world).await.token.is_some());
    let nobody = world.runtime.release_breaker(&ana, named("refunds"), "fixed").await.unwrap_err();
    assert_eq!(nobody.code, Code::BreakerUnknown);

    // The other way round: a release does not close what has opened by itself.
    let world = half_open(1, 1).await;
    let probe = small(&world).await;
    let hold = HoldSpec { environment: None, on: None, reason: "r".into() };
    world.runtime.hold_breaker(&world.owner, named("refunds"), hold).await.unwrap();
    let ana = person(&world, "ana").await;
    world.runtime.release_breaker(&ana, named("refunds"), "r").await.unwrap();
    denied_by_breaker(&small(&world).await);
    assert_eq!(standing(&world, "refunds"), Some("half_open"));
    consume(&world, &probe).await;
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_reads_windows_and_probes_again_from_the_ledger() {
    let world = World::new().await.unwrap();
    let its =
        json!({"error_rate_permille": 800, "minimum_calls": 5, "window": {"calls": 5}, "probes": 2, "successes": 2});
    set(&world, "refunds", json!({"scope": "tool", "target": TOOL}), its).await;
    done(&world, ActionOutcome::Succeeded).await;
    for _ in 0..3 {
        done(&world, ActionOutcome::Failed).await;
    }
    let world = world.reopen().await.unwrap();
    assert_eq!(standing(&world, "refunds"), Some("closed"));
    done(&world, ActionOutcome::Failed).await;
    assert_eq!(standing(&world, "refunds"), Some("open"), "four of five, three of them before the restart");
    let world = world.reopen().await.unwrap();
    denied_by_breaker(&small(&world).await);
    world.clock.advance_millis(60_000);
    world.runtime.tend_breakers().await;
    let probe = small(&world).await;
    consume(&world, &probe).await;
    report(&world, &world.owner, probe.record.input.id, ActionOutcome::Succeeded).await.unwrap();
    let world = world.reopen().await.unwrap();
    let last = small(&world).await;
    denied_by_breaker(&small(&world).await);
    consume(&world, &last).await;
    report(&world, &world.owner, last.record.input.id, ActionOutcome::Succeeded).await.unwrap();
    assert_eq!(standing(&world, "refunds"), Some("closed"), "one probe before the restart, one after it");
    // What opened it before is not counted again.
    let world = world.reopen().await.unwrap();
    world.runtime.tend_breakers().await;
    assert_eq!(standing(&world, "refunds"), Some("closed"));
    assert!(small(&world).await.token.is_some());
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_window_has_reached_when_the_server_is_killed_is_recorded_when_it_is_back() {
    let (world, store) = slow::world().await;
    set(&world, "refunds", json!({"scope": "tool", "target": TOOL}), json!({"velocity": 3, "minimum_calls": 1})).await;
    for _ in 0..2 {
        small(&world).await;
    }
    // The third is durable; that it opens a breaker is not, and never will be.
    store.after.close();
    let (runtime, owner) = (world.runtime.clone(), world.owner.clone());
    let submission = Submission { intent: refund(1, None).unwrap(), idempotency_key: None, audience: None };
    let third = tokio::spawn(async move { runtime.submit(&owner, submission).await.map(drop) });
    store.after.reached().await;
    third.abort();
    assert!(!kinds(&world).await.contains(&"breaker.opened".to_owned()));
    let world = world.crash().await.unwrap().back().await.unwrap();
    denied_by_breaker(&small(&world).await);
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_environment_has_default_breakers_and_each_agent_is_measured_by_itself() {
    let world = World::new().await.unwrap();
    let rows = world.runtime.breakers(&world.owner).unwrap();
    let names: Vec<&str> = rows.iter().map(|r| r.breaker.as_str()).collect();
    assert_eq!(names, ["production.agents", "production.connectors", "staging.agents", "staging.connectors"]);
    assert!(rows.iter().all(|r| !r.explicit && r.state == "closed"));
    let unknown = |agent: &str| intent(&GOOD.replace(TOOL, "no.such_tool").replace("support-agent", agent)).unwrap();
    for _ in 0..20 {
        submit(&world, unknown("release-agent")).await;
    }
    // Nobody by that name: it is denied, and not counted.
    for n in 0..30 {
        submit(&world, unknown(&format!("nobody-{n}"))).await;
    }
    assert!(denied_by_breaker(&submit(&world, unknown("release-agent")).await).contains("agent `release-agent`"));
    assert!(small(&world).await.token.is_some(), "the other agent goes on");
    let rows = world.runtime.breakers(&world.owner).unwrap();
    let targets: Vec<_> = rows[0].instances.iter().map(|i| (i.target.as_deref().unwrap(), i.state)).collect();
    assert_eq!(targets, [("release-agent", "open"), ("support-agent", "closed")]);

    // Explicit thresholds replace a default, and close it.
    let spec =
        BreakerSpec { active: true, environment: None, on: None, rules: rules(json!({"denial_rate_permille": 950})) };
    let ambiguous = world.runtime.set_breaker(&world.owner, named("mine"), spec.clone()).await.unwrap_err();
    assert_eq!(ambiguous.code, Code::RequestInvalid, "which environment");
    world.runtime.set_breaker(&world.owner, named("production.agents"), spec.clone()).await.unwrap();
    assert_eq!(submit(&world, unknown("release-agent")).await.record.decision.reason, Code::ToolUnknown);
    let rows = world.runtime.breakers(&world.owner).unwrap();
    assert_eq!((rows[0].explicit, rows[0].state, rows[2].explicit), (true, "closed", false));
    // Turned off, it stays off, and is there to be seen.
    world
        .runtime
        .set_breaker(&world.owner, named("production.agents"), BreakerSpec { active: false, ..spec })
        .await
        .unwrap();
    assert_eq!(standing(&world, "production.agents"), Some("off"));

    // And the settings can have none.
    let none = |s: &intended_model::entry::Settings| {
        let mut settings = s.clone();
        settings.breakers = intended_model::entry::BreakerDefaults::None;
        Ok(settings)
    };
    let staging = environment("staging").unwrap();
    world.runtime.set_environment(&world.owner, staging, intended_model::entry::Tier::Staging, none).await.unwrap();
    assert_eq!((standing(&world, "staging.agents"), standing(&world, "staging.connectors")), (None, None));
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_halt_or_a_breaker_denied_is_nobodys_fault() {
    let world = World::new().await.unwrap();
    let agent = json!({"scope": "agent", "target": "support-agent"});
    set(&world, "agent", agent, json!({"denial_rate_permille": 1, "minimum_calls": 1})).await;
    let (halt, _) = world.runtime.halt(&world.owner, Some(environment("production").unwrap()), "drill").await.unwrap();
    small(&world).await;
    world.runtime.resume(&world.owner, halt, "over").await.unwrap();
    let connector = Some(on(json!({"scope": "connector", "target": "stripe"})));
    let hold = HoldSpec { environment: Some(environment("production").unwrap()), on: connector, reason: "r".into() };
    world.runtime.hold_breaker(&world.owner, named("stripe-down"), hold).await.unwrap();
    denied_by_breaker(&small(&world).await);
    let ana = person(&world, "ana").await;
    world.runtime.release_breaker(&ana, named("stripe-down"), "over").await.unwrap();
    assert_eq!(standing(&world, "agent"), Some("closed"));
    assert!(small(&world).await.token.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_is_said_once_of_what_was_let_through_by_who_verifies_tokens_there() {
    let world = World::new().await.unwrap();
    let other = intended_model::TenantId::new("other").unwrap();
    let environments =
        vec![(environment("production").unwrap(), intended_model::entry::Tier::Production, Default::default())];
    let foreign = world.runtime.create_tenant(&other, &environments).await.unwrap().owner.key;
    let foreign = world.runtime.authenticate(&foreign).unwrap();
    let succeeded = ActionOutcome::Succeeded;
    let id = |decided: &Decided| decided.record.input.id;
    let say = async |by: &Principal, id| report(&world, by, id, succeeded).await;

    let unknown: IntentId = "0192f0c1-7b1e-7fff-bfff-ffffffffffff".parse().unwrap();
    assert_eq!(say(&world.owner, unknown).await, Err(Code::NotFound));
    let unused = small(&world).await;
    assert_eq!(say(&foreign, id(&unused)).await, Err(Code::NotFound), "another tenant's");
    assert_eq!(say(&world.owner, id(&unused)).await, Err(Code::OutcomeUnused));
    let denied = submit(&world, intent(&GOOD.replace(TOOL, "no.such_tool")).unwrap()).await;
    assert_eq!(say(&world.owner, id(&denied)).await, Err(Code::OutcomeNotPermitted));
    let escalated = submit(&world, refund(400, None).unwrap()).await;
    assert_eq!(say(&world.owner, id(&escalated)).await, Err(Code::OutcomeNotPermitted));

    let credential = async |name: &str, environment_of: &str, scope| {
        let spec = intended_runtime::access::CredentialSpec {
            actions: Vec::new(),
            credential: intended_model::CredentialId::new(name).unwrap(),
            environments: vec![environment(environment_of).unwrap()],
            scopes: vec![scope],
            expires_at: None,
            live: true,
            member: None,
            agents: Vec::new(),
            networks: Vec::new(),
            whole: false,
        };
        let new = world.runtime.create_credential(&world.owner, spec).await.unwrap();
        world.runtime.authenticate(&new.key).unwrap()
    };
    let elsewhere = credential("elsewhere", "staging", Scope::TokenVerify).await;
    assert_eq!(say(&elsewhere, id(&unused)).await, Err(Code::NotFound), "it does not see the environment");
    let reader = credential("reader", "production", Scope::IntentRead).await;
    assert_eq!(say(&reader, id(&unused)).await, Err(Code::ScopeMissing));
    let point = credential("point", "production", Scope::TokenVerify).await;
    consume_as(&world, &point, &unused).await;
    let keyed = point.clone().once(Some("k".into()));
    let index = say(&keyed, id(&unused)).await.unwrap();
    assert_eq!(say(&keyed, id(&unused)).await, Ok(index), "the same key, the same answer");
    let other_body = report(&world, &keyed, id(&unused), ActionOutcome::Failed).await;
    assert_eq!(other_body, Err(Code::IdempotencyMismatch));
    assert_eq!(say(&point, id(&unused)).await, Err(Code::OutcomeReported), "twice");

    let late = small(&world).await;
    consume(&world, &late).await;
    world.clock.advance_millis((60 + 86_400) * 1000 + 1_000);
    assert_eq!(say(&world.owner, id(&late)).await, Err(Code::OutcomeLate));
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn of_many_who_report_one_outcome_at_once_one_does() {
    let world = Arc::new(World::new().await.unwrap());
    let decided = small(&world).await;
    consume(&world, &decided).await;
    let id = decided.record.input.id;
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { report(&world, &world.owner, id, ActionOutcome::Failed).await })
        })
        .collect();
    let mut said = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => said += 1,
            Err(code) => assert_eq!(code, Code::OutcomeReported),
        }
    }
    assert_eq!(said, 1);
    holds(&world).await;
}

/// Opened, tried, failed, opened again, tried, closed.
async fn recorded() -> Forge {
    let world = half_open(2, 2).await;
    done(&world, ActionOutcome::Failed).await;
    world.clock.advance_millis(60_000);
    world.runtime.tend_breakers().await;
    done(&world, ActionOutcome::Succeeded).await;
    done(&world, ActionOutcome::Succeeded).await;
    assert_eq!(standing(&world, "refunds"), Some("closed"));
    Forge::of(&world.export().await.unwrap().1)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlawful_transition_is_found() {
    let honest = recorded().await;
    verify(Forge(honest.0.clone()).rebuild()).unwrap();
    let later = |b: &mut Value, name: &str, by: i64| b[name] = json!(b[name].as_i64().unwrap() + by);
    type Change<'c> = Box<dyn Fn(&mut Value) + 'c>;
    let cases: Vec<(&str, usize, Change<'_>, &str)> = vec![
        ("breaker.opened", 0, Box::new(|b| b["measured"]["value"] = json!(999)), "below its threshold"),
        ("breaker.opened", 0, Box::new(|b| b["measured"]["threshold"] = json!(1)), "do not have"),
        ("breaker.opened", 0, Box::new(|b| b["measured"]["window"] = json!({"secs": 301})), "do not have"),
        ("breaker.opened", 0, Box::new(|b| b["measured"]["metric"] = json!("latency")), "do not have"),
        ("breaker.opened", 0, Box::new(|b| b["measured"]["calls"] = json!(0)), "below minimum_calls"),
        ("breaker.opened", 0, Box::new(|b| later(b, "retry_at", -1)), "not to be tried again when"),
        ("breaker.opened", 0, Box::new(|b| b["target"] = json!("x")), "watches each by itself"),
        ("breaker.opened", 0, Box::new(|b| b["environment"] = json!("staging")), "no breaker"),
        (
            "breaker.opened",
            0,
            Box::new(|b| {
                later(b, "at", 20_000);
                later(b, "retry_at", 20_000);
            }),
            "at another time",
        ),
        ("breaker.opened", 1, Box::new(|b| b["measured"]["metric"] = json!("error_rate")), "do not have"),
        ("breaker.probing", 0, Box::new(|b| later(b, "at", -1)), "not to be tried again yet"),
        ("breaker.closed", 0, Box::new(|b| b["succeeded"] = json!(1)), "2 of its probes had succeeded, not 1"),
    ];
    for (kind, nth, change, says) in cases {
        let mut forge = Forge(honest.0.clone());
        let at = forge.position(kind, nth);
        forge.edit(at, change);
        let failure = verify(forge.rebuild()).unwrap_err();
        assert_eq!((failure.check, failure.index), (Check::Breaker, Some(at as u64)), "{kind} {says}: {failure}");
        assert!(failure.what.contains(says), "{kind} {says}: {failure}");
    }
    // Closed when it was not tried, when a probe failed, and without the probes that succeeded.
    let closed = honest.0[honest.position("breaker.closed", 0)].clone();
    let place = |before: usize| {
        let mut forge = Forge(honest.0.clone());
        forge.0.truncate(before);
        let mut entry = closed.clone();
        entry.0 = forge.0.last().unwrap().0;
        let mut body: Value = serde_json::from_str(&entry.2).unwrap();
        body["at"] = json!(entry.0.as_millis());
        entry.2 = intended_model::json::canonical(&body).unwrap();
        forge.0.push(entry);
        verify(forge.rebuild()).unwrap_err()
    };
    for (before, says) in [
        (honest.position("breaker.opened", 0), "not half-open"),
        (honest.position("breaker.probing", 0), "not half-open"),
        (honest.position("breaker.probing", 0) + 1, "0 of its probes had succeeded, not 2"),
        (honest.position("breaker.opened", 1), "1 of its probes had failed"),
        (honest.position("breaker.closed", 0) - 1, "1 of its probes had succeeded, not 2"),
    ] {
        let failure = place(before);
        assert!(failure.check == Check::Breaker && failure.what.contains(says), "{before} {says}: {failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_outcome_is_found() {
    let honest = recorded().await;
    let unknown = json!("0192f0c1-7b1e-7fff-bfff-ffffffffffff");
    type Change<'c> = Box<dyn Fn(&mut Value) + 'c>;
    let cases: Vec<(Change<'_>, Check, &str)> = vec![
        (Box::new(|b| b["intent"] = unknown.clone()), Check::Outcome, "no token of it was used"),
        (Box::new(|b| b["environment"] = json!("staging")), Check::Outcome, "another environment"),
        (Box::new(|b| b["by"] = json!("nobody")), Check::Authority, "not a credential"),
    ];
    let at = honest.position("intent.outcome", 0);
    for (change, check, says) in cases {
        let mut forge = Forge(honest.0.clone());
        forge.edit(at, change);
        let failure = verify(forge.rebuild()).unwrap_err();
        assert_eq!((failure.check, failure.index), (check, Some(at as u64)), "{failure}");
        assert!(failure.what.contains(says), "{failure}");
    }
    let mut forge = Forge(honest.0.clone());
    forge.0.insert(at + 1, honest.0[at].clone());
    let failure = verify(forge.rebuild()).unwrap_err();
    assert!(failure.check == Check::Outcome && failure.what.contains("reported before"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_an_outcome_completes_the_receipt_and_breakers_are_set_held_seen_and_released() {
    let (world, app, key) = app().await;
    let (_, decided) = raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
    let path = format!("{INTENTS}/{}", decided["id"].as_str().unwrap());
    let outcome = json!({"outcome": "failed", "duration_ms": 120, "detail": "402 card_declined"});
    let say = async |body: &Value| call(&app, "POST", &format!("{path}/outcome"), Some(&key), Some(body)).await;
    assert_eq!(say(&outcome).await.1["code"], json!("outcome.token_unused"));
    let used = json!({"token": decided["token"], "environment": "production", "intent_hash": decided["intent_hash"], "consume": true});
    call(&app, "POST", "/v1/tenants/acme/tokens/verify", Some(&key), Some(&used)).await;
    let (_, before) = call(&app, "GET", &format!("{path}/receipt"), Some(&key), None).await;
    assert_eq!(before.get("outcome"), None);
    for wrong in [
        json!({}),
        json!({"outcome": "good"}),
        json!({"outcome": "failed", "token": "x"}),
        json!({"outcome": "failed", "detail": ""}),
    ] {
        assert_eq!(say(&wrong).await.0, 400, "{wrong}");
    }
    let (status, said) = say(&outcome).await;
    assert_eq!(status, 201, "{said}");
    assert_eq!(say(&outcome).await.1["code"], json!("outcome.reported"));
    let (_, receipt) = call(&app, "GET", &format!("{path}/receipt"), Some(&key), None).await;
    let vkey = world.owner.tenant.state().vkey.to_string();
    for (part, kind) in [(&receipt, "decision"), (&receipt["outcome"], "intent.outcome")] {
        let part: intended_ledger::Receipt = serde_json::from_str(&part.to_string()).unwrap();
        assert_eq!(part.verify(&vkey).unwrap().kind, kind);
    }
    assert_eq!(receipt["outcome"]["entry"]["body"]["detail"], json!("402 card_declined"), "{receipt}");
    let (_, evidence) = call(&app, "GET", &format!("{path}/evidence"), Some(&key), None).await;
    assert!(evidence.as_array().unwrap().iter().any(|e| e["kind"] == json!("intent.outcome")));

    const BREAKERS: &str = "/v1/tenants/acme/breakers";
    let put =
        async |name: &str, body: Value| call(&app, "PUT", &format!("{BREAKERS}/{name}"), Some(&key), Some(&body)).await;
    let tool = json!({"scope": "tool", "target": "stripe.*"});
    for (name, body, status, code) in [
        ("refunds", json!({"environment": "production", "on": tool}), 400, "request.invalid"),
        ("refunds", json!({"environment": "production", "on": tool, "rules": {}}), 422, "breaker.invalid"),
        (
            "refunds",
            json!({"environment": "production", "on": tool, "rules": {"velocty": 5}}),
            400,
            "request.unknown_field",
        ),
        (
            "refunds",
            json!({"environment": "production", "on": {"scope": "tool", "target": "a*b"}, "rules": {"velocity": 50}}),
            422,
            "breaker.invalid",
        ),
        ("refunds", json!({"environment": "production", "on": tool, "rules": {"velocity": 5}}), 422, "breaker.invalid"),
        (
            "refunds",
            json!({"environment": "nowhere", "on": tool, "rules": {"velocity": 50}}),
            403,
            "credential.environment",
        ),
        (
            "else.agents",
            json!({"environment": "production", "on": tool, "rules": {"velocity": 50}}),
            422,
            "breaker.invalid",
        ),
        (
            "production.agents",
            json!({"environment": "staging", "on": tool, "rules": {"velocity": 50}}),
            422,
            "breaker.invalid",
        ),
        ("gone", json!({"environment": "production", "active": false}), 404, "breaker.unknown"),
    ] {
        let (got, problem) = put(name, body.clone()).await;
        assert_eq!((got, problem["code"].as_str()), (status, Some(code)), "{name} {body}: {problem}");
    }
    let good = json!({"environment": "production", "on": tool, "rules": {"velocity": 2, "minimum_calls": 1, "window": {"secs": 60}}});
    assert_eq!(put("refunds", good).await.0, 200);
    for _ in 0..2 {
        raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
    }
    let (status, denied) = raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
    assert_eq!((status, denied["reason"].as_str()), (403, Some("breaker.open")), "{denied}");
    let row = async |name: &str| {
        let (status, rows) = call(&app, "GET", BREAKERS, Some(&key), None).await;
        assert_eq!(status, 200);
        rows.as_array().unwrap().iter().find(|r| r["breaker"] == json!(name)).cloned().unwrap()
    };
    let open = row("refunds").await;
    assert_eq!((&open["state"], &open["explicit"]), (&json!("open"), &json!(true)), "{open}");
    assert_eq!(open["instances"][0]["opened_by"]["metric"], json!("velocity"));
    assert!(open["instances"][0]["retry_at"].is_i64());
    assert_eq!(row("production.agents").await["explicit"], json!(false));

    let post = async |path: &str, body: Value| {
        call(&app, "POST", &format!("{BREAKERS}/{path}"), Some(&key), Some(&body)).await
    };
    assert_eq!(post("production.agents/hold", json!({"reason": "r"})).await.0, 400, "which agent");
    let one = json!({"reason": "loops", "on": {"scope": "agent", "target": "release-agent"}});
    let (status, held) = post("production.agents/hold", one).await;
    assert_eq!(status, 201, "{held}");
    let shown = row("production.agents").await;
    assert_eq!((&shown["state"], &shown["held"][0]["reason"]), (&json!("held"), &json!("loops")));
    assert_eq!(post("refunds/hold", json!({"reason": " "})).await.0, 400);
    let name = held["hold"].as_str().unwrap();
    let release = format!("{name}/release");
    assert_eq!(post(&release, json!({"reason": "over"})).await.1["code"], json!("breaker.person"));
    person(&world, "ana").await;
    let spec = spec_of("ana-2", Some(MemberId::new("ana").unwrap()), &[Scope::EmergencyWrite]);
    let ana = world.runtime.create_credential(&world.owner, spec).await.unwrap().key;
    let released = async || {
        let body = json!({"reason": "over"});
        call(&app, "POST", &format!("{BREAKERS}/{release}"), Some(&ana), Some(&body)).await.0
    };
    assert_eq!((released().await, released().await), (200, 404));
    assert_eq!(
        post("nothing/hold", json!({"reason": "r", "environment": "production"})).await.1["code"],
        json!("breaker.unknown")
    );
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_thresholds_and_a_hold_need_authority_in_their_environment() {
    let world = World::new().await.unwrap();
    set(&world, "refunds", json!({"scope": "tool", "target": TOOL}), json!({"velocity": 50})).await;
    let hold = HoldSpec { environment: None, on: None, reason: "r".into() };
    world.runtime.hold_breaker(&world.owner, named("refunds"), hold).await.unwrap();
    let ana = person(&world, "ana").await;
    world.runtime.release_breaker(&ana, named("refunds"), "r").await.unwrap();
    let honest = Forge::of(&world.export().await.unwrap().1);
    for kind in ["breaker.set", "breaker.held", "breaker.released"] {
        let mut forge = Forge(honest.0.clone());
        let at = forge.position(kind, 0);
        forge.edit(at, |b| b["by"] = json!("nobody"));
        let failure = verify(forge.rebuild()).unwrap_err();
        assert_eq!((failure.check, failure.index), (Check::Authority, Some(at as u64)), "{failure}");
    }
    let events: Vec<_> = honest.0.iter().filter(|(_, kind, _)| kind.starts_with("breaker.")).collect();
    assert_eq!(events.len(), 3);
}
