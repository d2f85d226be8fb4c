//! A ledger that goes on from a copy of itself: what came after the copy is unknown, so whatever it could
//! have ended is ended. And a ledger that was put back without a word, found by who kept a checkpoint.

use std::path::Path;

use intended_engine::approvals::Ineligible;
use intended_ledger::{Frontier, leaf_hash};
use intended_model::decision::Outcome;
use intended_model::emergency::TreeAt;
use intended_model::entry::{Role, RoleGrant, Scope};
use intended_model::{Code, CredentialId, MemberId, Name};
use intended_runtime::access::{CredentialSpec, MemberSpec};
use intended_runtime::restore::{GoneOn, Kept};
use intended_runtime::tokens::Verification;
use intended_runtime::{Decided, Runtime, Submission};
use intended_testkit::{World, environment, refund};
use intended_token::{Binding, Expectations, KeySet, Refusal, RevocationList, Verifier as TokenVerifier};
use intended_verify::{Check, Failure, Report, Verifier};
use serde_json::json;

use crate::approving::Office;
use crate::sign_in::with_password;
use crate::tampering::{Forge, Ledger, forger, verify};

/// A copy of a world's data, as a backup takes it: while it is in use.
struct Copy(tempfile::TempDir);

impl Copy {
    fn of(world: &World) -> Self {
        let dir = tempfile::tempdir().unwrap();
        intended_store_sqlite::copy(world.dir.path(), &dir.path().join("ledger.db")).unwrap();
        Self(dir)
    }
    /// In the place of what the world has now.
    async fn put_back(&self, world: World) -> World {
        let world = world.crash().await.unwrap();
        let to = world.dir.path();
        for file in ["ledger.db-wal", "ledger.db-shm"] {
            let _ = std::fs::remove_file(to.join(file));
        }
        std::fs::copy(self.path(), to.join("ledger.db")).unwrap();
        world.reopen().await.unwrap()
    }
    fn path(&self) -> std::path::PathBuf {
        Path::join(self.0.path(), "ledger.db")
    }
}

async fn submit(world: &World, amount: i64) -> Decided {
    world.clock.advance_millis(1_000);
    let submission = Submission { intent: refund(amount, None).unwrap(), idempotency_key: None, audience: None };
    world.runtime.submit(&world.owner, submission).await.unwrap()
}

async fn online(world: &World, decided: &Decided) -> Result<(), Refusal> {
    let binding = Binding::IntentHash(decided.record.input.intent_hash);
    let token = decided.token.as_ref().unwrap().as_str();
    let production = environment("production").unwrap();
    match world.runtime.verify_token(&world.owner, token, "intended", &production, &binding, true).await.unwrap() {
        Verification::Accepted(_) => Ok(()),
        Verification::Refused(refusal) => Err(refusal),
    }
}

/// With the keys and the list as of now, and no connection.
async fn offline(world: &World, decided: &Decided) -> Result<(), Refusal> {
    let production = environment("production").unwrap();
    let list = world.runtime.revocation_list(&world.owner, &production).await.unwrap().text;
    let keys = Runtime::key_set(&world.owner.tenant.state(), Some(&production)).unwrap();
    let keys = KeySet::from_jwks(&keys).unwrap();
    let list = RevocationList::open(&list, "http://intended.test", &keys).unwrap();
    let verifier = TokenVerifier {
        keys: &keys,
        expect: Expectations {
            issuer: "http://intended.test".into(),
            audience: "intended".into(),
            tenant: "acme".into(),
            environment: "production".into(),
        },
        revocations: Some(&list),
    };
    let binding = Binding::IntentHash(decided.record.input.intent_hash);
    verifier.verify(decided.token.as_ref().unwrap().as_str(), &binding, world.runtime.now()).map(drop)
}

async fn note(world: &World) -> (String, TreeAt) {
    let (head, note) = world.runtime.head(&world.owner.tenant).await.unwrap();
    (note.to_string(), TreeAt { root: head.root.to_base64().into(), size: head.size })
}

async fn go_on(world: &World, lost: Option<TreeAt>) -> GoneOn {
    world.runtime.go_on_from_copy(&world.owner.tenant.id, lost.as_slice(), "the disk died").await.unwrap()
}

async fn holds(world: &World) -> Report {
    verify(world.export().await.unwrap()).unwrap()
}

fn verify_with((header, leaves): Ledger, kept: &str) -> Result<Report, Failure> {
    let mut verifier = Verifier::new(header, None)?;
    verifier.kept(kept)?;
    for leaf in &leaves {
        verifier.entry(leaf)?;
    }
    verifier.finish()
}

