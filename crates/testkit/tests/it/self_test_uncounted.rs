//! The self-test is never counted as traffic: every figure that there is, before and after a hundred of
//! them. A figure that is new is in `/metrics`, and so in this test, without anybody thinking of it.

use intended_model::decision::Outcome;
use intended_model::entry::{
    BreakerMetric, BreakerRules, BreakerScope, BreakerTarget, BreakerWindow, Budget, Scope, Settings, Tier,
};
use intended_model::{Code, EnvironmentId, Name, synthetic};
use intended_runtime::breakers::BreakerSpec;
use intended_runtime::tokens::Verification;
use intended_testkit::{environment, refund};
use serde_json::Value;

use crate::approving::{Office, name};
use crate::http_edge::call;
use crate::operate::text;
use crate::self_test::{check, run, said};

const RUNS: usize = 100;

/// Figures of the process, and of the ledger and the disk that self-tests are written to like all else:
/// they are no figures of traffic. And the self-test's own.
const OTHERS: [&str; 7] = [
    "intended_http_requests",
    "process_",
    "intended_ledger_size",
    "intended_checkpoint_age_seconds",
    "intended_audit_",
    "intended_synthetic",
    "#",
];

async fn figures(app: &axum::Router, key: &str) -> Vec<String> {
    let page = text(app, "/metrics", Some(key)).await;
    page.lines().filter(|l| !OTHERS.iter().any(|o| l.starts_with(o))).map(str::to_owned).collect()
}

fn production() -> EnvironmentId {
    environment("production").unwrap()
}

/// What a tenant is shown of itself that is counted from decisions.
async fn shown(app: &axum::Router, key: &str, incident: &Name) -> Vec<(&'static str, Value)> {
    let mut out = Vec::new();
    for path in [
        "breakers",
        "agents",
        "approvals",
        "emergency/blast-radius?environment=production",
        "decision-drift?environment=production",
        "intents?class=traffic&limit=500",
        "incidents/{incident}/timeline",
    ] {
        let at = format!("/v1/tenants/acme/{}", path.replace("{incident}", incident.as_str()));
        let (status, mut body) = call(app, "GET", &at, Some(key), None).await;
        assert_eq!(status, 200, "{path}: {body}");
        // Until when it was looked at.
        if let Some(object) = body.as_object_mut() {
            object.retain(|name, _| !["to", "at", "cursor", "unseen"].contains(&name.as_str()));
        }
        out.push((path, body));
    }
    out
}

