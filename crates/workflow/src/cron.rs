//! The entries of `schedule`: POSIX cron with five fields.
//!
//! <https://docs.github.com/actions/reference/workflows-and-actions/events-that-trigger-workflows#schedule>

/// When a workflow is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    /// Minutes, hours, days, months, days of the week: a bit for each value.
    fields: [u64; 5],
    /// Whether days, and days of the week, are any: where both are named, one of them is enough.
    any_day: bool,
    any_weekday: bool,
}

/// Why a text is no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// There are not five of them.
    #[error("`{0}` has not five fields: minute, hour, day of the month, month, day of the week")]
    Fields(String),
    /// A field is not what it may be.
    #[error("`{field}` is no {name}: {low} to {high}, `*`, `/`, `-` and `,`")]
    Field {
        /// Its text.
        field: String,
        /// Which one.
        name: &'static str,
        /// The least.
        low: u32,
        /// The most.
        high: u32,
    },
}

/// A minute of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minute {
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 1 to 31.
    pub day: u32,
    /// 1 to 12.
    pub month: u32,
    /// 0 to 6, from Sunday.
    pub weekday: u32,
}

const MONTHS: &[&str] = &[
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const WEEKDAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

impl Cron {
    /// Reads an entry.
    pub fn new(text: &str) -> Result<Self, CronError> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts.as_slice() else {
            return Err(CronError::Fields(text.to_owned()));
        };
        let mut weekdays = field(weekday, "day of the week", 0, 7, WEEKDAYS, 0)?;
        // 7 is Sunday too.
        if weekdays & (1 << 7) != 0 {
            weekdays |= 1;
        }
        Ok(Self {
            fields: [
                field(minute, "minute", 0, 59, &[], 0)?,
                field(hour, "hour", 0, 23, &[], 0)?,
                field(day, "day of the month", 1, 31, &[], 0)?,
                field(month, "month", 1, 12, MONTHS, 1)?,
                weekdays,
            ],
            any_day: day.starts_with('*'),
            any_weekday: weekday.starts_with('*'),
        })
    }

    /// Whether it is due in this minute.
    pub fn is_due(&self, at: Minute) -> bool {
        let has = |field: usize, value: u32| self.fields[field] & (1 << value.min(63)) != 0;
        let (day, weekday) = (has(2, at.day), has(4, at.weekday));
        let date = if self.any_day || self.any_weekday {
            day && weekday
        } else {
            day || weekday
        };
        has(0, at.minute) && has(1, at.hour) && has(3, at.month) && date
    }
}

/// A field as bits.
fn field(
    text: &str,
    name: &'static str,
    low: u32,
    high: u32,
    names: &[&str],
    first: u32,
) -> Result<u64, CronError> {
    let wrong = || CronError::Field {
        field: text.to_owned(),
        name,
        low,
        high,
    };
    let number = |text: &str| -> Option<u32> {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let number = match named {
            Some(at) => u32::try_from(at).ok()? + first,
            None if text.len() <= 2 && text.bytes().all(|digit| digit.is_ascii_digit()) => {
                text.parse().ok()?
            }
            None => return None,
        };
        (low..=high).contains(&number).then_some(number)
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (
                range,
                step.parse().ok().filter(|step| *step > 0).ok_or_else(wrong)?,
            ),
            None => (part, 1_usize),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (low, high),
            Some((from, to)) => (number(from).ok_or_else(wrong)?, number(to).ok_or_else(wrong)?),
            // `5/15` goes on to the end.
            None if part.contains('/') => (number(range).ok_or_else(wrong)?, high),
            None => {
                let one = number(range).ok_or_else(wrong)?;
                (one, one)
            }
        };
        if from > to {
            return Err(wrong());
        }
        for value in (from..=to).step_by(step) {
            bits |= 1 << value;
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: u32, hour: u32, day: u32, month: u32, weekday: u32) -> Minute {
        Minute {
            minute,
            hour,
            day,
            month,
            weekday,
        }
    }

    #[test]
    fn entries_are_due_in_their_minutes() {
        let due = |text: &str, minute| Cron::new(text).unwrap().is_due(minute);
        assert!(due("30 5,17 * * *", at(30, 17, 3, 4, 5)));
        assert!(!due("30 5,17 * * *", at(30, 6, 3, 4, 5)));
        assert!(due("*/15 4-6 * * MON-FRI", at(45, 5, 3, 4, 1)));
        assert!(!due("*/15 4-6 * * MON-FRI", at(45, 5, 3, 4, 0)));
        assert!(due("20/15 * * * *", at(50, 0, 1, 1, 0)));
        assert!(!due("20/15 * * * *", at(5, 0, 1, 1, 0)));
        assert!(due("0 0 1 JAN *", at(0, 0, 1, 1, 3)));
        assert!(due("0 0 * * 7", at(0, 0, 9, 1, 0)), "7 is Sunday");
        // Either the day or the day of the week, where both are named.
        assert!(due("0 0 13 * 5", at(0, 0, 13, 2, 1)));
        assert!(due("0 0 13 * 5", at(0, 0, 14, 2, 5)));
        assert!(!due("0 0 13 * 5", at(0, 0, 14, 2, 1)));
    }

    #[test]
    fn what_is_no_entry_says_why() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "@daily x x x x",
            "* * * FOO *",
        ] {
            assert!(Cron::new(text).is_err(), "{text}");
        }
        let error = Cron::new("0 25 * * *").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`25` is no hour: 0 to 23, `*`, `/`, `-` and `,`"
        );
    }
}
