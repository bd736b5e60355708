//! `@verifyCC`, `@verifyCPF`, `@verifySSN`, `@verifySVNR`: numbers with check digits, found by a pattern.

/// Which check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Payment cards: Luhn's sum.
    Card,
    /// Brazil's register of persons.
    Cpf,
    /// The United States' social security numbers.
    Ssn,
    /// Austria's social security numbers.
    Svnr,
}

/// Whether what a pattern found is such a number.
pub(crate) fn check(check: Check, found: &[u8]) -> bool {
    let digits: Vec<u32> = found
        .iter()
        .filter(|byte| byte.is_ascii_digit())
        .map(|byte| u32::from(byte - b'0'))
        .collect();
    match check {
        Check::Card => luhn(&digits),
        Check::Cpf => cpf(&digits),
        Check::Ssn => ssn(&digits),
        Check::Svnr => svnr(&digits),
    }
}

fn luhn(digits: &[u32]) -> bool {
    if digits.is_empty() {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, digit)| match (index % 2, digit * 2) {
            (0, _) => *digit,
            (_, doubled) if doubled > 9 => doubled - 9,
            (_, doubled) => doubled,
        })
        .sum();
    sum.is_multiple_of(10)
}

fn cpf(digits: &[u32]) -> bool {
    if digits.len() != 11 || digits.iter().all(|digit| *digit == digits[0]) {
        return false;
    }
    let check = |length: u32| {
        let sum: u32 = digits
            .iter()
            .zip((2..=length + 1).rev())
            .map(|(digit, weight)| digit * weight)
            .sum();
        sum * 10 % 11 % 10
    };
    check(9) == digits[9] && check(10) == digits[10]
}

fn ssn(digits: &[u32]) -> bool {
    let number = |part: &[u32]| part.iter().fold(0, |value, digit| value * 10 + digit);
    if digits.len() != 9 {
        return false;
    }
    let (area, group, serial) = (number(&digits[..3]), number(&digits[3..5]), number(&digits[5..]));
    area != 0 && area != 666 && area < 740 && group != 0 && serial != 0
}

fn svnr(digits: &[u32]) -> bool {
    const WEIGHTS: [u32; 10] = [3, 7, 9, 0, 5, 8, 4, 2, 1, 6];
    if digits.len() != 10 || digits[0] == 0 {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .zip(WEIGHTS)
        .map(|(digit, weight)| digit * weight)
        .sum();
    sum % 11 == digits[3]
}
