//! The rules as data: those of `runner/datasets/rules/formats.py` and `texts.py`, made ready for reading.

use std::collections::{HashMap, HashSet};

use pyo3::FromPyObject;
use regex_automata::{Anchored, Input, meta};

use crate::texts::{Controls, Marks, pattern};

/// The tables of Python's modules by their names there.
#[derive(FromPyObject)]
#[pyo3(from_item_all, rename_all = "SCREAMING_SNAKE_CASE")]
pub struct Table {
    pair: KeysTable,
    chat: KeysTable,
    contents: KeysTable,
    chat_turn: KeysTable,
    chat_text: KeysTable,
    chat_image: KeysTable,
    image_url: KeysTable,
    contents_turn: KeysTable,
    instruction: KeysTable,
    file_data: KeysTable,
    inline_data: KeysTable,
    parts: HashMap<String, KeysTable>,
    part_spellings: HashMap<String, String>,
    /// Format to name and meaning of each role.
    roles: HashMap<String, HashMap<String, String>>,
    first: String,
    repeated: Vec<String>,
    details: Vec<String>,
    mime_types: Vec<String>,
    placeholders: HashSet<String>,
    object_address: String,
    max_pixels: u64,
    many_images: usize,
    controls: Vec<[u32; 2]>,
    special_tokens: Vec<String>,
    patterns: Vec<PatternTable>,
}

#[derive(FromPyObject)]
struct KeysTable {
    required: Vec<String>,
    optional: Vec<String>,
    spellings: HashMap<String, String>,
}

#[derive(FromPyObject)]
pub struct PatternTable {
    pub pattern: String,
    /// Strings of which each match holds one, with how far behind its start.
    pub anchors: HashMap<String, usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Format {
    PromptCompletion,
    Chat,
    GenerateContent,
}

impl Format {
    pub const ALL: [Format; 3] = [Format::PromptCompletion, Format::Chat, Format::GenerateContent];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.name() == name)
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
#[repr(u8)]
pub enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Role::System, Role::User, Role::Assistant].into_iter().find(|role| role.name() == name)
    }
}

/// A key as it is spelled; both spellings of a key have its bit.
pub struct Key {
    spelled: Vec<u8>,
    pub name: String,
    pub bit: u64,
}

/// The keys of one kind of object.
#[derive(Default)]
pub struct Keys {
    keys: Vec<Key>,
    pub required: u64,
}

impl Keys {
    fn new<'a>(
        names: impl Iterator<Item = &'a String>,
        spellings: &'a HashMap<String, String>,
        bits: &mut Bits,
    ) -> Keys {
        let mut keys = Vec::new();
        for name in names {
            let others = spellings.iter().filter(|(_, meant)| *meant == name).map(|(other, _)| other);
            for spelled in std::iter::once(name).chain(others) {
                keys.push(Key { spelled: spelled.clone().into_bytes(), name: name.clone(), bit: bits.of(name) });
            }
        }
        Keys { keys, required: 0 }
    }

    #[inline]
    pub fn get(&self, spelled: &[u8]) -> Option<&Key> {
        self.keys.iter().find(|key| key.spelled == spelled)
    }
}

/// Gives each name a bit of its own.
#[derive(Default)]
struct Bits(Vec<String>);

impl Bits {
    fn of(&mut self, name: &str) -> u64 {
        let place = self.0.iter().position(|known| known == name).unwrap_or_else(|| {
            self.0.push(name.to_owned());
            self.0.len() - 1
        });
        1_u64.checked_shl(place as u32).unwrap_or(0)
    }
}

