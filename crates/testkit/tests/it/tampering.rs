//! An attacker who holds the ledger's signing key and can rebuild the whole tree: what re-execution
//! still finds. And one who does not, whom hashes and signatures find.

use aws_lc_rs::signature::Ed25519KeyPair;
use intended_ledger::{Checkpoint, Ed25519NoteSigner, ExportHeader, Frontier, Leaf, encode_leaf, leaf_hash, origin};
use intended_model::{TenantId, Timestamp};
use intended_runtime::Submission;
use intended_testkit::{World, environment, refund};
use intended_verify::{Check, Failure, Report, Verifier};

pub type Ledger = (ExportHeader, Vec<Vec<u8>>);

pub fn verify((header, leaves): Ledger) -> Result<Report, Failure> {
    let mut verifier = Verifier::new(header, None)?;
    for leaf in &leaves {
        verifier.entry(leaf)?;
    }
    verifier.finish()
}

/// One allow, a halt, a denial, an escalation.
async fn recorded() -> Ledger {
    let world = World::new().await.unwrap();
    let submit = async |amount| {
        let submission = Submission { intent: refund(amount, None).unwrap(), idempotency_key: None, audience: None };
        world.clock.advance_millis(1000);
        world.runtime.submit(&world.owner, submission).await.unwrap()
    };
    submit(40).await;
    submit(400).await;
    world.runtime.halt(&world.owner, Some(environment("production").unwrap()), "stop").await.unwrap();
    submit(41).await;
    world.export().await.unwrap()
}

/// Bodies by kind, to be changed and put together again under a key of the attacker's own.
pub struct Forge(pub Vec<(Timestamp, String, String)>);

/// A key of the attacker's own, or the ledger's if it leaked.
pub fn forger() -> Ed25519NoteSigner {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
    Ed25519NoteSigner::from_pkcs8(&origin(&TenantId::new("acme").unwrap()), pkcs8.as_ref()).unwrap()
}

