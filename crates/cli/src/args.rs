//! Arguments. Examples stand first in every help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod access;
mod approval;
mod backup;
mod breaker;
mod capabilities;
mod emergency;
mod keys;
mod policy;
mod readiness;
mod siem;
mod sign_in;
mod tenant;
mod webhook;

pub use access::{Access, Agents, Credentials, Members, Part, Review, SetAgent};
pub use approval::{Approval, Say};
pub use backup::{Backup, Restore};
pub use breaker::{Breaker, On as BreakerOn, Set as BreakerRules};
pub use capabilities::Capabilities;
pub use emergency::{Emergency, Halt, Revoke};
pub use keys::Keys;
pub use policy::{Incident, Policy, Simulate, Validate, Verdict};
pub use readiness::{Check as ReadinessCheck, Readiness};
pub use siem::Siem;
pub use sign_in::Login;
pub use tenant::{Environment, Tenant};
pub use webhook::Webhook;

#[derive(Parser)]
#[command(
    name = "intended",
    version,
    about = "Authority runtime for AI agents: no token, no action.",
    before_help = "Examples:\n  intended dev                                   try it: demo tenant, embedded store\n  intended init --data-dir ./data --tenant acme  set up a server\n  intended serve --data-dir ./data               run it\n  intended verify ledger.jsonl                   re-execute an export, offline"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes. [`crate::config`] makes of it what counts.