async fn simulated(office: &Office) -> (u64, u64) {
    let by = &office.world.owner;
    let version = by.tenant.state().environments[&production()].deployed.clone().unwrap();
    let plan = intended_runtime::simulation::Plan {
        base: None,
        environment: production(),
        from: intended_model::Timestamp::from_millis(0),
        to: intended_model::Timestamp::from_millis(i64::MAX),
        only: None,
        version,
    };
    let done = office.world.runtime.simulate(by, plan, Default::default()).await.unwrap();
    (done.summary.decisions, done.summary.replayed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_self_tests_move_no_figure_of_traffic() {
    let office = Office::new().await;
    let world = &office.world;
    let (runtime, owner, key) = (&world.runtime, &world.owner, world.owner_key.as_str());
    let app = intended_api::router(intended_api::App::new(runtime.clone()));
    // Three calls of anybody's a day, and a breaker that opens with the third in a minute: whatever
    // counted a self-test as traffic would stop everything.
    let calls = Budget {
        agent: None,
        amount: None,
        id: name("calls"),
        limit: 3,
        per_agent: false,
        tool: None,
        window_secs: 86_400,
    };
    let settings = Settings { budgets: vec![calls], ..Settings::default() };
    runtime.set_environment(owner, production(), Tier::Production, |_| Ok(settings.clone())).await.unwrap();
    let rules = BreakerRules {
        velocity: Some(3),
        denial_rate_permille: Some(500),
        minimum_calls: 3,
        window: BreakerWindow::Secs(60),
        ..BreakerRules::default()
    };
    let on = BreakerTarget { scope: BreakerScope::Tenant, target: None };
    let spec = BreakerSpec { active: true, environment: Some(production()), on: Some(on), rules };
    runtime.set_breaker(owner, name("everything"), spec).await.unwrap();
    // A credential that may do all of it: what it is used for is what it is used for.
    let by = office.key("tester", None, &[Scope::TokenTest, Scope::IntentSubmit, Scope::TokenVerify]).await;
    // One real call first, so that every figure is there.
    assert_eq!(
        office.submit_as(&office.agent, refund(40, None).unwrap()).await.record.decision.decision,
        Outcome::Allow
    );
    let incident = runtime.open_incident(owner, None, "figures").await.unwrap().answer;
    world.clock.advance_millis(1_000);

    let before = (figures(&app, key).await, shown(&app, key, &incident).await, simulated(&office).await);
    for n in 0..RUNS {
        let decided = run(&office, &by).await;
        assert_eq!(said(&decided), (Outcome::Allow, Code::PolicyPermit), "run {n}");
        assert!(matches!(check(runtime, &by, &decided, true).await.unwrap(), Verification::Accepted(_)));
        assert!(matches!(check(runtime, &by, &decided, true).await.unwrap(), Verification::Refused(_)));
    }
    let after = (figures(&app, key).await, shown(&app, key, &incident).await, simulated(&office).await);
    assert_eq!(before.0, after.0);
    for (before, after) in before.1.iter().zip(&after.1) {
        assert_eq!(before, after, "{}", before.0);
    }
    assert_eq!((before.2, after.2), ((1, 1), (1, 1)));
    let page = text(&app, "/metrics", None).await;
    assert!(page.contains("intended_synthetic_total{decision=\"allow\"} 100"), "{page}");

    // Nor what people review: not the agent, not where the caller was, not what its scopes were used for.
    runtime.save_activity().await.unwrap();
    assert_eq!(runtime.agent_last_used(&owner.tenant, synthetic::NAME).unwrap(), None);
    let usage = runtime.usage(&owner.tenant, &by.credential);
    assert_eq!(usage.scopes.iter().collect::<Vec<_>>(), [Scope::TokenTest]);
    let facts = async |prefix: &str| runtime.store().facts(&owner.tenant.id, prefix, "", 1_000).await.unwrap();
    for prefix in [intended_engine::keys::AGENT_PLACES_PREFIX, intended_engine::keys::CALLER_PLACES_PREFIX] {
        let kept = facts(prefix).await;
        assert!(!kept.is_empty());
        assert!(kept.iter().all(|(_, f)| {
            let text = String::from_utf8_lossy(&f.value);
            !text.contains("tester") && !text.contains("self-test")
        }));
    }
    assert!(facts(intended_engine::keys::SESSION_PREFIX).await.is_empty());
    let budgets = facts(intended_engine::keys::BUDGET_PREFIX).await;
    assert_eq!(budgets.iter().map(|(_, f)| &*f.value).collect::<Vec<_>>(), [b"1"], "the real call");

    // Nor after a restart, which reads the windows of breakers from the ledger again.
    let Office { world, agent } = office;
    let world = world.reopen().await.unwrap();
    let office = Office { agent: world.runtime.authenticate(&world.owner_key).unwrap(), world };
    drop(agent);
    let app = intended_api::router(intended_api::App::new(office.world.runtime.clone()));
    assert_eq!(before.1[0], shown(&app, &office.world.owner_key, &incident).await[0], "breakers");

    // What is real is still counted, and counts up to its bounds.
    let one = office.submit_as(&office.world.owner, refund(40, None).unwrap()).await;
    assert_eq!(one.record.decision.decision, Outcome::Allow);
    let opens = office.submit_as(&office.world.owner, refund(40, None).unwrap()).await;
    assert_eq!(opens.record.decision.decision, Outcome::Allow);
    let opened = office.submit_as(&office.world.owner, refund(40, None).unwrap()).await;
    assert_eq!(said(&opened), (Outcome::Deny, Code::BreakerOpen), "velocity");
    // An open breaker denies the self-test as well, and a half-open one: it is no probe.
    let owner = office.world.owner.clone();
    assert_eq!(said(&run(&office, &owner).await), (Outcome::Deny, Code::BreakerOpen));
    office.world.clock.advance_millis(i64::from(BreakerRules::default().open_secs) * 1_000 + 1);
    office.world.runtime.tend_breakers().await;
    let half_open = run(&office, &owner).await;
    let gate = &half_open.record.decision.gates[1];
    assert!(gate.detail.contains("only real calls probe it"), "{}", gate.detail);
    assert!(half_open.record.input.counters.is_empty());
    office.verifies().await;
}

/// Denied ones: no share of denials, no spike on an incident, no breaker.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_denied_self_tests_are_no_denials() {
    let office = Office::new().await;
    let (runtime, owner) = (&office.world.runtime, &office.world.owner);
    let all = r#"@id("all") permit (principal, action, resource);"#;
    let no = r#"@id("no") forbid (principal, action == Action::"intended.self-test", resource);
@id("never") forbid (principal, action == Action::"crm.delete_customer", resource);"#;
    office.pack(&format!("{all}{no}")).await;
    let incident = runtime.open_incident(owner, None, "denials").await.unwrap().answer;
    office.world.clock.advance_millis(60_000);
    for _ in 0..RUNS {
        assert_eq!(said(&run(&office, owner).await), (Outcome::Deny, Code::PolicyForbid));
    }
    let spikes = async || {
        let case = runtime.incident(owner, &incident).await.unwrap();
        runtime.timeline(owner, &case, 60).await.unwrap().spikes
    };
    assert!(spikes().await.is_empty());
    let open = |rows: Vec<intended_runtime::breakers::BreakerRow>| {
        rows.iter().flat_map(|b| &b.instances).filter(|i| i.state != "closed").count()
    };
    assert_eq!(open(runtime.breakers(owner).unwrap()), 0);
    // As many real ones are all of that.
    let delete = intended_testkit::intent(
        r#"{"subject":{"type":"agent","id":"support-agent"},"action":{"name":"crm.delete_customer"},"resource":{"type":"customer","id":"7"},"environment":"production"}"#,
    )
    .unwrap();
    for _ in 0..RUNS {
        office.submit_as(owner, delete.clone()).await;
    }
    assert_eq!(spikes().await.len(), 1);
    let rows = runtime.breakers(owner).unwrap();
    let why = rows.iter().flat_map(|b| &b.instances).find_map(|i| i.opened_by).unwrap();
    assert_eq!((open(rows), why.metric), (1, BreakerMetric::DenialRate));
}
