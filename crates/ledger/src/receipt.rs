//! A receipt: one entry, the proof that it is in the tree, and the signed checkpoint of the tree.
//! Whoever holds it can prove, without asking anybody, that the ledger contains the entry.

use intended_model::json::compact::{self, WriteError};
use intended_model::{TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::leaf::{Leaf, LeafError};
use crate::note::{Checkpoint, NoteError, NoteVerifier, origin};
use crate::proof::{ProofError, verify_inclusion};
use crate::tree::{NodeHash, leaf_hash};

/// The receipt as it is handed out. `v` is 1.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Receipt {
    /// The signed note.
    pub checkpoint: String,
    /// The leaf; its canonical form is what is hashed.
    pub entry: Box<RawValue>,
    pub index: u64,
    /// Base64, leaf to root.
    pub proof: Vec<String>,
    pub v: u32,
}

/// Why a receipt does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    #[error("the version {0} is unknown")]
    Version(u32),
    #[error(transparent)]
    Leaf(#[from] LeafError),
    #[error("the entry says it is number {leaf}, the receipt says {receipt}")]
    Index { leaf: u64, receipt: u64 },
    #[error("a proof step is not 32 bytes in base64")]
    Step,
    #[error(transparent)]
    Proof(#[from] ProofError),
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// What a receipt proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proved {
    pub tenant: String,
    pub kind: String,
    pub index: u64,
    pub at: Timestamp,
    pub size: u64,
    pub root: NodeHash,
    /// The entry's body, canonical JSON.
    pub body: String,
}

impl Receipt {
    /// Puts a receipt together from what the ledger gave.
    pub fn new(leaf: &[u8], index: u64, proof: &[NodeHash], checkpoint: &str) -> Result<Self, ReceiptError> {
        let text = std::str::from_utf8(leaf).map_err(|_| LeafError::Utf8)?;
        let entry = RawValue::from_string(text.to_owned()).map_err(|_| LeafError::Shape("entry"))?;
        let proof = proof.iter().map(NodeHash::to_base64).collect();
        Ok(Self { checkpoint: checkpoint.to_owned(), entry, index, proof, v: 1 })
    }

    /// Writes what [`Self::new`] would be as JSON. The leaf is one that the ledger gave: it is canonical
    /// JSON, which [`Self::new`] would read once more, and is two thirds of the answer to a decision.
    pub fn write(
        out: &mut Vec<u8>,
        leaf: &[u8],
        index: u64,
        proof: &[NodeHash],
        checkpoint: &str,
    ) -> Result<(), WriteError> {
        out.extend_from_slice(b"{\"checkpoint\":");
        out.extend_from_slice(compact::to_string(checkpoint, checkpoint.len() + 16)?.as_bytes());
        out.extend_from_slice(b",\"entry\":");
        out.extend_from_slice(leaf);
        out.extend_from_slice(b",\"index\":");
        out.extend_from_slice(index.to_string().as_bytes());
        out.extend_from_slice(b",\"proof\":[");
        for (n, step) in proof.iter().enumerate() {
            out.extend_from_slice(if n > 0 { b",\"" } else { b"\"" });
            // Base64 has nothing to escape.
            out.extend_from_slice(step.base64(&mut [0; 44]).as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b"],\"v\":1}");
        Ok(())
    }

    /// Checks the receipt against the ledger's public key. White space that something on the way
    /// put into the entry does no harm: the canonical form is hashed.
    pub fn verify(&self, vkey: &str) -> Result<Proved, ReceiptError> {
        if self.v != 1 {
            return Err(ReceiptError::Version(self.v));
        }
        let key = NoteVerifier::parse(vkey)?;
        let checkpoint = Checkpoint::verified(&self.checkpoint, &key)?;
        let value = intended_model::json::parse_recorded(self.entry.get().as_bytes())
            .map_err(|e| LeafError::NotCanonical(e.to_string()))?;
        let canonical = value.to_canonical();
        let leaf = Leaf::parse(canonical.as_bytes())?;
        if leaf.index != self.index {
            return Err(ReceiptError::Index { leaf: leaf.index, receipt: self.index });
        }
        let tenant = TenantId::new(leaf.tenant).map_err(|_| LeafError::Shape("tenant"))?;
        if origin(&tenant) != key.name() {
            return Err(NoteError::Origin(origin(&tenant)).into());
        }
        let steps = self
            .proof
            .iter()
            .map(|s| NodeHash::from_base64(s).ok_or(ReceiptError::Step))
            .collect::<Result<Vec<_>, _>>()?;
        verify_inclusion(leaf_hash(canonical.as_bytes()), leaf.index, checkpoint.size, &steps, checkpoint.root)?;
        Ok(Proved {
            tenant: leaf.tenant.to_owned(),
            kind: leaf.kind.to_owned(),
            index: leaf.index,
            at: leaf.at,
            size: checkpoint.size,
            root: checkpoint.root,
            body: leaf.body.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ed25519NoteSigner, Frontier, append_batch, encode_leaf};

    #[test]
    fn a_receipt_holds_until_anything_in_it_is_changed() {
        let tenant = TenantId::new("acme").unwrap();
        let rng = aws_lc_rs::rand::SystemRandom::new();
        let pkcs8 = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&rng).unwrap();
        let signer = Ed25519NoteSigner::from_pkcs8(&origin(&tenant), pkcs8.as_ref()).unwrap();
        let leaves: Vec<Vec<u8>> = (0..5)
            .map(|i| encode_leaf(&tenant, i, Timestamp::from_millis(9), "decision", r#"{"amount":40}"#))
            .collect();
        let hashes: Vec<NodeHash> = leaves.iter().map(|l| leaf_hash(l)).collect();
        let batch = append_batch(&Frontier::empty(), &hashes);
        let note = Checkpoint { origin: origin(&tenant), size: 5, root: batch.root }.sign(&signer).unwrap();
        let receipt = Receipt::new(&leaves[3], 3, &batch.proofs[3], &note).unwrap();
        for proof in [&batch.proofs[3][..], &batch.proofs[3][..1], &[]] {
            let mut written = Vec::new();
            Receipt::write(&mut written, &leaves[3], 3, proof, &note).unwrap();
            let made = Receipt::new(&leaves[3], 3, proof, &note).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), serde_json::to_string(&made).unwrap());
        }
        assert_eq!(receipt.verify(&signer.vkey()).unwrap().index, 3);
        let text = serde_json::to_string(&receipt).unwrap();
        let again: Receipt = serde_json::from_str(&text.replace(r#"{"amount":40}"#, r#"{ "amount" : 40 }"#)).unwrap();
        assert!(again.verify(&signer.vkey()).is_ok(), "white space does no harm");
        for (from, to) in [
            ("\"amount\":40", "\"amount\":41"),
            ("\"index\":3,\"kind\"", "\"index\":2,\"kind\""),
            ("\"at\":9", "\"at\":8"),
            ("acme", "evil"),
        ] {
            let bad: Receipt = serde_json::from_str(&text.replace(from, to)).unwrap();
            assert!(bad.verify(&signer.vkey()).is_err(), "{from} -> {to}");
        }
    }
}
