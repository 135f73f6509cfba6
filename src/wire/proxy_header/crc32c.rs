//! CRC-32C (RFC 9260 appendix A), the checksum of a header. It is another one than that of `crc32fast`.

/// The polynomial of Castagnoli, with its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The checksum of the bytes so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crc32c(u32);

impl Default for Crc32c {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Crc32c {
    /// Goes on with these bytes.
    pub(super) fn with(self, bytes: &[u8]) -> Self {
        let of_byte = |crc: u32, byte: &u8| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg())
            })
        };
        Self(bytes.iter().fold(self.0, of_byte))
    }

    /// The checksum.
    pub(super) const fn value(self) -> u32 {
        !self.0
    }
}
