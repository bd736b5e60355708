//! Numbers as GitHub reads and writes them: .NET's `Double` in the invariant culture, and `G15`.

/// Significant digits of a number that is written.
const DIGITS: usize = 15;

/// The number that a string counts as. White space around it does not matter, an empty string is 0, and what is
/// no number is NaN.
pub(crate) fn parse(text: &str) -> f64 {
    let text = text.trim();
    if text.is_empty() {
        return 0.0;
    }
    if let Some(number) = decimal(text).or_else(|| named(text)) {
        return number;
    }
    // 32 bits, two's complement: `0xFFFFFFFF` is -1.
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16).map_or(f64::NAN, f64::from);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8).map_or(f64::NAN, f64::from);
    }
    f64::NAN
}

/// `[+-] digits [. digits] [e [+-] digits]`, with at least one digit before the exponent.
pub(crate) fn decimal(text: &str) -> Option<f64> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let whole = digits(rest);
    rest = &rest[whole..];
    let mut fraction = 0;
    if let Some(after) = rest.strip_prefix('.') {
        fraction = digits(after);
        rest = &after[fraction..];
    }
    if whole + fraction == 0 {
        return None;
    }
    if let Some(after) = rest.strip_prefix(['e', 'E']) {
        let after = after.strip_prefix(['+', '-']).unwrap_or(after);
        let exponent = digits(after);
        if exponent == 0 {
            return None;
        }
        rest = &after[exponent..];
    }
    rest.is_empty().then(|| text.parse().ok()).flatten()
}

/// `Infinity` and `NaN`, with a sign and in any case.
fn named(text: &str) -> Option<f64> {
    let (negative, name) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if name.eq_ignore_ascii_case("infinity") {
        return Some(if negative {
            f64::NEG_INFINITY
        } else {
            f64::INFINITY
        });
    }
    name.eq_ignore_ascii_case("nan").then_some(f64::NAN)
}

/// A 32-bit integer in digits of this radix, without a sign.
pub(crate) fn radix(digits: &str, radix: u32) -> Option<i32> {
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok().map(u32::cast_signed)
}

/// Fifteen significant digits; scientific from 1E+15 up and below 0.0001.
pub(crate) fn format(number: f64) -> String {
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    if number == 0.0 {
        return "0".into();
    }
    let scientific = format!("{:.*e}", DIGITS - 1, number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0');
    let sign = if number < 0.0 { "-" } else { "" };
    if exponent <= -5 || exponent >= DIGITS as i32 {
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        let direction = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{first}{dot}{rest}E{direction}{:02}", exponent.abs());
    }
    if exponent < 0 {
        let zeros = "0".repeat((-exponent - 1) as usize);
        return format!("{sign}0.{zeros}{digits}");
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        let zeros = "0".repeat(whole - digits.len());
        return format!("{sign}{digits}{zeros}");
    }
    let (before, after) = digits.split_at(whole);
    format!("{sign}{before}.{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_g15() {
        let all = [
            (0.845_512_408_225_570_1, "0.84551240822557"),
            (123_456.123_456, "123456.123456"),
            (1_587_106_672_383_762_434.0, "1.58710667238376E+18"),
            (1e15, "1E+15"),
            (999_999_999_999_999.0, "999999999999999"),
            (0.0001, "0.0001"),
            (0.00001, "1E-05"),
            (-0.0, "0"),
            (-1234.5, "-1234.5"),
            (1e300, "1E+300"),
            (0.1 + 0.2, "0.3"),
            (f64::NEG_INFINITY, "-Infinity"),
        ];
        for (number, text) in all {
            assert_eq!(format(number), text);
        }
    }

    #[test]
    fn strings_count_as_numbers() {
        let all = [
            ("", 0.0),
            (" +12.5 ", 12.5),
            ("0xff", 255.0),
            ("0xFFFFFFFF", -1.0),
            ("0o17", 15.0),
            (".5", 0.5),
            ("1.", 1.0),
            ("-1e2", -100.0),
            ("1e400", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
        ];
        for (text, number) in all {
            assert_eq!(parse(text), number, "{text}");
        }
        for text in [
            "x",
            ".",
            "1e",
            "1e+",
            "0x",
            "0X1",
            "-0x1",
            "0o8",
            "1 2",
            "1,0",
            "inf",
            "0x1FFFFFFFF",
        ] {
            assert!(parse(text).is_nan(), "{text}");
        }
    }
}
