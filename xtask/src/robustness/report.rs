//! What the suite's log tells of each scenario.

use std::fmt;

/// Lines of a failure that are shown.
const REASONS_MAX: usize = 12;

/// One scenario in one round.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scenario {
    /// As the suite calls it, without the name of the test.
    pub(crate) name: String,
    /// The failpoint at which it struck.
    failpoint: Option<String>,
    /// Whether the cluster was healthy again after that.
    is_struck: bool,
    ended: Option<Ended>,
    seconds: String,
    reasons: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Pass,
    Fail,
    Skip,
}

impl Scenario {
    /// Whether it counts, or why not.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        let why = match (self.ended, self.is_struck) {
            (Some(Ended::Pass), true) => return Ok(()),
            (Some(Ended::Pass), false) => "no failpoint was struck".to_owned(),
            (Some(Ended::Skip), _) => {
                "skipped: does the server answer on the port of gofail?".to_owned()
            }
            (Some(Ended::Fail), _) => "failed".to_owned(),
            (None, _) => "did not end".to_owned(),
        };
        let reasons: String = self.reasons.iter().map(|line| format!("\n    {line}")).collect();
        Err(why + &reasons)
    }
}

impl Scenario {
    /// Whether it has no verdict: the clients got fewer operations a second than the suite wants to take its own verdict for
    /// sound, the search for an order of the operations ran out of its five minutes, or the member that was to be cut off
    /// until it needs a snapshot kept up for a minute, over streams of its own that the suite's proxy does not carry.
    pub(crate) fn is_undecided(&self) -> bool {
        const SEARCH: &str = ": linearization: Timeout";
        const NOT_STRUCK: &str = ": failed triggering failpoint, err: context deadline exceeded";
        // What follows when the load is ended because nothing was struck.
        const ENDED_EARLY: [&str; 2] =
            [": client didn't collect all events, max revision not set", ": context canceled"];
        let has = |what: &str| self.reasons.iter().any(|line| line.contains(what));
        let kept_up = has("blackholedMemberRevision: ") && has(NOT_STRUCK);
        // What the validators, the failpoint and the comparison of the members find is told by main_test.go.
        let is_finding = |line: &String| {
            let ends_early = ENDED_EARLY.iter().any(|text| line.ends_with(text));
            let is_known =
                line.ends_with(SEARCH) || (kept_up && (ends_early || line.ends_with(NOT_STRUCK)));
            line.starts_with("main_test.go:") && !is_known
        };
        self.ended == Some(Ended::Fail)
            && (has("Requiring minimal") || has(SEARCH) || kept_up)
            && !self.reasons.iter().any(is_finding)
            && !has("panic: ")
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.verdict().is_ok() { "ok" } else { "FAIL" };
        let failpoint = self.failpoint.as_deref().unwrap_or("-");
        write!(f, "{:<40} {failpoint:<44} {verdict} {}", self.name, self.seconds)
    }
}

/// Reads what `-test.v` prints.
pub(crate) fn read(log: &str) -> Vec<Scenario> {
    let mut scenarios: Vec<Scenario> = Vec::new();
    for line in log.lines() {
        let text = line.trim_start();
        if let Some(name) =
            text.strip_prefix("=== RUN ").and_then(|name| scenario_name(name.trim()))
        {
            if scenarios.last().is_none_or(|last| last.name != name) {
                scenarios.push(Scenario { name: name.to_owned(), ..Scenario::default() });
            }
        } else if let Some((ended, name, seconds)) = result(text) {
            if let Some(scenario) = scenarios.iter_mut().find(|scenario| scenario.name == name) {
                // The scenario and its failpoint are tests each, the one within the other: the worse one counts.
                let is_worse = matches!(scenario.ended, None | Some(Ended::Pass));
                if is_worse {
                    scenario.ended = Some(ended);
                }
                scenario.seconds = seconds.to_owned();
            }
        } else if let Some(scenario) = scenarios.last_mut() {
            note(scenario, line, text);
        }
    }
    scenarios
}

