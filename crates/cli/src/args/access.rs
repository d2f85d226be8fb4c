//! Arguments of `access`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Subcommand)]
pub enum Access {
    /// People: who they are, their groups and roles.
    #[command(
        subcommand,
        before_help = "Examples:\n  intended access members list\n  intended access members set ann --name 'Ann Lee' --email ann@acme.example\n  intended access members roles ann --add operator@staging"
    )]
    Members(Members),
    /// The roles, and what each may do.
    #[command(before_help = "Examples:\n  intended access roles\n  intended access roles -o json")]
    Roles,
    /// API keys of services and people.
    #[command(
        subcommand,
        before_help = "Examples:\n  intended access credentials list\n  intended access credentials create deploy-bot --scope intent:submit --in staging --expires 90d\n  intended access credentials rotate deploy-bot --overlap 24h"
    )]
    Credentials(Credentials),
    /// Agents: who answers for them, and what they may do.
    #[command(
        subcommand,
        before_help = "Examples:\n  intended access agents list\n  intended access agents set support-agent --in production --trust 60 --owner ann --tool 'orders.*'\n  intended access agents pause support-agent"
    )]
    Agents(Agents),
    /// Look over who may do what: made, compared, signed by two people.
    #[command(
        subcommand,
        before_help = "Examples:\n  intended access review make\n  intended access review show\n  intended access review changes\n  intended access review sign --reason 'looked at every finding' --confirm 2026-11-24-1"
    )]
    Review(Review),
}

/// A name to type where something cannot be taken back.
#[derive(Args)]
pub struct Confirm {
    /// The name of what this is about. Without it the name is asked for on the terminal.
    #[arg(long)]
    pub confirm: Option<String>,
}

#[derive(Subcommand)]
pub enum Members {
    /// Everybody.
    #[command(before_help = "Examples:\n  intended access members list\n  intended access members list -o jsonl")]
    List,
    /// Give a member a code that lets them sign in once, within 15 minutes.
    #[command(
        before_help = "Examples:\n  intended access members invite ann\n  intended access members invite ann --code-file ann.code",
        after_help = "Hand the code over in person or through something encrypted. The one before is good no more.\nNobody invites who may do more than they may."
    )]
    Invite {
        member: String,
        /// Write the code to this file (mode 0600) instead of showing it.
        #[arg(long)]
        code_file: Option<PathBuf>,
    },
    /// One person: groups, roles, and until when.
    #[command(before_help = "Examples:\n  intended access members show ann")]
    Show { member: String },
    /// Add somebody, or change what is said of them. What is not named stays.
    #[command(
        before_help = "Examples:\n  intended access members set ann --name 'Ann Lee' --email ann@acme.example --add-group release-managers\n  intended access members set ann --remove-group release-managers\n  intended access members set ann --active true        after they were removed"
    )]
    Set {
        member: String,
        /// For people.
        #[arg(long)]
        name: Option<String>,
        /// Two members with one address count as one person.
        #[arg(long)]
        email: Option<String>,
        /// A group that they are in from now on; more than once for more.
        #[arg(long)]
        add_group: Vec<String>,
        /// A group that they are in no longer.
        #[arg(long)]
        remove_group: Vec<String>,
        /// Whether they count.
        #[arg(long)]
        active: Option<bool>,
    },
    /// Somebody leaves: they may do nothing from now on, and their approvals do not count.
    #[command(before_help = "Examples:\n  intended access members remove ann --confirm ann")]
    Remove {
        member: String,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Show, give and take roles.
    #[command(
        before_help = "Examples:\n  intended access members roles ann                                   what they have\n  intended access members roles ann --add operator@staging,production\n  intended access members roles ann --add 'auditor@*' --until 2027-01-01   everywhere, for a time\n  intended access members roles ann --remove operator@staging,production",
        after_help = "A role is written role@environments, with * for every environment and what is the whole tenant's."
    )]
    Roles {
        member: String,
        /// A role to give; more than once for more.
        #[arg(long, value_name = "ROLE@ENV,…")]
        add: Vec<String>,
        /// A role to take, as `roles` shows it.
        #[arg(long, value_name = "ROLE@ENV,…")]
        remove: Vec<String>,
        /// Until when what is added lasts: a time, or a length such as 30d.
        #[arg(long, requires = "add")]
        until: Option<String>,
        #[command(flatten)]
        confirm: Confirm,
    },
}

