//! What both engines do alike: judge each commit of a batch by itself, in order, against what the
//! earlier ones of the batch have already changed, and lay out what is to be written.
//!
//! Judging reads through [`Facts`] and writes nothing, so a commit that conflicts leaves nothing to
//! undo.

use std::collections::HashMap;
use std::sync::Arc;

use intended_ledger::{Frontier, NodeHash, append_batch, encode_leaf, leaf_hash};
use intended_model::{TenantId, Timestamp};

use crate::{Commit, Committed, Conflict, Fact, MAX_KEY, Result, StoreError, TreeHead, Write};

/// A tenant's head row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    pub frontier: Frontier,
    pub control_version: u64,
    pub last_at: Timestamp,
    /// The version that the next written fact gets; never goes back.
    pub next_version: u64,
}

impl Head {
    #[must_use]
    pub fn tree_head(&self) -> TreeHead {
        TreeHead {
            size: self.frontier.size(),
            root: self.frontier.root(),
            at: self.last_at,
            control_version: self.control_version,
        }
    }
}

/// How far a commit's time may be behind the ledger's: the skew between nodes that is borne.
pub const MAX_LAG_MS: i64 = 10_000;

/// Where the facts of the transaction's snapshot are read.
pub trait Facts {
    fn fact(&mut self, tenant: &TenantId, key: &str) -> Result<Option<Fact>>;
}

/// A fact to write: `None` deletes.
pub type FactRow = (Box<str>, FactValue);

/// Value, version, expiry; `None` is deleted.
pub type FactValue = Option<(Vec<u8>, u64, Option<Timestamp>)>;

/// An entry to write.
#[derive(Debug)]
pub struct EntryRow {
    pub index: u64,
    pub at: Timestamp,
    pub control: bool,
    pub subject: Option<[u8; 16]>,
    pub leaf: Vec<u8>,
}

/// Everything one tenant's part of a batch comes to.
#[derive(Debug)]
pub struct Tenant {
    pub id: TenantId,
    before: Head,
    pub head: Head,
    pub entries: Vec<EntryRow>,
    accepted: bool,
    hashes: Vec<NodeHash>,
    changed: HashMap<Box<str>, FactValue>,
}

/// A commit that was accepted: which entries of its tenant are its own.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    first: usize,
    count: usize,
    index: u64,
    at: Timestamp,
}

/// The facts that judging a commit reads: what an engine that reads ahead has to fetch.
pub fn keys_read(commit: &Commit) -> impl Iterator<Item = &str> {
    let added = commit.writes.iter().filter_map(|write| match write {
        Write::Add { key, .. } => Some(&**key),
        Write::Put { .. } | Write::Delete { .. } => None,
    });
    commit.reads.iter().map(|(key, _)| &**key).chain(added)
}

/// The first name after all names with this prefix, by bytes; `None` if there is no end.
#[must_use]
pub fn prefix_end(prefix: &str) -> Option<String> {
    let mut signs: Vec<char> = prefix.chars().collect();
    while let Some(last) = signs.pop() {
        // `char` skips the surrogates, and UTF-8 sorts as its characters do.
        if let Some(next) = (last..=char::MAX).nth(1) {
            signs.push(next);
            return Some(signs.into_iter().collect());
        }
    }
    None
}

/// A counter's value; anything that is not a counter counts as full.
#[must_use]
pub fn counter(value: &[u8]) -> i64 {
    std::str::from_utf8(value).ok().and_then(|t| t.parse().ok()).unwrap_or(i64::MAX)
}

impl Tenant {
    #[must_use]
    pub fn new(id: TenantId, head: Head) -> Self {
        Self {
            id,
            before: head.clone(),
            head,
            entries: Vec::new(),
            accepted: false,
            hashes: Vec::new(),
            changed: HashMap::new(),
        }
    }

