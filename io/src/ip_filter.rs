//! Reads block lists from files, compressed or not.

use fast_peer_core::ip_filter::{Builder, LineError, MAX_LINE};
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

/// What was found in a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Ranges that were taken in.
    pub ranges: usize,
    /// Lines that could not be read.
    pub bad_lines: u64,
    /// The first of these: its number, counted from one, and what is wrong with it.
    pub first_bad: Option<(u64, LineError)>,
}

/// Adds the ranges of a list to `builder`: a text file in the formats that [`Builder::line`] knows, or one that gzip
/// compressed. Lines that can't be read are counted.
///
/// # Errors
/// If the file can't be read, is longer than [`MAX_BYTES`], or has more ranges than may be kept. What was added until
/// then is not to be used.
pub fn read(path: &Path, builder: &mut Builder) -> io::Result<Report> {
    read_from(BufReader::new(File::open(path)?), builder, MAX_BYTES)
}

fn read_from(mut input: impl BufRead, builder: &mut Builder, max_bytes: u64) -> io::Result<Report> {
    if input.fill_buf()?.starts_with(GZIP) {
        read_lines(BufReader::new(MultiGzDecoder::new(input)), builder, max_bytes)
    } else {
        read_lines(input, builder, max_bytes)
    }
}

fn read_lines(mut input: impl BufRead, builder: &mut Builder, max_bytes: u64) -> io::Result<Report> {
    let before = builder.len();
    let (mut report, mut line, mut total) = (Report::default(), vec![], 0);
    for number in 1.. {
        let len = next_line(&mut input, &mut line)?;
        if len == 0 {
            break;
        }
        total += len;
        if total > max_bytes {
            let message = format!("a list of more than {} MiB", max_bytes >> 20);
            return Err(io::Error::new(ErrorKind::FileTooLarge, message));
        }
        match builder.line(&line) {
            Ok(()) => {}
            Err(error @ LineError::TooMany) => return Err(io::Error::new(ErrorKind::FileTooLarge, error)),
            Err(error) => {
                report.bad_lines += 1;
                report.first_bad.get_or_insert((number, error));
            }
        }
    }
    report.ranges = builder.len() - before;
    Ok(report)
}

/// Reads a line as far as it may matter; returns how long it is in all, its end included.
fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    line.clear();
    let limit = MAX_LINE as u64 + 1;
    let mut len = input.by_ref().take(limit).read_until(b'\n', line)? as u64;
    if len == limit && line.last() != Some(&b'\n') {
        len += input.skip_until(b'\n')? as u64;
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(len)
}

/// How long a list may be, decompressed: the longest ones have 30 MiB.
pub const MAX_BYTES: u64 = 256 << 20;

/// How a file begins that gzip compressed.
const GZIP: &[u8] = &[0x1f, 0x8b];

#[cfg(test)]
mod tests {
    use super::{MAX_BYTES, Report, read, read_from};
    use crate::scratch::Scratch;
    use fast_peer_core::ip_filter::{Builder, LineError, MAX_LINE};
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::{self, ErrorKind, Write as _};

    fn zip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(vec![], Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn report(bytes: &[u8]) -> io::Result<Report> {
        read_from(bytes, &mut Builder::new(), MAX_BYTES)
    }

    const MIXED: &[u8] = b"# mixed\n1.2.3.0 - 1.2.3.9 , 000 , dat\r\nname:1.2.4.0-1.2.4.9\n\nnonsense\n\
        1.2.5.0/24\n2001:db8::/32\n1.2.6.0 - 1.2.6.9 , 200 , let in\nmore nonsense\n1.2.7.7";

    #[test]
    fn a_list_is_read_compressed_or_not() {
        let expected = Report { ranges: 5, bad_lines: 2, first_bad: Some((5, LineError::NoRange)) };
        let twice = [zip(&MIXED[..40]), zip(&MIXED[40..])].concat();
        for bytes in [MIXED, &zip(MIXED), &twice] {
            let mut builder = Builder::new();
            assert_eq!(read_from(bytes, &mut builder, MAX_BYTES).unwrap(), expected);
            let filter = builder.build();
            for (ip, blocked) in
                [("1.2.3.9", true), ("1.2.6.1", false), ("1.2.7.7", true), ("2001:db8::9", true)]
            {
                assert_eq!(filter.blocks(ip.parse().unwrap()), blocked, "{ip}");
            }
        }
        assert_eq!(report(b"").unwrap(), Report::default());
    }

    #[test]
    fn lists_add_up() {
        let folder = Scratch::new();
        let mut builder = Builder::new();
        for (name, text) in [("a", "1.2.3.4"), ("b", "1.2.3.5\nx")] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path, &mut builder).unwrap().ranges, 1);
        }
        assert_eq!(builder.build().len(), 1, "they touch");
        let missing = read(&folder.path().join("c"), &mut Builder::new()).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_line_without_end_is_one_bad_line() {
        for long in [MAX_LINE, MAX_LINE + 1, 20 * MAX_LINE] {
            let text = format!("1.2.3.4\n{}\n1.2.3.6\n", "x".repeat(long));
            let found = report(text.as_bytes()).unwrap();
            assert_eq!((found.ranges, found.bad_lines), (2, 1), "{long}");
            let why = if long > MAX_LINE { LineError::TooLong } else { LineError::NoRange };
            assert_eq!(found.first_bad, Some((2, why)), "{long}");
        }
    }

    #[test]
    fn a_bomb_does_not_go_off() {
        let bomb = zip(&vec![b'\n'; 8 << 20]);
        assert!(bomb.len() < 1 << 16);
        let error = read_from(&bomb[..], &mut Builder::new(), 1 << 20).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::FileTooLarge, "a list of more than 1 MiB")
        );
        assert_eq!(read_from(&zip(&[b'x'; 1 << 20])[..], &mut Builder::new(), 1 << 20).unwrap().bad_lines, 1);
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let whole = zip(MIXED);
        assert!(report(&whole[..whole.len() - 20]).is_err());
    }
}
