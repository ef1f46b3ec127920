//! The documented formats: from a line to its turns, or to nothing where anything is out of order.

use std::ops::Range;

use crate::json::{Cursor, Made, Span};
use crate::rules::{Format, Keys, Role, Rules};

#[derive(Clone, Copy)]
pub enum Part {
    Text(Span),
    /// The address of an image.
    Image(Span),
}

pub struct Turn {
    pub role: Role,
    /// Of `Line::parts`.
    pub parts: Range<usize>,
}

/// One line; its buffers are used again for the next one.
#[derive(Default)]
pub struct Line {
    pub turns: Vec<Turn>,
    pub parts: Vec<Part>,
    /// What strings with escapes stand for.
    pub made: Made,
    /// Whether the line says something that turns and parts do not: how closely to look at an image, a turn's name, a
    /// role of the system's own.
    pub says_more: bool,
}

impl Line {
    pub fn bytes<'a>(&'a self, line: &'a [u8], span: Span) -> &'a [u8] {
        &(if span.made { self.made.bytes() } else { line })[span.start..span.end]
    }

    /// Read a line. None where a key is unknown, missing or there twice, a type wrong, or the turns are out of order.
    pub fn read(&mut self, line: &[u8], rules: &Rules) -> Option<Format> {
        self.turns.clear();
        self.parts.clear();
        self.made.clear();
        self.says_more = false;
        let mut cursor = Cursor::new(line, &rules.controls);
        let (mut format, mut seen) = (None, 0);
        let (mut prompt, mut completion) = (None, None);
        cursor.space();
        cursor.object(|cursor, key| {
            let is = match format {
                Some(format) => format,
                None => *format.insert(only(
                    Format::ALL.into_iter().filter(|form| rules.lines[*form as usize].get(key).is_some()),
                )?),
            };
            let key = rules.lines[is as usize].get(key)?;
            note(&mut seen, key.bit)?;
            match key.name.as_str() {
                "prompt" => prompt = Some(cursor.string(&mut self.made)?),
                "completion" => completion = Some(cursor.string(&mut self.made)?),
                "messages" => cursor.list(|cursor| self.message(cursor, rules))?,
                "contents" => cursor.list(|cursor| self.content(cursor, rules, false))?,
                "systemInstruction" => self.content(cursor, rules, true)?,
                _ => self.pass_over(cursor)?,
            }
            Some(())
        })?;
        cursor.space();
        let format = format?;
        if cursor.at != line.len() || !has_all(&rules.lines[format as usize], seen) {
            return None;
        }
        if let (Some(prompt), Some(completion)) = (prompt, completion) {
            self.add(Role::User, prompt);
            self.add(Role::Assistant, completion);
        }
        if let Some(system) = self.turns.iter().position(|turn| turn.role == Role::System) {
            let turn = self.turns.remove(system);
            // `systemInstruction` may stand behind `contents`; a system message belongs to the front.
            if format == Format::Chat && system != 0 {
                return None;
            }
            self.turns.insert(0, turn);
        }
        self.in_order(rules).then_some(format)
    }

    /// Tell whether the turn that may come first does, and all others follow in the order that is repeated.
    fn in_order(&self, rules: &Rules) -> bool {
        let first = self.turns.first().is_some_and(|turn| turn.role == rules.first);
        let (turns, order) = (&self.turns[usize::from(first)..], rules.repeated.as_slice());
        !turns.is_empty()
            && turns.len().is_multiple_of(order.len())
            && turns.chunks_exact(order.len()).all(|some| some.iter().zip(order).all(|(turn, role)| turn.role == *role))
    }

    fn add(&mut self, role: Role, text: Span) {
        self.turns.push(Turn { role, parts: self.parts.len()..self.parts.len() + 1 });
        self.parts.push(Part::Text(text));
    }

    /// Read a value that is allowed and means nothing here.
    fn pass_over(&mut self, cursor: &mut Cursor) -> Option<()> {
        self.says_more = true;
        cursor.string(&mut self.made)?;
        Some(())
    }

    fn message(&mut self, cursor: &mut Cursor, rules: &Rules) -> Option<()> {
        let start = self.parts.len();
        let (mut role, mut seen) = (None, 0);
        cursor.object(|cursor, key| {
            let key = rules.chat_turn.get(key)?;
            note(&mut seen, key.bit)?;
            match key.name.as_str() {
                "role" => role = Some(rules.role(Format::Chat, cursor.word()?)?),
                "content" if cursor.peek() == Some(b'[') => {
                    cursor.list(|cursor| self.chat_part(cursor, rules))?;
                }
                "content" => {
                    let text = cursor.string(&mut self.made)?;
                    self.parts.push(Part::Text(text));
                }
                _ => self.pass_over(cursor)?,
            }
            Some(())
        })?;
        self.finish(role.filter(|_| has_all(&rules.chat_turn, seen))?, start)
    }

    fn finish(&mut self, role: Role, start: usize) -> Option<()> {
        let parts = start..self.parts.len();
        let images = self.parts[parts.clone()].iter().any(|part| matches!(part, Part::Image(_)));
        if parts.is_empty() || (images && role != Role::User) {
            return None;
        }
        self.turns.push(Turn { role, parts });
        Some(())
    }

