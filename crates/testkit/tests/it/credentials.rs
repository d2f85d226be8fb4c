//! Credentials: what one may give, where and for how long a key is good, and who guesses.

use axum::body::Body;
use http::Request;
use intended_api::origin::Peer;
use intended_model::entry::Scope;
use intended_model::{CredentialId, Timestamp};
use intended_testkit::World;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::http_edge::{GOOD, INTENTS, app, call, raw};

const CREDENTIALS: &str = "/v1/tenants/acme/credentials";

pub async fn create(app: &axum::Router, key: &str, body: &Value) -> (u16, Value) {
    call(app, "POST", CREDENTIALS, Some(key), Some(body)).await
}
async fn created(app: &axum::Router, key: &str, body: &Value) -> String {
    let (status, made) = create(app, key, body).await;
    assert_eq!(status, 201, "{made}");
    made["key"].as_str().unwrap().to_owned()
}
fn code(body: &Value) -> &str {
    body["code"].as_str().unwrap_or_default()
}
async fn submit(app: &axum::Router, key: &str, intent: String) -> (u16, String) {
    let (status, body) = raw(app, "POST", INTENTS, Some(key), Some(intent.into()), "application/json").await;
    (status, body["reason"].as_str().unwrap_or_else(|| code(&body)).to_owned())
}
/// Asks for the intents, from an address.
async fn ask(app: &axum::Router, key: &str, from: Option<&str>, forwarded: Option<&str>) -> (u16, String, Option<u32>) {
    let mut request = Request::get(INTENTS).header("authorization", format!("Bearer {key}"));
    if let Some(forwarded) = forwarded {
        request = request.header("x-forwarded-for", forwarded);
    }
    let mut request = request.body(Body::empty()).unwrap();
    if let Some(from) = from {
        request.extensions_mut().insert(Peer(from.parse().unwrap()));
    }
    let response = app.clone().oneshot(request).await.unwrap();
    let wait = response.headers().get("retry-after").map(|v| v.to_str().unwrap().parse().unwrap());
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, code(&serde_json::from_slice(&bytes).unwrap()).to_owned(), wait)
}

