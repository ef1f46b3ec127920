//! JSON strings and punctuation, strictly; whoever reads an object says which keys it has.

use wide::u8x16;

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

/// Reads one line, which is UTF-8.
pub struct Cursor<'a> {
    pub line: &'a [u8],
    pub at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(line: &'a [u8]) -> Self {
        Cursor { line, at: 0 }
    }

    pub fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    pub fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    pub fn expect(&mut self, byte: u8) -> Option<()> {
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

    /// Read `null` or another name.
    pub fn name(&mut self, name: &[u8]) -> Option<()> {
        self.line[self.at..].starts_with(name).then(|| self.at += name.len())
    }

    /// Read the colon behind a key.
    pub fn colon(&mut self) -> Option<()> {
        self.space();
        self.expect(b':')?;
        self.space();
        Some(())
    }

    /// Read an object; `member` reads the value of each key, which is a short one.
    pub fn object(&mut self, mut member: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.members(|cursor| {
            let key = cursor.word()?;
            cursor.colon()?;
            member(cursor, key)
        })
    }

    /// Read an object; `member` reads each key and its value.
    pub fn members(&mut self, member: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.items(b'{', b'}', member)
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

    /// Read a string; None where it is none, or holds an ASCII control other than tab and line end.
    ///
    /// What its escapes stand for goes to `made`.
    pub fn string(&mut self, made: &mut Vec<u8>) -> Option<Span> {
        self.expect(b'"')?;
        let start = self.at;
        let mut high = false;
        let mut end = plain_end(self.line, start, &mut high);
        if self.line.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Some(Span { start, end, made: false, ascii: !high, quotes: (start - 1, end) });
        }
        let begin = made.len();
        let mut from = start;
        loop {
            made.extend_from_slice(&self.line[from..end]);
            match self.line.get(end)? {
                b'"' => break,
                b'\\' => from = self.escape(end + 1, made, &mut high)?,
                _ => return None,
            }
            end = plain_end(self.line, from, &mut high);
        }
        self.at = end + 1;
        Some(Span { start: begin, end: made.len(), made: true, ascii: !high, quotes: (start - 1, end) })
    }

    /// Read what follows a backslash; return where it ends.
    fn escape(&self, at: usize, made: &mut Vec<u8>, high: &mut bool) -> Option<usize> {
        let byte = match self.line.get(at)? {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            byte @ (b'"' | b'\\' | b'/') => *byte,
            b'u' => return self.unicode(at + 1, made, high),
            _ => return None,
        };
        made.push(byte);
        Some(at + 1)
    }

    fn unicode(&self, mut at: usize, made: &mut Vec<u8>, high: &mut bool) -> Option<usize> {
        let mut code = self.hex(at)?;
        at += 4;
        if (0xD800..0xDC00).contains(&code) {
            if self.line.get(at..at + 2)? != b"\\u" {
                return None;
            }
            let low = self.hex(at + 2)?;
            if !(0xDC00..0xE000).contains(&low) {
                return None;
            }
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
            at += 6;
        }
        match char::from_u32(code)? {
            '\0'..'\t' | '\x0b' | '\x0c' | '\x0e'..' ' | '\x7f' => return None,
            letter => {
                *high |= !letter.is_ascii();
                made.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        Some(at)
    }

    fn hex(&self, at: usize) -> Option<u32> {
        self.line.get(at..at + 4)?.iter().try_fold(0, |code, byte| Some(code << 4 | char::from(*byte).to_digit(16)?))
    }
}

/// Return where the first quote, backslash or ASCII control stands, or the end; set `high` where there may be others than ASCII.
fn plain_end(data: &[u8], mut at: usize, high: &mut bool) -> usize {
    let (quote, backslash) = (u8x16::splat(b'"'), u8x16::splat(b'\\'));
    let (control, delete) = (u8x16::splat(0x1f), u8x16::splat(0x7f));
    let mut seen = u8x16::splat(0);
    while let Some(chunk) = data.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
        let bytes = u8x16::from(*chunk);
        seen |= bytes;
        let special =
            bytes.simd_eq(quote) | bytes.simd_eq(backslash) | bytes.simd_eq(delete) | bytes.min(control).simd_eq(bytes);
        let mask = special.to_bitmask();
        if mask != 0 {
            *high |= seen.to_bitmask() != 0;
            return at + mask.trailing_zeros() as usize;
        }
        at += 16;
    }
    *high |= seen.to_bitmask() != 0;
    while let Some(byte) = data.get(at) {
        match byte {
            b'"' | b'\\' | 0x7f | 0..0x20 => break,
            _ => *high |= !byte.is_ascii(),
        }
        at += 1;
    }
    at
}
