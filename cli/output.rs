//! Standard output: lines for people, or JSON. Text from torrents and peers passes through here on its way to a
//! terminal, and leaves its control characters behind.

use crate::exit::{Exit, Failure};
use serde_json::Value;
use std::fmt::{self, Write as _};
use std::io::{self, BufWriter, Write as _};

/// Where results go. Nothing is lost in silence: every write can fail, and the end is a [`flush`](Output::flush).
pub(crate) struct Output {
    json: bool,
    to: BufWriter<io::StdoutLock<'static>>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, to: BufWriter::new(io::stdout().lock()) }
    }

    /// Whether results are to be JSON.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Writes `text` as it is.
    pub(crate) fn text(&mut self, text: &impl fmt::Display) -> Result<(), Failure> {
        write!(self.to, "{text}").map_err(|error| failed(&error))
    }

    /// Writes `text` and ends the line.
    pub(crate) fn line(&mut self, text: impl fmt::Display) -> Result<(), Failure> {
        writeln!(self.to, "{text}").map_err(|error| failed(&error))
    }

    /// Writes `name: value`, the value escaped.
    pub(crate) fn field(&mut self, name: &str, value: impl fmt::Display) -> Result<(), Failure> {
        self.line(format_args!("{name}: {}", one_line(&value.to_string())))
    }

    /// Writes `value` on a line of its own.
    pub(crate) fn json(&mut self, value: &Value) -> Result<(), Failure> {
        self.line(Escaped { text: &value.to_string(), style: Style::Json })
    }

    /// Writes how many of a torrent's pieces were found good.
    pub(crate) fn checked(&mut self, name: &str, good: u32, all: u32) -> Result<(), Failure> {
        if self.json {
            let value = serde_json::json!({ "event": "checked", "name": name, "pieces": all, "good": good });
            return self.json(&value);
        }
        self.line(format_args!("{}: {good} of {all} pieces are good", one_line(name)))
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.to.write_all(bytes).map_err(|error| failed(&error))
    }

    /// Hands over all that was written.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.to.flush().map_err(|error| failed(&error))
    }
}

/// Shows `text` without what could steer a terminal or reorder what is read: as `\u{202e}`.
pub(crate) fn one_line(text: &str) -> impl fmt::Display + '_ {
    Escaped { text, style: Style::Line }
}

/// A JSON string with the same characters escaped the way JSON has it.
pub(crate) fn json_string(text: &str) -> String {
    Escaped { text: &Value::from(text).to_string(), style: Style::Json }.to_string()
}

/// `1536 (1.5 KiB)`.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let Some(power) = (bytes / 1024).checked_ilog2().map(|log| (log / 10).min(4)) else {
        return bytes.to_string();
    };
    let unit = 1_u128 << (10 * (power + 1));
    let tenths = u128::from(bytes) * 10 / unit;
    format!("{bytes} ({}.{} {})", tenths / 10, tenths % 10, units[power as usize])
}

/// Seconds since 1970 as `2013-01-31 01:18:23 UTC`.
pub(crate) fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years start in March here, so that the day which only some have comes last; 400 years have 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year + month / 10, (month + 2) % 12 + 1);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

struct Escaped<'a> {
    text: &'a str,
    style: Style,
}

#[derive(Clone, Copy)]
enum Style {
    Json,
    Line,
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.chars().try_for_each(|c| match self.style {
            _ if !is_unsafe(c) => f.write_char(c),
            Style::Json => write!(f, "\\u{:04x}", u32::from(c)),
            Style::Line => write!(f, "\\u{{{:x}}}", u32::from(c)),
        })
    }
}

/// Control characters, those that change the direction of writing, and line ends that only Unicode knows.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn failed(error: &io::Error) -> Failure {
    Failure::io(Exit::Io, "standard output", error)
}

#[cfg(test)]
mod tests {
    use super::{date, json_string, one_line, size};

    #[test]
    fn names_cannot_steer_a_terminal() {
        assert_eq!(
            one_line("a\x1b[2Jb\nc\u{9b}d\u{202e}e").to_string(),
            r"a\u{1b}[2Jb\u{a}c\u{9b}d\u{202e}e"
        );
        assert_eq!(json_string("\x1b\"\u{202e}\u{9b}別"), r#""\u001b\"\u202e\u009b別""#);
    }

    #[test]
    fn sizes_keep_the_exact_number() {
        for (bytes, shown) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1024 (1.0 KiB)"),
            (1536, "1536 (1.5 KiB)"),
            (u64::MAX, "18446744073709551615 (16383.9 PiB)"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn dates_know_leap_years() {
        for (seconds, shown) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_359_599_503, "2013-01-31 02:31:43 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(date(seconds), shown);
        }
        assert!(date(i64::MAX as u64).ends_with("UTC"));
    }
}