#[derive(Args, Clone)]
pub struct GlobalArgs {
    /// A profile of $XDG_CONFIG_HOME/intended/config.toml: server, tenant, environment, key_file [env: INTENDED_PROFILE].
    #[arg(long, global = true)]
    pub profile: Option<String>,
    /// The server's address [default: http://127.0.0.1:7070].
    #[arg(long, global = true, env = "INTENDED_SERVER")]
    pub server: Option<String>,
    /// The tenant [default: demo].
    #[arg(long, global = true, env = "INTENDED_TENANT")]
    pub tenant: Option<String>,
    /// The environment [env: INTENDED_ENVIRONMENT].
    #[arg(long, short = 'e', global = true)]
    pub environment: Option<String>,
    /// A file with the API key; or the key itself in INTENDED_API_KEY. Keys never stand in arguments.
    #[arg(long, global = true, env = "INTENDED_API_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    /// How to print.
    #[arg(long, short = 'o', global = true, value_enum, default_value = "table")]
    pub output: Format,
    /// Seconds to wait for the server: for an answer as a whole, in a stream for the next part.
    #[arg(long, global = true, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// More on stderr.
    #[arg(long, global = true)]
    pub verbose: bool,
    /// No progress, no messages; errors only.
    #[arg(long, short = 'q', global = true)]
    pub quiet: bool,
    /// No colour; NO_COLOR is honoured too.
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Never ask: what would be asked is refused.
    #[arg(long, global = true)]
    pub no_input: bool,
    /// Answer yes to questions. Where a name has to be typed, --confirm gives it.
    #[arg(long, short = 'y', global = true)]
    pub yes: bool,
    /// Say what would be sent or written, and change nothing.
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Print the request as a curl command instead of sending it.
    #[arg(long, global = true)]
    pub print_curl: bool,
    /// Print the scope that the command needs, and do nothing.
    #[arg(long, global = true)]
    pub required_scope: bool,
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
    /// Copy a data directory into one file, also while a server runs on it.
    Backup(Backup),
    /// Make a data directory from a backup. Its tenants start halted.
    Restore(Restore),
    /// One screen: what is wrong and what to do next, then everything else.
    #[command(
        before_help = "Examples:\n  intended status\n  intended status --watch\n  intended status --watch --interval 10s -o jsonl >> status.jsonl\n  intended status -o json",
        after_help = "Exits with 9 while something is halted, with 5 when the server is unavailable."
    )]
    Status(Status),
    /// Submit intents and look at decisions.
    #[command(
        subcommand,
        before_help = "Examples:\n  intended intent submit refund.json\n  intended intent list --decision deny\n  intended intent explain <id>"
    )]
    Intent(Intent),
    /// Look at tokens and verify them.
    #[command(
        subcommand,
        before_help = "Examples:\n  intended token inspect token.jwt\n  intended token verify token.jwt --intent-hash sha256:… -e production --consume\n  intended token test read.json"
    )]
    Token(Token),
    /// The keys that tokens are signed with.
    #[command(
        subcommand,
        before_help = "Examples:\n  intended keys list\n  intended keys rotate -e production\n  intended keys rotate -e production --retire-others --reason 'it leaked' --confirm production"
    )]
    Keys(Keys),
    /// Query, prove, export the ledger.
    #[command(
        subcommand,
        before_help = "Examples:\n  intended audit query --kind decision\n  intended audit tail --decision deny\n  intended audit proof 19\n  intended audit export ledger.jsonl"
    )]
    Audit(Audit),
    /// Re-execute a ledger offline: an export, or a data directory (read-only).
    Verify(Verify),
    /// Component health.
    #[command(subcommand, before_help = "Examples:\n  intended health check --verbose")]
    Health(Health),
    /// Whether it works well enough to be relied on: figures against thresholds, and earlier ones.
    #[command(
        subcommand,
        before_help = "Examples:\n  intended readiness check --verbose\n  intended readiness check -e production --strict\n  intended readiness history"
    )]
    Readiness(Readiness),
    /// What the product claims, and whether it holds on this server now.
    Capabilities(Capabilities),
    /// Halt, revoke, and what lifts it again; break-glass files; drills.
    #[command(
        subcommand,
        before_help = "Examples:\n  intended emergency status\n  intended emergency halt --scope environment=production --reason 'agent loops' --confirm production\n  intended emergency revoke --agent support-agent --reason 'prompt injection' --confirm support-agent\n  intended emergency drill halt -e staging"
    )]
    Emergency(Emergency),
    /// Circuit breakers: what opens by itself when something goes wrong, and what is held by hand.
    #[command(
        subcommand,
        before_help = "Examples:\n  intended breaker list\n  intended breaker set production.agents -e production --error-rate 300\n  intended breaker hold stripe-down -e production --connector stripe --reason 'their incident'"
    )]
    Breaker(Breaker),
    /// Write, test, simulate, review, ship and roll back policy.
    #[command(
        subcommand,
        before_help = "Examples:\n  intended policy new support                                      a pack that passes\n  intended policy test support\n  intended policy simulate support -e production\n  intended policy submit support -e production --title 'refunds'\n  intended policy list"
    )]
    Policy(Policy),
    /// People, keys and agents: who may do what, and looking it over.
    #[command(
        subcommand,
        before_help = "Examples:\n  intended access members list\n  intended access credentials create deploy-bot --scope intent:submit --in staging --expires 90d\n  intended access agents show support-agent\n  intended access review make"
    )]
    Access(Access),
    /// What waits for people: look at it, approve it, deny it.
    #[command(
        subcommand,
        before_help = "Examples:\n  intended approval list --mine\n  intended approval show <id>\n  intended approval approve <id> --reason 'spoke to the customer'"
    )]
    Approval(Approval),
    /// Incidents: what happened, noted and proved. While one is open, one person can roll back.
    #[command(
        subcommand,
        before_help = "Examples:\n  intended incident open -e production --title 'refunds fail'\n  intended incident note <incident> 'rolled back to 1.4.2'\n  intended incident timeline <incident>\n  intended incident list"
    )]
    Incident(Incident),
    /// Where to send what happens to approvals.
    #[command(
        subcommand,
        before_help = "Examples:\n  intended webhook set pager --url https://hooks.acme.example/intended --event approval.requested\n  intended webhook list\n  intended webhook test pager"
    )]
    Webhook(Webhook),
    /// Where the ledger is streamed to.
    #[command(subcommand, before_help = "Examples:\n  intended siem status\n  intended siem test soc")]
    Siem(Siem),
    /// Tenants, for who operates the server.
    #[command(
        subcommand,
        before_help = "Examples:\n  intended tenant create globex --key-file operator.key --owner-key-file globex.key\n  intended tenant list --key-file operator.key\n  intended tenant suspend globex --key-file operator.key --reason 'unpaid' --confirm globex"
    )]
    Tenant(Tenant),
    /// Environments of the tenant, and whether they take part.
    #[command(
        subcommand,
        before_help = "Examples:\n  intended environment list\n  intended environment suspend staging --reason 'being rebuilt' --confirm staging\n  intended environment reinstate staging --reason 'rebuilt'"
    )]
    Environment(Environment),
    /// Sign in: with a password, an invitation, or an identity provider.
    Login(Login),
    /// Sign out: the session ends.
    #[command(before_help = "Examples:\n  intended logout")]
    Logout,
    /// Who you are to the server, and what you may do.
    #[command(before_help = "Examples:\n  intended whoami\n  intended whoami -o json")]
    Whoami,
    /// Shell completions.
    #[command(
        before_help = "Examples:\n  intended completions bash > ~/.local/share/bash-completion/completions/intended"
    )]
    Completions { shell: clap_complete::Shell },
    /// Man pages, one for each command.
    #[command(before_help = "Examples:\n  intended man ~/.local/share/man/man1")]
    Man {
        /// Where to write them.
        directory: PathBuf,
    },
}

