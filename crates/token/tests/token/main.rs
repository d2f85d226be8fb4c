//! Tokens under attack, against published vectors, and in general. What needs shared state (replay)
//! is tested where the state is: `testkit invariants::i4_…`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

mod attacks;
mod fixture;
mod probe;
mod properties;
mod vectors;
