//! What a tool does: the Open Intent Layer, the tool catalogue, and the classifier over it.
//!
//! A catalogue is a readable file of tool names and patterns. An exact name beats a pattern, a
//! narrower pattern beats a wider, a tenant's own entry beats a shipped one of the same name or
//! pattern. What matches nothing is unknown and what two patterns disagree on is ambiguous: both
//! have confidence 0 and are never allowed. Names are compared byte for byte: a name that differs
//! in one sign is another tool.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod catalogue;
pub mod oil;
mod pattern;

pub use catalogue::{Catalogue, CatalogueError, INDICATORS, ToolEntry};
pub use oil::domain_of;
pub use pattern::MAX_SUFFIXES;
