//! What breakers go by: every decision and every outcome, once, whether or not who asked still waits and
//! whether or not the server was started anew; and nothing that is not the agent's doing.

use std::sync::Arc;
use std::time::Duration;

use intended_engine::covers::Acting;
use intended_engine::keys;
use intended_model::decision::Outcome;
use intended_model::entry::{ActionOutcome, Scope};
use intended_model::{Code, IntentId};
use intended_runtime::access::CredentialSpec;
use intended_runtime::breakers::{Monitor, Sample, Seen};
use intended_runtime::outcomes::Report;
use intended_runtime::{Runtime, Submission};
use intended_store::{Commit, Write};
use intended_store_sqlite::{Options, SqliteStore};
use intended_testkit::{SeededRng, World, environment, intent, refund, root_key};
use intended_verify::Check;
use serde_json::json;

use crate::approving::Office;
use crate::breakers::{
    TOOL, consume, denied_by_breaker, done, holds, kinds, named, set, small, spec_of, standing, submit,
};
use crate::http_edge::GOOD;
use crate::slow;
use crate::tampering::{Forge, verify};

/// Lets the server's housekeeping go on until a breaker stands so.
async fn until(world: &World, breaker: &str, state: &str) {
    for _ in 0..500 {
        world.runtime.tend_breakers().await;
        if standing(world, breaker) == Some(state) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("`{breaker}` is {:?} and never was {state}", standing(world, breaker));
}

fn velocity(n: u32) -> serde_json::Value {
    json!({"velocity": n, "minimum_calls": 1, "probes": 2, "successes": 2})
}

async fn watch(world: &World, rules: serde_json::Value) {
    set(world, "refunds", json!({"scope": "tool", "target": TOOL}), rules).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_and_asks_again_is_counted_as_often_as_they_were_allowed() {
    let (world, store) = slow::world().await;
    watch(&world, velocity(3)).await;
    for n in 0..3 {
        let ask = || {
            let (runtime, owner) = (world.runtime.clone(), world.owner.clone());
            let key = Some(format!("k-{n}").into());
            let submission = Submission { intent: refund(1, None).unwrap(), idempotency_key: key, audience: None };
            async move { runtime.submit(&owner, submission).await }
        };
        store.after.close();
        let asking = tokio::spawn(ask());
        store.after.reached().await;
        asking.abort();
        assert!(asking.await.unwrap_err().is_cancelled());
        store.after.open();
        let again = ask().await.unwrap();
        assert!(again.replayed && again.token.is_some(), "{n}");
    }
    until(&world, "refunds", "open").await;
    denied_by_breaker(&small(&world).await);
    let mut allowed = 0;
    world.runtime.metrics().each(|_, _, counted| {
        allowed +=
            counted.decisions().filter(|(outcome, ..)| *outcome == Outcome::Allow).map(|(_, _, n)| n).sum::<u64>();
    });
    assert_eq!(allowed, 3, "and in the metrics");
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_and_decided_again_it_is_counted_too() {
    let (world, store) = slow::world().await;
    let office = Office { agent: world.owner.clone(), world };
    let pack = r#"
@id("ticket") @defer("ticket") permit (principal, action, resource) unless { context.text.hasTag("@context.ticket") };
@id("refund") permit (principal, action, resource) when { context.text.hasTag("@context.ticket") };
"#;
    office.pack(pack).await;
    let world = &office.world;
    watch(world, velocity(2)).await;
    let deferred = submit(world, refund(1, None).unwrap()).await;
    assert_eq!(deferred.record.decision.decision, Outcome::Defer);
    store.after.close();
    let (runtime, owner) = (world.runtime.clone(), world.owner.clone());
    let settling = tokio::spawn(async move {
        let ticket = intended_model::json::parse(br#"{"ticket":"T-1"}"#).unwrap();
        runtime.add_context(&owner, &deferred.record.input.id, &ticket).await.map(drop)
    });
    store.after.reached().await;
    settling.abort();
    assert!(settling.await.unwrap_err().is_cancelled());
    store.after.open();
    store.after.close();
    let with_ticket = GOOD.replace(r#""environment""#, r#""context":{"ticket":"T-2"},"environment""#);
    let submission = Submission { intent: intent(&with_ticket).unwrap(), idempotency_key: None, audience: None };
    let (runtime, owner) = (world.runtime.clone(), world.owner.clone());
    let asking = tokio::spawn(async move { runtime.submit(&owner, submission).await.map(drop) });
    store.after.reached().await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    store.after.open();
    until(world, "refunds", "open").await;
    holds(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_counts_although_who_reports_it_is_gone() {
    let (world, store) = slow::world().await;
    watch(&world, json!({"error_rate_permille": 1000, "minimum_calls": 1})).await;
    let decided = small(&world).await;
    consume(&world, &decided).await;
    store.after.close();
    let (runtime, owner) = (world.runtime.clone(), world.owner.clone());
    let reporting = tokio::spawn(async move {
        let report = Report { outcome: ActionOutcome::Failed, duration_ms: None, detail: None };
        runtime.report_outcome(&owner, &decided.record.input.id, report).await.map(drop)
    });
    store.after.reached().await;
    reporting.abort();
    assert!(reporting.await.unwrap_err().is_cancelled());
    store.after.open();
    until(&world, "refunds", "open").await;
    holds(&world).await;
}

/// Whoever can submit can name any agent.
#[tokio::test(flavor = "multi_thread")]
async fn naming_an_agent_for_what_it_is_not_does_not_open_its_breaker() {
    let world = World::new().await.unwrap();
    let framed = GOOD.replace("support-agent", "release-agent").replace(r#""type":"agent""#, r#""type":"service""#);
    for _ in 0..40 {
        let denied = submit(&world, intent(&framed).unwrap()).await;
        assert_eq!(denied.record.decision.reason, Code::AgentKind);
    }
    // And nobody names one that their key is not for.
    let spec = CredentialSpec { agents: vec!["support-agent".into()], ..spec_of("mine", None, &[Scope::IntentSubmit]) };
    let mine = world.runtime.create_credential(&world.owner, spec).await.unwrap();
    let mine = world.runtime.authenticate(&mine.key).unwrap();
    let framed = intent(&GOOD.replace("support-agent", "release-agent").replace(TOOL, "no.such_tool")).unwrap();
    for _ in 0..40 {
        let submission = Submission { intent: framed.clone(), idempotency_key: None, audience: None };
        let denied = world.runtime.submit(&mine, submission).await.unwrap();
        assert_eq!(denied.record.decision.reason, Code::CredentialAgent);
    }
    assert_eq!(standing(&world, "production.agents"), Some("closed"));
    let own = GOOD.replace("support-agent", "release-agent").replace(TOOL, "no.such_tool");
    for _ in 0..20 {
        submit(&world, intent(&own).unwrap()).await;
    }
    assert_eq!(standing(&world, "production.agents"), Some("open"), "what it asks for is its own doing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_outcomes_did_not_open_closes_by_probes_that_were_allowed_although_nobody_reports() {
    let world = World::new().await.unwrap();
    watch(&world, velocity(2)).await;
    for round in 0..2 {
        for _ in 0..2 {
            assert!(small(&world).await.token.is_some(), "{round}");
        }
        denied_by_breaker(&small(&world).await);
        world.clock.advance_millis(60_000);
        world.runtime.tend_breakers().await;
        let first = small(&world).await;
        if round == 1 {
            // One that failed opens it again, and what opened it first is still what it is about.
            consume(&world, &first).await;
            crate::breakers::report(&world, &world.owner, first.record.input.id, ActionOutcome::Failed).await.unwrap();
            assert_eq!(standing(&world, "refunds"), Some("open"));
            world.clock.advance_millis(60_000);
            world.runtime.tend_breakers().await;
            small(&world).await;
        }
        assert!(small(&world).await.token.is_some());
        denied_by_breaker(&small(&world).await);
        // The token's minute, and the one in which it may be reported.
        world.clock.advance_millis(120_000);
        world.runtime.tend_breakers().await;
        assert_eq!(standing(&world, "refunds"), Some("half_open"), "{round}");
        world.clock.advance_millis(1_000);
        world.runtime.tend_breakers().await;
        assert_eq!(standing(&world, "refunds"), Some("closed"), "{round}");
        holds(&world).await;
    }
    let honest = Forge::of(&world.export().await.unwrap().1);
    let at = honest.position("breaker.closed", 0);
    for (succeeded, unreported, says) in
        [(2, 0, "0 of its probes had succeeded, not 2"), (0, 1, "of 2 of its probes nobody had said anything, not 1")]
    {
        let mut forge = Forge(honest.0.clone());
        forge.edit(at, |b| {
            b["succeeded"] = json!(succeeded);
            b["unreported"] = json!(unreported);
            if unreported == 0 {
                b.as_object_mut().unwrap().remove("unreported");
            }
        });
        let failure = verify(forge.rebuild()).unwrap_err();
        assert_eq!((failure.check, failure.index), (Check::Breaker, Some(at as u64)), "{failure}");
        assert!(failure.what.contains(says), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_outcomes_opened_does_not_close_without_them() {
    let world = World::new().await.unwrap();
    watch(&world, json!({"error_rate_permille": 1000, "minimum_calls": 1, "probes": 2, "successes": 2})).await;
    done(&world, ActionOutcome::Failed).await;
    world.clock.advance_millis(60_000);
    world.runtime.tend_breakers().await;
    for _ in 0..2 {
        small(&world).await;
    }
    world.clock.advance_millis(121_000);
    let mut forge = Forge::of(&world.export().await.unwrap().1);
    world.runtime.tend_breakers().await;
    assert_eq!(standing(&world, "refunds"), Some("open"));
    // Nor in a ledger that somebody else has written.
    let opened = Forge::of(&world.export().await.unwrap().1);
    let mut entry = opened.0.last().unwrap().clone();
    entry.1 = "breaker.closed".into();
    let at = entry.0.as_millis();
    let closed =
        json!({"at": at, "breaker": "refunds", "environment": "production", "succeeded": 0, "unreported": 2, "v": 1});
    entry.2 = intended_model::json::canonical(&closed).unwrap();
    forge.0.push(entry);
    let failure = verify(forge.rebuild()).unwrap_err();
    assert!(failure.check == Check::Breaker && failure.what.contains("opened by what came of actions"), "{failure}");
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it waits for something else")
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_for_probes_reads_no_ledger_and_where_it_must_nobody_waits_for_it() {
    let (world, store) = slow::world().await;
    watch(&world, velocity(2)).await;
    for _ in 0..2 {
        small(&world).await;
    }
    world.clock.advance_millis(60_000);
    world.runtime.tend_breakers().await;
    let probe = small(&world).await;
    store.page.close();
    within(world.runtime.tend_breakers()).await;
    assert!(store.page.leave(), "a page of the ledger was read");
    // A fact of it is gone: then the ledger says which they were.
    let instance = intended_engine::breakers::Instance { breaker: named("refunds"), target: None };
    let probes = world.owner.tenant.state().breakers.probes_of(&instance).unwrap();
    let gone = Write::Delete { key: keys::probe(&probes, &probe.record.input.id).into() };
    let (tenant, now) = (world.owner.tenant.id.clone(), world.runtime.now());
    let (control_version, reads, entries) = (None, Vec::new(), Vec::new());
    let commit = Commit { tenant, now, control_version, reads, writes: vec![gone], entries };
    world.runtime.store().commit(commit).await.unwrap();
    let world = Arc::new(slow::again(world, &store, 7_001).await);
    store.page.close();
    let tending = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.runtime.tend_breakers().await }
    });
    within(store.page.reached()).await;
    // Another breaker is reached meanwhile, and opens at once.
    set(
        &world,
        "orders",
        json!({"scope": "tool", "target": "orders.get_order"}),
        json!({"velocity": 1, "minimum_calls": 1}),
    )
    .await;
    let lookup = intent(
        r#"{"subject":{"type":"agent","id":"support-agent"},"action":{"name":"orders.get_order"},"resource":{"type":"order","id":"7"},"environment":"production"}"#,
    )
    .unwrap();
    let allowed = within(submit(&world, lookup.clone())).await;
    assert_eq!(allowed.record.decision.decision, Outcome::Allow);
    denied_by_breaker(&within(submit(&world, lookup)).await);
    store.page.open();
    tending.await.unwrap();
    // And it was found: with another one, both unreported, it closes.
    small(&world).await;
    world.clock.advance_millis(121_000);
    world.runtime.tend_breakers().await;
    assert_eq!(standing(&world, "refunds"), Some("closed"));
    holds(&world).await;
}

/// Closes it and opens it again with so many entries to read.
async fn reopened(mut world: World, recalled: u64) -> World {
    world.runtime.close().await.unwrap();
    let store = SqliteStore::open(world.dir.path(), &Options { shared: true, ..Options::default() }).unwrap();
    let rng = Arc::new(SeededRng::new(world.clock_now().unsigned_abs()));
    let (clock, root) = (Arc::clone(&world.clock), root_key().unwrap());
    let opened = Runtime::open_recalling(Arc::new(store), clock, rng, root, "http://intended.test", recalled).await;
    world.runtime = Arc::new(opened.unwrap());
    world.owner = world.runtime.authenticate(&world.owner_key).unwrap();
    world
}

fn measured(world: &World, breaker: &str) -> i64 {
    let rows = world.runtime.breakers(&world.owner).unwrap();
    let row = rows.iter().find(|r| r.breaker.as_str() == breaker).unwrap();
    row.instances.first().map_or(0, |i| i.measured[0].value)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_knows_what_windows_have_seen_although_the_ledger_has_grown_past_it() {
    let mut world = World::new().await.unwrap();
    let its = json!({"velocity": 12, "minimum_calls": 1, "window": {"secs": 7200}});
    set(&world, "refunds", json!({"scope": "tool", "target": TOOL}), its).await;
    let noise = intent(&GOOD.replace("support-agent", "nobody")).unwrap();
    let mut seen = 0;
    // Written down in parts, by several runs, in the middle of steps of the window, and not at all.
    for (round, wait) in [(0, 25_000), (1, 31_500), (2, 5_000), (3, 61_000)] {
        for _ in 0..2 {
            small(&world).await;
            world.clock.advance_millis(700);
            seen += 1;
        }
        world.clock.advance_millis(wait);
        world.runtime.tend_breakers().await;
        if wait > 20_000 {
            for _ in 0..12 {
                submit(&world, noise.clone()).await;
            }
        }
        world = reopened(world, 12).await;
        assert_eq!(measured(&world, "refunds"), seen, "{round}");
    }
    for _ in 0..4 {
        assert!(small(&world).await.token.is_some());
    }
    denied_by_breaker(&small(&world).await);
    // What has opened begins anew, also what was written down of it.
    world.clock.advance_millis(30_000);
    world.runtime.tend_breakers().await;
    let facts = async |world: &World| {
        let prefix = keys::WINDOWS_PREFIX;
        let facts = world.runtime.store().facts(&world.owner.tenant.id, prefix, "", 1_000).await.unwrap();
        facts.into_iter().filter(|(key, _)| key.contains("/refunds/")).count()
    };
    assert_eq!(facts(&world).await, 0);
    let rules = json!({"velocity": 12, "minimum_calls": 1, "window": {"secs": 7200}});
    set(&world, "refunds", json!({"scope": "tool", "target": TOOL}), rules).await;
    let world = reopened(world, 12).await;
    assert_eq!(measured(&world, "refunds"), 0);
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_before_a_breaker_was_set_is_not_counted_after_a_restart_either() {
    let world = World::new().await.unwrap();
    watch(&world, velocity(3)).await;
    for _ in 0..2 {
        small(&world).await;
    }
    watch(&world, velocity(3)).await;
    small(&world).await;
    assert_eq!(measured(&world, "refunds"), 1);
    let world = world.reopen().await.unwrap();
    assert_eq!(measured(&world, "refunds"), 1);
    assert!(small(&world).await.token.is_some());
    assert_eq!(standing(&world, "refunds"), Some("closed"));
    // One that was closed by setting it does not open again by what it saw before.
    small(&world).await;
    assert_eq!(standing(&world, "refunds"), Some("open"));
    watch(&world, velocity(3)).await;
    let world = world.reopen().await.unwrap();
    world.runtime.tend_breakers().await;
    assert_eq!(standing(&world, "refunds"), Some("closed"));
    assert!(!kinds(&world).await.is_empty());
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_made_up_do_not_push_out_what_is_close_to_its_threshold() {
    let world = World::new().await.unwrap();
    let own = "\"bulk.*\" = { category = \"OIL-103\", operation = \"read\" }\n";
    world.runtime.set_catalogue(&world.owner, own).await.unwrap();
    set(&world, "tools", json!({"scope": "tool"}), json!({"velocity": 100, "minimum_calls": 1})).await;
    let state = world.owner.tenant.state();
    let (monitor, production, at) = (Monitor::default(), environment("production").unwrap(), world.runtime.now());
    let saw = |tool: &str| {
        let acting = Acting { agent: "a", tool, category: Some("OIL-103"), domain: None, connector: None };
        let allowed = Sample::Decision { denied: false, allowed: true, spent: 0 };
        monitor.saw(&state, Seen { environment: &production, acting, at }, |_| allowed);
    };
    (0..60).for_each(|_| saw("stripe.create_refund"));
    (0..40_000).for_each(|n| saw(&format!("bulk.{n}")));
    let measures = monitor.measures(&state, &named("tools"), at);
    assert_eq!(measures["stripe.create_refund"][0].value, 60);
    assert!(measures.len() <= 16 * 1024, "{}", measures.len());
}

/// Nothing else than what it is.
#[test]
fn an_intents_probe_is_found_under_its_breakers_count() {
    let id: IntentId = "0192f0c1-7b1e-7fff-bfff-fffffffffffe".parse().unwrap();
    let probes = keys::probes(&named("refunds"), 12);
    let probe = keys::probe(&probes, &id);
    assert_eq!(probe.strip_prefix(&keys::probes_of(&probes)), Some(id.to_string().as_str()));
    assert!(intended_verify::FACTS.iter().all(|prefix| !probe.starts_with(prefix)));
}
