//! Any JSON object as Python's own decoder would make it, where that is certain, and where a line breaks off.

use std::str::from_utf8;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use crate::json::{Cursor, Span};
use crate::texts::odd_character;

/// Deeper objects are left to Python's decoder.
const LEVELS: usize = 32;

/// Return the object of a line, and whether no key and no text in it holds a character that does not belong into one.
///
/// None where it is not certainly an object: a syntax error, a key that is there twice, half a surrogate pair, a control, a
/// number with very many digits, NaN, deep nesting.
pub fn decode<'py>(py: Python<'py>, line: &[u8]) -> Option<(Bound<'py, PyAny>, bool)> {
    let mut maker = Maker { py, made: Vec::new(), clean: true };
    let mut cursor = Cursor::new(line);
    cursor.space();
    if cursor.peek() != Some(b'{') {
        return None;
    }
    let value = maker.value(&mut cursor, 0)?;
    cursor.space();
    (cursor.at == line.len()).then_some((value, maker.clean))
}

struct Maker<'py> {
    py: Python<'py>,
    made: Vec<u8>,
    clean: bool,
}

impl<'py> Maker<'py> {
    fn value(&mut self, cursor: &mut Cursor, level: usize) -> Option<Bound<'py, PyAny>> {
        let py = self.py;
        match cursor.peek()? {
            b'"' => Some(self.text(cursor)?.into_any()),
            b'{' if level < LEVELS => {
                let made = PyDict::new(py);
                cursor.members(|cursor| {
                    let key = self.text(cursor)?;
                    cursor.colon()?;
                    let value = self.value(cursor, level + 1)?;
                    if made.contains(&key).ok()? {
                        return None;
                    }
                    made.set_item(key, value).ok()
                })?;
                Some(made.into_any())
            }
            b'[' if level < LEVELS => {
                let made = PyList::empty(py);
                cursor.list(|cursor| made.append(self.value(cursor, level + 1)?).ok())?;
                Some(made.into_any())
            }
            b't' => cursor.name(b"true").map(|()| true.into_pyobject(py).unwrap().to_owned().into_any()),
            b'f' => cursor.name(b"false").map(|()| false.into_pyobject(py).unwrap().to_owned().into_any()),
            b'n' => cursor.name(b"null").map(|()| py.None().into_bound(py)),
            _ => {
                let (text, whole) = number(cursor)?;
                if whole {
                    // Up to 18 digits fit.
                    text.parse::<i64>().ok()?.into_pyobject(py).ok().map(Bound::into_any)
                } else {
                    text.parse::<f64>().ok()?.into_pyobject(py).ok().map(Bound::into_any)
                }
            }
        }
    }

    fn text(&mut self, cursor: &mut Cursor) -> Option<Bound<'py, PyString>> {
        self.made.clear();
        let span = cursor.string(&mut self.made)?;
        let bytes = bytes(cursor.line, &self.made, span);
        if !span.ascii && odd_character(bytes) {
            self.clean = false;
        }
        Some(PyString::new(self.py, from_utf8(bytes).ok()?))
    }
}

fn bytes<'a>(line: &'a [u8], made: &'a [u8], span: Span) -> &'a [u8] {
    &(if span.made { made } else { line })[span.start..span.end]
}

/// Read a number of no more than 18 characters; tell whether it is a whole one.
fn number<'a>(cursor: &mut Cursor<'a>) -> Option<(&'a str, bool)> {
    let start = cursor.at;
    let digits = |cursor: &mut Cursor| {
        let from = cursor.at;
        while cursor.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            cursor.at += 1;
        }
        (cursor.at > from).then_some(())
    };
    let _ = cursor.expect(b'-');
    if cursor.expect(b'0').is_none() {
        digits(cursor)?;
    }
    let mut whole = true;
    if cursor.expect(b'.').is_some() {
        whole = false;
        digits(cursor)?;
    }
    if cursor.expect(b'e').or_else(|| cursor.expect(b'E')).is_some() {
        whole = false;
        let _ = cursor.expect(b'+').or_else(|| cursor.expect(b'-'));
        digits(cursor)?;
    }
    let text = from_utf8(&cursor.line[start..cursor.at]).ok()?;
    (text.len() <= 18).then_some((text, whole))
}

/// Tell whether a line is an object but for its last brace: it ends behind a value of it.
pub fn lacks_brace(line: &[u8]) -> bool {
    let mut cursor = Cursor::new(line);
    let mut made = Vec::new();
    if simdutf8::basic::from_utf8(line).is_err() || cursor.expect(b'{').is_none() {
        return false;
    }
    loop {
        cursor.space();
        made.clear();
        if cursor.string(&mut made).is_none() || cursor.colon().is_none() {
            return false;
        }
        // A number could go on behind the end.
        let ends = matches!(cursor.peek(), Some(b'"' | b'[' | b'{'));
        if skip(&mut cursor, &mut made, 1).is_none() {
            return false;
        }
        cursor.space();
        if cursor.at == line.len() {
            return ends;
        }
        if cursor.expect(b',').is_none() {
            return false;
        }
    }
}

fn skip(cursor: &mut Cursor, made: &mut Vec<u8>, level: usize) -> Option<()> {
    match cursor.peek()? {
        b'"' => {
            made.clear();
            cursor.string(made).map(|_| ())
        }
        b'{' if level < LEVELS => cursor.members(|cursor| {
            made.clear();
            cursor.string(made)?;
            cursor.colon()?;
            skip(cursor, made, level + 1)
        }),
        b'[' if level < LEVELS => cursor.list(|cursor| skip(cursor, made, level + 1)),
        b't' => cursor.name(b"true"),
        b'f' => cursor.name(b"false"),
        b'n' => cursor.name(b"null"),
        _ => number(cursor).map(|_| ()),
    }
}
