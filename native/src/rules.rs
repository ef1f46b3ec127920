//! The rules as data: `scanner_rules` of `runner/datasets/rules/formats.py`, made ready for reading.

use std::collections::HashMap;

use pyo3::FromPyObject;

use crate::texts::{Controls, Marks};

/// The table as Python hands it over.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Table {
    /// Format to its `roles`: name to meaning.
    formats: HashMap<String, HashMap<String, HashMap<String, String>>>,
    objects: HashMap<String, KeysTable>,
    part_kinds: Vec<String>,
    part_spellings: HashMap<String, String>,
    order: OrderTable,
    details: Vec<String>,
    mime_types: Vec<String>,
    placeholders: Vec<String>,
    bucket: BucketTable,
    object: ObjectTable,
    limits: LimitsTable,
    controls: Vec<[u32; 2]>,
    tokens: Vec<String>,
    patterns: Vec<PatternTable>,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct KeysTable {
    required: Vec<String>,
    optional: Vec<String>,
    spellings: HashMap<String, String>,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct OrderTable {
    first: String,
    repeated: Vec<String>,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct BucketTable {
    ends: String,
    inner: String,
    length: [usize; 2],
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct ObjectTable {
    excluded: String,
    length: [usize; 2],
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct LimitsTable {
    pixels: u64,
    images: usize,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
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

/// What a key means; whatever else a format allows is passed over if it is a string.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Prompt,
    Completion,
    Messages,
    Role,
    Content,
    Type,
    Text,
    ImageUrl,
    Url,
    Detail,
    Contents,
    SystemInstruction,
    Parts,
    FileData,
    InlineData,
    MimeType,
    FileUri,
    Data,
    Other,
}

impl Field {
    fn named(name: &str) -> Self {
        match name {
            "prompt" => Field::Prompt,
            "completion" => Field::Completion,
            "messages" => Field::Messages,
            "role" => Field::Role,
            "content" => Field::Content,
            "type" => Field::Type,
            "text" => Field::Text,
            "image_url" => Field::ImageUrl,
            "url" => Field::Url,
            "detail" => Field::Detail,
            "contents" => Field::Contents,
            "systemInstruction" => Field::SystemInstruction,
            "parts" => Field::Parts,
            "file_data" => Field::FileData,
            "inline_data" => Field::InlineData,
            "mime_type" => Field::MimeType,
            "file_uri" => Field::FileUri,
            "data" => Field::Data,
            _ => Field::Other,
        }
    }
}

/// A key as it is spelled; both spellings of a key have its bit.
pub struct Key {
    spelled: Vec<u8>,
    pub field: Field,
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
                keys.push(Key { spelled: spelled.clone().into_bytes(), field: Field::named(name), bit: bits.of(name) });
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
    bucket_ends: [bool; 256],
    bucket_inner: [bool; 256],
    bucket_length: [usize; 2],
    object_excluded: Vec<u8>,
    object_length: [usize; 2],
}

impl Rules {
    /// Return what a table says, or what it lacks.
    pub fn new(table: Table, images: bool) -> Result<Self, String> {
        let mut bits = Bits::default();
        let mut keys = |kind: &str| {
            let found = table.objects.get(kind).ok_or(format!("no keys of {kind}"))?;
            let mut keys = Keys::new(found.required.iter().chain(&found.optional), &found.spellings, &mut bits);
            keys.required = found.required.iter().map(|name| bits.of(name)).fold(0, |all, bit| all | bit);
            Ok::<_, String>(keys)
        };
        let lines = [keys("pair")?, keys("chat")?, keys("contents")?];
        let (chat_turn, chat_text, chat_image) = (keys("chat_turn")?, keys("chat_text")?, keys("chat_image")?);
        let (image_url, contents_turn, instruction) =
            (keys("image_url")?, keys("contents_turn")?, keys("instruction")?);
        let (file_data, inline_data) = (keys("file_data")?, keys("inline_data")?);
        let part_kinds = Keys::new(table.part_kinds.iter(), &table.part_spellings, &mut bits);
        if bits.0.len() > 64 {
            return Err("too many keys".into());
        }
        // The type of a part is the name of the key that holds it.
        let chat_kinds = ["chat_text", "chat_image"].map(|kind| {
            let names = table.objects[kind].required.iter();
            names.filter(|name| *name != "type").cloned().map(String::into_bytes).next().unwrap_or_default()
        });
        let role = |name: &String| Role::named(name).ok_or(format!("no role {name}"));
        let mut roles = [const { Vec::new() }; 3];
        for form in Format::ALL {
            let found = table.formats.get(form.name()).and_then(|form| form.get("roles"));
            for (name, meaning) in found.ok_or(format!("no roles of {}", form.name()))? {
                roles[form as usize].push((name.clone().into_bytes(), role(meaning)?));
            }
        }
        let bytes = |words: Vec<String>| words.into_iter().map(String::into_bytes).collect::<Vec<_>>();
        Ok(Rules {
            images,
            many_images: table.limits.images,
            max_pixels: table.limits.pixels,
            placeholders: bytes(table.placeholders),
            controls: Controls::new(&table.controls).ok_or("the controls are of too many kinds")?,
            marks: Marks::new(&table.tokens, &table.patterns).ok_or("the tokens and patterns make no search")?,
            details: bytes(table.details),
            mime_types: table.mime_types,
            first: role(&table.order.first)?,
            repeated: table.order.repeated.iter().map(role).collect::<Result<_, _>>()?,
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
            bucket_ends: class(&table.bucket.ends),
            bucket_inner: class(&table.bucket.inner),
            bucket_length: table.bucket.length,
            object_excluded: table.object.excluded.into_bytes(),
            object_length: table.object.length,
        })
    }

    pub fn role(&self, format: Format, name: &[u8]) -> Option<Role> {
        self.roles[format as usize].iter().find(|(known, _)| known == name).map(|(_, role)| *role)
    }

    /// Tell whether `bucket/object` has the form of a Cloud Storage object.
    pub fn is_object(&self, name: &[u8]) -> bool {
        let Some(slash) = memchr::memchr(b'/', name) else { return false };
        let (bucket, object) = (&name[..slash], &name[slash + 1..]);
        let within = |length: [usize; 2], count: usize| (length[0]..=length[1]).contains(&count);
        let [first, .., last] = bucket else { return false };
        within(self.bucket_length, bucket.len())
            && self.bucket_ends[usize::from(*first)]
            && self.bucket_ends[usize::from(*last)]
            && bucket.iter().all(|byte| self.bucket_inner[usize::from(*byte)])
            && within(self.object_length, crate::texts::characters(object, false))
            && !object.iter().any(|byte| self.object_excluded.contains(byte))
    }
}

/// Return which bytes are of a character class of a regular expression, as `a-z0-9._-`.
fn class(text: &str) -> [bool; 256] {
    let mut members = [false; 256];
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let last = if let [b'-', last, ..] = tail { *last } else { *first };
        rest = if let [b'-', _, after @ ..] = tail { after } else { tail };
        members[usize::from(*first)..=usize::from(last)].fill(true);
    }
    members
}
