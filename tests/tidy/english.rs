//! Finds wordings that make a reader read a sentence twice.
//!
//! Only prose counts: in Rust the comments and string literals, in Markdown everything but blocks of
//! code, in other files every line. Words between quotation marks or backticks are quotations. A text
//! without a full stop is a heading or a label, and may start with any word.

use super::{File, none, text_files};

/// The first words of a sentence whose subject comes too late, and what to write.
const STARTS: [(&str, &str); 4] = [
    ("Who|Whoever|Whose", "a noun first, as in \"a client that\""),
    ("What|Whatever", "a noun first, as in \"the bytes that\""),
    (
        "Of the|these|those",
        "the subject first, as in \"if several routes match\"",
    ),
    (
        "By which",
        "the subject first, as in \"portway chooses it by\"",
    ),
];

/// Wordings, and what to write. `|` separates the alternatives of a word. `*` is any word, `^` any but
/// those of [`JOINTS`], `%` a number in digits, `@` one of [`UNITS`].
const WORDINGS: [(&str, &str); 9] = [
    (
        "stand|stands|stood|standing in",
        "\"is in\" or \"contains\"",
    ),
    ("to be had", "\"available\""),
    ("for want of", "\"because there is no\""),
    ("is|are told", "\"portway reports\" or \"the log shows\""),
    ("bears", "\"has\" or \"accepts\""),
    ("is|are|was|were no *", "\"is not a\""),
    (
        "%|one|two|three|four|five|six|eight|ten ^ a|an @",
        "\"per\"",
    ),
    ("% ^ ^ a|an @", "\"per\""),
    ("% a|an @", "\"per\""),
];

/// Things and times that a number may be given for.
const UNITS: [&str; 26] = [
    "address",
    "attempt",
    "backend",
    "byte",
    "client",
    "connection",
    "core",
    "day",
    "descriptor",
    "dial",
    "direction",
    "endpoint",
    "host",
    "hour",
    "key",
    "line",
    "listener",
    "minute",
    "name",
    "record",
    "relay",
    "request",
    "route",
    "second",
    "thread",
    "worker",
];

/// Before "a" these words begin something new, as in "two for a connection" and "ten times a second".
const JOINTS: [&str; 10] = [
    "and", "for", "from", "if", "in", "of", "on", "to", "times", "without",
];

/// With one of these words "no" has its ordinary place, as in "there is no" and "is no longer".
const ORDINARY: [&str; 10] = [
    "there", "longer", "more", "less", "fewer", "later", "larger", "smaller", "better", "worse",
];

#[test]
fn sentences_have_ordinary_words_in_the_ordinary_order() {
    let mut faults = Vec::new();
    for file in text_files().iter().filter(|file| is_prose(&file.name)) {
        for paragraph in paragraphs(file) {
            for (at, words, instead) in odd(&paragraph.text) {
                let line = paragraph.line(at);
                faults.push(format!("{}:{line}: `{words}`: write {instead}", file.name));
            }
        }
    }
    none("wordings that must be read twice", &faults);
}

#[test]
fn odd_wordings_are_found_and_ordinary_ones_are_not() {
    let found = |text: &str| -> Vec<String> { odd(text).into_iter().map(|it| it.1).collect() };
    for (text, words) in [
        ("It ends. Who is slow waits.", "Who"),
        ("(What comes late is lost.)", "What"),
        ("Of the routes, one wins.", "Of the"),
        (
            "portway writes one line a connection.",
            "one line a connection",
        ),
        ("It takes 3 us a name.", "3 us a name"),
        ("It rises by 40 a second.", "40 a second"),
        ("The reason stands in the log.", "stands in"),
        ("an address that is no name", "is no name"),
        ("an end that is no `error`", "is no `error"),
    ] {
        assert_eq!(found(text), [words], "{text}");
    }
    for text in [
        "Who calls? The worker.",
        "What a connection costs",
        "Say what it is, and `what is told`.",
        "There is no name, and it is no longer asked for.",
        "The log says \"is no name\" once a second.",
        "It starts stand-ins on one host.",
    ] {
        assert_eq!(found(text), [""; 0], "{text}");
    }
}

#[test]
fn wrapped_lines_are_joined() {
    let joined = |name: &str, text: &str| -> Vec<(usize, String)> {
        let (name, text) = (name.to_owned(), text.to_owned());
        let paragraphs = paragraphs(&File { name, text });
        let lines = paragraphs.into_iter();
        lines.map(|it| (it.line(it.text.len()), it.text)).collect()
    };
    let rust = "/// One\n/// `x`.\n///\n/// - two\nlet x = '\"'; // three\nf(\"four \\\n   4\", r#\"a \"b\"\"#);";
    let found = joined("x.rs", rust);
    let texts = ["One `x`.", "- two", "three", "four 4", "a \"b\""];
    assert_eq!(
        found,
        std::iter::zip([2, 4, 5, 7, 7], texts.map(str::to_owned)).collect::<Vec<_>>()
    );

    let page = "# One\ntwo\n```\nthree\n```\n| four | five |\n- six\n  seven\n";
    let found = joined("x.md", page);
    let texts = ["# One", "two", "four", "five", "- six seven"];
    assert_eq!(
        found,
        std::iter::zip([1, 2, 6, 6, 8], texts.map(str::to_owned)).collect::<Vec<_>>()
    );
}

