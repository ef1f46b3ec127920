//! What texts should not hold: controls, blanks and placeholders; control tokens, secrets and addresses.

use aho_corasick::{AhoCorasick, MatchKind, packed};
use memchr::{memchr, memchr_iter, memchr3_iter};
use regex_automata::{Anchored, Input, meta, util::syntax};

use crate::rules::PatternTable;

/// The characters that do not belong into a text.
pub struct Controls {
    /// A bit for each code point that an escape can name.
    bits: Box<[u64; 1024]>,
    /// The first bytes in UTF-8 of those beyond ASCII.
    leads: [u8; 3],
}

impl Controls {
    /// Take the first and the last code point of each range. None where those beyond ASCII begin with too many bytes.
    pub fn new(ranges: &[[u32; 2]]) -> Option<Self> {
        let mut bits = Box::new([0; 1024]);
        let mut leads = Vec::new();
        for code in ranges.iter().flat_map(|[first, last]| *first..=*last) {
            *bits.get_mut(code as usize >> 6)? |= 1 << (code & 63);
            let lead = char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes()[0];
            if lead >= 0x80 && !leads.contains(&lead) {
                leads.push(lead);
            }
        }
        // 0xFF is in no text.
        leads.resize(leads.len().max(3), 0xFF);
        Some(Controls { bits, leads: leads.try_into().ok()? })
    }

    pub fn is_one(&self, code: u32) -> bool {
        self.bits[code as usize >> 6 & 1023] >> (code & 63) & 1 != 0
    }

    /// Tell whether one beyond ASCII is in a text.
    pub fn are_in(&self, text: &[u8]) -> bool {
        let [a, b, c] = self.leads;
        memchr3_iter(a, b, c, text).any(|at| match text[at..] {
            [lead @ 0xC2..0xE0, next, ..] => self.is_one(u32::from(lead & 0x1F) << 6 | u32::from(next & 0x3F)),
            [lead @ 0xE0..0xF0, next, last, ..] => {
                self.is_one(u32::from(lead & 0x0F) << 12 | u32::from(next & 0x3F) << 6 | u32::from(last & 0x3F))
            }
            _ => true,
        })
    }
}

/// Count the characters of UTF-8.
pub fn characters(text: &[u8], ascii: bool) -> usize {
    if ascii {
        return text.len();
    }
    // Of few enough bytes that a byte holds the count: that is a vector's work.
    let count = |piece: &[u8]| piece.iter().map(|byte| u8::from(*byte as i8 >= -0x40)).sum::<u8>();
    text.chunks(240).map(|piece| usize::from(count(piece))).sum()
}

/// Return a text without white space at its ends.
pub fn trimmed(mut text: &[u8]) -> &[u8] {
    let is_space = |piece: &[u8]| std::str::from_utf8(piece).is_ok_and(|piece| piece.trim().is_empty());
    while let [first, ..] = text {
        let size = match first {
            0..0xC0 => 1,
            0xC0..0xE0 => 2,
            0xE0..0xF0 => 3,
            _ => 4,
        };
        if first.is_ascii_graphic() || !is_space(&text[..size.min(text.len())]) {
            break;
        }
        text = &text[size..];
    }
    while let [.., last] = text {
        let start = text.iter().rposition(|byte| *byte as i8 >= -0x40).unwrap_or(0);
        if last.is_ascii_graphic() || !is_space(&text[start..]) {
            break;
        }
        text = &text[..start];
    }
    text
}

/// What there is to remark on a text.
#[derive(Clone, Copy, Default)]
pub struct Remarks {
    /// The first control token.
    pub token: Option<usize>,
    /// A bit for each pattern that is found.
    pub patterns: u32,
}

/// Searches texts for control tokens, and for patterns of which each match holds one of a few strings, its anchors.
pub struct Marks {
    tokens: Searcher,
    count: usize,
    /// The first byte of all tokens, where they share one.
    token_start: Option<u8>,
    anchors: Searcher,
    /// Of each anchor: its pattern, and how far behind the start of a match it stands.
    places: Vec<(usize, usize)>,
    /// Anchors of one byte.
    single: Vec<(u8, usize, usize)>,
    patterns: Vec<meta::Regex>,
}