#[derive(Subcommand)]
pub enum Credentials {
    /// Every key, without the key.
    #[command(before_help = "Examples:\n  intended access credentials list\n  intended access credentials list --all")]
    List {
        /// Also those that were revoked.
        #[arg(long)]
        all: bool,
    },
    /// Make a key. It is shown once.
    #[command(
        before_help = "Examples:\n  intended access credentials create deploy-bot --scope intent:submit --in staging --expires 90d\n  intended access credentials create verifier --scope token:verify --in production --network 10.0.0.0/8 --expires 90d --key-to verifier.key",
        after_help = "The key goes to stdout and nowhere else, or to the file of --key-to (mode 0600)."
    )]
    Create {
        credential: String,
        /// What it may do, such as intent:submit; more than once for more.
        #[arg(long, required = true)]
        scope: Vec<String>,
        /// The environments that it is good for.
        #[arg(long = "in", value_delimiter = ',', value_name = "ENV,…")]
        environments: Vec<String>,
        /// Good for every environment, also for those that are made later.
        #[arg(long, conflicts_with = "environments")]
        whole: bool,
        /// A pattern of the tools that it may submit intents for; more than once for more.
        #[arg(long)]
        action: Vec<String>,
        /// A pattern of the agents that it may submit intents for; more than once for more.
        #[arg(long)]
        agent: Vec<String>,
        /// A network that it may be used from, such as 10.0.0.0/8; more than once for more.
        #[arg(long)]
        network: Vec<String>,
        /// The person it belongs to.
        #[arg(long)]
        member: Option<String>,
        /// Until when it is good: a time, or a length such as 90d.
        #[arg(long)]
        expires: Option<String>,
        /// A test key: never good for production.
        #[arg(long)]
        test: bool,
        /// Write the key to this file instead of showing it.
        #[arg(long)]
        key_to: Option<PathBuf>,
    },
    /// A new key for a credential. The one before stays good for the overlap.
    #[command(
        before_help = "Examples:\n  intended access credentials rotate deploy-bot --overlap 24h\n  intended access credentials rotate deploy-bot --overlap 0 --confirm deploy-bot    the key leaked"
    )]
    Rotate {
        credential: String,
        /// How long the key before stays good: 0, or a length such as 24h.
        #[arg(long, default_value = "24h")]
        overlap: String,
        /// Write the key to this file instead of showing it.
        #[arg(long)]
        key_to: Option<PathBuf>,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Good for nothing from now on.
    #[command(
        before_help = "Examples:\n  intended access credentials revoke deploy-bot --reason 'not used' --confirm deploy-bot"
    )]
    Revoke {
        credential: String,
        /// Why; it is recorded.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        confirm: Confirm,
    },
}

/// What a registration has several of, and can have none of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    Tools,
    Categories,
    Teams,
    Workflow,
}

#[derive(Subcommand)]
pub enum Agents {
    /// Every agent.
    #[command(before_help = "Examples:\n  intended access agents list")]
    List,
    /// One agent: owner, purpose, what it may use, the order it declares.
    #[command(before_help = "Examples:\n  intended access agents show support-agent")]
    Show { agent: String },
    /// Register an agent, or change its registration. What is not named stays.
    #[command(
        before_help = "Examples:\n  intended access agents set support-agent --in production --trust 60 --owner ann --purpose 'answers customers'\n  intended access agents set support-agent --tool 'orders.*' --tool stripe.create_refund\n  intended access agents set support-agent --workflow steps.json",
        after_help = "steps.json: [{\"action\": \"stripe.create_refund\", \"after\": [\"orders.*\"], \"not_after\": []}]"
    )]
    Set(SetAgent),
    /// It may do nothing until it is resumed.
    #[command(before_help = "Examples:\n  intended access agents pause support-agent")]
    Pause { agent: String },
    /// A paused agent goes on.
    #[command(before_help = "Examples:\n  intended access agents resume support-agent")]
    Resume { agent: String },
    /// For good: a retired agent does not come back.
    #[command(before_help = "Examples:\n  intended access agents retire support-agent --confirm support-agent")]
    Retire {
        agent: String,
        #[command(flatten)]
        confirm: Confirm,
    },
}

#[derive(Args)]
pub struct SetAgent {
    pub agent: String,
    /// The environments where it may act.
    #[arg(long = "in", value_delimiter = ',', value_name = "ENV,…")]
    pub environments: Vec<String>,
    /// 0 (none) to 100.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub trust: Option<u8>,
    /// Who answers for it: a member's id, or whatever tells people whom to ask.
    #[arg(long)]
    pub owner: Option<String>,
    /// What it is for.
    #[arg(long)]
    pub purpose: Option<String>,
    /// The subject type that it is known under.
    #[arg(long)]
    pub kind: Option<String>,
    /// A team that policy names; more than once for more.
    #[arg(long)]
    pub team: Vec<String>,
    /// A pattern of the tools that it may use; more than once for more.
    #[arg(long)]
    pub tool: Vec<String>,
    /// A pattern of the Open Intent Layer categories that it may act in; more than once for more.
    #[arg(long)]
    pub category: Vec<String>,
    /// A JSON file with the order of actions that it declares.
    #[arg(long)]
    pub workflow: Option<PathBuf>,
    /// What it has no bounds, teams or order of any more.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub clear: Vec<Part>,
}

#[derive(Subcommand)]
pub enum Review {
    /// Make a review of everything in the tenant.
    #[command(before_help = "Examples:\n  intended access review make")]
    Make,
    /// The reviews, and who signed them.
    #[command(before_help = "Examples:\n  intended access review list")]
    List,
    /// A review: what was found first. Without a name the last one.
    #[command(
        before_help = "Examples:\n  intended access review show\n  intended access review show 2026-11-24-1 --export review.html\n  intended access review show --export review.csv",
        after_help = "--export writes what the file's ending says: .html, .csv or .json."
    )]
    Show {
        review: Option<String>,
        /// Write the whole report to this file (mode 0600).
        #[arg(long)]
        export: Option<PathBuf>,
    },
    /// What came, went, grew and shrank since the review before.
    #[command(
        before_help = "Examples:\n  intended access review changes\n  intended access review changes 2026-11-24-1 --from 2026-08-24-1"
    )]
    Changes {
        review: Option<String>,
        /// The review to compare with, instead of the one before.
        #[arg(long)]
        from: Option<String>,
    },
    /// Sign the last review, as the person whose key or session this is. It takes two.
    #[command(
        before_help = "Examples:\n  intended access review sign --reason 'looked at every finding' --confirm 2026-11-24-1\n  intended access review sign --digest sha256:… --reason 'looked at the page' --confirm 2026-11-24-1"
    )]
    Sign {
        /// What was looked at; it is recorded.
        #[arg(long)]
        reason: String,
        /// The digest of the report that was read. Without it: that of the last one, as it is shown.
        #[arg(long)]
        digest: Option<String>,
        #[command(flatten)]
        confirm: Confirm,
    },
}
