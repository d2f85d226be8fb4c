//! Each of the five measurements made to warn and to fail by something that is really wrong.

use std::sync::Arc;
use std::time::Duration;

use intended_engine::keys;
use intended_model::entry::{Scope, Tier};
use intended_model::{Code, CredentialId, Name, TenantId};
use intended_runtime::readiness::{Ask, Limit, Run, Verdict};
use intended_runtime::siem::{Collector, Exporter, Filter, Format, Line, Sending, Sink, SinkSpec, Start};
use intended_runtime::{Runtime, Submission};
use intended_store::{Commit, StoreError, Write};
use intended_testkit::{World, environment, refund};
use intended_token::Alg;

use crate::readiness::{check, figure, measured, only};
use crate::slow;

const DAY_MS: i64 = 86_400_000;

async fn submit(runtime: &Runtime, by: &intended_runtime::Principal) {
    let submission = Submission { intent: refund(10, None).unwrap(), idempotency_key: None, audience: None };
    runtime.submit(by, submission).await.unwrap();
}

fn verdicts(run: &Run) -> Vec<&'static str> {
    run.measurements.iter().map(|m| m.verdict.as_str()).collect()
}

/// Every figure that did not pass says what to do.
fn advises(run: &Run) {
    for of in run.measurements.iter().flat_map(|m| &m.figures) {
        assert_eq!(of.advice.is_empty(), of.verdict == Verdict::Pass, "{of:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connectivity_fails_when_the_store_takes_nothing_gives_nothing_or_does_not_answer() {
    let (world, store) = slow::world().await;
    world.runtime.hold_readiness_to(only(&[]));
    assert_eq!(verdicts(&check(&world).await), ["pass"; 5]);

    // It refuses: the answer comes all the same, says which way, and that it could not be kept.
    *store.refuses.lock().unwrap() = Some(StoreError::Full("no space left".to_owned()));
    let run = check(&world).await;
    assert_eq!((measured(&run, "service connectivity").0, run.run), (Verdict::Fail, None));
    let write = figure(&run, "store write");
    assert!(write.value.is_none() && write.detail.contains("store.full"), "{write:?}");
    assert_eq!(write.advice, Code::StoreFull.hint());
    assert_eq!(figure(&run, "store read").verdict, Verdict::Pass, "it still gives");
    advises(&run);
    *store.refuses.lock().unwrap() = None;

    // It hangs, in each way: the run ends without it.
    for (gate, name) in [(&store.before, "store write"), (&store.head, "store read")] {
        gate.close();
        let run = check(&world).await;
        let of = figure(&run, name);
        assert!(of.verdict == Verdict::Fail && of.detail.contains("no answer within"), "{of:?}");
        advises(&run);
        gate.open();
    }
    assert_eq!(verdicts(&check(&world).await), ["pass"; 5], "it is there again");
    // The first after the refusal, two with a hang, one after.
    let kept = world.runtime.readiness_history(&world.owner, None, 10).await.unwrap();
    let failed: Vec<_> = kept.runs.iter().map(|r| r.verdict.as_str()).collect();
    assert_eq!(failed, ["pass", "fail", "fail", "pass"], "what was refused was not kept, all else was");
}

#[tokio::test(flavor = "multi_thread")]
async fn connectivity_warns_and_fails_by_how_long_the_store_and_the_way_to_it_take() {
    let world = World::new().await.unwrap();
    for (name, limit) in
        [("store read", Limit::StoreRead), ("store write", Limit::StoreWrite), ("round trip", Limit::RoundTrip)]
    {
        for (fail, expected) in [(u64::MAX / 2, Verdict::Warn), (0, Verdict::Fail)] {
            world.runtime.hold_readiness_to(only(&[(limit, 0, fail)]));
            let ask = Ask { round_trip_micros: Some(700), ..Ask::default() };
            let run = world.runtime.check_readiness(&world.owner, ask).await.unwrap();
            assert_eq!((figure(&run, name).verdict, run.verdict), (expected, expected), "{name}");
            assert_eq!(measured(&run, "service connectivity").0, expected, "{name}");
            advises(&run);
        }
    }
    // Nobody measured the way.
    let run = check(&world).await;
    assert!(run.measurements.iter().flat_map(|m| &m.figures).all(|f| &*f.figure != "round trip"));
}

/// Puts something in a fact's place, and gives what was there.
async fn replace(world: &World, key: &str, value: Vec<u8>) -> Vec<u8> {
    let tenant = world.owner.tenant.id.clone();
    let before = world.runtime.store().fact_now(&tenant, key).unwrap().unwrap().value;
    let writes = vec![Write::Put { key: key.into(), value, expires_at: None }];
    let now = world.runtime.now();
    let commit = Commit { tenant, now, control_version: None, reads: Vec::new(), writes, entries: Vec::new() };
    world.runtime.store().commit(commit).await.unwrap();
    before
}

#[tokio::test(flavor = "multi_thread")]
async fn key_material_fails_when_what_is_sealed_does_not_unseal_though_the_key_in_memory_still_signs() {
    let world = World::new().await.unwrap();
    world.runtime.hold_readiness_to(only(&[]));
    let state = world.owner.tenant.state();
    let kid = |name: &str| state.environments[&environment(name).unwrap()].keys[0].kid.clone();
    let (production, staging) =
        (keys::sealed_key("production", &kid("production")), keys::sealed_key("staging", &kid("staging")));
    let ledger = keys::sealed_key("ledger", "1");
    let others = world.runtime.store().fact_now(&world.owner.tenant.id, &staging).unwrap().unwrap().value;
    let bent = |mut value: Vec<u8>| {
        let last = value.len() - 1;
        value[last] = if value[last] == b'A' { b'B' } else { b'A' };
        value
    };
    let right = world.runtime.store().fact_now(&world.owner.tenant.id, &production).unwrap().unwrap().value;
    let rightly = world.runtime.store().fact_now(&world.owner.tenant.id, &ledger).unwrap().unwrap().value;
    for (key, wrong, name) in [
        (&production, bent(right.clone()), "sealed key"),
        (&production, b"nonsense".to_vec(), "sealed key"),
        // It unseals, and is another key than the one in the ledger.
        (&production, others, "sealed key"),
        (&ledger, bent(rightly.clone()), "ledger key"),
        (&ledger, right.clone(), "ledger key"),
    ] {
        let before = replace(&world, key, wrong).await;
        let run = check(&world).await;
        assert_eq!(verdicts(&run), ["pass", "fail", "pass", "pass", "pass"], "{key}: {run:#?}");
        let failed: Vec<_> =
            measured(&run, "key material available").1.iter().filter(|f| f.verdict != Verdict::Pass).collect();
        assert_eq!((failed.len(), &*failed[0].figure), (1, name), "{failed:?}");
        assert_eq!(failed[0].environment.as_ref().map(|e| e.as_str()), (name == "sealed key").then_some("production"));
        assert!(failed[0].advice.contains("do not restart"), "{failed:?}");
        // And it is so: a restart would not come up with it.
        replace(&world, key, before).await;
    }
    assert_eq!(verdicts(&check(&world).await), ["pass"; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn key_material_warns_of_a_key_that_grows_old_fails_of_one_that_is_and_passes_after_a_rotation() {
    let world = World::new().await.unwrap();
    let usual = Limit::KeyAge.usual();
    world.runtime.hold_readiness_to(only(&[(Limit::KeyAge, usual.warn, usual.fail)]));
    for (day, expected) in [(90, Verdict::Pass), (91, Verdict::Warn), (365, Verdict::Warn), (366, Verdict::Fail)] {
        let age = world.clock_now() - intended_testkit::NOON;
        world.clock.advance_millis(day * DAY_MS - age);
        let run = check(&world).await;
        let of = figure(&run, "key age");
        assert_eq!((of.value, of.verdict), (Some(day.unsigned_abs()), expected), "{day}");
        assert_eq!(measured(&run, "key material available").0, expected);
        advises(&run);
    }
    for place in ["production", "staging"] {
        world.runtime.rotate_key(&world.owner, &environment(place).unwrap(), Alg::Es256).await.unwrap();
    }
    let run = check(&world).await;
    assert_eq!(figure(&run, "key age").value, Some(0));
    assert!(figure(&run, "active key").detail.starts_with("ES256"));
    assert_eq!(measured(&run, "key material available").0, Verdict::Pass);
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_lag_is_of_a_decision_that_the_store_holds_up() {
    for (fail, expected) in [(u64::MAX / 2, Verdict::Warn), (0, Verdict::Fail)] {
        let (world, store) = slow::world().await;
        world.runtime.hold_readiness_to(only(&[(Limit::AuditLag, 0, fail)]));
        assert_eq!(figure(&check(&world).await, "audit lag").value, Some(0));
        store.before.close();
        let (runtime, by) = (Arc::clone(&world.runtime), world.owner.clone());
        let held = tokio::spawn(async move { submit(&runtime, &by).await });
        store.before.reached().await;
        let run = check(&world).await;
        let of = figure(&run, "audit lag");
        assert!(of.value.unwrap() > 0 && of.verdict == expected, "{of:?}");
        assert_eq!(measured(&run, "audit pipeline lag").0, expected);
        advises(&run);
        store.before.open();
        held.await.unwrap();
        assert_eq!(figure(&check(&world).await, "audit lag").value, Some(0), "it is durable");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_pipeline_warns_and_fails_of_entries_that_no_kept_checkpoint_covers() {
    let world = World::new().await.unwrap();
    let usual = Limit::CheckpointAge.usual();
    world.runtime.hold_readiness_to(only(&[(Limit::CheckpointAge, usual.warn, usual.fail)]));
    world.runtime.save_checkpoint(&world.owner.tenant).await.unwrap();
    submit(&world.runtime, &world.owner).await;
    for (seconds, expected) in [(60, Verdict::Pass), (1, Verdict::Warn), (539, Verdict::Warn), (1, Verdict::Fail)] {
        world.clock.advance_millis(seconds * 1_000);
        let run = check(&world).await;
        let of = figure(&run, "checkpoint age");
        assert_eq!((of.verdict, measured(&run, "audit pipeline lag").0), (expected, expected), "{of:?}");
        advises(&run);
    }
    world.runtime.save_checkpoint(&world.owner.tenant).await.unwrap();
    assert_eq!(figure(&check(&world).await, "checkpoint age").value, Some(0));
}

struct Refuses;
impl Collector for Refuses {
    fn send<'a>(&'a mut self, _: &'a [Line]) -> Sending<'a, Duration> {
        Box::pin(async { Err("503 from the collector".to_owned()) })
    }
    fn stands(&mut self) -> Sending<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_pipeline_warns_of_a_collector_that_fails_and_fails_when_it_is_far_behind() {
    let world = World::new().await.unwrap();
    let usual = Limit::SiemLag.usual();
    world.runtime.hold_readiness_to(only(&[(Limit::SiemLag, usual.warn, usual.fail)]));
    let spec = SinkSpec {
        name: Name::new("soc").unwrap(),
        format: Format::Ocsf,
        filter: Filter::default(),
        tenants: Vec::new(),
        start: Start::Beginning,
        transport: "https",
        batch: 8,
    };
    let mut exporter = Exporter::new(Sink::new(spec), Box::new(Refuses));
    world.runtime.set_sinks(vec![exporter.sink()]);
    world.runtime.export_round(&mut exporter).await;
    let run = check(&world).await;
    let of = figure(&run, "siem soc");
    assert_eq!((of.value, of.verdict), (Some(0), Verdict::Warn), "it fails, and is not behind yet: {of:?}");
    assert!(of.detail.contains("503 from the collector"), "{of:?}");
    advises(&run);
    world.clock.advance_millis(901_000);
    let run = check(&world).await;
    assert_eq!((figure(&run, "siem soc").value, measured(&run, "audit pipeline lag").0), (Some(901), Verdict::Fail));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_engine_warns_where_nothing_is_deployed_and_fails_where_that_is_production() {
    let world = World::new().await.unwrap();
    for (tier, expected) in [(Tier::Staging, Verdict::Warn), (Tier::Production, Verdict::Fail)] {
        let tenant = TenantId::new(&format!("bare-{}", expected.as_str())).unwrap();
        let environments = [(environment("first").unwrap(), tier, Default::default())];
        let key = world.runtime.create_tenant(&tenant, &environments).await.unwrap().owner.key;
        let owner = world.runtime.authenticate(&key).unwrap();
        world.runtime.hold_readiness_to(only(&[]));
        let run = world.runtime.check_readiness(&owner, Ask::default()).await.unwrap();
        let (verdict, figures) = measured(&run, "policy engine response time");
        assert_eq!((verdict, figures.len()), (expected, 1), "{figures:?}");
        assert!(figures[0].detail.contains("everything is denied") && figures[0].advice.contains("deploy"));
        advises(&run);
        assert_eq!(verdicts(&run), ["pass", "pass", "pass", expected.as_str(), "pass"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_where_every_environment_is_suspended_is_not_ready() {
    let world = World::new().await.unwrap();
    world.runtime.hold_readiness_to(only(&[]));
    for place in ["production", "staging"] {
        world.runtime.suspend_environment(&world.owner, &environment(place).unwrap(), "moving").await.unwrap();
    }
    let run = check(&world).await;
    assert!(run.environments.is_empty() && run.verdict == Verdict::Fail);
    assert_eq!(verdicts(&run)[3..], ["fail", "fail"], "nothing was measured, and that is no pass");
    advises(&run);
    // One that is named is measured.
    let ask = Ask { environments: vec![environment("staging").unwrap()], ..Ask::default() };
    let run = world.runtime.check_readiness(&world.owner, ask).await.unwrap();
    assert_eq!((verdicts(&run), run.whole), (vec!["pass"; 5], false));
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_and_signatures_warn_and_fail_by_how_long_they_take() {
    let world = World::new().await.unwrap();
    for (measurement, name, limit) in [
        ("policy engine response time", "p50", Limit::PolicyP50),
        ("policy engine response time", "p99", Limit::PolicyP99),
        ("token signing latency", "p50", Limit::SigningP50),
        ("token signing latency", "p99", Limit::SigningP99),
    ] {
        for (fail, expected) in [(u64::MAX / 2, Verdict::Warn), (0, Verdict::Fail)] {
            world.runtime.hold_readiness_to(only(&[(limit, 0, fail)]));
            let run = check(&world).await;
            let (verdict, figures) = measured(&run, measurement);
            assert_eq!((verdict, run.verdict), (expected, expected), "{limit:?}");
            let bad: Vec<_> = figures.iter().filter(|f| f.verdict != Verdict::Pass).collect();
            assert_eq!(bad.len(), 2, "in both environments: {bad:?}");
            assert!(bad.iter().all(|f| &*f.figure == name && f.verdict == expected), "{bad:?}");
            advises(&run);
        }
    }
}

/// A policy set that is slow indeed: every policy has to be looked at, and each does much.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_policy_set_is_seen_in_the_figures() {
    let world = World::new().await.unwrap();
    world.runtime.hold_readiness_to(only(&[]));
    let p50 = |run: &Run| {
        let of = measured(run, "policy engine response time")
            .1
            .iter()
            .find(|f| &*f.figure == "p50" && f.environment.as_ref().is_some_and(|e| e.as_str() == "staging"));
        of.unwrap().value.unwrap()
    };
    let before = p50(&check(&world).await);
    let mut pack = intended_testkit::demo_pack();
    let conditions: Vec<String> = (0..20).map(|n| format!("resource.id like \"*a*b*c{n}*d*\"")).collect();
    let policies: Vec<String> = (0..400)
        .map(|n| {
            format!("@id(\"slow.{n}\")\nforbid (principal, action, resource) when {{ {} }};\n", conditions.join(" || "))
        })
        .collect();
    pack.insert("slow.cedar".to_owned(), policies.concat());
    world.runtime.deploy_pack(&world.owner, &environment("staging").unwrap(), pack).await.unwrap();
    let after = p50(&check(&world).await);
    assert!(after > 3 * before, "{before} µs, then {after} µs");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_of_a_tenant_at_a_time_and_who_lost_their_right_while_waiting_is_not_answered() {
    let (world, store) = slow::world().await;
    let spec = intended_runtime::access::CredentialSpec {
        actions: Vec::new(),
        agents: Vec::new(),
        credential: CredentialId::new("watch").unwrap(),
        environments: vec![environment("staging").unwrap()],
        scopes: vec![Scope::StatusRead],
        expires_at: None,
        live: true,
        member: None,
        networks: Vec::new(),
        whole: false,
    };
    let key = world.runtime.create_credential(&world.owner, spec).await.unwrap().key;
    let watch = world.runtime.authenticate(&key).unwrap();
    store.before.close();
    let run = |by: &intended_runtime::Principal| {
        let (runtime, by) = (Arc::clone(&world.runtime), by.clone());
        tokio::spawn(async move { runtime.check_readiness(&by, Ask::default()).await })
    };
    let first = run(&world.owner);
    store.before.reached().await;
    let second = run(&watch);
    world.runtime.revoke_credential(&world.owner, CredentialId::new("watch").unwrap(), "lost").await.unwrap();
    store.before.open();
    assert_eq!(first.await.unwrap().unwrap().run, Some(1));
    assert_eq!(second.await.unwrap().unwrap_err().code, Code::CredentialRevoked);
    assert_eq!(world.runtime.readiness_history(&world.owner, None, 9).await.unwrap().runs.len(), 1);
}
