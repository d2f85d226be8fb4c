//! Arguments of `tenant` and `environment`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Subcommand)]
pub enum Tenant {
    /// Make a tenant with production, staging and development. Its owner's API key is shown once.
    #[command(
        before_help = "Examples:\n  intended tenant create globex --key-file operator.key\n  intended tenant create globex --key-file operator.key --owner-key-file globex.key"
    )]
    Create {
        /// Its name.
        name: String,
        /// Write the owner's API key to this file (mode 0600) instead of showing it.
        #[arg(long)]
        owner_key_file: Option<PathBuf>,
    },
    /// Those that there are: all for who operates the server, one's own otherwise.
    #[command(before_help = "Examples:\n  intended tenant list --key-file operator.key")]
    List,
    /// Take a tenant out of everything: every decision denies, its credentials are refused.
    #[command(
        before_help = "Examples:\n  intended tenant suspend globex --key-file operator.key --reason 'unpaid' --confirm globex"
    )]
    Suspend {
        name: String,
        #[arg(long)]
        reason: String,
        /// The name again, where nobody can be asked.
        #[arg(long)]
        confirm: Option<String>,
    },
    /// Let it take part again.
    #[command(before_help = "Examples:\n  intended tenant reinstate globex --key-file operator.key --reason 'paid'")]
    Reinstate {
        name: String,
        #[arg(long)]
        reason: String,
    },
}

#[derive(Subcommand)]
pub enum Environment {
    /// Those that there are.
    #[command(before_help = "Examples:\n  intended environment list\n  intended environment list -o json")]
    List,
    /// Take an environment out of everything: its decisions deny, its tokens are refused online.
    #[command(
        before_help = "Examples:\n  intended environment suspend staging --reason 'being rebuilt' --confirm staging"
    )]
    Suspend {
        name: String,
        #[arg(long)]
        reason: String,
        /// The name again, where nobody can be asked.
        #[arg(long)]
        confirm: Option<String>,
    },
    /// Let it take part again.
    #[command(before_help = "Examples:\n  intended environment reinstate staging --reason 'rebuilt'")]
    Reinstate {
        name: String,
        #[arg(long)]
        reason: String,
    },
}
