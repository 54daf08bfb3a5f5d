//! Text that a remote wrote and a person may read: a client's name, a tracker's warning.

use alloc::string::String;

/// The first `max` bytes of `bytes` as text, cut between characters. What is not UTF-8, and what would command a
/// terminal or turn the direction of the text around it, becomes U+FFFD.
pub fn clean(bytes: &[u8], max: usize) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        let broken = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
        for character in chunk.valid().chars().chain(broken) {
            let shown = if is_command(character) { char::REPLACEMENT_CHARACTER } else { character };
            if text.len() + shown.len_utf8() > max {
                return text;
            }
            text.push(shown);
        }
    }
    text
}

/// Control characters, line and paragraph separators, and those that order text (Unicode's Bidi_Control).
fn is_command(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::{clean, is_command};
    use proptest::prelude::*;

    #[test]
    fn what_cannot_be_shown_is_replaced() {
        assert_eq!(clean(b"a\xff\xfeb", 64), "a\u{fffd}\u{fffd}b");
        assert_eq!(clean(b"\x1b[31mred\x07\x7f", 64), "\u{fffd}[31mred\u{fffd}\u{fffd}");
        assert_eq!(clean("\u{202e}gpj\u{2066}\u{9b}".as_bytes(), 64), "\u{fffd}gpj\u{fffd}\u{fffd}");
        assert_eq!(clean("Größe 日本".as_bytes(), 64), "Größe 日本");
    }

    #[test]
    fn the_cut_is_between_characters() {
        assert_eq!(clean("aé".as_bytes(), 2), "a");
        assert_eq!(clean("aé".as_bytes(), 3), "aé");
        assert_eq!(clean(&[0xff; 100], 10).len(), 9);
    }

    proptest! {
        #[test]
        fn any_bytes_become_short_and_harmless(bytes in prop::collection::vec(any::<u8>(), 0..80), max in 0..40_usize) {
            let text = clean(&bytes, max);
            prop_assert!(text.len() <= max && !text.chars().any(is_command));
        }
    }
}
