//! What breakers have seen, as it is written down: how much at a time, and what becomes of it when the
//! store takes nothing.

use std::sync::atomic::Ordering;

use intended_engine::keys;
use intended_model::entry::ActionOutcome;
use intended_store::StoreError;
use intended_testkit::World;
use serde_json::json;

use crate::breakers::{TOOL, done, holds, set, small, standing};
use crate::slow;

async fn written(world: &World, breaker: &str) -> Vec<(String, Vec<u8>)> {
    let facts = world.runtime.store().facts(&world.owner.tenant.id, keys::WINDOWS_PREFIX, "", 1_000).await.unwrap();
    let of = format!("/{breaker}/");
    facts.into_iter().filter(|(key, _)| key.contains(&of)).map(|(key, fact)| (key, fact.value)).collect()
}

fn measured(world: &World, breaker: &str) -> (u64, i64) {
    let rows = world.runtime.breakers(&world.owner).unwrap();
    let row = rows.iter().find(|r| r.breaker.as_str() == breaker).unwrap();
    row.instances.first().map_or((0, 0), |i| (i.measured[0].calls, i.measured[0].value))
}

async fn watch(world: &World, rules: serde_json::Value) {
    set(world, "refunds", json!({"scope": "tool", "target": TOOL}), rules).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_nothing_is_asked_to_write_windows_down_less_and_less_often() {
    let (world, store) = slow::world().await;
    watch(&world, json!({"velocity": 50, "minimum_calls": 1, "window": {"secs": 100}})).await;
    small(&world).await;
    world.clock.advance_millis(30_000);
    *store.refuses.lock().unwrap() = Some(StoreError::Unavailable("it is gone".to_owned()));
    let before = store.commits.load(Ordering::SeqCst);
    for _ in 0..60 {
        world.runtime.tend_breakers().await;
        world.clock.advance_millis(1_000);
    }
    // After 0, 5, 15 and 35 seconds.
    assert_eq!(store.commits.load(Ordering::SeqCst) - before, 4);
    assert!(written(&world, "refunds").await.is_empty());
    *store.refuses.lock().unwrap() = None;
    world.clock.advance_millis(60_000);
    world.runtime.tend_breakers().await;
    assert_eq!(written(&world, "refunds").await.len(), 1, "and all of it is written when it is there again");
    // From then on as often as ever.
    small(&world).await;
    world.clock.advance_millis(25_000);
    let before = written(&world, "refunds").await;
    world.runtime.tend_breakers().await;
    assert_ne!(written(&world, "refunds").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_forgotten_is_removed_although_the_store_took_nothing_when_it_was() {
    let (world, store) = slow::world().await;
    let rules = json!({"velocity": 9, "minimum_calls": 1, "window": {"secs": 7201}});
    watch(&world, rules).await;
    for _ in 0..3 {
        small(&world).await;
    }
    world.clock.advance_millis(30_000);
    world.runtime.tend_breakers().await;
    assert_eq!(written(&world, "refunds").await.len(), 1);
    // Set anew it begins anew.
    watch(&world, json!({"velocity": 8, "minimum_calls": 1, "window": {"secs": 7201}})).await;
    *store.refuses.lock().unwrap() = Some(StoreError::Full("no room".to_owned()));
    world.clock.advance_millis(10_000);
    world.runtime.tend_breakers().await;
    assert_eq!(written(&world, "refunds").await.len(), 1, "it could not be");
    *store.refuses.lock().unwrap() = None;
    world.clock.advance_millis(60_000);
    world.runtime.tend_breakers().await;
    assert!(written(&world, "refunds").await.is_empty(), "but is then");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_of_calls_is_written_in_parts_and_a_restart_adds_them_up() {
    let world = World::new().await.unwrap();
    let rules = json!({"error_rate_permille": 999, "minimum_calls": 1, "window": {"calls": 600}});
    watch(&world, rules).await;
    done(&world, ActionOutcome::Succeeded).await;
    for n in 0..330 {
        small(&world).await;
        if n == 300 {
            done(&world, ActionOutcome::Failed).await;
        }
    }
    world.clock.advance_millis(30_000);
    world.runtime.tend_breakers().await;
    let before = written(&world, "refunds").await;
    // The head, two blocks of decisions, one of outcomes.
    assert_eq!(before.len(), 4, "{before:?}");
    assert!(before.iter().all(|(_, value)| value.len() < 16 << 10));
    small(&world).await;
    world.clock.advance_millis(30_000);
    world.runtime.tend_breakers().await;
    let after = written(&world, "refunds").await;
    let same = before.iter().filter(|fact| after.contains(fact)).count();
    assert_eq!((after.len(), same), (4, 2), "the head and the block with news in it are written again");
    let before = measured(&world, "refunds");
    assert_eq!(before, (2, 500));
    let world = world.reopen().await.unwrap();
    assert_eq!(measured(&world, "refunds"), before);
    assert_eq!(standing(&world, "refunds"), Some("closed"));
    holds(&world).await;
}
