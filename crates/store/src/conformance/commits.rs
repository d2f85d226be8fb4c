//! Commits: what they rely on, what they change, how they meet.

use super::*;
use crate::{Conflict, MAX_KEY, StoreError};

pub async fn a_commit_is_an_entry_facts_and_a_proof(place: &dyn Place) {
    let (store, acme) = with_acme(place).await;
    let empty = store.head(&acme).await.unwrap();
    assert_eq!((empty.size, empty.root, empty.control_version), (0, Frontier::empty().root(), 0));

    let mut control = entry(1);
    control.control = true;
    let commit =
        Commit { writes: vec![put("a", "1"), add("c", 2, 5)], entries: vec![entry(0), control], ..nothing(&acme) };
    let committed = store.commit(commit).await.unwrap();
    check_proofs(&committed);
    assert_eq!((committed.first_index, committed.recorded_at.as_millis()), (0, 1_000));
    assert_eq!((committed.head.size, committed.head.control_version), (2, 1));
    assert_eq!(store.head(&acme).await.unwrap(), *committed.head);
    assert_eq!(store.fact_now(&acme, "a").unwrap().unwrap().value, b"1");
    assert_eq!(store.counter_now(&acme, "c"), Ok(2));
    assert_eq!(store.counter_now(&acme, "d"), Ok(0));
    assert_eq!(store.entry(&acme, 1).await.unwrap().unwrap().leaf, committed.leaves[1]);
    assert_eq!(store.entry(&acme, 2).await.unwrap(), None);
    let health = store.health().await;
    assert!(health.writable && health.commit_micros.is_some(), "{health:?}");

    // Facts alone, and nothing at all, are commits too.
    let committed = store.commit(Commit { writes: vec![put("a", "2")], ..nothing(&acme) }).await.unwrap();
    assert_eq!((committed.first_index, committed.leaves.len(), committed.head.size), (2, 0, 2));
    store.commit(nothing(&acme)).await.unwrap();
    check_ledger(&store, &acme).await;
}

pub async fn a_conflict_leaves_nothing(place: &dyn Place) {
    let (store, acme) = with_acme(place).await;
    let mut control = entry(0);
    control.control = true;
    let first = Commit { writes: vec![put("a", "1"), add("c", 3, 5)], entries: vec![control], ..nothing(&acme) };
    store.commit(first).await.unwrap();
    let head = store.head(&acme).await.unwrap();
    let facts = store.facts(&acme, "", "", 10).await.unwrap();
    let version = store.fact_now(&acme, "a").unwrap().unwrap().version;

    let changes = Commit {
        now: Timestamp::from_millis(9_000),
        writes: vec![put("b", "1"), Write::Delete { key: "a".into() }],
        entries: vec![entry(1)],
        ..nothing(&acme)
    };
    let refused = [
        (Commit { control_version: Some(0), ..changes.clone() }, Conflict::Control { expected: 0, actual: 1 }),
        (Commit { control_version: Some(2), ..changes.clone() }, Conflict::Control { expected: 2, actual: 1 }),
        (Commit { reads: vec![("a".into(), 0)], ..changes.clone() }, Conflict::Fact { key: "a".into() }),
        (
            Commit { reads: vec![("a".into(), version), ("x".into(), 1)], ..changes.clone() },
            Conflict::Fact { key: "x".into() },
        ),
        (
            Commit { writes: vec![put("b", "1"), add("c", 1, 5), add("c", 2, 5)], ..changes.clone() },
            Conflict::Bound { key: "c".into(), current: 4, max: 5 },
        ),
    ];
    for (commit, conflict) in refused {
        assert_eq!(store.commit(commit).await.unwrap_err(), StoreError::Conflict(conflict));
        assert_eq!(store.head(&acme).await.unwrap(), head);
        assert_eq!(store.facts(&acme, "", "", 10).await.unwrap(), facts);
    }
    let holds = Commit { control_version: Some(1), reads: vec![("a".into(), version), ("x".into(), 0)], ..changes };
    store.commit(holds).await.unwrap();
    assert_eq!(store.fact_now(&acme, "a").unwrap(), None);
}

pub async fn versions_never_come_again(place: &dyn Place) {
    let (store, acme) = with_acme(place).await;
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..5 {
        for write in [put("a", "same"), add("a/n", 1, 100), put("a", "same")] {
            store.commit(Commit { writes: vec![write], ..nothing(&acme) }).await.unwrap();
        }
        for key in ["a", "a/n"] {
            let version = store.fact_now(&acme, key).unwrap().unwrap().version;
            assert!(version > 0 && seen.insert((key, version)), "version {version} of `{key}` again, round {round}");
        }
        for key in ["a", "a/n"] {
            store.commit(Commit { writes: vec![Write::Delete { key: key.into() }], ..nothing(&acme) }).await.unwrap();
            assert_eq!(store.fact_now(&acme, key).unwrap(), None);
        }
    }
}

