//! The lines of a block: which of them are certainly good, and what they amount to.

use std::collections::HashMap;
use std::ops::Range;

use memchr::{memchr, memchr_iter};
use pyo3::pyclass;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

use crate::formats::{Line, Part};
use crate::images;
use crate::rules::{Role, Rules};
use crate::shortening::{Shortened, shortened};
use crate::texts::{characters, trimmed};

const PART: u8 = 0x1f;
const IMAGE: u8 = 0x1c;

/// What is found in a block; lists of the same length have an entry for each good line. Lists of Python are made anew
/// whenever they are asked for.
#[pyclass(frozen, get_all)]
#[derive(Default)]
pub struct Found {
    /// All lines, blank ones too.
    pub count: usize,
    /// Number of each.
    pub lines: Vec<usize>,
    pub turns: Vec<u32>,
    /// Characters of all texts.
    pub written: Vec<u64>,
    /// Characters of the last turn.
    pub answers: Vec<u64>,
    pub images: Vec<u32>,
    /// Digest of everything but the last turn, eight bytes for each line of the block; 0 for those that are not good.
    pub prompts: Vec<u8>,
    /// Digest of everything, likewise.
    pub wholes: Vec<u8>,
    /// What good turns hold that is worth a remark: number of the line, the role, and the number of the control token or,
    /// behind all of them, of the pattern. In the order of lines and turns.
    pub remarks: Vec<(usize, &'static str, usize)>,
    /// Numbers of what is remarked, each with how often.
    pub remarked: HashMap<usize, usize>,
    /// Formats with the number of their first line.
    pub formats: Vec<(&'static str, usize)>,
    /// Contents of all turns, where they are wanted.
    pub contents: Vec<String>,
    /// Whether a turn is of several parts, or has an image.
    pub marked: bool,
}

/// Buffers that are used again.
#[derive(Default)]
pub struct Buffers {
    pub line: Line,
    content: Vec<u8>,
    text: Vec<u8>,
    pub picture: Vec<u8>,
    /// Lines in another format.
    pub written: Vec<u8>,
}

const KEPT: usize = 8 << 20;

impl Buffers {
    pub fn shrink(&mut self) {
        self.line.made.shrink(KEPT);
        for buffer in [&mut self.content, &mut self.text, &mut self.picture, &mut self.written] {
            if buffer.capacity() > KEPT {
                *buffer = Vec::new();
            }
        }
    }
}

/// Number and place of a line that is neither good nor blank, what it is where it can be shortened, and whether it is
/// plain, see `shortened`.
pub type Doubtful = (usize, Range<usize>, Option<Shortened>, bool);

/// Read a block of whole lines, which `before` others precede.
pub fn read(
    block: &[u8],
    before: usize,
    rules: &Rules,
    contents: bool,
    buffers: &mut Buffers,
) -> (Found, Vec<Doubtful>) {
    let (mut found, mut doubtful) = (Found::default(), Vec::new());
    for (start, end, valid) in lines(block) {
        let line = &block[start..end];
        found.count += 1;
        let number = before + found.count;
        let (named, remarked) = (found.contents.len(), found.remarks.len());
        let good = valid
            .then(|| buffers.line.read(line, rules))
            .flatten()
            .and_then(|format| Some((format, judge(line, number, rules, contents, buffers, &mut found)?)));
        if let Some((format, (prompt, whole))) = good {
            found.lines.push(number);
            found.prompts.extend_from_slice(&prompt.to_ne_bytes());
            found.wholes.extend_from_slice(&whole.to_ne_bytes());
            if found.formats.iter().all(|(known, _)| *known != format.name()) {
                found.formats.push((format.name(), number));
            }
        } else {
            found.contents.truncate(named);
            found.remarks.truncate(remarked);
            found.prompts.extend_from_slice(&[0; 8]);
            found.wholes.extend_from_slice(&[0; 8]);
            if !is_blank(line) {
                let (short, plain) = if valid { shortened(line, rules, &mut buffers.line.made) } else { (None, false) };
                doubtful.push((number, start..end, short, plain));
            }
        }
    }
    for (_, _, what) in &found.remarks {
        *found.remarked.entry(*what).or_default() += 1;
    }
    buffers.shrink();
    (found, doubtful)
}

/// Return start and end of each line of a block without its line end, and whether it is UTF-8.
pub fn lines(block: &[u8]) -> impl Iterator<Item = (usize, usize, bool)> {
    let valid = simdutf8::basic::from_utf8(block).is_ok();
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = block.get(start..).filter(|rest| !rest.is_empty())?;
        let begin = start;
        let end = memchr(b'\n', rest).map_or(block.len(), |at| begin + at);
        start = end + 1;
        Some((begin, end, valid || simdutf8::basic::from_utf8(&block[begin..end]).is_ok()))
    })
}

