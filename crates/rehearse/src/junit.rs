//! Test results as JUnit XML, as CI systems read it: one suite per file, one case per decision.

use std::fmt::Write as _;

use crate::run::{CaseResult, SuiteReport};

/// The report as one XML document.
#[must_use]
pub fn junit(pack: &str, report: &SuiteReport) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuites name=\"{}\" tests=\"{}\" failures=\"{}\">",
        escaped(pack),
        report.cases.len(),
        report.failed()
    );
    let mut files: Vec<&str> = report.cases.iter().map(|c| c.file.as_str()).collect();
    files.dedup();
    for file in files {
        let cases: Vec<&CaseResult> = report.cases.iter().filter(|c| c.file == file).collect();
        let failed = cases.iter().filter(|c| !c.passed()).count();
        let _ =
            writeln!(out, "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\">", escaped(file), cases.len());
        for case in cases {
            one(&mut out, case);
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn one(out: &mut String, case: &CaseResult) {
    let _ = write!(
        out,
        "    <testcase classname=\"{}\" name=\"{}\" file=\"{}\" line=\"{}\"",
        escaped(&case.file),
        escaped(&case.name()),
        escaped(&case.file),
        case.line
    );
    if case.passed() {
        out.push_str("/>\n");
        return;
    }
    let gates: Vec<String> = case
        .gates
        .iter()
        .map(|g| {
            let outcome = format!("{:?}", g.outcome).to_lowercase();
            format!("{:<10} {outcome:<8} {} {}", g.gate.as_str(), g.code, g.detail)
        })
        .collect();
    let _ = writeln!(
        out,
        ">\n      <failure message=\"{}\">{}</failure>\n    </testcase>",
        escaped(&case.differs.join("; ")),
        escaped(&gates.join("\n"))
    );
}

/// XML text; what XML 1.0 cannot hold becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\r' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