impl Command {
    /// Whether it talks to a server, or looks at what one has issued.
    pub const fn remote(&self) -> bool {
        match self {
            Self::Dev(_)
            | Self::Serve(_)
            | Self::Init(_)
            | Self::Backup(_)
            | Self::Restore(_)
            | Self::Completions { .. }
            | Self::Man { .. } => false,
            Self::Policy(policy) => policy.remote(),
            Self::Incident(incident) => incident.remote(),
            _ => true,
        }
    }
}

#[derive(Args)]
#[command(
    before_help = "Examples:\n  intended dev\n  intended dev --once            show the main job and stop\n  intended dev --data-dir ./demo keep the data"
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
pub struct Status {
    /// Show it again and again: in place on a terminal, else one block after the other. Ctrl-C ends it.
    #[arg(long)]
    pub watch: bool,
    /// How often.
    #[arg(long, default_value = "2s", requires = "watch")]
    pub interval: String,
}

#[derive(Args)]
#[command(
    before_help = "Examples:\n  intended serve --data-dir ./data\n  INTENDED_LOG=info intended serve --data-dir ./data --log-format json   a line for each request",
    after_help = "INTENDED_LOG sets levels: error, warn (the default), info, debug, trace; by target too (`warn,intended::access=info`)."
)]
pub struct Serve {
    /// A directory that `intended init` has set up.
    #[arg(long, env = "INTENDED_DATA_DIR")]
    pub data_dir: PathBuf,
    /// Instead of the config file's address.
    #[arg(long)]
    pub listen: Option<String>,
    /// A checkpoint that was kept elsewhere, or a directory of them: a ledger that is older is not served.
    #[arg(long, value_name = "PATH")]
    pub checkpoint: Vec<PathBuf>,
    /// Keep the first checkpoint in `checkpoint_dir` of each tenant that has none there. For the first start
    /// with it, not for every one: without it a missing checkpoint is no start.
    #[arg(long)]
    pub first_checkpoint: bool,
    /// How the log on stderr is written, instead of as the config file says.
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
}

/// How the log of a server is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: a JSON object a line.
    Json,
}

