use super::*;

#[test]
fn a_name_may_mix_labels_in_ascii_with_labels_in_unicode() {
    for name in [
        "xn--bcher-kva.m\u{fc}nchen.example",
        "m\u{fc}nchen.xn--bcher-kva.example",
        "*.m\u{fc}nchen.example",
        "FLEET.M\u{dc}NCHEN.example",
    ] {
        assert!(server_name(name).is_ok(), "{name}");
    }
}

fn pattern(text: &str) -> Option<String> {
    server_name(text).ok().map(|pattern| pattern.to_string())
}

#[test]
fn another_case_of_a_letter_is_not_another_name() {
    for (written, meant) in [
        // Cherokee: upper case is what IDNA means.
        ("\u{13a0}\u{13a1}.example", "xn--58dc.example"),
        ("\u{ab70}\u{ab71}.example", "xn--58dc.example"),
        ("*.\u{13f8}.example", "*.xn--gce.example"),
        // Georgian: what it means has both cases since Unicode 11.
        ("\u{1c90}.example", "xn--lod.example"),
        // German: the sharp s is kept, in either case.
        ("stra\u{df}e.example", "xn--strae-oqa.example"),
        ("STRA\u{1e9e}E.example", "xn--strae-oqa.example"),
        // Greek: the final sigma is kept, and is another name. A capital is never a final sigma.
        ("\u{3bf}\u{3b4}\u{3bf}\u{3c2}.example", "xn--pxavbm.example"),
        ("\u{3bf}\u{3b4}\u{3bf}\u{3c3}.example", "xn--pxavbq.example"),
        ("\u{39f}\u{394}\u{39f}\u{3a3}.example", "xn--pxavbq.example"),
        // Turkish: the dotless i is a letter of its own.
        ("\u{131}.example", "xn--cfa.example"),
    ] {
        assert_eq!(pattern(written).as_deref(), Some(meant), "{written}");
    }
}

/// The dotted capital I becomes an i with a second dot that most fonts do not show. The others are signs that
/// look like a letter and become it.
const NO_CASES: [char; 5] = ['\u{130}', '\u{3f4}', '\u{2126}', '\u{212a}', '\u{212b}'];

#[test]
fn every_letter_that_means_its_other_case_may_be_written() {
    let lower = |text: &str| -> String { text.chars().flat_map(char::to_lowercase).collect() };
    let mut count = 0;
    for letter in '\u{80}'..=char::MAX {
        if !(letter.is_uppercase() || letter.is_lowercase()) {
            continue;
        }
        let written = String::from(letter);
        let Ok(ascii) = idna::domain_to_ascii(&written) else {
            continue;
        };
        let (meant, _) = idna::domain_to_unicode(&ascii);
        let is_case = lower(&written) == lower(&meant) && !NO_CASES.contains(&letter);
        assert_eq!(
            server_name(&written).is_ok(),
            is_case,
            "U+{:04X}",
            u32::from(letter)
        );
        count += usize::from(is_case);
    }
    assert!(count > 2500, "{count}");
}

#[test]
fn a_character_that_stands_for_another_is_named_with_its_place() {
    for (name, said) in [
        ("\u{212a}elvin.example", "character 1, U+212A"),
        ("\u{212b}rhus.example", "character 1, U+212B"),
        ("\u{130}stanbul.example", "character 1, U+0130"),
        ("o\u{17f}.example", "character 2, U+017F"),
        ("\u{1c5}.example", "character 1, U+01C5"),
        (
            "xn--bcher-kva.m\u{fc}n\u{ad}chen.example",
            "character 18, U+00AD",
        ),
        ("fleet\u{ff0e}example", "character 6, U+FF0E"),
    ] {
        let message = server_name(name).err().map(|wrong| wrong.message);
        assert!(
            message.as_ref().is_some_and(|it| it.contains(said)),
            "{message:?}"
        );
    }
}
