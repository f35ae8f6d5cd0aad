//! Numbers as JavaScript writes them, and strings that Scratch treats as numbers.

use serde_json::value::RawValue;

use super::Json;

/// Spells a JSON number as JavaScript's `String(n)` does (ECMA-262, `Number::toString`). Returns `None`
/// if the value is no number, or one that JavaScript does not have, such as `1e400`.
pub(super) fn parse(raw: &RawValue) -> Option<Json<'static>> {
    let text = raw.get();
    if !text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return None;
    }
    let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
    Some(Json::from_number(ryu_js::Buffer::new().format_finite(number)))
}

/// Returns whether a string is empty, or digits with no more than one `-` before them and one `.` among
/// them.
pub(super) fn is_numeric(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let dots = unsigned.bytes().filter(|byte| *byte == b'.').count();
    let digits = unsigned.bytes().filter(u8::is_ascii_digit).count();
    text.is_empty() || digits > 0 && dots <= 1 && digits + dots == unsigned.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spelled_as_in_javascript() {
        // Each pair as `String(JSON.parse(text))` gives it.
        for (text, spelled) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.0e5", "0"),
            ("1.0", "1"),
            ("1.50", "1.5"),
            ("0.1", "0.1"),
            ("0.000001", "0.000001"),
            ("1e-7", "1e-7"),
            ("123456789012345678901", "123456789012345680000"),
            ("1e21", "1e+21"),
            ("-1.5E+300", "-1.5e+300"),
            ("9007199254740993", "9007199254740992"),
            ("5e-324", "5e-324"),
            ("1e-400", "0"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ] {
            let raw: &RawValue = serde_json::from_str(text).unwrap();
            assert_eq!(parse(raw).unwrap().as_json(), spelled, "{text}");
        }
        for text in ["1e309", "-1e400", "true", "null", "\"1\"", "[1]"] {
            assert!(parse(serde_json::from_str(text).unwrap()).is_none(), "{text}");
        }
    }

    #[test]
    fn numeric_strings() {
        for text in ["", "0", "007", "5.", ".5", "-4.", "-.5", "-0", "00003.3330000"] {
            assert!(is_numeric(text), "{text}");
        }
        for text in
            ["-", ".", "-.", "--4", "4-", "3..3", "3e3", "0x3", " 4", "4 ", "NaN", "٣", "+4"]
        {
            assert!(!is_numeric(text), "{text}");
        }
    }
}
