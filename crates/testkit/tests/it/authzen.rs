//! AuthZEN 1.0: the decisions and requests of its certification scenario, Basic, Batch, Discovery.

use std::collections::BTreeMap;

use intended_model::Name;
use intended_model::decision::DataClass;
use intended_model::entry::{AgentSet, AgentState, BODY_VERSION, CapabilitySet, Criticality, Tier};
use intended_testkit::{World, environment};
use serde_json::{Value, json};

use crate::http_edge::call;

async fn world() -> (World, axum::Router, String) {
    let world = World::new().await.unwrap();
    let records = environment("records").unwrap();
    let runtime = &world.runtime;
    runtime.set_environment(&world.owner, records.clone(), Tier::Staging, |now| Ok(now.clone())).await.unwrap();
    // Who made the environment may use it, from the next request on.
    let owner = &runtime.authenticate(&world.owner_key).unwrap();
    let mut tools = String::new();
    for (tool, operation) in [("read", "read"), ("write", "update"), ("delete", "delete")] {
        tools.push_str(&format!("\"{tool}\" = {{ category = \"OIL-1302\", operation = \"{operation}\" }}\n"));
    }
    runtime.set_catalogue(owner, &tools).await.unwrap();
    let spec = intended_model::entry::CredentialCreated {
        by: owner.credential.clone(),
        credential: intended_model::CredentialId::new("authzen").unwrap(),
        environments: vec![records.clone()],
        expires_at: None,
        hash: intended_keyring_hash(),
        member: None,
        scopes: intended_model::entry::Scope::ALL.to_vec(),
        whole: false,
        actions: Vec::new(),
        agents: Vec::new(),
        networks: Vec::new(),
        test: false,
        v: BODY_VERSION,
    };
    let event = intended_model::Event::CredentialCreated(spec);
    runtime.change(owner, (), |_, _| Ok(intended_runtime::admin::Change::new(event.clone(), ()))).await.unwrap();
    let authzen = runtime.authenticate(&key()).unwrap();
    for user in ["alice", "bob"] {
        let event = AgentSet {
            agent: user.into(),
            by: owner.credential.clone(),
            environments: vec![records.clone()],
            kind: "user".into(),
            owner: "test".into(),
            state: AgentState::Active,
            teams: vec![],
            trust: 80,
            categories: Vec::new(),
            purpose: Box::default(),
            tools: Vec::new(),
            workflow: Vec::new(),
            v: BODY_VERSION,
        };
        runtime.set_agent(&authzen, event).await.unwrap();
    }
    let event = CapabilitySet {
        active: true,
        by: owner.credential.clone(),
        capability: Name::new("records").unwrap(),
        criticality: Criticality::Low,
        data_class: DataClass::Internal,
        environment: None,
        owner: "test".into(),
        pattern: "*".into(),
        resource_type: "record".into(),
        v: BODY_VERSION,
    };
    runtime.set_capability(owner, event).await.unwrap();
    let files: BTreeMap<String, String> = [
        ("pack.toml", include_str!("../../../../policies/authzen/pack.toml")),
        ("records.cedar", include_str!("../../../../policies/authzen/records.cedar")),
    ]
    .into_iter()
    .map(|(n, t)| (n.to_owned(), t.to_owned()))
    .collect();
    runtime.deploy_pack(&authzen, &records, files).await.unwrap();
    let app = intended_api::router(intended_api::App::new(world.runtime.clone()));
    (world, app, key())
}

fn key() -> String {
    intended_testkit::fixed_key().unwrap()
}
fn intended_keyring_hash() -> intended_model::Digest {
    intended_model::Digest::of(key().as_bytes())
}

fn request(subject: Value, action: Value, resource: Value) -> Value {
    json!({"subject": subject, "action": action, "resource": resource})
}
fn user(id: &str) -> Value {
    json!({"type": "user", "id": id})
}
fn record(id: &str) -> Value {
    json!({"type": "record", "id": id})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_eight_fixed_decisions_hold() {
    let (_world, app, key) = world().await;
    let admin = json!({"type": "user", "id": "bob", "properties": {"role": "admin"}});
    let archived = json!({"type": "record", "id": "record-2", "properties": {"status": "archived"}});
    let named = |n: &str| json!({"name": n});
    let soft = |s: bool| json!({"name": "delete", "properties": {"soft": s}});
    for (n, body, expected) in [
        (1, request(user("alice"), named("read"), record("record-1")), true),
        (2, request(user("alice"), named("write"), record("record-1")), true),
        (3, request(user("bob"), named("read"), record("record-1")), true),
        (4, request(user("bob"), named("write"), record("record-1")), false),
        (5, request(user("alice"), named("write"), archived.clone()), false),
        (6, request(admin, named("write"), archived), true),
        (7, request(user("alice"), soft(true), record("record-1")), true),
        (8, request(user("alice"), soft(false), record("record-1")), false),
    ] {
        let (status, answer) = call(&app, "POST", "/access/v1/evaluation", Some(&key), Some(&body)).await;
        assert_eq!((status, answer["decision"].as_bool()), (200, Some(expected)), "rule {n}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn context_more_properties_and_unknown_fields_are_accepted_and_missing_ones_refused() {
    let (_world, app, key) = world().await;
    let mut body = request(
        json!({"type": "user", "id": "alice", "properties": {"department": "Sales", "role": "manager"}, "future": 1}),
        json!({"name": "read", "properties": {"method": "GET"}}),
        json!({"type": "record", "id": "record-1", "properties": {"status": "active", "owner": "bob"}}),
    );
    body["context"] = json!({"time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1"});
    body["futureField"] = json!({"nested": true});
    let (status, answer) = call(&app, "POST", "/access/v1/evaluation", Some(&key), Some(&body)).await;
    assert_eq!((status, answer["decision"].as_bool()), (200, Some(true)), "{answer}");
    for missing in ["subject", "action", "resource"] {
        let mut body = body.clone();
        body.as_object_mut().unwrap().remove(missing);
        assert_eq!(call(&app, "POST", "/access/v1/evaluation", Some(&key), Some(&body)).await.0, 400, "{missing}");
    }
    assert_eq!(call(&app, "POST", "/access/v1/evaluation", None, Some(&body)).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_merge_defaults_and_stop_as_asked() {
    let (_world, app, key) = world().await;
    let batch = |semantic: &str| {
        json!({
            "subject": user("bob"), "resource": record("record-1"),
            "evaluations": [{"action": {"name": "read"}}, {"action": {"name": "write"}}, {"subject": user("alice"), "action": {"name": "write"}}],
            "options": {"evaluations_semantic": semantic},
        })
    };
    for (semantic, expected) in [
        ("execute_all", vec![true, false, true]),
        ("deny_on_first_deny", vec![true, false]),
        ("permit_on_first_permit", vec![true]),
    ] {
        let (status, answer) = call(&app, "POST", "/access/v1/evaluations", Some(&key), Some(&batch(semantic))).await;
        let got: Vec<bool> =
            answer["evaluations"].as_array().unwrap().iter().map(|e| e["decision"].as_bool().unwrap()).collect();
        assert_eq!((status, got), (200, expected), "{semantic}");
    }
    let (status, answer) = call(&app, "GET", "/.well-known/authzen-configuration", None, None).await;
    assert_eq!(status, 200);
    assert!(answer["access_evaluation_endpoint"].as_str().unwrap().ends_with("/access/v1/evaluation"));
}
