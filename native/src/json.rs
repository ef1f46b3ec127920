//! JSON strings and punctuation, strictly; whoever reads an object says which keys it has.

use wide::u8x16;

use crate::texts::Controls;

/// A string of a line: a part of the line itself, or of what its escapes were made into.
#[derive(Clone, Copy)]
pub struct Span {
    pub start: usize,
    pub end: usize,
    /// Whether it is in the buffer of strings with escapes.
    pub made: bool,
    /// Whether all of it is certainly ASCII.
    pub ascii: bool,
    /// Where its quotes stand in the line.
    pub quotes: (usize, usize),
}

/// What strings with escapes stand for, one after the other; its memory is used again for the next line.
#[derive(Default)]
pub struct Made {
    bytes: Vec<u8>,
    len: usize,
}

/// What is copied at a time, so that a copy needs no loop of its own.
const CHUNK: usize = 16;

impl Made {
    pub fn clear(&mut self) {
        self.len = 0;
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub fn append(&mut self, piece: &[u8]) {
        self.reserve(piece.len());
        self.bytes[self.len..self.len + piece.len()].copy_from_slice(piece);
        self.len += piece.len();
    }

    pub fn append_within(&mut self, start: usize, end: usize) {
        self.reserve(end - start);
        self.bytes.copy_within(start..end, self.len);
        self.len += end - start;
    }

    /// Give back memory beyond a bound.
    pub fn shrink(&mut self, bound: usize) {
        if self.bytes.capacity() > bound {
            *self = Made::default();
        }
    }

    /// Make room for so many bytes, and for a whole chunk behind them.
    fn reserve(&mut self, more: usize) {
        let wanted = self.len + more + CHUNK;
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted.next_power_of_two(), 0);
        }
    }

    /// Write four bytes, of which the first `count` matter, where room is reserved.
    fn put(&mut self, bytes: [u8; 4], count: usize) {
        self.bytes[self.len..self.len + 4].copy_from_slice(&bytes);
        self.len += count;
    }
}

/// Reads one line, which is UTF-8.
pub struct Cursor<'a> {
    pub line: &'a [u8],
    pub at: usize,
    /// What no string may hold.
    controls: &'a Controls,
}

impl<'a> Cursor<'a> {
    pub fn new(line: &'a [u8], controls: &'a Controls) -> Self {
        Cursor { line, at: 0, controls }
    }