impl Forge {
    pub fn of(leaves: &[Vec<u8>]) -> Self {
        Self(
            leaves
                .iter()
                .map(|l| Leaf::parse(l).unwrap())
                .map(|l| (l.at, l.kind.to_owned(), l.body.to_owned()))
                .collect(),
        )
    }
    pub fn position(&self, kind: &str, nth: usize) -> usize {
        self.0.iter().enumerate().filter(|(_, (_, k, _))| k == kind).nth(nth).unwrap().0
    }
    /// Changes a body, which stays canonical.
    pub fn edit(&mut self, at: usize, change: impl FnOnce(&mut serde_json::Value)) {
        let mut body = serde_json::from_str(&self.0[at].2).unwrap();
        let before = format!("{body}");
        change(&mut body);
        assert_ne!(before, format!("{body}"), "nothing was changed");
        self.0[at].2 = intended_model::json::canonical(&body).unwrap();
    }
    pub fn rebuild(self) -> Ledger {
        self.rebuild_with(&forger(), &[])
    }
    /// With checkpoints of these sizes besides the last one.
    pub fn rebuild_with(mut self, signer: &Ed25519NoteSigner, sizes: &[u64]) -> Ledger {
        let tenant = TenantId::new("acme").unwrap();
        let (before, _) = self.0[0].2.rsplit_once("\"vkey\":").unwrap();
        self.0[0].2 = format!(r#"{before}"vkey":"{}"}}"#, signer.vkey());
        let mut frontier = Frontier::empty();
        let (mut leaves, mut checkpoints) = (Vec::new(), Vec::new());
        let sign = |frontier: &Frontier| {
            let checkpoint = Checkpoint { origin: origin(&tenant), size: frontier.size(), root: frontier.root() };
            checkpoint.sign(signer).unwrap()
        };
        for (index, (at, kind, body)) in self.0.iter().enumerate() {
            let leaf = encode_leaf(&tenant, index as u64, *at, kind, body);
            frontier.push(leaf_hash(&leaf));
            leaves.push(leaf);
            if sizes.contains(&frontier.size()) {
                checkpoints.push(sign(&frontier));
            }
        }
        let (checkpoint, size) = (sign(&frontier), frontier.size());
        (ExportHeader { checkpoint, checkpoints, size, tenant, vkey: signer.vkey() }, leaves)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untouched_ledger_holds_and_so_does_a_rebuilt_one() {
    let ledger = recorded().await;
    let report = verify(ledger.clone()).unwrap();
    assert_eq!((report.decisions, report.allowed), (3, 1));
    verify(Forge::of(&ledger.1).rebuild()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_flipped_bit_anywhere_is_found() {
    let ledger = recorded().await;
    for index in 0..ledger.1.len() {
        for at in [1, ledger.1[index].len() / 3, ledger.1[index].len() / 2, ledger.1[index].len() - 2] {
            let (header, mut leaves) = ledger.clone();
            leaves[index][at] ^= 1;
            let failure = verify((header, leaves)).unwrap_err();
            // Nothing before it is blamed; what cannot be blamed on one entry is the tree.
            assert!(failure.index.is_some_and(|i| i >= index as u64), "{index} {at}: {failure}");
            let named = failure.index == Some(index as u64);
            assert!(named || matches!(failure.check, Check::Decision | Check::Tree), "{index} {at}: {failure}");
        }
    }
}

/// With a checkpoint after every entry the altered one is named, whatever the alteration.
#[tokio::test(flavor = "multi_thread")]
async fn one_flipped_bit_is_named_exactly_where_every_entry_was_signed_for() {
    let ledger = recorded().await;
    let sizes: Vec<u64> = (1..=ledger.1.len() as u64).collect();
    let (header, leaves) = Forge::of(&ledger.1).rebuild_with(&forger(), &sizes);
    verify((header.clone(), leaves.clone())).unwrap();
    for index in 0..leaves.len() {
        for at in (0..leaves[index].len()).step_by(leaves[index].len() / 24) {
            let mut altered = leaves.clone();
            altered[index][at] ^= 1;
            let failure = verify((header.clone(), altered)).unwrap_err();
            assert_eq!(failure.index, Some(index as u64), "bit of byte {at}: {failure}");
            assert!(matches!(failure.check, Check::Entry | Check::Tree), "{failure}");
        }
    }
}

/// Without a checkpoint in between, the first decision that the altered entry bears on is named,
/// with what differs; with one, between which checkpoints the altered entry stands.
#[tokio::test(flavor = "multi_thread")]
async fn what_differs_is_named_and_where_it_can_be() {
    let ledger = recorded().await;
    let changed = |(header, mut leaves): Ledger| {
        let at = leaves.iter().position(|l| Leaf::parse(l).unwrap().kind == "agent.set").unwrap() + 1;
        let text = String::from_utf8(leaves[at].clone()).unwrap();
        assert!(text.contains("support-agent"), "{text}");
        leaves[at] = text.replacen("\"trust\":70", "\"trust\":60", 1).into_bytes();
        (verify((header, leaves)).unwrap_err(), at as u64)
    };
    let (failure, _) = changed(ledger.clone());
    let first = Forge::of(&ledger.1).position("decision", 0) as u64;
    assert_eq!((failure.check, failure.index), (Check::Decision, Some(first)), "{failure}");
    let what = "`/decision/risk/factors/6/value` is recorded as 30 and comes to 40";
    assert!(failure.what.contains(what), "{failure}");
    let (_, at) = changed(ledger.clone());
    let signed = Forge::of(&ledger.1).rebuild_with(&forger(), &[at - 2, at + 2]);
    let (failure, _) = changed(signed);
    assert_eq!((failure.check, failure.index), (Check::Tree, Some(at + 1)), "{failure}");
    let what = format!("between the checkpoints of size {} and {}", at - 2, at + 2);
    assert!(failure.what.contains(&what), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_tail_a_gap_and_a_new_order_are_found_and_named() {
    let (header, leaves) = recorded().await;
    let mut short = leaves.clone();
    short.pop();
    let failure = verify((header.clone(), short)).unwrap_err();
    assert_eq!(failure.check, Check::Tree);
    assert!(failure.what.contains("the tail is missing"), "{failure}");
    let mut gap = leaves.clone();
    gap.remove(5);
    let failure = verify((header.clone(), gap)).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Entry, Some(5)));
    let mut order = leaves;
    order.swap(4, 5);
    let failure = verify((header, order)).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Entry, Some(4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allow_inserted_after_a_halt_is_found_even_when_signed() {
    let ledger = recorded().await;
    let mut forge = Forge::of(&ledger.1);
    let (_, kind, body) = forge.0[forge.position("decision", 0)].clone();
    let halt = forge.position("halt.thrown", 0);
    let at = forge.0[halt].0;
    // As late as the halt, and as if decided on the state after it.
    let control = ledger
        .1
        .iter()
        .filter(|l| {
            let k = Leaf::parse(l).unwrap().kind;
            k != "decision" && k != "token.consumed"
        })
        .count();
    let body = body.replacen(&format!("\"control\":{}", control - 1), &format!("\"control\":{control}"), 1);
    forge.0.insert(halt + 1, (at, kind, body));
    let failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Halt, Some(halt as u64 + 1)), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_policy_is_found_even_when_signed() {
    let ledger = recorded().await;
    let mut forge = Forge::of(&ledger.1);
    let published = forge.position("policy.published", 0);
    let digest_check = forge.0[published].2.clone();
    forge.0[published].2 =
        digest_check.replace("lessThanOrEqual(decimal(\\\"100.0\\\"))", "lessThanOrEqual(decimal(\\\"900.0\\\"))");
    assert_ne!(forge.0[published].2, digest_check);
    let failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Fold, Some(published as u64)), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_says_otherwise_is_found_even_when_signed() {
    let ledger = recorded().await;
    let mut forge = Forge::of(&ledger.1);
    let first = forge.position("decision", 0);
    forge.0[first].2 = forge.0[first].2.replacen("\"score\":", "\"score\":1", 1);
    let failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!(
        (failure.index, failure.check),
        (Some(first as u64), if failure.check == Check::Entry { Check::Entry } else { Check::Decision })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_approval_is_found_even_when_signed() {
    let ledger = recorded().await;
    let escalated = Forge::of(&ledger.1).position("decision", 1);
    let leaf = Leaf::parse(&ledger.1[escalated]).unwrap();
    let record: intended_model::decision::DecisionRecord =
        intended_model::json::from_slice(leaf.body.as_bytes()).unwrap();
    let policy = record.decision.policy.as_ref().unwrap().digest;
    // An approval entry by somebody who is no member.
    let mut forge = Forge::of(&ledger.1);
    let body = format!(
        r#"{{"approver":"mallory","by":"owner","environment":"production","expires_at":{},"intent":"{}","intent_hash":"{}","policy":"{policy}","reason":"ok","v":1}}"#,
        leaf.at.as_millis() + 60_000,
        record.input.id,
        record.input.intent_hash
    );
    forge.0.insert(escalated + 1, (leaf.at, "approval.granted".to_owned(), body));
    let failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Approval, Some(escalated as u64 + 1)), "{failure}");
    // A decision that counts an approval which is not in the ledger.
    let mut forge = Forge::of(&ledger.1);
    let cited = format!(
        r#"{{"approvals":[{{"approver":"mallory","entry":3,"expires_at":{},"intent_hash":"{}","policy":"{policy}"}}],"at""#,
        leaf.at.as_millis() + 60_000,
        record.input.intent_hash
    );
    forge.0[escalated].2 = forge.0[escalated].2.replacen("\"input\":{\"at\"", &format!("\"input\":{cited}"), 1);
    let failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Approval, Some(escalated as u64)), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_checkpoints_of_one_size_and_a_foreign_key_are_found() {
    let ledger = recorded().await;
    let (mut header, leaves) = ledger.clone();
    let (other, _) = Forge::of(&leaves).rebuild();
    header.checkpoints.push(other.checkpoint.clone());
    assert_eq!(verify((header, leaves)).unwrap_err().check, Check::Checkpoint);
    let failure = Verifier::new(other, Some(&ledger.0.vkey)).unwrap_err();
    assert_eq!(failure.check, Check::Checkpoint);
}

/// Somebody who can write the data file, without any key: what opening it notices.
#[tokio::test(flavor = "multi_thread")]
async fn what_state_is_folded_from_is_held_against_the_tree_when_a_server_starts() {
    let halted = "UPDATE entries SET control = 0 WHERE id = (SELECT max(id) FROM entries WHERE control = 1)";
    // The tenant's row counts what was there when it was last folded, the last entry's row all.
    let counted = "UPDATE tenants SET control_version = (SELECT count(*) FROM entries WHERE control = 1 AND id < number * (1 << 40) + size)";
    let counted_last =
        "UPDATE entries SET control_version = control_version - 1 WHERE id = (SELECT max(id) FROM entries)";
    let noted = "DELETE FROM facts WHERE key = 'n'";
    let cases: [(&str, &[&str]); 4] = [
        ("a hidden halt", &[halted]),
        ("a head that counts one less", &[counted_last]),
        ("a hidden halt, and a head that fits", &[halted, counted, counted_last]),
        ("a hidden halt, a head that fits, and no signed number", &[halted, counted, counted_last, noted]),
    ];
    // With a clean stop, and without: then the halt is newer than what was signed last.
    for ((what, statements), clean) in cases.into_iter().flat_map(|case| [(case, true), (case, false)]) {
        let mut world = World::new().await.unwrap();
        world.runtime.halt(&world.owner, None, "stop").await.unwrap();
        if clean {
            world.runtime.close().await.unwrap();
        }
        world = world.crash().await.unwrap();
        let file = world.dir.path().join(intended_store_sqlite::FILE);
        let connection = rusqlite::Connection::open(&file).unwrap();
        for statement in statements {
            assert_eq!(connection.execute(statement, []).unwrap(), 1);
        }
        drop(connection);
        let refused = world.reopen().await.err().unwrap_or_else(|| panic!("{what} went unnoticed"));
        assert_eq!(refused.code, intended_model::Code::StoreCorrupt, "{what}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_not_the_one_signed_for_is_not_served() {
    let world = World::new().await.unwrap();
    let tenant = world.owner.tenant.clone();
    world.runtime.save_checkpoint(&tenant).await.unwrap();
    world.runtime.close().await.unwrap();
    // A note for the same size with another root, signed by another key: both are refused.
    let file = world.dir.path().join(intended_store_sqlite::FILE);
    let connection = rusqlite::Connection::open(&file).unwrap();
    let key: String =
        connection.query_row("SELECT key FROM facts WHERE key LIKE 'c/%' ORDER BY key DESC", [], |r| r.get(0)).unwrap();
    let size =
        connection.query_row("SELECT count(*) FROM entries", [], |r| r.get::<_, i64>(0)).unwrap().cast_unsigned();
    let forger = Ed25519NoteSigner::from_pkcs8(
        &origin(&tenant.id),
        Ed25519KeyPair::generate().unwrap().to_pkcs8().unwrap().as_ref(),
    );
    let forged = Checkpoint { origin: origin(&tenant.id), size, root: leaf_hash(b"another") };
    let note = forged.sign(&forger.unwrap()).unwrap();
    connection.execute("UPDATE facts SET value = ?1 WHERE key = ?2", (note.as_bytes(), key)).unwrap();
    drop(connection);
    let refused = world.reopen().await.err().unwrap();
    assert_eq!(refused.code, intended_model::Code::StoreCorrupt, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumption_under_a_halt_is_found_even_when_signed() {
    let world = World::new().await.unwrap();
    let submission = Submission { intent: refund(40, None).unwrap(), idempotency_key: None, audience: None };
    let decided = world.runtime.submit(&world.owner, submission).await.unwrap();
    let production = environment("production").unwrap();
    let binding = intended_token::Binding::IntentHash(decided.record.input.intent_hash);
    let token = decided.token.unwrap();
    world.runtime.verify_token(&world.owner, token.as_str(), "intended", &production, &binding, true).await.unwrap();
    world.runtime.halt(&world.owner, None, "stop").await.unwrap();
    let mut forge = Forge::of(&world.export().await.unwrap().1);
    verify(Forge(forge.0.clone()).rebuild()).unwrap();
    let (consumed, halt) = (forge.position("token.consumed", 0), forge.position("halt.thrown", 0));
    forge.0.swap(consumed, halt);
    let failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Halt, Some(halt as u64)), "{failure}");
}

/// Who can write the data file but has not the root key: another ledger key, or no checkpoint to
/// hold the tree against.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_without_the_sealed_keys_signature_is_not_served() {
    for forged in [false, true] {
        let world = World::new().await.unwrap();
        world.runtime.close().await.unwrap();
        let file = world.dir.path().join(intended_store_sqlite::FILE);
        let connection = rusqlite::Connection::open(&file).unwrap();
        if forged {
            // Genesis names a key of the attacker's own, and everything after it fits.
            let leaves = leaves_of(&connection);
            let (header, leaves) = Forge::of(&leaves).rebuild();
            verify((header.clone(), leaves.clone())).unwrap();
            let mut frontier = Frontier::empty();
            for (index, leaf) in leaves.iter().enumerate() {
                frontier.push(leaf_hash(leaf));
                let update = "UPDATE entries SET leaf = ?1 WHERE id & ((1 << 40) - 1) = ?2";
                assert_eq!(connection.execute(update, (leaf, index as u64 as i64)).unwrap(), 1);
            }
            let root = frontier.root();
            connection.execute("UPDATE tenants SET root = ?1", [root.as_bytes()]).unwrap();
            connection.execute("UPDATE entries SET root = ?1 WHERE root IS NOT NULL", [root.as_bytes()]).unwrap();
            connection.execute("DELETE FROM facts WHERE key LIKE 'c/%'", []).unwrap();
            let key = format!("c/{:020}", header.size);
            let put = "INSERT INTO facts (tenant, key, value, version) VALUES (1, ?1, ?2, 1)";
            connection.execute(put, (key, header.checkpoint.as_bytes())).unwrap();
        } else {
            assert!(connection.execute("DELETE FROM facts WHERE key LIKE 'c/%'", []).unwrap() > 0);
        }
        drop(connection);
        let refused = world.reopen().await.err().unwrap();
        assert_eq!(refused.code, intended_model::Code::StoreCorrupt, "{refused}");
        assert_eq!(refused.to_string().contains("another key"), forged, "{refused}");
    }
}

fn leaves_of(connection: &rusqlite::Connection) -> Vec<Vec<u8>> {
    let mut select = connection.prepare("SELECT leaf FROM entries ORDER BY id").unwrap();
    select.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
}

/// A change that the runtime would have refused, written past it by somebody with all keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_who_could_not_make_it_is_found_even_when_signed() {
    let world = World::new().await.unwrap();
    let spec = intended_runtime::access::CredentialSpec {
        actions: Vec::new(),
        agents: Vec::new(),
        networks: Vec::new(),
        credential: intended_model::CredentialId::new("staging-bot").unwrap(),
        environments: vec![environment("staging").unwrap()],
        scopes: vec![intended_model::entry::Scope::IntentSubmit],
        expires_at: None,
        live: true,
        member: None,
        whole: false,
    };
    world.runtime.create_credential(&world.owner, spec).await.unwrap();
    let (halt, _) = world.runtime.halt(&world.owner, None, "stop").await.unwrap();
    world.runtime.resume(&world.owner, halt, "go on").await.unwrap();
    let leaves = world.export().await.unwrap().1;
    verify(Forge::of(&leaves).rebuild()).unwrap();
    for (kind, from, to) in [
        ("halt.resumed", r#""by":"owner""#, r#""by":"staging-bot""#),
        ("halt.resumed", r#""by":"owner""#, r#""by":"nobody""#),
        ("credential.created", r#""whole":false"#, r#""whole":true"#),
        ("halt.thrown", r#""by":"owner""#, r#""by":"bootstrap""#),
    ] {
        let mut forge = Forge::of(&leaves);
        let at = forge.position(kind, usize::from(kind == "credential.created"));
        let changed = forge.0[at].2.replacen(from, to, 1);
        if kind == "credential.created" {
            // Made whole, by who is: that holds. By who is not, it does not.
            forge.0[at].2 = changed.replacen(r#""by":"owner""#, r#""by":"nobody""#, 1);
        } else {
            forge.0[at].2 = changed;
        }
        let failure = verify(forge.rebuild()).unwrap_err();
        assert_eq!((failure.check, failure.index), (Check::Authority, Some(at as u64)), "{kind}: {failure}");
    }
}
