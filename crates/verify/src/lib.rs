//! Re-execution of a ledger: hashes, tree, checkpoints, fold, every decision, invariants (pure, offline)
