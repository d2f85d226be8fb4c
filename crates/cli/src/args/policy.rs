//! Arguments of `policy` and `incident`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub enum Policy {
    /// Write a new pack that passes its own tests.
    #[command(
        before_help = "Examples:\n  intended policy new support\n  intended policy new packs/support --name support-prod",
        after_help = "Nothing is ever overwritten."
    )]
    New {
        /// The directory to write; it is made if it is not there.
        directory: PathBuf,
        /// The pack's name [default: the directory's].
        #[arg(long)]
        name: Option<String>,
    },
    /// Put policies into the one layout.
    #[command(
        before_help = "Examples:\n  intended policy fmt support\n  intended policy fmt support --check    in CI: a diff, and nothing is written",
        after_help = "Exit code 6 when --check finds a difference, or a file cannot be read as policy."
    )]
    Fmt {
        /// *.cedar files, and directories of them.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Print what would change as a diff, and write nothing.
        #[arg(long)]
        check: bool,
    },
    /// Validate packs: here, or with -e against what the tenant has.
    #[command(
        before_help = "Examples:\n  intended policy validate support\n  intended policy validate support/refunds.cedar\n  intended policy validate support -e production      against the tenant's schema and names\n  intended policy validate --all -e production        everything that stands in the environment",
        after_help = "Exit code 6 when there is an error; with --deny-warnings also when there is a warning."
    )]
    Validate(Validate),
    /// Validate, and show every warning.
    #[command(
        before_help = "Examples:\n  intended policy lint support\n  intended policy lint support --deny-warnings        in CI",
        after_help = "Exit code 6 when there is an error; with --deny-warnings also when there is a warning."
    )]
    Lint(Validate),
    /// The Cedar schema, for editors: what is shipped, or with -e the tenant's.
    #[command(
        before_help = "Examples:\n  intended policy schema > intended.cedarschema\n  intended policy schema -e production > acme.cedarschema"
    )]
    Schema,
    /// Run a pack's tests.
    #[command(
        before_help = "Examples:\n  intended policy test support\n  intended policy test support --filter refund\n  intended policy test support --junit results.xml --threshold 90",
        after_help = "Exit code 7 when a case fails or too few policies are covered, 6 when the pack is not valid."
    )]
    Test {
        /// A pack's directory, or one of its test files.
        path: PathBuf,
        /// Only tests whose file or name has this in it.
        #[arg(long)]
        filter: Option<String>,
        /// Write the results as JUnit XML to this file.
        #[arg(long)]
        junit: Option<PathBuf>,
        /// Policies that must be covered, in percent; the pack's own threshold counts too.
        #[arg(long, value_parser = clap::value_parser!(u8).range(0..=100))]
        threshold: Option<u8>,
    },
    /// How fast a pack decides its own test cases, on one thread.
    #[command(before_help = "Examples:\n  intended policy bench support\n  intended policy bench support --seconds 10")]
    Bench {
        /// A pack's directory.
        path: PathBuf,
        /// How long to measure.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
        seconds: u64,
    },
    /// Where each version stands, and why.
    #[command(
        before_help = "Examples:\n  intended policy list\n  intended policy list -e production --status stale\n  intended policy list -o json"
    )]
    List {
        /// active, draft, submitted, approved, rejected, superseded, stale or orphaned.
        #[arg(long)]
        status: Option<String>,
    },
    /// A version's files, or a draft with its gates and approvals.
    #[command(
        before_help = "Examples:\n  intended policy show support@3f2a1b9c0d12\n  intended policy show 3f2a1b9c0d12\n  intended policy show draft-1a2b3c4d"
    )]
    Show {
        /// PACK@DIGEST, a digest or its beginning, or a draft.
        what: String,
    },
    /// What differs between two versions: the text, and with --decisions what they decide.
    #[command(
        before_help = "Examples:\n  intended policy diff deployed support -e production\n  intended policy diff 3f2a1b9c0d12 77aa01b2c3d4\n  intended policy diff deployed support -e production --decisions"
    )]
    Diff {
        /// A directory, a digest, a draft, or `deployed` (with -e).
        a: String,
        /// The same.
        b: String,
        /// Also what the recorded decisions would have been by A and by B (with -e).
        #[arg(long)]
        decisions: bool,
        /// With --decisions: how far back [default: as the environment says].
        #[arg(long, requires = "decisions")]
        window: Option<String>,
    },
    /// What each policy said of a recorded intent, and what of it did not hold.
    #[command(before_help = "Examples:\n  intended policy explain <intent>")]
    Explain {
        /// The intent's id.
        intent: String,
    },
    /// Make recorded decisions again by another version. Changes nothing.
    #[command(
        before_help = "Examples:\n  intended policy simulate support -e production\n  intended policy simulate support -e production --window 7d --max-blast 5\n  intended policy simulate support -e production --change 1       one change, before and after\n  intended policy simulate support -e production --file ledger.jsonl   no server is asked",
        after_help = "Exit code 6 when more changes than --max-blast allows."
    )]
    Simulate(Simulate),
    /// Measure a draft, and hand it to the people who approve.
    #[command(
        before_help = "Examples:\n  intended policy submit support -e production --title 'refunds up to 100'\n  intended policy submit support -e production --draft draft-1a2b3c4d",
        after_help = "Exit code 6 when the pack is not valid or a gate is not passed."
    )]
    Submit {
        /// A pack's directory.
        directory: PathBuf,
        /// What the change is for; of an edited draft its own, unless there is another.
        #[arg(long, required_unless_present = "draft")]
        title: Option<String>,
        /// Put the content into this draft; what was approved of it is void.
        #[arg(long)]
        draft: Option<String>,
    },
    /// What waits for approval; of one draft all that an approver looks at.
    #[command(before_help = "Examples:\n  intended policy review\n  intended policy review draft-1a2b3c4d")]
    Review {
        /// A draft.
        draft: Option<String>,
    },
    /// Say yes to a draft's content as it is.
    #[command(
        before_help = "Examples:\n  intended policy approve draft-1a2b3c4d --reason 'reviewed with support'\n  intended policy approve draft-1a2b3c4d --reason ok --digest 3f2a1b9c0d12 --yes    in scripts"
    )]
    Approve(Verdict),
    /// Say no to a draft's content as it is.
    #[command(before_help = "Examples:\n  intended policy reject draft-1a2b3c4d --reason 'the limit is too high'")]
    Reject(Verdict),
    /// Deploy an approved draft, or, where no approvals are asked for, a pack's directory.
    #[command(
        before_help = "Examples:\n  intended policy deploy draft-1a2b3c4d -e production\n  intended policy deploy policies/demo -e staging",
        after_help = "Exit code 6 when a gate is not passed; what fails its expected outcomes takes itself back."
    )]
    Deploy {
        /// A draft, or a pack's directory.
        what: String,
    },
    /// Go back to the version before, or to a named one.
    #[command(
        before_help = "Examples:\n  intended policy rollback -e production --reason 'refunds stopped' --confirm production\n  intended policy rollback -e staging --to 3f2a1b9c0d12 --reason drill",
        after_help = "Exit code 3 when a second person must ask for the same."
    )]
    Rollback {
        /// A version that was deployed here before, by its digest or the beginning of it.
        #[arg(long)]
        to: Option<String>,
        /// Why; it is recorded.
        #[arg(long)]
        reason: String,
        /// The environment's name. Without it the name is asked for on the terminal.
        #[arg(long)]
        confirm: Option<String>,
    },
    /// Whether what is deployed is what the source holds; with --window how decisions have shifted.
    #[command(
        before_help = "Examples:\n  intended policy drift support -e production\n  intended policy drift support -e production --git main --report\n  intended policy drift -e production --window 24h      the last day against the day before",
        after_help = "Exit code 6 when the source differs from what is deployed."
    )]
    Drift {
        /// A pack's directory.
        #[arg(required_unless_present = "window")]
        directory: Option<PathBuf>,
        /// The directory as this commit, branch or tag has it.
        #[arg(long, requires = "directory")]
        git: Option<String>,
        /// Tell the server what the source holds, so that drift shows in `policy list`.
        #[arg(long, requires = "directory")]
        report: bool,
        /// Compare the decisions of the last so long with those of as long before.
        #[arg(long, conflicts_with = "directory")]
        window: Option<String>,
    },
}

