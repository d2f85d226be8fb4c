//! What somebody who has the ledger's key could write of people and their sessions, and what finds it.

use intended_model::Digest;
use intended_model::entry::Role;
use intended_runtime::access::MemberSpec;
use intended_runtime::sign_in::Secret;
use intended_runtime::sign_in::session::Proof;
use intended_testkit::World;
use intended_verify::Check;
use serde_json::{Value, json};

use crate::sign_in::{PASSWORD, id, member, whole, with_password};
use crate::tampering::{Forge, verify};

/// Sessions: 0 admin by link, 1 viewer by link, 2 admin by password, 3 peer by link. Links: 0 admin's,
/// 1 viewer's, 2 peer's by the admin. The boss may do more than the admin.
async fn recorded() -> Forge {
    let world = World::new().await.unwrap();
    member(&world, "boss", vec![whole(Role::Owner)]).await;
    let peer = member(&world, "peer", vec![whole(Role::Admin)]).await;
    with_password(&world, "admin", vec![whole(Role::Admin)]).await;
    with_password(&world, "viewer", vec![whole(Role::Viewer)]).await;
    let sign_in = async |proof| world.runtime.sign_in("acme", None, proof).await.unwrap();
    let proof = Proof::Password { member: "admin".into(), password: Secret::new(PASSWORD), code: None };
    let session = sign_in(proof).await;
    let by = world.runtime.authenticate(session.key.expose()).unwrap();
    let link = world.runtime.issue_link(&by, &peer).await.unwrap().code;
    sign_in(Proof::Link { link, code: None }).await;
    world.runtime.sign_out(&by).await.unwrap();
    world.runtime.set_member(&world.owner, id("viewer"), MemberSpec::default()).await.unwrap();
    Forge::of(&world.export().await.unwrap().1)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_forged_session_link_and_means_of_signing_in_is_found() {
    let honest = recorded().await;
    verify(Forge(honest.0.clone()).rebuild()).unwrap();
    type Change = fn(&mut Value);
    let cases: Vec<(&str, &str, usize, Change, &str)> = vec![
        ("a session of nobody", "session.started", 0, |b| b["member"] = json!("nobody"), "not an active member"),
        (
            "of who has no such means",
            "session.started",
            2,
            |b| b["member"] = json!("boss"),
            "does not sign in by password",
        ),
        ("of another, by a link", "session.started", 3, |b| b["member"] = json!("viewer"), "not the last one"),
        ("an unknown link", "session.started", 0, |b| b["link"] = json!(Digest::of(b"x")), "not the last one"),
        ("by a code alone", "session.started", 2, |b| b["method"] = json!("totp"), "does not sign in by totp"),
        ("by a link without one", "session.started", 2, |b| b["method"] = json!("link"), "does not sign in by link"),
        ("for ever", "session.started", 2, |b| b["expires_at"] = json!(4_000_000_000_000_i64), "24 hours"),
        ("over before it began", "session.started", 2, |b| b["expires_at"] = json!(1), "24 hours"),
        ("the end of another's", "session.ended", 0, |b| b["member"] = json!("peer"), "no such session"),
        ("an end of none", "session.ended", 0, |b| b["session"] = json!(Digest::of(b"x")), "no such session"),
        ("a link for who may do more", "sign_in.link_issued", 2, |b| b["member"] = json!("boss"), "more than it has"),
        ("a link for oneself", "sign_in.link_issued", 2, |b| b["member"] = json!("admin"), "more than it has"),
        ("a link by who gives no access", "sign_in.link_issued", 2, |b| b["by"] = json!("member.viewer"), "scope"),
        ("a password of somebody else", "sign_in.set", 1, |b| b["member"] = json!("peer"), "scope"),
        (
            "a means of who may do more",
            "sign_in.set",
            1,
            |b| {
                b["member"] = json!("boss");
                b["by"] = json!("member.admin");
            },
            "more than it has",
        ),
        ("a provider let in by oneself", "sign_in.set", 0, |b| b["method"] = json!("oidc"), "speak of themselves"),
        (
            "a means by a provider that is none",
            "sign_in.set",
            1,
            |b| b["by"] = json!("provider.corp"),
            "not a credential",
        ),
    ];
    for (what, kind, nth, change, says) in cases {
        let mut forge = Forge(honest.0.clone());
        let at = forge.position(kind, nth);
        forge.edit(at, change);
        let failure = verify(forge.rebuild()).expect_err(what);
        assert_eq!((failure.check, failure.index), (Check::Authority, Some(at as u64)), "{what}: {failure}");
        assert!(failure.what.contains(says), "{what}: {failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_was_used_twice_and_a_session_of_who_was_taken_out_are_found() {
    let honest = recorded().await;
    let mut twice = Forge(honest.0.clone());
    let at = twice.position("session.started", 3);
    let (time, kind, body) = twice.0[at].clone();
    let mut again: Value = serde_json::from_str(&body).unwrap();
    again["session"] = json!(Digest::of(b"another"));
    let again = intended_model::json::parse_recorded(again.to_string().as_bytes()).unwrap().to_canonical();
    twice.0.insert(at + 1, (time, kind.clone(), again));
    let failure = verify(twice.rebuild()).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Authority, Some(at as u64 + 1)), "{failure}");
    assert!(failure.what.contains("used before"), "{failure}");

    let mut replayed = Forge(honest.0.clone());
    let at = replayed.position("session.started", 2);
    replayed.0.insert(at + 1, replayed.0[at].clone());
    assert!(verify(replayed.rebuild()).unwrap_err().what.contains("began before"));

    // The last entry takes the viewer out; a session after it.
    let mut after = Forge(honest.0.clone());
    let session = after.0[after.position("session.started", 1)].clone();
    let time = after.0.last().unwrap().0;
    after.0.push((time, session.1, session.2));
    let failure = verify(after.rebuild()).unwrap_err();
    assert!(failure.what.contains("not an active member"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_and_providers_did_in_a_suspended_tenant_is_found() {
    let honest = recorded().await;
    for (kind, nth) in [("session.started", 2), ("session.ended", 0), ("sign_in.set", 1), ("member.set", 4)] {
        let mut forge = Forge(honest.0.clone());
        let at = forge.position(kind, nth);
        let time = forge.0[at].0;
        let body = json!({"by": "operator", "reason": "unpaid", "v": 1});
        let body = intended_model::json::parse_recorded(body.to_string().as_bytes()).unwrap().to_canonical();
        forge.0.insert(at, (time, "access.suspended".into(), body));
        let failure = verify(forge.rebuild()).expect_err(kind);
        assert_eq!((failure.check, failure.index), (Check::Authority, Some(at as u64 + 1)), "{kind}: {failure}");
        assert!(failure.what.contains("suspended"), "{kind}: {failure}");
    }
}
