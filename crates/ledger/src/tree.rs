//! The Merkle tree of RFC 6962 section 2.1 (RFC 9162 section 2.1.1): SHA-256, leaves prefixed with
//! `0x00`, inner nodes with `0x01`.
//!
//! A growing tree is known by its frontier: the roots of the perfect subtrees that its size in
//! binary names, largest first. It is all that is needed to append and to name the root.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// Level of the subtrees whose roots a store keeps.
pub const BLOCK_LEVEL: u8 = 8;
/// Leaves under one of them: 256. A million entries need 3,906 kept hashes, 125 KB.
pub const BLOCK: u64 = 1 << BLOCK_LEVEL;

/// The hash of a leaf or of a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeHash([u8; 32]);

impl NodeHash {
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
    /// Standard base64 with padding, as in C2SP notes.
    #[must_use]
    pub fn to_base64(&self) -> String {
        self.base64(&mut [0; 44]).to_owned()
    }
    /// The same, not by way of the heap: a receipt has a score of them.
    pub(crate) fn base64<'b>(&self, buffer: &'b mut [u8; 44]) -> &'b str {
        use base64::Engine as _;
        let written = base64::engine::general_purpose::STANDARD.encode_slice(self.0, buffer);
        written.ok().and_then(|len| std::str::from_utf8(buffer.get(..len)?).ok()).unwrap_or_default()
    }
    #[must_use]
    pub fn from_base64(text: &str) -> Option<Self> {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Display for NodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base64(&mut [0; 44]))
    }
}
impl fmt::Debug for NodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The hash of a leaf's bytes.
#[must_use]
pub fn leaf_hash(bytes: &[u8]) -> NodeHash {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(bytes);
    NodeHash(hasher.finalize().into())
}

/// The hash of an inner node.
#[must_use]
pub fn node_hash(left: NodeHash, right: NodeHash) -> NodeHash {
    let mut joined = [0_u8; 65];
    joined[0] = 1;
    let (_, rest) = joined.split_at_mut(1);
    let (a, b) = rest.split_at_mut(32);
    a.copy_from_slice(&left.0);
    b.copy_from_slice(&right.0);
    NodeHash(Sha256::digest(joined).into())
}

/// The root of the empty tree: the hash of nothing.
#[must_use]
pub fn empty_root() -> NodeHash {
    NodeHash(Sha256::digest([]).into())
}

/// The compact range of the first `size` leaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    /// One root for each set bit of `size`, largest subtree first.
    roots: Vec<NodeHash>,
}

/// The bytes are not a frontier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frontier is 8 bytes of size and 32 bytes for each of its set bits")]
pub struct FrontierError;

impl Frontier {
    #[must_use]
    pub const fn empty() -> Self {
        Self { size: 0, roots: Vec::new() }
    }
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }
    /// Builds a frontier from the roots of the perfect subtrees, largest first.
    pub fn new(size: u64, roots: Vec<NodeHash>) -> Result<Self, FrontierError> {
        if roots.len() == usize::try_from(size.count_ones()).unwrap_or(usize::MAX) {
            Ok(Self { size, roots })
        } else {
            Err(FrontierError)
        }
    }
    /// The roots of the perfect subtrees, largest first.
    #[must_use]
    pub fn roots(&self) -> &[NodeHash] {
        &self.roots
    }
    /// Appends a leaf. Returns the root of the 256-leaf block that it completed, if it did.
    pub fn push(&mut self, leaf: NodeHash) -> Option<NodeHash> {
        let mut node = leaf;
        let mut block = None;
        // Each trailing one of the old size is a perfect subtree that the new leaf completes.
        for level in 0..self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                node = node_hash(left, node);
            }
            if level + 1 == u32::from(BLOCK_LEVEL) {
                block = Some(node);
            }
        }
        self.roots.push(node);
        self.size += 1;
        block
    }
    /// The root of the tree (RFC 6962 section 2.1).
    #[must_use]
    pub fn root(&self) -> NodeHash {
        self.roots.iter().rev().copied().reduce(|right, left| node_hash(left, right)).unwrap_or_else(empty_root)
    }
    /// The root of the perfect subtree at `level` that is part of the frontier.
    fn root_at(&self, level: u8) -> Option<NodeHash> {
        let above = self.size.checked_shr(u32::from(level) + 1).unwrap_or(0).count_ones();
        (self.size >> level & 1 == 1).then(|| self.roots.get(usize::try_from(above).ok()?).copied()).flatten()
    }
    /// 8 bytes of size, big-endian, then the roots.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + 32 * self.roots.len());
        out.extend_from_slice(&self.size.to_be_bytes());
        for root in &self.roots {
            out.extend_from_slice(&root.0);
        }
        out
    }
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FrontierError> {
        let (size, rest) = bytes.split_first_chunk::<8>().ok_or(FrontierError)?;
        let (chunks, odd) = rest.as_chunks::<32>();
        if !odd.is_empty() {
            return Err(FrontierError);
        }
        Self::new(u64::from_be_bytes(*size), chunks.iter().map(|c| NodeHash(*c)).collect())
    }
}

