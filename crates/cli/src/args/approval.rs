//! Arguments of `approval`.

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub enum Approval {
    /// What waits for people, oldest first.
    #[command(before_help = "Examples:\n  intended approval list\n  intended approval list --mine -e production")]
    List {
        /// Only what you can approve now.
        #[arg(long)]
        mine: bool,
        #[arg(long)]
        agent: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
        /// Go on where a list was cut off.
        #[arg(long)]
        cursor: Option<String>,
    },
    /// One request: what would run, for whom, how risky, who may say so, how long.
    #[command(
        before_help = "Examples:\n  intended approval show <id>\n  intended approval show <id> --full     all arguments, however long",
        after_help = "Exit codes: 0 allowed, 2 denied or timed out, 3 still open"
    )]
    Show {
        id: String,
        /// Print all of the arguments.
        #[arg(long)]
        full: bool,
    },
    /// Say yes to exactly what is shown. It is shown first, and asked about.
    #[command(
        before_help = "Examples:\n  intended approval approve <id> --reason 'spoke to the customer'\n  intended approval approve <id> --reason ok --etag '\"3f2a…\"' --yes    in scripts: of what was read before",
        after_help = "Exit codes: 0 it is allowed now, 2 it was denied by the state of now, 3 more people are needed"
    )]
    Approve(Say),
    /// Say no, which ends it.
    #[command(before_help = "Examples:\n  intended approval deny <id> --reason 'not this customer'")]
    Deny(Say),
    /// Take back your yes, while it has not come to anything.
    #[command(before_help = "Examples:\n  intended approval withdraw <id> --reason 'the amount is wrong'")]
    Withdraw(Say),
    /// Ask whoever wants it done. It waits no longer for that.
    #[command(before_help = "Examples:\n  intended approval ask <id> 'which ticket is this for?'")]
    Ask { id: String, question: String },
}

#[derive(Args)]
pub struct Say {
    pub id: String,
    /// Why; it is recorded. 1–500 characters.
    #[arg(long)]
    pub reason: String,
    /// The entity tag of what you have read: anything else is refused.
    #[arg(long)]
    pub etag: Option<String>,
    /// Print all of the arguments before asking.
    #[arg(long)]
    pub full: bool,
}
