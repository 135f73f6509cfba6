//! Bounds a file before its tree is made: a tree takes far more memory than its text, and each level of it
//! takes stack.

use toml_parser::lexer::TokenKind;

use super::faults::Fault;
use super::path::Path;
use super::syntax::find_token;

/// The most tables of a file: those of headers, of dotted keys and in braces. A table takes up to 600 times as
/// much memory as text, and a file of the largest size has 30,000 routes at most.
const MAX_TABLES: usize = 1 << 16;
/// The most dots of one key; the longest key of routes.toml has 2.
const MAX_DOTS: usize = 8;
/// The most brackets that are open at once; a value of routes.toml needs 3, if it begins with the first key.
const MAX_OPEN: usize = 8;

/// The first place where a file exceeds these limits.
pub(super) fn fault(text: &str) -> Option<Fault> {
    let mut seen = Seen::new();
    find_token(text, |token| {
        let [message, help] = seen.next(token.kind)?;
        Some(Fault::new(token.span, Path::default(), message, Some(help)))
    })
}

/// The counts of the tokens that were read so far.
struct Seen {
    tables: usize,
    starts_line: bool,
    /// Dots of the current key or value.
    dots: usize,
    /// The closing brackets of those that are open.
    open: Vec<TokenKind>,
}

impl Seen {
    const fn new() -> Self {
        Self {
            tables: 0,
            starts_line: true,
            dots: 0,
            open: Vec::new(),
        }
    }

    /// Counts the next token. If it is too much, says what is wrong and what to do.
    fn next(&mut self, token: TokenKind) -> Option<[String; 2]> {
        let is_header = self.starts_line && token == TokenKind::LeftSquareBracket;
        if self.open.last() == Some(&token) {
            // A bracket that closes nothing is an error of syntax, which is reported elsewhere.
            self.open.pop();
        } else if token == TokenKind::LeftSquareBracket {
            self.open.push(TokenKind::RightSquareBracket);
        } else if token == TokenKind::LeftCurlyBracket {
            self.open.push(TokenKind::RightCurlyBracket);
        }
        self.dots = if token == TokenKind::Dot {
            self.dots + 1
        } else if is_part_of_a_key(token) {
            self.dots
        } else {
            0
        };
        let makes_table = matches!(token, TokenKind::Dot | TokenKind::LeftCurlyBracket);
        self.tables += usize::from(is_header || makes_table);
        if token != TokenKind::Whitespace {
            self.starts_line = token == TokenKind::Newline;
        }
        self.excess()
    }

    fn excess(&self) -> Option<[String; 2]> {
        let [message, help] = if self.tables > MAX_TABLES {
            [
                format!("there are more than {MAX_TABLES} tables up to here"),
                "leave some out: a dotted key has one for each dot".to_owned(),
            ]
        } else if self.dots > MAX_DOTS {
            [
                format!("there are more than {MAX_DOTS} dots in one key"),
                "write a shorter key, and put a name or a value that has dots into quotes"
                    .to_owned(),
            ]
        } else if self.open.len() > MAX_OPEN {
            [
                format!("more than {MAX_OPEN} brackets are open here"),
                "close those before: a value of this file needs 3 at most".to_owned(),
            ]
        } else {
            return None;
        };
        Some([message, help])
    }
}

const fn is_part_of_a_key(token: TokenKind) -> bool {
    match token {
        TokenKind::Dot
        | TokenKind::Whitespace
        | TokenKind::Atom
        | TokenKind::LiteralString
        | TokenKind::BasicString
        | TokenKind::MlLiteralString
        | TokenKind::MlBasicString => true,
        TokenKind::Equals
        | TokenKind::Comma
        | TokenKind::LeftSquareBracket
        | TokenKind::RightSquareBracket
        | TokenKind::LeftCurlyBracket
        | TokenKind::RightCurlyBracket
        | TokenKind::Comment
        | TokenKind::Newline
        | TokenKind::Eof => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use toml::de::{DeTable, DeValue};

    use super::*;

    /// How many levels of tables and arrays a tree has.
    fn depth(text: &str) -> usize {
        let tree = DeTable::parse_recoverable(text).0.into_inner();
        let mut level: Vec<&DeValue<'_>> = tree.values().map(toml::Spanned::get_ref).collect();
        let mut depth = 0;
        while !level.is_empty() {
            depth += 1;
            let below = level.into_iter().flat_map(|value| {
                let table = value
                    .as_table()
                    .into_iter()
                    .flat_map(|table| table.values());
                let array = value.as_array().into_iter().flatten();
                table.chain(array).map(toml::Spanned::get_ref)
            });
            level = below.collect();
        }
        depth
    }

    /// A header, a dotted key, and a dotted key in each bracket.
    const DEEPEST: usize = (MAX_DOTS + 1) * (MAX_OPEN + 2);

    #[test]
    fn the_deepest_file_that_is_let_through_has_as_many_levels_as_it_may() {
        let key = ["a"; MAX_DOTS + 1].join(".");
        let head = format!("[{key}]\n{key}=");
        let text = |open: usize| {
            format!(
                "{head}{}1{}",
                format!("{{{key}=").repeat(open),
                "}".repeat(open)
            )
        };
        assert!(fault(&text(MAX_OPEN)).is_none());
        assert_eq!(depth(&text(MAX_OPEN)), DEEPEST);
        let too_deep = fault(&text(MAX_OPEN + 1)).map(|fault| fault.message);
        assert_eq!(
            too_deep.as_deref(),
            Some("more than 8 brackets are open here")
        );
    }

    #[test]
    fn brackets_behind_a_string_that_nobody_closes_are_counted() {
        for (quotes, open) in [("\"\"\"", "["), ("'''", "["), ("\"\"\"", "{a=")] {
            let text = format!("a = {quotes}\nb = {}", open.repeat(100_000));
            let faults = crate::config::parse(&text, "routes.toml").unwrap_err();
            let told = faults.render(false);
            assert!(
                told.contains("more than 8 brackets are open here"),
                "{told}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_file_that_is_let_through_has_no_more_levels_whatever_is_wrong_with_it(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "{", "{", "}", "[", "[", "]", "a=", "a.a=", ".a", ".a.a.a", "\n", ",", "=", "1", "'a'", " ",
                    "#", "[a]\n", "[[a]]\n", "\"\"\"\n", "'''\n",
                ]),
                0..200,
            ),
        ) {
            let text = pieces.concat();
            if fault(&text).is_none() {
                prop_assert!(depth(&text) <= DEEPEST, "{}", depth(&text));
            }
            // This also parses the rest of an unclosed string to find out what is wrong.
            drop(crate::config::parse(&text, "routes.toml"));
        }
    }
}
