//! Inclusion and consistency proofs: RFC 6962 section 2.1.1 and 2.1.2; checking as in RFC 9162
//! sections 2.1.3.2 and 2.1.4.2.

use crate::tree::{BLOCK, BLOCK_LEVEL, NodeHash, empty_root, node_hash};

/// Why a proof does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    #[error("the index is not inside the tree")]
    Index,
    #[error("the sizes are not in order")]
    Sizes,
    #[error("the proof has the wrong length")]
    Length,
    #[error("the proof does not lead to the root")]
    Root,
    #[error("the proof does not lead to the older root")]
    OldRoot,
}

/// Where the nodes of a tree come from.
pub trait Nodes {
    type Error;
    /// The root of the complete 256-leaf block number `index`.
    fn block(&self, index: u64) -> Result<NodeHash, Self::Error>;
    /// The hash of leaf number `index`.
    fn leaf(&self, index: u64) -> Result<NodeHash, Self::Error>;
    /// The root of the perfect subtree of 2^`level` leaves number `index`, `level` above that of
    /// blocks, if it is at hand; without it, it is computed from blocks.
    fn above(&self, level: u8, index: u64) -> Result<Option<NodeHash>, Self::Error> {
        let _ = (level, index);
        Ok(None)
    }
}

/// The root of the perfect subtree of 2^`level` leaves number `index`.
fn perfect<N: Nodes>(nodes: &N, level: u8, index: u64) -> Result<NodeHash, N::Error> {
    if level == 0 {
        return nodes.leaf(index);
    }
    if level == BLOCK_LEVEL {
        return nodes.block(index);
    }
    if level > BLOCK_LEVEL
        && let Some(node) = nodes.above(level, index)?
    {
        return Ok(node);
    }
    Ok(node_hash(perfect(nodes, level - 1, index * 2)?, perfect(nodes, level - 1, index * 2 + 1)?))
}

/// The Merkle tree hash of the leaves `from..to`, where `from` is a multiple of the largest power
/// of two below the range's length.
fn range<N: Nodes>(nodes: &N, from: u64, to: u64) -> Result<NodeHash, N::Error> {
    let n = to - from;
    if n == 0 {
        return Ok(empty_root());
    }
    if n.is_power_of_two() && from.is_multiple_of(n) {
        return perfect(nodes, u8::try_from(n.trailing_zeros()).unwrap_or(63), from / n);
    }
    let k = split(n);
    Ok(node_hash(range(nodes, from, from + k)?, range(nodes, from + k, to)?))
}

/// The largest power of two smaller than `n` (`n` > 1).
const fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// The root of the tree of the first `size` leaves.
pub fn root_of<N: Nodes>(nodes: &N, size: u64) -> Result<NodeHash, N::Error> {
    range(nodes, 0, size)
}

