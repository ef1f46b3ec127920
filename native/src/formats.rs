//! The documented formats: from a line to its turns, or to nothing where anything is out of order.

use std::ops::Range;

use crate::json::{Cursor, Span};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Format {
    PromptCompletion,
    Chat,
    GenerateContent,
}

impl Format {
    pub fn named(name: &str) -> Option<Self> {
        [Format::PromptCompletion, Format::Chat, Format::GenerateContent].into_iter().find(|form| form.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Format::PromptCompletion => "prompt_completion",
            Format::Chat => "chat",
            Format::GenerateContent => "generate_content",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    System,
    User,
    Assistant,
}

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
    /// What strings with escapes stand for, one after the other.
    pub made: Vec<u8>,
    /// Whether an image has a `detail`.
    pub detailed: bool,
}

impl Line {
    pub fn bytes<'a>(&'a self, line: &'a [u8], span: Span) -> &'a [u8] {
        &(if span.made { &self.made } else { line })[span.start..span.end]
    }

    /// Read a line. None where a key is unknown, missing or there twice, a type wrong, or the turns are out of order.
    pub fn read(&mut self, line: &[u8]) -> Option<Format> {
        self.turns.clear();
        self.parts.clear();
        self.made.clear();
        self.detailed = false;
        let mut cursor = Cursor::new(line);
        let (mut format, mut listed, mut instructed) = (None, false, false);
        let (mut prompt, mut completion) = (None, None);
        cursor.space();
        cursor.object(|cursor, key| {
            let is = match key {
                b"prompt" if prompt.is_none() => {
                    prompt = Some(cursor.string(&mut self.made)?);
                    Format::PromptCompletion
                }
                b"completion" if completion.is_none() => {
                    completion = Some(cursor.string(&mut self.made)?);
                    Format::PromptCompletion
                }
                b"messages" if format.is_none() => {
                    cursor.list(|cursor| self.message(cursor))?;
                    Format::Chat
                }
                b"contents" if !listed => {
                    listed = true;
                    cursor.list(|cursor| self.content(cursor, false))?;
                    Format::GenerateContent
                }
                b"systemInstruction" | b"system_instruction" if !instructed => {
                    instructed = true;
                    self.content(cursor, true)?;
                    Format::GenerateContent
                }
                _ => return None,
            };
            (*format.get_or_insert(is) == is).then_some(())
        })?;
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
            if format == Some(Format::Chat) && system != 0 {
                return None;
            }
            self.turns.insert(0, turn);
        }
        self.in_order().then_some(format).flatten()
    }

    /// Tell whether an optional system turn comes first, then user and assistant by turns, and the assistant last.
    fn in_order(&self) -> bool {
        let system = self.turns.first().is_some_and(|turn| turn.role == Role::System);
        let turns = &self.turns[usize::from(system)..];
        !turns.is_empty()
            && turns.len().is_multiple_of(2)
            && turns.chunks_exact(2).all(|pair| (pair[0].role, pair[1].role) == (Role::User, Role::Assistant))
    }

    fn add(&mut self, role: Role, text: Span) {
        self.turns.push(Turn { role, parts: self.parts.len()..self.parts.len() + 1 });
        self.parts.push(Part::Text(text));
    }

