//! The ledger: order, time, proofs, paging, and that nothing acknowledged is lost.

use std::sync::Mutex;

use intended_ledger::{Leaf, verify_consistency};

use super::*;

pub async fn many_writers_lose_nothing(place: &dyn Place) {
    let (store, acme) = with_acme(place).await;
    let mut tasks = JoinSet::new();
    for writer in 0..32 {
        let (store, acme) = (Arc::clone(&store), acme.clone());
        tasks.spawn(async move {
            let mut mine = Vec::new();
            for n in 0..50 {
                let commit = Commit { writes: vec![add("count", 1, i64::MAX)], ..appending(&acme, writer * 50 + n) };
                let committed = store.commit(commit).await.unwrap();
                check_proofs(&committed);
                mine.push((committed.first_index, committed.leaves.concat()));
            }
            assert!(mine.is_sorted(), "a writer's commits keep their order");
            mine
        });
    }
    let mut acknowledged = tasks.join_all().await.concat();
    acknowledged.sort_unstable();
    let stored = check_ledger(&store, &acme).await;
    assert!(stored.into_iter().map(|e| (e.index, e.leaf)).eq(acknowledged));
    assert_eq!(store.counter_now(&acme, "count"), Ok(1_600));
}

pub async fn time_never_goes_backwards(place: &dyn Place) {
    let (store, acme) = with_acme(place).await;
    let at = |now| Commit { now: Timestamp::from_millis(now), ..appending(&acme, 0) };
    for (now, recorded) in [(5_000, 5_000), (4_000, 5_000), (5_001, 5_001), (0, 5_001)] {
        let committed = store.commit(at(now)).await.unwrap();
        assert_eq!((committed.recorded_at.as_millis(), committed.head.at.as_millis()), (recorded, recorded));
        let stored = store.entry(&acme, committed.first_index).await.unwrap().unwrap();
        assert_eq!(stored.at, committed.recorded_at);
        assert_eq!(Leaf::parse(&stored.leaf).unwrap().at, committed.recorded_at);
    }
    drop(store);
    let store = place.open().await;
    assert_eq!(store.commit(at(1)).await.unwrap().recorded_at.as_millis(), 5_001, "nor after opening again");
    let outcomes = at_once(&store, (0..100).map(|n| at(5_000 + n * 7_919 % 100)).collect()).await;
    assert!(outcomes.iter().all(Result::is_ok));
    check_ledger(&store, &acme).await;
}

pub async fn proofs_lead_to_the_root_of_every_size(place: &dyn Place) {
    let (store, acme) = with_acme(place).await;
    // Heads of many sizes, among them whole blocks of 256 and their neighbours.
    let mut heads = vec![store.head(&acme).await.unwrap()];
    let mut n = 0;
    for step in [1, 1, 1, 4, 93, 155, 1, 1, 254, 1, 2, 200, 54, 1] {
        let commit = Commit { entries: (n..n + step).map(entry).collect(), ..nothing(&acme) };
        let committed = store.commit(commit).await.unwrap();
        check_proofs(&committed);
        heads.push((*committed.head).clone());
        n += step;
    }
    let entries = check_ledger(&store, &acme).await;
    for head in &heads {
        assert_eq!(store.root_at(&acme, head.size).await, Ok(head.root), "root of {}", head.size);
        for index in [0, 1, head.size / 2, head.size.saturating_sub(2), head.size.saturating_sub(1)] {
            if index < head.size {
                let proof = store.inclusion_proof(&acme, index, head.size).await.unwrap();
                let leaf = leaf_hash(&entries[index as usize].leaf);
                verify_inclusion(leaf, index, head.size, &proof, head.root).unwrap();
            }
        }
        for older in heads.iter().filter(|older| older.size <= head.size) {
            let proof = store.consistency_proof(&acme, older.size, head.size).await.unwrap();
            verify_consistency(older.size, older.root, head.size, head.root, &proof).unwrap();
        }
    }
}

