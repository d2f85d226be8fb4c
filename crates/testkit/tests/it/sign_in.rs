//! People sign in: passwords, links, codes, sessions, and what each attack on them comes to.

use std::net::IpAddr;
use std::sync::Arc;

use intended_keyring::totp::{TotpSecret, step};
use intended_model::entry::{Role, RoleGrant, Scope};
use intended_model::{Code, Digest, MemberId, Timestamp};
use intended_runtime::access::MemberSpec;
use intended_runtime::sign_in::session::{MAX_SESSIONS, Proof};
use intended_runtime::sign_in::{NewSession, Secret, SessionRules};
use intended_runtime::{Principal, RuntimeError};
use intended_testkit::{World, environment};
use intended_verify::{Check, Verifier};
use zeroize::Zeroizing;

pub const PASSWORD: &str = "tortoise under the lamp";
const MINUTE: i64 = 60_000;

pub fn id(text: &str) -> MemberId {
    MemberId::new(text).unwrap()
}
pub fn whole(role: Role) -> RoleGrant {
    RoleGrant { environments: Vec::new(), expires_at: None, role, whole: true }
}
fn spec(grants: Vec<RoleGrant>) -> MemberSpec {
    MemberSpec { active: true, grants, ..MemberSpec::default() }
}
pub async fn member(world: &World, name: &str, grants: Vec<RoleGrant>) -> MemberId {
    world.runtime.set_member(&world.owner, id(name), spec(grants)).await.unwrap();
    id(name)
}
fn from(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}
fn code(result: Result<impl Sized, RuntimeError>) -> Code {
    result.err().expect("it is refused").code
}

async fn by_password(
    world: &World,
    name: &str,
    password: &str,
    code: Option<&str>,
) -> Result<NewSession, RuntimeError> {
    let proof =
        Proof::Password { member: name.to_owned(), password: Secret::new(password), code: code.map(Secret::new) };
    world.runtime.sign_in("acme", from("192.0.2.7"), proof).await
}
async fn by_link(world: &World, link: &Secret, code: Option<&str>) -> Result<NewSession, RuntimeError> {
    let proof = Proof::Link { link: link.clone(), code: code.map(Secret::new) };
    world.runtime.sign_in("acme", from("192.0.2.7"), proof).await
}
fn principal(world: &World, session: &NewSession) -> Principal {
    world.runtime.authenticate(session.key.expose()).unwrap()
}

/// A member with a password, and a session of theirs.
pub async fn with_password(world: &World, name: &str, grants: Vec<RoleGrant>) -> (MemberId, NewSession) {
    let member = member(world, name, grants).await;
    let link = world.runtime.issue_link(&world.owner, &member).await.unwrap();
    let session = by_link(world, &link.code, None).await.unwrap();
    let by = principal(world, &session);
    world.runtime.set_password(&by, None, &member, None, Secret::new(PASSWORD)).await.unwrap();
    (member, session)
}

/// An authenticator of the member, and the step that it was confirmed in.
async fn with_totp(world: &World, member: &MemberId, session: &NewSession) -> TotpSecret {
    let by = principal(world, session);
    let enrolled = world.runtime.enrol_totp(&by, member).await.unwrap();
    let secret = unbase32(enrolled.secret.expose());
    assert!(enrolled.uri.expose().contains(enrolled.secret.expose()));
    let now = secret.code(step(world.runtime.now()));
    world.runtime.confirm_totp(&by, None, member, &Secret::new(now.as_str())).await.unwrap();
    secret
}
pub fn unbase32(text: &str) -> TotpSecret {
    let (mut bits, mut held, mut out) = (0_u32, 0, Vec::new());
    for c in text.bytes() {
        let five = if c.is_ascii_uppercase() { c - b'A' } else { c - b'2' + 26 };
        (bits, held) = ((bits << 5) | u32::from(five), held + 5);
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 255).unwrap());
        }
    }
    TotpSecret::from_bytes(Zeroizing::new(out))
}
fn now(world: &World, secret: &TotpSecret) -> String {
    secret.code(step(world.runtime.now())).to_string()
}

