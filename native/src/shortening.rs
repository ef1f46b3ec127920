//! Doubtful lines with their long texts cut short: what is wrong with a line is found sooner in that.

use memchr::memchr;

use crate::json::{Cursor, Made};
use crate::rules::Rules;
use crate::scan::{escaped_twice, has_escaped_end};
use crate::texts::characters;

/// A line, of each cut how many of its characters stand before it and how many were left out, and whether all that was
/// cut is certainly sound: else only what is wrong with the line's JSON is the same in both.
pub type Shortened = (Vec<u8>, Vec<(usize, usize)>, bool);

/// Bytes of a text that is worth a cut.
const LONG: usize = 192;
/// Keys of an object that are compared with each other.
const MANY: usize = 32;
/// Characters left of a text: more than any finding looks at or shows of a text that is sound.
const KEPT: usize = 96;
/// What addresses of images, and images without their address, begin with.
const ADDRESSES: [&str; 5] = ["data", "gs:/", "iVBO", "/9j/", "UklG"];

/// Return a line with its long texts cut short, None where there are none; and whether it is plain: any JSON parser that
/// takes it returns the same, and no text of it holds a control.
pub fn shortened(line: &[u8], rules: &Rules, made: &mut Made) -> (Option<Shortened>, bool) {
    if memchr(0, line).is_some() {
        return (None, false); // its place is told in bytes
    }
    let (mut short, mut cuts, mut sound, mut from, mut count) = (Vec::new(), Vec::new(), true, 0, 0);
    // The keys of the objects around, and where those of each begin.
    let (mut keys, mut starts, mut plain) = (Vec::new(), Vec::new(), true);
    let mut cursor = Cursor::new(line, &rules.controls);
    while let Some(byte) = cursor.peek() {
        if byte != b'"' {
            match byte {
                b'{' => starts.push(keys.len()),
                b'}' => keys.truncate(starts.pop().unwrap_or(0)),
                b'[' | b']' | b':' | b',' | b'n' | b'u' | b'l' | b' ' | b'\t' | b'\r' => {}
                _ => plain = false,
            }
            cursor.at += 1;
            continue;
        }
        made.clear();
        let Some(span) = cursor.string(made) else {
            plain = false;
            break;
        };
        let (start, end) = (span.quotes.0 + 1, span.quotes.1);
        cursor.space();
        if cursor.peek() == Some(b':') {
            // Keys are left whole: two of them could become the same.
            let (key, others) = (&line[start..end], &keys[starts.last().map_or(0, |start| *start)..]);
            plain &= !span.made && others.len() < MANY && !others.contains(&key);
            keys.push(key);
        } else if let Some(size) = beginning(&line[start..end]) {
            let text = &(if span.made { made.bytes() } else { line })[span.start..span.end];
            sound &= is_sound(text);
            short.extend_from_slice(&line[from..start + size]);
            count += characters(&line[from..start + size], false);
            cuts.push((count, characters(&line[start + size..end], false)));
            from = end;
        }
    }
    short.extend_from_slice(&line[from..]);
    ((!cuts.is_empty()).then_some((short, cuts, sound)), plain)
}

/// Return the bytes of the first characters of a long string as it is written; None where it is not long.
fn beginning(text: &[u8]) -> Option<usize> {
    if text.len() < LONG {
        return None;
    }
    let mut at = 0;
    for _ in 0..KEPT {
        at += match (*text.get(at)?, text.get(at + 1..at + 3)) {
            (b'\\', Some([b'u', b'd' | b'D'])) if matches!(text.get(at + 3), Some(b'8'..)) => 12, // a surrogate pair
            (b'\\', Some([b'u', _])) => 6,
            (b'\\', _) => 2,
            (0..0x80, _) => 1,
            (0x80..0xE0, _) => 2,
            (0xE0..0xF0, _) => 3,
            _ => 4,
        };
    }
    (at < text.len()).then_some(at)
}

/// Tell whether there is nothing to find in a text or in its beginning: no image, placeholder or line end escaped twice.
fn is_sound(text: &[u8]) -> bool {
    let head = &text[..text.len().min(4 * KEPT)];
    let head = std::str::from_utf8(head)
        .unwrap_or_else(|error| std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default());
    let shown = || head.chars().take(KEPT).filter(|character| !character.is_whitespace());
    let image = ADDRESSES.iter().any(|begins| shown().take(4).eq(begins.chars()));
    !image && shown().nth(9).is_some() && !has_escaped_end(head.as_bytes()) && !escaped_twice(text)
}
