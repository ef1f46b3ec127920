//! Doubtful lines with their long texts cut short: what is wrong with a line is found sooner in that.

use memchr::{memchr, memmem};

use crate::json::{Cursor, Made};
use crate::rules::Rules;
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
    let mut cursor = Cursor::new(line, &rules.controls);
    while let Some(at) = memchr(b'"', &line[cursor.at..]) {
        cursor.at += at;
        made.clear();
        let Some(span) = cursor.string(made) else { break };
        let (start, end) = (span.quotes.0 + 1, span.quotes.1);
        cursor.space();
        // Keys are left whole: two of them could become the same. What may have been escaped twice is, too.
        let text = &(if span.made { made.bytes() } else { line })[span.start..span.end];
        let whole = end - start < LONG || cursor.peek() == Some(b':') || memmem::find(text, b"\\n").is_some();
        if let Some(size) = if whole { None } else { beginning(&line[start..end]) } {
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
        let escape = if byte == b'\\' { text.get(at + 1) } else { None };
        match escape {
            Some(b'n' | b't' | b'r') => {}
            Some(b'/' | b'u') if head.len() < 4 => return None,
            _ if head.len() == 4 || byte == b' ' => {}
            _ => head.push(if byte.is_ascii() { byte } else { return None }),
        }
        letters += usize::from(byte.is_ascii_alphanumeric());
        at += match (byte, text.get(at + 1..at + 4)) {
            (b'\\', Some([b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B'])) => 12, // a surrogate pair
            (b'\\', Some([b'u', ..])) => 6,
            (b'\\', _) => 2,
            (0..0x80, _) => 1,
            (0x80..0xE0, _) => 2,
            (0xE0..0xF0, _) => 3,
            _ => 4,
        };
    }
    (letters > 9 && at < text.len() && !ADDRESSES.iter().any(|address| head == **address)).then_some(at)
}
