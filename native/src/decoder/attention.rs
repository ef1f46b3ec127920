//! Attention of a few tokens of one row, for the heads that share keys.

use std::arch::x86_64::*;

use super::elements::{narrowed, soften};
use super::products::{Line, Rows, WIDTH, multiply};

/// Where the keys and values of a sequence lie, in bfloat16; a step from one to the next of each kind is in values.
#[derive(Clone, Copy)]
pub struct Row {
    pub address: usize,
    pub layer: usize,
    pub kind: usize,
    pub head: usize,
}

impl Row {
    /// Return where the keys (kind 0) or values (kind 1) of a head begin; those of a position follow one another.
    fn start(&self, layer: usize, kind: usize, head: usize) -> *mut u16 {
        (self.address as *mut u16).wrapping_add(layer * self.layer + kind * self.kind + head * self.head)
    }

    /// Store keys or values.
    ///
    /// # Safety
    /// The row has room for the position, and no other thread reads or writes it.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn store(&self, layer: usize, kind: usize, head: usize, position: usize, values: &[f32]) {
        let start = self.start(layer, kind, head).wrapping_add(position * values.len());
        for (place, value) in values.iter().enumerate() {
            // SAFETY: as promised.
            unsafe { start.add(place).write(narrowed(*value)) };
        }
    }
}

/// Memory that a thread uses again and again.
#[derive(Default)]
pub struct Scratch {
    queries: Vec<f32>,
    scores: Vec<f32>,
    lines: Vec<Line>,
}

/// Tokens of one row that attend at once.
pub struct Asking<'positions> {
    pub row: Row,
    pub layer: usize,
    /// Number of the keys' head, and how many heads of queries share it.
    pub head: usize,
    pub sharing: usize,
    pub size: usize,
    /// Of the tokens, ascending.
    pub positions: &'positions [usize],
}

impl Asking<'_> {
    /// Attend: a row of queries begins with those of the first of the sharing heads, for which values are written from
    /// `start` on.
    ///
    /// # Safety
    /// Keys and values of all positions are stored; the rows are there, and no other thread writes in these places. The
    /// processor has AVX-512, and what `narrow` asks for.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn attend(&self, queries: Rows, into: Rows, start: usize, scratch: &mut Scratch) {
        let (size, count) = (self.size, self.positions.len() * self.sharing);
        let scale = (size as f32).sqrt().recip();
        let known = self.positions.last().map_or(0, |last| last + 1);
        let padded = known.next_multiple_of(WIDTH);
        scratch.queries.clear();
        for token in 0..self.positions.len() {
            // SAFETY: the queries of a token's sharing heads lie behind one another.
            let heads = unsafe { std::slice::from_raw_parts(queries.from(token).start, self.sharing * size) };
            scratch.queries.extend(heads.iter().map(|value| value * scale));
        }
        scratch.scores.resize((count * padded).max(scratch.scores.len()), 0.0);
        let scores = &mut scratch.scores[..count * padded];
        let asked = Rows { start: scratch.queries.as_mut_ptr(), width: size, narrow: false };
        let keys = self.row.start(self.layer, 0, self.head);
        for first in (0..known).step_by(WIDTH) {
            // SAFETY: keys of `known` positions are there.
            unsafe { pack_keys(keys.add(first * size), (known - first).min(WIDTH), size, &mut scratch.lines) };
            // SAFETY: a line for each value of a query.
            unsafe {
                multiply(asked, count, (&scratch.lines, &[]), |query, sums| {
                    scores[query * padded + first..][..WIDTH].copy_from_slice(sums);
                });
            }
        }
        for (query, scores) in scores.chunks_exact_mut(padded).enumerate() {
            soften(scores, self.positions[query / self.sharing] + 1);
        }
        let weights = Rows { start: scores.as_mut_ptr(), width: padded, narrow: false };
        let values = self.row.start(self.layer, 1, self.head);
        for first in (0..size).step_by(WIDTH) {
            let wide = (size - first).min(WIDTH);
            // SAFETY: values of `known` positions are there.
            unsafe { pack_values(values.add(first), known, size, wide, &mut scratch.lines) };
            // SAFETY: lines for `known` positions, made even; the scores behind are 0.
            unsafe {
                multiply(weights, count, (&scratch.lines, &[]), |query, sums| {
                    let (token, head) = (query / self.sharing, query % self.sharing);
                    into.put(token, start + head * size + first, &sums[..wide]);
                });
            }
        }
    }
}

