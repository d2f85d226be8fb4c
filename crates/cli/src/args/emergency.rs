//! `intended emergency`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Subcommand)]
pub enum Emergency {
    /// What is halted: who, why, since when, what it covers, who must lift it.
    #[command(
        before_help = "Examples:\n  intended emergency status\n  intended emergency status -o json",
        after_help = "Exit code 9 when something is halted."
    )]
    Status,
    /// Throw a halt: the tenant, an environment, an agent, a target system, a tool or a category.
    #[command(
        before_help = "Examples:\n  intended emergency halt --scope environment=production --reason 'agent loops' --confirm production\n  intended emergency halt --scope agent=support-agent -e production --reason 'it loops' --confirm support-agent\n  intended emergency halt --scope 'tool=stripe.*' --reason 'double refunds' --confirm 'stripe.*'\n  intended emergency halt --scope tenant --reason 'credential leak' --confirm acme\n  intended emergency halt --glass glass.json --reason 'nobody can sign in' --confirm production\n  intended emergency halt --data-dir ./data --scope tenant --reason 'the API hangs' --confirm acme",
        after_help = "When it returns, nothing that it covers can be allowed any more, and no token from before is good for it."
    )]
    Halt(Halt),
    /// Lift a halt. In production that takes two people: both give this command.
    #[command(
        before_help = "Examples:\n  intended emergency resume halt-1a2b3c4d --reason fixed --confirm halt-1a2b3c4d",
        after_help = "Exit code 3 when it waits for a second person."
    )]
    Resume {
        halt: String,
        #[arg(long)]
        reason: String,
        /// The halt's name again. Without it the name is asked for on the terminal.
        #[arg(long)]
        confirm: Option<String>,
    },
    /// Revoke tokens in bulk: all that is given must fit. --dry-run counts.
    #[command(
        before_help = "Examples:\n  intended emergency revoke --agent support-agent --dry-run\n  intended emergency revoke --agent support-agent --reason 'prompt injection' --confirm support-agent\n  intended emergency revoke --credential ci-key --from 2h --reason 'leaked' --confirm ci-key"
    )]
    Revoke(Revoke),
    /// Make a break-glass file: a credential that can throw one halt, once, and do nothing else.
    #[command(
        before_help = "Examples:\n  intended emergency prepare --scope environment=production --expires 90d --out glass.json",
        after_help = "Keep the file where the server's trouble does not reach. Whoever has it can throw that halt."
    )]
    Prepare {
        /// tenant, environment=…, agent=…, connector=…, tool=… or category=…
        #[arg(long)]
        scope: Option<String>,
        /// For how long it is good (90d), at most 400 days.
        #[arg(long, default_value = "90d")]
        expires: String,
        /// The file to write (mode 0600).
        #[arg(long)]
        out: PathBuf,
    },
    /// What a break-glass file is for, and whether it is genuine. No server is asked.
    #[command(
        before_help = "Examples:\n  intended emergency inspect glass.json --vkey acme.vkey",
        after_help = "Exit code 8 when it is not genuine or has expired."
    )]
    Inspect {
        file: PathBuf,
        /// A file with the ledger's public key as you know it. Without it the file's own word is taken.
        #[arg(long)]
        vkey: Option<PathBuf>,
    },
    /// Try a procedure for real, on traffic of its own, outside production, and record it.
    #[command(
        before_help = "Examples:\n  intended emergency drill halt -e staging\n  intended emergency drill revoke -e staging --intent allowed.json\n  intended emergency drill rollback -e staging",
        after_help = "Exit code 7 when it did not pass, 1 when something could not be put back."
    )]
    Drill {
        #[arg(value_enum)]
        drill: DrillName,
        /// A file with an intent that the environment allows; absent: the one that it allowed last.
        #[arg(long)]
        intent: Option<PathBuf>,
    },
    /// The drills that were held, newest first.
    #[command(before_help = "Examples:\n  intended emergency drills\n  intended emergency drills -o json")]
    Drills,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum DrillName {
    Halt,
    Revoke,
    Rollback,
}

impl DrillName {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Halt => "halt",
            Self::Revoke => "revoke",
            Self::Rollback => "rollback",
        }
    }
}

#[derive(Args)]
pub struct Halt {
    /// tenant, environment=…, agent=…, connector=…, tool=… or category=…; with -e only there. Absent: what -e
    /// says, or the tenant.
    #[arg(long, conflicts_with = "glass")]
    pub scope: Option<String>,
    #[arg(long)]
    pub reason: String,
    /// The name of what is halted. Without it the name is asked for on the terminal.
    #[arg(long)]
    pub confirm: Option<String>,
    /// A break-glass file instead of an API key: it says what is halted.
    #[arg(long, value_name = "FILE")]
    pub glass: Option<PathBuf>,
    /// The server's data directory, when its API is down: the halt is put into its ledger directly, or
    /// handed to the server that holds it.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
}

#[derive(Args)]
pub struct Revoke {
    /// Tokens of this agent, or asked for on its behalf.
    #[arg(long)]
    pub agent: Option<String>,
    /// Tokens of intents that were submitted with this credential.
    #[arg(long)]
    pub credential: Option<String>,
    /// … by this person, or with a credential of theirs.
    #[arg(long)]
    pub member: Option<String>,
    /// The token of this intent.
    #[arg(long)]
    pub intent: Option<String>,
    /// Tokens that were decided by this version of the policy, by its digest.
    #[arg(long)]
    pub policy: Option<String>,
    /// Decided at or after: RFC 3339, milliseconds since 1970, or an age (15m, 2h).
    #[arg(long)]
    pub from: Option<String>,
    /// Decided before: the same.
    #[arg(long)]
    pub to: Option<String>,
    /// Why. Not needed with --dry-run.
    #[arg(long)]
    pub reason: Option<String>,
    /// What is revoked, again: the first of what was named. Without it it is asked for on the terminal.
    #[arg(long)]
    pub confirm: Option<String>,
}
