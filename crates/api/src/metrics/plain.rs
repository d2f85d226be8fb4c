//! Prometheus' own text format (version 0.0.4), for who does not ask for OpenMetrics: `curl`, and
//! `promtool check metrics`, which reads nothing else.

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether an `Accept` header asks for OpenMetrics. Prometheus does, and takes this format too.
#[must_use]
pub fn wants_open_metrics(accept: Option<&str>) -> bool {
    let offered =
        |range: &str| range.split(';').next().is_some_and(|kind| kind.trim() == "application/openmetrics-text");
    accept.is_some_and(|accept| accept.to_ascii_lowercase().split(',').any(offered))
}

/// A page in OpenMetrics, in this format: a counter's name has its `_total` also where it is
/// described, and nothing says where the end is.
#[must_use]
pub fn plain(open: &str) -> String {
    let mut out = String::with_capacity(open.len() + 256);
    let counters: Vec<&str> =
        open.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    for line in open.lines().filter(|line| *line != "# EOF") {
        let described = ["# HELP ", "# TYPE "].iter().find_map(|mark| {
            let (name, rest) = line.strip_prefix(mark)?.split_once(' ')?;
            counters.contains(&name).then_some((mark, name, rest))
        });
        match described {
            Some((mark, name, rest)) => out.extend([*mark, name, "_total ", rest]),
            None => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_has_one_name_and_the_rest_stays_as_it_is() {
        let open = "# HELP a_b Things.\n# TYPE a_b counter\na_b_total{x=\"# TYPE y\"} 5\n\
                    # HELP a_bc A b c.\n# TYPE a_bc gauge\na_bc 1\n# EOF\n";
        let expected = "# HELP a_b_total Things.\n# TYPE a_b_total counter\na_b_total{x=\"# TYPE y\"} 5\n\
                        # HELP a_bc A b c.\n# TYPE a_bc gauge\na_bc 1\n";
        assert_eq!(plain(open), expected);
    }

    #[test]
    fn openmetrics_is_for_who_asks_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, open) in [
            (Some(prometheus), true),
            (Some("text/plain, Application/OpenMetrics-Text"), true),
            (Some("*/*"), false),
            (Some("application/openmetrics-textual"), false),
            (None, false),
        ] {
            assert_eq!(wants_open_metrics(accept), open, "{accept:?}");
        }
    }
}
