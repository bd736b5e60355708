//! Serials of zones: the time of the change in seconds, so that they grow over restarts and lost folders too.

use astraler_model::DnsZone;

/// The serial of a zone that follows another one: the same when nothing else has changed.
pub fn serial_after(before: Option<&DnsZone>, zone: &DnsZone, now_s: u32) -> u32 {
    let Some(before) = before else {
        return now_s;
    };
    let same = DnsZone {
        serial: before.serial,
        ..zone.clone()
    };
    match *before == same {
        true => before.serial,
        false => later(before.serial, now_s),
    }
}

/// A serial after this one: the time, where that is later (RFC 1982).
fn later(serial: u32, now_s: u32) -> u32 {
    let next = serial.wrapping_add(1);
    if now_s.wrapping_sub(next) as i32 > 0 {
        now_s
    } else {
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_only_grow() {
        let now = 1_790_000_000;
        assert_eq!(later(now - 100, now), now);
        assert_eq!(later(now + 1_000, now), now + 1_001, "a clock that went back");
    }
}
