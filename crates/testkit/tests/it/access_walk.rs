//! The table of who may call what: it names every route, and every route is as it says, for every role,
//! in one's own tenant, in another one, and without a credential. Made from the OpenAPI document, so
//! that a new route is in it by itself.

use std::collections::{BTreeMap, BTreeSet};

use intended_api::needs::{self, Need};
use intended_model::entry::{Role, Scope};
use intended_testkit::World;
use serde_json::{Value, json};

use crate::http_edge::{app, call};

/// Every route of the document: method and path template.
pub fn routes() -> Vec<(String, String)> {
    let document = serde_json::to_value(intended_api::openapi()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        all.extend(item.as_object().unwrap().keys().map(|m| (m.to_uppercase(), path.clone())));
    }
    assert!(all.len() > 70, "{}", all.len());
    all
}

/// A path with something in each place. The intent's id has the form of one.
pub fn concrete(path: &str, tenant: &str) -> String {
    let path = path.replace("{tenant}", tenant).replace("{id}", "0192f0c1-7b1e-7fff-bfff-ffffffffffff");
    path.replace(['{', '}'], "")
}

#[test]
fn every_route_has_a_line_in_the_table_and_every_line_a_route() {
    let described: BTreeSet<(String, String)> = routes().into_iter().collect();
    let listed: Vec<(String, String)> = needs::lines().map(|l| (l.method.to_owned(), l.path.to_owned())).collect();
    let once: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(once.len(), listed.len(), "a route stands twice");
    assert_eq!(described, once);
}

#[test]
fn the_document_says_what_each_route_needs() {
    let document = serde_json::to_value(intended_api::openapi()).unwrap();
    for line in needs::lines() {
        let said = &document["paths"][line.path][line.method.to_lowercase()]["x-required-scope"];
        assert_eq!(said, &json!(line.need.text()), "{} {}", line.method, line.path);
    }
    assert_eq!(
        document["paths"]["/v1/tenants/{tenant}/intents/{id}/policies"]["get"]["x-required-scope"],
        "intent:read policy:read"
    );
}

#[test]
fn the_page_of_routes_is_in_the_docs() {
    let page = include_str!("../../../../docs/access-table.md");
    for line in needs::lines() {
        assert!(page.contains(&format!("| `{} {}` | {} |", line.method, line.path, line.need.text())), "{line:?}");
    }
}

/// A member for each role, in the whole tenant, with a key of their own that names every scope: what it
/// may do is then what the role may.
pub async fn people(world: &World, app: &axum::Router, owner: &str) -> BTreeMap<&'static str, String> {
    let mut keys = BTreeMap::new();
    let all: Vec<&str> = Scope::ALL.iter().map(|s| s.as_str()).collect();
    for role in Role::ALL {
        let name = role.as_str();
        let member = json!({"active": true, "grants": [{"role": name, "whole": true}]});
        let (status, body) =
            call(app, "PUT", &format!("/v1/tenants/acme/members/{name}"), Some(owner), Some(&member)).await;
        assert_eq!(status, 200, "{body}");
        let credential = json!({"credential": format!("key-of-{name}"), "member": name, "whole": true, "scopes": all});
        let (status, made) = call(app, "POST", "/v1/tenants/acme/credentials", Some(owner), Some(&credential)).await;
        assert_eq!(status, 201, "{made}");
        keys.insert(name, made["key"].as_str().unwrap().to_owned());
    }
    assert_eq!(world.owner.tenant.state().members.len(), Role::ALL.len());
    keys
}

