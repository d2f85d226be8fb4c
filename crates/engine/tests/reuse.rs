//! A policy version that was compiled before is taken as it is, and never for other files.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::Arc;

use intended_engine::{FoldError, State, Version};
use intended_intents::Catalogue;
use intended_model::entry::{BODY_VERSION, PolicyPublished, TenantCreated};
use intended_model::{CredentialId, Digest, Event, Name, TenantId};

fn genesis() -> State {
    State::genesis(&Event::TenantCreated(TenantCreated {
        catalogue: Catalogue::builtin().digest(),
        tenant: TenantId::new("acme").unwrap(),
        vkey: "key".into(),
        v: BODY_VERSION,
    }))
    .unwrap()
}

/// `stated`: the digest that the entry says; absent: its files' own.
fn published(policy: &str, stated: Option<Digest>) -> (Digest, Event) {
    let files = [("pack.toml", "name = \"p\"\nversion = \"1\"\n"), ("p.cedar", policy)];
    let source =
        intended_policy::PackSource { files: files.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect() };
    let digest = stated.unwrap_or_else(|| source.digest());
    let event = Event::PolicyPublished(PolicyPublished {
        by: CredentialId::new("owner").unwrap(),
        digest,
        files: files.iter().map(|(n, t)| ((*n).into(), (*t).into())).collect(),
        pack: Name::new("p").unwrap(),
        version: "1".into(),
        v: BODY_VERSION,
    });
    (digest, event)
}

const PERMIT: &str = "@id(\"a\") permit (principal, action, resource);";
const FORBID: &str = "@id(\"a\") forbid (principal, action, resource);";

#[test]
fn a_version_of_the_same_digest_is_taken_and_not_compiled_again() {
    let (digest, event) = published(PERMIT, None);
    let mut first = genesis();
    first.apply(1, &event).unwrap();
    let mut second = genesis();
    second.apply_reusing(1, &event, &first.versions).unwrap();
    assert!(Arc::ptr_eq(&first.versions[&digest], &second.versions[&digest]));
    let mut alone = genesis();
    alone.apply(1, &event).unwrap();
    assert!(!Arc::ptr_eq(&first.versions[&digest], &alone.versions[&digest]));
}

#[test]
fn other_files_under_the_digest_of_a_known_version_are_refused() {
    let (digest, event) = published(PERMIT, None);
    let mut first = genesis();
    first.apply(1, &event).unwrap();
    let known: BTreeMap<Digest, Arc<Version>> = BTreeMap::clone(&first.versions);
    let (_, forged) = published(FORBID, Some(digest));
    let refused = genesis().apply_reusing(1, &forged, &known).unwrap_err();
    assert!(matches!(refused, FoldError::VersionDigest { stated, .. } if stated == digest), "{refused}");
}
