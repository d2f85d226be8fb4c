//! Arguments of `keys`.

use clap::{Subcommand, ValueEnum};

#[derive(Clone, Copy, ValueEnum)]
pub enum Algorithm {
    #[value(name = "EdDSA")]
    EdDsa,
    #[value(name = "ES256")]
    Es256,
    #[value(name = "RS256")]
    Rs256,
}

impl Algorithm {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

#[derive(Subcommand)]
pub enum Keys {
    /// The keys that tokens are signed with, by environment, newest first.
    #[command(before_help = "Examples:\n  intended keys list\n  intended keys list -e production -o json")]
    List,
    /// Make a new active key. The one before still verifies; the one before that is retired.
    #[command(
        before_help = "Examples:\n  intended keys rotate -e production\n  intended keys rotate -e production --retire-others --reason 'the root key leaked' --confirm production",
        after_help = "With --retire-others every token from before is refused from then on, online at once, offline when the\nverifier has fetched the new keys."
    )]
    Rotate {
        /// What the new key is; absent: as the one before.
        #[arg(long, value_enum)]
        alg: Option<Algorithm>,
        /// Retire all others at once: for a key that somebody else may have.
        #[arg(long, requires = "reason")]
        retire_others: bool,
        /// Why the others are retired.
        #[arg(long, requires = "retire_others")]
        reason: Option<String>,
        /// The environment again, where nobody can be asked.
        #[arg(long, requires = "retire_others")]
        confirm: Option<String>,
    },
    /// Retire one key that is not the active one: its tokens are refused from then on.
    #[command(
        before_help = "Examples:\n  intended keys retire <kid> -e production --reason 'found in a log' --confirm <kid>"
    )]
    Retire {
        kid: String,
        #[arg(long)]
        reason: String,
        /// The key's id again, where nobody can be asked.
        #[arg(long)]
        confirm: Option<String>,
    },
}