#[derive(Args)]
#[command(
    before_help = "Examples:\n  intended init --data-dir ./data --tenant acme --owner-key-file owner.key\n  intended init --data-dir ./data --tenant acme --listen 0.0.0.0:7070 --issuer https://authority.acme.example",
    after_help = "The owner's API key and the server operator's are shown once: on stdout, a line each, or in the files of --owner-key-file and --operator-key-file."
)]
pub struct Init {
    /// The directory to set up; it is made if it is not there.
    #[arg(long, env = "INTENDED_DATA_DIR")]
    pub data_dir: PathBuf,
    /// Where the server is to listen.
    #[arg(long, default_value = "127.0.0.1:7070")]
    pub listen: String,
    /// `iss` of the tokens: where the server is reached; absent: http:// and the address.
    #[arg(long)]
    pub issuer: Option<String>,
    /// Write the owner's API key to this file (mode 0600) instead of showing it.
    #[arg(long)]
    pub owner_key_file: Option<PathBuf>,
    /// Write the server operator's key to this file (mode 0600) instead of showing it.
    #[arg(long)]
    pub operator_key_file: Option<PathBuf>,
    /// Make this person an owner, and show a code that lets them sign in once within 15 minutes.
    #[arg(long)]
    pub owner_member: Option<String>,
}

/// Which entries of a ledger.
#[derive(Args)]
pub struct EntryFilter {
    /// Of entries, such as decision or halt.thrown.
    #[arg(long)]
    pub kind: Option<String>,
    #[arg(long)]
    pub agent: Option<String>,
    #[arg(long)]
    pub action: Option<String>,
    /// allow, modify, escalate, defer or deny.
    #[arg(long)]
    pub decision: Option<String>,
    /// Decisions on traffic, or synthetic: self-tests.
    #[arg(long)]
    pub class: Option<String>,
    #[arg(long)]
    pub reason: Option<String>,
    /// Decisions of one session.
    #[arg(long)]
    pub session: Option<String>,
    /// Everything about one intent; it is its token's `txn` too.
    #[arg(long)]
    pub intent: Option<String>,
    /// Made, or asked for, with this credential.
    #[arg(long)]
    pub credential: Option<String>,
}

/// Which part of a list.
#[derive(Args)]
pub struct Window {
    /// Not before: RFC 3339, milliseconds since 1970, or an age (15m, 2h, 7d).
    #[arg(long)]
    pub since: Option<String>,
    /// Before: the same.
    #[arg(long)]
    pub until: Option<String>,
    /// How many; beyond a page of the server's, more are fetched.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
    /// Go on where a list was cut off.
    #[arg(long)]
    pub cursor: Option<String>,
}

#[derive(Subcommand)]
pub enum Intent {
    /// Submit an intent: from a file, or `-` for stdin.
    #[command(
        before_help = "Examples:\n  intended intent submit refund.json\n  echo '{…}' | intended intent submit -",
        after_help = "Exit codes: 0 allow or modify, 2 deny, 3 escalate or defer, 9 halted"
    )]
    Submit {
        /// The intent as JSON, or `-`.
        file: PathBuf,
        /// Give the same answer to the same key.
        #[arg(long)]
        idempotency_key: Option<String>,
        /// Write the token to this file (mode 0600) instead of showing it.
        #[arg(long)]
        token_file: Option<PathBuf>,
    },
    /// Decisions, newest first.
    #[command(
        before_help = "Examples:\n  intended intent list\n  intended intent list --agent support-agent --decision deny -o json"
    )]
    List {
        #[arg(long)]
        agent: Option<String>,
        #[arg(long)]
        action: Option<String>,
        /// allow, modify, escalate, defer or deny.
        #[arg(long)]
        decision: Option<String>,
        /// traffic, or synthetic: self-tests.
        #[arg(long)]
        class: Option<String>,
        #[command(flatten)]
        window: Window,
    },
    /// One decision with its gates and its receipt.
    #[command(before_help = "Examples:\n  intended intent show <id>\n  intended intent show <id> -o json")]
    Show { id: String },
    /// Why it was decided so, and what stands in the way.
    #[command(before_help = "Examples:\n  intended intent explain <id>")]
    Explain { id: String },
    /// Decide it again from the ledger: on the state of its position, of another one, or with another policy.
    #[command(
        before_help = "Examples:\n  intended intent replay <id>\n  intended intent replay <id> --at 2026-03-01T12:00:00Z\n  intended intent replay <id> --policy policies/demo",
        after_help = "Exit code 8 when the decision is another one; with --at or --policy that is an answer, and the code is 0.\nThe time, the session and the budgets stay as they were recorded."
    )]
    Replay {
        id: String,
        /// The state before this ledger index, or as it was at a time (2026-03-01T12:00:00Z, 2h).
        #[arg(long)]
        at: Option<String>,
        /// A published version's digest, or the directory of a pack.
        #[arg(long)]
        policy: Option<String>,
    },
}

