//! What `/metrics` says that alerts go by, held against what was done.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use intended_model::entry::Tier;
use intended_model::{Code, TenantId};
use intended_runtime::Submission;
use intended_store::Store as _;
use intended_testkit::{environment, refund};
use serde_json::json;
use tower::ServiceExt as _;

use crate::http_edge::{GOOD, INTENTS, app, call, raw};
use crate::operate::{text, value};
use crate::slow;

fn submission(key: Option<&str>) -> Submission {
    Submission { intent: refund(1, None).unwrap(), idempotency_key: key.map(Into::into), audience: None }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_lag_is_of_everything_that_was_handed_over_also_when_nobody_waits_for_it() {
    let (world, store) = slow::world().await;
    let lag = || world.runtime.metrics().audit_lag();
    let size = async || store.head(&world.owner.tenant.id).await.unwrap().size;
    assert_eq!(lag(), Duration::ZERO);
    for path in ["a decision", "a decision under a key", "a change"] {
        let (before, (runtime, owner)) = (size().await, (world.runtime.clone(), world.owner.clone()));
        store.before.close();
        let waits = tokio::spawn(async move {
            match path {
                "a change" => drop(runtime.halt(&owner, Some(environment("staging").unwrap()), "drill").await),
                "a decision" => drop(runtime.submit(&owner, submission(None)).await),
                _ => drop(runtime.submit(&owner, submission(Some("once"))).await),
            }
        });
        store.before.reached().await;
        let first = lag();
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(first > Duration::ZERO && lag() >= first + Duration::from_millis(5), "{path}: {first:?}");
        // Who asked for it has gone.
        waits.abort();
        assert!(waits.await.unwrap_err().is_cancelled(), "{path}");
        assert!(lag() >= first, "{path}: what the store holds up is not forgotten with who waited");
        store.before.open();
        until("it is there", || lag() == Duration::ZERO).await;
        assert_eq!(size().await, before + 1, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_refused_waits_no_more() {
    let (world, store) = slow::world().await;
    let app = intended_api::router(intended_api::App::new(world.runtime.clone()));
    store.close().await.unwrap();
    let refused = world.runtime.submit(&world.owner, submission(None)).await.unwrap_err();
    assert_eq!(refused.code, Code::NotReady);
    assert_eq!(world.runtime.metrics().audit_lag(), Duration::ZERO);
    // The page is there when the store is not, and says what is missing.
    raw(&app, "POST", INTENTS, Some(&world.owner_key), Some(GOOD.into()), "application/json").await;
    store.unreadable.store(true, Ordering::SeqCst);
    let page = text(&app, "/metrics", None).await;
    for (sample, expected) in [
        (r#"intended_decision_errors_total{code="not_ready"}"#, 2.0),
        (r#"intended_decision_errors_total{code="store.full"}"#, 0.0),
        (r#"intended_http_requests_total{class="5xx"}"#, 1.0),
        ("intended_ready", 0.0),
        ("intended_unread_tenants", 1.0),
    ] {
        assert_eq!(value(&page, sample), Some(expected), "{sample}\n{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_counted_by_class_and_those_to_probes_are_not() {
    let (world, app, key) = app().await;
    raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
    raw(&app, "POST", INTENTS, Some(&key), Some("{".into()), "application/json").await;
    call(&app, "GET", "/v1/tenants/acme/intents", None, None).await;
    call(&app, "GET", "/nowhere", None, None).await;
    for probe in ["/livez", "/readyz?verbose", "/healthz", "/metrics"] {
        call(&app, "GET", probe, None, None).await;
    }
    let page = text(&app, "/metrics", Some(&key)).await;
    for (class, expected) in [("2xx", 1.0), ("3xx", 0.0), ("4xx", 3.0), ("5xx", 0.0)] {
        let sample = format!(r#"intended_http_requests_total{{class="{class}"}}"#);
        assert_eq!(value(&page, &sample), Some(expected), "{class}\n{page}");
    }
    assert_eq!((value(&page, "intended_ready"), value(&page, "intended_unread_tenants")), (Some(1.0), Some(0.0)));
    // What the caller did wrong is no error of the server's.
    assert!(page.lines().filter(|l| l.starts_with("intended_decision_errors_total{")).all(|l| l.ends_with(" 0")));
    drop(world);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_grows_stale_until_it_is_read_again() {
    let (world, store) = slow::world().await;
    let app = intended_api::router(intended_api::App::new(world.runtime.clone()));
    let key = world.owner_key.clone();
    world.clock.advance_millis(31_000);
    let page = text(&app, "/metrics", Some(&key)).await;
    assert_eq!(value(&page, "intended_state_staleness_seconds"), Some(31.0), "{page}");
    world.runtime.close_overdue().await.unwrap();
    let page = text(&app, "/metrics", Some(&key)).await;
    assert_eq!(value(&page, "intended_state_staleness_seconds"), Some(0.0));
    // What cannot be read is not confirmed.
    world.clock.advance_millis(5_000);
    store.unreadable.store(true, Ordering::SeqCst);
    let _ = world.runtime.close_overdue().await;
    let page = text(&app, "/metrics", Some(&key)).await;
    assert_eq!(value(&page, "intended_state_staleness_seconds"), Some(5.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_escalation_tells_how_long_it_has_been_waiting() {
    let (world, app, key) = app().await;
    let age = async || value(&text(&app, "/metrics", Some(&key)).await, "intended_escalation_age_seconds");
    assert_eq!(age().await, Some(0.0));
    let large = || GOOD.replace("40", "400");
    let (_, first) = raw(&app, "POST", INTENTS, Some(&key), Some(large().into()), "application/json").await;
    world.clock.advance_millis(600_000);
    let (status, _) = raw(&app, "POST", INTENTS, Some(&key), Some(large().into()), "application/json").await;
    assert_eq!((first["decision"].as_str(), status), (Some("escalate"), 202));
    world.clock.advance_millis(1_000);
    assert_eq!(age().await, Some(601.0));
    world.clock.advance_millis(3_000_000);
    world.runtime.close_overdue().await.unwrap();
    assert_eq!(age().await, Some(3_001.0), "the first has timed out, the second has not");
    world.clock.advance_millis(3_600_000);
    world.runtime.close_overdue().await.unwrap();
    assert_eq!(age().await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_keys_say_how_far_off_their_rotation_is() {
    const DAY: i64 = 86_400_000;
    let (world, app, key) = app().await;
    let left = async |page: &str, label: &str| {
        value(page, &format!("intended_signing_key_expiry_seconds{{{label}}}")).map(|s| s / 86_400.0)
    };
    world.clock.advance_millis(80 * DAY);
    let page = text(&app, "/metrics", Some(&key)).await;
    assert_eq!(left(&page, r#"environment="production""#).await, Some(10.0), "{page}");
    // A new key has all of its time before it.
    let rotate = json!({"environment": "production"});
    let (status, _) = call(&app, "POST", "/v1/tenants/acme/keys/rotate", Some(&key), Some(&rotate)).await;
    assert!((200..300).contains(&status));
    world.clock.advance_millis(11 * DAY);
    let page = text(&app, "/metrics", Some(&key)).await;
    assert_eq!(left(&page, r#"environment="production""#).await, Some(79.0));
    assert_eq!(left(&page, r#"environment="staging""#).await, Some(-1.0), "it is overdue, and told so");
    // Of strangers' tiers the one that is due first.
    let other = TenantId::new("globex").unwrap();
    let vault = vec![(environment("vault").unwrap(), Tier::Staging, Default::default())];
    world.runtime.create_tenant(&other, &vault).await.unwrap();
    let page = text(&app, "/metrics", None).await;
    assert_eq!(left(&page, r#"tier="staging""#).await, Some(-1.0));
    // What is not to be rotated has no time for it.
    world.runtime.rotate_keys_within(0);
    let page = text(&app, "/metrics", Some(&key)).await;
    assert!(!page.contains("intended_signing_key_expiry_seconds{"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn breakers_are_counted_for_everyone_and_named_to_whom_they_belong_to() {
    let (world, app, key) = app().await;
    let put = async |name: &str, body: serde_json::Value| {
        call(&app, "PUT", &format!("/v1/tenants/acme/breakers/{name}"), Some(&key), Some(&body)).await
    };
    let rules = json!({"velocity": 2, "minimum_calls": 1, "open_secs": 60});
    let watched = json!({"scope": "tool", "target": "stripe.create_refund"});
    let (status, said) = put("refunds", json!({"environment": "production", "on": watched, "rules": rules})).await;
    assert!((200..300).contains(&status), "{said}");
    let hold = json!({"environment": "staging", "on": {"scope": "tool", "target": "crm.*"}, "reason": "drill"});
    let (status, said) = call(&app, "POST", "/v1/tenants/acme/breakers/crm/hold", Some(&key), Some(&hold)).await;
    assert!((200..300).contains(&status), "{said}");
    for _ in 0..3 {
        raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
    }
    let counted = |page: &str| {
        ["closed", "half_open", "open", "held"].map(|s| value(page, &format!(r#"intended_breakers{{state="{s}"}}"#)))
    };
    let named = |page: &str, name: &str| value(page, &format!(r#"intended_breaker_state{{breaker="{name}"}}"#));
    let page = text(&app, "/metrics", Some(&key)).await;
    assert_eq!(counted(&page), [Some(4.0), Some(0.0), Some(1.0), Some(1.0)], "{page}");
    for (name, state) in [("refunds", 2.0), ("crm", 3.0), ("production.agents", 0.0), ("staging.connectors", 0.0)] {
        assert_eq!(named(&page, name), Some(state), "{name}");
    }
    let stranger = text(&app, "/metrics", None).await;
    assert_eq!(counted(&stranger), [Some(4.0), Some(0.0), Some(1.0), Some(1.0)]);
    assert!(!stranger.contains("intended_breaker_state{") && !stranger.contains("refunds"), "{stranger}");
    // Who sees one environment sees its breakers.
    let new = json!({"credential": "watch", "environments": ["staging"], "scopes": ["status:read"]});
    let (_, created) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&key), Some(&new)).await;
    let page = text(&app, "/metrics", created["key"].as_str()).await;
    assert_eq!(counted(&page), [Some(2.0), Some(0.0), Some(0.0), Some(1.0)], "{page}");
    assert_eq!((named(&page, "crm"), named(&page, "refunds")), (Some(3.0), None));

    world.clock.advance_millis(61_000);
    raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
    world.runtime.tend_breakers().await;
    let page = text(&app, "/metrics", Some(&key)).await;
    assert_eq!(named(&page, "refunds"), Some(1.0), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_openmetrics_gets_it_and_everyone_else_what_promtool_reads() {
    let (_world, app, _key) = app().await;
    let get = async |accept: &str| {
        let request = Request::get("/metrics").header("accept", accept).body(Body::empty()).unwrap();
        let answer = app.clone().oneshot(request).await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (kind, String::from_utf8(bytes.to_vec()).unwrap())
    };
    let (kind, page) = get("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5").await;
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0") && page.ends_with("# EOF\n"), "{kind}");
    assert!(page.contains("# TYPE intended_tokens_issued counter\nintended_tokens_issued_total 0\n"), "{page}");
    let (kind, page) = get("*/*").await;
    assert!(kind.starts_with("text/plain; version=0.0.4") && !page.contains("# EOF"), "{kind}");
    assert!(page.contains("# TYPE intended_tokens_issued_total counter\nintended_tokens_issued_total 0\n"), "{page}");
}
