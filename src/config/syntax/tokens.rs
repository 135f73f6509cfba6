//! The tokens of a file, of its statements, and a place among them.

use std::ops::Range;

use toml_parser::Source;
pub(super) use toml_parser::lexer::TokenKind;

/// A token and its bytes in the file.
#[derive(Clone, Debug)]
pub(in crate::config) struct Token {
    pub(in crate::config) kind: TokenKind,
    pub(in crate::config) span: Range<usize>,
}

impl Token {
    pub(super) const fn is_string(&self) -> bool {
        matches!(
            self.kind,
            TokenKind::BasicString
                | TokenKind::LiteralString
                | TokenKind::MlBasicString
                | TokenKind::MlLiteralString
        )
    }

    /// Whether it may separate two statements or values.
    pub(super) const fn is_blank(&self) -> bool {
        matches!(
            self.kind,
            TokenKind::Whitespace | TokenKind::Newline | TokenKind::Comment | TokenKind::Eof
        )
    }
}

/// The tokens of a file.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut all = Vec::new();
    find_token::<()>(text, |token| {
        all.push(token);
        None
    });
    all
}

/// Looks at one token of a file after the other. An unclosed string in triple quotes ends with its line, because
/// otherwise it would contain the rest of the file.
pub(in crate::config) fn find_token<T>(
    text: &str,
    mut look: impl FnMut(Token) -> Option<T>,
) -> Option<T> {
    let mut from = 0;
    loop {
        let part = text.get(from..)?;
        let mut rest = None;
        for token in Source::new(part).lex() {
            let kind = token.kind();
            let mut span = from + token.span().start()..from + token.span().end();
            let is_long = matches!(kind, TokenKind::MlBasicString | TokenKind::MlLiteralString);
            let written = text.get(span.clone()).unwrap_or_default();
            let is_open = is_long && !is_closed(written);
            if let (true, Some(line)) = (is_open, written.find('\n')) {
                span.end = span.start + line;
                rest = Some(span.end);
            }
            let found = look(Token { kind, span });
            if found.is_some() {
                return found;
            }
            if rest.is_some() {
                break;
            }
        }
        from = rest?;
    }
}

/// Whether a string has its quotes at the end.
pub(super) fn is_closed(string: &str) -> bool {
    let quotes = ["\"\"\"", "'''", "\"", "'"];
    let quotes = quotes.into_iter().find(|quotes| string.starts_with(quotes));
    quotes.is_some_and(|quotes| string.len() >= 2 * quotes.len() && string.ends_with(quotes))
}

/// Whether a key or a part of it may be written without quotes.
pub(super) fn is_bare(word: &str) -> bool {
    let may_be = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    !word.is_empty() && word.bytes().all(may_be)
}

/// The tokens of each statement: a header, or a key and its value. A statement ends with its line, or with the line
/// that closes the brackets of its value. If none does, it ends where the next statement begins.
pub(super) fn statements(text: &str, tokens: &[Token]) -> Vec<Range<usize>> {
    let mut statements = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if token.is_blank() {
            at += 1;
        } else {
            let end = end_of_statement(text, tokens, at);
            statements.push(at..end);
            at = end;
        }
    }
    statements
}

fn end_of_statement(text: &str, tokens: &[Token], start: usize) -> usize {
    let rest = tokens.get(start..).unwrap_or_default();
    let is_header = matches!(rest, [first, ..] if first.kind == TokenKind::LeftSquareBracket);
    let mut open = Vec::new();
    let mut before = None;
    for (index, token) in rest.iter().enumerate() {
        match token.kind {
            TokenKind::Eof => return start + index,
            TokenKind::Newline => {
                let cursor = Cursor::new(text, rest.get(index + 1..).unwrap_or_default());
                let is_over = if cursor.begins_statement(open.last().copied()) {
                    true
                } else {
                    let is_value_below = before == Some(TokenKind::Equals) && cursor.begins_value();
                    open.is_empty() && !is_value_below
                };
                if is_header || is_over {
                    return start + index;
                }
            }
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => open.push(token.kind),
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => drop(open.pop()),
            TokenKind::Dot
            | TokenKind::Equals
            | TokenKind::Comma
            | TokenKind::Whitespace
            | TokenKind::Comment
            | TokenKind::LiteralString
            | TokenKind::BasicString
            | TokenKind::MlLiteralString
            | TokenKind::MlBasicString
            | TokenKind::Atom => {}
        }
        if !token.is_blank() {
            before = Some(token.kind);
        }
    }
    tokens.len()
}

