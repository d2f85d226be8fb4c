//! The ledger.

use super::{Area, Claim};

pub const INCLUSION: Claim = Claim {
    id: "inclusion",
    area: Area::Ledger,
    title: "inclusion proofs",
    claim: "Every entry is in a Merkle tree whose head is signed, and can be proved to be.",
    probe: "proves the newest entries against a checkpoint and its signature",
    docs: "docs/ledger.md",
    tests: &[
        "crates/testkit/tests/it/tampering.rs::one_flipped_bit_anywhere_is_found",
        "crates/ledger/src/proof.rs::proofs_hold_and_no_altered_one_does",
    ],
};

pub const CONSISTENCY: Claim = Claim {
    id: "consistency",
    area: Area::Ledger,
    title: "consistency with every kept checkpoint",
    claim: "The ledger only grows: every checkpoint is consistent with all earlier ones.",
    probe: "proves that the newest kept checkpoint is a beginning of the ledger as it is now",
    docs: "docs/ledger.md",
    tests: &[
        "crates/testkit/tests/it/tampering.rs::two_checkpoints_of_one_size_and_a_foreign_key_are_found",
        "crates/testkit/tests/it/rollback.rs::a_ledger_cut_back_to_an_old_checkpoint_of_its_own_is_found_by_a_kept_one",
    ],
};

pub const RECEIPTS: Claim = Claim {
    id: "receipts",
    area: Area::Ledger,
    title: "receipts",
    claim: "Whoever holds a receipt can prove, without asking anybody, that the ledger contains the entry.",
    probe: "makes a receipt for the newest entry, verifies it with the ledger's public key, and sees an altered one refused",
    docs: "docs/ledger.md",
    tests: &["crates/ledger/src/receipt.rs::a_receipt_holds_until_anything_in_it_is_changed"],
};

pub const REPLAY: Claim = Claim {
    id: "replay",
    area: Area::Ledger,
    title: "every decision re-executes",
    claim: "Every recorded decision is made again, byte for byte, on the state of its position.",
    probe: "decides the newest recorded intent again and compares the bytes",
    docs: "docs/investigate.md#again-elsewhere",
    tests: &[
        "crates/testkit/tests/it/invariants.rs::i3_every_decision_re_executes_also_after_policy_and_settings_changed",
        "crates/testkit/tests/it/golden.rs::the_ledger_of_each_procedure_is_still_re_executed",
    ],
};

pub const OFFLINE_VERIFY: Claim = Claim {
    id: "offline-verify",
    area: Area::Ledger,
    title: "offline verification of the whole ledger",
    claim: "`intended verify` decides every recorded intent of an export again, offline, and names the first entry that differs.",
    probe: "gives the beginning of an export to the verifier, and reports the last verification of the whole ledger",
    docs: "docs/ledger.md",
    tests: &[
        "crates/cli/tests/process/cli.rs::an_export_is_verified_alone",
        "crates/testkit/tests/it/tampering.rs::an_untouched_ledger_holds_and_so_does_a_rebuilt_one",
        "crates/testkit/tests/it/watching.rs::the_ledger_is_verified_in_the_background_and_what_fails_is_named",
    ],
};