    fn fact<F: Facts>(&self, facts: &mut F, key: &str) -> Result<Option<Fact>> {
        match self.changed.get(key) {
            Some(Some((value, version, _))) => Ok(Some(Fact { value: value.clone(), version: *version })),
            Some(None) => Ok(None),
            None => facts.fact(&self.id, key),
        }
    }

    /// Judges one commit and, if it holds, adds it to the batch.
    pub fn judge<F: Facts>(&mut self, commit: &Commit, facts: &mut F) -> Result<Accepted> {
        if let Some(expected) = commit.control_version
            && expected != self.head.control_version
        {
            return Err(Conflict::Control { expected, actual: self.head.control_version }.into());
        }
        if self.head.last_at.millis_since(commit.now) > MAX_LAG_MS {
            // Recorded as of the head's time it would not be what was decided; and it would be refused
            // by whoever verifies the ledger.
            return Err(Conflict::Late { head: self.head.last_at }.into());
        }
        for (key, version) in &commit.reads {
            let actual = self.fact(facts, key)?.map_or(0, |f| f.version);
            if actual != *version {
                return Err(Conflict::Fact { key: key.clone() }.into());
            }
        }
        // First everything that can refuse, then everything that changes.
        let mut sums: Vec<i64> = Vec::new();
        let mut pending: HashMap<&str, i64> = HashMap::new();
        for write in &commit.writes {
            let (Write::Put { key, .. } | Write::Delete { key } | Write::Add { key, .. }) = write;
            if key.len() > MAX_KEY || key.is_empty() || key.contains('\0') {
                return Err(StoreError::Invalid("a fact's name has 1 to 512 bytes, none of them zero"));
            }
            // What an addition later in the same commit finds.
            let after = match write {
                Write::Put { value, .. } => counter(value),
                Write::Delete { .. } => 0,
                Write::Add { key, n, max, .. } => {
                    let current = match pending.get(&**key) {
                        Some(sum) => *sum,
                        None => self.fact(facts, key)?.map_or(0, |f| counter(&f.value)),
                    };
                    let sum = current.saturating_add(*n);
                    if sum > *max {
                        return Err(Conflict::Bound { key: key.clone(), current, max: *max }.into());
                    }
                    sums.push(sum);
                    sum
                }
            };
            pending.insert(key, after);
        }
        let mut sums = sums.into_iter();
        for write in &commit.writes {
            let version = self.head.next_version;
            let (key, row) = match write {
                Write::Put { key, value, expires_at } => (key, Some((value.clone(), version, *expires_at))),
                Write::Delete { key } => (key, None),
                Write::Add { key, expires_at, .. } => {
                    let sum = sums.next().unwrap_or(i64::MAX);
                    (key, Some((sum.to_string().into_bytes(), version, *expires_at)))
                }
            };
            self.head.next_version += 1;
            self.changed.insert(key.clone(), row);
        }
        let at = commit.now.max(self.head.last_at);
        let size = self.before.frontier.size();
        let first = self.entries.len();
        for entry in &commit.entries {
            let index = size + self.entries.len() as u64;
            let leaf = encode_leaf(&self.id, index, at, &entry.kind, &entry.body);
            self.hashes.push(leaf_hash(&leaf));
            self.head.control_version += u64::from(entry.control);
            self.entries.push(EntryRow { index, at, control: entry.control, subject: entry.subject, leaf });
        }
        self.head.last_at = at;
        self.accepted = true;
        Ok(Accepted { first, count: commit.entries.len(), index: size + first as u64, at })
    }

    /// Extends the tree. What is left to write is the head, the entries, the facts and the blocks.
    pub fn seal(mut self) -> Sealed {
        let batch = append_batch(&self.before.frontier, &self.hashes);
        self.head.frontier = batch.frontier;
        let head = Arc::new(TreeHead {
            size: self.head.frontier.size(),
            root: batch.root,
            at: self.head.last_at,
            control_version: self.head.control_version,
        });
        // In one order for all writers, so that no two that change the same facts wait for each other.
        let mut facts: Vec<FactRow> = self.changed.into_iter().collect();
        facts.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Sealed {
            id: self.id,
            head: self.head,
            tree_head: head,
            accepted: self.accepted,
            entries: self.entries,
            proofs: batch.proofs,
            blocks: batch.blocks,
            facts,
        }
    }
}

