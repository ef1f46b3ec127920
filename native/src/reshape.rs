//! Lines of one documented format as lines of another, texts carried over as they are written: no escape is undone.

use crate::formats::{Line, Part, Turn};
use crate::json::Span;
use crate::rules::{Format, Role, Rules};
use crate::scan::{Buffers, is_blank, lines, sound_image, unsound};

/// Index, start and end of a line that was not written, and where in what was written it would stand.
pub type Left = (usize, usize, usize, usize);

/// Write a block's lines in another format to `buffers.written`.
///
/// Returns how many there are, how many were written, and the lines that are not certainly good. Blank lines are neither.
pub fn reshape(block: &[u8], format: Format, rules: &Rules, buffers: &mut Buffers) -> (usize, usize, Vec<Left>) {
    let Buffers { line: read, picture, written, .. } = buffers;
    let (mut count, mut rows, mut left) = (0, 0, Vec::new());
    written.clear();
    for (index, (start, end, valid)) in lines(block).enumerate() {
        count = index + 1;
        let line = &block[start..end];
        let mark = written.len();
        let good = valid && read.read(line, rules).is_some();
        if good && (Writer { line, read, rules, picture, written }).write(format).is_some() {
            rows += 1;
        } else {
            written.truncate(mark);
            if !is_blank(line) {
                left.push((index, start, end, mark));
            }
        }
    }
    (count, rows, left)
}

struct Writer<'a> {
    line: &'a [u8],
    read: &'a Line,
    rules: &'a Rules,
    picture: &'a mut Vec<u8>,
    written: &'a mut Vec<u8>,
}

impl Writer<'_> {
    fn write(&mut self, format: Format) -> Option<()> {
        // Nothing is lost in silence: the exact parser's writers say it or refuse it.
        if self.read.says_more {
            return None;
        }
        match format {
            Format::PromptCompletion => self.pair(),
            Format::Chat => self.chat(),
            Format::GenerateContent => self.contents(),
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.written.extend_from_slice(bytes);
    }

    /// Write a text as it is written in the line, if it is neither blank nor a placeholder.
    fn text(&mut self, span: Span) -> Option<()> {
        if unsound(self.read.bytes(self.line, span), self.rules) {
            return None;
        }
        let (opening, closing) = span.quotes;
        self.written.extend_from_slice(&self.line[opening..=closing]);
        Some(())
    }

    /// Return the type and the base64 text of an image in the line that is good.
    fn image(&mut self, span: Span) -> Option<(&[u8], &[u8], &mut Vec<u8>)> {
        let address = self.read.bytes(self.line, span);
        let rest = address.strip_prefix(b"data:")?;
        if !sound_image(address, self.rules, self.picture) {
            return None;
        }
        let end = memchr::memchr(b';', rest)?;
        Some((&rest[..end], rest[end..].strip_prefix(b";base64,")?, self.written))
    }

    fn pair(&mut self) -> Option<()> {
        let [Turn { role: Role::User, parts: prompt }, Turn { parts: answer, .. }] = self.read.turns.as_slice() else {
            return None;
        };
        let ([Part::Text(prompt)], [Part::Text(answer)]) =
            (&self.read.parts[prompt.clone()], &self.read.parts[answer.clone()])
        else {
            return None;
        };
        self.put(b"{\"prompt\":");
        self.text(*prompt)?;
        self.put(b",\"completion\":");
        self.text(*answer)?;
        self.put(b"}\n");
        Some(())
    }

    fn chat(&mut self) -> Option<()> {
        let read = self.read;
        self.put(b"{\"messages\":[");
        for (index, turn) in read.turns.iter().enumerate() {
            self.put(if index == 0 { b"{\"role\":\"" } else { b",{\"role\":\"" });
            self.put(match turn.role {
                Role::System => b"system",
                Role::User => b"user",
                Role::Assistant => b"assistant",
            });
            self.put(b"\",\"content\":");
            let parts = &read.parts[turn.parts.clone()];
            if let [Part::Text(text)] = parts {
                self.text(*text)?;
            } else {
                let image: [&[u8]; 2] = [b"{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:", b";base64,"];
                self.parts(parts, b"{\"type\":\"text\",\"text\":", image)?;
            }
            self.put(b"}");
        }
        self.put(b"]}\n");
        Some(())
    }

    fn contents(&mut self) -> Option<()> {
        let read = self.read;
        let mut head: &[u8] = b"{\"contents\":[{\"role\":\"";
        for turn in &read.turns {
            if turn.role == Role::System {
                self.put(b"{\"systemInstruction\":{\"parts\":");
            } else {
                self.put(head);
                self.put(if turn.role == Role::Assistant { b"model" } else { b"user" });
                self.put(b"\",\"parts\":");
                head = b"},{\"role\":\"";
            }
            let image: [&[u8]; 2] = [b"{\"inline_data\":{\"mime_type\":\"", b"\",\"data\":\""];
            self.parts(&read.parts[turn.parts.clone()], b"{\"text\":", image)?;
            if turn.role == Role::System {
                self.put(b"}");
                head = b",\"contents\":[{\"role\":\"";
            }
        }
        self.put(b"}]}\n");
        Some(())
    }

    /// Write a list of parts.
    ///
    /// `text` stands before a text; `image` before the type of an image and before its base64 text.
    fn parts(&mut self, parts: &[Part], text: &[u8], image: [&[u8]; 2]) -> Option<()> {
        let mut opening: &[u8] = b"[";
        for part in parts {
            self.put(opening);
            opening = b",";
            match part {
                Part::Text(span) => {
                    self.put(text);
                    self.text(*span)?;
                    self.put(b"}");
                }
                Part::Image(span) => {
                    let (mime_type, data, written) = self.image(*span)?;
                    for piece in [image[0], mime_type, image[1], data, b"\"}}"] {
                        written.extend_from_slice(piece);
                    }
                }
            }
        }
        self.put(b"]");
        Some(())
    }
}