pub async fn pages_hold_what_was_asked_for(place: &dyn Place) {
    let (store, acme) = with_acme(place).await;
    let other = tenant("zeta");
    store.create_tenant(&other).await.unwrap();
    let subject = |n: u64| u128::from(n).to_be_bytes();
    for n in 0..30 {
        let entry = NewEntry { control: n % 10 == 3, subject: (n % 3 == 0).then(|| subject(n % 2)), ..entry(n) };
        for tenant in [&acme, &other] {
            let writes = vec![put(&format!("a/{n:02}"), &n.to_string())];
            store.commit(Commit { writes, entries: vec![entry.clone()], ..nothing(tenant) }).await.unwrap();
        }
    }
    let other_words = vec![put("a", ""), put("a0", ""), put("a/é", ""), put("a/\u{10ffff}", ""), put("b/01", "")];
    store.commit(Commit { writes: other_words, ..nothing(&acme) }).await.unwrap();

    let indexes = |page: Result<Vec<crate::StoredEntry>>| page.unwrap().iter().map(|e| e.index).collect::<Vec<_>>();
    assert_eq!(indexes(store.entries(&acme, 27, 10).await), [27, 28, 29]);
    assert_eq!(indexes(store.entries(&acme, 4, 2).await), [4, 5]);
    assert_eq!(indexes(store.entries(&acme, 30, 2).await), [0_u64; 0]);
    assert_eq!(indexes(store.entries_before(&acme, u64::MAX, 2).await), [29, 28]);
    assert_eq!(indexes(store.entries_before(&acme, 2, 10).await), [1, 0]);
    assert_eq!(indexes(store.entries_before(&other, 0, 10).await), [0_u64; 0]);
    assert_eq!(indexes(store.control_entries(&acme, 0, 10).await), [3, 13, 23]);
    assert_eq!(indexes(store.control_entries(&acme, 4, 1).await), [13]);
    assert_eq!(indexes(store.entries_of(&acme, subject(1)).await), [3, 9, 15, 21, 27]);
    assert_eq!(indexes(store.entries_of(&acme, subject(7)).await), [0_u64; 0]);

    let names =
        |page: Result<Vec<(String, crate::Fact)>>| page.unwrap().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(names(store.facts(&acme, "a/", "", 2).await), ["a/00", "a/01"]);
    assert_eq!(names(store.facts(&acme, "a/", "a/28", 9).await), ["a/29", "a/é", "a/\u{10ffff}"]);
    assert_eq!(names(store.facts(&acme, "a/1", "", 99).await).len(), 10);
    assert_eq!(names(store.facts(&acme, "b/", "", 9).await), ["b/01"]);
    assert_eq!(names(store.facts(&acme, "", "", 99).await).len(), 35);
    assert_eq!(names(store.facts(&other, "", "", 99).await).len(), 30);
}

pub async fn what_was_acknowledged_is_there_when_the_store_is_let_go_amid_commits(place: &dyn Place) {
    const WRITERS: u64 = 8;
    let acme = tenant("acme");
    place.open().await.create_tenant(&acme).await.unwrap();
    let mut acknowledged = BTreeMap::new();
    for round in 0..10 {
        let store = place.open().await;
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let (store, acme, told) = (Arc::clone(&store), acme.clone(), Arc::clone(&told));
            tasks.spawn(async move {
                for n in 0.. {
                    let body = (round * WRITERS + writer) * 1_000_000 + n;
                    let commit = Commit { writes: vec![add("count", 1, i64::MAX)], ..appending(&acme, body) };
                    let committed = store.commit(commit).await.unwrap();
                    told.lock().unwrap().push((committed.first_index, committed.leaves.concat()));
                }
            });
        }
        while told.lock().unwrap().len() < 160 {
            assert!(tasks.try_join_next().is_none(), "a writer ended");
            tokio::task::yield_now().await;
        }
        // A task can only be stopped where it waits, and these wait for nothing but their commit: each
        // leaves one behind that has been handed over and not answered.
        tasks.abort_all();
        while let Some(ended) = tasks.join_next().await {
            assert!(ended.unwrap_err().is_cancelled());
        }
        // Nobody else has it, and nothing is closed.
        assert_eq!(Arc::strong_count(&store), 1);
        drop(store);
        acknowledged.extend(Arc::into_inner(told).unwrap().into_inner().unwrap());

        let store = place.open().await;
        settle(&store, &acme).await;
        let stored = check_ledger(&store, &acme).await;
        for (index, leaf) in &acknowledged {
            assert_eq!(stored[*index as usize].leaf, *leaf, "entry {index}, acknowledged by round {round}");
        }
        // Of a commit that nobody was told of, everything is there or nothing.
        assert_eq!(store.counter_now(&acme, "count"), Ok(stored.len() as i64), "round {round}");
        assert!(stored.len() as u64 <= acknowledged.len() as u64 + (round + 1) * WRITERS, "one of each writer");
    }
}