/// What a line says of the scenario that runs.
fn note(scenario: &mut Scenario, line: &str, text: &str) {
    let message = |what: &str| line.contains(&format!("\tINFO\t{what}\t"));
    if message("Triggering failpoint") {
        scenario.failpoint = field(line, "failpoint").map(str::to_owned);
    } else if message("Finished triggering failpoint") {
        scenario.is_struck = true;
    } else if is_reason(text) {
        // A test that waits says the same again and again: the last time counts.
        let place = |line: &str| line.split_once(": ").map(|(place, _)| place.to_owned());
        if scenario.reasons.last().is_some_and(|last| place(last) == place(text)) {
            scenario.reasons.pop();
        }
        if scenario.reasons.len() < REASONS_MAX {
            scenario.reasons.push(text.to_owned());
        }
    }
}

/// A line that a test writes itself, like `traffic.go:134: ...`, and those of Go's panics.
fn is_reason(text: &str) -> bool {
    let place = text.split_once(": ").map_or("", |(place, _)| place);
    let is_place = place.split_once(".go:").is_some_and(|(file, number)| {
        file != "logger" && !file.contains(' ') && number.parse::<u32>().is_ok()
    });
    is_place || text.starts_with("panic: ") || text.starts_with("Error:")
}

/// The value of a field of zap's JSON, which has no escapes in what is looked for here.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("\"{name}\": \""))?;
    rest.split('"').next()
}

/// `--- PASS: TestRobustnessRegression/Issue14370 (4.84s)`.
fn result(text: &str) -> Option<(Ended, &str, &str)> {
    let (verdict, rest) = text.strip_prefix("--- ")?.split_once(": ")?;
    let ended = match verdict {
        "PASS" => Ended::Pass,
        "FAIL" => Ended::Fail,
        "SKIP" => Ended::Skip,
        _ => return None,
    };
    let (name, seconds) = rest.rsplit_once(' ')?;
    let seconds = seconds.trim_start_matches('(').trim_end_matches(')');
    Some((ended, scenario_name(name)?, seconds))
}

