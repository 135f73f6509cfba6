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

#[test]
fn a_character_that_stands_for_another_is_named_with_its_place() {
    for (name, said) in [
        ("\u{212a}elvin.example", "character 1, U+212A"),
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
