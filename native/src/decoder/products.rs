//! Products of rows with bfloat16 weights, summed in float32.
//!
//! Weights are packed in panels of 32 outputs; a word holds two neighbouring inputs of one output. A panel and up to
//! twelve rows at a time then fill the 32 registers of AVX-512, and each weight is read from memory once. Rows are
//! float32, or bfloat16 where the processor multiplies pairs of it faster.

use std::arch::x86_64::*;

/// Outputs of a panel.
pub const WIDTH: usize = 32;
/// Rows that are multiplied at once.
pub const HEIGHT: usize = 12;

/// Sums of a few rows and one panel.
pub type Tile = [[f32; WIDTH]; HEIGHT];

/// Rows of values, each `width` float32 behind the one before; if `narrow`, their first half holds the row in bfloat16.
#[derive(Clone, Copy)]
pub struct Rows {
    pub start: *mut f32,
    pub width: usize,
    pub narrow: bool,
}

// SAFETY: each unit of a phase writes where no other one reads or writes.
unsafe impl Send for Rows {}
// SAFETY: as above.
unsafe impl Sync for Rows {}

impl Rows {
    pub fn from(self, row: usize) -> Rows {
        Rows { start: self.start.wrapping_add(row * self.width), ..self }
    }

    /// Write values of a row, from a place on; their number and the place are multiples of 16.
    ///
    /// # Safety
    /// The row has them, nobody else reads or writes there, and the processor has what `narrow` asks for.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn put(self, row: usize, place: usize, values: &[f32]) {
        let into = self.from(row).start;
        // SAFETY: as promised.
        unsafe {
            if self.narrow {
                narrow(values.as_ptr(), into.cast::<u16>().add(place), values.len());
            } else {
                into.add(place).copy_from_nonoverlapping(values.as_ptr(), values.len());
            }
        }
    }
}

/// Round values to bfloat16; what is written may begin where what is read does.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn narrow(values: *const f32, into: *mut u16, count: usize) {
    for place in (0..count).step_by(16) {
        // SAFETY: as the caller promises; nothing is written before it was read.
        unsafe {
            let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(_mm512_loadu_ps(values.add(place))));
            _mm256_storeu_si256(into.add(place).cast(), rounded);
        }
    }
}

/// A line of the cache, so that no load crosses one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [u32; 16]);

impl Line {
    pub const ZERO: Line = Line([0; 16]);
}

/// A matrix of bfloat16 in the caller's memory, shape (outputs, inputs), row by row.
#[derive(Clone, Copy)]
pub struct Matrix {
    pub address: usize,
    pub outputs: usize,
    pub inputs: usize,
}

impl Matrix {
    fn row(&self, number: usize) -> *const u16 {
        (self.address as *const u16).wrapping_add(number * self.inputs)
    }
}

/// Packed weights.
pub struct Packed {
    lines: Vec<Line>,
    pub outputs: usize,
    pairs: usize,
}

impl Packed {
    /// Pack matrices that take the same inputs, one behind the other.
    ///
    /// # Safety
    /// The matrices are where they say.
    pub unsafe fn new(parts: &[Matrix]) -> Packed {
        let rows = parts.iter().flat_map(|part| (0..part.outputs).map(|row| part.row(row)));
        // SAFETY: each row is within its matrix.
        unsafe { Packed::of_rows(&rows.collect::<Vec<_>>(), parts[0].inputs) }
    }

    /// Pack two matrices so that each panel has 16 outputs of the one and the same 16 of the other.
    ///
    /// # Safety
    /// The matrices are where they say.
    pub unsafe fn alternating(one: Matrix, other: Matrix) -> Packed {
        let half = WIDTH / 2;
        let rows = (0..2 * one.outputs).map(|output| {
            let (panel, place) = (output / WIDTH, output % WIDTH);
            if place < half { one.row(panel * half + place) } else { other.row(panel * half + place - half) }
        });
        // SAFETY: each row is within its matrix, because their outputs are a multiple of `half`.
        unsafe { Packed::of_rows(&rows.collect::<Vec<_>>(), one.inputs) }
    }

    unsafe fn of_rows(rows: &[*const u16], inputs: usize) -> Packed {
        let pairs = inputs / 2;
        let mut lines = vec![Line::ZERO; rows.len().div_ceil(WIDTH) * pairs * 2];
        for (panel, rows) in lines.chunks_exact_mut(pairs * 2).zip(rows.chunks(WIDTH)) {
            for (place, &row) in rows.iter().enumerate() {
                let words = row.cast::<u32>();
                for pair in 0..pairs {
                    // SAFETY: a row has `inputs` values.
                    panel[2 * pair + place / 16].0[place % 16] = unsafe { words.add(pair).read_unaligned() };
                }
            }
        }
        Packed { lines, outputs: rows.len(), pairs }
    }

    pub fn inputs(&self) -> usize {
        self.pairs * 2
    }

    pub fn panels(&self) -> usize {
        self.outputs.div_ceil(WIDTH)
    }

    /// Multiply rows with a panel; `take` gets the number of each row, and its sums.
    ///
    /// # Safety
    /// There are `count` rows of as many values as the weights have inputs. The processor has AVX-512.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn multiply(&self, rows: Rows, count: usize, panel: usize, take: impl FnMut(usize, &[f32; WIDTH])) {
        let lines = &self.lines[panel * self.pairs * 2..];
        // SAFETY: as promised.
        unsafe { multiply(rows, count, lines.split_at(self.pairs * 2), take) }
    }
}

