//! What goes out.

use super::{Area, Claim};

pub const WEBHOOKS: Claim = Claim {
    id: "webhooks",
    area: Area::Webhooks,
    title: "signed webhooks",
    claim: "What happens to approvals is sent, signed, in order and at least once.",
    probe: "signs a message for each webhook without sending it, and looks at how its deliveries stand",
    docs: "docs/webhooks.md#what-is-sent",
    tests: &[
        "crates/testkit/tests/it/webhooks.rs::what_waits_for_people_is_sent_signed_to_who_asked_for_it_and_to_nobody_else",
        "crates/testkit/tests/it/webhooks.rs::a_delivery_that_fails_is_tried_again_later_and_nothing_overtakes_it",
    ],
};

pub const SIEM: Claim = Claim {
    id: "siem",
    area: Area::Siem,
    title: "streaming to a SIEM",
    claim: "Every entry is streamed to the collectors, in order and at least once, from where it stopped.",
    probe: "looks at how far each sink of the tenant has come, and whether it fails or falls behind",
    docs: "docs/siem.md#what-a-receiver-can-rely-on",
    tests: &[
        "crates/testkit/tests/it/siem.rs::every_entry_is_sent_in_order_and_what_is_not_acknowledged_comes_again",
        "crates/cli/tests/process/siem.rs::a_server_that_is_killed_while_it_exports_loses_nothing_and_keeps_the_order",
    ],
};

pub const SIEM_FORMATS: Claim = Claim {
    id: "siem-formats",
    area: Area::Siem,
    title: "OCSF and CEF",
    claim: "Events are OCSF or CEF, and nothing that was written changes what they say.",
    probe: "writes the newest entry in both formats and reads it back: one line each, with the entry's index",
    docs: "docs/siem.md#ocsf",
    tests: &[
        "crates/testkit/tests/it/siem.rs::events_are_of_the_ocsf_classes_that_they_name",
        "crates/testkit/tests/it/siem.rs::cef_escapes_whatever_would_end_a_field_a_line_or_a_value",
    ],
};