    pub fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    pub fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Read a key or another short string without escapes.
    pub fn word(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' | 0..0x20 => return None,
                _ => self.at += 1,
            }
            if self.at - start > 24 {
                return None;
            }
        }
        self.at += 1;
        Some(&self.line[start..self.at - 1])
    }

    /// Read `null` if it is there.
    pub fn null(&mut self) -> bool {
        let found = self.line[self.at..].starts_with(b"null");
        self.at += if found { 4 } else { 0 };
        found
    }

    /// Read an object; `member` reads the value of each key, which is a short one.
    pub fn object(&mut self, mut member: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.items(b'{', b'}', |cursor| {
            let key = cursor.word()?;
            cursor.space();
            cursor.expect(b':')?;
            cursor.space();
            member(cursor, key)
        })
    }

    /// Read a list; `item` reads each of its values.
    pub fn list(&mut self, item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.items(b'[', b']', item)
    }

    fn items(&mut self, opening: u8, closing: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.expect(opening)?;
        self.space();
        if self.expect(closing).is_some() {
            return Some(());
        }
        loop {
            item(self)?;
            self.space();
            if self.expect(closing).is_some() {
                return Some(());
            }
            self.expect(b',')?;
            self.space();
        }
    }

    /// Read a string; None where it is none, or holds a character that does not belong into a text.
    ///
    /// What its escapes stand for goes to `made`.
    pub fn string(&mut self, made: &mut Made) -> Option<Span> {
        self.expect(b'"')?;
        let start = self.at;
        let mut seen = u8x16::splat(0);
        let mut end = plain(self.line, start, &mut seen, |_, _| {});
        let (begin, escaped) = (made.len, self.line.get(end) != Some(&b'"'));
        let mut ascii = true;
        if escaped {
            // No escape stands for more bytes than it has.
            made.reserve(self.line.len() - start);
            made.append(&self.line[start..end]);
            while self.line.get(end) != Some(&b'"') {
                while self.line.get(end) == Some(&b'\\') {
                    end = self.escape(end, made, &mut ascii)?;
                }
                let mut len = made.len;
                end = plain(self.line, end, &mut seen, |chunk, count| {
                    made.bytes[len..len + CHUNK].copy_from_slice(chunk);
                    len += count;
                });
                made.len = len;
                if !matches!(self.line.get(end), Some(b'"' | b'\\')) {
                    return None;
                }
            }
        }
        if seen.to_bitmask() != 0 {
            ascii = false;
            if self.controls.are_in(&self.line[start..end]) {
                return None;
            }
        }
        self.at = end + 1;
        let quotes = (start - 1, end);
        let (start, end) = if escaped { (begin, made.len) } else { (start, end) };
        Some(Span { start, end, made: escaped, ascii, quotes })
    }

    /// Read an escape; return where it ends.
    fn escape(&self, at: usize, made: &mut Made, ascii: &mut bool) -> Option<usize> {
        let byte = *self.line.get(at + 1)?;
        if byte == b'u' {
            return self.unicode(at, made, ascii);
        }
        let made_of = SIMPLE[usize::from(byte)];
        made.put([made_of, 0, 0, 0], 1);
        (made_of != 0).then_some(at + 2)
    }

    fn unicode(&self, at: usize, made: &mut Made, ascii: &mut bool) -> Option<usize> {
        let code = self.hex(at + 2)?;
        if self.controls.is_one(code) {
            return None;
        }
        let six = |byte: u32| 0x80 | (byte & 0x3F) as u8;
        match code {
            0..0x80 => made.put([code as u8, 0, 0, 0], 1),
            0x80..0x800 => made.put([0xC0 | (code >> 6) as u8, six(code), 0, 0], 2),
            0xD800..0xE000 => {
                let high = code;
                if high >= 0xDC00 || self.line.get(at + 6..at + 8)? != b"\\u" {
                    return None;
                }
                let low = self.hex(at + 8)?;
                if !(0xDC00..0xE000).contains(&low) {
                    return None;
                }
                let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                made.put([0xF0 | (code >> 18) as u8, six(code >> 12), six(code >> 6), six(code)], 4);
                *ascii = false;
                return Some(at + 12);
            }
            _ => made.put([0xE0 | (code >> 12) as u8, six(code >> 6), six(code), 0], 3),
        }
        *ascii &= code < 0x80;
        Some(at + 6)
    }

    fn hex(&self, at: usize) -> Option<u32> {
        let [a, b, c, d] = *self.line.get(at..)?.first_chunk::<4>()?;
        let [a, b, c, d] = [a, b, c, d].map(|digit| u32::from(HEX[usize::from(digit)]));
        let code = a << 12 | b << 8 | c << 4 | d;
        ((a | b | c | d) < 0x10).then_some(code)
    }
}

/// What stands for what behind a backslash; 0: nothing that a text may hold.
const SIMPLE: [u8; 256] = {
    let mut table = [0; 256];
    table[b'n' as usize] = b'\n';
    table[b't' as usize] = b'\t';
    table[b'r' as usize] = b'\r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table[b'/' as usize] = b'/';
    table
};

const HEX: [u8; 256] = {
    let mut table = [0xFF; 256];
    let mut digit = 0;
    while digit < 16 {
        table[b"0123456789abcdef"[digit] as usize] = digit as u8;
        table[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    table
};

/// Return which bytes of a chunk are a quote, a backslash or an ASCII control.
#[inline(always)]
fn special(bytes: u8x16) -> u32 {
    let found = bytes.simd_eq(u8x16::splat(b'"'))
        | bytes.simd_eq(u8x16::splat(b'\\'))
        | bytes.simd_eq(u8x16::splat(0x7f))
        | bytes.min(u8x16::splat(0x1f)).simd_eq(bytes);
    found.to_bitmask()
}

/// Return where the first quote, backslash or ASCII control stands, or the end.
///
/// `seen` gets the bits of all bytes before it, and perhaps of some behind it. `pass` is called for chunks with how many of
/// their bytes stand before it.
#[inline(always)]
fn plain(data: &[u8], mut at: usize, seen: &mut u8x16, mut pass: impl FnMut(&[u8; CHUNK], usize)) -> usize {
    while let Some(chunk) = data.get(at..).and_then(|rest| rest.first_chunk::<CHUNK>()) {
        let bytes = u8x16::from(*chunk);
        *seen |= bytes;
        let mask = special(bytes);
        if mask != 0 {
            let count = mask.trailing_zeros() as usize;
            pass(chunk, count);
            return at + count;
        }
        pass(chunk, CHUNK);
        at += CHUNK;
    }
    while let Some(byte) = data.get(at).filter(|byte| !matches!(byte, b'"' | b'\\' | 0x7f | 0..0x20)) {
        *seen |= u8x16::splat(*byte);
        pass(&[*byte; CHUNK], 1);
        at += 1;
    }
    at
}
