//! Arguments. Examples stand first in every help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(
    name = "intended",
    version,
    about = "Authority runtime for AI agents: no token, no action.",
    after_help = "Examples:\n  intended dev                                   try it: demo tenant, embedded store\n  intended init --data-dir ./data --tenant acme  set up a server\n  intended serve --data-dir ./data               run it\n  intended verify ledger.jsonl                   re-execute an export, offline"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Args, Clone)]
pub struct Global {
    /// The server's address.
    #[arg(long, global = true, env = "INTENDED_SERVER", default_value = "http://127.0.0.1:7070")]
    pub server: String,
    /// The tenant.
    #[arg(long, global = true, env = "INTENDED_TENANT", default_value = "demo")]
    pub tenant: String,
    /// The environment.
    #[arg(long, short = 'e', global = true, env = "INTENDED_ENVIRONMENT")]
    pub environment: Option<String>,
    /// A file with the API key (keys never stand in arguments).
    #[arg(long, global = true, env = "INTENDED_API_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    #[arg(long, global = true, env = "INTENDED_API_KEY", hide = true, hide_env_values = true)]
    pub api_key: Option<String>,
    /// How to print.
    #[arg(long, short = 'o', global = true, value_enum, default_value = "table")]
    pub output: Format,
    /// Seconds to wait for the server.
    #[arg(long, global = true, default_value_t = 30)]
    pub timeout: u64,
    /// More on stderr.
    #[arg(long, global = true)]
    pub verbose: bool,
    /// No progress, no messages.
    #[arg(long, short = 'q', global = true)]
    pub quiet: bool,
    /// Print the request as a curl command instead of sending it.
    #[arg(long, global = true)]
    pub print_curl: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Jsonl,
    Yaml,
}

#[derive(Subcommand)]
pub enum Command {
    /// Everything in one process: embedded store, demo tenant; loopback only.
    Dev(Dev),
    /// Run the server.
    Serve(Serve),
    /// Set up a data directory: root key, tenant, owner's credential.
    Init(Init),
    /// One screen: what runs, what it decides by, what is halted.
    Status,
    /// Submit intents and look at decisions.
    #[command(subcommand)]
    Intent(Intent),
    /// Look at tokens and verify them.
    #[command(subcommand)]
    Token(Token),
    /// Query, prove, export the ledger.
    #[command(subcommand)]
    Audit(Audit),
    /// Re-execute a ledger offline: an export, or a data directory (read-only).
    Verify(Verify),
    /// Component health.
    #[command(subcommand)]
    Health(Health),
    /// Halts.
    #[command(subcommand)]
    Emergency(Emergency),
    /// Ship policy.
    #[command(subcommand)]
    Policy(Policy),
    /// Shell completions.
    Completions { shell: clap_complete::Shell },
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  intended dev\n  intended dev --once            show the main job and stop\n  intended dev --data-dir ./demo keep the data"
)]
pub struct Dev {
    /// Where to listen; loopback addresses only.
    #[arg(long, default_value = "127.0.0.1:7070")]
    pub listen: String,
    /// Keep the data here instead of in a temporary directory.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Stop after the demonstration.
    #[arg(long)]
    pub once: bool,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  intended serve --data-dir ./data")]
pub struct Serve {
    #[arg(long, env = "INTENDED_DATA_DIR")]
    pub data_dir: PathBuf,
    /// Instead of the config file's address.
    #[arg(long)]
    pub listen: Option<String>,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  intended init --data-dir ./data --tenant acme\n\nThe owner's API key is printed once, on stdout."
)]
pub struct Init {
    #[arg(long, env = "INTENDED_DATA_DIR")]
    pub data_dir: PathBuf,
    #[arg(long, default_value = "127.0.0.1:7070")]
    pub listen: String,
}

#[derive(Subcommand)]
pub enum Intent {
    /// Submit an intent: from a file, or `-` for stdin.
    #[command(
        after_help = "Examples:\n  intended intent submit refund.json\n  echo '{…}' | intended intent submit -\n\nExit codes: 0 allow or modify, 2 deny, 3 escalate or defer, 9 halted"
    )]
    Submit {
        file: PathBuf,
        /// Give the same answer to the same key.
        #[arg(long)]
        idempotency_key: Option<String>,
        /// Write the token to this file (mode 0600) instead of showing it.
        #[arg(long)]
        token_file: Option<PathBuf>,
    },
    /// Decisions, newest first.
    List {
        #[arg(long)]
        agent: Option<String>,
        #[arg(long)]
        action: Option<String>,
        #[arg(long)]
        decision: Option<String>,
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    Show {
        id: String,
    },
    /// Why it was decided so, and what stands in the way.
    Explain {
        id: String,
    },
    /// Decide it again from the ledger, on the state of its position.
    Replay {
        id: String,
    },
}

#[derive(Subcommand)]
pub enum Token {
    /// Submit an intent, verify its token offline, consume it, see the replay refused.
    Test {
        /// An intent that is allowed.
        file: PathBuf,
    },
    /// Show what a token says, without verifying it.
    Inspect {
        /// A file with the token, or `-`.
        file: PathBuf,
    },
    /// Verify a token for an intent's hash.
    Verify {
        /// A file with the token, or `-`.
        file: PathBuf,
        #[arg(long)]
        intent_hash: String,
        #[arg(long)]
        audience: Option<String>,
        /// Use it up.
        #[arg(long)]
        consume: bool,
        /// Only with the public keys; single use is not checked then.
        #[arg(long, conflicts_with = "consume")]
        offline: bool,
    },
}

#[derive(Subcommand)]
pub enum Audit {
    /// Entries, newest first.
    Query {
        #[arg(long)]
        kind: Option<String>,
        #[arg(long)]
        agent: Option<String>,
        #[arg(long)]
        decision: Option<String>,
        #[arg(long)]
        reason: Option<String>,
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// A receipt for an entry, checked here.
    Proof { index: u64 },
    /// Export and re-execute the whole ledger.
    Verify,
    /// Write the whole ledger as JSON lines.
    Export {
        /// The file to write.
        file: PathBuf,
    },
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  intended verify ledger.jsonl\n  intended verify ./data                      a data directory, read-only\n  intended verify ledger.jsonl --vkey acme.vkey\n\nExit code 8 when something does not hold."
)]
pub struct Verify {
    pub path: PathBuf,
    /// A file with the ledger's public key as you know it. Without it the export's own is taken.
    #[arg(long)]
    pub vkey: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum Health {
    Check,
}

#[derive(Subcommand)]
pub enum Emergency {
    /// What is halted.
    Status,
    /// Throw a halt: the tenant, or with -e one environment.
    #[command(
        after_help = "Examples:\n  intended emergency halt -e production --reason 'agent loops' --confirm production\n  intended emergency halt --reason 'credential leak' --confirm acme"
    )]
    Halt {
        #[arg(long)]
        reason: String,
        /// The name of what is halted, typed out.
        #[arg(long)]
        confirm: String,
    },
    /// Lift a halt.
    Resume {
        halt: String,
        #[arg(long)]
        reason: String,
        #[arg(long)]
        confirm: String,
    },
}

#[derive(Subcommand)]
pub enum Policy {
    /// Validate a pack directory and deploy it to the environment (-e).
    Deploy { directory: PathBuf },
    /// What each environment decides by.
    List,
}
