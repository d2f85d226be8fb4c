//! `health check`: how each component of a node is, what to do about what is not well, and the other
//! nodes, where there are some.

use intended_model::ExitCode;
use serde_json::Value;

use super::Outcome;
use crate::args::Format;
use crate::client::Client;
use crate::config::Global;
use crate::output::{one, safe, say, table, width};
use crate::when;

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn rows<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

pub async fn check(client: &Client, global: &Global) -> Outcome {
    let body = client.call("GET", "/healthz", None, &[]).await?.body;
    let status = text(&body, "status");
    if global.output == Format::Table {
        say(&components(&body, global.verbose));
        let nodes: Vec<&Value> = rows(&body, "nodes").collect();
        if nodes.len() > 1 {
            say("");
            say(&others(&nodes));
        }
        if let Some(n) = body.get("tenants_with_trouble").and_then(Value::as_u64).filter(|n| *n > 0) {
            say("");
            say(&format!(
                "something is not well for {n} tenant(s); each is told with a credential of its own (`status:read`)"
            ));
        }
        for line in todo(&body) {
            say(&line);
        }
    } else {
        one(global.output, &body);
    }
    Ok(if status == "unavailable" { ExitCode::Unavailable } else { ExitCode::Ok })
}

/// One row a component, or one a check.
fn components(body: &Value, verbose: bool) -> String {
    let mut lines = Vec::new();
    for component in rows(body, "components") {
        let mut name = text(component, "component").to_owned();
        if !verbose {
            let wrong: Vec<&str> = rows(component, "checks")
                .filter(|c| text(c, "status") != "healthy")
                .map(|c| text(c, "check"))
                .collect();
            lines.push(vec![name, text(component, "status").to_owned(), unique(wrong).join(", ")]);
            continue;
        }
        for check in rows(component, "checks") {
            let of = |n| text(check, n).to_owned();
            // Said once: what belongs together is seen to.
            lines.push(vec![std::mem::take(&mut name), of("check"), of("status"), of("detail")]);
        }
    }
    let header: &[&str] =
        if verbose { &["component", "check", "status", "detail"] } else { &["component", "status", "not well"] };
    table(header, lines)
}

fn unique(mut names: Vec<&str>) -> Vec<&str> {
    names.dedup();
    names
}

fn others(nodes: &[&Value]) -> String {
    let lines = nodes.iter().map(|node| {
        let of = |n| text(node, n).to_owned();
        let here = node.get("here") == Some(&Value::Bool(true));
        let last = when::recorded(text(node, "beat_at")).map_or("-".to_owned(), |t| when::ago(t, when::now()));
        let wrong: Vec<&str> = rows(node, "trouble").map(|t| text(t, "check")).collect();
        vec![
            of("node"),
            of("status"),
            if here { "this one".to_owned() } else { last },
            of("version"),
            unique(wrong).join(", "),
        ]
    });
    table(&["node", "status", "last seen", "version", "not well"], lines.collect())
}

/// What is wrong and what to do about it, the worst first. Several of a kind are one trouble.
fn todo(body: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for level in ["unavailable", "degraded"] {
        for component in rows(body, "components") {
            let bad: Vec<&Value> = rows(component, "checks").filter(|c| text(c, "status") == level).collect();
            for kind in bad.chunk_by(|a, b| (text(a, "check"), text(a, "do")) == (text(b, "check"), text(b, "do"))) {
                let Some(first) = kind.first() else { continue };
                let name = text(component, "component");
                out.push(String::new());
                out.push(format!("{name}: {}, {}", text(first, "check"), level.to_uppercase()));
                out.extend(kind.iter().flat_map(|check| wrapped("  ", text(check, "detail"))));
                out.extend(wrapped("  do: ", text(first, "do")));
                out.extend(Some(text(first, "see")).filter(|s| !s.is_empty()).map(|see| format!("  see: {see}")));
            }
        }
    }
    out
}

/// A text in lines that fit, each under the first one's beginning.
fn wrapped(head: &str, text: &str) -> Vec<String> {
    let text = safe(text);
    let room = width().saturating_sub(head.len()).max(20);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    let pad = " ".repeat(head.len());
    lines.iter().enumerate().map(|(n, line)| format!("{}{line}", if n == 0 { head } else { &pad })).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_worst_comes_first_with_what_to_do_once_for_several_of_a_kind() {
        let check =
            |check, status, detail, todo| json!({"check": check, "status": status, "detail": detail, "do": todo});
        let body = json!({"components": [
            {"component": "gateway", "status": "degraded", "checks": [check("workers", "degraded", "slow", "look")]},
            {"component": "store", "status": "unavailable", "checks": [check("writable", "unavailable", "full", "make room")]},
            {"component": "token service", "status": "unavailable", "checks": [
                check("sealed keys", "unavailable", "a/production", "rotate"),
                check("sealed keys", "unavailable", "a/staging", "rotate"),
                check("signature", "healthy", "fine", ""),
            ]},
        ]});
        let told = todo(&body).join("\n");
        let at = |what: &str| told.find(what).unwrap_or_else(|| panic!("{what}: {told}"));
        assert!(at("store: writable, UNAVAILABLE") < at("gateway: workers, DEGRADED"));
        assert_eq!(told.matches("do: rotate").count(), 1, "{told}");
        assert!(at("a/staging") < at("gateway") && !told.contains("fine"), "{told}");
    }

    #[test]
    fn long_texts_are_wrapped_under_their_beginning() {
        let lines = wrapped("  do: ", &"word ".repeat(60));
        assert!(lines.len() > 1 && lines.iter().all(|l| l.chars().count() <= width()), "{lines:?}");
        assert!(lines[0].starts_with("  do: word") && lines[1].starts_with("      word"), "{lines:?}");
    }
}
