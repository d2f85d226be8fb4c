//! The tenant's append-only Merkle log: leaves, tree, proofs, checkpoints, receipts, exports (pure)
