//! What texts should not hold: controls, blanks and placeholders; and where control tokens, secrets and addresses may be.

use aho_corasick::{AhoCorasick, MatchKind, packed};
use memchr::{memchr_iter, memchr3_iter};

pub const TOKEN: u8 = 1;
pub const SECRET: u8 = 2;
pub const EMAIL: u8 = 4;

/// Tell whether a text holds a C1 control, a bidi override, an invisible character that joins nothing, or U+FFFD.
///
/// ASCII controls have been seen before.
pub fn odd_character(text: &[u8]) -> bool {
    memchr3_iter(0xC2, 0xE2, 0xEF, text).any(|at| {
        matches!(
            text[at..],
            [0xC2, 0x80..=0x9F, ..]
                | [0xE2, 0x80, 0x8B | 0xAA..=0xAE, ..]
                | [0xE2, 0x81, 0xA0 | 0xA6..=0xA9, ..]
                | [0xEF, 0xBB, 0xBF, ..]
                | [0xEF, 0xBF, 0xBD, ..]
        )
    })
}

/// Count the characters of UTF-8.
pub fn characters(text: &[u8], ascii: bool) -> usize {
    if ascii { text.len() } else { text.iter().filter(|byte| **byte as i8 >= -0x40).count() }
}

/// Return a text without white space at its ends.
pub fn trimmed(text: &[u8]) -> &[u8] {
    match text {
        [first, .., last] if first.is_ascii_graphic() && last.is_ascii_graphic() => text,
        _ => std::str::from_utf8(text).map_or(text, |text| text.trim().as_bytes()),
    }
}

/// Searches texts for anchors: strings without which there is neither a control token nor a secret.
pub struct Anchors {
    packed: Option<packed::Searcher>,
    machine: AhoCorasick,
    tokens: usize,
}

impl Anchors {
    pub fn new(tokens: &[Vec<u8>], secrets: &[Vec<u8>]) -> Option<Self> {
        let patterns = || tokens.iter().chain(secrets);
        let packed =
            packed::Config::new().match_kind(packed::MatchKind::LeftmostFirst).builder().extend(patterns()).build();
        let machine = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(patterns()).ok()?;
        Some(Anchors { packed, machine, tokens: tokens.len() })
    }

    /// Return the kinds of anchors in a text.
    pub fn kinds(&self, text: &[u8]) -> u8 {
        let mut kinds = 0;
        let mut note = |pattern: usize, at: usize| {
            if pattern < self.tokens {
                kinds |= TOKEN;
            } else if may_be_secret(&text[at..]) {
                kinds |= SECRET;
            }
        };
        match &self.packed {
            Some(searcher) if text.len() >= searcher.minimum_len() => {
                searcher.find_iter(text).for_each(|found| note(found.pattern().as_usize(), found.start()));
            }
            _ => self.machine.find_iter(text).for_each(|found| note(found.pattern().as_usize(), found.start())),
        }
        if memchr_iter(b'@', text).any(|at| may_be_email(&text[..at], &text[at + 1..])) {
            kinds |= EMAIL;
        }
        kinds
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Tell whether what begins with an anchor goes on as a secret does at least.
fn may_be_secret(text: &[u8]) -> bool {
    let run = |from: usize, count: usize, kind: fn(u8) -> bool| {
        text.get(from..from + count).is_some_and(|part| part.iter().all(|byte| kind(*byte)))
    };
    match text {
        [b'A', b'K' | b'S', b'I', b'A', ..] => run(4, 16, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()),
        [b'A', b'I', b'z', b'a', ..] => run(4, 35, is_word),
        [b's', b'k', b'-', ..] => run(3, 32, is_word),
        [b'h', b'f', b'_', ..] => run(3, 30, |byte| byte.is_ascii_alphanumeric()),
        [b'g', b'h', _, b'_', ..] => run(4, 36, |byte| byte.is_ascii_alphanumeric()),
        [b'x', b'o', b'x', _, b'-', ..] => run(5, 10, is_word),
        // Whatever else is an anchor is rare.
        _ => true,
    }
}

fn may_be_email(before: &[u8], after: &[u8]) -> bool {
    let local = |byte: &u8| byte.is_ascii_alphanumeric() || b"._%+-".contains(byte);
    let name = after.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-').count();
    before.last().is_some_and(local) && name > 0 && after.get(name) == Some(&b'.')
}
