//! Dates for people: UTC, to the minute.

const DAY: i64 = 86_400;

/// Writes a time as `2026-11-24 05:30 UTC`.
pub(crate) fn utc(seconds: i64) -> String {
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    let minutes = seconds.rem_euclid(DAY) / 60;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

/// Turns days since 1970 into a date of the Gregorian calendar. Years are counted from March, so
/// that the leap day is a year's last, in eras of 400 years, which all have 146,097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_TO_ERA: i64 = 719_468;
    const ERA: i64 = 146_097;
    let days = days.saturating_add(DAYS_TO_ERA);
    let day_of_era = days.rem_euclid(ERA);
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / (ERA - 1);
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + days.div_euclid(ERA) * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (-1, "1969-12-31 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_763_962_215, "2025-11-24 05:30 UTC"),
            (4_107_542_399, "2100-02-28 23:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }

    #[test]
    fn no_time_is_too_far_away() {
        utc(i64::MIN);
        utc(i64::MAX);
    }
}
