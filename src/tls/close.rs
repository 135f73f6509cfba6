//! Recognises the end of a TLS stream from outside, without decrypting it.

/// Whether a piece of a TLS stream ends with a record that has the form of an encrypted alert, which is
/// almost certainly `close_notify` (RFC 8446 section 6.1).
///
/// In TLS 1.3 an alert is application data of 19 bytes (level, description, inner type, tag of 16), or of 35 if the JDK
/// has padded it. In TLS 1.2 it is a record of its own type, with 26 bytes (AES-GCM) or 18 (ChaCha20-Poly1305). Two bytes
/// of data in TLS 1.3 look the same, or 18 without padding. A chance match in the middle of a record needs five equal bytes.
pub fn ends_with_alert(bytes: &[u8]) -> bool {
    const FORMS: [([u8; 5], usize); 4] = [
        ([0x17, 3, 3, 0, 19], 19),
        ([0x17, 3, 3, 0, 35], 35),
        ([0x15, 3, 3, 0, 26], 26),
        ([0x15, 3, 3, 0, 18], 18),
    ];
    FORMS.iter().any(|(header, length)| {
        let start = bytes.len().checked_sub(header.len() + length);
        start
            .and_then(|start| bytes.get(start..))
            .is_some_and(|tail| tail.starts_with(header))
    })
}

#[cfg(test)]
mod tests {
    use super::ends_with_alert;

    fn record(header: [u8; 3], length: u8) -> Vec<u8> {
        let mut record = [&header[..], &[0, length]].concat();
        record.resize(5 + usize::from(length), 0xaa);
        record
    }

    #[test]
    fn an_encrypted_alert_is_known_by_its_header_and_length() {
        let alerts = [
            ([0x17, 3, 3], 19),
            ([0x17, 3, 3], 35),
            ([0x15, 3, 3], 26),
            ([0x15, 3, 3], 18),
        ];
        for (header, length) in alerts {
            let alert = record(header, length);
            assert!(ends_with_alert(&alert));
            assert!(ends_with_alert(
                &[record([0x17, 3, 3], 200), alert.clone()].concat()
            ));
            assert!(!ends_with_alert(
                &[alert.clone(), record([0x17, 3, 3], 200)].concat()
            ));
            for cut in 0..alert.len() {
                assert!(!ends_with_alert(&alert[..cut]));
            }
        }
    }

    #[test]
    fn data_and_alerts_in_plain_text_are_none() {
        assert!(!ends_with_alert(&record([0x17, 3, 3], 20)));
        assert!(!ends_with_alert(&[0x15, 3, 3, 0, 2, 2, 40]));
    }
}
