//! Emergencies.

use super::{Area, Claim};

pub const HALTS: Claim = Claim {
    id: "halt",
    area: Area::Emergency,
    title: "a kill switch without a window",
    claim: "A halt of the tenant, an environment, an agent, a target system, a tool or a category denies what it covers, and nothing else, from its position on.",
    probe: "throws a halt of each scope on a copy of the live state and decides on it what lies under it and beside it",
    docs: "docs/emergency.md#stop-it",
    tests: &[
        "crates/testkit/tests/it/emergency.rs::i2_no_covered_allow_and_no_covered_use_follows_a_halt_of_any_scope_under_full_load",
        "crates/testkit/tests/it/emergency.rs::a_halt_of_each_scope_stops_what_it_covers_kills_its_tokens_for_good_and_nothing_else",
        "crates/cli/tests/process/emergency.rs::a_kill_at_any_point_of_a_halt_leaves_it_thrown_or_not_at_all",
    ],
};

pub const HALTED_TOKENS: Claim = Claim {
    id: "halt-kills-tokens",
    area: Area::Emergency,
    title: "halts kill tokens",
    claim: "A covered token from before a halt is good for nothing, also after the halt is lifted.",
    probe: "asks a copy of the live state about a made-up grant before a halt, under it, and after it",
    docs: "docs/emergency.md#stop-it",
    tests: &[
        "crates/testkit/tests/it/time.rs::a_token_issued_before_a_halt_is_not_accepted_under_it",
        "crates/engine/tests/emergency.rs::what_is_forgotten_of_ten_thousand_halts_stays_dead",
    ],
};

pub const HALT_OFFLINE: Claim = Claim {
    id: "halt-without-api",
    area: Area::Emergency,
    title: "halts with the API down",
    claim: "A halt can be thrown on the data directory while the API is down, and a server that runs takes it in.",
    probe: "takes in what others have written to the store, and compares the control entries that it has with those that the store has",
    docs: "docs/emergency.md#stop-it-when-the-api-is-down",
    tests: &[
        "crates/cli/tests/process/emergency.rs::a_halt_is_thrown_without_the_api",
        "crates/store-sqlite/tests/store.rs::two_writers_find_what_the_other_has_not_folded",
    ],
};

pub const HALT_REACH: Claim = Claim {
    id: "halt-reach",
    area: Area::Emergency,
    title: "somebody who can throw it",
    claim: "In every environment somebody can throw a halt.",
    probe: "counts the members and keys that may throw one in each environment now",
    docs: "docs/emergency.md#try-it-before",
    tests: &["crates/testkit/tests/it/http_edge.rs::nobody_takes_the_kill_switch_from_the_owner"],
};

pub const RESUME: Claim = Claim {
    id: "resume",
    area: Area::Emergency,
    title: "halts lifted by two people",
    claim: "In production a halt is lifted by two people, unless the tenant has said otherwise.",
    probe: "throws a halt on a copy of the live state in each environment that asks for two, and tries to lift it alone, which the fold must refuse",
    docs: "docs/emergency.md#lift-it",
    tests: &["crates/testkit/tests/it/emergency.rs::in_production_a_halt_is_lifted_by_two_people_who_are_two"],
};

pub const BULK_REVOCATION: Claim = Claim {
    id: "bulk-revocation",
    area: Area::Emergency,
    title: "bulk revocation",
    claim: "Tokens are revoked in bulk, and what a revocation means is dead on every path and nothing else is.",
    probe: "revokes all of one made-up agent's tokens on a copy of the live state, and asks about a grant of that agent's and one of another's",
    docs: "docs/emergency.md#revoke-tokens",
    tests: &[
        "crates/testkit/tests/it/emergency.rs::what_a_bulk_revocation_means_is_dead_on_every_path_and_nothing_else_is",
        "crates/cli/tests/process/emergency.rs::tokens_are_revoked_in_bulk_after_they_are_counted",
    ],
};

pub const BREAK_GLASS: Claim = Claim {
    id: "break-glass",
    area: Area::Emergency,
    title: "break-glass credentials",
    claim: "A prepared, signed credential throws one halt, once, when nobody can sign in.",
    probe: "looks for prepared credentials that are neither spent nor expired, and how long they are good",
    docs: "docs/emergency.md#stop-it-when-nobody-can-sign-in",
    tests: &[
        "crates/testkit/tests/it/emergency.rs::a_break_glass_credential_throws_its_halt_once_and_does_nothing_else",
        "crates/cli/tests/process/emergency.rs::a_break_glass_file_can_be_checked_by_who_finds_it_and_halts_over_the_api",
    ],
};

pub const DRILLS: Claim = Claim {
    id: "drills",
    area: Area::Emergency,
    title: "drills that are evidence",
    claim: "Halts, revocations and rollbacks are rehearsed for real outside production, and recorded.",
    probe: "looks at the newest recorded drill of each kind: whether it passed and left everything as it was",
    docs: "docs/emergency.md#try-it-before",
    tests: &[
        "crates/testkit/tests/it/emergency.rs::each_drill_does_its_procedure_for_real_and_leaves_everything_as_it_was",
        "crates/cli/tests/process/emergency.rs::drills_are_held_outside_production_and_recorded",
    ],
};