pub async fn counters_stop_at_their_bound(place: &dyn Place) {
    let (store, acme) = with_acme(place).await;
    let commit = Commit { writes: vec![add("spent", 7, 100)], entries: vec![entry(0)], ..nothing(&acme) };
    let outcomes = at_once(&store, vec![commit; 64]).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 14);
    for outcome in outcomes.iter().filter_map(|o| o.as_ref().err()) {
        assert_eq!(*outcome, Conflict::Bound { key: "spent".into(), current: 98, max: 100 }.into());
    }
    assert_eq!(store.counter_now(&acme, "spent"), Ok(98));
    assert_eq!(check_ledger(&store, &acme).await.len(), 14);
    let less = Commit { writes: vec![add("spent", -98, i64::MAX)], ..nothing(&acme) };
    store.commit(less).await.unwrap();
    assert_eq!(store.counter_now(&acme, "spent"), Ok(0));
    // What is not a number is full.
    store.commit(Commit { writes: vec![put("text", "ten")], ..nothing(&acme) }).await.unwrap();
    let outcome = store.commit(Commit { writes: vec![add("text", 1, 100)], ..nothing(&acme) }).await;
    assert!(matches!(outcome, Err(StoreError::Conflict(Conflict::Bound { .. }))));
}

pub async fn each_commit_of_a_batch_is_judged_alone(place: &dyn Place) {
    let (store, acme) = with_acme(place).await;
    // Every second one relies on a fact that is not there.
    let commits = (0..200).map(|n| Commit {
        reads: vec![(format!("f/{n}").into(), n % 2)],
        writes: vec![put(&format!("f/{n}"), "1")],
        ..appending(&acme, n)
    });
    let outcomes = at_once(&store, commits.collect()).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        if n % 2 == 0 {
            check_proofs(outcome.as_ref().unwrap());
        } else {
            assert_eq!(*outcome.as_ref().unwrap_err(), Conflict::Fact { key: format!("f/{n}").into() }.into());
        }
    }
    // They did go down together: a head that came with a commit has entries of later ones.
    let together = |c: &&Committed| c.head.size > c.first_index + c.leaves.len() as u64;
    assert!(outcomes.iter().flatten().filter(together).count() > 50, "most commits were alone");
    assert_eq!(check_ledger(&store, &acme).await.len(), 100);
    assert_eq!(store.facts(&acme, "f/", "", 500).await.unwrap().len(), 100);
}

pub async fn many_tenants_share_a_batch_and_nothing_else(place: &dyn Place) {
    let store = place.open().await;
    let tenants: Vec<_> = (0..20).map(|n| tenant(&format!("t{n:02}"))).collect();
    for tenant in tenants.iter().rev() {
        store.create_tenant(tenant).await.unwrap();
    }
    assert_eq!(store.tenants().await.unwrap(), tenants);
    // All of them write the same names; in each, one of the ten creates.
    let commits = (0..200).map(|n| Commit {
        reads: vec![("name".into(), 0)],
        writes: vec![put("name", &n.to_string())],
        ..appending(&tenants[n as usize % 20], n)
    });
    let outcomes = at_once(&store, commits.collect()).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 20);
    outcomes.iter().flatten().for_each(check_proofs);
    for tenant in &tenants {
        assert_eq!(check_ledger(&store, tenant).await.len(), 1);
        assert_eq!(store.facts(tenant, "", "", 10).await.unwrap().len(), 1);
    }
}

pub async fn of_a_hundred_racers_one_creates(place: &dyn Place) {
    let (store, acme) = with_acme(place).await;
    let other = place.open().await;
    let racer = |n| Commit { reads: vec![("key".into(), 0)], writes: vec![put("key", "mine")], ..appending(&acme, n) };
    let (here, there) =
        tokio::join!(at_once(&store, (0..50).map(racer).collect()), at_once(&other, (50..100).map(racer).collect()));
    let outcomes: Vec<_> = here.into_iter().chain(there).collect();
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
    for error in outcomes.iter().filter_map(|o| o.as_ref().err()) {
        assert_eq!(*error, Conflict::Fact { key: "key".into() }.into());
    }
    assert_eq!(check_ledger(&store, &acme).await.len(), 1);
}

