//! The same request again: answered as it was, done once; and a token only while it would still be
//! given.

use std::sync::atomic::Ordering;

use axum::body::Body;
use http::Request;
use intended_model::decision::Outcome;
use intended_model::{Code, EnvironmentId};
use intended_runtime::{Decided, RuntimeError, Submission};
use intended_testkit::{World, demo_pack, environment, intent, refund};
use intended_token::{Alg, Binding};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::slow;

async fn submit(world: &World, key: &str) -> Result<Decided, RuntimeError> {
    let intent = refund(1, None).unwrap();
    let submission = Submission { intent, idempotency_key: Some(key.into()), audience: None };
    world.runtime.submit(&world.owner, submission).await
}

async fn verifies(world: &World) -> intended_verify::Report {
    let (header, leaves) = world.export().await.unwrap();
    let mut verifier = intended_verify::Verifier::new(header, None).unwrap();
    leaves.iter().for_each(|leaf| verifier.entry(leaf).unwrap());
    verifier.finish().unwrap()
}

fn production() -> EnvironmentId {
    environment("production").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_decision_has_no_token_on_a_retry_either() {
    let (world, store) = slow::world().await;
    store.takes.store(11_000, Ordering::SeqCst);
    assert_eq!(submit(&world, "k").await.unwrap_err().code, Code::DecisionLate);
    let again = submit(&world, "k").await.unwrap();
    assert!(again.replayed && again.token.is_none());
    assert_eq!(again.record.decision.decision, Outcome::Allow);
    assert_eq!(verifies(&world).await.decisions, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_decision_is_noted_although_its_caller_is_gone() {
    let (world, store) = slow::world().await;
    store.takes.store(11_000, Ordering::SeqCst);
    store.after.close();
    let (runtime, owner) = (world.runtime.clone(), world.owner.clone());
    let submission = Submission { intent: refund(1, None).unwrap(), idempotency_key: Some("k".into()), audience: None };
    let submitting = tokio::spawn(async move { runtime.submit(&owner, submission).await.map(|d| d.index) });
    store.after.reached().await;
    submitting.abort();
    assert!(submitting.await.unwrap_err().is_cancelled());
    let head = world.runtime.store().head(&world.owner.tenant.id).await.unwrap();
    store.after.open();
    let key = intended_engine::keys::idempotency(&world.owner.credential, "k");
    let noted = || {
        let fact = world.runtime.store().fact_now(&world.owner.tenant.id, &key).unwrap().unwrap();
        String::from_utf8(fact.value).unwrap().ends_with(" late")
    };
    for _ in 0..500 {
        if noted() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let again = submit(&world, "k").await.unwrap();
    assert!(again.replayed && again.token.is_none());
    assert_eq!(world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size, head.size);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_handed_out_again_only_while_it_would_still_be_given() {
    let world = World::new().await.unwrap();
    let first = submit(&world, "k").await.unwrap();
    // What changed does not concern it.
    world.runtime.deploy_pack(&world.owner, &environment("staging").unwrap(), demo_pack()).await.unwrap();
    assert!(submit(&world, "k").await.unwrap().token.is_some());
    // The policy forbids it by now.
    let mut strict = demo_pack();
    let forbid = "@id(\"stop\") forbid (principal, action, resource);";
    strict.insert("stop.cedar".to_owned(), forbid.to_owned());
    world.runtime.deploy_pack(&world.owner, &production(), strict).await.unwrap();
    let again = submit(&world, "k").await.unwrap();
    assert!(again.replayed && again.token.is_none());
    assert_eq!(again.record.decision.decision, Outcome::Allow, "the decision stands as it was made");
    world.runtime.deploy_pack(&world.owner, &production(), demo_pack()).await.unwrap();
    assert!(submit(&world, "k").await.unwrap().token.is_some());
    // The key is the previous one, then retired.
    world.runtime.rotate_key(&world.owner, &production(), Alg::EdDSA).await.unwrap();
    assert!(submit(&world, "k").await.unwrap().token.is_some());
    let kid = first.record.grant.as_ref().unwrap().kid.clone();
    world.runtime.retire_key(&world.owner, &production(), &kid, "leaked").await.unwrap();
    assert!(submit(&world, "k").await.unwrap().token.is_none(), "the successor does not revive it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_not_handed_out_again() {
    let world = World::new().await.unwrap();
    let first = submit(&world, "k").await.unwrap();
    let (id, jti) = (first.record.input.id.to_string(), first.record.grant.unwrap().jti);
    world.runtime.revoke_token(&world.owner, &id, &jti, "leaked").await.unwrap();
    assert!(submit(&world, "k").await.unwrap().token.is_none());
}

/// One POST under an idempotency key.
async fn post(app: &axum::Router, key: &str, once: &str, path: &str, body: &Value) -> (u16, Value) {
    let request = Request::post(format!("/v1/tenants/acme/{path}"))
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .header("idempotency-key", once)
        .body(Body::from(body.to_string()))
        .unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_post_that_creates_is_done_once_under_one_idempotency_key() {
    let world = World::new().await.unwrap();
    let app = intended_api::router(intended_api::App::new(world.runtime.clone()));
    let size = async || world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    let mut halts = 0;
    let mut strict = demo_pack();
    strict.insert("x.cedar".to_owned(), "@id(\"x\") forbid (principal, action, resource) when { false };".to_owned());
    for (path, body, other) in [
        ("emergency/halts", json!({"reason": "drill"}), json!({"reason": "another"})),
        ("keys/rotate", json!({"environment": "production"}), json!({"environment": "staging"})),
        (
            "deployments",
            json!({"environment": "production", "files": strict}),
            json!({"environment": "staging", "files": strict}),
        ),
    ] {
        let (status, first) = post(&app, &world.owner_key, path, path, &body).await;
        assert!(matches!(status, 200 | 201), "{path}: {first}");
        // Something else comes in between, so that the index is not the newest.
        world.runtime.halt(&world.owner, Some(environment("staging").unwrap()), "between").await.unwrap();
        halts += 1;
        let before = size().await;
        assert_eq!(post(&app, &world.owner_key, path, path, &body).await, (status, first.clone()), "{path}");
        let (status, problem) = post(&app, &world.owner_key, path, path, &other).await;
        assert_eq!((status, problem["code"].as_str()), (409, Some("idempotency.mismatch")), "{path}");
        assert_eq!(size().await, before, "{path}");
        let entry = world.runtime.store().entry(&world.owner.tenant.id, first["index"].as_u64().unwrap()).await;
        assert!(entry.unwrap().is_some());
    }
    assert_eq!(world.owner.tenant.state().halts.len(), halts + 1);

    let halt = world.owner.tenant.state().halts.keys().next().unwrap().to_string();
    let path = format!("emergency/halts/{halt}/resume");
    let first = post(&app, &world.owner_key, "r", &path, &json!({"reason": "over"})).await;
    assert_eq!(first.0, 200);
    assert_eq!(post(&app, &world.owner_key, "r", &path, &json!({"reason": "over"})).await, first);
    assert_eq!(post(&app, &world.owner_key, "r2", &path, &json!({"reason": "over"})).await.0, 404);
    verifies(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_created_once_and_its_key_is_not_shown_again() {
    let world = World::new().await.unwrap();
    let app = intended_api::router(intended_api::App::new(world.runtime.clone()));
    let body = json!({"credential": "bot", "whole": true, "scopes": ["intent:read"]});
    let (status, first) = post(&app, &world.owner_key, "c", "credentials", &body).await;
    assert_eq!(status, 201);
    let (status, again) = post(&app, &world.owner_key, "c", "credentials", &body).await;
    assert_eq!((status, again["code"].as_str()), (409, Some("conflict")));
    assert!(again["detail"].as_str().unwrap().contains("first answer"), "{again}");
    assert!(!again.to_string().contains(first["key"].as_str().unwrap()));
    let other = json!({"credential": "bot2", "whole": true, "scopes": ["intent:read"]});
    let (_, problem) = post(&app, &world.owner_key, "c", "credentials", &other).await;
    assert_eq!(problem["code"], "idempotency.mismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_of_an_intent_is_not_one_of_a_change_nor_the_other_way_round() {
    let world = World::new().await.unwrap();
    let owner = world.owner.clone().once(Some("k".into()));
    submit(&world, "k").await.unwrap();
    assert_eq!(world.runtime.halt(&owner, None, "stop").await.unwrap_err().code, Code::IdempotencyMismatch);
    let owner = world.owner.clone().once(Some("h".into()));
    let (halt, _) = world.runtime.halt(&owner, None, "stop").await.unwrap();
    world.runtime.resume(&world.owner, halt, "on").await.unwrap();
    assert_eq!(submit(&world, "h").await.unwrap_err().code, Code::IdempotencyMismatch);
}

/// The agent is bound to the call; whom it acts for goes along, and cannot be made up.
#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_a_delegated_action_names_whom_the_agent_acts_for() {
    let world = World::new().await.unwrap();
    let text = r#"{"subject":{"type":"agent","id":"support-agent","properties":{"on_behalf_of":{"type":"agent","id":"release-agent"}}},"action":{"name":"stripe.create_refund","properties":{"amount":1}},"resource":{"type":"charge","id":"ch_1"},"environment":"production"}"#;
    let delegated = intent(text).unwrap();
    let hash = delegated.digest().unwrap();
    let submission = Submission { intent: delegated, idempotency_key: None, audience: None };
    let decided = world.runtime.submit(&world.owner, submission).await.unwrap();
    let token = decided.token.unwrap();
    let call = |agent: &str| {
        Binding::Call(intended_token::Call {
            agent: agent.to_owned(),
            tool: "stripe.create_refund".to_owned(),
            resource_type: "charge".to_owned(),
            resource_id: "ch_1".to_owned(),
            arguments_digest: decided.record.input.intent.arguments_digest(),
        })
    };
    let verify = async |binding: Binding, consume| {
        let at = production();
        let verify = world.runtime.verify_token(&world.owner, token.as_str(), "intended", &at, &binding, consume);
        match verify.await.unwrap() {
            intended_runtime::tokens::Verification::Accepted(verified) => Ok(verified.claims),
            intended_runtime::tokens::Verification::Refused(refusal) => Err(refusal),
        }
    };
    let claims = verify(Binding::IntentHash(hash), false).await.unwrap();
    let actor = |sub: &str| Some(intended_token::claims::Actor { sub: sub.to_owned(), act: None });
    assert_eq!((claims.sub.as_str(), &claims.act), ("support-agent", &actor("release-agent")));
    for act in [None, actor("support-agent")] {
        let signer = world.owner.tenant.signer(&production()).unwrap();
        let forged = intended_token::issue(&intended_token::Claims { act, ..claims.clone() }, &*signer).unwrap();
        let (at, binding) = (production(), Binding::IntentHash(hash));
        let verdict =
            world.runtime.verify_token(&world.owner, &forged, "intended", &at, &binding, false).await.unwrap();
        assert!(matches!(
            verdict,
            intended_runtime::tokens::Verification::Refused(intended_token::Refusal::NotGranted)
        ));
    }
    assert_eq!(verify(call("release-agent"), true).await, Err(intended_token::Refusal::Binding));
    assert!(verify(call("support-agent"), true).await.is_ok());
    let own = submit(&world, "own").await.unwrap();
    let claims =
        intended_runtime::submit::claims_of("i", "acme", &own.record, own.record.grant.as_ref().unwrap(), 0, &own.head);
    assert_eq!((claims.sub.as_str(), claims.act), ("support-agent", None));
    verifies(&world).await;
}
