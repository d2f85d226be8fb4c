//! Everything that can be changed in a ledger by somebody who has its key: each change alone, signed
//! anew, and what names it.

use intended_model::entry::{BODY_VERSION, BreakerHeld, BreakerReleased, BreakerScope, CredentialCreated, Scope};
use intended_model::{CredentialId, Digest, EnvironmentId, Event, MemberId, Name, Timestamp};
use intended_runtime::{Decided, Submission};
use intended_testkit::{NOON, World, environment, refund};
use intended_token::{Alg, Binding};
use intended_verify::Check;
use serde_json::{Value, json};

use crate::tampering::{Forge, verify};

async fn submit(world: &World, amount: i64, session: Option<&str>) -> Decided {
    let submission = Submission { intent: refund(amount, session).unwrap(), idempotency_key: None, audience: None };
    world.runtime.submit(&world.owner, submission).await.unwrap()
}

async fn consume(world: &World, decided: &Decided) {
    let binding = Binding::IntentHash(decided.record.input.intent_hash);
    let token = decided.token.as_ref().unwrap().as_str();
    let production = environment("production").unwrap();
    let used = world.runtime.verify_token(&world.owner, token, "intended", &production, &binding, true).await.unwrap();
    assert!(matches!(used, intended_runtime::tokens::Verification::Accepted(_)), "{used:?}");
}

/// decisions: 0 allowed and consumed, 1 allowed in the same session, 2 allowed and revoked,
/// 3 escalated and closed after its time, 4 allowed.
async fn recorded() -> Forge {
    let world = World::new().await.unwrap();
    let used = submit(&world, 40, Some("s")).await;
    consume(&world, &used).await;
    world.clock.advance_millis(20_000);
    submit(&world, 41, Some("s")).await;
    world.clock.advance_millis(20_000);
    let revoked = submit(&world, 42, None).await;
    let (id, jti) = (revoked.record.input.id.to_string(), revoked.record.grant.unwrap().jti);
    world.runtime.revoke_token(&world.owner, &id, &jti, "test").await.unwrap();
    submit(&world, 400, None).await;
    world.clock.advance_millis(3_601_000);
    world.runtime.close_overdue().await.unwrap();
    submit(&world, 43, None).await;
    Forge::of(&world.export().await.unwrap().1)
}

/// Which entry is changed, the one that is named, how it is changed, what finds it.
struct Case {
    what: &'static str,
    kind: &'static str,
    nth: usize,
    change: fn(&mut Value),
    check: Check,
    says: &'static str,
}

const fn case(
    what: &'static str,
    kind: &'static str,
    nth: usize,
    change: fn(&mut Value),
    check: Check,
    says: &'static str,
) -> Case {
    Case { what, kind, nth, change, check, says }
}

fn counters(body: &mut Value) -> &mut serde_json::Map<String, Value> {
    body["input"]["counters"].as_object_mut().unwrap()
}
fn remove(body: &mut Value, name: &str) {
    assert!(body.as_object_mut().unwrap().remove(name).is_some());
}

