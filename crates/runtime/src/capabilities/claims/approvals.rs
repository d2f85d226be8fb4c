//! Approvals.

use super::{Area, Claim};

pub const QUORUM: Claim = Claim {
    id: "quorum",
    area: Area::Approvals,
    title: "a quorum of different people",
    claim: "What policy escalates is allowed only with its quorum: each person once, and not who asks.",
    probe: "escalates a made-up intent on a copy of the live state, has one person approve it twice, then a second one: only then must it be allowed",
    docs: "docs/approvals.md#who-may-approve",
    tests: &[
        "crates/testkit/tests/it/approvals.rs::an_approved_intent_is_decided_again_and_allowed_once",
        "crates/testkit/tests/it/approving.rs::one_person_counts_once_and_a_service_is_nobody",
        "crates/testkit/tests/it/approving.rs::nobody_approves_their_own_in_any_form",
    ],
};

pub const APPROVERS: Claim = Claim {
    id: "approvers",
    area: Area::Approvals,
    title: "people for what policy escalates",
    claim: "What the deployed policy escalates can be approved by the people whom it asks.",
    probe: "counts, for each quorum that a deployed version asks for, the members of its group who may decide in that environment",
    docs: "docs/approvals.md#who-is-asked",
    tests: &[
        "crates/testkit/tests/it/approving.rs::steps_come_in_their_order_and_any_of_several_groups_will_do",
        "crates/cli/tests/process/approval.rs::a_request_is_read_approved_and_denied_at_the_command_line",
    ],
};

pub const TIMEOUTS: Claim = Claim {
    id: "escalation-timeouts",
    area: Area::Approvals,
    title: "timeouts that deny",
    claim: "What nobody answers in time is denied.",
    probe: "looks through what is open for anything that is past its time and not closed",
    docs: "docs/approvals.md#what-is-approved",
    tests: &[
        "crates/testkit/tests/it/invariants.rs::an_escalation_stays_open_until_its_timeout_which_denies",
        "crates/testkit/tests/it/gates.rs::a_deferral_waits_and_its_timeout_denies",
    ],
};
