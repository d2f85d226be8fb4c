//! Signed notes and checkpoints: C2SP `signed-note` and `tlog-checkpoint`, Ed25519.
//!
//! A note is text ending in a newline, an empty line, and signature lines `— <name> <base64>`,
//! where the base64 holds a four-byte key id and the signature. A checkpoint's text is the log's
//! origin, the tree size in decimal and the root in base64, one a line.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use intended_model::TenantId;
use sha2::{Digest as _, Sha256};

use crate::tree::NodeHash;

/// Longest note that is read: a checkpoint with dozens of witnesses fits.
pub const MAX_NOTE: usize = 64 * 1024;
/// Most signature lines that are read.
pub const MAX_SIGNATURES: usize = 100;
/// The signature type byte of Ed25519 (C2SP signed-note).
const ED25519_TYPE: u8 = 0x01;
/// The signature type byte of Ed25519 cosignatures (C2SP tlog-cosignature).
const COSIGNATURE_TYPE: u8 = 0x04;

/// Why a note does not stand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error("the note is malformed: {0}")]
    Malformed(&'static str),
    #[error("no signature of `{0}` is on the note")]
    NotSigned(String),
    #[error("the signature of `{0}` is not valid")]
    Signature(String),
    #[error("the verifier key is malformed: {0}")]
    Key(&'static str),
    #[error("the checkpoint is malformed: {0}")]
    Checkpoint(&'static str),
    #[error("the checkpoint is of the log `{0}`")]
    Origin(String),
    #[error("the key cannot sign")]
    Sign,
}

/// The name of a tenant's log, which is also the name of its key.
#[must_use]
pub fn origin(tenant: &TenantId) -> String {
    format!("intended/{tenant}")
}

fn key_id(name: &str, kind: u8, public: &[u8]) -> [u8; 4] {
    let mut hasher = Sha256::new();
    hasher.update(name.as_bytes());
    hasher.update([b'\n', kind]);
    hasher.update(public);
    let digest: [u8; 32] = hasher.finalize().into();
    let [a, b, c, d, ..] = digest;
    [a, b, c, d]
}

fn valid_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+' || c.is_control())
}

/// Signs notes.
pub struct Ed25519NoteSigner {
    name: String,
    id: [u8; 4],
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for Ed25519NoteSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ed25519NoteSigner").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Ed25519NoteSigner {
    /// From a PKCS #8 document.
    pub fn from_pkcs8(name: &str, pkcs8: &[u8]) -> Result<Self, NoteError> {
        if !valid_name(name) {
            return Err(NoteError::Key("the name holds white space or a plus sign"));
        }
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| NoteError::Key("not an Ed25519 key"))?;
        Ok(Self { name: name.to_owned(), id: key_id(name, ED25519_TYPE, pair.public_key().as_ref()), pair })
    }
    /// The verifier key: `<name>+<key id in hex>+<base64 of type and public key>`.
    #[must_use]
    pub fn vkey(&self) -> String {
        let mut public = vec![ED25519_TYPE];
        public.extend_from_slice(self.pair.public_key().as_ref());
        format!("{}+{}+{}", self.name, intended_model::digest::hex(&self.id), STANDARD.encode(public))
    }
    /// The note of `text`, which ends in a newline.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        let mut signature = self.id.to_vec();
        signature.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        format!("{text}\n— {} {}\n", self.name, STANDARD.encode(signature))
    }
}

/// Verifies notes of one key.
#[derive(Debug, Clone)]
pub struct NoteVerifier {
    name: String,
    id: [u8; 4],
    kind: u8,
    public: Vec<u8>,
}