/// A change of one entry, found at that entry.
const CASES: &[Case] = &[
    // Bytes: another spelling of the same.
    case("another version", "decision", 0, |b| b["v"] = json!(7), Check::Entry, "version 7"),
    case("another version", "halt.thrown", 0, |b| b["v"] = json!(2), Check::Entry, "version 2"),
    case("a null grant", "decision", 3, |b| b["grant"] = Value::Null, Check::Entry, "`/grant` is null"),
    case(
        "an empty detail",
        "decision",
        0,
        |b| b["decision"]["gates"][0]["detail"] = json!(""),
        Check::Entry,
        "/detail",
    ),
    case("no approvals", "decision", 0, |b| b["input"]["approvals"] = json!([]), Check::Entry, "/input/approvals"),
    case("no obligations", "decision", 0, |b| b["decision"]["obligations"] = json!({}), Check::Entry, "/obligations"),
    case("a spelled default", "policy.deployed", 0, |b| b["cause"] = json!("deploy"), Check::Entry, "/cause"),
    case("an absent null", "credential.created", 0, |b| remove(b, "expires_at"), Check::Entry, "/expires_at"),
    case("an unknown member", "agent.set", 0, |b| b["more"] = json!(1), Check::Entry, "more"),
    // I1.
    case("an allow without its grant", "decision", 0, |b| remove(b, "grant"), Check::Durable, "without its grant"),
    case("a longer grant", "decision", 0, |b| b["grant"]["exp"] = json!(NOON / 1000 + 61), Check::Durable, "times"),
    case("an earlier grant", "decision", 0, |b| b["grant"]["iat"] = json!(NOON / 1000 - 1), Check::Durable, "times"),
    case("a token id that is none", "decision", 0, |b| b["grant"]["jti"] = json!("x"), Check::Durable, "token id"),
    case("no audience", "decision", 0, |b| b["grant"]["aud"] = json!(""), Check::Durable, "audience"),
    case("another key", "decision", 0, |b| b["grant"]["kid"] = json!("x"), Check::Durable, "not active"),
    case(
        "a grant of what was not allowed",
        "decision",
        3,
        |b| b["grant"] = json!({"aud": "intended", "exp": 1, "iat": 0, "jti": "x", "kid": "x"}),
        Check::Durable,
        "without an allow",
    ),
    // I3 and I7.
    case("another state", "decision", 0, |b| b["input"]["control"] = json!(1), Check::Decision, "decided on state 1"),
    case("a later evaluation", "decision", 0, |b| b["input"]["at"] = json!(NOON + 1), Check::Decision, "evaluated at"),
    case("a much earlier one", "decision", 4, |b| b["input"]["at"] = json!(NOON), Check::Decision, "evaluated at"),
    case("another procedure", "decision", 0, |b| b["input"]["procedure"] = json!(9), Check::Decision, "procedure"),
    case(
        "another amount",
        "decision",
        0,
        |b| b["input"]["intent"]["action"]["properties"]["amount"] = json!(41),
        Check::Decision,
        "hash",
    ),
    case(
        "another hash",
        "decision",
        0,
        |b| b["input"]["intent_hash"] = json!(Digest::of(b"").to_string()),
        Check::Decision,
        "hash",
    ),
    case(
        "another catalogue",
        "decision",
        0,
        |b| b["input"]["catalogue"] = json!(Digest::of(b"").to_string()),
        Check::Decision,
        "catalogue",
    ),
    case(
        "another classification",
        "decision",
        0,
        |b| b["input"]["classification"]["blast"] = json!(1),
        Check::Decision,
        "classification",
    ),
    case(
        "a session that forgot",
        "decision",
        1,
        |b| b["input"]["session"]["intents"] = json!(0),
        Check::Decision,
        "session",
    ),
    case(
        "a session that was not",
        "decision",
        0,
        |b| b["input"]["session"]["intents"] = json!(1),
        Check::Decision,
        "session",
    ),
    case(
        "a budget that forgot",
        "decision",
        1,
        |b| counters(b).values_mut().for_each(|n| *n = json!(0)),
        Check::Decision,
        "stood at 4000, it says 0",
    ),
    case(
        "a budget ahead",
        "decision",
        1,
        |b| counters(b).values_mut().for_each(|n| *n = json!(4001)),
        Check::Decision,
        "stood at 4000",
    ),
    case("a budget left out", "decision", 1, |b| remove(&mut b["input"], "counters"), Check::Decision, "does not say"),
    case(
        "a budget that is none",
        "decision",
        1,
        |b| assert!(counters(b).insert("b/production/ghost/*/0".to_owned(), json!(7)).is_none()),
        Check::Decision,
        "does not apply",
    ),
    case(
        "another score",
        "decision",
        0,
        |b| b["decision"]["risk"]["score"] = json!(1),
        Check::Decision,
        "`/decision/risk/score` is recorded as 1",
    ),
    case(
        "a denial that was none",
        "decision",
        0,
        |b| b["decision"]["decision"] = json!("deny"),
        Check::Decision,
        "`/decision/decision`",
    ),
    // Escalations.
    case(
        "closed in another environment",
        "escalation.closed",
        0,
        |b| b["environment"] = json!("staging"),
        Check::Decision,
        "another environment",
    ),
    case(
        "closed for another reason",
        "escalation.closed",
        0,
        |b| b["reason"] = json!("gate.pass"),
        Check::Decision,
        "another reason",
    ),
    case(
        "closed with another time",
        "escalation.closed",
        0,
        |b| b["expires_at"] = json!(NOON),
        Check::Decision,
        "until another time",
    ),
    // I4.
    case(
        "a use of what was not granted",
        "token.consumed",
        0,
        |b| b["jti"] = json!("x"),
        Check::Consumption,
        "no decision before it",
    ),
    case(
        "a use in another environment",
        "token.consumed",
        0,
        |b| b["environment"] = json!("staging"),
        Check::Consumption,
        "another intent or environment",
    ),
    case(
        "a revocation elsewhere",
        "token.revoked",
        0,
        |b| b["environment"] = json!("staging"),
        Check::Consumption,
        "another intent",
    ),
    case("a revocation of another time", "token.revoked", 0, |b| b["exp"] = json!(1), Check::Consumption, "or time"),
    case("a revocation of nothing", "token.revoked", 0, |b| b["jti"] = json!("x"), Check::Consumption, "no decision"),
    // State.
    case("a key that verifies nothing", "key.added", 0, |b| b["jwk"] = json!({}), Check::Fold, "none that verifies"),
    case("a key under another id", "key.added", 0, |b| b["kid"] = json!("x"), Check::Fold, "none that verifies"),
    case(
        "a key of another algorithm",
        "key.added",
        0,
        |b| b["alg"] = json!("ES256"),
        Check::Fold,
        "none that verifies",
    ),
    case("a pack under another name", "policy.published", 0, |b| b["pack"] = json!("zzz"), Check::Fold, "zzz 1.0.0"),
    case("a pack of another version", "policy.published", 0, |b| b["version"] = json!("9"), Check::Fold, "demo 9"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_one_entry_is_named_by_it_and_by_what_it_breaks() {
    let mut honest = recorded().await;
    // A halt at the end, so that there is one to change.
    let at = honest.0.last().unwrap().0;
    let halt = json!({"by": "owner", "environment": null, "halt": "h", "reason": "r", "v": 1});
    honest.0.push((at, "halt.thrown".to_owned(), intended_model::json::canonical(&halt).unwrap()));
    let report = verify(Forge(honest.0.clone()).rebuild()).unwrap();
    assert_eq!((report.decisions, report.allowed, report.consumptions, report.overdue), (5, 4, 1, 0));
    for Case { what, kind, nth, change, check, says } in CASES {
        let mut forge = Forge(honest.0.clone());
        let at = forge.position(kind, *nth);
        forge.edit(at, change);
        let failure = verify(forge.rebuild()).unwrap_err();
        assert_eq!((failure.check, failure.index), (*check, Some(at as u64)), "{what}: {failure}");
        assert!(failure.what.contains(says), "{what}: {failure}");
    }
}

/// Entries that are moved, doubled, left out or put in.
#[tokio::test(flavor = "multi_thread")]
async fn entries_that_do_not_belong_where_they_stand_are_named() {
    type Change = fn(&mut Forge) -> usize;
    let cases: Vec<(&str, Change, Check, &str)> = vec![
        (
            "backdated",
            |f| {
                let at = f.position("decision", 4);
                f.0[at].0 = Timestamp::from_millis(NOON);
                at
            },
            Check::Entry,
            "before the entry before it",
        ),
        (
            "recorded long after it was decided",
            |f| {
                let at = f.position("decision", 4);
                f.0[at].0 = f.0[at].0.plus_millis(10_001);
                at
            },
            Check::Decision,
            "recorded at",
        ),
        ("a decision twice", |f| doubled(f, "decision", 0), Check::Decision, "decided before"),
        ("a use twice", |f| doubled(f, "token.consumed", 0), Check::Consumption, "consumed twice"),
        ("a revocation twice", |f| doubled(f, "token.revoked", 0), Check::Consumption, "revoked before"),
        ("closed twice", |f| doubled(f, "escalation.closed", 0), Check::Decision, "not open"),
        (
            "closed early",
            |f| {
                let at = f.position("escalation.closed", 0);
                f.0[at].0 = f.0[at - 1].0;
                at
            },
            Check::Decision,
            "before its time",
        ),
        (
            "a range of decisions left out",
            |f| {
                let (from, to) = (f.position("decision", 0), f.position("decision", 1));
                f.0.drain(from..to);
                from
            },
            Check::Decision,
            "session",
        ),
        (
            "an agent's registration left out",
            |f| {
                let at = f.position("agent.set", 1);
                f.0.remove(at);
                f.position("decision", 0)
            },
            Check::Decision,
            "decided on state",
        ),
        (
            "another decision put in",
            |f| {
                let from = f.position("decision", 0);
                let copy = f.0[from].clone();
                f.0.insert(from + 1, copy);
                another(f, from + 1, 1);
                from + 1
            },
            Check::Decision,
            "session",
        ),
        (
            "a token granted twice",
            |f| {
                let jti = body(f, f.position("decision", 0))["grant"]["jti"].clone();
                let at = f.position("decision", 4);
                f.edit(at, |b| b["grant"]["jti"] = jti);
                at
            },
            Check::Durable,
            "granted before",
        ),
        (
            "a use of what was revoked",
            |f| {
                let granted = body(f, f.position("decision", 2));
                let after = f.position("token.revoked", 0) + 1;
                let mut used = f.0[f.position("token.consumed", 0)].clone();
                used.0 = f.0[after - 1].0;
                f.0.insert(after, used);
                f.edit(after, |b| {
                    b["intent"] = granted["input"]["id"].clone();
                    b["jti"] = granted["grant"]["jti"].clone();
                });
                after
            },
            Check::Consumption,
            "revoked before",
        ),
        (
            "a use after its time",
            |f| {
                let mut used = f.0.remove(f.position("token.consumed", 0));
                let after = f.position("escalation.closed", 0) + 1;
                used.0 = f.0[after - 1].0;
                f.0.insert(after, used);
                after
            },
            Check::Consumption,
            "expired",
        ),
        (
            "a second beginning",
            |f| {
                let at = f.position("decision", 4);
                f.0.insert(at, f.0[0].clone());
                f.0[at].0 = f.0[at + 1].0;
                at
            },
            Check::Fold,
            "second `tenant.created`",
        ),
    ];
    let honest = recorded().await;
    for (what, change, check, says) in cases {
        let mut forge = Forge(honest.0.clone());
        let at = change(&mut forge);
        let failure = verify(forge.rebuild()).unwrap_err();
        assert_eq!((failure.check, failure.index), (check, Some(at as u64)), "{what}: {failure}");
        assert!(failure.what.contains(says), "{what}: {failure}");
    }
}

fn body(forge: &Forge, at: usize) -> Value {
    serde_json::from_str(&forge.0[at].2).unwrap()
}
fn doubled(forge: &mut Forge, kind: &str, nth: usize) -> usize {
    let at = forge.position(kind, nth);
    forge.0.insert(at + 1, forge.0[at].clone());
    at + 1
}
/// Gives a copied decision an id and a token of its own.
fn another(forge: &mut Forge, at: usize, n: u8) {
    forge.edit(at, |b| {
        let id = b["input"]["id"].as_str().unwrap().to_owned();
        b["input"]["id"] = format!("{}{n:02x}", &id[..id.len() - 2]).into();
        b["grant"]["jti"] = intended_token::base64url(&[n; 32]).into();
    });
}

/// Decisions at the same moment may each have seen none of the others: their sum is bounded all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_is_bounded_whatever_each_decision_saw_of_it() {
    let world = World::new().await.unwrap();
    submit(&world, 90, None).await;
    let mut forge = Forge::of(&world.export().await.unwrap().1);
    let first = forge.position("decision", 0);
    for n in 1..11 {
        forge.0.push(forge.0[first].clone());
        another(&mut forge, first + usize::from(n), n);
    }
    // Eleven times 90 of 1,000, and none knew of another.
    assert_eq!(verify(Forge(forge.0.clone()).rebuild()).unwrap().allowed, 11);
    forge.0.push(forge.0[first].clone());
    another(&mut forge, first + 11, 11);
    let failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Decision, Some(first as u64 + 11)), "{failure}");
    assert!(failure.what.contains("takes a budget to 108000 of 100000"), "{failure}");
}

