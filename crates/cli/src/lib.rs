//! The intended binary