impl NoteVerifier {
    /// Reads a verifier key.
    pub fn parse(vkey: &str) -> Result<Self, NoteError> {
        let mut parts = vkey.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("it has three parts with `+` between"));
        };
        if !valid_name(name) {
            return Err(NoteError::Key("the name is empty or holds white space"));
        }
        let id: [u8; 4] = intended_model::digest::unhex(id)
            .and_then(|b| b.try_into().ok())
            .ok_or(NoteError::Key("the key id is 8 hex digits"))?;
        let key = STANDARD.decode(key).map_err(|_| NoteError::Key("not base64"))?;
        let (kind, public) = key.split_first().ok_or(NoteError::Key("empty"))?;
        if !matches!(*kind, ED25519_TYPE | COSIGNATURE_TYPE) || public.len() != 32 {
            return Err(NoteError::Key("only Ed25519 keys and cosigners are known"));
        }
        if key_id(name, *kind, public) != id {
            return Err(NoteError::Key("the key id does not belong to the key"));
        }
        Ok(Self { name: name.to_owned(), id, kind: *kind, public: public.to_vec() })
    }
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The text of a note with a valid signature of this key. Signatures of other keys are ignored;
    /// a wrong one of this key is an error, also when another line is right.
    pub fn verify<'n>(&self, note: &'n str) -> Result<&'n str, NoteError> {
        let (text, signatures) = split(note)?;
        let mut signed = false;
        for (name, signature) in signatures {
            let Some((id, signature)) = signature.split_first_chunk::<4>() else {
                return Err(NoteError::Malformed("a signature is too short"));
            };
            if name != self.name || *id != self.id {
                continue;
            }
            let valid = match self.kind {
                COSIGNATURE_TYPE => self.cosigned(text, signature),
                _ => UnparsedPublicKey::new(&ED25519, &self.public).verify(text.as_bytes(), signature).is_ok(),
            };
            if !valid {
                return Err(NoteError::Signature(self.name.clone()));
            }
            signed = true;
        }
        if signed { Ok(text) } else { Err(NoteError::NotSigned(self.name.clone())) }
    }
    /// C2SP tlog-cosignature: eight bytes of time, then a signature over a header with that time.
    fn cosigned(&self, text: &str, signature: &[u8]) -> bool {
        let Some((time, signature)) = signature.split_first_chunk::<8>() else { return false };
        let message = format!("cosignature/v1\ntime {}\n{text}", u64::from_be_bytes(*time));
        UnparsedPublicKey::new(&ED25519, &self.public).verify(message.as_bytes(), signature).is_ok()
    }
}

/// Signatures by the name on their line.
type Signatures<'n> = Vec<(&'n str, Vec<u8>)>;

/// Takes a note apart: the text with its final newline, and the signatures by name.
fn split(note: &str) -> Result<(&str, Signatures<'_>), NoteError> {
    if note.len() > MAX_NOTE {
        return Err(NoteError::Malformed("too long"));
    }
    if note.chars().any(|c| c.is_control() && c != '\n') {
        return Err(NoteError::Malformed("a control character"));
    }
    let at = note.rfind("\n\n").ok_or(NoteError::Malformed("no empty line before the signatures"))?;
    let (text, rest) = note.split_at(at + 1);
    let rest = rest.strip_prefix('\n').unwrap_or(rest);
    let lines = rest.strip_suffix('\n').ok_or(NoteError::Malformed("the last line does not end"))?;
    let mut signatures = Vec::new();
    for line in lines.split('\n') {
        let line = line.strip_prefix("— ").ok_or(NoteError::Malformed("a signature line starts with `— `"))?;
        let (name, signature) = line.split_once(' ').ok_or(NoteError::Malformed("a signature line has two parts"))?;
        if !valid_name(name) {
            return Err(NoteError::Malformed("a signature's name"));
        }
        let signature = STANDARD.decode(signature).map_err(|_| NoteError::Malformed("a signature is base64"))?;
        if signature.len() < 5 {
            return Err(NoteError::Malformed("a signature is too short"));
        }
        signatures.push((name, signature));
        if signatures.len() > MAX_SIGNATURES {
            return Err(NoteError::Malformed("too many signatures"));
        }
    }
    Ok((text, signatures))
}

/// A tree head: which log, how many leaves, which root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub origin: String,
    pub size: u64,
    pub root: NodeHash,
}

