//! A certificate that was not trusted, in words: for whom, by whom, from when until when.
//!
//! Only for the person who reads a failure: nothing is decided by what is read here, so the fields are picked out by their tags
//! (X.690) and not parsed as a whole.

/// As in `for "api", issued by "our CA", valid from 2026-01-01 until 2026-12-31`.
pub(crate) fn in_words(der: &[u8]) -> String {
    let names = common_names(der);
    let (issuer, subject) = match names.as_slice() {
        [] => ("?", "?"),
        [one] => (one.as_str(), one.as_str()),
        [issuer, subject, ..] => (issuer.as_str(), subject.as_str()),
    };
    let dates = dates(der);
    let date = |at: usize| dates.get(at).map_or("?", String::as_str);
    format!("for {subject:?}, issued by {issuer:?}, valid from {} until {}", date(0), date(1))
}

/// Common names (OID 2.5.4.3) in their order: the issuer's comes before the subject's (RFC 5280 §4.1).
fn common_names(der: &[u8]) -> Vec<String> {
    const OID: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];
    let after = der.windows(OID.len()).enumerate().filter(|(_, window)| *window == OID).map(|(at, _)| at + OID.len());
    let text = |at: usize| {
        let size = usize::from(*der.get(at + 1)?);
        Some(String::from_utf8_lossy(der.get(at + 2..at + 2 + size)?).into_owned())
    };
    after.filter_map(text).collect()
}

/// The two times of the validity: `UTCTime` with two digits for the year, up to 2049, or `GeneralizedTime` with four.
fn dates(der: &[u8]) -> Vec<String> {
    let digits = |at: usize, size: usize| {
        let text = std::str::from_utf8(der.get(at..at + size)?).ok()?.strip_suffix('Z')?;
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.to_owned())
    };
    let time = |at: usize| match (der[at], der.get(at + 1)?) {
        (0x17, 13) => digits(at + 2, 13).map(|text| format!("20{text}")),
        (0x18, 15) => digits(at + 2, 15),
        _ => None,
    };
    let shown = |text: String| format!("{}-{}-{}", &text[..4], &text[4..6], &text[6..8]);
    (0..der.len()).filter_map(time).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(tag: u8, text: &str) -> Vec<u8> {
        [&[tag, u8::try_from(text.len()).expect("short")], text.as_bytes()].concat()
    }

    #[test]
    fn names_and_dates_are_read_and_rubbish_is_no_trouble() {
        let oid = [0x06, 0x03, 0x55, 0x04, 0x03];
        let der = [
            &oid[..],
            &field(0x0c, "our CA"),
            &field(0x17, "260101000000Z"),
            &field(0x18, "20501231235959Z"),
            &oid[..],
            &field(0x13, "api.example.test"),
        ]
        .concat();
        assert_eq!(in_words(&der), "for \"api.example.test\", issued by \"our CA\", valid from 2026-01-01 until 2050-12-31");
        assert_eq!(in_words(&[]), "for \"?\", issued by \"?\", valid from ? until ?");
        assert!(in_words(&der[..der.len() - 3]).contains("our CA"));
    }
}