    fn message(&mut self, cursor: &mut Cursor) -> Option<()> {
        let start = self.parts.len();
        let (mut role, mut content) = (None, false);
        cursor.object(|cursor, key| {
            match key {
                b"role" if role.is_none() => role = Some(chat_role(cursor.word()?)?),
                b"content" if !content => {
                    content = true;
                    if cursor.peek() == Some(b'[') {
                        cursor.list(|cursor| self.chat_part(cursor))?;
                    } else {
                        let text = cursor.string(&mut self.made)?;
                        self.parts.push(Part::Text(text));
                    }
                }
                _ => return None,
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

    fn chat_part(&mut self, cursor: &mut Cursor) -> Option<()> {
        let (mut kind, mut text, mut image) = (None, None, None);
        cursor.object(|cursor, key| {
            match key {
                b"type" if kind.is_none() => kind = Some(cursor.word()?),
                b"text" if text.is_none() => text = Some(cursor.string(&mut self.made)?),
                b"image_url" if image.is_none() => image = Some(self.image_url(cursor)?),
                _ => return None,
            }
            Some(())
        })?;
        self.parts.push(match (kind?, text, image) {
            (b"text", Some(text), None) => Part::Text(text),
            (b"image_url", None, Some(address)) => Part::Image(address),
            _ => return None,
        });
        Some(())
    }

    fn image_url(&mut self, cursor: &mut Cursor) -> Option<Span> {
        let (mut url, mut detail) = (None, false);
        cursor.object(|cursor, key| {
            match key {
                b"url" if url.is_none() => url = Some(cursor.string(&mut self.made)?),
                b"detail" if !detail => {
                    detail = true;
                    self.detailed = true;
                    if cursor.peek() == Some(b'n') {
                        cursor.name(b"null")?;
                    } else if !matches!(cursor.word()?, b"low" | b"high" | b"auto") {
                        return None;
                    }
                }
                _ => return None,
            }
            Some(())
        })?;
        url
    }

    /// Read a turn of GenerateContent; that of the system may have any role.
    fn content(&mut self, cursor: &mut Cursor, system: bool) -> Option<()> {
        let start = self.parts.len();
        let (mut role, mut parts) = (None, false);
        cursor.object(|cursor, key| {
            match key {
                b"role" if role.is_none() => {
                    let word = cursor.word()?;
                    role = Some(if system { Role::System } else { content_role(word)? });
                }
                b"parts" if !parts => {
                    parts = true;
                    cursor.list(|cursor| self.content_part(cursor))?;
                }
                _ => return None,
            }
            Some(())
        })?;
        self.finish(if system { Role::System } else { role? }, start)
    }

    fn content_part(&mut self, cursor: &mut Cursor) -> Option<()> {
        let mut found = None;
        cursor.object(|cursor, key| {
            if found.is_some() {
                return None; // one of them in each part
            }
            found = Some(match key {
                b"text" => Part::Text(cursor.string(&mut self.made)?),
                b"file_data" | b"fileData" => Part::Image(self.file(cursor, false)?),
                b"inline_data" | b"inlineData" => Part::Image(self.file(cursor, true)?),
                _ => return None,
            });
            Some(())
        })?;
        self.parts.push(found?);
        Some(())
    }

    /// Return the address of an image; one that is in the line is given the address that a chat would give it.
    fn file(&mut self, cursor: &mut Cursor, inline: bool) -> Option<Span> {
        let (mut declared, mut content) = (None, None);
        cursor.object(|cursor, key| {
            match key {
                b"mime_type" | b"mimeType" if declared.is_none() => declared = Some(cursor.word()?),
                b"file_uri" | b"fileUri" if content.is_none() && !inline => {
                    content = Some(cursor.string(&mut self.made)?);
                }
                b"data" if content.is_none() && inline => content = Some(cursor.string(&mut self.made)?),
                _ => return None,
            }
            Some(())
        })?;
        let (declared, content) = (declared?, content?);
        if !inline {
            return matches!(declared, b"image/jpeg" | b"image/png" | b"image/webp").then_some(content);
        }
        let start = self.made.len();
        for piece in [b"data:", declared, b";base64,"] {
            self.made.extend_from_slice(piece);
        }
        if content.made {
            self.made.extend_from_within(content.start..content.end);
        } else {
            self.made.extend_from_slice(&cursor.line[content.start..content.end]);
        }
        let ascii = content.ascii && declared.is_ascii();
        Some(Span { start, end: self.made.len(), made: true, ascii, quotes: content.quotes })
    }
}

fn chat_role(role: &[u8]) -> Option<Role> {
    match role {
        b"system" => Some(Role::System),
        b"user" => Some(Role::User),
        b"assistant" => Some(Role::Assistant),
        _ => None,
    }
}

fn content_role(role: &[u8]) -> Option<Role> {
    match role {
        b"user" => Some(Role::User),
        b"model" | b"assistant" => Some(Role::Assistant),
        _ => None,
    }
}
