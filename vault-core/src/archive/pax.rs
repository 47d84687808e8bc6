//! Extended headers: records of `LENGTH KEY=VALUE` and a line end.

use crate::ports::Timestamp;

/// Writes records.
#[derive(Default)]
pub(super) struct Records(Vec<u8>);

impl Records {
    /// Adds a record. Its length counts its own digits.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut digits = 1;
        while rest + digits >= 10_usize.pow(u32::try_from(digits).unwrap_or(u32::MAX)) {
            digits += 1;
        }
        self.0.extend_from_slice((rest + digits).to_string().as_bytes());
        self.0.push(b' ');
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    pub(super) fn number(&mut self, key: &[u8], value: u64) {
        self.push(key, value.to_string().as_bytes());
    }

    pub(super) fn time(&mut self, key: &[u8], time: Timestamp) {
        self.push(key, time_text(time).as_bytes());
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Splits the first record off; `None` when the bytes follow no such form.
pub(super) fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let (digits, _) = bytes.split_at(space);
    let len = usize::try_from(number(digits)?).ok()?;
    if len <= space + 1 || len > bytes.len() {
        return None;
    }
    let (record, rest) = bytes.split_at(len);
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    Some((record.get(..equals)?, record.get(equals + 1..)?, rest))
}

/// Reads a decimal number without sign or blanks.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Writes seconds with as much of a fraction as there is.
fn time_text(time: Timestamp) -> String {
    let (sign, seconds, nanos) = if time.seconds < 0 && time.nanos > 0 {
        ("-", time.seconds.unsigned_abs() - 1, 1_000_000_000 - time.nanos)
    } else if time.seconds < 0 {
        ("-", time.seconds.unsigned_abs(), 0)
    } else {
        ("", time.seconds.unsigned_abs(), time.nanos)
    };
    if nanos == 0 {
        return format!("{sign}{seconds}");
    }
    let fraction = format!("{nanos:09}");
    format!("{sign}{seconds}.{}", fraction.trim_end_matches('0'))
}

/// Reads seconds with a fraction; what is finer than nanoseconds is cut off towards the past.
pub(super) fn time(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(number(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanos = (0..9).fold(0_u32, |nanos, at| {
        nanos * 10 + fraction.get(at).map_or(0, |digit| u32::from(digit - b'0'))
    });
    let finer = fraction.iter().skip(9).any(|digit| *digit != b'0');
    if !negative {
        return Some(Timestamp { seconds, nanos });
    }
    let nanos = nanos + u32::from(finer);
    if nanos == 0 {
        return Some(Timestamp { seconds: -seconds, nanos: 0 });
    }
    Some(Timestamp { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos })
}

/// Writes an attribute's name so that it has no `=`, as GNU tar does.
pub(super) fn encode_name(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'=' => out.extend_from_slice(b"%3D"),
            b'%' => out.extend_from_slice(b"%25"),
            byte => out.push(*byte),
        }
    }
    out
}

/// Reads an attribute's name as GNU tar and we write it.
pub(super) fn decode_name(mut text: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(text.len());
    while let [first, rest @ ..] = text {
        let (byte, rest) = match text {
            [b'%', b'3', b'D', rest @ ..] => (b'=', rest),
            [b'%', b'2', b'5', rest @ ..] => (b'%', rest),
            _ => (*first, rest),
        };
        name.push(byte);
        text = rest;
    }
    name
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn record_counts_its_own_digits() {
        for len in (0..120).chain(970..1010).chain(99_970..100_010) {
            let mut records = Records::default();
            records.push(b"key", &vec![b'v'; len]);
            records.push(b"next", b"\n=\n");
            let (key, value, rest) = split_record(records.bytes()).unwrap();
            assert_eq!((key, value.len()), (b"key".as_slice(), len));
            let (key, value, rest) = split_record(rest).unwrap();
            assert_eq!(
                (key, value, rest),
                (b"next".as_slice(), b"\n=\n".as_slice(), b"".as_slice())
            );
        }
    }

    #[test]
    fn record_of_another_form_is_refused() {
        assert!(split_record(b"6 a=b\n").is_some());
        for bad in [
            b"".as_slice(),
            b"6 a=b",
            b"7 a=b\n",
            b"5 a=b\n",
            b"6 =bb\n",
            b"6 abc\n",
            b" 6 a=b\n",
            b"+6 a=b\n",
            b"0 a=b\n",
            b"2 \n",
            b"99999999999999999999999999 a=b\n",
        ] {
            assert_eq!(split_record(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn time_comes_back_as_it_was_written() {
        for (seconds, nanos) in [
            (0, 0),
            (1, 5),
            (1_700_000_000, 123_456_789),
            (-1, 0),
            (-1, 999_999_999),
            (-2, 500_000_000),
        ] {
            let at = Timestamp { seconds, nanos };
            assert_eq!(time(time_text(at).as_bytes()), Some(at), "{}", time_text(at));
        }
        assert_eq!(time_text(Timestamp { seconds: -2, nanos: 500_000_000 }), "-1.5");
        for bad in [b"".as_slice(), b"x", b"1.x", b"--1", b"1e9", b"9223372036854775808"] {
            assert_eq!(time(bad), None);
        }
    }

    #[test]
    fn attribute_name_with_an_equals_sign_survives() {
        for name in [b"user.plain".as_slice(), b"user.a=b%c", b"user.%3D"] {
            assert_eq!(decode_name(&encode_name(name)), name);
        }
    }
}
