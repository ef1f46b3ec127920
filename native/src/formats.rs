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
        let (mut prompt, mut completion) = (None, None);
        cursor.space();
        let kinds = rules.lines.each_ref();
        let format = Format::ALL[self.object(&mut cursor, kinds, |line, cursor, key| {
            match key {
                "prompt" => prompt = Some(cursor.string(&mut line.made)?),
                "completion" => completion = Some(cursor.string(&mut line.made)?),
                "messages" => cursor.list(|cursor| line.message(cursor, rules))?,
                "contents" => cursor.list(|cursor| line.content(cursor, rules, false))?,
                "systemInstruction" => line.content(cursor, rules, true)?,
                _ => line.pass_over(cursor)?,
            }
            Some(())
        })?];
        cursor.space();
        if cursor.at != line.len() {
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

    /// Read an object of one of some kinds, each key of which is there at most once, and those that it must have; return
    /// the kind.
    #[inline(always)]
    fn object<'a, const N: usize>(
        &mut self,
        cursor: &mut Cursor<'a>,
        kinds: [&Keys; N],
        mut member: impl FnMut(&mut Self, &mut Cursor<'a>, &str) -> Option<()>,
    ) -> Option<usize> {
        let (mut seen, mut fits) = ([0; N], [true; N]);
        cursor.object(|cursor, key| {
            let mut name = None;
            for (place, keys) in kinds.into_iter().enumerate() {
                match keys.get(key).filter(|known| seen[place] & known.bit == 0) {
                    Some(known) => {
                        seen[place] |= known.bit;
                        name = Some(known.name.as_str());
                    }
                    None => fits[place] = false,
                }
            }
            member(self, cursor, name?)
        })?;
        (0..N).find(|place| fits[*place] && seen[*place] & kinds[*place].required == kinds[*place].required)
    }

    fn message(&mut self, cursor: &mut Cursor, rules: &Rules) -> Option<()> {
        let (start, mut role) = (self.parts.len(), None);
        self.object(cursor, [&rules.chat_turn], |line, cursor, key| {
            match key {
                "role" => role = Some(rules.role(Format::Chat, cursor.word()?)?),
                "content" if cursor.peek() == Some(b'[') => cursor.list(|cursor| line.chat_part(cursor, rules))?,
                "content" => {
                    let text = cursor.string(&mut line.made)?;
                    line.parts.push(Part::Text(text));
                }
                _ => line.pass_over(cursor)?,
            }
            Some(())
        })?;
        self.finish(role?, start)
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
        let (mut named, mut part) = (None, None);
        let kinds = rules.chat_parts.each_ref();
        let kind = self.object(cursor, kinds, |line, cursor, key| {
            match key {
                "type" => named = Some(cursor.word()?),
                "text" => part = Some(Part::Text(cursor.string(&mut line.made)?)),
                "image_url" => part = Some(Part::Image(line.image_url(cursor, rules)?)),
                _ => line.pass_over(cursor)?,
            }
            Some(())
        })?;
        self.parts.push(part.filter(|_| named == kinds[kind].kind())?);
        Some(())
    }

    fn image_url(&mut self, cursor: &mut Cursor, rules: &Rules) -> Option<Span> {
        let mut url = None;
        self.object(cursor, [&rules.image_url], |line, cursor, key| {
            match key {
                "url" => url = Some(cursor.string(&mut line.made)?),
                "detail" => {
                    line.says_more = true;
                    if !cursor.null() {
                        let word = cursor.word()?;
                        rules.details.iter().find(|detail| detail.as_bytes() == word)?;
                    }
                }
                _ => line.pass_over(cursor)?,
            }
            Some(())
        })?;
        url
    }

    /// Read a turn of GenerateContent; that of the system may have any role.
    fn content(&mut self, cursor: &mut Cursor, rules: &Rules, system: bool) -> Option<()> {
        let keys = if system { &rules.instruction } else { &rules.contents_turn };
        let (start, mut role) = (self.parts.len(), system.then_some(Role::System));
        self.object(cursor, [keys], |line, cursor, key| {
            match key {
                "role" if system => line.says_more |= !matches!(cursor.word()?, b"system" | b"user"),
                "role" => role = Some(rules.role(Format::GenerateContent, cursor.word()?)?),
                "parts" => cursor.list(|cursor| line.content_part(cursor, rules))?,
                _ => line.pass_over(cursor)?,
            }
            Some(())
        })?;
        self.finish(role?, start)
    }

    fn content_part(&mut self, cursor: &mut Cursor, rules: &Rules) -> Option<()> {
        let mut found = None;
        cursor.object(|cursor, key| {
            if found.is_some() {
                return None; // one of them in each part
            }
            found = Some(match rules.part_kind(key)? {
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
        let (mut declared, mut content) = (None, None);
        self.object(cursor, [keys], |line, cursor, key| {
            match key {
                "mime_type" => declared = Some(cursor.word()?),
                "file_uri" | "data" => content = Some(cursor.string(&mut line.made)?),
                _ => line.pass_over(cursor)?,
            }
            Some(())
        })?;
        let (declared, content): (&[u8], Span) = (declared?, content?);
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
