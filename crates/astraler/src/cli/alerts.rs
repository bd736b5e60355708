//! `astraler alerts …`.

use super::Json;
use clap::Subcommand;

/// `alerts …`.
#[derive(Debug, Subcommand)]
pub(crate) enum AlertsCommand {
    /// What fires, what is silenced, what could not be delivered, and which channels are not set up.
    #[command(after_help = "Examples:\n  astraler alerts list\n  astraler alerts list --all --json")]
    List {
        /// What is over, too.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        json: Json,
    },
    /// Look after an alert: it neither repeats nor escalates for a while.
    #[command(after_help = "Example:\n  astraler alerts ack 12 --for 2h")]
    Ack {
        /// Its number.
        number: u64,
        /// For how long: a number and m, h or d.
        #[arg(long = "for", value_name = "TIME", default_value = "4h")]
        lasts: String,
        #[command(flatten)]
        json: Json,
    },
    /// Tell nobody of a rule, an environment, or both, for a while. The end of an alert is told all the same.
    #[command(after_help = "Examples:
  astraler alerts silence --env staging --for 2h --reason \"load test\"
  astraler alerts silence --rule slow --for 30m
  astraler alerts silence --end 3")]
    Silence {
        /// Of this rule only.
        #[arg(long, required_unless_present_any = ["environment", "end"])]
        rule: Option<String>,
        /// Of this environment only.
        #[arg(long = "env", value_name = "NAME")]
        environment: Option<String>,
        /// For how long: a number and m, h or d.
        #[arg(long = "for", value_name = "TIME", default_value = "1h")]
        lasts: String,
        /// Why, for those who wonder.
        #[arg(long, default_value = "")]
        reason: String,
        /// End the silence of this number instead.
        #[arg(long, value_name = "NUMBER", conflicts_with_all = ["rule", "environment", "reason"])]
        end: Option<u64>,
        #[command(flatten)]
        json: Json,
    },
    /// Raise an alert that is over in a minute, to try the channels of a severity.
    #[command(after_help = "Example:\n  astraler alerts test --severity critical")]
    Test {
        /// critical, high, medium or low.
        #[arg(long, default_value = "high")]
        severity: String,
        #[command(flatten)]
        json: Json,
    },
}