/// Whether people wrote the file, for people. This file has the wordings as examples.
fn is_prose(name: &str) -> bool {
    let not = [
        "Cargo.lock",
        "LICENSE",
        "copyright",
        ".svg",
        ".json",
        ".snap",
        "tidy/english.rs",
    ];
    !not.iter().any(|end| name.ends_with(end)) && !name.starts_with("tests/corpus/")
}

// === wordings

/// The odd wordings of a paragraph: where each begins, its words, and what to write.
fn odd(text: &str) -> Vec<(usize, String, &'static str)> {
    let plain = without_quotations(text);
    let words: Vec<(usize, &str)> = plain
        .split_ascii_whitespace()
        .map(|word| (word.as_ptr().addr() - plain.as_ptr().addr(), word))
        .collect();
    let mut found = Vec::new();
    let (mut before, mut starts) = ("", true);
    for (index, (at, word)) in words.iter().enumerate() {
        let here: Vec<&str> = words.iter().skip(index).map(|(_, word)| *word).collect();
        let is_sentence = || {
            let end = here.iter().find(|word| ends_sentence(word));
            end.is_some_and(|word| !word.contains('?'))
        };
        let mut wordings = Vec::new();
        if starts && is_sentence() {
            wordings.extend(STARTS);
        }
        wordings.extend(WORDINGS);
        let odd = wordings.into_iter().find_map(|(pattern, instead)| {
            let wording = here.get(..length(&here, pattern)?)?;
            let ordinary = |word: &str| ORDINARY.contains(&bare(word).to_lowercase().as_str());
            let is_ordinary = ordinary(before) || wording.iter().any(|word| ordinary(word));
            (!is_ordinary).then_some((wording.len(), instead))
        });
        if let Some((length, instead)) = odd {
            // From the text, because a quotation is only `x` in `plain`.
            let words: Vec<&str> = text[*at..].split_ascii_whitespace().take(length).collect();
            found.push((*at, bare(&words.join(" ")).to_owned(), instead));
        }
        before = word;
        starts = ends_sentence(word) || (starts && bare(word).is_empty());
    }
    found
}

/// How many words the pattern takes at the beginning of these.
fn length(words: &[&str], pattern: &str) -> Option<usize> {
    let patterns: Vec<&str> = pattern.split(' ').collect();
    let last = patterns.len() - 1;
    let all = words.len() > last
        && patterns
            .iter()
            .zip(words)
            .enumerate()
            .all(|(index, (pattern, word))| {
                // Punctuation between two words parts them.
                let bare = bare(word);
                let is_whole = index == last || word.ends_with(bare);
                is_whole && pattern.split('|').any(|pattern| is(bare, pattern))
            });
    all.then_some(patterns.len())
}

fn is(word: &str, pattern: &str) -> bool {
    match pattern {
        "*" => !word.is_empty(),
        "@" => UNITS.contains(&word),
        "^" => !word.is_empty() && !JOINTS.contains(&word),
        "%" => !word.is_empty() && word.bytes().all(|it| it.is_ascii_digit() || it == b','),
        pattern => word == pattern,
    }
}

fn bare(word: &str) -> &str {
    word.trim_matches(|character: char| !character.is_alphanumeric())
}

fn ends_sentence(word: &str) -> bool {
    word.trim_end_matches([')', '*', '_'])
        .ends_with(['.', '?', '!'])
}

/// The text with `x` in place of each byte of a quotation, so that every place stays the same.
fn without_quotations(text: &str) -> String {
    let mut plain = String::new();
    for (index, part) in text.split_inclusive(['`', '"']).enumerate() {
        match index % 2 {
            0 => plain.push_str(part),
            _ => plain.push_str(&"x".repeat(part.len())),
        }
    }
    plain
}

// === paragraphs

/// Lines of prose that belong together, joined by spaces.
#[derive(Default)]
struct Paragraph {
    text: String,
    /// Where each line begins in the text, and its number in the file.
    lines: Vec<(usize, usize)>,
}

impl Paragraph {
    fn push(&mut self, line: usize, text: &str) {
        if !self.text.is_empty() && !self.text.ends_with(' ') {
            self.text.push(' ');
        }
        self.lines.push((self.text.len(), line));
        self.text.push_str(text);
    }