/// The audit path of leaf `index` in the tree of `size` leaves, leaf to root. The caller makes sure
/// that `index < size` and that the tree has `size` leaves.
pub fn inclusion_proof<N: Nodes>(nodes: &N, index: u64, size: u64) -> Result<Vec<NodeHash>, N::Error> {
    let mut proof = Vec::new();
    let (mut from, mut to) = (0, size);
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            proof.push(range(nodes, middle, to)?);
            to = middle;
        } else {
            proof.push(range(nodes, from, middle)?);
            from = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// That the tree of `old` leaves is a prefix of the tree of `new` leaves (`0 < old <= new`).
pub fn consistency_proof<N: Nodes>(nodes: &N, old: u64, new: u64) -> Result<Vec<NodeHash>, N::Error> {
    let mut proof = Vec::new();
    if old == new || old == 0 {
        return Ok(proof);
    }
    let (mut from, mut to, mut whole) = (0, new, true);
    while to != old {
        let middle = from + split(to - from);
        if old <= middle {
            proof.push(range(nodes, middle, to)?);
            to = middle;
        } else {
            proof.push(range(nodes, from, middle)?);
            from = middle;
            whole = false;
        }
    }
    if !whole {
        proof.push(range(nodes, from, to)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks an inclusion proof (RFC 9162 section 2.1.3.2).
pub fn verify_inclusion(
    leaf: NodeHash,
    index: u64,
    size: u64,
    proof: &[NodeHash],
    root: NodeHash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Index);
    }
    let (mut position, mut last, mut node) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if position % 2 == 1 || position == last {
            node = node_hash(*sibling, node);
            while position % 2 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            node = node_hash(node, *sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    if last != 0 {
        Err(ProofError::Length)
    } else if node == root {
        Ok(())
    } else {
        Err(ProofError::Root)
    }
}

/// Checks a consistency proof (RFC 9162 section 2.1.4.2).
pub fn verify_consistency(
    old: u64,
    old_root: NodeHash,
    new: u64,
    new_root: NodeHash,
    proof: &[NodeHash],
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::Sizes);
    }
    if old == new {
        return match (proof.is_empty(), old_root == new_root) {
            (false, _) => Err(ProofError::Length),
            (true, false) => Err(ProofError::Root),
            (true, true) => Ok(()),
        };
    }
    if old == 0 {
        return if !proof.is_empty() {
            Err(ProofError::Length)
        } else if old_root == empty_root() {
            Ok(())
        } else {
            Err(ProofError::OldRoot)
        };
    }
    let mut steps = proof.iter().copied();
    let first = if old.is_power_of_two() { old_root } else { steps.next().ok_or(ProofError::Length)? };
    let (mut position, mut last) = (old - 1, new - 1);
    while position % 2 == 1 {
        position >>= 1;
        last >>= 1;
    }
    let (mut older, mut newer) = (first, first);
    for step in steps {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if position % 2 == 1 || position == last {
            older = node_hash(step, older);
            newer = node_hash(step, newer);
            while position % 2 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            newer = node_hash(newer, step);
        }
        position >>= 1;
        last >>= 1;
    }
    if last != 0 {
        Err(ProofError::Length)
    } else if older != old_root {
        Err(ProofError::OldRoot)
    } else if newer != new_root {
        Err(ProofError::Root)
    } else {
        Ok(())
    }
}

/// Which leaves must be read to compute any node from kept blocks: those of one block.
#[must_use]
pub const fn block_of(index: u64) -> u64 {
    index / BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Frontier, leaf_hash};
    use proptest::prelude::*;

    struct Memory(Vec<NodeHash>);
    impl Nodes for Memory {
        type Error = std::convert::Infallible;
        fn block(&self, index: u64) -> Result<NodeHash, Self::Error> {
            let mut frontier = Frontier::empty();
            let from = usize::try_from(index * BLOCK).unwrap();
            for leaf in &self.0[from..from + usize::try_from(BLOCK).unwrap()] {
                frontier.push(*leaf);
            }
            Ok(frontier.root())
        }
        fn leaf(&self, index: u64) -> Result<NodeHash, Self::Error> {
            Ok(self.0[usize::try_from(index).unwrap()])
        }
    }

    fn memory(n: u64) -> Memory {
        Memory((0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect())
    }
    fn unhex(text: &str) -> NodeHash {
        NodeHash::from_bytes(intended_model::digest::unhex(text).unwrap().try_into().unwrap())
    }

    /// The reference inputs and roots of the Certificate Transparency test vectors.
    #[test]
    fn certificate_transparency_vectors() {
        let inputs =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let leaves: Vec<NodeHash> =
            inputs.iter().map(|i| leaf_hash(&intended_model::digest::unhex(i).unwrap())).collect();
        let mut frontier = Frontier::empty();
        assert_eq!(frontier.root(), unhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
        for (leaf, root) in leaves.iter().zip(roots) {
            frontier.push(*leaf);
            assert_eq!(frontier.root(), unhex(root));
        }
        let nodes = Memory(leaves.clone());
        // Leaf 5 of 8 (0-based): the vector's path.
        let path = inclusion_proof(&nodes, 5, 8).unwrap();
        assert_eq!(
            path,
            [
                unhex("bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"),
                unhex("ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"),
                unhex("d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
            ]
        );
        verify_inclusion(leaves[5], 5, 8, &path, unhex(roots[7])).unwrap();
        // 6 → 8: the vector's consistency proof.
        let proof = consistency_proof(&nodes, 6, 8).unwrap();
        assert_eq!(
            proof,
            [
                unhex("0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"),
                unhex("ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"),
                unhex("d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
            ]
        );
        verify_consistency(6, unhex(roots[5]), 8, unhex(roots[7]), &proof).unwrap();
    }

    fn broken(proof: &[NodeHash]) -> Vec<Vec<NodeHash>> {
        let mut out = Vec::new();
        for i in 0..proof.len() {
            let mut changed = proof.to_vec();
            changed[i] = leaf_hash(b"other");
            out.push(changed);
            let mut shorter = proof.to_vec();
            shorter.remove(i);
            out.push(shorter);
        }
        let mut longer = proof.to_vec();
        longer.push(leaf_hash(b"other"));
        out.push(longer);
        out
    }

    proptest! {
        #[test]
        fn proofs_hold_and_no_altered_one_does(size in 1u64..900, a in any::<u64>(), b in any::<u64>()) {
            let nodes = memory(size);
            let root = root_of(&nodes, size).unwrap();
            let index = a % size;
            let leaf = nodes.leaf(index).unwrap();
            let proof = inclusion_proof(&nodes, index, size).unwrap();
            prop_assert_eq!(verify_inclusion(leaf, index, size, &proof, root), Ok(()));
            for bad in broken(&proof) {
                prop_assert!(verify_inclusion(leaf, index, size, &bad, root).is_err());
            }
            let old = b % size + 1;
            let old_root = root_of(&nodes, old).unwrap();
            let proof = consistency_proof(&nodes, old, size).unwrap();
            prop_assert_eq!(verify_consistency(old, old_root, size, root, &proof), Ok(()));
            for bad in broken(&proof) {
                prop_assert!(verify_consistency(old, old_root, size, root, &bad).is_err());
            }
            prop_assert!(verify_consistency(old, leaf_hash(b"x"), size, root, &proof).is_err());
        }

        /// `ct-merkle` as the oracle.
        #[test]
        fn roots_and_proofs_are_those_of_an_independent_implementation(size in 1usize..300, a in any::<usize>()) {
            let mut oracle = ct_merkle::mem_backed_tree::MemoryBackedTree::<sha2_oracle::Sha256, Vec<u8>>::new();
            for i in 0..size {
                oracle.push((i as u64).to_be_bytes().to_vec());
            }
            let nodes = memory(size as u64);
            let root = root_of(&nodes, size as u64).unwrap();
            let theirs = oracle.root();
            prop_assert_eq!(&root.as_bytes()[..], theirs.as_bytes().as_slice());
            let index = a % size;
            let ours: Vec<u8> = inclusion_proof(&nodes, index as u64, size as u64).unwrap().iter().flat_map(|h| *h.as_bytes()).collect();
            let theirs = oracle.prove_inclusion(index);
            prop_assert_eq!(ours.as_slice(), theirs.as_bytes());
        }
    }
    use sha2 as sha2_oracle;
}
