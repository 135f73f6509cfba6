//! Hides the user and the password of a URL in everything that a fault shows. A person may write them where no key takes
//! them, and a fault of that line must not print them: its text may go to a log that others read.

/// Hides, in each line that has an `@`, everything before the last one of the line: from behind the scheme of a URL,
/// else from the first quote, else from the `=`, else from the beginning. Lengths in bytes stay.
pub(super) fn hide(text: &mut String) {
    if !text.contains('@') {
        return;
    }
    let lines = text
        .split_inclusive('\n')
        .map(|line| match line.rfind('@') {
            None => line.to_owned(),
            Some(end) => {
                let (before, behind) = line.split_at(end);
                let start = ["://", "\"", "'", "="].iter().find_map(|mark| {
                    let at = before.find(mark)?;
                    Some(at + mark.len())
                });
                let (shown, secret) = before.split_at(start.unwrap_or_default());
                format!("{shown}{}{behind}", "*".repeat(secret.len()))
            }
        });
    *text = lines.collect();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hidden(text: &str) -> String {
        let mut text = text.to_owned();
        hide(&mut text);
        text
    }

    #[test]
    fn nothing_of_a_user_or_a_password_is_shown() {
        for (text, shown) in [
            (
                "via = \"http://u:pw@proxy:3128\"\nbind = 1",
                "via = \"http://****@proxy:3128\"\nbind = 1",
            ),
            ("via = http://u:p@w@proxy", "via = http://*****@proxy"),
            ("via = 'u:p w@proxy'", "via = '*****@proxy'"),
            ("via = u:pw@proxy", "via =*****@proxy"),
            ("u:pw@proxy is not in quotes", "****@proxy is not in quotes"),
            (
                "x = \"http://\u{fc}:\u{1f511}@p\"",
                "x = \"http://*******@p\"",
            ),
            ("no secret at all", "no secret at all"),
        ] {
            assert_eq!(hidden(text), shown);
        }
    }

    proptest! {
        #[test]
        fn places_stay_what_they_are(text in "[ -~\u{fc}\n\"=@:/]{0,80}") {
            let shown = hidden(&text);
            prop_assert_eq!(shown.len(), text.len());
            let lines = |text: &str| text.lines().map(str::len).collect::<Vec<_>>();
            prop_assert_eq!(lines(&shown), lines(&text));
        }
    }
}
