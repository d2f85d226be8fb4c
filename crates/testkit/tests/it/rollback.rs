//! A ledger that was taken back, or is shown in part: consistent in itself, and found by whoever kept
//! a checkpoint.

use intended_runtime::Submission;
use intended_testkit::{World, refund};
use intended_verify::{Check, Failure, Report, Verifier};

use crate::tampering::{Forge, Ledger, forger, verify};

fn verify_with((header, leaves): Ledger, kept: &str) -> Result<Report, Failure> {
    let mut verifier = Verifier::new(header, None)?;
    verifier.kept(kept)?;
    for leaf in &leaves {
        verifier.entry(leaf)?;
    }
    verifier.finish()
}

async fn submit(world: &World, amount: i64) {
    world.clock.advance_millis(1000);
    let submission = Submission { intent: refund(amount, None).unwrap(), idempotency_key: None, audience: None };
    world.runtime.submit(&world.owner, submission).await.unwrap();
}

/// The ledger as it was, and as it is.
async fn before_and_after() -> (Ledger, Ledger) {
    let world = World::new().await.unwrap();
    submit(&world, 40).await;
    let before = world.export().await.unwrap();
    submit(&world, 41).await;
    world.runtime.halt(&world.owner, None, "stop").await.unwrap();
    (before, world.export().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_cut_back_to_an_old_checkpoint_of_its_own_is_found_by_a_kept_one() {
    let (before, after) = before_and_after().await;
    // By itself it is what it was: nothing in it tells that there was more.
    verify(before.clone()).unwrap();
    let failure = verify_with(before.clone(), &after.0.checkpoint).unwrap_err();
    assert_eq!(failure.check, Check::Checkpoint, "{failure}");
    assert!(failure.what.contains("taken back"), "{failure}");
    // Both are of one history.
    assert_eq!(verify_with(after.clone(), &before.0.checkpoint).unwrap().entries, after.0.size);
    assert_eq!(verify_with(after.clone(), &after.0.checkpoint).unwrap().entries, after.0.size);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_checkpoint_replayed_over_newer_entries_is_found() {
    let (before, mut after) = before_and_after().await;
    after.0.checkpoint.clone_from(&before.0.checkpoint);
    let failure = verify(after.clone()).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Checkpoint, None), "{failure}");
    // With a size that fits it: the entries beyond are signed by nobody.
    after.0.size = before.0.size;
    after.0.checkpoints.clear();
    let failure = verify(after).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Entry, Some(before.0.size)), "{failure}");
}

/// The log's owner leaves out what is not to be seen, numbers anew and signs.
#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_export_shown_as_the_whole_is_found_by_a_kept_checkpoint() {
    let (_, after) = before_and_after().await;
    let signer = forger();
    let honest = Forge::of(&after.1).rebuild_with(&signer, &[]);
    let kept = honest.0.checkpoint.clone();
    verify_with(honest.clone(), &kept).unwrap();
    let mut filtered = Forge::of(&honest.1);
    let last = filtered.position("decision", 1);
    let halt = filtered.position("halt.thrown", 0);
    for at in [halt, last] {
        filtered.0.remove(at);
    }
    // As long as the honest one, so that its size says nothing.
    let (at, kind, body) = filtered.0[filtered.position("decision", 0)].clone();
    let shorter = filtered.rebuild_with(&signer, &[]);
    verify(shorter.clone()).unwrap();
    assert_eq!(verify_with(shorter.clone(), &kept).unwrap_err().check, Check::Checkpoint);
    let mut padded = Forge::of(&shorter.1);
    for (n, from) in [(1, "40"), (2, "40")] {
        padded.0.push((at, kind.clone(), body.replacen("\"amount\":40", &format!("\"amount\":{from}"), n)));
        let place = padded.0.len() - 1;
        padded.edit(place, |b| {
            let id = b["input"]["id"].as_str().unwrap().to_owned();
            b["input"]["id"] = format!("{}{n:02}", &id[..id.len() - 2]).into();
            b["grant"]["jti"] = intended_token::base64url(&[n as u8; 32]).into();
        });
    }
    let padded = padded.rebuild_with(&signer, &[]);
    assert_eq!(padded.0.size, honest.0.size);
    let failure = verify_with(padded, &kept).unwrap_err();
    assert!(matches!(failure.check, Check::Checkpoint | Check::Tree), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_checkpoint_of_another_key_or_history_is_refused() {
    let (_, after) = before_and_after().await;
    let other = Forge::of(&after.1).rebuild();
    assert_eq!(verify_with(after.clone(), &other.0.checkpoint).unwrap_err().check, Check::Checkpoint);
    let signer = forger();
    let one = Forge::of(&after.1).rebuild_with(&signer, &[]);
    let mut two = Forge::of(&after.1);
    let halt = two.position("halt.thrown", 0);
    two.edit(halt, |b| b["reason"] = "another".into());
    let two = two.rebuild_with(&signer, &[]);
    verify(two.clone()).unwrap();
    assert_eq!(verify_with(two, &one.0.checkpoint).unwrap_err().check, Check::Checkpoint);
}