/// The maker has some of everything; each case asks for more in one dimension and for nothing else more.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_mints_a_wider_credential_in_any_dimension() {
    let (world, app, owner) = app().await;
    let now = world.clock_now();
    let member = json!({"active": true, "grants": [{"role": "viewer", "whole": true}]});
    assert_eq!(call(&app, "PUT", "/v1/tenants/acme/members/jo", Some(&owner), Some(&member)).await.0, 200);
    let base = json!({
        "credential": "maker", "environments": ["staging"], "scopes": ["access:write", "intent:submit"],
        "actions": ["stripe.*"], "networks": ["10.0.0.0/8"], "expires_at": now + 3_600_000, "test": true,
    });
    let maker = created(&app, &owner, &base).await;
    // Everything it makes has to come from its network.
    let make = async |changes: &Value| {
        let mut body = base.clone();
        body["credential"] = json!("made");
        for (name, value) in changes.as_object().unwrap() {
            if value.is_null() {
                body.as_object_mut().unwrap().remove(name);
            } else {
                body[name] = value.clone();
            }
        }
        let mut request = Request::post(CREDENTIALS)
            .header("authorization", format!("Bearer {maker}"))
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        request.extensions_mut().insert(Peer("10.1.2.3".parse().unwrap()));
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice::<Value>(&bytes).unwrap())
    };
    for (what, changes, expected, pointer) in [
        ("scope", json!({"scopes": ["access:write", "audit:read"]}), "credential.scope", "/scopes"),
        ("environment", json!({"environments": ["staging", "production"]}), "credential.environment", "/environments"),
        ("whole", json!({"whole": true, "environments": null}), "credential.environment", ""),
        ("any action", json!({"actions": null}), "access.wider", "/actions"),
        ("a wider action", json!({"actions": ["stripe.*", "s*"]}), "access.wider", "/actions"),
        ("another action", json!({"actions": ["github.create"]}), "access.wider", "/actions"),
        ("any network", json!({"networks": null}), "access.wider", "/networks"),
        ("a wider network", json!({"networks": ["10.0.0.0/7"]}), "access.wider", "/networks"),
        ("another network", json!({"networks": ["10.1.0.0/16", "::/0"]}), "access.wider", "/networks"),
        ("for good", json!({"expires_at": null}), "credential.scope", "/expires_at"),
        ("for longer", json!({"expires_at": now + 3_600_001}), "credential.scope", "/expires_at"),
        ("live from test", json!({"test": false}), "credential.test", "/test"),
        ("another's", json!({"member": "jo"}), "credential.environment", ""),
    ] {
        let size = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
        let (status, problem) = make(&changes).await;
        assert_eq!((status, code(&problem)), (403, expected), "{what}: {problem}");
        if !pointer.is_empty() {
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{what}: {problem}");
        }
        assert_eq!(world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size, size, "{what}");
    }
    // As much as it has, and less of everything, it may give.
    assert_eq!(make(&json!({})).await.0, 201);
    let less = json!({
        "credential": "less", "scopes": ["intent:submit"], "actions": ["stripe.create_refund"],
        "networks": ["10.1.0.0/16"], "expires_at": now + 1_000,
    });
    let (status, made) = make(&less).await;
    assert_eq!(status, 201, "{made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_before_is_good_within_its_overlap_and_not_after() {
    let (world, app, owner) = app().await;
    let first =
        created(&app, &owner, &json!({"credential": "ci", "environments": ["production"], "scopes": ["intent:read"]}))
            .await;
    let rotate = async |overlap: u64| {
        let body = json!({"overlap_seconds": overlap});
        let (status, new) = call(&app, "POST", &format!("{CREDENTIALS}/ci/rotate"), Some(&owner), Some(&body)).await;
        (status, new)
    };
    let good = async |key: &str| call(&app, "GET", INTENTS, Some(key), None).await;
    let (status, new) = rotate(60).await;
    assert_eq!(status, 200, "{new}");
    let second = new["key"].as_str().unwrap().to_owned();
    assert!(second != first && second.starts_with("int_live_"));
    assert_eq!((good(&first).await.0, good(&second).await.0), (200, 200), "both, within the overlap");
    world.clock.advance_millis(59_999);
    assert_eq!(good(&first).await.0, 200);
    world.clock.advance_millis(1);
    let (status, problem) = good(&first).await;
    assert_eq!((status, code(&problem)), (401, "credential.expired"));
    assert_eq!(good(&second).await.0, 200);
    // Without an overlap the one before is over at once.
    let (_, new) = rotate(0).await;
    let third = new["key"].as_str().unwrap().to_owned();
    assert_eq!((good(&second).await.0, good(&third).await.0), (401, 200));
    // Of two rotations the newer one's overlap counts: the key before both is over.
    let (_, new) = rotate(600).await;
    let fourth = new["key"].as_str().unwrap().to_owned();
    let (_, new) = rotate(600).await;
    let fifth = new["key"].as_str().unwrap().to_owned();
    assert_eq!((good(&third).await.0, good(&fourth).await.0, good(&fifth).await.0), (401, 200, 200));
    let (status, problem) = rotate(604_801).await;
    assert_eq!((status, problem["errors"][0]["pointer"].as_str()), (400, Some("/overlap_seconds")));
    // Also to a server that starts anew.
    let world = world.reopen().await.unwrap();
    for (key, good) in [(&third, false), (&fourth, true), (&fifth, true)] {
        assert_eq!(world.runtime.authenticate(key).is_ok(), good);
    }
    intended_verify_holds(&world).await;
}

async fn intended_verify_holds(world: &World) {
    crate::tampering::verify(world.export().await.unwrap()).unwrap();
}

