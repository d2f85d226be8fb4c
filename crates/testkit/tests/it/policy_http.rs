//! The policy area over HTTP: entity tags, people, simulations, what is said of bad packs.

use axum::body::Body;
use http::Request;
use intended_testkit::{World, demo_pack};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::http_edge::{GOOD, INTENTS, app, call, raw};

const BASE: &str = "/v1/tenants/acme";

/// A request with an entity tag; the answer with its own.
async fn tagged(
    app: &axum::Router,
    method: &str,
    path: &str,
    key: &str,
    tag: Option<&str>,
    body: Option<&Value>,
) -> (u16, Value, String) {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{BASE}/{path}"))
        .header("authorization", format!("Bearer {key}"));
    if let Some(tag) = tag {
        request = request.header("if-match", tag);
    }
    let body = match body {
        Some(body) => {
            request = request.header("content-type", "application/json");
            Body::from(body.to_string())
        }
        None => Body::empty(),
    };
    let response = app.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let tag = response.headers().get("etag").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null), tag)
}

/// A member with a key of their own.
async fn member(app: &axum::Router, owner: &str, id: &str, groups: &[&str]) -> String {
    let (status, _) = call(
        app,
        "PUT",
        &format!("{BASE}/members/{id}"),
        Some(owner),
        Some(&json!({"groups": groups, "active": true})),
    )
    .await;
    assert_eq!(status, 200);
    let scopes: Vec<&str> = intended_model::entry::Scope::ALL.iter().map(|s| s.as_str()).collect();
    let body = json!({"credential": format!("{id}-key"), "whole": true, "scopes": scopes, "member": id, "test": true});
    let (status, made) = call(app, "POST", &format!("{BASE}/credentials"), Some(owner), Some(&body)).await;
    assert_eq!(status, 201, "{made}");
    made["key"].as_str().unwrap().to_owned()
}

async fn quorum(app: &axum::Router, owner: &str, needed: u32) {
    let body =
        json!({"tier": "production", "settings": {"policy": {"approvals": needed, "approvers": "policy-owners"}}});
    let (status, answer) = call(app, "PUT", &format!("{BASE}/environments/production"), Some(owner), Some(&body)).await;
    assert_eq!(status, 200, "{answer}");
}

fn stricter() -> Value {
    let mut files = demo_pack();
    let text = files.get_mut("support.cedar").unwrap();
    *text = text.replace("decimal(\"100.0\")", "decimal(\"20.0\")");
    json!(files)
}