/// `TestRobustnessExploratory/EtcdHighTraffic/ClusterOfSize1/raftBeforeSave=panic` is of `EtcdHighTraffic/ClusterOfSize1`.
fn scenario_name(test: &str) -> Option<&str> {
    let (kind, name) = test.split_once('/')?;
    match kind {
        "TestRobustnessRegression" => Some(name),
        "TestRobustnessExploratory" => {
            let end = name.match_indices('/').nth(1).map_or(name.len(), |(at, _)| at);
            Some(&name[..end])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(log: &str) -> Vec<String> {
        let line = |scenario: &Scenario| {
            let failpoint = scenario.failpoint.as_deref().unwrap_or("-");
            let verdict = scenario.verdict().err().unwrap_or_else(|| "ok".to_owned());
            format!("{} {failpoint} {} {verdict}", scenario.name, scenario.seconds)
        };
        read(log).iter().map(line).collect()
    }

    const STRUCK: &str = "    logger.go:146: 2026-11-21T17:54:46Z\tINFO\tTriggering failpoint\t{\"failpoint\": \"Kill\"}
    logger.go:146: 2026-11-21T17:54:47Z\tINFO\tFinished triggering failpoint\t{\"failpoint\": \"Kill\"}
";

    #[test]
    fn a_round() {
        let log = format!(
            "=== RUN   TestRobustnessExploratory
=== RUN   TestRobustnessExploratory/EtcdHighTraffic/ClusterOfSize1
=== RUN   TestRobustnessExploratory/EtcdHighTraffic/ClusterOfSize1/Kill
{STRUCK}--- PASS: TestRobustnessExploratory (6.23s)
    --- PASS: TestRobustnessExploratory/EtcdHighTraffic/ClusterOfSize1 (6.22s)
        --- PASS: TestRobustnessExploratory/EtcdHighTraffic/ClusterOfSize1/Kill (6.01s)
=== RUN   TestRobustnessRegression
=== RUN   TestRobustnessRegression/Issue14370
{STRUCK}    traffic.go:134: Requiring minimal 100.0 qps
=== RUN   TestRobustnessRegression/Issue14685
    cluster.go:459: please run 'make gofail-enable && make build' before running the test
=== RUN   TestRobustnessRegression/Issue13766
{STRUCK}=== RUN   TestRobustnessRegression/Issue15220
--- FAIL: TestRobustnessRegression (53.21s)
    --- FAIL: TestRobustnessRegression/Issue14370 (4.84s)
    --- SKIP: TestRobustnessRegression/Issue14685 (4.36s)
    --- PASS: TestRobustnessRegression/Issue15220 (1.00s)
"
        );
        let expected = [
            "EtcdHighTraffic/ClusterOfSize1 Kill 6.01s ok",
            "Issue14370 Kill 4.84s failed\n    traffic.go:134: Requiring minimal 100.0 qps",
            "Issue14685 - 4.36s skipped: does the server answer on the port of gofail?\n    cluster.go:459: please run \
             'make gofail-enable && make build' before running the test",
            "Issue13766 Kill  did not end",
            "Issue15220 - 1.00s no failpoint was struck",
        ];
        assert_eq!(summary(&log), expected);
    }

    #[test]
    fn undecided_is_told_from_wrong() {
        let cases = [
            ("traffic.go:179: Requiring minimal 100.0 qps", true),
            (
                "network.go:80: Blackholing traffic\n    traffic.go:179: Requiring minimal 100.0 qps",
                true,
            ),
            ("main_test.go:118: linearization: Timeout", true),
            ("main_test.go:118: linearization: Failed", false),
            (
                "main_test.go:118: linearization: Timeout\n    main_test.go:161: hashes differ",
                false,
            ),
            (
                "traffic.go:179: Requiring minimal 100.0 qps\n    main_test.go:130: watch broken",
                false,
            ),
            (
                "network.go:135: clusterRevision: 9, blackholedMemberRevision: 9, minEntries: 150\n    \
                 main_test.go:142: failed triggering failpoint, err: context deadline exceeded",
                true,
            ),
            (
                "network.go:135: clusterRevision: 9, blackholedMemberRevision: 9, minEntries: 150\n    \
                 main_test.go:142: failed triggering failpoint, err: context deadline exceeded\n    \
                 traffic.go:149: Traffic finished before failure was injected: context canceled\n    \
                 main_test.go:178: client didn't collect all events, max revision not set\n    \
                 main_test.go:183: context canceled",
                true,
            ),
            (
                "main_test.go:142: failed triggering failpoint, err: context deadline exceeded",
                false,
            ),
            ("main_test.go:178: client didn't collect all events, max revision not set", false),
            (
                "network.go:135: clusterRevision: 9, blackholedMemberRevision: 9, minEntries: 150\n    \
                 main_test.go:118: linearization: Failed",
                false,
            ),
        ];
        for (reasons, expected) in cases {
            let log = format!(
                "=== RUN   TestRobustnessRegression/Issue1\n{STRUCK}    {reasons}\n    --- FAIL: \
                 TestRobustnessRegression/Issue1 (1.00s)\n"
            );
            let scenarios = read(&log);
            let found: Vec<bool> = scenarios.iter().map(Scenario::is_undecided).collect();
            assert_eq!(found, [expected], "{reasons}");
        }
    }

    #[test]
    fn what_is_said_again_and_again_hides_nothing() {
        let waiting: String =
            (0..100).map(|n| format!("    network.go:135: clusterRevision: {n}\n")).collect();
        let log = format!(
            "=== RUN   TestRobustnessRegression/Issue1\n{STRUCK}{waiting}    main_test.go:118: linearization: Failed\n    \
             --- FAIL: TestRobustnessRegression/Issue1 (1.00s)\n"
        );
        let expected = "Issue1 Kill 1.00s failed\n    network.go:135: clusterRevision: 99\n    main_test.go:118: \
                        linearization: Failed";
        assert_eq!(summary(&log), [expected]);
    }

    #[test]
    fn the_worse_of_a_scenario_and_its_failpoint_counts() {
        let log = format!(
            "=== RUN   TestRobustnessExploratory/A/ClusterOfSize3
=== RUN   TestRobustnessExploratory/A/ClusterOfSize3/Kill
{STRUCK}        --- FAIL: TestRobustnessExploratory/A/ClusterOfSize3/Kill (2.00s)
    --- PASS: TestRobustnessExploratory/A/ClusterOfSize3 (3.00s)
"
        );
        assert_eq!(summary(&log), ["A/ClusterOfSize3 Kill 3.00s failed"]);
    }
}