/// The new key is good for all that the credential is: it is given to who could have made it.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_rotates_a_credential_that_is_wider_than_their_own() {
    let (world, app, owner) = app().await;
    let admin = created(
        &app,
        &owner,
        &json!({"credential": "admin", "whole": true, "scopes": ["access:read", "access:write"]}),
    )
    .await;
    created(&app, &owner, &json!({"credential": "mine", "whole": true, "scopes": ["access:read"]})).await;
    let rotate = async |name: &str| {
        let path = format!("{CREDENTIALS}/{name}/rotate");
        call(&app, "POST", &path, Some(&admin), Some(&json!({"overlap_seconds": 0}))).await
    };
    let (status, problem) = rotate("owner").await;
    assert_eq!((status, code(&problem)), (403, "credential.scope"), "{problem}");
    assert!(world.runtime.authenticate(&owner).is_ok(), "and the owner's is as good as before");
    assert_eq!(rotate("mine").await.0, 200);
    assert_eq!(rotate("nobody").await.0, 404);
    let revoke = json!({"reason": "over"});
    assert_eq!(call(&app, "POST", &format!("{CREDENTIALS}/mine/revoke"), Some(&owner), Some(&revoke)).await.0, 200);
    assert_eq!(rotate("mine").await.0, 409, "what was revoked stays so");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_good_from_its_networks_only_and_who_that_is_a_header_does_not_say() {
    let (world, _, owner) = app().await;
    let proxies = ["192.0.2.0/24".parse().unwrap()];
    let app = intended_api::router(intended_api::App::new(world.runtime.clone()).behind(&proxies));
    let new = json!({
        "credential": "inside", "environments": ["production"], "scopes": ["intent:read"],
        "networks": ["10.0.0.0/8", "2001:db8::/32"],
    });
    let key = created(&app, &owner, &new).await;
    for (from, forwarded, good) in [
        (Some("10.200.1.1"), None, true),
        (Some("::ffff:10.200.1.1"), None, true),
        (Some("2001:db8:9::1"), None, true),
        (Some("11.0.0.1"), None, false),
        (Some("2001:db9::1"), None, false),
        (None, None, false),
        (Some("11.0.0.1"), Some("10.0.0.1"), false),
        (None, Some("10.0.0.1"), false),
        (Some("192.0.2.7"), Some("10.0.0.1"), true),
        (Some("192.0.2.7"), Some("10.0.0.1, 11.0.0.1"), false),
        (Some("192.0.2.7"), Some("nonsense"), false),
    ] {
        let (status, problem, _) = ask(&app, &key, from, forwarded).await;
        let expected = if good { (200, "") } else { (403, "credential.network") };
        assert_eq!((status, problem.as_str()), expected, "{from:?} {forwarded:?}");
    }
    let mut wrong = new.clone();
    (wrong["credential"], wrong["networks"]) = (json!("w"), json!(["10.0.0.0/33"]));
    assert_eq!(create(&app, &owner, &wrong).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_submits_for_its_actions_only() {
    let (_world, app, owner) = app().await;
    let new = |name: &str, actions: Value| json!({"credential": name, "environments": ["production"], "scopes": ["intent:submit"], "actions": actions});
    let refunds = created(&app, &owner, &new("refunds", json!(["stripe.create_*", "orders.get_order"]))).await;
    let other = created(&app, &owner, &new("other", json!(["orders.*"]))).await;
    assert_eq!(submit(&app, &refunds, GOOD.to_owned()).await, (200, "policy.permit".to_owned()));
    assert_eq!(submit(&app, &other, GOOD.to_owned()).await, (403, "credential.action".to_owned()));
    let longer = GOOD.replace("stripe.create_refund", "stripe.creat");
    assert_eq!(submit(&app, &refunds, longer).await, (403, "credential.action".to_owned()));
    for wrong in ["a*b", "", "**", "é"] {
        assert_eq!(create(&app, &owner, &new("w", json!([wrong]))).await.0, 400, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_key_never_reaches_production_whatever_it_names_and_whatever_becomes_of_the_environment() {
    let (world, app, owner) = app().await;
    let new = json!({
        "credential": "t", "environments": ["production", "staging"], "scopes": ["intent:submit", "intent:read"], "test": true,
    });
    let named = created(&app, &owner, &new).await;
    let whole =
        created(&app, &owner, &json!({"credential": "w", "whole": true, "scopes": ["intent:submit"], "test": true}))
            .await;
    assert!(named.starts_with("int_test_") && whole.starts_with("int_test_"));
    for key in [&named, &whole] {
        assert_eq!(submit(&app, key, GOOD.to_owned()).await, (403, "credential.environment".to_owned()));
        let staging = GOOD.replace("production", "staging");
        assert_eq!(submit(&app, key, staging.clone()).await.0, 200);
    }
    // Staging becomes production: from that entry on they are good for it no more.
    let (status, body) =
        call(&app, "PUT", "/v1/tenants/acme/environments/staging", Some(&owner), Some(&json!({"tier": "production"})))
            .await;
    assert_eq!(status, 200, "{body}");
    for key in [&named, &whole] {
        let (status, reason) = submit(&app, key, GOOD.replace("production", "staging")).await;
        assert!(status == 403 && reason.starts_with("credential."), "{status} {reason}");
    }
    let (_, page) = call(&app, "GET", INTENTS, Some(&named), None).await;
    assert_eq!(page["intents"], json!([]), "nor does it read there");
    intended_verify_holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn last_use_is_shown_and_outlives_a_restart() {
    let (world, app, owner) = app().await;
    let new = json!({"credential": "ci", "environments": ["production"], "scopes": ["intent:read", "intent:submit", "audit:read"]});
    let key = created(&app, &owner, &new).await;
    let ci = CredentialId::new("ci").unwrap();
    let row = async || {
        let (_, rows) = call(&app, "GET", CREDENTIALS, Some(&owner), None).await;
        rows.as_array().unwrap().iter().find(|r| r["credential"] == "ci").unwrap().clone()
    };
    assert_eq!((&row().await["last_used"], &row().await["scopes_used"]), (&Value::Null, &json!([])), "never");
    world.clock.advance_millis(5_000);
    let used = world.clock_now();
    assert_eq!(call(&app, "GET", INTENTS, Some(&key), None).await.0, 200);
    // What is refused is no use of a scope.
    assert_eq!(call(&app, "GET", "/v1/tenants/acme/members", Some(&key), None).await.0, 403);
    let shown = row().await;
    assert_eq!(shown["last_used"], json!(Timestamp::from_millis(used).to_string()));
    assert_eq!(shown["scopes_used"], json!(["intent:read"]));
    assert_eq!(submit(&app, &key, GOOD.to_owned()).await.0, 200);
    assert_eq!(row().await["scopes_used"], json!(["intent:submit", "intent:read"]));
    // Closing writes it down; a kill loses what was not.
    drop(app);
    let world = world.reopen().await.unwrap();
    let kept = world.runtime.usage(&world.owner.tenant, &ci);
    assert_eq!(kept.last_used, Some(Timestamp::from_millis(used)));
    assert!(kept.scopes.contains(Scope::IntentSubmit) && !kept.scopes.contains(Scope::AuditRead));
    world.clock.advance_millis(60_000);
    let later = world.clock_now();
    world.runtime.authenticate(&key).unwrap();
    world.runtime.flush_usage(false).await.unwrap();
    world.clock.advance_millis(1_000);
    world.runtime.authenticate(&key).unwrap();
    world.runtime.flush_usage(false).await.unwrap();
    let dir = world.crash().await.unwrap();
    let fact = {
        let store = intended_store_sqlite::SqliteStore::open(dir.dir.path(), &Default::default()).unwrap();
        use intended_store::Store as _;
        let fact = store.fact_now(&intended_model::TenantId::new("acme").unwrap(), "u/ci").unwrap().unwrap();
        String::from_utf8(fact.value).unwrap()
    };
    assert!(fact.contains(&later.to_string()), "once in half a minute, not each time: {fact}");
}

/// Which keys are wrong is not found out by trying, and who shares the address is served.
#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_keys_waits_longer_each_time_and_good_keys_from_there_go_on() {
    let (world, app, owner) = app().await;
    let guess = |n: u32| {
        // Well formed: only the look-up tells.
        let rng = intended_testkit::SeededRng::new(u64::from(n) + 1_000_000);
        intended_keyring::ApiKey::generate(&rng, intended_keyring::KeyKind::Live).unwrap().expose().to_owned()
    };
    let here = Some("203.0.113.5");
    let mut answers = Vec::new();
    for n in 0..21 {
        let key = if n % 2 == 0 { guess(n) } else { format!("int_live_{n}") };
        answers.push(ask(&app, &key, here, None).await);
    }
    assert!(answers[..19].iter().all(|(status, _, _)| *status == 401), "{answers:?}");
    assert_eq!(answers[19], (429, "rate_limited".to_owned(), Some(30)));
    assert_eq!(answers[20].0, 429);
    assert_eq!(ask(&app, &owner, here, None).await.0, 200, "a good key from there");
    assert_eq!(ask(&app, &guess(99), Some("203.0.113.6"), None).await.0, 401, "another address");
    world.clock.advance_millis(31_000);
    let mut last = (0, String::new(), None);
    for n in 100..120 {
        last = ask(&app, &guess(n), here, None).await;
    }
    assert_eq!(last, (429, "rate_limited".to_owned(), Some(60)), "longer");
    // An operator's key is guessed no better.
    for _ in 0..25 {
        let rng = intended_testkit::SeededRng::new(5);
        let key = intended_keyring::ApiKey::generate(&rng, intended_keyring::KeyKind::Operator).unwrap();
        last = ask(&app, key.expose(), Some("2001:db8::1"), None).await;
    }
    assert_eq!(last.0, 429);
    assert_eq!(ask(&app, &guess(7), Some("2001:db8::ffff"), None).await.0, 429, "the same /64");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_away_the_last_one_who_could_give_access() {
    let (world, app, owner) = app().await;
    let revoke = async |key: &str, name: &str| {
        let path = format!("{CREDENTIALS}/{name}/revoke");
        let (status, body) = call(&app, "POST", &path, Some(key), Some(&json!({"reason": "x"}))).await;
        (status, code(&body).to_owned())
    };
    let last = (409, "access.last_owner".to_owned());
    assert_eq!(revoke(&owner, "owner").await, last);
    // Who is there for a while, from one network, for one environment, for tests, or cannot come in does not count.
    let until = world.clock_now() + 3_600_000;
    for other in [
        json!({"credential": "brief", "whole": true, "scopes": ["access:write"], "expires_at": until}),
        json!({"credential": "local", "whole": true, "scopes": ["access:write"], "networks": ["10.0.0.0/8"]}),
        json!({"credential": "part", "environments": ["production", "staging"], "scopes": ["access:write"]}),
        json!({"credential": "tests", "whole": true, "scopes": ["access:write"], "test": true}),
        json!({"credential": "reader", "whole": true, "scopes": ["access:read"]}),
    ] {
        created(&app, &owner, &other).await;
    }
    let jo = json!({"active": true, "grants": [{"role": "owner", "whole": true}]});
    assert_eq!(call(&app, "PUT", "/v1/tenants/acme/members/jo", Some(&owner), Some(&jo)).await.0, 200);
    assert_eq!(revoke(&owner, "owner").await, last, "a member with no way to sign in gives nothing");
    // A key of theirs is a way.
    let key =
        created(&app, &owner, &json!({"credential": "jo-key", "member": "jo", "whole": true, "scopes": Scope::ALL}))
            .await;
    assert_eq!(revoke(&owner, "owner").await.0, 200);
    // Now they are the last, and neither their key nor their role goes.
    assert_eq!(revoke(&key, "jo-key").await, last);
    let second = created(&app, &key, &json!({"credential": "second", "whole": true, "scopes": Scope::ALL})).await;
    assert_eq!(revoke(&second, "jo-key").await.0, 200);
    assert_eq!(revoke(&second, "second").await, last);
    crate::tampering::verify({
        // The owner's own export needs a caller who may still read.
        let caller = world.runtime.authenticate(&second).unwrap();
        let header = world.runtime.export_header(&caller).await.unwrap();
        let entries = world.runtime.store().entries(&caller.tenant.id, 0, usize::MAX >> 1).await.unwrap();
        (header, entries.into_iter().map(|e| e.leaf).collect())
    })
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_owners_role_is_not_taken_and_nobody_changes_their_own() {
    let (_world, app, owner) = app().await;
    let put = async |key: &str, member: &str, body: Value| {
        let path = format!("/v1/tenants/acme/members/{member}");
        let (status, body) = call(&app, "PUT", &path, Some(key), Some(&body)).await;
        (status, code(&body).to_owned())
    };
    let owns = json!({"active": true, "grants": [{"role": "owner", "whole": true}]});
    for name in ["jo", "kim"] {
        assert_eq!(put(&owner, name, owns.clone()).await.0, 200);
    }
    let mut keys = Vec::new();
    for name in ["jo", "kim"] {
        let new = json!({"credential": format!("{name}-key"), "member": name, "whole": true, "scopes": Scope::ALL});
        keys.push(created(&app, &owner, &new).await);
    }
    let revoke = json!({"reason": "people only"});
    assert_eq!(call(&app, "POST", &format!("{CREDENTIALS}/owner/revoke"), Some(&keys[0]), Some(&revoke)).await.0, 200);
    let less = json!({"active": true, "grants": [{"role": "viewer", "whole": true}]});
    assert_eq!(put(&keys[0], "jo", less.clone()).await, (403, "access.own".to_owned()));
    assert_eq!(put(&keys[0], "kim", less.clone()).await.0, 200);
    assert_eq!(put(&keys[1], "jo", less).await, (403, "credential.scope".to_owned()), "who was an owner is none");
    // Jo is the last. Somebody who may give access in part cannot take theirs either.
    assert_eq!(
        call(&app, "POST", &format!("{CREDENTIALS}/jo-key/revoke"), Some(&keys[0]), Some(&json!({"reason": "x"})))
            .await
            .1["code"],
        "access.last_owner"
    );
}

#[test]
fn the_pattern_for_secret_scanners_is_documented_and_finds_every_kind_of_key() {
    let page = include_str!("../../../../docs/api.md");
    assert!(page.contains(intended_keyring::API_KEY_PATTERN));
    let pattern = intended_keyring::API_KEY_PATTERN;
    // Read by hand: no expression engine is needed to say what these parts are.
    assert_eq!(pattern, r"\bint_(live|test|ops)_[A-Za-z0-9_-]{43}[A-Za-z0-9]{6}\b");
    for kind in intended_keyring::KeyKind::ALL {
        for seed in 0..200 {
            let key = intended_keyring::ApiKey::generate(&intended_testkit::SeededRng::new(seed), kind).unwrap();
            let rest = key.expose().strip_prefix(kind.prefix()).unwrap();
            let (secret, check) = rest.split_at(43);
            assert!(secret.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            assert!(check.len() == 6 && check.bytes().all(|b| b.is_ascii_alphanumeric()));
            assert!(["int_live_", "int_test_", "int_ops_"].contains(&kind.prefix()));
        }
    }
}