pub async fn verified(world: &World) -> intended_verify::Report {
    let (header, leaves) = world.export().await.unwrap();
    let mut verifier = Verifier::new(header, None).unwrap();
    for leaf in &leaves {
        verifier.entry(leaf).unwrap();
    }
    let mut facts = Vec::new();
    for prefix in intended_verify::FACTS {
        let page = world.runtime.store().facts(&world.owner.tenant.id, prefix, prefix, 10_000).await.unwrap();
        facts.extend(page.into_iter().map(|(key, fact)| (key, fact.value)));
    }
    verifier.facts(facts, world.runtime.now()).unwrap();
    verifier.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_signs_in_acts_as_what_their_roles_are_and_signs_out() {
    let world = World::new().await.unwrap();
    let (alice, first) = with_password(&world, "alice", vec![whole(Role::Admin)]).await;
    let session = by_password(&world, "alice", PASSWORD, None).await.unwrap();
    let by = principal(&world, &session);
    assert_eq!((by.credential.as_str(), by.member()), ("member.alice", Some(&alice)));
    assert!(by.access.whole(Scope::AccessWrite) && !by.access.may(Scope::IntentSubmit, None));
    world.runtime.set_member(&by, id("bob"), spec(vec![whole(Role::Viewer)])).await.unwrap();
    assert_eq!(world.runtime.sessions(&by, &alice).await.unwrap().len(), 2);
    world.runtime.sign_out(&by).await.unwrap();
    assert_eq!(code(world.runtime.authenticate(session.key.expose())), Code::CredentialUnknown);
    assert!(world.runtime.authenticate(first.key.expose()).is_ok());
    assert!(verified(&world).await.facts.unwrap() >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_a_password_locks_and_neither_a_restart_nor_the_right_one_lifts_it() {
    let world = World::new().await.unwrap();
    with_password(&world, "alice", vec![whole(Role::Viewer)]).await;
    for _ in 0..5 {
        assert_eq!(code(by_password(&world, "alice", "not the one at all", None).await), Code::SignInFailed);
    }
    let locked = by_password(&world, "alice", PASSWORD, None).await.unwrap_err();
    assert_eq!((locked.code, locked.retry_after), (Code::SignInLocked, Some(30)));
    let world = world.reopen().await.unwrap();
    assert_eq!(code(by_password(&world, "alice", PASSWORD, None).await), Code::SignInLocked);
    world.clock.advance_millis(30_000);
    assert_eq!(code(by_password(&world, "alice", "not the one at all", None).await), Code::SignInFailed);
    world.clock.advance_millis(59_999);
    assert_eq!(code(by_password(&world, "alice", PASSWORD, None).await), Code::SignInLocked, "twice as long");
    world.clock.advance_millis(1);
    by_password(&world, "alice", PASSWORD, None).await.unwrap();
    // Forgotten: four more are free.
    let elsewhere = |n: u8| from(&format!("198.51.100.{n}"));
    for n in 0..4 {
        let proof = Proof::Password { member: "alice".into(), password: Secret::new("not the one at all"), code: None };
        assert_eq!(code(world.runtime.sign_in("acme", elsewhere(n), proof).await), Code::SignInFailed);
    }
}

/// From one place they are five, from as many as one likes twenty.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_guesses_at_once_are_as_few_as_one_after_the_other() {
    let world = Arc::new(World::new().await.unwrap());
    for (name, most, place) in
        [("alice", 5, (|_| "203.0.113.1".to_owned()) as fn(u8) -> String), ("bob", 20, |n| format!("198.51.100.{n}"))]
    {
        member(&world, name, vec![whole(Role::Viewer)]).await;
        let guesses: Vec<_> = (0..100_u8)
            .map(|n| {
                let world = Arc::clone(&world);
                tokio::spawn(async move {
                    let password = Secret::new(format!("guess number {n:03}"));
                    let proof = Proof::Password { member: name.into(), password, code: None };
                    code(world.runtime.sign_in("acme", from(&place(n)), proof).await)
                })
            })
            .collect();
        let mut looked_at = 0;
        for guess in guesses {
            match guess.await.unwrap() {
                Code::SignInFailed => looked_at += 1,
                Code::SignInLocked | Code::ConflictExhausted => {}
                other => panic!("{other}"),
            }
        }
        assert!((1..=most).contains(&looked_at), "{name}: {looked_at}");
    }
}

async fn guess(world: &World, name: &str, place: &str) -> RuntimeError {
    let proof = Proof::Password { member: name.into(), password: Secret::new("not the one at all"), code: None };
    world.runtime.sign_in("acme", from(place), proof).await.expect_err("it is refused")
}

/// Who fails at a name from everywhere keeps its member out for a minute at a time at new places, and not at
/// all where the member has been. And learns from it neither whether there is such a member.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_kept_out_by_who_fails_in_their_name() {
    let world = World::new().await.unwrap();
    with_password(&world, "alice", vec![whole(Role::Viewer)]).await;
    by_password(&world, "alice", PASSWORD, None).await.unwrap();
    let mut said = Vec::new();
    for (name, net) in [("alice", "198.51.100"), ("no-such-member", "203.0.113")] {
        let mut all = Vec::new();
        for n in 0..22 {
            let error = guess(&world, name, &format!("{net}.{n}")).await;
            all.push((error.code, error.retry_after));
        }
        said.push(all);
    }
    assert_eq!(said[0], said[1]);
    assert_eq!(
        said[0][19..],
        [(Code::SignInFailed, None), (Code::SignInLocked, Some(30)), (Code::SignInLocked, Some(30))]
    );
    by_password(&world, "alice", PASSWORD, None).await.expect("at home");
    // However long it goes on, it is a minute.
    for n in 30..60 {
        guess(&world, "alice", &format!("198.51.100.{n}")).await;
        world.clock.advance_millis(30_000);
    }
    let error = loop {
        let error = guess(&world, "alice", "198.51.100.99").await;
        if error.code == Code::SignInLocked {
            break error;
        }
    };
    assert!(error.retry_after.unwrap() <= 60, "{error:?}");
    by_password(&world, "alice", PASSWORD, None).await.expect("at home");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_password_guesses_five_codes_from_wherever() {
    let world = World::new().await.unwrap();
    let (alice, session) = with_password(&world, "alice", vec![whole(Role::Viewer)]).await;
    let secret = with_totp(&world, &alice, &session).await;
    world.clock.advance_millis(60_000);
    let wrong = if now(&world, &secret) == "000000" { "000001" } else { "000000" };
    let sign_in = async |place: String, guess: &str| {
        let proof =
            Proof::Password { member: "alice".into(), password: Secret::new(PASSWORD), code: Some(Secret::new(guess)) };
        code(world.runtime.sign_in("acme", from(&place), proof).await)
    };
    for n in 0..5 {
        assert_eq!(sign_in(format!("198.51.100.{n}"), wrong).await, Code::SignInFailed);
    }
    let right = now(&world, &secret);
    assert_eq!(sign_in("198.51.100.9".into(), &right).await, Code::SignInLocked);
}

/// Names that somebody makes up are kept nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_made_up_leave_nothing_in_the_store() {
    let world = World::new().await.unwrap();
    let kept = async || world.runtime.store().facts(&world.owner.tenant.id, "pf/", "pf/", 100).await.unwrap().len();
    for n in 0..10 {
        guess(&world, &format!("made-up-{n}"), "192.0.2.7").await;
    }
    assert_eq!(kept().await, 1, "the place");
    member(&world, "alice", vec![]).await;
    guess(&world, "alice", "192.0.2.7").await;
    assert_eq!(kept().await, 3, "and of a member, there and anywhere");
}

/// An account of one's own buys no guesses at others.
#[tokio::test(flavor = "multi_thread")]
async fn signing_in_oneself_does_not_reset_the_failures_of_an_address() {
    let world = World::new().await.unwrap();
    with_password(&world, "mallory", vec![whole(Role::Viewer)]).await;
    for n in 0..19 {
        assert_eq!(code(by_password(&world, &format!("victim-{n}"), "a guess at it", None).await), Code::SignInFailed);
        by_password(&world, "mallory", PASSWORD, None).await.unwrap();
    }
    assert_eq!(code(by_password(&world, "victim-99", "a guess at it", None).await), Code::SignInFailed);
    assert_eq!(code(by_password(&world, "mallory", PASSWORD, None).await), Code::SignInLocked);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_learns_who_there_is_by_trying_to_sign_in() {
    let world = World::new().await.unwrap();
    with_password(&world, "alice", vec![whole(Role::Viewer)]).await;
    member(&world, "without", vec![]).await;
    let (gone, _) = with_password(&world, "gone", vec![]).await;
    world.runtime.set_member(&world.owner, gone, MemberSpec::default()).await.unwrap();
    let mut answers = Vec::new();
    for (tenant, name) in [
        ("acme", "alice"),
        ("acme", "without"),
        ("acme", "gone"),
        ("acme", "nobody"),
        ("acme", "Not A Name\u{202e}"),
        ("no-such-tenant", "alice"),
        ("NOT A TENANT", "alice"),
    ] {
        // Each from an address of its own, so that it is about the name alone.
        let place = from(&format!("198.51.100.{}", answers.len()));
        let mut said = Vec::new();
        for _ in 0..6 {
            let proof = Proof::Password { member: name.into(), password: Secret::new("not the password"), code: None };
            let watch = intended_runtime::metrics::Stopwatch::start();
            let error = world.runtime.sign_in(tenant, place, proof).await.unwrap_err();
            let took = watch.elapsed();
            said.push((error.code, error.detail, error.retry_after));
            if error.code == Code::SignInFailed {
                // The hash is nearly all of it: 19 MiB are not gone through in less.
                assert!(took.as_micros() > 2_000, "{tenant} {name}: {took:?}");
            }
        }
        answers.push(said);
    }
    assert!(answers.iter().all(|a| *a == answers[0]), "{answers:?}");
    assert_eq!(answers[0][5].0, Code::SignInLocked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_asked_for_after_the_right_password_only_and_is_good_once() {
    let world = World::new().await.unwrap();
    let (alice, session) = with_password(&world, "alice", vec![whole(Role::Viewer)]).await;
    let secret = with_totp(&world, &alice, &session).await;
    let confirmed = now(&world, &secret);
    assert_eq!(code(by_password(&world, "alice", "not the one at all", None).await), Code::SignInFailed);
    assert_eq!(code(by_password(&world, "alice", PASSWORD, None).await), Code::SignInSecondFactor);
    assert_eq!(
        code(by_password(&world, "alice", PASSWORD, Some(&confirmed)).await),
        Code::SignInFailed,
        "the code that it was confirmed with"
    );
    world.clock.advance_millis(30_000);
    let fresh = now(&world, &secret);
    assert_eq!(code(by_password(&world, "alice", "not the one at all", Some(&fresh)).await), Code::SignInFailed);
    by_password(&world, "alice", PASSWORD, Some(&fresh)).await.unwrap();
    assert_eq!(code(by_password(&world, "alice", PASSWORD, Some(&fresh)).await), Code::SignInFailed, "replayed");
    let world = world.reopen().await.unwrap();
    assert_eq!(
        code(by_password(&world, "alice", PASSWORD, Some(&fresh)).await),
        Code::SignInFailed,
        "and after a restart"
    );
    world.clock.advance_millis(60_000);
    by_password(&world, "alice", PASSWORD, Some(&now(&world, &secret))).await.unwrap();
    verified(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_code_that_is_sent_fifty_times_at_once_one_counts() {
    let world = Arc::new(World::new().await.unwrap());
    let (alice, session) = with_password(&world, "alice", vec![whole(Role::Viewer)]).await;
    let secret = with_totp(&world, &alice, &session).await;
    world.clock.advance_millis(30_000);
    let fresh = now(&world, &secret);
    let tries: Vec<_> = (0..4)
        .map(|_| {
            let (world, fresh) = (Arc::clone(&world), fresh.clone());
            tokio::spawn(async move { by_password(&world, "alice", PASSWORD, Some(&fresh)).await.is_ok() })
        })
        .collect();
    let mut good = 0;
    for each in tries {
        good += usize::from(each.await.unwrap());
    }
    assert_eq!(good, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authenticator_counts_when_it_was_confirmed_and_goes_with_a_code_of_it() {
    let world = World::new().await.unwrap();
    let (alice, session) = with_password(&world, "alice", vec![whole(Role::Viewer)]).await;
    let by = principal(&world, &session);
    let late = world.runtime.enrol_totp(&by, &alice).await.unwrap();
    by_password(&world, "alice", PASSWORD, None).await.expect("not confirmed, so it does not count");
    world.clock.advance_millis(10 * MINUTE);
    let secret = unbase32(late.secret.expose());
    let confirm = async |text: String| world.runtime.confirm_totp(&by, None, &alice, &Secret::new(text)).await;
    assert_eq!(code(confirm(now(&world, &secret)).await), Code::NotFound, "too late");
    let secret = with_totp(&world, &alice, &session).await;
    assert_eq!(code(world.runtime.enrol_totp(&by, &alice).await), Code::Conflict, "none beside it");
    let remove =
        async |text: Option<String>| world.runtime.remove_totp(&by, None, &alice, text.map(Secret::new).as_ref()).await;
    assert_eq!(code(remove(None).await), Code::SignInFailed);
    assert_eq!(code(remove(Some("000000".into())).await), Code::SignInFailed);
    world.clock.advance_millis(30_000);
    remove(Some(now(&world, &secret))).await.unwrap();
    by_password(&world, "alice", PASSWORD, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_good_once_for_a_quarter_of_an_hour_and_until_the_next() {
    let world = World::new().await.unwrap();
    let alice = member(&world, "alice", vec![whole(Role::Viewer)]).await;
    let link = async || world.runtime.issue_link(&world.owner, &alice).await.unwrap().code;
    let used = link().await;
    by_link(&world, &used, None).await.unwrap();
    assert_eq!(code(by_link(&world, &used, None).await), Code::SignInFailed, "replayed");
    let (before, after) = (link().await, link().await);
    assert_eq!(code(by_link(&world, &before, None).await), Code::SignInFailed, "there is a later one");
    by_link(&world, &after, None).await.unwrap();
    let old = link().await;
    world.clock.advance_millis(15 * MINUTE);
    assert_eq!(code(by_link(&world, &old, None).await), Code::SignInFailed, "expired");
    let promoted = link().await;
    world.runtime.set_member(&world.owner, alice.clone(), spec(vec![whole(Role::Owner)])).await.unwrap();
    assert_eq!(code(by_link(&world, &promoted, None).await), Code::SignInFailed, "given to who they were before");
    verified(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_link_that_is_used_many_times_at_once_one_session_comes() {
    let world = Arc::new(World::new().await.unwrap());
    let alice = member(&world, "alice", vec![whole(Role::Viewer)]).await;
    let link = world.runtime.issue_link(&world.owner, &alice).await.unwrap().code;
    let tries: Vec<_> = (0..40_u8)
        .map(|n| {
            let (world, link) = (Arc::clone(&world), link.clone());
            tokio::spawn(async move {
                let proof = Proof::Link { link, code: None };
                world.runtime.sign_in("acme", from(&format!("203.0.113.{n}")), proof).await.is_ok()
            })
        })
        .collect();
    let mut good = 0;
    for each in tries {
        good += usize::from(each.await.unwrap());
    }
    assert_eq!(good, 1);
    verified(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gives_a_link_to_who_may_do_more_or_to_themselves() {
    let world = World::new().await.unwrap();
    let (admin, session) = with_password(&world, "admin", vec![whole(Role::Admin)]).await;
    let boss = member(&world, "boss", vec![whole(Role::Owner)]).await;
    let peer = member(&world, "peer", vec![whole(Role::Admin)]).await;
    let staging =
        RoleGrant { environments: vec![environment("staging").unwrap()], whole: false, ..whole(Role::Operator) };
    let operator = member(&world, "operator", vec![staging]).await;
    let by = principal(&world, &session);
    assert_eq!(code(world.runtime.issue_link(&by, &boss).await), Code::AccessWider);
    assert_eq!(code(world.runtime.issue_link(&by, &operator).await), Code::AccessWider);
    assert_eq!(code(world.runtime.issue_link(&by, &admin).await), Code::AccessOwn);
    assert_eq!(code(world.runtime.remove_totp(&by, None, &boss, None).await), Code::AccessWider);
    assert_eq!(
        code(world.runtime.link_provider(&by, &boss, Some(&intended_model::Name::new("corp").unwrap())).await),
        Code::AccessWider
    );
    world.runtime.issue_link(&by, &peer).await.unwrap();
    let (_, viewer) = with_password(&world, "viewer", vec![whole(Role::Viewer)]).await;
    assert_eq!(code(world.runtime.issue_link(&principal(&world, &viewer), &peer).await), Code::ScopeMissing);
    assert_eq!(code(world.runtime.issue_link(&world.owner, &id("nobody")).await), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_replaces_no_second_factor_and_sets_one_password() {
    let world = World::new().await.unwrap();
    let (alice, session) = with_password(&world, "alice", vec![whole(Role::Viewer)]).await;
    let by = principal(&world, &session);
    let set = async |by: &Principal, old: Option<&str>, new: &str| {
        world.runtime.set_password(by, None, &alice, old.map(Secret::new), Secret::new(new)).await
    };
    let other = "another one, quite long";
    assert_eq!(code(set(&by, None, other).await), Code::SignInFailed, "the link has set one");
    let secret = with_totp(&world, &alice, &session).await;
    let link = world.runtime.issue_link(&world.owner, &alice).await.unwrap().code;
    assert_eq!(code(by_link(&world, &link, None).await), Code::SignInSecondFactor);
    assert_eq!(code(by_link(&world, &link, Some("123456")).await), Code::SignInFailed);
    world.clock.advance_millis(30_000);
    let through = by_link(&world, &link, Some(&now(&world, &secret))).await.unwrap();
    // It was forgotten: the link is for that.
    set(&principal(&world, &through), None, other).await.unwrap();
    world.clock.advance_millis(30_000);
    by_password(&world, "alice", other, Some(&now(&world, &secret))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_takes_the_old_one_and_ends_every_other_session() {
    let world = World::new().await.unwrap();
    let (alice, first) = with_password(&world, "alice", vec![whole(Role::Viewer)]).await;
    let second = by_password(&world, "alice", PASSWORD, None).await.unwrap();
    let by = principal(&world, &second);
    let set = async |old: Option<&str>, new: &str| {
        world.runtime.set_password(&by, None, &alice, old.map(Secret::new), Secret::new(new)).await
    };
    let other = "another one, quite long";
    assert_eq!(code(set(None, other).await), Code::SignInFailed);
    assert_eq!(code(set(Some("not the old one"), other).await), Code::SignInFailed);
    for weak in ["too short", "alice has a password", "passwordpassword", "aaaaaaaaaaaaaaaa", "with a \u{7} bell in it"]
    {
        let refused = set(Some(PASSWORD), weak).await.unwrap_err();
        assert_eq!(refused.code, Code::SignInWeak);
        assert!(!format!("{refused:?}").contains(weak), "{refused:?}");
    }
    set(Some(PASSWORD), other).await.unwrap();
    assert_eq!(code(world.runtime.authenticate(first.key.expose())), Code::CredentialUnknown);
    assert!(world.runtime.authenticate(second.key.expose()).is_ok());
    assert_eq!(code(by_password(&world, "alice", PASSWORD, None).await), Code::SignInFailed);
    by_password(&world, "alice", other, None).await.unwrap();
    // By nobody else, and by no key.
    let refused = world.runtime.set_password(&world.owner, None, &alice, None, Secret::new(PASSWORD)).await;
    assert_eq!(code(refused), Code::SessionNeeded);
    verified(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_time_with_idleness_with_its_member_and_when_it_is_ended() {
    let world = World::new().await.unwrap();
    world.runtime.limit_sessions(SessionRules { absolute_ms: 180 * MINUTE, idle_ms: 60 * MINUTE });
    let (alice, session) = with_password(&world, "alice", vec![whole(Role::Admin)]).await;
    let good = |s: &NewSession| world.runtime.authenticate(s.key.expose()).map(drop).map_err(|e| e.code);
    // Used every 59 minutes it lasts as long as it may, and no longer.
    for _ in 0..3 {
        world.clock.advance_millis(59 * MINUTE);
        assert_eq!(good(&session), Ok(()));
    }
    world.clock.advance_millis(3 * MINUTE);
    assert_eq!(good(&session), Err(Code::CredentialExpired));
    let idle = by_password(&world, "alice", PASSWORD, None).await.unwrap();
    world.clock.advance_millis(60 * MINUTE);
    assert_eq!(good(&idle), Err(Code::CredentialExpired), "idle");
    assert_eq!(good(&idle), Err(Code::CredentialExpired), "and not alive by having been asked for");

    let session = by_password(&world, "alice", PASSWORD, None).await.unwrap();
    let by = principal(&world, &session);
    // A role that is gone is gone for a principal that was made before, too.
    world.runtime.set_member(&world.owner, alice.clone(), spec(vec![whole(Role::Viewer)])).await.unwrap();
    assert_eq!(code(world.runtime.set_member(&by, id("eve"), spec(vec![])).await), Code::ScopeMissing);
    assert!(!principal(&world, &session).access.may(Scope::AccessWrite, None));
    world.runtime.set_member(&world.owner, alice.clone(), MemberSpec::default()).await.unwrap();
    assert_eq!(good(&session), Err(Code::MemberInactive));
    world.runtime.set_member(&world.owner, alice.clone(), spec(vec![whole(Role::Viewer)])).await.unwrap();
    assert_eq!(good(&session), Err(Code::MemberInactive), "what ended does not come back with the member");

    let session = by_password(&world, "alice", PASSWORD, None).await.unwrap();
    let ended = session.key.hash();
    assert_eq!(code(world.runtime.end_session(&world.owner, &id("bob"), ended).await), Code::NotFound);
    let (_, other) = with_password(&world, "bob", vec![whole(Role::Viewer)]).await;
    let bob = principal(&world, &other);
    assert_eq!(code(world.runtime.end_session(&bob, &alice, ended).await), Code::ScopeMissing);
    assert_eq!(code(world.runtime.sessions(&bob, &alice).await), Code::ScopeMissing);
    world.runtime.end_session(&world.owner, &alice, ended).await.unwrap();
    assert_eq!(good(&session), Err(Code::CredentialUnknown));
    verified(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idleness_is_remembered_over_a_restart() {
    let world = World::new().await.unwrap();
    let (_, session) = with_password(&world, "alice", vec![whole(Role::Viewer)]).await;
    world.clock.advance_millis(50 * MINUTE);
    assert!(world.runtime.authenticate(session.key.expose()).is_ok());
    // Its use is written down in the background.
    let key = format!("pt/{}", session.key.hash().to_hex());
    for _ in 0..200 {
        let fact = world.runtime.store().fact_now(&world.owner.tenant.id, &key).unwrap().unwrap();
        if String::from_utf8_lossy(&fact.value) == world.clock_now().to_string() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let world = world.reopen().await.unwrap();
    world.clock.advance_millis(50 * MINUTE);
    assert!(world.runtime.authenticate(session.key.expose()).is_ok(), "used 50 minutes ago");
    let world = world.crash().await.unwrap();
    drop(world);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_has_twenty_sessions_and_the_oldest_makes_room() {
    let world = World::new().await.unwrap();
    let (alice, first) = with_password(&world, "alice", vec![whole(Role::Viewer)]).await;
    for _ in 1..MAX_SESSIONS {
        world.clock.advance_millis(1_000);
        by_password(&world, "alice", PASSWORD, None).await.unwrap();
    }
    assert!(world.runtime.authenticate(first.key.expose()).is_ok());
    world.clock.advance_millis(1_000);
    by_password(&world, "alice", PASSWORD, None).await.unwrap();
    assert_eq!(code(world.runtime.authenticate(first.key.expose())), Code::CredentialUnknown);
    assert_eq!(world.runtime.sessions(&world.owner, &alice).await.unwrap().len(), MAX_SESSIONS);
    verified(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_of_its_tenant_and_its_key_comes_from_the_server() {
    let world = World::new().await.unwrap();
    let (_, session) = with_password(&world, "alice", vec![whole(Role::Viewer)]).await;
    let other = intended_model::TenantId::new("other").unwrap();
    let environments =
        [(environment("production").unwrap(), intended_model::entry::Tier::Production, Default::default())];
    world.runtime.create_tenant(&other, &environments).await.unwrap();
    // The tenant is under the checksum, and under the hash that it is looked up by.
    let elsewhere = session.key.expose().replace(".acme", ".other");
    assert_eq!(code(world.runtime.authenticate(&elsewhere)), Code::CredentialMalformed);
    let made_up = intended_keyring::SessionKey::generate(&intended_keyring::SystemRng::default(), &other).unwrap();
    assert_eq!(code(world.runtime.authenticate(made_up.expose())), Code::CredentialUnknown);
    let again = by_password(&world, "alice", PASSWORD, None).await.unwrap();
    assert_ne!(again.key.expose(), session.key.expose(), "each sign-in has a key of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_in_the_store_and_not_in_the_ledger_is_found() {
    let world = World::new().await.unwrap();
    let (_, session) = with_password(&world, "alice", vec![whole(Role::Viewer)]).await;
    let (header, leaves) = world.export().await.unwrap();
    let mut verifier = Verifier::new(header, None).unwrap();
    leaves.iter().for_each(|leaf| verifier.entry(leaf).unwrap());
    let key = intended_engine::keys::sign_in(session.key.hash());
    let real = world.runtime.store().fact_now(&world.owner.tenant.id, &key).unwrap().unwrap().value;
    let planted = intended_engine::keys::sign_in(Digest::of(b"int_sess_mine"));
    let failure = verifier.facts([(key, real.clone()), (planted, real)], Timestamp::default()).unwrap_err();
    assert_eq!(failure.check, Check::Fact);
}

/// A session ends once, whoever ends it at the same time: what ends twice nobody can verify again.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_signed_out_while_a_new_password_ends_it_ends_once() {
    let (world, slow) = crate::slow::world().await;
    let world = Arc::new(world);
    let alice = member(&world, "alice", vec![whole(Role::Viewer)]).await;
    let session = async || {
        let link = world.runtime.issue_link(&world.owner, &alice).await.unwrap();
        principal(&world, &by_link(&world, &link.code, None).await.unwrap())
    };
    let (one, other) = (session().await, session().await);
    slow.before.close();
    let setting = {
        let (world, alice) = (Arc::clone(&world), alice.clone());
        let set = async move { world.runtime.set_password(&one, None, &alice, None, Secret::new(PASSWORD)).await };
        tokio::spawn(set)
    };
    slow.before.reached().await;
    world.runtime.sign_out(&other).await.unwrap();
    slow.before.open();
    setting.await.unwrap().unwrap();
    verified(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_signed_out_while_another_takes_its_place_ends_once() {
    let (world, slow) = crate::slow::world().await;
    let world = Arc::new(world);
    let (alice, first) = with_password(&world, "alice", vec![whole(Role::Viewer)]).await;
    let first = principal(&world, &first);
    for _ in 2..MAX_SESSIONS {
        by_password(&world, "alice", PASSWORD, None).await.unwrap();
    }
    let links = [world.runtime.issue_link(&world.owner, &alice).await.unwrap()];
    world.clock.advance_millis(1_000);
    by_password(&world, "alice", PASSWORD, None).await.unwrap();
    // The attempt is counted first; the next commit is the session's.
    slow.after.close();
    let [link] = links;
    let entering = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { by_link(&world, &link.code, None).await.map(drop) })
    };
    slow.after.reached().await;
    slow.before.close();
    slow.after.open();
    slow.before.reached().await;
    world.runtime.sign_out(&first).await.unwrap();
    slow.before.open();
    entering.await.unwrap().unwrap();
    verified(&world).await;
}

/// A link is good once: who has nothing else is not somebody who could give access again.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_has_a_link_and_no_password_does_not_count_as_the_last() {
    let world = World::new().await.unwrap();
    let alice = member(&world, "alice", vec![whole(Role::Owner)]).await;
    let link = world.runtime.issue_link(&world.owner, &alice).await.unwrap();
    let own = world.owner.credential.clone();
    assert_eq!(code(world.runtime.revoke_credential(&world.owner, own.clone(), "x").await), Code::AccessLastOwner);
    let by = principal(&world, &by_link(&world, &link.code, None).await.unwrap());
    assert_eq!(code(world.runtime.revoke_credential(&by, own.clone(), "x").await), Code::AccessLastOwner);
    world.runtime.set_password(&by, None, &alice, None, Secret::new(PASSWORD)).await.unwrap();
    world.runtime.revoke_credential(&by, own, "x").await.unwrap();
    verified(&world).await;
}

/// Who operates the server.
pub fn operator(world: &World) -> intended_runtime::tenants::Operator {
    let rng = intended_testkit::SeededRng::new(11);
    let key = intended_keyring::ApiKey::generate(&rng, intended_keyring::KeyKind::Operator).unwrap();
    world.runtime.operated_by(Some(key.hash()));
    world.runtime.authenticate_operator(key.expose(), None).unwrap()
}

/// A request that was let in before its session or key was gone is not carried out after.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_ends_with_its_session_and_with_its_key() {
    let (world, slow) = crate::slow::world().await;
    let world = Arc::new(world);
    let (_, session) = with_password(&world, "alice", vec![whole(Role::Admin)]).await;
    let by = principal(&world, &session);
    slow.before.close();
    let changing = {
        let (world, by) = (Arc::clone(&world), by.clone());
        tokio::spawn(async move { world.runtime.set_member(&by, id("eve"), spec(vec![])).await })
    };
    slow.before.reached().await;
    world.runtime.sign_out(&by).await.unwrap();
    slow.before.open();
    assert_eq!(code(changing.await.unwrap()), Code::CredentialUnknown, "signed out while it went down");
    assert_eq!(code(world.runtime.set_member(&by, id("eve"), spec(vec![])).await), Code::CredentialUnknown);
    assert_eq!(code(world.runtime.sign_out(&by).await), Code::CredentialUnknown);
    assert!(!world.owner.tenant.state().members.contains_key("eve"));
    // A key that was rotated without an overlap, for good reason.
    let old = world.runtime.authenticate(&world.owner_key).unwrap();
    world.runtime.rotate_credential(&old, old.credential.clone(), 0).await.unwrap();
    assert_eq!(code(world.runtime.set_member(&old, id("eve"), spec(vec![])).await), Code::CredentialExpired);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_of_a_suspended_tenant_signs_in() {
    let world = World::new().await.unwrap();
    let (alice, _) = with_password(&world, "alice", vec![whole(Role::Viewer)]).await;
    let link = world.runtime.issue_link(&world.owner, &alice).await.unwrap();
    let operator = operator(&world);
    world.runtime.suspend_tenant(&operator, &world.owner.tenant.id, "unpaid").await.unwrap();
    assert_eq!(code(by_password(&world, "alice", PASSWORD, None).await), Code::TenantSuspended);
    assert_eq!(code(by_password(&world, "alice", "not the one at all", None).await), Code::SignInFailed);
    assert_eq!(code(by_link(&world, &link.code, None).await), Code::TenantSuspended);
    world.runtime.reinstate_tenant(&operator, &world.owner.tenant.id, "paid").await.unwrap();
    by_link(&world, &link.code, None).await.expect("it was not used up");
    by_password(&world, "alice", PASSWORD, None).await.unwrap();
    verified(&world).await;
}
