//! Policy.

use super::{Area, Claim};

pub const DEPLOYED: Claim = Claim {
    id: "policy-deployed",
    area: Area::Policy,
    title: "Cedar policy for each environment",
    claim: "Each environment decides by a policy version that was deployed to it, and denies everything without one.",
    probe: "looks at what each environment decides by: whether there is a version, whether all that it names still exists, and whether it does what it is expected to",
    docs: "docs/policy.md#from-a-directory-to-a-decision",
    tests: &[
        "crates/testkit/tests/it/lifecycle.rs::a_draft_is_submitted_approved_by_two_and_decides_from_its_deployments_position_on",
        "crates/testkit/tests/it/lifecycle.rs::a_version_that_names_what_is_gone_is_stale_and_helps_nothing_through",
    ],
};

pub const INDEX: Claim = Claim {
    id: "policy-index",
    area: Area::Policy,
    title: "an index with the answer of the whole set",
    claim: "Only the policies whose scope can match are evaluated, with the answer that Cedar gives of the whole set.",
    probe: "asks each deployed version about recorded and made-up intents twice, by the index and with Cedar's own authorizer over every policy, and compares",
    docs: "ARCHITECTURE.md#invariants-and-the-test-that-holds-each",
    tests: &[
        "crates/policy/tests/policy/index.rs::the_index_says_what_cedar_says_of_the_whole_set",
        "crates/policy/tests/policy/independent.rs::the_index_says_what_an_independent_reading_says",
    ],
};

pub const TESTS: Claim = Claim {
    id: "policy-tests",
    area: Area::Policy,
    title: "packs with their own tests",
    claim: "A pack brings its tests, and they are run before it decides.",
    probe: "runs the tests of each deployed version again, on the whole decision procedure",
    docs: "docs/policy.md#tests",
    tests: &[
        "crates/testkit/tests/it/lifecycle.rs::each_gate_stops_what_it_is_there_for",
        "crates/rehearse/tests/rehearse.rs::a_new_pack_passes_its_tests_and_covers_all_its_policies",
    ],
};

pub const LIFECYCLE: Claim = Claim {
    id: "policy-approval",
    area: Area::Policy,
    title: "policy changed by people who approve exactly its content",
    claim: "Where an environment asks for approvals, no version is deployed without its quorum.",
    probe: "tries to deploy without a draft on a copy of the live state whose environments ask for approvals; the fold must refuse it",
    docs: "docs/policy.md#from-a-directory-to-a-decision",
    tests: &[
        "crates/testkit/tests/it/lifecycle.rs::a_deployment_without_its_quorum_is_found_in_the_ledger",
        "crates/testkit/tests/it/lifecycle.rs::nobody_approves_their_own_in_any_form",
    ],
};

pub const ROLLBACK: Claim = Claim {
    id: "policy-rollback",
    area: Area::Policy,
    title: "the way back",
    claim: "An environment can be taken back to the version before.",
    probe: "takes each environment that has a version before back to it, as one person and on a copy of the live state: it must decide by that version, or ask for the second person that its settings ask for",
    docs: "docs/policy.md#from-a-directory-to-a-decision",
    tests: &[
        "crates/testkit/tests/it/lifecycle.rs::a_rollback_in_production_takes_two_people_unless_an_incident_is_open",
        "crates/testkit/tests/it/lifecycle.rs::a_version_that_does_other_than_expected_is_taken_back_by_itself",
    ],
};