/// What appending a batch gives.
#[derive(Debug)]
pub struct Batch {
    pub frontier: Frontier,
    pub root: NodeHash,
    /// For each leaf, its inclusion proof in the tree at the batch's end, leaf to root.
    pub proofs: Vec<Vec<NodeHash>>,
    /// Number and root of each 256-leaf block that the batch completed.
    pub blocks: Vec<(u64, NodeHash)>,
}

/// Appends leaves and proves each of them in the new tree: everything that a proof needs is in the
/// old frontier or in the batch itself.
#[must_use]
pub fn append_batch(before: &Frontier, leaves: &[NodeHash]) -> Batch {
    let mut frontier = before.clone();
    let mut blocks = Vec::new();
    for leaf in leaves {
        if let Some(root) = frontier.push(*leaf) {
            blocks.push((frontier.size / BLOCK - 1, root));
        }
    }
    let start = before.size;
    // The nodes of each level that the batch touches, from index `first` on. Left of them, only
    // roots of the old frontier can be needed.
    let levels = (u64::BITS - frontier.size.leading_zeros()) as usize;
    let mut proofs: Vec<_> = leaves.iter().map(|_| Vec::with_capacity(levels)).collect();
    let mut nodes = Vec::with_capacity(leaves.len() + 1);
    nodes.extend_from_slice(leaves);
    let mut first = start;
    let mut level: u8 = 0;
    while !nodes.is_empty() && (first != 0 || nodes.len() != 1) {
        // A left sibling from before the batch joins, so that pairs are whole.
        if first % 2 == 1 {
            let Some(left) = before.root_at(level) else { break };
            nodes.insert(0, left);
            first -= 1;
        }
        for (leaf, proof) in (start..).zip(&mut proofs) {
            let sibling = (leaf >> level) ^ 1;
            let at = sibling.checked_sub(first).and_then(|i| usize::try_from(i).ok());
            if let Some(node) = at.and_then(|i| nodes.get(i)) {
                proof.push(*node);
            }
        }
        // Above each pair stands a node, in the place of one that has been read.
        let mut pairs = 0;
        while let Some(left) = nodes.get(2 * pairs) {
            // The last node of a level without a sibling is lifted as it is.
            let above = nodes.get(2 * pairs + 1).map_or(*left, |right| node_hash(*left, *right));
            if let Some(place) = nodes.get_mut(pairs) {
                *place = above;
            }
            pairs += 1;
        }
        nodes.truncate(pairs);
        first /= 2;
        level += 1;
    }
    // What everything was paired up to is the root.
    let root = match *nodes.as_slice() {
        [root] if first == 0 => root,
        _ => frontier.root(),
    };
    Batch { frontier, root, proofs, blocks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::verify_inclusion;
    use proptest::prelude::*;

    fn leaves(n: u64, salt: u64) -> Vec<NodeHash> {
        (0..n).map(|i| leaf_hash(&(i ^ salt << 32).to_be_bytes())).collect()
    }

    #[test]
    fn a_frontier_reads_back_from_its_bytes() {
        let mut frontier = Frontier::empty();
        for leaf in leaves(700, 1) {
            frontier.push(leaf);
            assert_eq!(Frontier::from_bytes(&frontier.to_bytes()), Ok(frontier.clone()));
        }
        assert_eq!(Frontier::from_bytes(&[0; 7]), Err(FrontierError));
        assert_eq!(Frontier::from_bytes(&[0; 41]), Err(FrontierError));
    }

    proptest! {
        #[test]
        fn every_leaf_of_a_batch_is_proved_in_the_new_tree(before in 0u64..1200, n in 0u64..600) {
            let mut frontier = Frontier::empty();
            for leaf in leaves(before, 1) {
                frontier.push(leaf);
            }
            let new = leaves(n, 2);
            let batch = append_batch(&frontier, &new);
            prop_assert_eq!((batch.frontier.size(), batch.root), (before + n, batch.frontier.root()));
            for ((i, leaf), proof) in (before..).zip(&new).zip(&batch.proofs) {
                prop_assert!(verify_inclusion(*leaf, i, before + n, proof, batch.root).is_ok(), "leaf {} of {}", i, before + n);
            }
            prop_assert_eq!(u64::try_from(batch.blocks.len()).unwrap(), (before + n) / BLOCK - before / BLOCK);
        }
    }
}
