//! What each command needs of a credential: `--required-scope`.

use intended_model::ExitCode;
use intended_model::entry::Scope;
use serde_json::json;

use crate::args::Format;
use crate::output::{one, say};

/// What a command needs.
pub struct Need {
    pub command: &'static str,
    pub scopes: &'static [Scope],
    /// What the scopes alone do not say.
    pub note: &'static str,
}

const NONE: &str = "no credential: it asks no server";
const ANY: &str = "any credential of the tenant";
const WHOLE: &str = "a credential for the whole tenant";
const OWN: &str = "for the whole tenant, and what the role gives; showing takes access:read";
const AGENT: &str = "for every environment of the agent, before and after";
const OPERATOR: &str = "the server operator's key";
const ITS: &str = "for the intent's environment";
const TEST: &str =
    "for the environment; with --vkey no audit:read; with a FILE what submitting, verifying and proving it takes";
const TENANT: &str = "no credential: it asks no server; with -e policy:read";
const MEMBER: &str = "of a member who may approve in the environment";
const HALT: &str = "for the environment, or the whole tenant when that is what it is about; with emergency:read it also \
                    shows what would stop; a halt is also thrown with emergency:halt or a break-glass file";

const STATUS: &str = "with policy:read, emergency:read, approval:read and token:verify the rest, each its part";
const INVITE: &str = "for the whole tenant, and all that the member may do";

const fn need(command: &'static str, scopes: &'static [Scope], note: &'static str) -> Need {
    Need { command, scopes, note }
}