impl Policy {
    /// Whether it can talk to a server, so that a profile counts.
    pub const fn remote(&self) -> bool {
        !matches!(self, Self::New { .. } | Self::Fmt { .. } | Self::Test { .. } | Self::Bench { .. })
    }
}

#[derive(Args)]
pub struct Validate {
    /// Pack directories, and single *.cedar files.
    #[arg(required_unless_present = "all")]
    pub paths: Vec<PathBuf>,
    /// Everything that is deployed, submitted or approved in the environment (-e).
    #[arg(long, conflicts_with = "paths")]
    pub all: bool,
    /// A warning fails too.
    #[arg(long)]
    pub deny_warnings: bool,
}

#[derive(Args)]
pub struct Simulate {
    /// A pack's directory, a digest, or a draft.
    pub what: String,
    /// How far back [default: as the environment says; of a file all of it].
    #[arg(long)]
    pub window: Option<String>,
    /// Compare with what this version would decide, rather than with what was recorded.
    #[arg(long)]
    pub against: Option<String>,
    /// Take the recorded decisions of this export; no server is asked.
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// Fail when more than this many percent of the decisions change.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub max_blast: Option<u32>,
    /// Open the change with this number.
    #[arg(long, conflicts_with = "intent", value_parser = clap::value_parser!(u64).range(1..))]
    pub change: Option<u64>,
    /// Open the change of this intent.
    #[arg(long)]
    pub intent: Option<String>,
}

