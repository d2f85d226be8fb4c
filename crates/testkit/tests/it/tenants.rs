//! Tenants and environments as wholes: made by who operates the server, suspended, reinstated.

use intended_api::needs;
use intended_keyring::{ApiKey, KeyKind};
use intended_model::TenantId;
use intended_runtime::Submission;
use intended_runtime::tokens::Verification;
use intended_testkit::{World, environment, refund};
use intended_token::{Binding, Refusal};
use serde_json::{Value, json};

use crate::http_edge::{GOOD, INTENTS, app, call, raw};

/// The operator of a world, whose key it knows.
fn operated(world: &World) -> String {
    let key = ApiKey::generate(&intended_testkit::SeededRng::new(11), KeyKind::Operator).unwrap();
    world.runtime.operated_by(Some(key.hash()));
    key.expose().to_owned()
}
async fn post(app: &axum::Router, key: &str, path: &str, body: &Value) -> (u16, Value) {
    call(app, "POST", path, Some(key), Some(body)).await
}
fn code(body: &Value) -> &str {
    body["code"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_operates_the_server_makes_tenants_and_is_nobody_in_any() {
    let (world, app, owner) = app().await;
    let operator = operated(&world);
    let new = json!({"tenant": "globex", "environments": [{"environment": "live", "tier": "production"}]});
    let (status, made) = post(&app, &operator, "/v1/tenants", &new).await;
    assert_eq!(status, 201, "{made}");
    let globex = made["key"].as_str().unwrap().to_owned();
    assert_eq!(post(&app, &operator, "/v1/tenants", &new).await.0, 409, "and its key is not shown again");
    let (status, defaults) = post(&app, &operator, "/v1/tenants", &json!({"tenant": "initech"})).await;
    assert_eq!(status, 201, "{defaults}");
    let names = async |key: &str| {
        let (status, rows) = call(&app, "GET", "/v1/tenants", Some(key), None).await;
        assert_eq!(status, 200, "{rows}");
        rows.as_array().unwrap().iter().map(|r| r["tenant"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&operator).await, ["acme", "globex", "initech"]);
    assert_eq!(names(&owner).await, ["acme"]);
    assert_eq!(names(&globex).await, ["globex"]);
    let (_, rows) = call(&app, "GET", "/v1/tenants/globex/environments", Some(&globex), None).await;
    assert_eq!(rows, json!([{"environment": "live", "tier": "production"}]));
    // Its key is good for no tenant's own, and a tenant's for nothing of the operator's.
    for path in ["intents", "audit", "members", "jwks.json", "environments"] {
        let (status, problem) = call(&app, "GET", &format!("/v1/tenants/acme/{path}"), Some(&operator), None).await;
        assert_eq!((status, code(&problem)), (404, "not_found"), "{path}");
    }
    let (status, _) =
        raw(&app, "POST", "/access/v1/evaluation", Some(&operator), Some(GOOD.into()), "application/json").await;
    assert_eq!(status, 403);
    let (status, problem) = post(&app, &owner, "/v1/tenants", &json!({"tenant": "mine"})).await;
    assert_eq!((status, code(&problem)), (403, "credential.operator"));
    // Where nobody is said to operate it, nobody does, and an old key is none.
    world.runtime.operated_by(None);
    let (status, problem) = call(&app, "GET", "/v1/tenants", Some(&operator), None).await;
    assert_eq!((status, code(&problem)), (401, "credential.unknown"));
    for bad in [
        json!({"tenant": "Bad Name"}),
        json!({"tenant": "x", "environments": []}),
        json!({"tenant": "x", "owner": "me"}),
    ] {
        let operator = operated(&world);
        assert_eq!(post(&app, &operator, "/v1/tenants", &bad).await.0, 400, "{bad}");
    }
    assert!(world.runtime.tenant(&TenantId::new("x").unwrap()).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_takes_part_in_nothing_until_it_is_reinstated() {
    let (world, app, owner) = app().await;
    let operator = operated(&world);
    let decide = || {
        let submission = Submission { intent: refund(40, None).unwrap(), idempotency_key: None, audience: None };
        world.runtime.submit(&world.owner, submission)
    };
    let decided = decide().await.unwrap();
    let binding = Binding::IntentHash(decided.record.input.intent_hash);
    let token = decided.token.unwrap();
    let production = environment("production").unwrap();
    let why = json!({"reason": "unpaid"});
    for path in ["/v1/tenants/acme/suspend", "/v1/tenants/acme/reinstate"] {
        assert_eq!(post(&app, &owner, path, &why).await.0, 403, "not by itself");
        let (status, _) = post(&app, &operator, path, &json!({"reason": " "})).await;
        assert_eq!(status, 400, "not without a reason");
    }
    assert_eq!(post(&app, &operator, "/v1/tenants/acme/reinstate", &why).await.0, 409);
    assert_eq!(post(&app, &operator, "/v1/tenants/nobody/suspend", &why).await.0, 404);
    let (status, body) = post(&app, &operator, "/v1/tenants/acme/suspend", &why).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(post(&app, &operator, "/v1/tenants/acme/suspend", &why).await.0, 409);
    // Every route of the tenant, whatever it is for: one answer.
    let mut walked = 0;
    for (method, path) in crate::access_walk::routes() {
        // Whoever signs in is nobody yet; what that comes to is with signing in.
        let public = matches!(needs::of(&method, &path), Some(needs::Need::Public));
        if path.starts_with("/v1/tenants/{tenant}/") && !public {
            let body = json!({});
            let body = (method != "GET" && method != "DELETE").then_some(&body);
            let path = crate::access_walk::concrete(&path, "acme");
            let (status, problem) = call(&app, &method, &path, Some(&owner), body).await;
            assert_eq!((status, code(&problem)), (403, "access.tenant_suspended"), "{method} {path}");
            walked += 1;
        }
    }
    assert!(walked > 60);
    for path in ["/healthz", "/metrics", "/v1/tenants"] {
        assert_eq!(call(&app, "GET", path, Some(&owner), None).await.0, 403, "{path}");
    }
    // Who was let in before it is held by it as well: nothing is decided, nothing used, nothing changed.
    assert_eq!(decide().await.unwrap_err().code.as_str(), "access.tenant_suspended");
    let used = world.runtime.verify_token(&world.owner, token.as_str(), "intended", &production, &binding, true).await;
    assert_eq!(used.unwrap_err().code.as_str(), "access.tenant_suspended");
    let halted = world.runtime.halt(&world.owner, None, "x").await;
    assert_eq!(halted.unwrap_err().code.as_str(), "access.tenant_suspended");
    let (_, rows) = call(&app, "GET", "/v1/tenants", Some(&operator), None).await;
    assert_eq!(rows[0]["suspended"], "unpaid");
    // It is in the ledger, so it is so after a restart as well, and the verifier finds it in order.
    assert_eq!(post(&app, &operator, "/v1/tenants/acme/reinstate", &json!({"reason": "paid"})).await.0, 200);
    assert_eq!(call(&app, "GET", INTENTS, Some(&owner), None).await.0, 200);
    assert!(decide().await.unwrap().token.is_some());
    crate::tampering::verify(world.export().await.unwrap()).unwrap();
    assert_eq!(post(&app, &operator, "/v1/tenants/acme/suspend", &why).await.0, 200);
    drop(app);
    // Nobody of it can come in, so the world cannot be opened again as its owner.
    let refused = world.reopen().await.err().unwrap();
    assert_eq!(refused.code.as_str(), "access.tenant_suspended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_environment_denies_refuses_its_tokens_and_hands_none_out_again() {
    let (world, app, owner) = app().await;
    let once = |amount| Submission {
        intent: refund(amount, None).unwrap(),
        idempotency_key: Some("once".into()),
        audience: None,
    };
    let decided = world.runtime.submit(&world.owner, once(40)).await.unwrap();
    let binding = Binding::IntentHash(decided.record.input.intent_hash);
    let token = decided.token.unwrap();
    let path = |what: &str| format!("/v1/tenants/acme/environments/production/{what}");
    let narrow = json!({"credential": "prod", "environments": ["production"], "scopes": ["access:write"]});
    let (_, made) = post(&app, &owner, "/v1/tenants/acme/credentials", &narrow).await;
    let why = json!({"reason": "rebuilt"});
    let (status, problem) = post(&app, made["key"].as_str().unwrap(), &path("suspend"), &why).await;
    assert_eq!((status, code(&problem)), (403, "credential.environment"), "it is the whole tenant's to say");
    assert_eq!(post(&app, &owner, &path("suspend"), &why).await.0, 200);
    assert_eq!(post(&app, &owner, &path("suspend"), &why).await.0, 409);
    let (status, denied) = raw(&app, "POST", INTENTS, Some(&owner), Some(GOOD.into()), "application/json").await;
    assert_eq!(
        (status, denied["decision"].as_str(), denied["reason"].as_str()),
        (403, Some("deny"), Some("access.environment_suspended"))
    );
    assert!(denied.get("token").is_none());
    // The answer to the same request as before has no token either.
    let again = world.runtime.submit(&world.owner, once(40)).await;
    assert_eq!(again.unwrap_err().code.as_str(), "access.environment_suspended");
    let production = environment("production").unwrap();
    for consume in [false, true] {
        let used = world
            .runtime
            .verify_token(&world.owner, token.as_str(), "intended", &production, &binding, consume)
            .await
            .unwrap();
        assert!(matches!(used, Verification::Refused(Refusal::Suspended)), "{used:?}");
    }
    // The others go on.
    let elsewhere = GOOD.replace("production", "staging");
    assert_eq!(raw(&app, "POST", INTENTS, Some(&owner), Some(elsewhere.into()), "application/json").await.0, 200);
    let (_, rows) = call(&app, "GET", "/v1/tenants/acme/environments", Some(&owner), None).await;
    assert_eq!((&rows[0]["suspended"], &rows[1]["suspended"]), (&json!("rebuilt"), &Value::Null));
    assert_eq!(post(&app, &owner, &path("reinstate"), &why).await.0, 200);
    assert!(world.runtime.submit(&world.owner, once(40)).await.unwrap().token.is_some());
    let used = world
        .runtime
        .verify_token(&world.owner, token.as_str(), "intended", &production, &binding, true)
        .await
        .unwrap();
    assert!(matches!(used, Verification::Accepted(_)), "{used:?}");
    let unknown = post(&app, &owner, "/v1/tenants/acme/environments/nowhere/suspend", &why).await;
    assert_eq!((unknown.0, code(&unknown.1)), (404, "environment.unknown"));
    crate::tampering::verify(world.export().await.unwrap()).unwrap();
}
