//! A body that cannot grow without bounds.

use fast_peer_core::session::HttpError;
use flate2::write::MultiGzDecoder;
use std::io::{self, ErrorKind, Write};

/// Takes in a body as it comes.
#[derive(Debug)]
pub(super) enum Body {
    Gzip { decoder: Box<MultiGzDecoder<Bounded>>, taken: usize, max: usize },
    Plain(Bounded),
}

/// Bytes up to a number.
#[derive(Debug)]
pub(super) struct Bounded {
    bytes: Vec<u8>,
    room: usize,
}

impl Body {
    /// A body that is at most `max` bytes long when it is decompressed.
    pub(super) fn new(gzip: bool, max: usize) -> Self {
        let room = if gzip { 0 } else { max };
        let bounded = Bounded { bytes: Vec::new(), room };
        if gzip {
            Self::Gzip { decoder: Box::new(MultiGzDecoder::new(bounded)), taken: 0, max }
        } else {
            Self::Plain(bounded)
        }
    }

    /// Takes in the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), HttpError> {
        match self {
            Self::Gzip { decoder, taken, max } => {
                *taken = taken.saturating_add(bytes.len());
                decoder.get_mut().room = taken.saturating_mul(MAX_RATIO).min(*max);
                decoder.write_all(bytes)
            }
            Self::Plain(bounded) => bounded.write_all(bytes),
        }
        .map_err(|error| http_error(&error))
    }

    /// The whole body, decompressed.
    pub(super) fn finish(self) -> Result<Vec<u8>, HttpError> {
        match self {
            // No answer needs no end of the stream either.
            Self::Gzip { taken: 0, .. } => Ok(vec![]),
            Self::Gzip { decoder, .. } => Ok(decoder.finish().map_err(|error| http_error(&error))?.bytes),
            Self::Plain(bounded) => Ok(bounded.bytes),
        }
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.room.saturating_sub(self.bytes.len()) {
            return Err(ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn http_error(error: &io::Error) -> HttpError {
    match error.kind() {
        ErrorKind::FileTooLarge => HttpError::BodyTooLong,
        _ => HttpError::Malformed,
    }
}

/// What decompressing may make of a byte. Lists of peers hardly shrink at all.
const MAX_RATIO: usize = 100;

#[cfg(test)]
mod tests {
    use super::Body;
    use fast_peer_core::session::HttpError;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    fn zip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(vec![], Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(gzip: bool, max: usize, bytes: &[u8], cut: usize) -> Result<Vec<u8>, HttpError> {
        let mut body = Body::new(gzip, max);
        bytes.chunks(cut).try_for_each(|chunk| body.push(chunk))?;
        body.finish()
    }

    /// Bytes that hardly shrink.
    fn noise(len: usize) -> Vec<u8> {
        let mut x = 1_u32;
        std::iter::repeat_with(|| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        })
        .take(len)
        .collect()
    }

    #[test]
    fn any_cut_gives_the_same_body() {
        let text = noise(5000);
        for cut in [1, 7, 4096, 1 << 20] {
            assert_eq!(read(false, 5000, &text, cut).unwrap(), text);
            assert_eq!(read(true, 5000, &zip(&text), cut).unwrap(), text);
            let twice = [zip(&text), zip(b"end")].concat();
            assert_eq!(read(true, 5003, &twice, cut).unwrap(), [&text[..], b"end"].concat());
        }
        assert_eq!(read(true, 10, b"", 1).unwrap(), b"");
    }

    #[test]
    fn a_body_ends_at_its_limit() {
        assert_eq!(read(false, 4999, &noise(5000), 100), Err(HttpError::BodyTooLong));
        assert_eq!(read(true, 4999, &zip(&noise(5000)), 100), Err(HttpError::BodyTooLong));
    }

    #[test]
    fn a_bomb_does_not_go_off() {
        let bomb = zip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 1 << 20);
        assert_eq!(read(true, 1 << 20, &bomb, 1024), Err(HttpError::BodyTooLong));
        // Below the limit, but a thousandfold.
        assert_eq!(read(true, 1 << 20, &zip(&vec![0; 1 << 19]), 1024), Err(HttpError::BodyTooLong));
    }

    #[test]
    fn what_is_no_gzip_is_malformed() {
        let whole = zip(&noise(500));
        let mut wrong = whole.clone();
        let last = wrong.len() - 5;
        wrong[last] ^= 1;
        for bytes in [b"d8:intervali1e".as_slice(), &whole[..400], &wrong] {
            assert_eq!(read(true, 1 << 20, bytes, 64), Err(HttpError::Malformed));
        }
    }
}