/// Percent, to one decimal, as thousandths.
fn percent(text: &str) -> Result<u32, String> {
    let wrong = || "0 to 100, with at most one decimal".to_owned();
    let (whole, tenth) = text.trim_end_matches('%').split_once('.').unwrap_or((text.trim_end_matches('%'), "0"));
    let digits = |t: &str| !t.is_empty() && t.len() <= 3 && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(tenth) || tenth.len() > 1 {
        return Err(wrong());
    }
    let permille = whole.parse::<u32>().ok().zip(tenth.parse::<u32>().ok()).map(|(w, t)| w * 10 + t);
    permille.filter(|p| *p <= 1000).ok_or_else(wrong)
}

#[derive(Args)]
pub struct Verdict {
    /// A draft.
    pub draft: String,
    /// Why; it is recorded.
    #[arg(long)]
    pub reason: String,
    /// Only if its content has this digest, or one that begins so.
    #[arg(long)]
    pub digest: Option<String>,
}

#[derive(Subcommand)]
pub enum Incident {
    /// Open one: the tenant's, or with -e of one environment. A rollback then takes one person.
    #[command(before_help = "Examples:\n  intended incident open -e production --title 'refunds fail'")]
    Open {
        /// What is wrong.
        #[arg(long)]
        title: String,
    },
    /// Those that are open.
    #[command(before_help = "Examples:\n  intended incident list")]
    List,
    /// One, open or closed.
    #[command(before_help = "Examples:\n  intended incident show incident-1a2b3c4d")]
    Show {
        /// Its name, as `incident open` printed it.
        incident: String,
    },
    /// Note what was found or done.
    #[command(
        before_help = "Examples:\n  intended incident note incident-1a2b3c4d 'the gateway retries without end'\n  intended incident note incident-1a2b3c4d - < findings.txt"
    )]
    Note {
        incident: String,
        /// The note, or `-` for stdin.
        text: String,
    },
    /// What happened: halts, breakers, deployments, revocations, keys, notes, spikes of denials.
    #[command(
        before_help = "Examples:\n  intended incident timeline incident-1a2b3c4d\n  intended incident timeline incident-1a2b3c4d --before 6h -o json"
    )]
    Timeline {
        incident: String,
        /// How long before it was opened the timeline begins; at most 24h.
        #[arg(long, default_value = "1h")]
        before: String,
    },
    /// Close one, with a summary of what happened and what was done.
    #[command(
        before_help = "Examples:\n  intended incident close incident-1a2b3c4d --summary 'retries without end; rolled back to 1.4.2'",
        after_help = "Without --summary it is asked for on the terminal."
    )]
    Close {
        /// Its name, as `incident list` has it.
        incident: String,
        /// What happened and what was done; it is recorded.
        #[arg(long, alias = "reason")]
        summary: Option<String>,
    },
    /// Write it as evidence: its timeline, with a proof for each entry, for those who have no access.
    #[command(
        before_help = "Examples:\n  intended incident export incident-1a2b3c4d incident.jsonl && intended incident verify incident.jsonl"
    )]
    Export {
        incident: String,
        /// The file to write.
        file: std::path::PathBuf,
        /// How long before it was opened the timeline begins; at most 24h.
        #[arg(long, default_value = "1h")]
        before: String,
    },
    /// Check an incident's evidence. No server is asked.
    #[command(
        before_help = "Examples:\n  intended incident verify incident.jsonl --vkey acme.vkey",
        after_help = "Exit code 8 when something does not hold."
    )]
    Verify {
        file: std::path::PathBuf,
        /// A file with the ledger's public key as you know it. Without it the file's own is taken.
        #[arg(long)]
        vkey: Option<std::path::PathBuf>,
    },
}

impl Incident {
    /// Whether it talks to a server.
    pub const fn remote(&self) -> bool {
        !matches!(self, Self::Verify { .. })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_percentage_is_read_to_one_decimal() {
        let read = |text| super::percent(text).ok();
        assert_eq!((read("5"), read("2.5"), read("100"), read("0.1%")), (Some(50), Some(25), Some(1000), Some(1)));
        for bad in ["", "-1", "101", "100.1", "1.25", "x", "1.", "."] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
