//! Several nodes over one store: each says how it is, one that is gone is missed, one that cannot follow
//! says so.

use std::sync::Arc;

use intended_keyring::RootKey;
use intended_model::{Name, Timestamp};
use intended_runtime::health::Status;
use intended_runtime::nodes::Node;
use intended_runtime::{Principal, Runtime};
use intended_store::{Commit, Write};
use intended_store_sqlite::{Options, SqliteStore};
use intended_testkit::{NOON, SeededRng, World, environment, root_key};
use intended_token::Alg;

use crate::health::{of, sick, until};
use crate::http_edge::call;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// One more node over a world's store.
async fn join(world: &World, node: &str, seed: u64) -> Arc<Runtime> {
    let store = SqliteStore::open(world.dir.path(), &Options { shared: true, ..Options::default() }).unwrap();
    let (clock, rng) = (Arc::clone(&world.clock), Arc::new(SeededRng::new(seed)));
    let root: RootKey = root_key().unwrap();
    let runtime = Runtime::open(Arc::new(store), clock, rng, root, "http://intended.test").await.unwrap();
    runtime.name_node(name(node));
    Arc::new(runtime)
}

async fn nodes(runtime: &Runtime, owner: &Principal) -> Vec<Node> {
    let tenant = runtime.tenant(&owner.tenant.id).unwrap();
    let checks = runtime.health().await;
    runtime.nodes(&tenant, &checks).await.unwrap()
}

