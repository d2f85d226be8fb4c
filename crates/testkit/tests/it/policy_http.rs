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
        Some(&json!({"groups": groups, "grants": [{"role": "owner", "whole": true}], "active": true})),
    )
    .await;
    assert_eq!(status, 200);
    let scopes: Vec<&str> = intended_model::entry::Scope::ALL.iter().map(|s| s.as_str()).collect();
    let body = json!({"credential": format!("{id}-key"), "whole": true, "scopes": scopes, "member": id});
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

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_whose_tests_cannot_be_read_is_no_draft() {
    let (world, app, _owner, ana, _ben) = setup().await;
    let before = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    let mut files = demo_pack();
    files.insert("tests/a.yaml".into(), "tests:\n  - name: \"never ends\n".into());
    let body = json!({"environment": "production", "files": files, "title": "x"});
    let (status, problem, _) = tagged(&app, "POST", "drafts", &ana, None, Some(&body)).await;
    assert_eq!((status, problem["code"].as_str()), (422, Some("pack.invalid")), "{problem}");
    let told = &problem["errors"][0];
    assert_eq!(told["pointer"], "/files/tests~1a.yaml", "{problem}");
    assert!(told["line"].as_u64() >= Some(2) && told["column"].as_u64() >= Some(1), "{problem}");
    for (verb, body) in [
        ("deployments", json!({"environment": "staging", "files": files})),
        ("simulations", json!({"environment": "staging", "files": files})),
    ] {
        let (status, problem) = call(&app, "POST", &format!("{BASE}/{verb}"), Some(&ana), Some(&body)).await;
        assert_eq!((status, problem["code"].as_str()), (422, Some("pack.invalid")), "{verb}: {problem}");
    }
    let (status, found) =
        call(&app, "POST", &format!("{BASE}/validations"), Some(&ana), Some(&json!({"files": files}))).await;
    assert_eq!((status, &found["valid"]), (200, &json!(false)), "{found}");
    let of_tests = found["diagnostics"].as_array().unwrap().iter().find(|d| d["code"] == "test-file").unwrap();
    assert_eq!((of_tests["file"].as_str(), of_tests["severity"].as_str()), (Some("tests/a.yaml"), Some("error")));
    assert_eq!(world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size, before, "nothing is stored");
}

