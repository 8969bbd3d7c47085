//! Calendar expressions of systemd.time(7), checked before a manifest travels. Pure.
//!
//! `[WEEKDAYS] [DATE] [TIME] [ZONE]` with at least one of the first three, or one word such as
//! `daily`, with or without a zone. Whether a target knows the zone, only the target can say.

/// Longest expression in bytes.
const EXPRESSION_MAX_BYTES: usize = 256;

const WORDS: &[&str] = &[
    "minutely",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "quarterly",
    "semiannually",
    "yearly",
    "annually",
];

const WEEKDAYS: &[&str] = &["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const LONG_WEEKDAYS: &[&str] = &[
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// Refuses what is no calendar expression.
pub(super) fn check(text: &str) -> Result<(), String> {
    let refused = |why: &str| {
        format!(
            "{text:?} is not a time: {why}; expected words as in systemd.time(7), such as \
             \"daily\", \"*-*-* 03:00\" or \"Mon..Fri *-*-* 08..18:00/15\""
        )
    };
    if text.len() > EXPRESSION_MAX_BYTES {
        return Err(refused("it is too long"));
    }
    let mut words: Vec<&str> = text.split_whitespace().collect();
    if words.last().is_some_and(|last| is_zone(last)) {
        words.pop();
    }
    match words.as_slice() {
        [] => Err(refused("it is empty")),
        [word] if WORDS.contains(word) => Ok(()),
        words => check_parts(words).map_err(|why| refused(&why)),
    }
}

fn is_zone(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_+-/".contains(c);
    let named = word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.contains('/');
    (word == "UTC" || named) && word.chars().all(plain)
}

fn check_parts(words: &[&str]) -> Result<(), String> {
    let mut rest = words.iter().peekable();
    if let Some(days) = rest.next_if(|word| word.starts_with(|c: char| c.is_ascii_alphabetic())) {
        check_weekdays(days)?;
    }
    if let Some(date) = rest.next_if(|word| !word.contains(':')) {
        check_date(date)?;
    }
    if let Some(time) = rest.next() {
        check_time(time)?;
    }
    match rest.next() {
        None => Ok(()),
        Some(word) => Err(format!("{word:?} comes after the time of day")),
    }
}

fn check_weekdays(text: &str) -> Result<(), String> {
    for part in text.trim_end_matches(',').split(',') {
        let (first, last) = part.split_once("..").unwrap_or((part, part));
        for day in [first, last] {
            let day = day.to_ascii_lowercase();
            if !WEEKDAYS.contains(&day.as_str()) && !LONG_WEEKDAYS.contains(&day.as_str()) {
                return Err(format!("{day:?} is no weekday"));
            }
        }
    }
    Ok(())
}

/// `YEAR-MONTH-DAY` or `MONTH-DAY`; `~` instead of the last `-` counts from the end of the month.
fn check_date(text: &str) -> Result<(), String> {
    let split = text.rsplit_once(['-', '~']);
    let (before, day) = split.ok_or_else(|| format!("{text:?} is no date"))?;
    check_component(day, (1, 31), "day")?;
    let (year, month) = before.split_once('-').unwrap_or(("*", before));
    check_component(month, (1, 12), "month")?;
    check_component(year, (1970, 2199), "year")
}

/// `HOUR:MINUTE` or `HOUR:MINUTE:SECOND`.
fn check_time(text: &str) -> Result<(), String> {
    let mut parts = text.splitn(3, ':');
    let mut next = || parts.next();
    let (Some(hour), Some(minute)) = (next(), next()) else {
        return Err(format!("{text:?} is no time of day"));
    };
    check_component(hour, (0, 23), "hour")?;
    check_component(minute, (0, 59), "minute")?;
    next().map_or(Ok(()), |second| check_component(second, (0, 59), "second"))
}

/// `*`, numbers and ranges `A..B`, each with a step `/N`, separated by commas.
fn check_component(text: &str, (min, max): (u32, u32), what: &str) -> Result<(), String> {
    let refused = || format!("{text:?} is no {what}");
    let number = |text: &str| -> Result<u32, String> {
        let plain = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
        let number: u32 = text.parse().map_err(|_| refused())?;
        if plain && (min..=max).contains(&number) {
            Ok(number)
        } else {
            Err(refused())
        }
    };
    for part in text.split(',') {
        let (base, step) = part
            .split_once('/')
            .map_or((part, None), |(base, step)| (base, Some(step)));
        if let Some((first, last)) = base.split_once("..") {
            if number(first)? > number(last)? {
                return Err(refused());
            }
        } else if base != "*" {
            number(base)?;
        }
        let stepped = |step: &str| {
            step.parse::<u32>()
                .is_ok_and(|step| (1..=max).contains(&step))
        };
        if !step.is_none_or(stepped) {
            return Err(refused());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_manual_are_read() {
        for text in [
            "daily",
            "hourly UTC",
            "*-*-* 03:00",
            "*-*-* 03:00:30 Europe/Berlin",
            "Mon..Fri *-*-* 08..18:00/15",
            "Sat,Thu,Mon..Wed,Sat..Sun",
            "Mon,Sun 2012-*-* 2,1:23",
            "Wed *-1",
            "Wed..Wed,Wed *-1",
            "10-15",
            "2030-10-15",
            "*-02~03",
            "*-*-01/2",
            "08:05:40",
            "*:0/5",
            "Wednesday 12:00",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_the_part_that_is_wrong() {
        for (text, part) in [
            ("", "it is empty"),
            ("UTC", "it is empty"),
            ("sometimes", "\"sometimes\" is no weekday"),
            ("@1700000000", "is no date"),
            ("*-*-* 24:00", "\"24\" is no hour"),
            ("*-*-* 03:60", "\"60\" is no minute"),
            ("*-13-*", "\"13\" is no month"),
            ("*-*-32", "\"32\" is no day"),
            ("18..8:00", "\"18..8\" is no hour"),
            ("*:0/0", "\"0/0\" is no minute"),
            ("Mon *-*-* 03:00 now", "comes after"),
            ("03:00\nUnit=x.service", "comes after"),
            ("+3-*-*", "is no year"),
        ] {
            let refused = check(text).unwrap_err();
            assert!(refused.contains(part), "{text:?}: {refused}");
        }
    }
}
