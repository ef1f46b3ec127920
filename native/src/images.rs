//! What an image is, by its bytes. Says yes only to what needs no remark; anything else is looked at elsewhere.

use memchr::memchr;

/// Tell whether bytes are a whole image of that type with no more than so many pixels, no animation, no trailing bytes,
/// and EXIF data that neither turn it nor say where it was taken.
pub fn sound(data: &[u8], mime_type: &str, max_pixels: u64) -> bool {
    let size = match mime_type {
        "image/png" => png(data),
        "image/jpeg" => jpeg(data),
        "image/webp" => webp(data),
        _ => None,
    };
    size.is_some_and(|(width, height)| (1..=max_pixels).contains(&(u64::from(width) * u64::from(height))))
}

fn big16(data: &[u8], at: usize) -> Option<u32> {
    Some(u16::from_be_bytes(*data.get(at..)?.first_chunk()?).into())
}

fn big32(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*data.get(at..)?.first_chunk()?))
}

fn little32(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*data.get(at..)?.first_chunk()?))
}

fn png(data: &[u8]) -> Option<(u32, u32)> {
    if !data.starts_with(b"\x89PNG\r\n\x1a\n") || data.len() < 33 || &data[12..16] != b"IHDR" {
        return None;
    }
    let mut at = 8;
    let mut pixels = false;
    loop {
        let end = at + 12 + big32(data, at)? as usize;
        let (kind, chunk) = (data.get(at + 4..at + 8)?, data.get(at + 4..end - 4)?);
        if crc32fast::hash(chunk) != big32(data, end - 4)? {
            return None;
        }
        match kind {
            b"IDAT" => pixels = true,
            b"acTL" => return None,
            b"eXIf" if exif_matters(&chunk[4..]) => return None,
            b"IEND" => return (pixels && end == data.len()).then_some((big32(data, 16)?, big32(data, 20)?)),
            _ => {}
        }
        at = end;
    }
}

fn jpeg(data: &[u8]) -> Option<(u32, u32)> {
    if !data.starts_with(b"\xff\xd8") {
        return None;
    }
    let (mut at, mut size, mut scans) = (2, (0, 0), 0);
    loop {
        let marker = *data.get(at + 1)?;
        if data[at] != 0xFF {
            return None;
        }
        match marker {
            0xFF => {
                at += 1;
                continue;
            }
            0xD9 => return (scans > 0 && at + 2 == data.len()).then_some(size),
            0xC4 | 0xDA..=0xDD | 0xFE | 0xE0..0xF0 => {}
            _ if scans > 0 => return None,
            _ => {}
        }
        let length = big16(data, at + 2)? as usize;
        let end = at + 2 + length;
        let segment = data.get(at + 4..end)?;
        match marker {
            0xC4 | 0xC8 | 0xCC => {}
            0xC0..0xD0 if length >= 8 => size = (big16(data, at + 7)?, big16(data, at + 5)?),
            0xE1 if segment.starts_with(b"Exif\0\0") && exif_matters(&segment[6..]) => return None,
            _ => {}
        }
        at = end;
        if marker == 0xDA {
            scans += 1;
            at = scan_end(data, end)?;
            if at == end {
                return None;
            }
        }
    }
}

/// Return where the marker behind a scan stands: in a scan every 0xFF is stuffed, or of a restart.
fn scan_end(data: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr(0xFF, data.get(at..)?)?;
        match data.get(at + 1)? {
            0x00 | 0xD0..=0xD7 => at += 2,
            0xFF => at += 1,
            _ => return Some(at),
        }
    }
}

fn webp(data: &[u8]) -> Option<(u32, u32)> {
    if !data.starts_with(b"RIFF") || data.get(8..12)? != b"WEBP" || data.len() < 30 {
        return None;
    }
    let size = little32(data, 4)? as usize + 8;
    if data.len() != size + (size & 1) {
        return None;
    }
    let found = match &data[12..16] {
        b"VP8X" => ((little32(data, 24)? & 0xFF_FFFF) + 1, (little32(data, 26)? >> 8) + 1),
        b"VP8L" if data[20] == 0x2F => {
            let bits = little32(data, 21)?;
            ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        }
        b"VP8 " if data[23..26] == *b"\x9d\x01\x2a" => {
            let bits = little32(data, 26)?;
            (bits & 0x3FFF, bits >> 16 & 0x3FFF)
        }
        _ => return None,
    };
    let (mut at, mut pixels) = (12, false);
    while at + 8 <= size {
        let kind = data.get(at..at + 4)?;
        let end = at + 8 + little32(data, at + 4)? as usize;
        if end > size {
            return None;
        }
        match kind {
            b"VP8 " | b"VP8L" => pixels = true,
            b"ANMF" | b"ANIM" | b"EXIF" => return None,
            _ => {}
        }
        at = end + (end & 1);
    }
    pixels.then_some(found)
}

/// Tell whether an EXIF block says where a photo was taken, or that its pixels lie turned.
fn exif_matters(block: &[u8]) -> bool {
    let little = match block.first_chunk::<4>() {
        Some(b"II*\0") => true,
        Some(b"MM\0*") => false,
        _ => return false,
    };
    let number16 = |at: usize| -> Option<u16> {
        let bytes = *block.get(at..)?.first_chunk()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let Some(bytes) = block.get(4..).and_then(|rest| rest.first_chunk()) else { return false };
    let offset = if little { u32::from_le_bytes(*bytes) } else { u32::from_be_bytes(*bytes) } as usize;
    let Some(count) = number16(offset) else { return false };
    (0..usize::from(count)).map(|index| offset + 2 + 12 * index).any(|entry| match number16(entry) {
        Some(0x8825) => true,
        Some(0x0112) => number16(entry + 8).is_none_or(|turned| (2..=8).contains(&turned)),
        _ => false,
    })
}
