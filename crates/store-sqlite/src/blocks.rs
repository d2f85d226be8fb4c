//! The roots of complete blocks, and of the perfect subtrees above them, in memory.
//!
//! They never change, so they are read once: 64 bytes for 256 entries, 250 KB for a million. A proof
//! then takes a few nodes from here and the leaves of one block from the file.

use intended_ledger::{BLOCK, Frontier, NodeHash, node_hash};

/// One tenant's.
#[derive(Debug, Clone, Default)]
pub struct Blocks {
    /// First the blocks, then level by level what is above two of the one below.
    levels: Vec<Vec<NodeHash>>,
}

impl Blocks {
    pub fn len(&self) -> u64 {
        self.levels.first().map_or(0, |blocks| blocks.len() as u64)
    }

    pub fn push(&mut self, block: NodeHash) {
        let mut node = block;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let Some(nodes) = self.levels.get_mut(level) else { return };
            nodes.push(node);
            match nodes.as_chunks::<2>() {
                ([.., [left, right]], []) => node = node_hash(*left, *right),
                _ => return,
            }
        }
    }

    /// The root above 2^`level` blocks, number `index` of its level.
    pub fn root(&self, level: u8, index: u64) -> Option<NodeHash> {
        self.levels.get(usize::from(level))?.get(usize::try_from(index).ok()?).copied()
    }

    /// The frontier of the first `count` blocks.
    pub fn frontier(&self, count: u64) -> Option<Frontier> {
        let set = (0..u8::try_from(u64::BITS).ok()?).rev().filter(|level| count >> level & 1 == 1);
        // The bits above one that is set say how many subtrees of its level come before.
        let roots = set.map(|level| self.root(level, (count >> level) - 1)).collect::<Option<Vec<_>>>()?;
        Frontier::new(count * BLOCK, roots).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use intended_ledger::leaf_hash;

    #[test]
    fn the_frontier_of_blocks_is_that_of_their_leaves() {
        let (mut blocks, mut frontier) = (Blocks::default(), Frontier::empty());
        for block in 0..40_u64 {
            assert_eq!(blocks.frontier(block), Some(frontier.clone()));
            let mut root = None;
            for leaf in 0..BLOCK {
                root = frontier.push(leaf_hash(&(block * BLOCK + leaf).to_be_bytes())).or(root);
            }
            blocks.push(root.unwrap());
        }
        assert_eq!((blocks.len(), blocks.frontier(41)), (40, None));
        assert_eq!(blocks.frontier(23).unwrap().size(), 23 * BLOCK, "also of fewer than there are");
    }
}