async fn setup() -> (World, axum::Router, String, String, String) {
    let (world, app, owner) = app().await;
    let (ana, ben) = (member(&app, &owner, "ana", &[]).await, member(&app, &owner, "ben", &["policy-owners"]).await);
    quorum(&app, &owner, 1).await;
    (world, app, owner, ana, ben)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_changed_by_whoever_has_read_it() {
    let (_world, app, _owner, ana, ben) = setup().await;
    let body = json!({"environment": "production", "files": stricter(), "title": "smaller refunds"});
    let (status, draft, tag) = tagged(&app, "POST", "drafts", &ana, None, Some(&body)).await;
    assert_eq!(
        (status, draft["status"].as_str(), draft["etag"].as_str()),
        (201, Some("draft"), Some(&*tag)),
        "{draft}"
    );
    let path = format!("drafts/{}", draft["draft"].as_str().unwrap());
    let (status, problem, _) = tagged(&app, "POST", &format!("{path}/submit"), &ana, None, None).await;
    assert_eq!((status, problem["code"].as_str()), (428, Some("draft.unconditional")));
    for stale in ["\"1\"", "x", "W/\"3\""] {
        let (status, problem, _) = tagged(&app, "POST", &format!("{path}/submit"), &ana, Some(stale), None).await;
        assert_eq!((status, problem["code"].as_str()), (412, Some("draft.stale")), "{stale}");
    }
    let (status, draft, submitted) = tagged(&app, "POST", &format!("{path}/submit"), &ana, Some(&tag), None).await;
    assert_eq!((status, draft["status"].as_str()), (200, Some("submitted")), "{draft}");
    assert_eq!(draft["gates"].as_array().unwrap().len(), 3);
    assert_eq!(draft["approvers"], json!(["ben"]));
    let reason = json!({"reason": "fewer mistakes"});
    let (status, problem, _) =
        tagged(&app, "POST", &format!("{path}/approve"), &ana, Some(&submitted), Some(&reason)).await;
    assert_eq!((status, problem["code"].as_str()), (403, Some("draft.approval")), "{problem}");
    let (status, draft, _) =
        tagged(&app, "POST", &format!("{path}/approve"), &ben, Some(&submitted), Some(&reason)).await;
    assert_eq!(
        (status, draft["status"].as_str(), draft["approvals"][0]["counts"].as_bool()),
        (200, Some("approved"), Some(true)),
        "{draft}"
    );
    let deploy = json!({"draft": draft["draft"]});
    let (status, deployed) = call(&app, "POST", &format!("{BASE}/deployments"), Some(&ana), Some(&deploy)).await;
    assert_eq!((status, &deployed["digest"]), (201, &draft["digest"]), "{deployed}");
    let (_, decision) = raw(&app, "POST", INTENTS, Some(&ana), Some(GOOD.into()), "application/json").await;
    assert_eq!(decision["decision"], "escalate");
    let (_, history) =
        call(&app, "GET", &format!("{BASE}/deployment-history?environment=production"), Some(&ana), None).await;
    assert_eq!(
        (
            history["deployments"].as_array().unwrap().len(),
            &history["deployments"][0]["active"],
            &history["deployments"][0]["by"]
        ),
        (2, &json!(true), &json!("ana"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_waits_for_a_second_person() {
    let (_world, app, owner, ana, ben) = setup().await;
    quorum(&app, &owner, 0).await;
    let deploy = json!({"environment": "production", "files": stricter()});
    let (status, deployed) = call(&app, "POST", &format!("{BASE}/deployments"), Some(&ana), Some(&deploy)).await;
    assert_eq!(status, 201, "{deployed}");
    let path = format!("{BASE}/deployments/{}/rollback", deployed["index"]);
    let back = json!({"environment": "production", "reason": "too strict"});
    let (status, waiting) = call(&app, "POST", &path, Some(&ana), Some(&back)).await;
    assert_eq!(
        (status, waiting["state"].as_str(), &waiting["to"]),
        (202, Some("waiting"), &deployed["replaces"]),
        "{waiting}"
    );
    let (_, rows) = call(&app, "GET", &format!("{BASE}/deployments"), Some(&ana), None).await;
    let production = rows.as_array().unwrap().iter().find(|r| r["environment"] == "production").unwrap();
    assert_eq!((&production["rollback_waiting"]["by"], &production["rollback_people"]), (&json!("ana"), &json!(2)));
    let (status, done) = call(&app, "POST", &path, Some(&ben), Some(&back)).await;
    assert_eq!((status, &done["digest"]), (200, &deployed["replaces"]), "{done}");
    let (status, problem) = call(&app, "POST", &path, Some(&ben), Some(&back)).await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (409, Some("deployment.superseded")),
        "that deployment is no longer the one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulation_is_started_watched_and_read() {
    let (_world, app, owner, ana, _ben) = setup().await;
    for _ in 0..20 {
        raw(&app, "POST", INTENTS, Some(&owner), Some(GOOD.into()), "application/json").await;
    }
    let body = json!({"environment": "production", "files": stricter(), "window_secs": 3600});
    let (status, job) = call(&app, "POST", &format!("{BASE}/simulations"), Some(&ana), Some(&body)).await;
    assert_eq!(status, 202, "{job}");
    let path = format!("{BASE}/simulations/{}", job["id"].as_str().unwrap());
    let mut job = job;
    while job["state"] == "running" {
        tokio::task::yield_now().await;
        job = call(&app, "GET", &path, Some(&ana), None).await.1;
    }
    let result = &job["result"];
    assert_eq!(
        (job["state"].as_str(), &result["replayed"], &result["changed"], &result["blast_permille"]),
        (Some("done"), &json!(20), &json!(20), &json!(1000)),
        "{job}"
    );
    assert_eq!((&result["transitions"]["allow → escalate"], &job["done"]), (&json!(20), &job["total"]));
    // Against another version rather than what was recorded: the same one twice changes nothing.
    let (_, rows) = call(&app, "GET", &format!("{BASE}/deployments"), Some(&ana), None).await;
    let digest = rows[0]["digest"].clone();
    let body = json!({"environment": "production", "digest": digest, "base": digest});
    let (_, mut job) = call(&app, "POST", &format!("{BASE}/simulations"), Some(&ana), Some(&body)).await;
    let path = format!("{BASE}/simulations/{}", job["id"].as_str().unwrap());
    while job["state"] == "running" {
        tokio::task::yield_now().await;
        job = call(&app, "GET", &path, Some(&ana), None).await.1;
    }
    assert_eq!((&job["result"]["replayed"], &job["result"]["changed"]), (&json!(20), &json!(0)), "{job}");
    assert_eq!(call(&app, "GET", &format!("{BASE}/simulations/none"), Some(&ana), None).await.0, 404);
    let (status, drift) =
        call(&app, "GET", &format!("{BASE}/decision-drift?environment=production"), Some(&ana), None).await;
    assert_eq!((status, &drift["before"], &drift["after"]), (200, &json!(0), &json!(20)), "{drift}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_pack_is_refused_with_its_place_and_nothing_is_stored() {
    let (world, app, _owner, ana, _ben) = setup().await;
    let before = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    let with = |file: &str, text: &str| {
        let mut files = demo_pack();
        files.insert(file.to_owned(), text.to_owned());
        files
    };
    let nested = format!(
        "@id(\"n\") permit (principal, action, resource) when {{ {}true{} }};",
        "(".repeat(10_000),
        ")".repeat(10_000)
    );
    let twice = "@id(\"support.lookup\") permit (principal, action, resource) when { context.risk < 3 };";
    let mut no_manifest = demo_pack();
    no_manifest.remove("pack.toml");
    for (files, place, says) in [
        (no_manifest, "/files/pack.toml", "no `pack.toml`"),
        (with("x.cedar", twice), "/files/x.cedar", "it stands first in support.cedar:3:1"),
        (with("x.cedar", &nested), "/files/x.cedar", "nested deeper"),
        (with("x.cedar", "@id(\"x\") permit (principal, action, resource"), "/files/x.cedar", ""),
        (
            with(
                "x.cedar",
                "@id(\"x\") permit (principal in Team::\"suport\", action, resource) when { context.risk < 3 };",
            ),
            "/files/x.cedar",
            "suport",
        ),
        (with("notes.txt", "x"), "/files/notes.txt", ""),
    ] {
        let body = json!({"environment": "production", "files": files, "title": "x"});
        let (status, problem, _) = tagged(&app, "POST", "drafts", &ana, None, Some(&body)).await;
        assert_eq!((status, problem["code"].as_str()), (422, Some("pack.invalid")), "{problem}");
        let errors = problem["errors"].as_array().unwrap();
        let told = |e: &Value| {
            e["pointer"].as_str().unwrap().starts_with(place)
                && e["message"].as_str().unwrap().contains(says)
                && e["line"].as_u64() >= Some(1)
        };
        assert!(errors.iter().any(told), "{place} {says}: {problem}");
        let (status, found) =
            call(&app, "POST", &format!("{BASE}/validations"), Some(&ana), Some(&json!({"files": files}))).await;
        assert_eq!((status, &found["valid"]), (200, &json!(false)), "{found}");
    }
    let five_megabytes =
        json!({"environment": "production", "title": "x", "files": with("x.cedar", &"x".repeat(5 << 20))});
    let (status, problem, _) = tagged(&app, "POST", "drafts", &ana, None, Some(&five_megabytes)).await;
    assert_eq!((status, problem["code"].as_str()), (413, Some("request.too_large")));
    assert_eq!(world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size, before, "nothing is stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_says_what_each_policy_said_of_it() {
    let (_world, app, owner) = app().await;
    let (_, decision) = raw(&app, "POST", INTENTS, Some(&owner), Some(GOOD.into()), "application/json").await;
    let (status, said) =
        call(&app, "GET", &format!("{INTENTS}/{}/policies", decision["id"].as_str().unwrap()), Some(&owner), None)
            .await;
    assert_eq!(status, 200, "{said}");
    let of = |id: &str| said.as_array().unwrap().iter().find(|p| p["policy"] == id).unwrap().clone();
    assert_eq!(
        (of("support.refund-small")["said"].as_str(), of("support.refund-small")["determining"].as_bool()),
        (Some("satisfied"), Some(true))
    );
    let large = of("support.refund-large");
    assert_eq!((large["said"].as_str(), large["obligation"].as_str()), (Some("not_satisfied"), Some("escalate")));
    assert!(large["because"].as_str().unwrap().contains("greaterThan"), "{large}");
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_of_one_environment_is_not_seen_with_a_credential_of_another() {
    let (_world, app, owner, ana, _ben) = setup().await;
    let body = json!({"environment": "production", "files": stricter(), "title": "smaller refunds"});
    let (_, draft, _) = tagged(&app, "POST", "drafts", &ana, None, Some(&body)).await;
    let scopes: Vec<&str> = intended_model::entry::Scope::ALL.iter().map(|s| s.as_str()).collect();
    let made = json!({"credential": "staging", "environments": ["staging"], "scopes": scopes});
    let (_, made) = call(&app, "POST", &format!("{BASE}/credentials"), Some(&owner), Some(&made)).await;
    let staging = made["key"].as_str().unwrap();
    let id = draft["draft"].as_str().unwrap();
    let digest = draft["digest"].as_str().unwrap();
    for (method, path, body) in [
        ("GET", format!("drafts/{id}"), None),
        ("POST", format!("drafts/{id}/test"), None),
        ("GET", format!("packs/demo/versions/{digest}"), None),
        ("POST", "deployments".to_owned(), Some(json!({"draft": id}))),
        ("GET", "deployment-history?environment=production".to_owned(), None),
    ] {
        assert_eq!(call(&app, method, &format!("{BASE}/{path}"), Some(staging), body.as_ref()).await.0, 404, "{path}");
    }
    for path in ["simulations", "drafts"] {
        let body =
            if path == "drafts" { body.clone() } else { json!({"environment": "production", "files": stricter()}) };
        assert_eq!(call(&app, "POST", &format!("{BASE}/{path}"), Some(staging), Some(&body)).await.0, 403, "{path}");
    }
    for list in ["drafts", "policies", "deployments", "packs/demo/versions"] {
        let (status, rows) = call(&app, "GET", &format!("{BASE}/{list}"), Some(staging), None).await;
        assert_eq!(status, 200);
        assert!(!rows.to_string().contains("\"production\"") && !rows.to_string().contains(digest), "{list}: {rows}");
    }
}
