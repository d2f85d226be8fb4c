//! `policy approve` and `policy reject`.

use intended_model::ExitCode;
use serde_json::json;

use super::{changes, number, review, rows, text, version, words};
use crate::args::{Format, Verdict};
use crate::client::Client;
use crate::cmd::{Outcome, encode};
use crate::config::Global;
use crate::confirm;
use crate::error::CliError;
use crate::output::{note, one, say};

/// `verb`: `approve` or `reject`. What is sent is about what was shown, and nothing else.
pub async fn run(global: &Global, args: &Verdict, verb: &str) -> Outcome {
    let client = Client::new(global)?;
    let path = format!("drafts/{}/{verb}", encode(&args.draft));
    let body = json!({"reason": args.reason});
    client.would("POST", &path, &body)?;
    if global.print_curl {
        client.call("POST", &path, Some(&body), &[("if-match", "\"…\"")]).await?;
    }
    let draft = version::draft(&client, &args.draft).await?;
    let digest = text(&draft, "/digest");
    let hex = |d: &str| d.strip_prefix("sha256:").unwrap_or(d).to_ascii_lowercase();
    if let Some(wanted) = args.digest.as_deref().filter(|w| w.len() < 6 || !hex(&digest).starts_with(&hex(w))) {
        return Err(CliError::Failed(
            format!("{} has the digest {digest}, and not `{wanted}`: it is another content", args.draft),
            ExitCode::Invalid,
        ));
    }
    let differ = review::against_deployed(&client, &draft).await?;
    note(&format!("{}  {}", args.draft, text(&draft, "/title")));
    note(&format!("{digest}  by {}", words(&draft, "/authors")));
    note(&if differ.is_empty() { "  no difference to what is deployed".to_owned() } else { changes::stat(&differ) });
    confirm::yes(global, &format!("{verb} this for `{}`?", text(&draft, "/environment")))?;
    let after = client.change_at("POST", &path, &text(&draft, "/etag"), Some(&body)).await?;
    if global.output != Format::Table {
        one(global.output, &after);
        return Ok(ExitCode::Ok);
    }
    if verb == "reject" {
        say(&format!("rejected {}", args.draft));
        return Ok(ExitCode::Ok);
    }
    let (given, needed) = (number(&after, "/approvals_given"), number(&after, "/approvals_needed"));
    say(&format!("approved {}: {given} of {needed}", args.draft));
    if text(&after, "/status") == "approved" {
        note(&format!("next: intended policy deploy {} -e {}", args.draft, text(&after, "/environment")));
    } else {
        let done: Vec<String> = rows(&after, "/approvals").map(|a| text(a, "/member")).collect();
        let left = rows(&after, "/approvers").map(|a| text(a, "")).filter(|a| !done.contains(a)).collect::<Vec<_>>();
        note(&format!("{} more must approve, of {}", needed.saturating_sub(given), left.join(", ")));
    }
    Ok(ExitCode::Ok)
}