/// Multiply rows with one panel, and fetch what comes behind it.
///
/// # Safety
/// There are `count` rows, each of as many values as the panel has lines. The processor has AVX-512, and what `narrow`
/// asks for.
#[target_feature(enable = "avx512f")]
pub unsafe fn multiply(
    rows: Rows,
    count: usize,
    (lines, behind): (&[Line], &[Line]),
    mut take: impl FnMut(usize, &[f32; WIDTH]),
) {
    let blocks = count.div_ceil(HEIGHT);
    let mut tile: Tile = [[0.0; WIDTH]; HEIGHT];
    for block in 0..blocks {
        let (start, end) = (count * block / blocks, count * (block + 1) / blocks);
        let rows = rows.from(start);
        // The first pass over a panel would wait for memory: it is fetched during those over the one before.
        let half = behind.len().min(lines.len()) / 2;
        let ahead = match block {
            _ if half == 0 => [lines; 2],
            0 if blocks == 1 => [behind, &behind[half..]],
            0 => [behind; 2],
            1 => [&behind[half..]; 2],
            _ => [lines; 2],
        };
        let ahead = [ahead[0].as_ptr(), ahead[1].as_ptr()];
        macro_rules! of_height {
            ($($height:literal)*) => {
                match end - start {
                    // SAFETY: so many rows are there.
                    $($height if rows.narrow => unsafe { sum_narrow::<$height>(rows, lines, ahead, &mut tile) },
                    $height => unsafe { sum::<$height>(rows, lines, ahead, &mut tile) },)*
                    _ => unreachable!("a block has at most {HEIGHT} rows"),
                }
            };
        }
        of_height!(1 2 3 4 5 6 7 8 9 10 11 12);
        for (row, sums) in (start..end).zip(&tile) {
            take(row, sums);
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn sum<const ROWS: usize>(rows: Rows, lines: &[Line], ahead: [*const Line; 2], tile: &mut Tile) {
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    let odd = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    for (pair, weights) in lines.as_chunks::<2>().0.iter().enumerate() {
        // SAFETY: a line is 64 bytes, and each row has a value for each line.
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(ahead[0].wrapping_add(pair).cast());
            _mm_prefetch::<_MM_HINT_T1>(ahead[1].wrapping_add(pair).cast());
            // No closures here: what is passed to a function without the feature is called, not made part of this one.
            let words = _mm512_load_si512((&raw const weights[0]).cast());
            let more = _mm512_load_si512((&raw const weights[1]).cast());
            // A bfloat16 is the upper half of a float32.
            let (first, first_more) = (_mm512_slli_epi32::<16>(words), _mm512_slli_epi32::<16>(more));
            let (first, first_more) = (_mm512_castsi512_ps(first), _mm512_castsi512_ps(first_more));
            let (second, second_more) = (_mm512_and_si512(words, odd), _mm512_and_si512(more, odd));
            let (second, second_more) = (_mm512_castsi512_ps(second), _mm512_castsi512_ps(second_more));
            for (row, sums) in sums.iter_mut().enumerate() {
                let values = rows.from(row).start.add(2 * pair);
                let one = _mm512_set1_ps(*values);
                sums[0] = _mm512_fmadd_ps(one, first, sums[0]);
                sums[1] = _mm512_fmadd_ps(one, first_more, sums[1]);
                let other = _mm512_set1_ps(*values.add(1));
                sums[0] = _mm512_fmadd_ps(other, second, sums[0]);
                sums[1] = _mm512_fmadd_ps(other, second_more, sums[1]);
            }
        }
    }
    keep(&sums, tile);
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn sum_narrow<const ROWS: usize>(rows: Rows, lines: &[Line], ahead: [*const Line; 2], tile: &mut Tile) {
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    for (pair, weights) in lines.as_chunks::<2>().0.iter().enumerate() {
        // SAFETY: a line is 64 bytes, and each row has a value for each line.
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(ahead[0].wrapping_add(pair).cast());
            _mm_prefetch::<_MM_HINT_T1>(ahead[1].wrapping_add(pair).cast());
            let words: __m512bh = std::mem::transmute(_mm512_load_si512((&raw const weights[0]).cast()));
            let more: __m512bh = std::mem::transmute(_mm512_load_si512((&raw const weights[1]).cast()));
            for (row, sums) in sums.iter_mut().enumerate() {
                let values = *rows.from(row).start.cast::<i32>().add(pair);
                let values: __m512bh = std::mem::transmute(_mm512_set1_epi32(values));
                sums[0] = _mm512_dpbf16_ps(sums[0], words, values);
                sums[1] = _mm512_dpbf16_ps(sums[1], more, values);
            }
        }
    }
    keep(&sums, tile);
}

#[target_feature(enable = "avx512f")]
fn keep<const ROWS: usize>(sums: &[[__m512; 2]; ROWS], tile: &mut Tile) {
    for (sums, row) in sums.iter().zip(tile) {
        // SAFETY: a row of a tile has 32 values.
        unsafe {
            _mm512_storeu_ps(row.as_mut_ptr(), sums[0]);
            _mm512_storeu_ps(row.as_mut_ptr().add(16), sums[1]);
        }
    }
}