impl Marks {
    /// Classes and word boundaries of the patterns are those of ASCII. None where a pattern or an anchor does not suit.
    pub fn new(tokens: &[String], patterns: &[PatternTable]) -> Option<Self> {
        if patterns.len() > 32 {
            return None;
        }
        let (mut anchors, mut places, mut single, mut compiled) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (index, table) in patterns.iter().enumerate() {
            compiled.push(pattern(&table.pattern)?);
            for (anchor, offset) in &table.anchors {
                if let [byte] = anchor.as_bytes() {
                    single.push((*byte, index, *offset));
                } else {
                    anchors.push(anchor.clone());
                    places.push((index, *offset));
                }
            }
        }
        let start = *tokens.first()?.as_bytes().first()?;
        let shared = tokens.iter().all(|token| token.as_bytes().first() == Some(&start));
        Some(Marks {
            tokens: Searcher::new(tokens)?,
            count: tokens.len(),
            token_start: shared.then_some(start),
            anchors: Searcher::new(&anchors)?,
            places,
            single,
            patterns: compiled,
        })
    }

    /// Return the number of tokens.
    pub fn tokens(&self) -> usize {
        self.count
    }

    /// Return what there is to remark on a text.
    pub fn look(&self, text: &[u8]) -> Remarks {
        let mut found = Remarks::default();
        let mut verify = |pattern: usize, offset: usize, at: usize| {
            let known = found.patterns >> pattern & 1 != 0;
            if let Some(start) = at.checked_sub(offset).filter(|_| !known) {
                let input = Input::new(text).range(start..).anchored(Anchored::Yes);
                found.patterns |= u32::from(self.patterns[pattern].is_match(input)) << pattern;
            }
        };
        self.anchors.each(text, |anchor, at| {
            let (pattern, offset) = self.places[anchor];
            verify(pattern, offset, at);
        });
        for (byte, pattern, offset) in &self.single {
            memchr_iter(*byte, text).for_each(|at| verify(*pattern, *offset, at));
        }
        let start = self.token_start.map_or(Some(0), |byte| memchr(byte, text));
        found.token = start.and_then(|start| self.tokens.first(&text[start..]));
        found
    }
}

/// Return a pattern whose classes and word boundaries are those of ASCII; None where it is none.
pub fn pattern(text: &str) -> Option<meta::Regex> {
    let ascii = syntax::Config::new().unicode(false).utf8(false);
    meta::Regex::builder().syntax(ascii).build(text).ok()
}

/// Finds strings of which none begins with another.
struct Searcher {
    packed: Option<packed::Searcher>,
    machine: AhoCorasick,
}

impl Searcher {
    fn new(words: &[String]) -> Option<Self> {
        for (place, word) in words.iter().enumerate() {
            let clashes = |other: &String| other.starts_with(word.as_str()) || word.starts_with(other.as_str());
            if word.is_empty() || words[..place].iter().any(clashes) {
                return None;
            }
        }
        let kind = packed::MatchKind::LeftmostFirst;
        let packed = packed::Config::new().match_kind(kind).builder().extend(words).build();
        let machine = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(words).ok()?;
        Some(Searcher { packed, machine })
    }

    /// Return the number of the first word in a text, and where it stands.
    fn next(&self, text: &[u8], from: usize) -> Option<(usize, usize)> {
        let span = aho_corasick::Span { start: from, end: text.len() };
        let found = match &self.packed {
            Some(searcher) if text.len() - from >= searcher.minimum_len() => searcher.find_in(text, span),
            _ => self.machine.find(aho_corasick::Input::new(text).span(span)),
        }?;
        Some((found.pattern().as_usize(), found.start()))
    }

    fn first(&self, text: &[u8]) -> Option<usize> {
        self.next(text, 0).map(|(word, _)| word)
    }

    /// Call with the number and the place of each word, overlapping ones too.
    fn each(&self, text: &[u8], mut found: impl FnMut(usize, usize)) {
        let mut from = 0;
        while let Some((word, at)) = self.next(text, from) {
            found(word, at);
            from = at + 1;
        }
    }
}