/// Tell whether a line holds nothing but what Python takes for white space.
pub fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t'..=b'\r'))
}

/// Look at the texts and images of a line that was read; return its digests if all of it is good, and note the rest.
fn judge(
    line: &[u8],
    number: usize,
    rules: &Rules,
    contents: bool,
    buffers: &mut Buffers,
    found: &mut Found,
) -> Option<(u64, u64)> {
    let Buffers { line: read, content, text, picture, .. } = buffers;
    let turns = &read.turns;
    let system = turns[0].role == Role::System;
    let (mut written, mut answer, mut images) = (0, 0, 0);
    let (mut prompt, mut whole) = (0, u64::from(system));
    for turn in turns {
        let parts = &read.parts[turn.parts.clone()];
        let (bytes, spoken) = if let [Part::Text(span)] = parts {
            let bytes = read.bytes(line, *span);
            // What may have been escaped twice, the exact parser looks at.
            if unsound(bytes, rules) || (span.made && escaped_twice(bytes)) {
                return None;
            }
            answer = characters(bytes, span.ascii);
            written += answer;
            (bytes, bytes)
        } else {
            found.marked = true;
            content.clear();
            text.clear();
            let mut blank = 0;
            for (place, part) in parts.iter().enumerate() {
                if place > 0 {
                    content.push(PART);
                }
                match part {
                    Part::Text(span) => {
                        let bytes = read.bytes(line, *span);
                        if trimmed(bytes).is_empty() {
                            blank += 1;
                        } else if unsound(bytes, rules) || (span.made && escaped_twice(bytes)) {
                            return None;
                        }
                        written += characters(bytes, span.ascii);
                        content.extend_from_slice(bytes);
                        text.extend_from_slice(bytes);
                    }
                    Part::Image(span) => {
                        images += 1;
                        let address = read.bytes(line, *span);
                        if !rules.images || images > rules.many_images || !sound_image(address, rules, picture) {
                            return None;
                        }
                        content.push(IMAGE);
                        content.extend_from_slice(format!("{:032x}", xxh3_128(address)).as_bytes());
                    }
                }
            }
            if blank == parts.len() {
                return None;
            }
            answer = characters(content, false);
            (content.as_slice(), text.as_slice())
        };
        let remarks = rules.marks.look(spoken);
        if remarks.patterns != 0 || remarks.token.is_some() {
            let patterns = (0..32).filter(|place| remarks.patterns >> place & 1 != 0);
            let whats = remarks.token.into_iter().chain(patterns.map(|place| rules.marks.tokens() + place));
            found.remarks.extend(whats.map(|what| (number, turn.role.name(), what)));
        }
        prompt = whole;
        whole = xxh3_64_with_seed(bytes, whole);
        if contents {
            found.contents.push(String::from_utf8_lossy(bytes).into_owned());
        }
    }
    found.turns.push(u32::try_from(turns.len()).unwrap_or(u32::MAX));
    found.written.push(written as u64);
    found.answers.push(answer as u64);
    found.images.push(u32::try_from(images).unwrap_or(u32::MAX));
    Some((prompt, whole))
}

/// Tell whether a text holds backslash and n, and no line end.
pub fn escaped_twice(text: &[u8]) -> bool {
    memchr(b'\n', text).is_none() && has_escaped_end(text)
}

/// Tell whether a text holds backslash and n.
pub fn has_escaped_end(text: &[u8]) -> bool {
    memchr_iter(b'\\', text).any(|at| text.get(at + 1) == Some(&b'n'))
}

/// Tell whether a text is empty, white space or what a program writes for a missing value.
pub fn unsound(text: &[u8], rules: &Rules) -> bool {
    let text = trimmed(text);
    text.is_empty() || rules.placeholders.iter().any(|word| word.as_bytes().eq_ignore_ascii_case(text))
}

/// Tell whether an address is certainly that of a good image; one in the line is decoded whole and read to its end.
pub fn sound_image(address: &[u8], rules: &Rules, picture: &mut Vec<u8>) -> bool {
    if address.starts_with(b"gs://") {
        return rules.is_object(address);
    }
    let Some(rest) = address.strip_prefix(b"data:") else { return false };
    rules.mime_types.iter().any(|mime_type| {
        let data = rest.strip_prefix(mime_type.as_bytes()).and_then(|rest| rest.strip_prefix(b";base64,"));
        data.is_some_and(|data| {
            if picture.len() < data.len() {
                picture.resize(data.len(), 0);
            }
            let room = base64_simd::Out::from_slice(picture.as_mut_slice());
            let decoded = base64_simd::STANDARD.decode(data, room);
            decoded.is_ok_and(|bytes| images::sound(bytes, mime_type, rules.max_pixels))
        })
    })
}