fn code(body: &Value) -> &str {
    body["code"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_every_role_as_the_table_says() {
    let (world, app, owner) = app().await;
    let other = intended_model::TenantId::new("other").unwrap();
    let environments = vec![(
        intended_testkit::environment("production").unwrap(),
        intended_model::entry::Tier::Production,
        Default::default(),
    )];
    world.runtime.create_tenant(&other, &environments).await.unwrap();
    let keys = people(&world, &app, &owner).await;
    let (mut walked, mut refused, mut let_in) = (0, 0, 0);
    for (method, path) in routes() {
        let need = needs::of(&method, &path).unwrap();
        let body = json!({});
        let body = (method != "GET" && method != "DELETE").then_some(&body);
        let own = concrete(&path, "acme");
        // A stream does not end by itself; that it begins is seen elsewhere.
        let own = if path.ends_with("/events") { format!("{own}?after=99999999") } else { own };
        if !matches!(need, Need::Public | Need::Told(_)) {
            let (status, problem) = call(&app, &method, &own, None, body).await;
            assert_eq!((status, code(&problem)), (401, "credential.missing"), "{method} {path}");
        }
        for role in Role::ALL {
            let key = Some(keys[role.as_str()].as_str());
            walked += 1;
            let (status, answer) = call(&app, &method, &own, key, body).await;
            let lacks = match need {
                Need::Scopes(scopes) => scopes.iter().any(|s| !role.scopes().contains(*s)),
                Need::Any(scopes) => !scopes.iter().any(|s| role.scopes().contains(*s)),
                Need::Told(scope) | Need::Own(scope) => !role.scopes().contains(scope),
                _ => false,
            };
            let at = format!("{method} {path} as {}: {status} {answer}", role.as_str());
            match need {
                Need::Operator => assert_eq!((status, code(&answer)), (403, "credential.operator"), "{at}"),
                _ if lacks => {
                    refused += 1;
                    assert_eq!((status, code(&answer)), (403, "credential.scope"), "{at}");
                }
                _ => {
                    let_in += 1;
                    assert!(status != 401 && code(&answer) != "credential.scope", "{at}");
                }
            }
            // Whoever signs in is nobody yet, of whatever tenant.
            if path.contains("{tenant}") && !matches!(need, Need::Public) {
                let (status, problem) = call(&app, &method, &concrete(&path, "other"), key, body).await;
                assert_eq!((status, code(&problem)), (404, "not_found"), "{method} {path} as {}", role.as_str());
            }
        }
    }
    assert!(walked > 500 && refused > 100 && let_in > 200, "{walked} {refused} {let_in}");
}

/// Nothing of the body was looked at: it is not even JSON, and the answer is about the scope.
#[tokio::test(flavor = "multi_thread")]
async fn who_lacks_the_scope_has_nothing_of_their_body_parsed() {
    let (world, app, owner) = app().await;
    let keys = people(&world, &app, &owner).await;
    for path in ["agents/x", "environments/x", "catalogue"] {
        let path = format!("/v1/tenants/acme/{path}");
        let broken = b"{\"".to_vec();
        let (status, problem) =
            crate::http_edge::raw(&app, "PUT", &path, Some(&keys["viewer"]), Some(broken), "text/plain").await;
        assert_eq!((status, code(&problem)), (403, "credential.scope"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_for_one_environment_is_good_there_and_for_its_time_and_removal_takes_effect_at_once() {
    let (world, app, owner) = app().await;
    let until = world.clock_now() + 60_000;
    let grants = json!([
        {"role": "operator", "environments": ["staging"], "expires_at": until},
        {"role": "viewer", "environments": ["production"]},
    ]);
    let put = async |active: bool, grants: &Value| {
        let body = json!({"active": active, "grants": grants});
        let (status, answer) = call(&app, "PUT", "/v1/tenants/acme/members/jo", Some(&owner), Some(&body)).await;
        assert_eq!(status, 200, "{answer}");
    };
    put(true, &grants).await;
    let new = json!({"credential": "jo-key", "member": "jo", "whole": true, "scopes": Scope::ALL});
    let (_, made) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&owner), Some(&new)).await;
    let jo = made["key"].as_str().unwrap().to_owned();
    let halt = async |environment: &str| {
        let body = json!({"reason": "drill", "environment": environment});
        let (status, answer) = call(&app, "POST", "/v1/tenants/acme/emergency/halts", Some(&jo), Some(&body)).await;
        (status, code(&answer).to_owned())
    };
    assert_eq!(halt("staging").await.0, 201, "an operator there");
    assert_eq!(halt("production").await, (403, "credential.environment".to_owned()), "a viewer there");
    assert_eq!(call(&app, "GET", "/v1/tenants/acme/emergency", Some(&jo), None).await.0, 200);
    // Nobody has to do anything for it to end.
    world.clock.advance_millis(60_000);
    assert_eq!(halt("staging").await, (403, "credential.scope".to_owned()), "the grant is over");
    assert_eq!(call(&app, "GET", "/v1/tenants/acme/emergency", Some(&jo), None).await.0, 200, "the other is not");
    put(false, &json!([])).await;
    let (status, problem) = call(&app, "GET", "/v1/tenants/acme/emergency", Some(&jo), None).await;
    assert_eq!((status, code(&problem)), (401, "credential.member_inactive"));
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_listed_as_the_table_has_them() {
    let (_world, app, owner) = app().await;
    let (status, rows) = call(&app, "GET", "/v1/tenants/acme/roles", Some(&owner), None).await;
    assert_eq!(status, 200);
    for (row, role) in rows.as_array().unwrap().iter().zip(Role::ALL) {
        let scopes: Vec<Value> = role.scopes().iter().map(|s| json!(s)).collect();
        assert_eq!(row, &json!({"role": role, "scopes": scopes}));
    }
    assert_eq!(rows.as_array().unwrap().len(), Role::ALL.len());
}