/// By somebody who has a key: what the entry says of the tree before it is made true, or left as it is.
pub fn signed(mut forged: Forge, made_true: bool) -> Ledger {
    let signer = forger();
    let at = forged.position("ledger.restored", 0);
    if made_true {
        let (_, leaves) = Forge(forged.0.clone()).rebuild_with(&signer, &[]);
        let mut before = Frontier::empty();
        for leaf in &leaves[..at] {
            before.push(leaf_hash(leaf));
        }
        forged.edit(at, |b| b["copied"]["root"] = json!(before.root().to_base64()));
    }
    forged.rebuild_with(&signer, &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_from_before_a_copy_or_lost_after_it_is_good_for_anything() {
    let world = World::new().await.unwrap();
    let used_later = submit(&world, 40).await;
    let copy = Copy::of(&world);
    // What the copy does not know: a use, and a token that was granted at a position that comes again.
    assert_eq!(online(&world, &used_later).await, Ok(()));
    let lost = submit(&world, 41).await;
    let (_, known) = note(&world).await;
    let world = copy.put_back(world).await;
    // Put back without a word it would be used a second time: this is what the entry is for.
    let gone_on = go_on(&world, Some(known.clone())).await;
    assert_eq!((gone_on.copied, gone_on.index), (known.size - 2, known.size - 2));
    let refused = submit(&world, 42).await;
    assert_eq!(refused.record.decision.reason, Code::HaltTenant);
    assert_eq!(online(&world, &used_later).await, Err(Refusal::Halted));
    assert_eq!(online(&world, &lost).await, Err(Refusal::NotGranted));
    for token in [&used_later, &lost] {
        assert!(offline(&world, token).await.is_err());
    }
    world.runtime.resume(&world.owner, gone_on.halt, "looked at it").await.unwrap();
    // Entries grow past the position that the lost token names, and it still is nothing.
    for amount in 43..46 {
        submit(&world, amount).await;
    }
    assert_eq!(online(&world, &used_later).await, Err(Refusal::Halted));
    assert_eq!(online(&world, &lost).await, Err(Refusal::NotGranted));
    for token in [&used_later, &lost] {
        assert_eq!(offline(&world, token).await, Err(Refusal::Revoked), "also where there is no connection");
    }
    // The clock that the lost ones were issued by may have been a little ahead.
    world.clock.advance_millis(10_000);
    let new = submit(&world, 46).await;
    assert_eq!(offline(&world, &new).await, Ok(()));
    assert_eq!(online(&world, &new).await, Ok(()));
    let report = holds(&world).await;
    assert_eq!(report.restored.iter().map(|r| (r.index, r.lost)).collect::<Vec<_>>(), [(gone_on.index, 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_two_people_to_lift_the_halt_where_production_takes_two() {
    let world = World::new().await.unwrap();
    let gone_on = go_on(&world, None).await;
    let state = world.owner.tenant.state();
    let halt = &state.halts[&gone_on.halt];
    assert_eq!((halt.people, halt.environment.as_ref(), halt.on.as_ref()), (1, None, None), "as its settings say");
    assert_eq!(&*halt.reason, "the disk died");
    // The entry says how many, and it is not for the entry to say.
    let mut fewer = Forge::of(&world.export().await.unwrap().1);
    let at = fewer.position("ledger.restored", 0);
    fewer.edit(at, |b| b["resume_people"] = json!(2));
    let failure = verify(signed(fewer, true)).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Fold, Some(at as u64)), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_signed_in_before_a_copy_signs_in_again() {
    let world = World::new().await.unwrap();
    let grant = RoleGrant { environments: Vec::new(), expires_at: None, role: Role::Owner, whole: true };
    let (_, session) = with_password(&world, "ana", vec![grant]).await;
    let key = session.key.expose().to_owned();
    let copy = Copy::of(&world);
    world.runtime.authenticate(&key).unwrap();
    let world = copy.put_back(world).await;
    world.runtime.authenticate(&key).expect("a copy alone does not end it: it may have been ended since");
    let by = world.runtime.authenticate(&key).unwrap();
    go_on(&world, None).await;
    assert!(world.runtime.authenticate(&key).is_err());
    // Neither does a request that was on its way.
    let halted = world.runtime.halt(&by, None, "too late").await;
    assert!(halted.is_err(), "{halted:?}");
    holds(&world).await;
}

async fn key(world: &World, name: &str, member: Option<MemberId>, scopes: &[Scope]) -> String {
    let spec = CredentialSpec {
        actions: Vec::new(),
        agents: Vec::new(),
        credential: CredentialId::new(&format!("{name}-key")).unwrap(),
        environments: vec![environment("production").unwrap()],
        scopes: scopes.to_vec(),
        expires_at: None,
        live: true,
        member,
        networks: Vec::new(),
        whole: false,
    };
    world.runtime.create_credential(&world.owner, spec).await.unwrap().key
}

async fn approver(world: &World, name: &str) -> String {
    let member = MemberId::new(name).unwrap();
    let grant = RoleGrant { environments: Vec::new(), expires_at: None, role: Role::Owner, whole: true };
    let groups = vec![Name::new("leads").unwrap()];
    let spec = MemberSpec { active: true, grants: vec![grant], groups, ..MemberSpec::default() };
    world.runtime.set_member(&world.owner, member.clone(), spec).await.unwrap();
    key(world, name, Some(member), &[Scope::ApprovalRead, Scope::ApprovalDecide]).await
}

/// It may have been approved and carried out, or denied, in what is lost.
#[tokio::test(flavor = "multi_thread")]
async fn what_waited_when_a_copy_was_made_is_approved_by_nobody_after_it() {
    let office = Office::with("2 of leads").await;
    let [ana, ben] = [approver(&office.world, "ana").await, approver(&office.world, "ben").await];
    let agent = key(&office.world, "bot", None, &[Scope::IntentSubmit]).await;
    let asked = office.ask_as(&office.world.runtime.authenticate(&agent).unwrap()).await;
    let by = office.world.runtime.authenticate(&ana).unwrap();
    office.approve(&by, &asked).await.unwrap();
    let copy = Copy::of(&office.world);
    let world = copy.put_back(office.world).await;
    let halt = go_on(&world, None).await.halt;
    world.runtime.resume(&world.owner, halt, "looked at it").await.unwrap();
    let by = world.runtime.authenticate(&ben).unwrap();
    let tag = world.runtime.approval(&by, &asked).await.unwrap().tag;
    let refused = world.runtime.approve(&by, &asked, &tag, "looks right").await.unwrap_err();
    assert_eq!(refused.code, Code::ApprovalIneligible);
    assert!(refused.detail.contains(Ineligible::Restored.why()), "{}", refused.detail);
    // Asked for again, it is approved as ever; the half that was given before counts for nothing.
    let office = Office { agent: world.runtime.authenticate(&agent).unwrap(), world };
    let again = office.ask_as(&office.agent.clone()).await;
    for key in [&ana, &ben] {
        assert_eq!(office.outcome(&again).await.0, Outcome::Escalate);
        let by = office.world.runtime.authenticate(key).unwrap();
        office.approve(&by, &again).await.unwrap();
    }
    assert_eq!(office.outcome(&again).await.0, Outcome::Allow);
    // What waited before ends by its time.
    office.world.clock.advance_millis(3_700_000);
    office.world.runtime.close_overdue().await.unwrap();
    assert!(!office.open(&asked).await);
    holds(&office.world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_is_served_only_if_it_is_no_older_than_a_checkpoint_that_was_kept() {
    let world = World::new().await.unwrap();
    submit(&world, 40).await;
    let (early, _) = note(&world).await;
    let copy = Copy::of(&world);
    submit(&world, 41).await;
    let (late, known) = note(&world).await;
    for kept in [&early, &late] {
        assert!(matches!(world.runtime.hold_against(kept).await, Ok(Kept::Holds { .. })));
    }
    let world = copy.put_back(world).await;
    assert!(matches!(world.runtime.hold_against(&early).await, Ok(Kept::Holds { .. })));
    let error = world.runtime.hold_against(&late).await.unwrap_err();
    assert_eq!(error.code, Code::LedgerTakenBack);
    assert!(error.detail.contains("1 are missing"), "{}", error.detail);
    // Grown past it with something else it is another history.
    for amount in 50..53 {
        submit(&world, amount).await;
    }
    assert_eq!(world.runtime.hold_against(&late).await.unwrap_err().code, Code::LedgerForked);
    // That it says itself that it goes on from a copy excuses what is known to be lost, and no more.
    let world = copy.put_back(world).await;
    let more = TreeAt { size: known.size + 1, ..known.clone() };
    go_on(&world, Some(more)).await;
    assert_eq!(world.runtime.hold_against(&late).await.unwrap_err().code, Code::LedgerForked);
    // Whatever was known of it is known of it: an older checkpoint as well.
    let world = copy.put_back(world).await;
    let newer = TreeAt { size: known.size + 1, root: "AAAA".into() };
    let id = &world.owner.tenant.id;
    for wrong in [vec![newer.clone(), known.clone()], vec![known.clone(), known.clone()]] {
        let error = world.runtime.go_on_from_copy(id, &wrong, "out of order").await.unwrap_err();
        assert_eq!(error.code, Code::RequestInvalid, "{error}");
    }
    let many: Vec<_> = (0..66).map(|n| TreeAt { size: known.size + n, root: "AAAA".into() }).collect();
    assert!(world.runtime.go_on_from_copy(id, &many, "too many").await.is_err());
    world.runtime.go_on_from_copy(id, &[known.clone(), newer], "the disk died").await.unwrap();
    assert!(matches!(world.runtime.hold_against(&late).await, Ok(Kept::KnownLost { .. })));
    holds(&world).await;
    let world = copy.put_back(world).await;
    go_on(&world, Some(known)).await;
    assert!(matches!(world.runtime.hold_against(&late).await, Ok(Kept::KnownLost { .. })));
    let of_another = late.replace("/acme", "/globex");
    assert_eq!(world.runtime.hold_against(&of_another).await.unwrap_err().code, Code::NotFound);
    let another_key = Forge::of(&world.export().await.unwrap().1).rebuild().0.checkpoint;
    assert_eq!(world.runtime.hold_against(&another_key).await.unwrap_err().code, Code::LedgerForked);
}

/// Two checkpoints of one size and different roots, signed with one key: the verifier says where that
/// comes from, and does not call it whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_what_was_lost_is_still_found_and_the_restoration_named() {
    let world = World::new().await.unwrap();
    let copy = Copy::of(&world);
    for amount in 40..44 {
        submit(&world, amount).await;
    }
    let (lost, known) = note(&world).await;
    let world = copy.put_back(world).await;
    let gone_on = go_on(&world, Some(known.clone())).await;
    let failure = verify_with(world.export().await.unwrap(), &lost).unwrap_err();
    assert_eq!(failure.check, Check::Checkpoint, "{failure}");
    for amount in 50..55 {
        submit(&world, amount).await;
    }
    let failure = verify_with(world.export().await.unwrap(), &lost).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Tree, Some(known.size - 1)), "{failure}");
    let says = format!("restored from a copy of its first {} entries", gone_on.copied);
    assert!(failure.what.contains(&says), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_entry_says_of_a_restoration_is_true_or_it_does_not_verify() {
    let world = World::new().await.unwrap();
    let granted = submit(&world, 40).await;
    let (_, known) = note(&world).await;
    let lost = TreeAt { size: known.size + 5, ..known };
    let halt = go_on(&world, Some(lost)).await.halt;
    world.runtime.resume(&world.owner, halt, "looked at it").await.unwrap();
    let allowed = submit(&world, 41).await;
    holds(&world).await;
    let leaves = world.export().await.unwrap().1;
    type Change = fn(&mut serde_json::Value);
    let cases: [(&str, Change, Check, &str); 8] = [
        ("out of order", |b| b["also_lost"] = json!([b["lost"]]), Check::Fold, "older checkpoints"),
        ("another tree", |b| b["copied"]["root"] = json!("AAAA"), Check::Tree, "another ledger was copied"),
        ("another size", |b| b["copied"]["size"] = json!(3), Check::Tree, "another ledger was copied"),
        ("nothing lost", |b| b["lost"]["size"] = json!(1), Check::Fold, "none is lost"),
        ("somebody else", |b| b["by"] = json!("owner"), Check::Authority, "does not operate the server"),
        ("later", |b| b["at"] = json!(b["at"].as_i64().unwrap() + 1), Check::Fold, "before it says so"),
        ("long ago", |b| b["at"] = json!(b["at"].as_i64().unwrap() - 60_000), Check::Fold, "before it says so"),
        ("one person", |b| b["resume_people"] = json!(2), Check::Fold, "people"),
    ];
    let at = Forge::of(&leaves).position("ledger.restored", 0);
    for (what, change, check, says) in cases {
        let mut forged = Forge::of(&leaves);
        forged.edit(at, change);
        let failure = verify(signed(forged, what != "another tree")).unwrap_err();
        assert_eq!((failure.check, failure.index), (check, Some(at as u64)), "{what}: {failure}");
        assert!(failure.what.contains(says), "{what}: {failure}");
    }
    // The halt that it throws is one: without its resume nothing after it is allowed.
    let mut forged = Forge::of(&leaves);
    let resumed = forged.position("halt.resumed", 0);
    forged.0.remove(resumed);
    let decision = forged.position("decision", 1);
    let failure = verify(signed(forged, true)).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Halt, Some(decision as u64)), "{failure}");
    // And so is what it kills: a token from before is not used after it.
    let mut forged = Forge::of(&leaves);
    let id = |decided: &Decided| decided.record.grant.as_ref().unwrap().jti.to_string();
    let last = forged.0.last().unwrap().0;
    for (token, good) in [(&allowed, true), (&granted, false)] {
        let mut body = json!({
            "by": "owner", "environment": "production", "intent": token.record.input.id, "jti": id(token), "v": 1,
        });
        let text = intended_model::json::canonical(&body.take()).unwrap();
        forged.0.push((last, "token.consumed".to_owned(), text));
        let verified = verify(signed(Forge(forged.0.clone()), true));
        assert_eq!(verified.is_ok(), good, "{verified:?}");
        if let Err(failure) = verified {
            assert_eq!(failure.check, Check::Halt, "{failure}");
        }
    }
}
