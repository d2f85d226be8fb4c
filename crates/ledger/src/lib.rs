//! The tenant's ledger as mathematics: leaves, the Merkle tree over them, proofs, signed
//! checkpoints, receipts, exports. Pure: bytes in, bytes out.
//!
//! * [`leaf`]: the envelope whose bytes are hashed
//! * [`tree`]: RFC 6962 hashing and the frontier (compact range) of a growing tree
//! * [`proof`]: inclusion and consistency proofs, made and checked
//! * [`note`]: C2SP signed notes and tlog checkpoints
//! * [`receipt`]: an entry, its proof and a checkpoint
//! * [`export`]: a ledger as JSON lines
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)
)]

pub mod export;
pub mod leaf;
pub mod note;
pub mod proof;
pub mod receipt;
pub mod tree;

pub use export::{ExportHeader, ExportTrailer};
pub use leaf::{Leaf, LeafError, check_canonical, encode_leaf};
pub use note::{Checkpoint, Ed25519NoteSigner, NoteError, NoteVerifier, origin};
pub use proof::{Nodes, ProofError, consistency_proof, inclusion_proof, root_of, verify_consistency, verify_inclusion};
pub use receipt::{Receipt, ReceiptError};
pub use tree::{BLOCK, BLOCK_LEVEL, Batch, Frontier, NodeHash, append_batch, leaf_hash, node_hash};
