//! The names that a tenant has: what policies can speak of besides tools.

use std::collections::{BTreeMap, BTreeSet};

/// What exists, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vocabulary {
    pub agents: BTreeSet<String>,
    pub teams: BTreeSet<String>,
    pub capabilities: BTreeSet<String>,
    /// Groups of members, whom obligations ask.
    pub groups: BTreeSet<String>,
    /// By name, with the tier.
    pub environments: BTreeMap<String, String>,
}

/// What a classification can say; `intents` has the same list, and a test holds them together.
pub(crate) const INDICATORS: &[&str] = &[
    "bulk",
    "code_execution",
    "credential",
    "data_export",
    "destructive",
    "external_communication",
    "financial",
    "irreversible",
    "network_egress",
    "permission_change",
    "personal_data",
    "privileged",
    "production_change",
    "secret_access",
];

#[cfg(test)]
mod tests {
    #[test]
    fn indicators_are_those_of_the_catalogue() {
        assert_eq!(super::INDICATORS, intended_intents::INDICATORS);
    }
}
