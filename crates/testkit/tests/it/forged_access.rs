//! Access that was written into a ledger by somebody who has its key, and that nobody could have given.

use intended_model::entry::Scope;
use intended_testkit::World;
use intended_verify::Check;
use serde_json::{Value, json};

use crate::http_edge::{app, call};
use crate::tampering::{Forge, verify};

/// The owner makes a narrow maker, the maker makes a credential, and rotates it; the owner makes two
/// members, suspends and reinstates an environment.
async fn recorded() -> (World, Forge) {
    let (world, app, owner) = app().await;
    let send = async |method: &str, key: &str, path: &str, body: Value| {
        let (status, answer) = call(&app, method, &format!("/v1/tenants/acme/{path}"), Some(key), Some(&body)).await;
        assert!(status < 300, "{path}: {answer}");
        answer
    };
    let maker = json!({
        "credential": "maker", "whole": true, "scopes": ["access:write", "intent:submit"], "actions": ["stripe.*"],
        "expires_at": world.clock_now() + 3_600_000, "test": true,
    });
    let maker = send("POST", &owner, "credentials", maker).await["key"].as_str().unwrap().to_owned();
    let made = json!({
        "credential": "made", "environments": ["staging"], "scopes": ["intent:submit"], "actions": ["stripe.create_refund"],
        "networks": ["10.0.0.0/8"], "expires_at": world.clock_now() + 3_600_000, "test": true,
    });
    send("POST", &maker, "credentials", made).await;
    send("POST", &maker, "credentials/made/rotate", json!({"overlap_seconds": 604_800})).await;
    let grants = |role: &str| json!({"active": true, "grants": [{"role": role, "whole": true}]});
    send("PUT", &owner, "members/jo", grants("owner")).await;
    send("PUT", &owner, "members/kim", grants("viewer")).await;
    send(
        "POST",
        &owner,
        "credentials",
        json!({"credential": "jo-key", "member": "jo", "whole": true, "scopes": Scope::ALL}),
    )
    .await;
    send("PUT", &owner, "members/kim", grants("auditor")).await;
    send("POST", &owner, "environments/staging/suspend", json!({"reason": "x"})).await;
    send("POST", &owner, "environments/staging/reinstate", json!({"reason": "x"})).await;
    send("POST", &owner, "credentials/maker/revoke", json!({"reason": "x"})).await;
    let forge = Forge::of(&world.export().await.unwrap().1);
    (world, forge)
}

#[tokio::test(flavor = "multi_thread")]
async fn access_that_nobody_could_give_is_found() {
    let (_world, honest) = recorded().await;
    verify(Forge(honest.0.clone()).rebuild()).unwrap();
    type Case = (&'static str, &'static str, usize, fn(&mut Value), &'static str);
    // `credential.created`: 0 the owner, 1 maker, 2 made, 3 jo-key.
    let cases: &[Case] = &[
        (
            "another scope",
            "credential.created",
            2,
            |b| b["scopes"] = json!(["intent:submit", "audit:read"]),
            "gave more",
        ),
        ("any action", "credential.created", 2, |b| drop(b.as_object_mut().unwrap().remove("actions")), "gave more"),
        ("another action", "credential.created", 2, |b| b["actions"] = json!(["github.*"]), "gave more"),
        ("live from test", "credential.created", 2, |b| drop(b.as_object_mut().unwrap().remove("test")), "gave more"),
        ("for good", "credential.created", 2, |b| b["expires_at"] = Value::Null, "gave more"),
        (
            "a rotation by who is narrower",
            "credential.rotated",
            0,
            |b| b["credential"] = json!("owner"),
            "not good for",
        ),
        (
            "a rotation with a longer overlap",
            "credential.rotated",
            0,
            |b| b["previous_until"] = json!(b["previous_until"].as_i64().unwrap() + 1),
            "for too long",
        ),
        ("a rotation by nobody", "credential.rotated", 0, |b| b["by"] = json!("nobody"), "nobody"),
        ("a role by who has it not", "member.set", 2, |b| b["by"] = json!("maker"), "gave more"),
        (
            "an environment's suspension by its own",
            "access.suspended",
            0,
            |b| b["by"] = json!("made"),
            "had not the scope",
        ),
        (
            "a tenant's suspension by its owner",
            "access.suspended",
            0,
            |b| drop(b.as_object_mut().unwrap().remove("environment")),
            "does not operate the server",
        ),
        (
            "one's own role",
            "member.set",
            2,
            |b| {
                b["by"] = json!("jo-key");
                b["member"] = json!("jo");
            },
            "themselves",
        ),
    ];
    for (what, kind, nth, change, says) in cases {
        let mut forge = Forge(honest.0.clone());
        let at = forge.position(kind, *nth);
        forge.edit(at, change);
        let failure = verify(forge.rebuild()).unwrap_err();
        assert_eq!((failure.check, failure.index), (Check::Authority, Some(at as u64)), "{what}: {failure}");
        assert!(failure.what.contains(says), "{what}: {failure}");
    }
}

/// While a tenant is suspended nothing of it changes and nothing is used, and of an environment nothing is used.
#[tokio::test(flavor = "multi_thread")]
async fn what_happens_under_a_suspension_is_found() {
    let (world, honest) = recorded().await;
    let suspended = honest.position("access.suspended", 0);
    // The environment's suspension as the tenant's, by who operates the server: what comes after it is found.
    let mut forge = Forge(honest.0.clone());
    forge.edit(suspended, |b| {
        b["by"] = json!("operator");
        b.as_object_mut().unwrap().remove("environment");
    });
    let failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Authority, Some(suspended as u64 + 1)), "{failure}");
    assert!(failure.what.contains("was suspended"), "{failure}");
    // A token used in a suspended environment.
    let intent = intended_testkit::refund(40, None).unwrap();
    let submission = intended_runtime::Submission { intent, idempotency_key: None, audience: None };
    let decided = world.runtime.submit(&world.owner, submission).await.unwrap();
    let production = intended_testkit::environment("production").unwrap();
    world.runtime.suspend_environment(&world.owner, &production, "x").await.unwrap();
    world.runtime.reinstate_environment(&world.owner, &production, "x").await.unwrap();
    let binding = intended_token::Binding::IntentHash(decided.record.input.intent_hash);
    let token = decided.token.unwrap();
    let verified = world.runtime.verify_token(&world.owner, token.as_str(), "intended", &production, &binding, true);
    assert!(matches!(verified.await.unwrap(), intended_runtime::tokens::Verification::Accepted(_)));
    let mut forge = Forge::of(&world.export().await.unwrap().1);
    verify(Forge(forge.0.clone()).rebuild()).unwrap();
    let (consumed, reinstated) = (forge.position("token.consumed", 0), forge.position("access.reinstated", 1));
    forge.0.swap(consumed, reinstated);
    let failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Consumption, Some(reinstated as u64)), "{failure}");
    assert!(failure.what.contains("suspended"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_owner_taken_away_is_found() {
    let (_world, honest) = recorded().await;
    // Without jo's key the owner is the last one.
    let mut forge = Forge(honest.0.clone());
    let key = forge.position("credential.created", 3);
    forge.0.remove(key);
    let at = forge.position("credential.revoked", 0);
    forge.edit(at, |b| b["credential"] = json!("owner"));
    let failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Authority, Some(at as u64)), "{failure}");
    assert!(failure.what.contains("nobody would be left"), "{failure}");
    // With it, the owner may go.
    let mut forge = honest;
    let at = forge.position("credential.revoked", 0);
    forge.edit(at, |b| b["credential"] = json!("owner"));
    verify(forge.rebuild()).unwrap();
}