#[derive(Subcommand)]
pub enum Token {
    /// See that tokens work: decide, sign, verify here, use once, be refused twice, prove it.
    #[command(
        before_help = "Examples:\n  intended token test                            the self-test, in every environment that the credential may test\n  intended token test -e production --vkey acme.vkey\n  intended token test -e production -o json\n  intended token test read.json                  with an intent of your own, which counts as traffic",
        after_help = "The self-test is an intent of the runtime's own that touches nothing. It passes the same gates as any other,\nis recorded and marked, and is never counted as traffic. A `forbid`, a halt or a breaker denies it.\nExit codes: 0 every step holds, 2 denied, 5 the server cannot, 8 a step does not hold, 9 halted"
    )]
    Test {
        /// An intent of your own that is allowed, instead of the self-test.
        file: Option<PathBuf>,
        /// A file with the ledger's public key as you know it. Without it the server's own word is taken.
        #[arg(long, conflicts_with = "file")]
        vkey: Option<PathBuf>,
    },
    /// Show what a token says, without verifying it.
    #[command(
        before_help = "Examples:\n  intended token inspect token.jwt\n  intended token inspect - -o json < token.jwt"
    )]
    Inspect {
        /// A file with the token, or `-`.
        file: PathBuf,
    },
    /// Verify a token for an intent's hash.
    #[command(
        before_help = "Examples:\n  intended token verify token.jwt --intent-hash sha256:… -e production\n  intended token verify token.jwt --intent-hash sha256:… -e production --consume\n  intended token verify token.jwt --intent-hash sha256:… -e production --jwks keys.json --revocations revoked.jwt   no server is asked",
        after_help = "Exit code 8 when the token is refused."
    )]
    Verify {
        /// A file with the token, or `-`.
        file: PathBuf,
        /// `intent_hash` of the decision.
        #[arg(long)]
        intent_hash: String,
        /// Who the token must be for; absent: the environment's audience, offline `intended`.
        #[arg(long)]
        audience: Option<String>,
        /// Who must have issued it; offline, without it, that is not checked.
        #[arg(long)]
        issuer: Option<String>,
        /// Use it up.
        #[arg(long)]
        consume: bool,
        /// Only with the public keys; single use is not checked then.
        #[arg(long, conflicts_with = "consume")]
        offline: bool,
        /// A file with the public keys (see `intended token keys`): offline, and no server is asked.
        #[arg(long, conflicts_with = "consume")]
        jwks: Option<PathBuf>,
        /// A file with the signed list of revoked tokens (see `intended token revocations`), for --jwks.
        #[arg(long, requires = "jwks")]
        revocations: Option<PathBuf>,
        /// Oldest list that is relied on, in seconds; a list says itself that it is good for a minute.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(0..))]
        max_age: Option<i64>,
    },
    /// Revoke one token.
    #[command(before_help = "Examples:\n  intended token revoke token.jwt --reason 'sent to the wrong place'")]
    Revoke {
        /// A file with the token, or `-`.
        file: PathBuf,
        #[arg(long)]
        reason: String,
    },
    /// The public keys that tokens are verified with, as a JWK set.
    #[command(before_help = "Examples:\n  intended token keys > keys.json")]
    Keys,
    /// The signed list of revoked tokens, good for a minute, for verifiers without a connection.
    #[command(before_help = "Examples:\n  intended token revocations -e production > revoked.jwt")]
    Revocations,
}