pub async fn two_writers_on_two_connections_are_fenced(place: &dyn Place) {
    let (one, acme) = with_acme(place).await;
    let two = place.open().await;
    // Each reads the control version and appends a control entry that relies on it, until it has
    // done so forty times: no version may be relied on twice.
    let mut tasks = JoinSet::new();
    for (start, store) in [(0, Arc::clone(&one)), (1_000, two)] {
        let acme = acme.clone();
        tasks.spawn(async move {
            let mut relied_on = Vec::new();
            while relied_on.len() < 40 {
                let version = store.head(&acme).await.unwrap().control_version;
                let mut entry = entry(start + version);
                entry.control = true;
                let commit = Commit { control_version: Some(version), entries: vec![entry], ..nothing(&acme) };
                match store.commit(commit).await {
                    Ok(committed) => {
                        check_proofs(&committed);
                        relied_on.push(version);
                    }
                    Err(StoreError::Conflict(Conflict::Control { expected, actual })) => {
                        assert!(expected == version && actual > version);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            relied_on
        });
    }
    let mut relied_on = tasks.join_all().await.concat();
    relied_on.sort_unstable();
    assert!(relied_on.into_iter().eq(0..80));
    assert_eq!(check_ledger(&one, &acme).await.len(), 80);
    assert_eq!(one.head(&acme).await.unwrap().control_version, 80);
}

pub async fn expired_facts_stay_until_they_are_purged(place: &dyn Place) {
    let (store, acme) = with_acme(place).await;
    let until =
        |key: &str, at| Write::Put { key: key.into(), value: Vec::new(), expires_at: Some(Timestamp::from_millis(at)) };
    let mut writes: Vec<_> = (0..2_500).map(|n| until(&format!("old/{n}"), 2_000)).collect();
    writes.push(until("new", 3_000));
    writes.push(put("kept", ""));
    store.commit(Commit { writes, ..nothing(&acme) }).await.unwrap();
    let late = Commit { now: Timestamp::from_millis(9_000), reads: vec![("old/1".into(), 0)], ..nothing(&acme) };
    assert!(store.commit(late).await.is_err(), "expired, but there");
    assert_eq!(store.purge_expired(Timestamp::from_millis(2_000)).await, Ok(0), "not before its time");
    assert_eq!(store.purge_expired(Timestamp::from_millis(2_001)).await, Ok(2_500));
    let left = store.facts(&acme, "", "", 10).await.unwrap();
    assert_eq!(left.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["kept", "new"]);
}

pub async fn what_is_not_there_or_not_valid_is_refused(place: &dyn Place) {
    let (store, acme) = with_acme(place).await;
    let nobody = tenant("nobody");
    assert_eq!(store.create_tenant(&acme).await, Err(StoreError::TenantExists));
    assert_eq!(store.commit(appending(&nobody, 0)).await.unwrap_err(), StoreError::UnknownTenant);
    assert_eq!(store.head(&nobody).await, Err(StoreError::UnknownTenant));
    assert_eq!(store.fact_now(&nobody, "a"), Err(StoreError::UnknownTenant));
    assert_eq!(store.entries(&nobody, 0, 1).await, Err(StoreError::UnknownTenant));
    for key in [String::new(), "k".repeat(MAX_KEY + 1)] {
        let outcome = store.commit(Commit { writes: vec![put(&key, "")], ..nothing(&acme) }).await;
        assert!(matches!(outcome, Err(StoreError::Invalid(_))));
    }
    let longest = "k".repeat(MAX_KEY);
    store.commit(Commit { writes: vec![put(&longest, "")], ..appending(&acme, 0) }).await.unwrap();
    assert!(store.fact_now(&acme, &longest).unwrap().is_some());
    for (index, size) in [(1, 1), (0, 2), (0, 0), (u64::MAX, u64::MAX)] {
        let outcome = store.inclusion_proof(&acme, index, size).await;
        assert!(matches!(outcome, Err(StoreError::Invalid(_))), "{index} in {size}: {outcome:?}");
    }
    for (from, to) in [(1, 0), (0, 2), (2, 2)] {
        let outcome = store.consistency_proof(&acme, from, to).await;
        assert!(matches!(outcome, Err(StoreError::Invalid(_))), "{from} to {to}: {outcome:?}");
    }
    assert!(matches!(store.root_at(&acme, 2).await, Err(StoreError::Invalid(_))));
    // An answer is owed to the last one although the first was refused.
    check_ledger(&store, &acme).await;
}

pub async fn a_closed_store_takes_nothing_more(place: &dyn Place) {
    let (store, acme) = with_acme(place).await;
    let waiting = at_once(&store, (0..100).map(|n| appending(&acme, n)).collect()).await;
    assert!(waiting.iter().all(Result::is_ok));
    store.close().await.unwrap();
    store.close().await.unwrap();
    assert_eq!(store.commit(appending(&acme, 0)).await.unwrap_err(), StoreError::Closed);
    assert!(!store.health().await.writable);
    drop(store);
    let again = place.open().await;
    assert_eq!(check_ledger(&again, &acme).await.len(), 100);
}
