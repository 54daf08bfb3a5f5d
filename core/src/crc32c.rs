//! The CRC with Castagnoli's polynomial (RFC 3720), which BEP 40 and BEP 42 take of addresses.

/// The CRC of a few bytes. Bit by bit: there are 32 at most.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { CASTAGNOLI } else { 0 };
        }
    }
    !crc
}

/// The polynomial with its bits reversed.
const CASTAGNOLI: u32 = 0x82f6_3b78;

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn the_check_value_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }
}
