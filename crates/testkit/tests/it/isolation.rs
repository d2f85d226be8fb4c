//! I9: nothing of one tenant, and nothing of an environment that somebody has nothing to do with, is
//! found by lists, counts, searches, streams, exports or the texts of errors.

use intended_model::entry::Scope;
use intended_testkit::World;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::http_edge::{GOOD, INTENTS, app, call, raw};

fn code(body: &Value) -> &str {
    body["code"].as_str().unwrap_or_default()
}

/// A tenant with something of every kind, and the ids of it.
struct Stocked {
    ids: Vec<(&'static str, String)>,
}

async fn stocked(app: &axum::Router, key: &str) -> Stocked {
    let post = async |path: &str, body: Value| {
        let (status, answer) = call(app, "POST", &format!("/v1/tenants/acme/{path}"), Some(key), Some(&body)).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    };
    let (_, allowed) = raw(app, "POST", INTENTS, Some(key), Some(GOOD.into()), "application/json").await;
    let (id, claims) = (allowed["id"].as_str().unwrap().to_owned(), allowed["token"].as_str().unwrap().to_owned());
    let payload = intended_token::from_base64url(claims.split('.').nth(1).unwrap()).unwrap();
    let jti = serde_json::from_slice::<Value>(&payload).unwrap()["jti"].as_str().unwrap().to_owned();
    let halt = post("emergency/halts", json!({"reason": "secret-reason", "environment": "staging"})).await;
    let incident = post("incidents", json!({"title": "secret-incident", "environment": "staging"})).await;
    post("credentials", json!({"credential": "secret-key", "environments": ["production"], "scopes": ["intent:read"]}))
        .await;
    let member = json!({"active": true, "email": "secret@acme.example", "grants": []});
    assert_eq!(call(app, "PUT", "/v1/tenants/acme/members/secret-member", Some(key), Some(&member)).await.0, 200);
    let files: serde_json::Map<String, Value> =
        intended_testkit::demo_pack().into_iter().map(|(n, t)| (n, json!(t))).collect();
    let (_, jwks) = call(app, "GET", "/v1/tenants/acme/jwks.json", Some(key), None).await;
    let (_, packs) = call(app, "GET", "/v1/tenants/acme/packs", Some(key), None).await;
    let (_, deployments) =
        call(app, "GET", "/v1/tenants/acme/deployment-history?environment=production", Some(key), None).await;
    let (status, draft) = call(
        app,
        "POST",
        "/v1/tenants/acme/drafts",
        Some(key),
        Some(&json!({"environment": "staging", "title": "secret-draft", "files": files})),
    )
    .await;
    assert!(status < 300, "{draft}");
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    Stocked {
        ids: vec![
            ("id", id),
            ("jti", jti),
            ("halt", text(&halt["halt"])),
            ("incident", text(&incident["incident"])),
            ("credential", "secret-key".to_owned()),
            ("member", "secret-member".to_owned()),
            ("agent", "support-agent".to_owned()),
            ("capability", "orders".to_owned()),
            ("environment", "production".to_owned()),
            ("kid", text(&jwks["keys"][0]["kid"])),
            ("pack", text(packs.pointer("/0/pack").or(packs.pointer("/packs/0/pack")).unwrap_or(&json!("demo")))),
            ("digest", text(packs.pointer("/0/digest").unwrap_or(&json!("x")))),
            ("draft", text(&draft["draft"])),
            (
                "deployment",
                text(deployments.pointer("/0/deployment").or(deployments.pointer("/0/index")).unwrap_or(&json!("1"))),
            ),
        ],
    }
}

fn filled(path: &str, tenant: &str, ids: &[(&'static str, String)]) -> String {
    let mut path = path.replace("{tenant}", tenant);
    for (name, id) in ids {
        path = path.replace(&format!("{{{name}}}"), id);
    }
    path.replace(['{', '}'], "")
}

async fn neighbour(world: &World) -> String {
    let other = intended_model::TenantId::new("other").unwrap();
    let environments = ["production", "staging"].map(|e| {
        (intended_testkit::environment(e).unwrap(), intended_model::entry::Tier::Production, Default::default())
    });
    world.runtime.create_tenant(&other, &environments).await.unwrap().owner.key
}

/// The ids are real ones: in the other tenant's own path they are not found either, and no answer
/// repeats anything of the tenant that they are of.
#[tokio::test(flavor = "multi_thread")]
async fn every_id_of_every_route_with_another_tenants_credential_is_not_found() {
    let (world, app, owner) = app().await;
    let ids = stocked(&app, &owner).await.ids;
    let foreign = neighbour(&world).await;
    let before = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    let mut walked = 0;
    for (method, path) in crate::access_walk::routes() {
        // Whoever signs in brings no credential, and one that is brought counts for nothing.
        let open = matches!(intended_api::needs::of(&method, &path), Some(intended_api::needs::Need::Public));
        if !path.starts_with("/v1/tenants/{tenant}/") || open {
            continue;
        }
        let body = json!({"reason": "mine", "overlap_seconds": 0});
        let body = (method != "GET" && method != "DELETE").then_some(&body);
        let theirs = filled(&path, "acme", &ids);
        let (status, problem) = call(&app, &method, &theirs, Some(&foreign), body).await;
        assert_eq!((status, code(&problem)), (404, "not_found"), "{method} {theirs}: {problem}");
        // The very same answer as for a tenant that does not exist.
        let nowhere = filled(&path, "no-such-tenant", &ids);
        let (_, mut nothing) = call(&app, &method, &nowhere, Some(&foreign), body).await;
        let mut problem = problem;
        for answer in [&mut problem, &mut nothing] {
            answer.as_object_mut().unwrap().remove("request_id");
        }
        assert_eq!(problem, nothing, "{method} {path}");
        // Their ids within one's own tenant: not there, or one's own of that name.
        if path.ends_with("/events") {
            continue;
        }
        let own = filled(&path, "other", &ids);
        let (_, answer) = call(&app, &method, &own, Some(&foreign), body).await;
        for secret in ["acme", "secret-reason", "secret-incident", "secret@", "secret-draft"] {
            assert!(!answer.to_string().contains(secret), "{method} {own}: {answer}");
        }
        walked += 1;
    }
    assert!(walked > 60, "{walked}");
    assert_eq!(world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size, before, "nothing was changed");
}

/// Members of a body that nobody sets from outside: each is refused by name, and nothing is recorded.
#[tokio::test(flavor = "multi_thread")]
async fn mass_assignment_is_refused_in_every_body_of_the_access_routes() {
    let (world, app, owner) = app().await;
    let good = [
        ("POST", "credentials", json!({"credential": "x", "environments": ["staging"], "scopes": ["intent:read"]})),
        ("POST", "credentials/owner/rotate", json!({"overlap_seconds": 0})),
        ("POST", "credentials/owner/revoke", json!({"reason": "x"})),
        ("PUT", "members/x", json!({"active": true, "grants": []})),
        ("PUT", "agents/x", json!({"environments": ["staging"], "trust": 10})),
        (
            "PUT",
            "capabilities-registry/x",
            json!({"resource_type": "t", "pattern": "p", "criticality": "low", "data_class": "public"}),
        ),
        ("PUT", "environments/staging", json!({"tier": "staging"})),
        ("POST", "environments/staging/suspend", json!({"reason": "x"})),
        ("POST", "environments/staging/reinstate", json!({"reason": "x"})),
    ];
    let before = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    for (method, path, body) in &good {
        for (name, value) in [
            ("tenant", json!("other")),
            ("role", json!("owner")),
            ("approved_by", json!(["me"])),
            ("state", json!("approved")),
            ("created_at", json!(1)),
            ("recorded_at", json!("2020-01-01T00:00:00Z")),
            ("by", json!("owner")),
            ("hash", json!(format!("sha256:{}", "0".repeat(64)))),
            ("key", json!("int_live_x")),
            ("previous_until", json!(9_999_999_999_999_i64)),
            ("revoked", json!(false)),
            ("suspended", json!(null)),
            ("since", json!({"approvers": 0})),
            ("sign_in", json!(["password"])),
        ] {
            // An agent's state is its own, and one of three words.
            let mut sent = body.clone();
            sent[name] = value;
            let at = format!("/v1/tenants/acme/{path}");
            let (status, problem) = call(&app, method, &at, Some(&owner), Some(&sent)).await;
            let expected =
                if *path == "agents/x" && name == "state" { "request.invalid" } else { "request.unknown_field" };
            assert_eq!((status, code(&problem)), (400, expected), "{method} {path} {name}: {problem}");
        }
        // A grant is read as strictly.
        if *path == "members/x" {
            let sent =
                json!({"active": true, "grants": [{"role": "viewer", "whole": true, "scopes": ["access:write"]}]});
            let (status, _) = call(&app, method, "/v1/tenants/acme/members/x", Some(&owner), Some(&sent)).await;
            assert_eq!(status, 400);
        }
    }
    assert_eq!(world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size, before);
}

/// One person, two roles: in one environment they read everything, in the other they only submit
/// nothing and see how things stand. Each list is about the scope that it takes.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_in_one_environment_finds_nothing_of_the_other_by_list_search_stream_export_or_error() {
    let (world, app, owner) = app().await;
    for environment in ["production", "staging"] {
        let body = GOOD.replace("production", environment);
        let (status, _) = raw(&app, "POST", INTENTS, Some(&owner), Some(body.into()), "application/json").await;
        assert_eq!(status, 200);
    }
    let only = json!({"credential": "prod-only", "environments": ["production"], "scopes": ["intent:submit"]});
    assert_eq!(call(&app, "POST", "/v1/tenants/acme/credentials", Some(&owner), Some(&only)).await.0, 201);
    let agent = json!({"environments": ["production"], "trust": 10, "owner": "secret-owner"});
    assert_eq!(call(&app, "PUT", "/v1/tenants/acme/agents/prod-agent", Some(&owner), Some(&agent)).await.0, 200);
    let capability = json!({"resource_type": "vault", "pattern": "*", "criticality": "high", "data_class": "restricted", "environment": "production"});
    assert_eq!(
        call(&app, "PUT", "/v1/tenants/acme/capabilities-registry/prod-vault", Some(&owner), Some(&capability)).await.0,
        200
    );
    for environment in ["production", "staging"] {
        let body = json!({"title": format!("incident-in-{environment}"), "environment": environment});
        assert_eq!(call(&app, "POST", "/v1/tenants/acme/incidents", Some(&owner), Some(&body)).await.0, 201);
    }
    // An approver in production reads intents there, and no audit; an auditor in staging.
    let grants = json!({"active": true, "grants": [
        {"role": "auditor", "environments": ["staging"]},
        {"role": "viewer", "environments": ["production"]},
    ]});
    assert_eq!(call(&app, "PUT", "/v1/tenants/acme/members/jo", Some(&owner), Some(&grants)).await.0, 200);
    let new = json!({"credential": "jo-key", "member": "jo", "whole": true, "scopes": Scope::ALL});
    let (_, made) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&owner), Some(&new)).await;
    let jo = made["key"].as_str().unwrap();
    let get = async |path: &str| call(&app, "GET", &format!("/v1/tenants/acme/{path}"), Some(jo), None).await;
    // As a viewer they see the intents of both.
    let (_, page) = get("intents").await;
    assert_eq!(page["intents"].as_array().unwrap().len(), 2, "{page}");
    let production = page["intents"].as_array().unwrap().iter().find(|i| i["environment"] == "production").unwrap();
    let index = production["index"].as_u64().unwrap();
    // What takes audit:read or access:read is about staging alone.
    let (status, entries) = get("audit?limit=500").await;
    assert_eq!(status, 200);
    let text = entries.to_string();
    assert!(text.contains("staging"));
    for secret in ["prod-only", "prod-agent", "prod-vault", "incident-in-production"] {
        assert!(!text.contains(secret), "{secret} in the audit: {text}");
    }
    assert!(
        entries["entries"]
            .as_array()
            .unwrap()
            .iter()
            .all(|e| e["entry"]["body"]["input"]["intent"]["environment"] != "production")
    );
    for path in [format!("audit/proof?index={index}"), "audit/proof?index=99999".to_owned()] {
        let (status, problem) = get(&path).await;
        assert_eq!((status, code(&problem)), (404, "not_found"), "{path}: {problem}");
    }
    for (path, kept, secret) in [
        ("credentials", "owner", "prod-only"),
        ("agents", "support-agent", "prod-agent"),
        ("capabilities-registry", "orders", "prod-vault"),
    ] {
        let (status, rows) = get(path).await;
        assert_eq!(status, 200, "{path}");
        assert!(rows.to_string().contains(kept), "{path}: {rows}");
        assert!(!rows.to_string().contains(secret), "{path}: {rows}");
        // Nor by going through it in pages: there is none for what is not theirs.
        let (_, all) = get(&format!("{path}?limit=1")).await;
        assert_eq!(all.as_array().unwrap().len(), 1);
    }
    let (status, problem) = call(&app, "POST", "/v1/tenants/acme/audit/exports", Some(jo), Some(&json!({}))).await;
    assert_eq!((status, code(&problem)), (403, "credential.environment"), "an export is whole");
    // The stream from the beginning on, until it has nothing more to say.
    let request = http::Request::get("/v1/tenants/acme/events?after=0")
        .header("authorization", format!("Bearer {jo}"))
        .body(axum::body::Body::empty())
        .unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = Box::pin(response.into_body().into_data_stream());
    let mut streamed = String::new();
    let next = async |body: &mut std::pin::Pin<Box<axum::body::BodyDataStream>>| {
        let chunk = std::future::poll_fn(|cx| futures_core::Stream::poll_next(body.as_mut(), cx));
        tokio::time::timeout(std::time::Duration::from_secs(2), chunk).await.ok().flatten()
    };
    while let Some(Ok(chunk)) = next(&mut body).await {
        streamed.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(streamed.contains("staging"), "{streamed}");
    for secret in ["prod-only", "prod-agent", "prod-vault", "incident-in-production"] {
        assert!(!streamed.contains(secret), "{secret} in the stream");
    }
    drop(world);
}