fn named(text: &str) -> CredentialId {
    CredentialId::new(text).unwrap()
}

async fn credential(world: &World, name: &str, environments: &[&str], scopes: &[Scope], expires_at: Option<i64>) {
    credential_of(world, name, None, environments, scopes, expires_at).await;
}

async fn credential_of(
    world: &World,
    name: &str,
    member: Option<&str>,
    environments: &[&str],
    scopes: &[Scope],
    expires_at: Option<i64>,
) {
    let environments: Vec<EnvironmentId> = environments.iter().map(|e| environment(e).unwrap()).collect();
    let created = CredentialCreated {
        by: world.owner.credential.clone(),
        credential: named(name),
        whole: environments.is_empty(),
        environments,
        expires_at: expires_at.map(Timestamp::from_millis),
        hash: Digest::of(name.as_bytes()),
        member: member.map(|m| MemberId::new(m).unwrap()),
        scopes: scopes.to_vec(),
        actions: Vec::new(),
        agents: Vec::new(),
        networks: Vec::new(),
        test: false,
        v: BODY_VERSION,
    };
    world.control(Event::CredentialCreated(created)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_submitted_by_who_could() {
    let world = World::new().await.unwrap();
    credential(&world, "reader", &["production"], &[Scope::IntentRead], None).await;
    credential(&world, "elsewhere", &["staging"], &[Scope::IntentSubmit], None).await;
    credential(&world, "shortlived", &["production"], &[Scope::IntentSubmit], Some(NOON + 1000)).await;
    credential(&world, "in-time", &["production"], &[Scope::IntentSubmit], Some(NOON + 30_000)).await;
    credential(&world, "gone", &["production"], &[Scope::IntentSubmit], None).await;
    world.runtime.revoke_credential(&world.owner, named("gone"), "test").await.unwrap();
    world.clock.advance_millis(20_000);
    submit(&world, 40, None).await;
    let honest = Forge::of(&world.export().await.unwrap().1);
    for (by, able) in [
        ("in-time", true),
        ("reader", false),
        ("elsewhere", false),
        ("shortlived", false),
        ("gone", false),
        ("x", false),
    ] {
        let mut forge = Forge(honest.0.clone());
        let at = forge.position("decision", 0);
        forge.edit(at, |b| b["input"]["credential"] = by.into());
        match verify(forge.rebuild()) {
            Ok(_) => assert!(able, "{by}"),
            Err(failure) => {
                assert!(!able && failure.what.contains("could not submit"), "{by}: {failure}");
                assert_eq!((failure.check, failure.index), (Check::Decision, Some(at as u64)), "{failure}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_credential_does_after_its_time_or_beyond_its_scope_is_found() {
    let world = World::new().await.unwrap();
    let scopes = [Scope::EmergencyWrite, Scope::TokenVerify, Scope::TokenRevoke];
    // Only a person releases what is held.
    let ana = crate::breakers::person(&world, "ana").await;
    let own = async |name: &str, environments: &[&str], scopes: &[Scope], expires_at| {
        credential_of(&world, name, Some("ana"), environments, scopes, expires_at).await;
    };
    own("shortlived", &[], &scopes, Some(NOON + 5_000)).await;
    own("lately", &[], &scopes, Some(NOON + 11_000)).await;
    own("elsewhere", &["staging"], &scopes, None).await;
    own("reader", &[], &[Scope::IntentRead], None).await;
    let held = BreakerHeld {
        breaker: Name::new("b").unwrap(),
        by: world.owner.credential.clone(),
        environment: environment("production").unwrap(),
        reason: "r".into(),
        scope: BreakerScope::Agent,
        target: "support-agent".into(),
        v: BODY_VERSION,
    };
    world.clock.advance_millis(20_000);
    let used = submit(&world, 40, None).await;
    consume(&world, &used).await;
    let revoked = submit(&world, 40, None).await;
    let (id, jti) = (revoked.record.input.id.to_string(), revoked.record.grant.unwrap().jti);
    world.runtime.revoke_token(&world.owner, &id, &jti, "test").await.unwrap();
    let (halt, _) = world.runtime.halt(&world.owner, Some(environment("production").unwrap()), "stop").await.unwrap();
    world.runtime.resume(&world.owner, halt, "go on").await.unwrap();
    let released = BreakerReleased {
        breaker: held.breaker.clone(),
        by: ana.credential.clone(),
        reason: "r".into(),
        v: BODY_VERSION,
    };
    world.control(Event::BreakerHeld(held)).await.unwrap();
    world.control(Event::BreakerReleased(released)).await.unwrap();
    let honest = Forge::of(&world.export().await.unwrap().1);
    for kind in ["halt.thrown", "halt.resumed", "breaker.held", "breaker.released", "token.consumed", "token.revoked"] {
        for (by, says) in [
            // What it asked for in time may have been recorded a little later.
            ("lately", ""),
            ("shortlived", "had expired"),
            ("elsewhere", "not good for"),
            ("reader", "had not the scope"),
            ("nobody", "not a credential"),
        ] {
            let mut forge = Forge(honest.0.clone());
            let at = forge.position(kind, 0);
            forge.edit(at, |b| b["by"] = by.into());
            match verify(forge.rebuild()) {
                Ok(_) => assert_eq!(says, "", "{kind} by {by} holds"),
                Err(failure) => {
                    assert_eq!((failure.check, failure.index), (Check::Authority, Some(at as u64)), "{failure}");
                    assert!(!says.is_empty() && failure.what.contains(says), "{kind}: {failure}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_use_after_its_key_was_retired_is_found() {
    let world = World::new().await.unwrap();
    let production = environment("production").unwrap();
    let used = submit(&world, 40, None).await;
    let kid = used.record.grant.as_ref().unwrap().kid.clone();
    world.runtime.rotate_key(&world.owner, &production, Alg::EdDSA).await.unwrap();
    consume(&world, &used).await;
    world.runtime.retire_key(&world.owner, &production, &kid, "leaked").await.unwrap();
    let mut forge = Forge::of(&world.export().await.unwrap().1);
    verify(Forge(forge.0.clone()).rebuild()).unwrap();
    let (consumed, retired) = (forge.position("token.consumed", 0), forge.position("key.retired", 0));
    forge.0.swap(consumed, retired);
    let failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Consumption, Some(retired as u64)), "{failure}");
    assert!(failure.what.contains("retired"), "{failure}");
}

/// Nothing is wrong with a ledger whose server stood still: it is said, and it holds.
#[tokio::test(flavor = "multi_thread")]
async fn an_escalation_that_nobody_closed_is_reported() {
    let world = World::new().await.unwrap();
    submit(&world, 400, None).await;
    world.clock.advance_millis(3_600_000 + 59_000);
    submit(&world, 40, None).await;
    assert_eq!(verify(world.export().await.unwrap()).unwrap().overdue, 0);
    world.clock.advance_millis(2_000);
    submit(&world, 40, None).await;
    assert_eq!(verify(world.export().await.unwrap()).unwrap().overdue, 1);
    world.runtime.close_overdue().await.unwrap();
    assert_eq!(verify(world.export().await.unwrap()).unwrap().overdue, 0);
}