    fn line(&self, at: usize) -> usize {
        let before = self.lines.iter().rev().find(|(start, _)| *start <= at);
        before.map_or(0, |(_, line)| *line)
    }
}

fn paragraphs<'f>(file: &'f File) -> Vec<Paragraph> {
    let extension = file.name.rsplit('.').next();
    if extension == Some("rs") {
        return rust(&file.text);
    }
    let marks: &[char] = if extension == Some("md") {
        &[]
    } else {
        &['#', '/']
    };
    let strip = |line: &'f str| line.trim().trim_start_matches(marks).trim();
    let lines = file.text.lines().map(strip);
    flow(lines.zip(1..).map(|(text, line)| (line, text)))
}

/// Joins the lines of a page or of a comment.
fn flow<'t>(lines: impl Iterator<Item = (usize, &'t str)>) -> Vec<Paragraph> {
    let mut paragraphs = vec![Paragraph::default()];
    let mut is_block = false;
    let mut ends = true;
    for (line, text) in lines {
        let is_fence = text.starts_with("```");
        is_block ^= is_fence;
        let is_row = text.starts_with('|');
        let is_heading = text.starts_with('#');
        let is_item = ["- ", "* ", "1. "]
            .iter()
            .any(|mark| text.starts_with(mark))
            || text
                .split_once(". ")
                .is_some_and(|(number, _)| number.parse::<u8>().is_ok());
        if ends || is_fence || is_row || is_heading || is_item || text.is_empty() {
            paragraphs.push(Paragraph::default());
        }
        ends = is_fence || is_heading || is_row;
        if is_fence || is_block || text.is_empty() {
            continue;
        }
        let cells = text.trim_matches('|').split(" | ");
        for (index, part) in cells
            .filter(|_| is_row)
            .chain((!is_row).then_some(text))
            .enumerate()
        {
            if index > 0 {
                paragraphs.push(Paragraph::default());
            }
            paragraphs.last_mut().unwrap().push(line, part.trim());
        }
    }
    paragraphs.retain(|paragraph| !paragraph.text.is_empty());
    paragraphs
}

/// The comments and the string literals.
fn rust(text: &str) -> Vec<Paragraph> {
    let mut found = Vec::new();
    let mut comment: Vec<(usize, &str)> = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(at) = rest.find(|it: char| !it.is_whitespace()) {
        let ends = rest[..at].matches('\n').count();
        line += ends;
        let has_ended = ends > 1 || !rest[at..].starts_with("//");
        if has_ended && !comment.is_empty() {
            found.extend(flow(comment.drain(..)));
        }
        rest = &rest[at..];
        let length = if rest.starts_with("//") {
            let length = rest.find('\n').unwrap_or(rest.len());
            comment.push((line, rest[..length].trim_start_matches(['/', '!']).trim()));
            length
        } else if let Some(length) = literal(rest) {
            let inner = rest[..length]
                .trim_start_matches(['b', 'c', 'r', '#'])
                .trim_end_matches('#');
            let mut paragraph = Paragraph::default();
            let inner = &inner[1..inner.len() - 1];
            for (text, line) in inner
                .split("\\\n")
                .flat_map(|it| it.split('\n'))
                .zip(line..)
            {
                paragraph.push(line, text.trim());
            }
            found.push(paragraph);
            length
        } else if rest.starts_with('\'') {
            character(rest)
        } else {
            // A word, so that a prefix of a literal is not found inside it.
            let is_part = |it: char| it.is_alphanumeric() || it == '_';
            let word = rest.find(|it| !is_part(it)).unwrap_or(rest.len());
            word.max(rest.chars().next().map_or(1, char::len_utf8))
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found.extend(flow(comment.into_iter()));
    found
}

/// The length of the string literal that begins here.
fn literal(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        let after = rest.strip_prefix(prefix);
        after.is_some_and(|after| after.trim_start_matches('#').starts_with('"'))
    })?;
    let hashes = rest[prefix.len()..]
        .bytes()
        .take_while(|byte| *byte == b'#')
        .count();
    let is_raw = prefix.ends_with('r');
    if hashes > 0 && !is_raw {
        return None;
    }
    let start = prefix.len() + hashes + 1;
    if is_raw {
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(start + rest[start..].find(&end)? + end.len());
    }
    let mut escaped = false;
    let end = rest[start..].find(|it| {
        let ends = it == '"' && !escaped;
        escaped = it == '\\' && !escaped;
        ends
    })?;
    Some(start + end + 1)
}

/// The length of the character or lifetime that begins here.
fn character(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    let Some((_, first)) = characters.next() else {
        return 1;
    };
    if first == '\\' {
        return rest[3..].find('\'').map_or(1, |end| 3 + end + 1);
    }
    match characters.next() {
        Some((end, '\'')) => end + 1,
        _ => 1,
    }
}
