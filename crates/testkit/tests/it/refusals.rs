//! Every refusal has a code of the catalogue, in a problem document that says where.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::http_edge::{GOOD, INTENTS, app, call, raw};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_web_framework_refuses_has_a_code_too() {
    let (_world, app, key) = app().await;
    let huge = vec![b' '; 1024 * 1024 + 1];
    let intents = "/v1/tenants/%ff/intents";
    for (method, path, body, status, code) in [
        ("POST", "/v1/tenants/acme/deployments", Some(huge.clone()), 413, "request.too_large"),
        ("POST", INTENTS, Some(huge.clone()), 413, "request.too_large"),
        ("PUT", "/v1/tenants/acme/agents/a", Some(huge), 413, "request.too_large"),
        // No tenant is written so, and the caller's is not.
        ("GET", intents, None, 404, "not_found"),
        ("POST", intents, Some(GOOD.into()), 404, "not_found"),
        ("GET", "/v1/tenants/acme/intents/%c3%28", None, 400, "request.invalid"),
        ("GET", "/readyz?verbose=1&verbose=2", None, 400, "request.invalid"),
        ("GET", "/v1/tenants/acme/audit/proof?index=minus", None, 400, "request.invalid"),
        ("GET", "/v1/tenants/acme/audit/proof", None, 400, "request.invalid"),
        ("DELETE", "/livez", None, 405, "method_not_allowed"),
        ("GET", "/nowhere", None, 404, "not_found"),
    ] {
        let mut request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {key}"));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(body.map_or_else(Body::empty, Body::from)).unwrap();
        let answer = app.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{method} {path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{method} {path}");
        assert!(answer.headers().contains_key("x-request-id"));
        let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let problem: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(problem["code"], code, "{method} {path}: {problem}");
        assert!(problem["request_id"].is_string() && problem["hint"].is_string(), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_pack_has_a_pointer_and_a_place() {
    let (_world, app, key) = app().await;
    let deploy = async |files: Value| {
        let body = json!({"environment": "staging", "files": files});
        let (status, problem) = call(&app, "POST", "/v1/tenants/acme/deployments", Some(&key), Some(&body)).await;
        assert_eq!((status, problem["code"].as_str()), (422, Some("pack.invalid")), "{problem}");
        problem["errors"][0].clone()
    };
    let toml = "name = \"p\"\nversion = \"1\"\n";
    let wrong =
        deploy(json!({"pack.toml": toml, "a.cedar": "@id(\"a\")\npermit (principal,\n  action resource);"})).await;
    assert_eq!(wrong["pointer"], "/files/a.cedar");
    assert_eq!(wrong["line"], 3, "{wrong}");
    assert!(wrong["column"].as_u64().unwrap() > 1 && !wrong["message"].as_str().unwrap().is_empty(), "{wrong}");
    // A name with what a pointer writes otherwise.
    let wrong = deploy(json!({"pack.toml": toml, "a/b~c.cedar": "permit"})).await;
    assert_eq!(wrong["pointer"], "/files/a~1b~0c.cedar");
    let wrong = deploy(json!({"a.cedar": "@id(\"a\") permit (principal, action, resource);"})).await;
    assert_eq!(wrong["pointer"], "/files/pack.toml");
    // One that parses and does not validate.
    let rule = "@id(\"a\") permit (principal, action == Action::\"no.such_tool\", resource);";
    let wrong = deploy(json!({"pack.toml": toml, "a.cedar": rule})).await;
    assert_eq!(wrong["pointer"], "/files/a.cedar");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_settings_has_a_pointer_into_the_request() {
    let (_world, app, key) = app().await;
    let budget = json!({"id": "a", "limit": "many", "window_secs": 60});
    for (settings, pointer) in [
        (json!({"budgets": [budget]}), "/settings/budgets/0/limit"),
        (json!({"risk_weights": {"privilege": -1}}), "/settings/risk_weights/privilege"),
    ] {
        let body = json!({"tier": "staging", "settings": settings});
        let (status, problem) =
            call(&app, "PUT", "/v1/tenants/acme/environments/staging", Some(&key), Some(&body)).await;
        assert_eq!((status, problem["code"].as_str()), (422, Some("settings.invalid")), "{problem}");
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
}

/// The AuthZEN batch: shapes, quota, and what becomes of one that fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_the_wrong_shape_is_refused_and_not_decided_on_its_defaults() {
    let (world, app, key) = app().await;
    let size = async || world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    let before = size().await;
    let good: Value = serde_json::from_str(GOOD).unwrap();
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove("environment");
        body["context"] = json!({"environment": "production"});
        body[name] = value;
        body
    };
    for (body, pointer) in [
        (with("evaluations", json!("all")), "/evaluations"),
        (with("evaluations", json!({})), "/evaluations"),
        (with("evaluations", json!(7)), "/evaluations"),
        (with("evaluations", Value::Null), "/evaluations"),
        (with("evaluations", json!([{}, 7])), "/evaluations/1"),
        (with("evaluations", json!([[]])), "/evaluations/0"),
        (with("evaluations", json!([{}, {}, null])), "/evaluations/2"),
    ] {
        let (status, problem) = call(&app, "POST", "/access/v1/evaluations", Some(&key), Some(&body)).await;
        assert_eq!((status, problem["code"].as_str()), (400, Some("request.invalid")), "{body}: {problem}");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    for options in [json!(1), json!([]), json!({"evaluations_semantic": 1}), json!({"evaluations_semantic": "all"})] {
        let mut body = with("evaluations", json!([{}]));
        body["options"] = options;
        let (status, problem) = call(&app, "POST", "/access/v1/evaluations", Some(&key), Some(&body)).await;
        assert_eq!((status, problem["code"].as_str()), (400, Some("request.invalid")), "{problem}");
    }
    assert_eq!(size().await, before, "nothing was decided");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_that_fails_says_its_code_and_each_counts_for_the_quota() {
    let (world, app, key) = app().await;
    let new = json!({"credential": "pep", "environments": ["production"], "scopes": ["intent:submit"]});
    let (_, created) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&key), Some(&new)).await;
    let pep = created["key"].as_str().unwrap();
    let mut body: Value = serde_json::from_str(GOOD).unwrap();
    body.as_object_mut().unwrap().remove("environment");
    let mut batch = body.clone();
    batch["evaluations"] = json!([{}, {"subject": {"type": "agent"}}, {"action": {"name": "creаte"}}, {}]);
    let (status, answer) = call(&app, "POST", "/access/v1/evaluations", Some(pep), Some(&batch)).await;
    assert_eq!(status, 200, "{answer}");
    let got: Vec<(bool, Option<&str>)> = answer["evaluations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["decision"].as_bool().unwrap(), e["context"]["error"]["code"].as_str()))
        .collect();
    assert_eq!(
        got,
        [(true, None), (false, Some("request.invalid")), (false, Some("request.text_unsafe")), (true, None)],
        "{answer}"
    );
    assert_eq!(answer["evaluations"][1]["context"]["error"]["status"], 400);

    world.runtime.limit_requests(3);
    world.clock.advance_millis(5_000);
    batch["evaluations"] = json!([{}, {}, {}, {}, {}]);
    let (_, answer) = call(&app, "POST", "/access/v1/evaluations", Some(pep), Some(&batch)).await;
    let limited: Vec<bool> = answer["evaluations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["context"]["error"]["code"] == "rate_limited")
        .collect();
    assert_eq!(limited, [false, false, false, true, true], "{answer}");
    let (status, _) =
        raw(&app, "POST", "/access/v1/evaluation", Some(pep), Some(b"{}".to_vec()), "application/json").await;
    assert_eq!(status, 429, "the batch has used it up");
}
