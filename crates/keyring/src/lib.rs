//! Signing keys sealed by a root key, and the signers made of them
