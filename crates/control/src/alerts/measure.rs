//! What rules ask, answered by the signal role's counts: one question for all windows of an environment.

use crate::client;
use crate::platform::Platform;
use astraler_alert::{Counts, Metric, Question, Rule};
use astraler_model::{Environment, Window};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Rules are looked at again soon: an answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was counted in an environment, or in one deployment of it.
pub(crate) struct Measured(BTreeMap<u64, Window>);

impl Measured {
    /// Asks for every window of the rules, up to now. `None`: nobody measures, because the signal role begins, or is
    /// down.
    pub(crate) async fn of(platform: &Platform, environment: Environment, rules: &[Rule]) -> Option<Self> {
        Self::ask(platform, environment, rules, "").await
    }

    /// The same of one deployment, up to a time.
    pub(crate) async fn of_deployment(
        platform: &Platform,
        environment: Environment,
        rules: &[Rule],
        (deployment, until_ms): (&str, Option<u64>),
    ) -> Option<Self> {
        let until = until_ms.map_or_else(String::new, |until| format!("&until_ms={until}"));
        Self::ask(
            platform,
            environment,
            rules,
            &format!("&deployment={deployment}{until}"),
        )
        .await
    }

    async fn ask(
        platform: &Platform,
        environment: Environment,
        rules: &[Rule],
        further: &str,
    ) -> Option<Self> {
        let levels = rules.iter().flat_map(|rule| &rule.levels);
        let windows: BTreeSet<u64> = levels.flat_map(|level| [level.long_s, level.short_s]).collect();
        let seconds: Vec<String> = windows.iter().map(u64::to_string).collect();
        let path = format!(
            "/windows?environment={environment}&seconds={}{further}",
            seconds.join(",")
        );
        let socket = platform.installation.layout.status_socket("signal");
        let answer = tokio::time::timeout(PATIENCE, client::get(&socket, &path)).await;
        let answer = answer.ok()?.ok().filter(|answer| answer.status == 200)?;
        let found: Vec<Window> = serde_json::from_slice(&answer.body).ok()?;
        Some(Self(
            found.into_iter().map(|window| (window.seconds, window)).collect(),
        ))
    }

    /// The answer to a rule's question.
    pub(crate) fn counts(&self, question: Question) -> Option<Counts> {
        let window = self.0.get(&question.window_s)?;
        let (bad, total) = match question.metric {
            Metric::Errors => (window.errors, window.requests),
            // The role counts with the threshold of the same manifest.
            Metric::SlowerThan { .. } => (window.slow, window.requests),
            Metric::Down => (window.down_s, window.up_s + window.down_s),
            Metric::ConnectionsOver { percent } => {
                let over = window.pool_least_permille > u64::from(percent) * 10;
                (if over { window.pool_s } else { 0 }, window.pool_s)
            }
        };
        Some(Counts { bad, total })
    }

    /// Failed requests of all in the longest window.
    pub(crate) fn errors(&self) -> Counts {
        let longest = self.0.values().next_back();
        longest.map_or(Counts::default(), |window| Counts {
            bad: window.errors,
            total: window.requests,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_over_when_they_always_were() {
        let window = Window {
            seconds: 600,
            pool_s: 590,
            pool_least_permille: 850,
            ..Window::default()
        };
        let measured = Measured(BTreeMap::from([(600, window)]));
        let counts = |percent, window_s| {
            let question = Question {
                environment: Environment::Production,
                metric: Metric::ConnectionsOver { percent },
                window_s,
            };
            measured.counts(question).map(|counts| (counts.bad, counts.total))
        };
        assert_eq!(counts(80, 600), Some((590, 590)));
        assert_eq!(counts(85, 600), Some((0, 590)), "not more than 85 %");
        assert_eq!(counts(80, 300), None, "nobody measured that");
    }
}