/// One tenant's part of a batch, ready to be written.
#[derive(Debug)]
pub struct Sealed {
    pub id: TenantId,
    pub head: Head,
    pub tree_head: Arc<TreeHead>,
    /// Whether any commit was accepted: if not, there is nothing to write, not even the head.
    pub accepted: bool,
    pub entries: Vec<EntryRow>,
    proofs: Vec<Vec<NodeHash>>,
    pub blocks: Vec<(u64, NodeHash)>,
    /// By name.
    pub facts: Vec<FactRow>,
}

impl Sealed {
    /// The answer to an accepted commit, after the batch is durable. Takes the rows out.
    pub fn answer(&mut self, accepted: Accepted) -> Committed {
        let range = accepted.first..accepted.first + accepted.count;
        let leaves = self
            .entries
            .get_mut(range.clone())
            .map(|rows| rows.iter_mut().map(|r| std::mem::take(&mut r.leaf)).collect());
        let proofs = self.proofs.get_mut(range).map(|rows| rows.iter_mut().map(std::mem::take).collect());
        Committed {
            first_index: accepted.index,
            recorded_at: accepted.at,
            head: Arc::clone(&self.tree_head),
            leaves: leaves.unwrap_or_default(),
            proofs: proofs.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NewEntry;
    use proptest::prelude::*;

    type Table = HashMap<Box<str>, Fact>;
    impl Facts for Table {
        fn fact(&mut self, _: &TenantId, key: &str) -> Result<Option<Fact>> {
            Ok(self.get(key).cloned())
        }
    }

    fn tenant() -> TenantId {
        TenantId::new("acme").unwrap()
    }

    fn fresh() -> Head {
        Head { next_version: 1, ..Head::default() }
    }

    fn commit() -> Commit {
        Commit {
            tenant: tenant(),
            now: Timestamp::from_millis(1),
            control_version: None,
            reads: Vec::new(),
            writes: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Judges the commits in batches of `size`; the outcomes and what is left in the end.
    fn run(commits: &[Commit], size: usize) -> (Vec<std::result::Result<u64, StoreError>>, Head, Table) {
        let (mut head, mut table, mut outcomes) = (fresh(), Table::new(), Vec::new());
        for batch in commits.chunks(size) {
            let mut part = Tenant::new(tenant(), head);
            let judged: Vec<_> = batch.iter().map(|c| part.judge(c, &mut table)).collect();
            let mut sealed = part.seal();
            for (key, row) in std::mem::take(&mut sealed.facts) {
                match row {
                    Some((value, version, _)) => table.insert(key, Fact { value, version }),
                    None => table.remove(&key),
                };
            }
            outcomes.extend(judged.into_iter().map(|o| o.map(|a| sealed.answer(a).first_index)));
            head = sealed.head;
        }
        (outcomes, head, table)
    }

    fn any_commit() -> impl Strategy<Value = Commit> {
        let key = || (0_u8..4).prop_map(|k| format!("k/{k}").into_boxed_str());
        let write = prop_oneof![
            (key(), any::<u8>()).prop_map(|(key, v)| Write::Put { key, value: vec![v], expires_at: None }),
            key().prop_map(|key| Write::Delete { key }),
            (key(), -3_i64..6, 0_i64..12).prop_map(|(key, n, max)| Write::Add { key, n, max, expires_at: None }),
        ];
        let entry = any::<bool>().prop_map(|control| NewEntry {
            kind: "test".into(),
            control,
            subject: None,
            body: "{}".into(),
        });
        (
            proptest::option::weighted(0.3, 0_u64..6),
            proptest::collection::vec((key(), 0_u64..6), 0..2),
            proptest::collection::vec(write, 0..4),
            proptest::collection::vec(entry, 0..4),
            0_i64..100,
        )
            .prop_map(|(control_version, reads, writes, entries, now)| Commit {
                control_version,
                reads,
                writes,
                entries,
                now: Timestamp::from_millis(now),
                ..commit()
            })
    }

    proptest! {
        #[test]
        fn how_commits_fall_into_batches_changes_nothing(commits in proptest::collection::vec(any_commit(), 1..40), size in 2_usize..40) {
            let (alone, together) = (run(&commits, 1), run(&commits, size));
            prop_assert_eq!(alone.0, together.0);
            prop_assert_eq!(alone.1, together.1);
            prop_assert_eq!(alone.2, together.2);
        }

        #[test]
        fn a_prefix_ends_after_its_names(prefix in any::<String>(), rest in any::<String>(), other in any::<String>()) {
            let inside = format!("{prefix}{rest}");
            let end = prefix_end(&prefix);
            prop_assert!(end.as_ref().is_none_or(|end| inside < *end));
            let in_range = other >= prefix && end.is_none_or(|end| other < end);
            prop_assert_eq!(in_range, other.starts_with(&prefix));
        }
    }

    #[test]
    fn a_commits_writes_happen_in_their_order() {
        let key: Box<str> = "k".into();
        let writes = vec![
            Write::Put { key: key.clone(), value: b"5".to_vec(), expires_at: None },
            Write::Add { key: key.clone(), n: 2, max: 7, expires_at: None },
            Write::Add { key: key.clone(), n: 1, max: 8, expires_at: None },
        ];
        let (_, _, table) = run(&[Commit { writes, ..commit() }], 1);
        assert_eq!(table.get("k").map(|f| counter(&f.value)), Some(8));
        let writes = vec![
            Write::Put { key: key.clone(), value: b"5".to_vec(), expires_at: None },
            Write::Add { key: key.clone(), n: 1, max: 5, expires_at: None },
        ];
        let (outcomes, head, _) = run(&[Commit { writes, ..commit() }], 1);
        assert_eq!(outcomes, [Err(Conflict::Bound { key, current: 5, max: 5 }.into())]);
        assert_eq!(head, fresh());
    }

    #[test]
    fn what_is_far_behind_the_ledgers_time_is_refused_and_told_the_time() {
        let at = |millis| Commit { now: Timestamp::from_millis(millis), ..commit() };
        let (outcomes, head, _) = run(&[at(50_000), at(50_000 - MAX_LAG_MS), at(50_000 - MAX_LAG_MS - 1)], 1);
        let late = Conflict::Late { head: Timestamp::from_millis(50_000) };
        assert_eq!(outcomes, [Ok(0), Ok(0), Err(late.into())]);
        assert_eq!(head.last_at.as_millis(), 50_000);
    }

    #[test]
    fn facts_are_written_by_name_and_a_part_without_an_accepted_commit_is_known() {
        let puts =
            (0..50).rev().map(|n| Write::Put { key: format!("k/{n:02}").into(), value: vec![], expires_at: None });
        let mut part = Tenant::new(tenant(), fresh());
        part.judge(&Commit { writes: puts.collect(), ..commit() }, &mut Table::new()).unwrap();
        let sealed = part.seal();
        assert!(sealed.accepted && sealed.facts.len() == 50 && sealed.facts.is_sorted_by_key(|(key, _)| key));
        let mut part = Tenant::new(tenant(), fresh());
        part.judge(&Commit { control_version: Some(7), ..commit() }, &mut Table::new()).unwrap_err();
        assert!(!part.seal().accepted);
    }

    #[test]
    fn a_name_without_bytes_or_with_too_many_is_refused() {
        for key in [String::new(), "k".repeat(MAX_KEY + 1), "a\0b".to_owned()] {
            let writes = vec![Write::Delete { key: key.into() }];
            let (outcomes, _, _) = run(&[Commit { writes, ..commit() }], 1);
            assert!(matches!(outcomes.as_slice(), [Err(StoreError::Invalid(_))]));
        }
    }
}
