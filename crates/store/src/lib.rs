//! The storage contract: commit, facts, entries, head; and its conformance suite
