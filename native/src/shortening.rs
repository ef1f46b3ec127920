//! Doubtful lines with their long texts cut short: what is wrong with a line is found sooner in that.

use memchr::memchr;

use crate::json::{Cursor, Made};
use crate::rules::Rules;
use crate::scan::has_backslash;
use crate::texts::characters;

/// A line, and of each cut how many of its characters stand before it and how many were left out.
pub type Shortened = (Vec<u8>, Vec<(usize, usize)>);

/// Bytes of a text that is worth a cut.
const LONG: usize = 192;
/// Characters left of it: more than any finding looks at or shows of a text that is sound.
const KEPT: usize = 96;
/// What addresses of images, and images without their address, begin with.
const ADDRESSES: [&[u8; 4]; 5] = [b"data", b"gs:/", b"iVBO", b"/9j/", b"UklG"];

/// Return a line with its long texts cut short; None where there are none.
///
/// Only values are cut that are certainly sound, so that the errors found in both lines are the same.
pub fn shortened(line: &[u8], rules: &Rules, made: &mut Made) -> Option<Shortened> {
    let (mut short, mut cuts, mut from, mut count) = (Vec::new(), Vec::new(), 0, 0);
    if line.len() < LONG || has_backslash(line) {
        return None;
    }
    let mut cursor = Cursor::new(line, &rules.controls);
    while let Some(at) = memchr(b'"', &line[cursor.at..]) {
        cursor.at += at;
        made.clear();
        let Some(span) = cursor.string(made) else { break };
        let (start, end) = (span.quotes.0 + 1, span.quotes.1);
        cursor.space();
        // Keys are left whole: two of them could become the same.
        let size = if end - start < LONG || cursor.peek() == Some(b':') { None } else { beginning(&line[start..end]) };
        if let Some(size) = size {
            short.extend_from_slice(&line[from..start + size]);
            count += characters(&line[from..start + size], false);
            cuts.push((count, characters(&line[start + size..end], false)));
            from = end;
        }
    }
    short.extend_from_slice(&line[from..]);
    (!cuts.is_empty()).then_some((short, cuts))
}

/// Return the bytes of the first characters of a sound text; None where it may be an image, blank or a placeholder.
fn beginning(text: &[u8]) -> Option<usize> {
    let (mut at, mut letters, mut head) = (0, 0, Vec::with_capacity(4));
    for _ in 0..KEPT {
        let byte = *text.get(at)?;
        if head.len() < 4 && byte != b' ' {
            head.push(if byte == b'\\' || !byte.is_ascii() { return None } else { byte });
        }
        letters += usize::from(byte.is_ascii_alphanumeric());
        at += match (byte, text.get(at + 1..at + 3)) {
            (b'\\', Some([b'u', b'd' | b'D'])) => 12,
            (b'\\', Some([b'u', _])) => 6,
            (b'\\', _) => 2,
            (0..0x80, _) => 1,
            (0x80..0xE0, _) => 2,
            (0xE0..0xF0, _) => 3,
            _ => 4,
        };
    }
    (letters > 9 && at < text.len() && !ADDRESSES.iter().any(|address| head == **address)).then_some(at)
}
