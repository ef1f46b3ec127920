//! The rules as data: those of `runner/datasets/rules/formats.py` and `texts.py`, made ready for reading.

use std::collections::HashMap;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use regex_automata::{Anchored, Input, meta};

use crate::texts::{Controls, Marks, pattern};

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
}

impl FromPyObject<'_, '_> for Role {
    type Error = PyErr;

    fn extract(name: Borrowed<PyAny>) -> PyResult<Self> {
        let name: &str = &name.extract::<String>()?;
        let found = [Role::System, Role::User, Role::Assistant].into_iter().find(|role| role.name() == name);
        found.ok_or_else(|| PyValueError::new_err(format!("no role {name}")))
    }
}

/// A key as it is spelled; both spellings of a key have its bit.
pub struct Key {
    spelled: Vec<u8>,
    pub name: String,
    pub bit: u64,
}

/// The keys of one kind of object.
pub struct Keys {
    keys: Vec<Key>,
    pub required: u64,
}

#[derive(FromPyObject)]
struct KeysTable {
    required: Vec<String>,
    optional: Vec<String>,
    spellings: HashMap<String, String>,
}

impl FromPyObject<'_, '_> for Keys {
    type Error = PyErr;

    fn extract(table: Borrowed<PyAny>) -> PyResult<Self> {
        let table: KeysTable = table.extract()?;
        let mut keys = Vec::new();
        for (place, name) in table.required.iter().chain(&table.optional).enumerate() {
            let others = table.spellings.iter().filter(|(_, meant)| *meant == name).map(|(other, _)| other);
            for spelled in std::iter::once(name).chain(others) {
                keys.push(Key { spelled: spelled.clone().into_bytes(), name: name.clone(), bit: 1 << place });
            }
        }
        Ok(Keys { keys, required: (1 << table.required.len()) - 1 })
    }
}

impl Keys {
    #[inline]
    pub fn get(&self, spelled: &[u8]) -> Option<&Key> {
        self.keys.iter().find(|key| key.spelled == spelled)
    }

    /// Return what `type` says in a part of a chat: the name of the key that holds it.
    pub fn kind(&self) -> Option<&[u8]> {
        self.keys.iter().map(|key| key.name.as_bytes()).find(|name| *name != b"type")
    }
}

/// What the lines are held to.
pub struct Rules {
    /// Whether the base model takes images.
    pub images: bool,
    pub many_images: usize,
    pub max_pixels: u64,
    pub placeholders: Vec<String>,
    pub controls: Controls,
    pub marks: Marks,
    pub details: Vec<String>,
    pub mime_types: Vec<String>,
    pub first: Role,
    pub repeated: Vec<Role>,
    roles: [Vec<(String, Role)>; 3],
    /// Keys of whole lines, in the order of `Format`.
    pub lines: [Keys; 3],
    pub chat_turn: Keys,
    /// Keys of the parts of a chat: texts, images.
    pub chat_parts: [Keys; 2],
    pub image_url: Keys,
    pub contents_turn: Keys,
    pub instruction: Keys,
    /// A part of GenerateContent has exactly one of these keys: spelling and name.
    part_kinds: Vec<(String, String)>,
    pub file_data: Keys,
    pub inline_data: Keys,
    /// The address of a Cloud Storage object.
    object: meta::Regex,
}

impl Rules {
    /// Return what the tables of Python's modules say, by their names there.
    pub fn new(tables: &Bound<PyDict>, images: bool) -> PyResult<Self> {
        let wrong = PyValueError::new_err::<&'static str>;
        let all = |name| -> PyResult<Vec<String>> {
            tables.as_any().get_item(name)?.try_iter()?.map(|item| item?.extract()).collect()
        };
        let roles =
            |form: Format| PyResult::Ok(of::<HashMap<_, _>>(&of(tables, "ROLES")?, form.name())?.into_iter().collect());
        let kinds = all("PARTS")?.into_iter().map(|kind| (kind.clone(), kind));
        Ok(Rules {
            images,
            many_images: of(tables, "MANY_IMAGES")?,
            max_pixels: of(tables, "MAX_PIXELS")?,
            placeholders: all("PLACEHOLDERS")?,
            controls: Controls::new(&of::<Vec<_>>(tables, "CONTROLS")?)
                .ok_or_else(|| wrong("the controls are of too many kinds"))?,
            marks: Marks::new(&of::<Vec<_>>(tables, "SPECIAL_TOKENS")?, &of::<Vec<_>>(tables, "PATTERNS")?)
                .ok_or_else(|| wrong("the tokens and patterns make no search"))?,
            details: all("DETAILS")?,
            mime_types: all("MIME_TYPES")?,
            first: of(tables, "FIRST")?,
            repeated: of(tables, "REPEATED")?,
            roles: [roles(Format::ALL[0])?, roles(Format::ALL[1])?, roles(Format::ALL[2])?],
            lines: [of(tables, "PAIR")?, of(tables, "CHAT")?, of(tables, "CONTENTS")?],
            chat_turn: of(tables, "CHAT_TURN")?,
            chat_parts: [of(tables, "CHAT_TEXT")?, of(tables, "CHAT_IMAGE")?],
            image_url: of(tables, "IMAGE_URL")?,
            contents_turn: of(tables, "CONTENTS_TURN")?,
            instruction: of(tables, "INSTRUCTION")?,
            part_kinds: kinds.chain(of::<HashMap<_, _>>(tables, "PART_SPELLINGS")?).collect(),
            file_data: of(tables, "FILE_DATA")?,
            inline_data: of(tables, "INLINE_DATA")?,
            object: pattern(&of::<String>(tables, "OBJECT_ADDRESS")?)
                .ok_or_else(|| wrong("the address of an object is no pattern"))?,
        })
    }

    pub fn role(&self, format: Format, name: &[u8]) -> Option<Role> {
        self.roles[format as usize].iter().find(|(known, _)| known.as_bytes() == name).map(|(_, role)| *role)
    }

    /// Return the kind of a part of GenerateContent by its key.
    pub fn part_kind(&self, key: &[u8]) -> Option<&str> {
        self.part_kinds.iter().find(|(spelled, _)| spelled.as_bytes() == key).map(|(_, kind)| kind.as_str())
    }

    /// Tell whether an address is certainly that of a Cloud Storage object. The bytes of a name count, not its characters.
    pub fn is_object(&self, address: &[u8]) -> bool {
        let found = self.object.find(Input::new(address).anchored(Anchored::Yes));
        found.is_some_and(|found| found.end() == address.len())
    }
}

/// Return what stands under a name in a table.
fn of<'py, T: FromPyObjectOwned<'py>>(table: &Bound<'py, PyDict>, name: &str) -> PyResult<T> {
    table.as_any().get_item(name)?.extract().map_err(Into::into)
}