impl Checkpoint {
    /// The note's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root)
    }
    /// Reads the text; extension lines are accepted and ignored.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let body = text.strip_suffix('\n').ok_or(NoteError::Checkpoint("the last line does not end"))?;
        let mut lines = body.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(NoteError::Checkpoint("it has at least three lines"));
        };
        if origin.is_empty() || lines.any(str::is_empty) {
            return Err(NoteError::Checkpoint("a line is empty"));
        }
        let canonical = size == "0" || !size.starts_with('0');
        if !canonical || size.is_empty() || !size.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NoteError::Checkpoint("the size is a decimal number without leading zeros"));
        }
        Ok(Self {
            origin: origin.to_owned(),
            size: size.parse().map_err(|_| NoteError::Checkpoint("the size is too large"))?,
            root: NodeHash::from_base64(root).ok_or(NoteError::Checkpoint("the root is 32 bytes in base64"))?,
        })
    }
    /// The signed note.
    pub fn sign(&self, signer: &Ed25519NoteSigner) -> Result<String, NoteError> {
        Ok(signer.sign(&self.to_text()))
    }
    /// The checkpoint in a note signed by the log's own key.
    pub fn verified(note: &str, key: &NoteVerifier) -> Result<Self, NoteError> {
        // A witness signs another text than a log does, and says nothing of who wrote the entries.
        if key.kind != ED25519_TYPE {
            return Err(NoteError::Key("a witness's key is not the log's own"));
        }
        let checkpoint = Self::parse(key.verify(note)?)?;
        if checkpoint.origin == key.name() { Ok(checkpoint) } else { Err(NoteError::Origin(checkpoint.origin)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Go `note` package's documentation (public facts: key, text, signature).
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn the_published_note_verifies_and_no_altered_one_does() {
        let key = NoteVerifier::parse(KEY).unwrap();
        assert!(key.verify(NOTE).unwrap().starts_with("If you think"));
        assert!(key.verify(&NOTE.replace("problem,", "problem.")).is_err());
        assert!(key.verify(&NOTE.replace("x08go/ZJ", "x08go/ZK")).is_err());
        assert!(key.verify(NOTE.trim_end()).is_err());
        assert!(matches!(
            key.verify(&NOTE.replace("— PeterNeumann x08g", "— Someone x08g")),
            Err(NoteError::NotSigned(_))
        ));
        assert!(NoteVerifier::parse(&KEY.replace("c74f20a3", "c74f20a4")).is_err());
    }

    fn signer() -> Ed25519NoteSigner {
        let rng = aws_lc_rs::rand::SystemRandom::new();
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&rng).unwrap();
        Ed25519NoteSigner::from_pkcs8("intended/acme", pkcs8.as_ref()).unwrap()
    }

    #[test]
    fn a_checkpoint_is_signed_and_read_back() {
        let signer = signer();
        let key = NoteVerifier::parse(&signer.vkey()).unwrap();
        let checkpoint = Checkpoint { origin: "intended/acme".to_owned(), size: 7, root: crate::leaf_hash(b"x") };
        let note = checkpoint.sign(&signer).unwrap();
        assert_eq!(Checkpoint::verified(&note, &key).unwrap(), checkpoint);
        for (from, to) in [("\n7\n", "\n8\n"), ("\n7\n", "\n07\n"), ("intended/acme\n7", "intended/other\n7")] {
            assert!(Checkpoint::verified(&note.replacen(from, to, 1), &key).is_err());
        }
        let other = Checkpoint { origin: "intended/other".to_owned(), ..checkpoint };
        assert!(matches!(Checkpoint::verified(&other.sign(&signer).unwrap(), &key), Err(NoteError::Origin(_))));
    }

    #[test]
    fn the_key_of_another_log_is_not_accepted() {
        let note = Checkpoint { origin: "intended/acme".to_owned(), size: 1, root: crate::leaf_hash(b"x") }
            .sign(&signer())
            .unwrap();
        let other = NoteVerifier::parse(&signer().vkey()).unwrap();
        assert!(matches!(other.verify(&note), Err(NoteError::NotSigned(_))));
    }
}