fn short(nodes: &[Node]) -> Vec<(&str, &str, bool)> {
    nodes.iter().map(|n| (n.node.as_str(), &*n.status, n.here)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_sees_the_others_and_misses_one_that_is_gone() {
    let world = World::new().await.unwrap();
    let one = &world.runtime;
    one.name_node(name("one"));
    assert_eq!(short(&nodes(one, &world.owner).await), [("one", "healthy", true)], "alone, and not yet written down");
    let two = join(&world, "two", 2).await;
    one.beat().await.unwrap();
    two.beat().await.unwrap();
    assert_eq!(short(&nodes(one, &world.owner).await), [("one", "healthy", true), ("two", "healthy", false)]);
    assert_eq!(short(&nodes(&two, &world.owner).await), [("one", "healthy", false), ("two", "healthy", true)]);

    world.clock.advance_millis(45_000);
    one.beat().await.unwrap();
    assert_eq!(nodes(one, &world.owner).await[1].status.as_ref(), "healthy", "three beats may be missed");
    world.clock.advance_millis(1);
    let seen = nodes(one, &world.owner).await;
    assert_eq!(short(&seen), [("one", "healthy", true), ("two", "unavailable", false)]);
    assert!(seen[1].late && seen[1].beat_at == Timestamp::from_millis(NOON), "since when: {:?}", seen[1]);
    let found = until(one, "enforcement runtime", "nodes", Status::Degraded).await;
    sick(&found, "silent: `two` since 2026-11-24T12:00:00", "See whether the node runs");
    // It answers for itself only: how the other one is is not its own trouble.
    one.beat().await.unwrap();
    assert!(one.ready().await && nodes(one, &world.owner).await[0].status.as_ref() == "healthy");

    two.beat().await.unwrap();
    until(one, "enforcement runtime", "nodes", Status::Healthy).await;
    two.close().await.unwrap();
    assert_eq!(short(&nodes(one, &world.owner).await), [("one", "healthy", true)], "it said that it goes");

    let three = join(&world, "three", 3).await;
    three.beat().await.unwrap();
    drop(three);
    world.clock.advance_millis(24 * 3_600_000 - 1);
    assert_eq!(nodes(one, &world.owner).await.len(), 2);
    world.clock.advance_millis(1);
    assert_eq!(nodes(one, &world.owner).await.len(), 1, "a node that was taken away is forgotten after a day");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_says_of_itself_names_its_trouble_and_reaches_the_others_over_http() {
    let world = World::new().await.unwrap();
    world.runtime.name_node(name("one"));
    let two = join(&world, "two", 2).await;
    two.door().drain();
    two.beat().await.unwrap();
    let app = intended_api::router(intended_api::App::new(world.runtime.clone()));
    let path = "/v1/tenants/acme/nodes";
    let (status, rows) = call(&app, "GET", path, Some(&world.owner_key), None).await;
    assert_eq!(status, 200, "{rows}");
    assert_eq!((rows[0]["node"].as_str(), rows[0]["here"].as_bool()), (Some("one"), Some(true)), "{rows}");
    assert_eq!((rows[1]["status"].as_str(), rows[1]["late"].as_bool()), (Some("unavailable"), Some(false)), "{rows}");
    assert_eq!(rows[1]["trouble"][0]["check"], "draining");
    let document: serde_json::Value =
        serde_json::from_str(&crate::operate::text(&app, "/openapi.json", None).await).unwrap();
    let described = "/v1/tenants/{tenant}/nodes";
    let schema = &document["paths"][described]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
    crate::operate::fits(&document, schema, &rows, "").unwrap();
    let (_, health) = call(&app, "GET", "/healthz", Some(&world.owner_key), None).await;
    assert_eq!(health["nodes"].as_array().unwrap().len(), 2, "{health}");
    let (_, stranger) = call(&app, "GET", "/healthz", None, None).await;
    assert!(stranger.get("nodes").is_none() && !stranger.to_string().contains("two"), "{stranger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_of_one_name_are_told_and_one_that_was_restarted_is_not() {
    let world = World::new().await.unwrap();
    world.runtime.name_node(name("one"));
    let before = join(&world, "one", 2).await;
    before.beat().await.unwrap();
    drop(before);
    world.runtime.beat().await.unwrap();
    world.runtime.beat().await.unwrap();
    until(&world.runtime, "enforcement runtime", "nodes", Status::Healthy).await;
    let twin = join(&world, "one", 3).await;
    twin.beat().await.unwrap();
    world.runtime.beat().await.unwrap();
    let found = until(&world.runtime, "enforcement runtime", "nodes", Status::Degraded).await;
    sick(&found, "another process has the name of this one", "`node` in `intended.toml`");
}

/// Heartbeats are notes: an idle node moves neither the ledger nor its time on.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_idle_leaves_the_ledger_and_its_time_alone() {
    let world = World::new().await.unwrap();
    let tenant = &world.owner.tenant.id;
    let before = world.runtime.store().head(tenant).await.unwrap();
    world.clock.advance_millis(3_600_000);
    world.runtime.beat().await.unwrap();
    world.runtime.beat().await.unwrap();
    assert_eq!(world.runtime.store().head(tenant).await.unwrap(), before);
    assert!(!world.runtime.store().facts(tenant, "h/n/", "", 10).await.unwrap().is_empty());
}

/// Where nobody else can write, whoever wrote before is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_the_store_for_itself_does_not_wait_for_those_before_it() {
    let world = World::new().await.unwrap();
    let two = join(&world, "two", 2).await;
    two.beat().await.unwrap();
    drop(two);
    world.runtime.close().await.unwrap();
    let store = SqliteStore::open(world.dir.path(), &Options::default()).unwrap();
    let (clock, rng) = (Arc::clone(&world.clock), Arc::new(SeededRng::new(4)));
    let alone = Runtime::open(Arc::new(store), clock, rng, root_key().unwrap(), "http://intended.test").await.unwrap();
    alone.name_node(name("here"));
    assert_eq!(nodes(&alone, &world.owner).await.len(), 2);
    alone.beat().await.unwrap();
    assert_eq!(short(&nodes(&alone, &world.owner).await), [("here", "healthy", true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_nobody_asks_anything_still_learns_what_others_have_changed() {
    let world = World::new().await.unwrap();
    let two = join(&world, "two", 2).await;
    let house = tokio::spawn(Arc::clone(&two).keep_house());
    world.runtime.rotate_key(&world.owner, &environment("production").unwrap(), Alg::EdDSA).await.unwrap();
    let (there, control) = (two.tenant(&world.owner.tenant.id).unwrap(), world.owner.tenant.state().control);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while there.state().control < control {
        assert!(std::time::Instant::now() < end, "it never learns of it");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // And says that it is there, by itself.
    while world.runtime.store().facts(&there.id, "h/n/two", "", 1).await.unwrap().is_empty() {
        assert!(std::time::Instant::now() < end, "it never says so");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    house.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_follow_the_ledger_says_since_when_and_why() {
    let world = World::new().await.unwrap();
    let two = join(&world, "two", 2).await;
    let production = environment("production").unwrap();
    // What it has not seen yet it catches up with.
    world.runtime.rotate_key(&world.owner, &production, Alg::EdDSA).await.unwrap();
    let found = until(&two, "enforcement runtime", "state", Status::Healthy).await;
    let control = world.owner.tenant.state().control;
    assert!(found[0].detail.contains(&format!("control version {control}")), "{found:?}");
    assert_eq!(nodes(&two, &world.owner).await[0].control, control);

    // A key that was sealed with another root key than this node has: here, one that was damaged.
    let (kid, _) = world.runtime.rotate_key(&world.owner, &production, Alg::EdDSA).await.unwrap();
    let write = Write::Put {
        key: intended_engine::keys::sealed_key("production", &kid).into(),
        value: b"sealed with another root key".to_vec(),
        expires_at: None,
    };
    let commit = Commit {
        tenant: world.owner.tenant.id.clone(),
        now: Timestamp::from_millis(NOON),
        control_version: None,
        reads: Vec::new(),
        writes: vec![write],
        entries: Vec::new(),
    };
    world.runtime.store().commit(commit).await.unwrap();
    let found = until(&two, "enforcement runtime", "state", Status::Degraded).await;
    sick(&found, "1 changes behind for 0 ms", "sealed keys");
    assert!(two.ready().await, "for as long as a change may take to come");
    world.clock.advance_millis(10_001);
    let found = until(&two, "enforcement runtime", "state", Status::Unavailable).await;
    sick(&found, "1 changes behind for 10001 ms", "sealed keys");
    assert!(!two.ready().await, "its only tenant is not as the ledger says");
    assert!(of(&world.runtime.health().await, "enforcement runtime", "state")[0].status == Status::Healthy);
}