/// A place among the tokens.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'t> {
    text: &'t str,
    rest: &'t [Token],
    /// Where the last token that is not blank ends.
    pub(super) end: usize,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str, tokens: &'t [Token]) -> Self {
        let end = tokens.first().map_or(text.len(), |token| token.span.start);
        Self {
            text,
            rest: tokens,
            end,
        }
    }

    /// The next token.
    pub(super) fn peek(&self) -> Option<&'t Token> {
        self.rest.first()
    }

    pub(super) fn kind(&self) -> Option<TokenKind> {
        self.peek().map(|token| token.kind)
    }

    /// The text of the next token.
    pub(super) fn word(&self) -> &'t str {
        self.peek()
            .map_or("", |token| self.text_of(token.span.clone()))
    }

    pub(super) fn text_of(&self, span: Range<usize>) -> &'t str {
        self.text.get(span).unwrap_or_default()
    }

    /// Where the next token begins.
    pub(super) fn start(&self) -> usize {
        self.peek().map_or(self.end, |token| token.span.start)
    }

    pub(super) fn next(&mut self) -> Option<&'t Token> {
        let (token, rest) = self.rest.split_first()?;
        self.rest = rest;
        if !token.is_blank() {
            self.end = token.span.end;
        }
        Some(token)
    }

    /// Takes the next token if it is of this kind.
    pub(super) fn take(&mut self, kind: TokenKind) -> bool {
        let is_it = self.kind() == Some(kind);
        if is_it {
            self.next();
        }
        is_it
    }

    pub(super) fn skip_whitespace(&mut self) {
        while self.take(TokenKind::Whitespace) {}
    }

    /// Skips line ends and comments too, which a list may have.
    pub(super) fn skip_blank(&mut self) {
        while self.peek().is_some_and(Token::is_blank) {
            self.next();
        }
    }

    /// Whether the line is over.
    pub(super) fn is_at_end_of_line(&self) -> bool {
        let is_line = |kind| {
            matches!(
                kind,
                TokenKind::Newline | TokenKind::Comment | TokenKind::Eof
            )
        };
        self.kind().is_none_or(is_line)
    }

    /// The rest of the line, without a comment and a semicolon.
    pub(super) fn rest_of_line(&self) -> &'t str {
        let mut to = *self;
        while !to.is_at_end_of_line() {
            to.next();
        }
        let rest = self.text_of(self.start()..to.end.max(self.start()));
        rest.trim_end_matches([' ', '\t', ';'])
    }

    /// Whether a statement begins in this line, although the bracket `open` is open. In a list of strings a bare word
    /// never follows a bracket, and `=` never follows a value.
    fn begins_statement(mut self, open: Option<TokenKind>) -> bool {
        self.skip_whitespace();
        if self.take(TokenKind::LeftSquareBracket) {
            self.take(TokenKind::LeftSquareBracket);
            self.skip_whitespace();
            let is_value = matches!(self.word(), "true" | "false" | "inf" | "nan");
            let first = self.word().chars().next();
            let is_name = first.is_some_and(|first| first.is_ascii_alphabetic());
            return is_name && is_bare(self.word()) && !is_value;
        }
        if open == Some(TokenKind::LeftCurlyBracket) {
            return false;
        }
        while self.kind() == Some(TokenKind::Atom) || self.peek().is_some_and(Token::is_string) {
            self.next();
            self.skip_whitespace();
            if self.take(TokenKind::Equals) {
                return true;
            }
            if !self.take(TokenKind::Dot) {
                return false;
            }
            self.skip_whitespace();
        }
        false
    }

    /// Whether a list or a string begins in this line.
    fn begins_value(mut self) -> bool {
        self.skip_whitespace();
        self.kind() == Some(TokenKind::LeftSquareBracket)
            || self.peek().is_some_and(Token::is_string)
    }
}
