//! Many people and keys: a small version of `bench/src/bin/access.rs`.

use std::time::{Duration, Instant};

use intended_model::entry::{BODY_VERSION, CredentialCreated, MemberSet, Role, RoleGrant, Scope};
use intended_model::{CredentialId, Digest, Event, MemberId};
use intended_runtime::Principal;
use intended_runtime::admin::Change;
use intended_testkit::World;
use serde_json::Value;

use crate::http_edge::{app, call};

/// Members and credentials `from..to`, in commits of 500 each.
async fn people(world: &World, from: usize, to: usize) {
    let by = world.owner.credential.clone();
    let member = |n: usize| {
        Event::MemberSet(MemberSet {
            active: true,
            by: by.clone(),
            email: None,
            grants: vec![RoleGrant { environments: Vec::new(), expires_at: None, role: Role::Viewer, whole: true }],
            groups: Vec::new(),
            member: MemberId::new(&format!("person-{n:05}")).unwrap(),
            name: None,
            v: BODY_VERSION,
        })
    };
    let credential = |n: usize| {
        Event::CredentialCreated(CredentialCreated {
            by: by.clone(),
            credential: CredentialId::new(&format!("key-{n:05}")).unwrap(),
            environments: Vec::new(),
            expires_at: None,
            hash: Digest::of(format!("{n}").as_bytes()),
            member: None,
            scopes: vec![Scope::IntentRead],
            whole: true,
            actions: Vec::new(),
            agents: Vec::new(),
            networks: Vec::new(),
            test: false,
            v: BODY_VERSION,
        })
    };
    let all: Vec<Event> = (from..to).flat_map(|n| [member(n), credential(n)]).collect();
    for part in all.chunks(500) {
        let make = |_: &Principal, _: &intended_engine::State| {
            Ok(Change { events: part.to_vec(), reads: Vec::new(), writes: Vec::new(), answer: (), at: 0 })
        };
        world.runtime.change(&world.owner, (), make).await.unwrap();
    }
}

/// The quickest of some: what it costs, and not what else the machine did.
async fn page(app: &axum::Router, key: &str, path: &str) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..15 {
        let at = Instant::now();
        let (status, rows) = call(app, "GET", path, Some(key), None).await;
        best = best.min(at.elapsed());
        assert_eq!((status, rows.as_array().map(Vec::len)), (200, Some(50)), "{path}");
    }
    best
}

/// A page costs what is on it: the last one of ten times as many is not ten times as slow.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_people_or_keys_costs_no_more_when_there_are_ten_times_as_many() {
    let (world, app, key) = app().await;
    let last = |list: &'static str, n: usize| {
        let at = format!("{}-{:05}", if list == "members" { "person" } else { "key" }, n - 51);
        let cursor = intended_api::page::List { tenant: "acme", name: list }.cursor(&at);
        format!("/v1/tenants/acme/{list}?limit=50&cursor={cursor}")
    };
    people(&world, 0, 400).await;
    let mut few = Vec::new();
    for list in ["members", "credentials"] {
        // The owner's credential comes after all `key-…`.
        few.push(page(&app, &key, &last(list, 400)).await);
    }
    people(&world, 400, 4_000).await;
    for (list, few) in ["members", "credentials"].into_iter().zip(few) {
        for path in [last(list, 4_000), format!("/v1/tenants/acme/{list}?limit=50")] {
            let many = page(&app, &key, &path).await;
            assert!(many < few * 4 + Duration::from_micros(500), "{path}: {few:?}, then {many:?}");
            assert!(many < Duration::from_millis(50), "{path}: {many:?}");
        }
    }
    // And a key is found among four thousand as among one.
    let found = Instant::now();
    for _ in 0..1_000 {
        world.runtime.authenticate(&key).unwrap();
    }
    assert!(found.elapsed() < Duration::from_millis(200), "{:?}", found.elapsed());
    assert_eq!(call(&app, "GET", "/v1/tenants/acme/members/person-03999", Some(&key), None).await.0, 200);
    let (_, none) = call(&app, "GET", "/v1/tenants/acme/members/person-04000", Some(&key), None).await;
    assert_eq!(none["code"], Value::from("not_found"));
}