/// Every command, in the order of the help.
pub const NEEDS: &[Need] = &[
    need("dev", &[], NONE),
    need("serve", &[], NONE),
    need("init", &[], NONE),
    need("backup", &[], NONE),
    need("restore", &[], NONE),
    need("status", &[Scope::StatusRead], STATUS),
    need("intent submit", &[Scope::IntentSubmit], ITS),
    need("intent list", &[Scope::IntentRead], ""),
    need("intent show", &[Scope::IntentRead], ""),
    need("intent explain", &[Scope::IntentRead], ""),
    need("intent replay", &[Scope::IntentRead], "with --policy also policy:read, for the environment"),
    need("token test", &[Scope::TokenTest, Scope::AuditRead], TEST),
    need("token inspect", &[], NONE),
    need("token verify", &[Scope::TokenVerify], "for the environment; with --jwks none"),
    need("token keys", &[], ANY),
    need("token revoke", &[Scope::TokenRevoke, Scope::IntentRead], "for the token's environment"),
    need("token revocations", &[Scope::TokenVerify], "for the environment"),
    need("keys list", &[Scope::StatusRead], ""),
    need("keys rotate", &[Scope::KeyWrite, Scope::StatusRead], "for the environment"),
    need("keys retire", &[Scope::KeyWrite], "for the environment"),
    need("audit query", &[Scope::AuditRead], ""),
    need("audit tail", &[Scope::AuditRead], ""),
    need("audit proof", &[Scope::AuditRead], ""),
    need("audit checkpoint", &[Scope::AuditRead], ""),
    need("audit verify", &[Scope::AuditRead], WHOLE),
    need("audit export", &[Scope::AuditRead], WHOLE),
    need("verify", &[], NONE),
    need("health check", &[Scope::StatusRead], "without a credential it says less"),
    need("readiness check", &[Scope::StatusRead], "it is about the environments of the credential"),
    need("readiness history", &[Scope::StatusRead], "it shows what the credential sees"),
    need("capabilities", &[Scope::StatusRead], "it says what the credential sees"),
    need("emergency status", &[Scope::EmergencyRead], ""),
    need("emergency halt", &[Scope::EmergencyWrite], HALT),
    need("emergency resume", &[Scope::EmergencyWrite, Scope::EmergencyRead], HALT),
    need("emergency revoke", &[Scope::TokenRevoke], "for the environment, or the whole tenant"),
    need("emergency prepare", &[Scope::AccessWrite, Scope::EmergencyWrite], "for the environment, or the whole tenant"),
    need("emergency inspect", &[], NONE),
    need(
        "emergency drill",
        &[
            Scope::EmergencyWrite,
            Scope::AccessWrite,
            Scope::IntentSubmit,
            Scope::TokenVerify,
            Scope::TokenRevoke,
            Scope::PolicyWrite,
        ],
        "for the environment; policy:write only for a rollback, token:revoke only for a revocation",
    ),
    need("emergency drills", &[Scope::EmergencyRead], ""),
    need("breaker list", &[Scope::EmergencyRead], ""),
    need("breaker show", &[Scope::EmergencyRead], ""),
    need("breaker set", &[Scope::EmergencyWrite], "for the environment"),
    need("breaker hold", &[Scope::EmergencyWrite], "for the environment"),
    need("breaker release", &[Scope::EmergencyWrite], "for the environment"),
    need("policy new", &[], NONE),
    need("policy fmt", &[], NONE),
    need("policy validate", &[], TENANT),
    need("policy lint", &[], TENANT),
    need("policy schema", &[], TENANT),
    need("policy test", &[], NONE),
    need("policy bench", &[], NONE),
    need("policy list", &[Scope::PolicyRead], ""),
    need("policy show", &[Scope::PolicyRead], ""),
    need("policy diff", &[Scope::PolicyRead], "for two directories without --decisions none"),
    need("policy explain", &[Scope::IntentRead, Scope::PolicyRead], ""),
    need("policy simulate", &[Scope::PolicyRead, Scope::IntentRead], "for the environment; with --file none"),
    need("policy submit", &[Scope::PolicyWrite], "for the environment; with --draft also policy:read"),
    need("policy review", &[Scope::PolicyRead], ""),
    need("policy approve", &[Scope::PolicyApprove, Scope::PolicyRead], MEMBER),
    need("policy reject", &[Scope::PolicyApprove, Scope::PolicyRead], MEMBER),
    need("policy deploy", &[Scope::PolicyWrite], "for the environment"),
    need("policy rollback", &[Scope::PolicyWrite, Scope::PolicyRead], "for the environment"),
    need(
        "policy drift",
        &[Scope::PolicyRead],
        "for the environment; with --report also policy:write, with --window also intent:read",
    ),
    need("access members list", &[Scope::AccessRead], ""),
    need("access members show", &[Scope::AccessRead], ""),
    need("access members set", &[Scope::AccessRead, Scope::AccessWrite], WHOLE),
    need("access members remove", &[Scope::AccessRead, Scope::AccessWrite], WHOLE),
    need("access members roles", &[Scope::AccessRead, Scope::AccessWrite], OWN),
    need("access roles", &[], ANY),
    need("access credentials list", &[Scope::AccessRead], ""),
    need("access credentials create", &[Scope::AccessWrite], "and what the key is to have, at least as long"),
    need("access credentials rotate", &[Scope::AccessWrite], "wherever the credential is good"),
    need("access credentials revoke", &[Scope::AccessRead, Scope::AccessWrite], "wherever the credential is good"),
    need("access agents list", &[Scope::AccessRead], ""),
    need("access agents show", &[Scope::AccessRead], ""),
    need("access agents set", &[Scope::AccessRead, Scope::AccessWrite], AGENT),
    need("access agents pause", &[Scope::AccessRead, Scope::AccessWrite], AGENT),
    need("access agents resume", &[Scope::AccessRead, Scope::AccessWrite], AGENT),
    need("access agents retire", &[Scope::AccessRead, Scope::AccessWrite], AGENT),
    need("access review make", &[Scope::ReviewSign], WHOLE),
    need("access review list", &[Scope::AccessRead], WHOLE),
    need("access review show", &[Scope::AccessRead], WHOLE),
    need("access review changes", &[Scope::AccessRead], WHOLE),
    need("access review sign", &[Scope::AccessRead, Scope::ReviewSign], "of a member, for the whole tenant"),
    need("approval list", &[Scope::ApprovalRead], ""),
    need("approval show", &[Scope::ApprovalRead], ""),
    need("approval approve", &[Scope::ApprovalDecide, Scope::ApprovalRead], MEMBER),
    need("approval deny", &[Scope::ApprovalDecide, Scope::ApprovalRead], MEMBER),
    need("approval withdraw", &[Scope::ApprovalDecide, Scope::ApprovalRead], MEMBER),
    need("approval ask", &[Scope::ApprovalDecide, Scope::ApprovalRead], MEMBER),
    need("incident open", &[Scope::EmergencyWrite], "for the environment, or the whole tenant"),
    need("incident list", &[Scope::EmergencyRead], ""),
    need("incident show", &[Scope::EmergencyRead], ""),
    need("incident note", &[Scope::EmergencyWrite], "for the environment, or the whole tenant"),
    need("incident timeline", &[Scope::EmergencyRead], "it shows what the credential sees"),
    need("incident export", &[Scope::EmergencyRead, Scope::AuditRead], "it holds what the credential sees"),
    need("incident verify", &[], NONE),
    need("incident close", &[Scope::EmergencyWrite], "for the environment, or the whole tenant"),
    need("webhook list", &[Scope::AccessRead], ""),
    need("webhook set", &[Scope::AccessWrite], "for the environment, or the whole tenant"),
    need("webhook remove", &[Scope::AccessWrite], "for the environment, or the whole tenant"),
    need("webhook rotate", &[Scope::AccessWrite], "for the environment, or the whole tenant"),
    need("webhook test", &[Scope::AccessWrite], "for the environment, or the whole tenant"),
    need("siem status", &[Scope::StatusRead], ""),
    need("siem test", &[Scope::AccessWrite], WHOLE),
    need("tenant create", &[], OPERATOR),
    need("tenant list", &[], "the server operator's key for all of them; any credential for its own"),
    need("tenant suspend", &[], OPERATOR),
    need("tenant reinstate", &[], OPERATOR),
    need("environment list", &[Scope::StatusRead], ""),
    need("environment suspend", &[Scope::AccessWrite], WHOLE),
    need("environment reinstate", &[Scope::AccessWrite], WHOLE),
    need("access members invite", &[Scope::AccessWrite], INVITE),
    need("login", &[], "no credential: it gets one"),
    need("logout", &[], "the session that ends"),
    need("whoami", &[], ANY),
    need("completions", &[], NONE),
    need("man", &[], NONE),
];

