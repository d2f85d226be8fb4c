//! What a tool does: the Open Intent Layer, the tool catalogue, and the classifier over it.
//!
//! A catalogue is a readable file of tool names and patterns. An exact name beats a pattern, a
//! longer pattern beats a shorter, a tenant's own entry beats a shipped one of the same name. What
//! matches nothing is unknown, with confidence 0, and is never allowed. Names are compared byte for
//! byte: a name that differs in one sign is another tool.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod catalogue;
pub mod oil;

pub use catalogue::{Catalogue, CatalogueError, INDICATORS, ToolEntry};
pub use oil::domain_of;