/// A credential with these scopes, for an environment or for all.
async fn limited(app: &axum::Router, owner: &str, id: &str, environment: Option<&str>, scopes: &[&str]) -> String {
    let mut body = json!({"credential": id, "scopes": scopes});
    match environment {
        Some(environment) => body["environments"] = json!([environment]),
        None => body["whole"] = json!(true),
    }
    let (status, made) = call(app, "POST", &format!("{BASE}/credentials"), Some(owner), Some(&body)).await;
    assert_eq!(status, 201, "{made}");
    made["key"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_simulation_finds_is_for_those_who_may_read_intents() {
    let (_world, app, owner, _ana, _ben) = setup().await;
    let simulations = format!("{BASE}/simulations");
    let body = json!({"environment": "production", "files": stricter()});
    let reader = limited(&app, &owner, "policy-reader", None, &["policy:read"]).await;
    let (status, problem) = call(&app, "POST", &simulations, Some(&reader), Some(&body)).await;
    assert_eq!((status, problem["code"].as_str()), (403, Some("credential.scope")), "{problem}");
    let both = limited(&app, &owner, "both-reader", None, &["policy:read", "intent:read"]).await;
    let (status, job) = call(&app, "POST", &simulations, Some(&both), Some(&body)).await;
    assert_eq!(status, 202, "{job}");
    let path = format!("{simulations}/{}", job["id"].as_str().unwrap());
    assert_eq!(call(&app, "GET", &path, Some(&both), None).await.0, 200);
    assert_eq!(call(&app, "GET", &path, Some(&reader), None).await.0, 403);
    assert_eq!(call(&app, "DELETE", &path, Some(&reader), None).await.0, 403);
    assert_eq!(call(&app, "GET", &path, Some(&both), None).await.0, 200, "and it is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_names_the_environments_of_the_credential_alone() {
    let (world, app, owner, _ana, _ben) = setup().await;
    let staging = limited(&app, &owner, "staging-reader", Some("staging"), &["policy:read"]).await;
    let schema = async |key: &str| {
        let request = Request::builder()
            .uri(format!("{BASE}/policy-schema"))
            .header("authorization", format!("Bearer {key}"))
            .body(Body::empty())
            .unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    let (whole, part) = (schema(&world.owner_key).await, schema(&staging).await);
    assert!(whole.contains("entity Environment enum [\"production\", \"staging\"];"), "{whole}");
    assert!(part.contains("entity Environment enum [\"staging\"];"), "{part}");
    assert!(!part.contains("production: production"), "{part}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_policies_goes_on_where_the_last_one_ended() {
    let (_world, app, _owner, ana, _ben) = setup().await;
    let draft = async |title: &str| {
        let body = json!({"environment": "production", "files": stricter(), "title": title});
        let (status, draft, _) = tagged(&app, "POST", "drafts", &ana, None, Some(&body)).await;
        assert_eq!(status, 201, "{draft}");
        draft["draft"].clone()
    };
    let (first, second) = (draft("first").await, draft("second").await);
    let page = async |cursor: Option<&str>| {
        let cursor = cursor.map(|c| format!("&cursor={c}")).unwrap_or_default();
        let path = format!("{BASE}/policies?environment=production&limit=2{cursor}");
        call(&app, "GET", &path, Some(&ana), None).await.1
    };
    let shown = page(None).await;
    assert_eq!((&shown["policies"][0]["status"][0], &shown["policies"][1]["draft"]), (&json!("active"), &second));
    // What comes before the place of the cursor moves nothing behind it.
    draft("third").await;
    let rest = page(shown["cursor"].as_str()).await;
    assert_eq!(rest["policies"].as_array().unwrap().len(), 1, "{rest}");
    assert_eq!((&rest["policies"][0]["draft"], &rest["cursor"]), (&first, &Value::Null), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenants_simulations_are_few_and_no_gate_waits_for_them() {
    let (world, slow) = crate::slow::world().await;
    let app = intended_api::router(intended_api::App::new(world.runtime.clone()));
    let owner = world.owner_key.as_str();
    let simulations = format!("{BASE}/simulations");
    let body = json!({"environment": "production", "files": stricter()});
    let start = async || call(&app, "POST", &simulations, Some(owner), Some(&body)).await;
    let path = |job: &Value| format!("{simulations}/{}", job["id"].as_str().unwrap());
    // The first one reads its first page for as long as this test likes.
    slow.page.close();
    let running = start().await.1;
    slow.page.reached().await;
    let mut queued = Vec::new();
    for _ in 0..3 {
        let (status, job) = start().await;
        assert_eq!(status, 202, "{job}");
        queued.push(job);
    }
    let (status, problem) = start().await;
    assert_eq!((status, problem["code"].as_str()), (503, Some("overloaded")), "{problem}");
    // A deployment measures all the same.
    let deploy = json!({"environment": "staging", "files": stricter()});
    let deployments = format!("{BASE}/deployments");
    let deploying = call(&app, "POST", &deployments, Some(owner), Some(&deploy));
    let (status, deployed) = tokio::time::timeout(std::time::Duration::from_secs(60), deploying).await.unwrap();
    assert_eq!(status, 201, "{deployed}");
    // One that waits is cancelled: it is gone, and there is room for another.
    let waits = path(&queued.pop().unwrap());
    assert_eq!(call(&app, "DELETE", &waits, Some(owner), None).await.0, 204);
    assert_eq!(call(&app, "GET", &waits, Some(owner), None).await.0, 404);
    assert_eq!(call(&app, "DELETE", &waits, Some(owner), None).await.0, 404);
    let (status, another) = start().await;
    assert_eq!(status, 202, "{another}");
    queued.push(another);
    // So is the one that runs, and the others have their turn.
    assert_eq!(call(&app, "DELETE", &path(&running), Some(owner), None).await.0, 204);
    slow.page.open();
    for mut job in queued {
        let path = path(&job);
        while job["state"] == "running" {
            tokio::task::yield_now().await;
            job = call(&app, "GET", &path, Some(owner), None).await.1;
        }
        assert_eq!(job["state"], "done", "{job}");
    }
}