/// Make a panel whose outputs are positions.
#[target_feature(enable = "avx512f")]
unsafe fn pack_keys(keys: *const u16, positions: usize, size: usize, lines: &mut Vec<Line>) {
    lines.resize(size, Line::ZERO);
    for (half, first) in (0..WIDTH).step_by(16).enumerate() {
        for pair in (0..size / 2).step_by(16) {
            let wide = (size / 2 - pair).min(16);
            let mask = ((1_u32 << wide) - 1) as u16;
            let mut words = [_mm512_setzero_si512(); 16];
            for (place, words) in words.iter_mut().enumerate() {
                if first + place < positions {
                    let from = keys.wrapping_add((first + place) * size + 2 * pair);
                    // SAFETY: within the keys of the position.
                    *words = unsafe { _mm512_maskz_loadu_epi32(mask, from.cast()) };
                }
            }
            let words = transposed(words);
            for (place, words) in words.iter().enumerate().take(wide) {
                // SAFETY: a line has 16 words.
                unsafe { _mm512_store_si512((&raw mut lines[2 * (pair + place) + half]).cast(), *words) };
            }
        }
    }
}

/// Exchange rows and columns.
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512i; 16]) -> [__m512i; 16] {
    let (mut one, mut other) = (rows, rows);
    for four in (0..16).step_by(4) {
        for two in [four, four + 2] {
            one[two] = _mm512_unpacklo_epi32(rows[two], rows[two + 1]);
            one[two + 1] = _mm512_unpackhi_epi32(rows[two], rows[two + 1]);
        }
        other[four] = _mm512_unpacklo_epi64(one[four], one[four + 2]);
        other[four + 1] = _mm512_unpackhi_epi64(one[four], one[four + 2]);
        other[four + 2] = _mm512_unpacklo_epi64(one[four + 1], one[four + 3]);
        other[four + 3] = _mm512_unpackhi_epi64(one[four + 1], one[four + 3]);
    }
    // Now row 4a + b has, in its lane c, column 4c + b of the rows 4a to 4a + 3.
    for column in 0..4 {
        let [a, b, c, d] = [other[column], other[column + 4], other[column + 8], other[column + 12]];
        let low = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b);
        let high = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b);
        let low_more = _mm512_shuffle_i32x4::<0b10_00_10_00>(c, d);
        let high_more = _mm512_shuffle_i32x4::<0b11_01_11_01>(c, d);
        one[column] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low, low_more);
        one[column + 4] = _mm512_shuffle_i32x4::<0b10_00_10_00>(high, high_more);
        one[column + 8] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low, low_more);
        one[column + 12] = _mm512_shuffle_i32x4::<0b11_01_11_01>(high, high_more);
    }
    one
}

/// Make a panel whose inputs are positions.
#[target_feature(enable = "avx512f")]
unsafe fn pack_values(values: *const u16, positions: usize, size: usize, wide: usize, lines: &mut Vec<Line>) {
    lines.resize(positions.next_multiple_of(2), Line::ZERO);
    for (pair, lines) in lines.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let from = values.wrapping_add(2 * pair * size);
        for (half, line) in lines.iter_mut().enumerate().take(wide / 16) {
            // SAFETY: within the values of the positions; a line has 16 words.
            unsafe {
                let from = from.wrapping_add(16 * half);
                let mut words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                if 2 * pair + 1 < positions {
                    let next = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.wrapping_add(size).cast()));
                    words = _mm512_or_si512(words, _mm512_slli_epi32::<16>(next));
                }
                _mm512_store_si512((&raw mut *line).cast(), words);
            }
        }
    }
}