/// What the lines are held to.
pub struct Rules {
    /// Whether the base model takes images.
    pub images: bool,
    pub many_images: usize,
    pub max_pixels: u64,
    pub placeholders: Vec<Vec<u8>>,
    pub controls: Controls,
    pub marks: Marks,
    pub details: Vec<Vec<u8>>,
    pub mime_types: Vec<String>,
    pub first: Role,
    pub repeated: Vec<Role>,
    roles: [Vec<(Vec<u8>, Role)>; 3],
    /// Keys of whole lines, in the order of `Format`.
    pub lines: [Keys; 3],
    pub chat_turn: Keys,
    pub chat_text: Keys,
    pub chat_image: Keys,
    /// What `type` says in parts of a chat.
    pub chat_kinds: [Vec<u8>; 2],
    pub image_url: Keys,
    pub contents_turn: Keys,
    pub instruction: Keys,
    /// A part of GenerateContent has exactly one of these.
    pub part_kinds: Keys,
    pub file_data: Keys,
    pub inline_data: Keys,
    /// The address of a Cloud Storage object.
    object: meta::Regex,
}

impl Rules {
    /// Return what a table says, or what it lacks.
    pub fn new(table: Table, images: bool) -> Result<Self, String> {
        let mut bits = Bits::default();
        let mut keys = |found: &KeysTable| {
            let mut keys = Keys::new(found.required.iter().chain(&found.optional), &found.spellings, &mut bits);
            keys.required = found.required.iter().map(|name| bits.of(name)).fold(0, |all, bit| all | bit);
            keys
        };
        let lines = [keys(&table.pair), keys(&table.chat), keys(&table.contents)];
        let (chat_turn, chat_text, chat_image) =
            (keys(&table.chat_turn), keys(&table.chat_text), keys(&table.chat_image));
        let (image_url, contents_turn, instruction) =
            (keys(&table.image_url), keys(&table.contents_turn), keys(&table.instruction));
        let (file_data, inline_data) = (keys(&table.file_data), keys(&table.inline_data));
        let part_kinds = Keys::new(table.parts.keys(), &table.part_spellings, &mut bits);
        if bits.0.len() > 64 {
            return Err("too many keys".into());
        }
        // The type of a part is the name of the key that holds it.
        let chat_kinds = [&table.chat_text, &table.chat_image].map(|kind| {
            let names = kind.required.iter();
            names.filter(|name| *name != "type").cloned().map(String::into_bytes).next().unwrap_or_default()
        });
        let role = |name: &String| Role::named(name).ok_or(format!("no role {name}"));
        let mut roles = [const { Vec::new() }; 3];
        for form in Format::ALL {
            for (name, meaning) in table.roles.get(form.name()).ok_or(format!("no roles of {}", form.name()))? {
                roles[form as usize].push((name.clone().into_bytes(), role(meaning)?));
            }
        }
        Ok(Rules {
            images,
            many_images: table.many_images,
            max_pixels: table.max_pixels,
            placeholders: table.placeholders.into_iter().map(String::into_bytes).collect(),
            controls: Controls::new(&table.controls).ok_or("the controls are of too many kinds")?,
            marks: Marks::new(&table.special_tokens, &table.patterns)
                .ok_or("the tokens and patterns make no search")?,
            details: table.details.into_iter().map(String::into_bytes).collect(),
            mime_types: table.mime_types,
            first: role(&table.first)?,
            repeated: table.repeated.iter().map(role).collect::<Result<_, _>>()?,
            roles,
            lines,
            chat_turn,
            chat_text,
            chat_image,
            chat_kinds,
            image_url,
            contents_turn,
            instruction,
            part_kinds,
            file_data,
            inline_data,
            object: pattern(&table.object_address).ok_or("the address of an object is no pattern")?,
        })
    }

    pub fn role(&self, format: Format, name: &[u8]) -> Option<Role> {
        self.roles[format as usize].iter().find(|(known, _)| known == name).map(|(_, role)| *role)
    }

    /// Tell whether an address is certainly that of a Cloud Storage object. The bytes of a name count, not its characters.
    pub fn is_object(&self, address: &[u8]) -> bool {
        let found = self.object.find(Input::new(address).anchored(Anchored::Yes));
        found.is_some_and(|found| found.end() == address.len())
    }
}