    fn chat_part(&mut self, cursor: &mut Cursor, rules: &Rules) -> Option<()> {
        let (mut kind, mut text, mut image) = (None, None, None);
        let (mut seen, mut strange) = (0, [false; 2]);
        let kinds = [&rules.chat_text, &rules.chat_image];
        cursor.object(|cursor, key| {
            let found = kinds.map(|keys| keys.get(key));
            strange = [strange[0] | found[0].is_none(), strange[1] | found[1].is_none()];
            let key = found[0].or(found[1])?;
            note(&mut seen, key.bit)?;
            match key.name.as_str() {
                "type" => kind = Some(cursor.word()?),
                "text" => text = Some(cursor.string(&mut self.made)?),
                "image_url" => image = Some(self.image_url(cursor, rules)?),
                _ => self.pass_over(cursor)?,
            }
            Some(())
        })?;
        let kind = rules.chat_kinds.iter().position(|known| Some(known.as_slice()) == kind)?;
        if strange[kind] || !has_all(kinds[kind], seen) {
            return None;
        }
        self.parts.push(if kind == 0 { Part::Text(text?) } else { Part::Image(image?) });
        Some(())
    }

    fn image_url(&mut self, cursor: &mut Cursor, rules: &Rules) -> Option<Span> {
        let (mut url, mut seen) = (None, 0);
        cursor.object(|cursor, key| {
            let key = rules.image_url.get(key)?;
            note(&mut seen, key.bit)?;
            match key.name.as_str() {
                "url" => url = Some(cursor.string(&mut self.made)?),
                "detail" => {
                    self.says_more = true;
                    if !cursor.null() {
                        let word = cursor.word()?;
                        rules.details.iter().find(|detail| *detail == word)?;
                    }
                }
                _ => self.pass_over(cursor)?,
            }
            Some(())
        })?;
        url.filter(|_| has_all(&rules.image_url, seen))
    }

    /// Read a turn of GenerateContent; that of the system may have any role.
    fn content(&mut self, cursor: &mut Cursor, rules: &Rules, system: bool) -> Option<()> {
        let keys = if system { &rules.instruction } else { &rules.contents_turn };
        let start = self.parts.len();
        let (mut role, mut seen) = (None, 0);
        cursor.object(|cursor, key| {
            let key = keys.get(key)?;
            note(&mut seen, key.bit)?;
            match key.name.as_str() {
                "role" if system => self.says_more |= !matches!(cursor.word()?, b"system" | b"user"),
                "role" => role = Some(rules.role(Format::GenerateContent, cursor.word()?)?),
                "parts" => cursor.list(|cursor| self.content_part(cursor, rules))?,
                _ => self.pass_over(cursor)?,
            }
            Some(())
        })?;
        if !has_all(keys, seen) {
            return None;
        }
        self.finish(if system { Role::System } else { role? }, start)
    }

    fn content_part(&mut self, cursor: &mut Cursor, rules: &Rules) -> Option<()> {
        let mut found = None;
        cursor.object(|cursor, key| {
            if found.is_some() {
                return None; // one of them in each part
            }
            found = Some(match rules.part_kinds.get(key)?.name.as_str() {
                "text" => Part::Text(cursor.string(&mut self.made)?),
                "file_data" => Part::Image(self.file(cursor, rules, false)?),
                "inline_data" => Part::Image(self.file(cursor, rules, true)?),
                _ => return None,
            });
            Some(())
        })?;
        self.parts.push(found?);
        Some(())
    }

    /// Return the address of an image; one that is in the line is given the address that a chat would give it.
    fn file(&mut self, cursor: &mut Cursor, rules: &Rules, inline: bool) -> Option<Span> {
        let keys = if inline { &rules.inline_data } else { &rules.file_data };
        let (mut declared, mut content, mut seen) = (None, None, 0);
        cursor.object(|cursor, key| {
            let key = keys.get(key)?;
            note(&mut seen, key.bit)?;
            match key.name.as_str() {
                "mime_type" => declared = Some(cursor.word()?),
                "file_uri" | "data" => content = Some(cursor.string(&mut self.made)?),
                _ => self.pass_over(cursor)?,
            }
            Some(())
        })?;
        let (declared, content) = (declared?, content.filter(|_| has_all(keys, seen))?);
        if !inline {
            return rules.mime_types.iter().any(|known| known.as_bytes() == declared).then_some(content);
        }
        let start = self.made.len();
        for piece in [b"data:", declared, b";base64,"] {
            self.made.append(piece);
        }
        if content.made {
            self.made.append_within(content.start, content.end);
        } else {
            self.made.append(&cursor.line[content.start..content.end]);
        }
        let ascii = content.ascii && declared.is_ascii();
        Some(Span { start, end: self.made.len(), made: true, ascii, quotes: content.quotes })
    }
}

/// Note that a key was read; None where it was before.
fn note(seen: &mut u64, bit: u64) -> Option<()> {
    let fresh = *seen & bit == 0;
    *seen |= bit;
    fresh.then_some(())
}

fn has_all(keys: &Keys, seen: u64) -> bool {
    seen & keys.required == keys.required
}

fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}