#[derive(Subcommand)]
pub enum Audit {
    /// Entries, newest first.
    #[command(
        before_help = "Examples:\n  intended audit query\n  intended audit query --kind decision --reason policy.forbid\n  intended audit query --intent <id>\n  intended audit query --since 2h --limit 5000 -o jsonl"
    )]
    Query {
        #[command(flatten)]
        filter: EntryFilter,
        #[command(flatten)]
        window: Window,
    },
    /// Follow the ledger: new entries as they come. It goes on after a broken connection.
    #[command(
        before_help = "Examples:\n  intended audit tail\n  intended audit tail --decision deny -e production\n  intended audit tail --after 0 -o jsonl > ledger.txt",
        after_help = "It says on stderr where to go on with --after."
    )]
    Tail {
        #[command(flatten)]
        filter: EntryFilter,
        /// Begin after this ledger index; absent: with what comes from now on.
        #[arg(long)]
        after: Option<u64>,
        /// End after so many entries.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
    },
    /// A receipt for an entry, checked here.
    #[command(
        before_help = "Examples:\n  intended audit proof 19 --vkey acme.vkey\n  intended audit proof 19 -o json > receipt.json"
    )]
    Proof {
        index: u64,
        /// A file with the ledger's public key as you know it. Without it the server's own word is taken.
        #[arg(long)]
        vkey: Option<PathBuf>,
    },
    /// The newest checkpoint: what to keep elsewhere, for `--checkpoint` of verify, serve and restore.
    #[command(
        before_help = "Examples:\n  intended audit checkpoint > acme.checkpoint\n  intended audit checkpoint --out /mnt/elsewhere/acme.checkpoint"
    )]
    Checkpoint {
        /// Write it to this file instead, whole or not at all. One that signs for more is not written over.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Export and re-execute the whole ledger.
    #[command(
        before_help = "Examples:\n  intended audit verify --vkey acme.vkey",
        after_help = "Exit code 8 when something does not hold."
    )]
    Verify {
        /// A file with the ledger's public key as you know it. Without it the server's own word is taken.
        #[arg(long)]
        vkey: Option<PathBuf>,
    },
    /// Write the whole ledger as JSON lines.
    #[command(before_help = "Examples:\n  intended audit export ledger.jsonl && intended verify ledger.jsonl")]
    Export {
        /// The file to write.
        file: PathBuf,
    },
}

#[derive(Args)]
#[command(
    before_help = "Examples:\n  intended verify ledger.jsonl\n  intended verify ./data                      a data directory, read-only\n  intended verify ledger.jsonl --vkey acme.vkey --checkpoint last-week.note",
    after_help = "Exit code 8 when something does not hold."
)]
pub struct Verify {
    /// An export, or a data directory.
    pub path: PathBuf,
    /// A file with the ledger's public key as you know it. Without it the export's own is taken.
    #[arg(long)]
    pub vkey: Option<PathBuf>,
    /// A checkpoint of the ledger that you kept: it must still begin with what that one signs. Without
    /// it a ledger that was taken back to an earlier state of its own is not told from a young one.
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum Health {
    /// Every component and what to do about what is not well; with --verbose every check. Exits 5 when
    /// something is unavailable, and 0 when it is degraded.
    #[command(
        before_help = "Examples:\n  intended health check\n  intended health check --verbose\n  intended health check -o json | jq .status"
    )]
    Check,
}