/// The words of the command that was named, as far as it was.
pub fn named(matches: &clap::ArgMatches) -> String {
    let mut words = Vec::new();
    let mut at = matches;
    while let Some((name, inner)) = at.subcommand() {
        words.push(name);
        at = inner;
    }
    words.join(" ")
}

/// Prints what the command needs; of a group, what each of its commands needs.
pub fn show(format: Format, command: &str) -> ExitCode {
    let within =
        |n: &&Need| command.is_empty() || n.command == command || n.command.starts_with(&format!("{command} "));
    for need in NEEDS.iter().filter(within) {
        let scopes: Vec<&str> = need.scopes.iter().map(|s| s.as_str()).collect();
        if format != Format::Table {
            one(format, &json!({"command": need.command, "scopes": scopes, "note": need.note}));
            continue;
        }
        let words = if scopes.is_empty() { "-".to_owned() } else { scopes.join(" ") };
        let note = if need.note.is_empty() { String::new() } else { format!("  ({})", need.note) };
        say(&format!("{}: {words}{note}", need.command));
    }
    ExitCode::Ok
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn leaves(command: &clap::Command, path: &str, out: &mut Vec<String>) {
        for inner in command.get_subcommands() {
            let path = format!("{path} {}", inner.get_name()).trim().to_owned();
            if inner.has_subcommands() { leaves(inner, &path, out) } else { out.push(path) }
        }
    }

    #[test]
    fn every_command_says_what_it_needs_and_nothing_else_does() {
        let mut commands = Vec::new();
        leaves(&crate::args::Cli::command(), "", &mut commands);
        let mut named: Vec<&str> = NEEDS.iter().map(|n| n.command).collect();
        commands.sort();
        named.sort_unstable();
        assert_eq!(commands, named);
        assert!(NEEDS.iter().all(|n| !n.scopes.is_empty() || !n.note.is_empty()));
    }
}
