//! The forward pass of a dense Llama-style model with bfloat16 weights, on processors with AVX-512.
//!
//! What `runner/emulator/engine/serving/dense.py` computes with PyTorch, in one call for all layers: between two
//! products nothing returns to Python, each weight is read once for all tokens, and threads share the panels of a
//! product. Values between the products are float32; what a product reads is bfloat16 if the caller says so. Keys and
//! values are kept in bfloat16, in the caller's memory.

mod attention;
mod elements;
mod products;
mod sharing;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use attention::{Asking, Row, Scratch};
use products::{Matrix, Packed, Rows, WIDTH};
use sharing::Worker;

/// Tokens of one row whose attention is one unit of work.
const PIECE: usize = 32;
/// Rows that are normalised, or heads of which are turned, in one unit.
const ROWS: usize = 8;
/// Phases of a layer.
const PHASES: usize = 9;

/// Address, outputs and inputs of a linear layer's weights, contiguous bfloat16.
type Weights = (usize, usize, usize);

struct Layer {
    attention_in: Packed,
    attention_out: Packed,
    feed_in: Packed,
    feed_out: Packed,
    norm_in: Vec<f32>,
    norm_feed: Vec<f32>,
    /// Of queries and keys, one head behind the other; empty if there are none.
    norm_heads: Vec<f32>,
}

/// Weights and arithmetic of one model.
#[pyclass(frozen)]
pub struct Decoder {
    heads: usize,
    key_heads: usize,
    size: usize,
    epsilon: f32,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    head: Packed,
    /// Whether the rows of products are rounded to bfloat16.
    narrow: bool,
}

/// Values that threads write at different places.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: each unit of a phase writes where no other one reads or writes.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Return values that no other unit of this phase has.
    #[allow(clippy::mut_from_ref)]
    unsafe fn at(&self, start: usize, count: usize) -> &mut [f32] {
        // SAFETY: as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), count) }
    }

    /// Return values that no unit of this phase writes.
    unsafe fn read(&self, start: usize, count: usize) -> &[f32] {
        // SAFETY: as the caller promises.
        unsafe { std::slice::from_raw_parts(self.0.add(start), count) }
    }
}

/// What one call computes.
struct Pass<'call> {
    states: Shared,
    cosines: Shared,
    sines: Shared,
    positions: &'call [usize],
    /// Of each token.
    rows: &'call [Row],
    /// First token and number of tokens of each piece.
    pieces: &'call [(usize, usize)],
    wanted: &'call [usize],
    normed: Rows,
    mixed: Shared,
    read: Rows,
    gated: Rows,
}

#[pymethods]
impl Decoder {
    /// Take weights: of each layer those of queries, keys, values, output, gate, up and down; they are copied.
    ///
    /// Norms are lists of numbers: of each layer before attention, before the feed-forward part and of its heads.
    /// With `narrow`, products read bfloat16, as PyTorch's do; the processor must have AVX-512 BF16. Raises ValueError where shapes do not fit one another.
    #[new]
    #[allow(clippy::too_many_arguments)]
    fn new(
        heads: usize,
        key_heads: usize,
        size: usize,
        epsilon: f32,
        layers: Vec<[Weights; 7]>,
        norms: Vec<[Vec<f32>; 3]>,
        norm: Vec<f32>,
        head: Weights,
        narrow: bool,
    ) -> PyResult<Self> {
        let (hidden, between) = (norm.len(), layers.first().map_or(0, |first| first[4].1));
        let able = Self::supports(hidden, size, between) && (!narrow || is_x86_feature_detected!("avx512bf16"));
        if !able || [heads, key_heads, size, hidden, between].contains(&0) {
            return Err(PyValueError::new_err("this processor or this shape is not supported"));
        }
        let (asked, kept) = (heads * size, key_heads * size);
        let shapes = [
            (asked, hidden),
            (kept, hidden),
            (kept, hidden),
            (hidden, asked),
            (between, hidden),
            (between, hidden),
            (hidden, between),
        ];
        let fits = layers.iter().all(|weights| weights.map(|(_, outputs, inputs)| (outputs, inputs)) == shapes)
            && norms.len() == layers.len()
            && norms.iter().all(|[before, feed, turned]| {
                [before.len(), feed.len()] == [hidden; 2] && [0, asked + kept].contains(&turned.len())
            });
        if !fits || !heads.is_multiple_of(key_heads) || head.2 != hidden {
            return Err(PyValueError::new_err("weights do not fit one another"));
        }
        let matrix = |(address, outputs, inputs): Weights| Matrix { address, outputs, inputs };
        let layers = layers.into_iter().zip(norms).map(|(weights, [norm_in, norm_feed, norm_heads])| {
            let [query, key, value, out, gate, up, down] = weights.map(matrix);
            // SAFETY: the caller gives weights of these shapes.
            unsafe {
                Layer {
                    attention_in: Packed::new(&[query, key, value]),
                    attention_out: Packed::new(&[out]),
                    feed_in: Packed::alternating(gate, up),
                    feed_out: Packed::new(&[down]),
                    norm_in,
                    norm_feed,
                    norm_heads,
                }
            }
        });
        let layers = layers.collect();
        // SAFETY: as above.
        let head = unsafe { Packed::new(&[matrix(head)]) };
        Ok(Decoder { heads, key_heads, size, epsilon, layers, norm, head, narrow })
    }

    /// Tell whether this processor can do it, for so many hidden values, values of a head and of the part between.
    #[staticmethod]
    fn supports(hidden: usize, size: usize, between: usize) -> bool {
        is_x86_feature_detected!("avx512f") && [hidden, size, between].iter().all(|count| count.is_multiple_of(16))
    }

    /// Compute the last hidden states of tokens, in place: those of `wanted` tokens, ascending, come first.
    ///
    /// Arguments are addresses of float32: embeddings of the tokens, shape (tokens, hidden); cosines and sines, shape
    /// (positions, size). A row is the address of its keys and values, the values from one layer, kind and head to the
    /// next, and the number of its tokens, which follow those of the row before. Other threads run meanwhile.
    /// Raises ValueError where the numbers of tokens do not agree.
    #[allow(clippy::too_many_arguments)]
    fn forward(
        &self,
        py: Python<'_>,
        states: usize,
        cosines: usize,
        sines: usize,
        positions: Vec<usize>,
        rows: Vec<(usize, usize, usize, usize, usize)>,
        wanted: Vec<usize>,
        threads: usize,
    ) -> PyResult<()> {
        let (count, tokens) = (positions.len(), rows.iter().map(|row| row.4).sum::<usize>());
        let ascending = wanted.is_sorted_by(|one, next| one < next) && wanted.last().is_none_or(|&last| last < count);
        if threads == 0 || tokens != count || !ascending {
            return Err(PyValueError::new_err(format!(
                "{count} positions, {tokens} tokens in rows, {threads} threads, wanted {wanted:?}"
            )));
        }
        py.detach(|| {
            let (mut of_token, mut pieces) = (Vec::new(), Vec::new());
            for (address, layer, kind, head, count) in rows {
                for first in (0..count).step_by(PIECE) {
                    pieces.push((of_token.len() + first, (count - first).min(PIECE)));
                }
                of_token.extend(std::iter::repeat_n(Row { address, layer, kind, head }, count));
            }
            let one = &self.layers[0];
            let room = |values: usize| vec![0.0_f32; count * values];
            let rows = |values: &mut Vec<f32>| self.rows(values.as_mut_ptr(), values.len() / count.max(1));
            let (mut normed, mut mixed) = (room(self.norm.len()), room(one.attention_in.outputs));
            let (mut read, mut gated) = (room(self.heads * self.size), room(one.feed_out.inputs()));
            let pass = Pass {
                states: Shared(states as *mut f32),
                cosines: Shared(cosines as *mut f32),
                sines: Shared(sines as *mut f32),
                positions: &positions,
                rows: &of_token,
                pieces: &pieces,
                wanted: &wanted,
                normed: rows(&mut normed),
                mixed: Shared(mixed.as_mut_ptr()),
                read: rows(&mut read),
                gated: rows(&mut gated),
            };
            let phases = self.layers.len() * PHASES + 1;
            // SAFETY: `supports` was true, and the caller gives memory of these shapes.
            sharing::run(phases, threads, |worker| unsafe { self.pass(&pass, worker) });
        });
        Ok(())
    }

    /// Multiply states, at an address, with the output layer; logits are written to the other address, in float32.
    fn logits(&self, py: Python<'_>, states: usize, count: usize, into: usize, threads: usize) {
        py.detach(|| {
            let (width, into) = (self.norm.len(), Shared(into as *mut f32));
            let mut copy = vec![0.0_f32; count * width];
            let rows = self.rows(copy.as_mut_ptr(), width);
            // SAFETY: `supports` was true, and the caller gives memory of these shapes.
            unsafe {
                for row in 0..count {
                    rows.put(row, 0, Shared(states as *mut f32).read(row * width, width));
                }
                sharing::run(1, threads, |worker| self.project(&self.head, rows, count, worker, into, put));
            }
        });
    }
}

/// Write sums over what was there.
fn put(into: &mut [f32], sums: &[f32]) {
    into.copy_from_slice(&sums[..into.len()]);
}

/// Add sums to what was there.
fn add(into: &mut [f32], sums: &[f32]) {
    into.iter_mut().zip(sums).for_each(|(value, sum)| *value += sum);
}

impl Decoder {
    /// Go through all layers.
    ///
    /// # Safety
    /// The memory of the pass is there, and the processor has AVX-512.
    #[target_feature(enable = "avx512f")]
    unsafe fn pass(&self, pass: &Pass, worker: &mut Worker) {
        let (hidden, size, read) = (self.norm.len(), self.size, self.heads * self.size);
        let mut count = pass.positions.len();
        let mut scratch = Scratch::default();
        for (number, layer) in self.layers.iter().enumerate() {
            // SAFETY: a unit of each phase has rows, panels or heads of its own.
            unsafe {
                self.norm(pass, &layer.norm_in, count, worker);
                self.project(&layer.attention_in, pass.normed, count, worker, pass.mixed, put);
                let mixed = layer.attention_in.outputs;
                worker.share(count.div_ceil(ROWS), |unit| {
                    for token in unit * ROWS..count.min((unit + 1) * ROWS) {
                        self.turn(pass, layer, number, token, pass.mixed.at(token * mixed, mixed));
                    }
                });
                let sharing = self.heads / self.key_heads;
                worker.share(pass.pieces.len() * self.key_heads, |unit| {
                    let ((first, tokens), head) = (pass.pieces[unit / self.key_heads], unit % self.key_heads);
                    let positions = &pass.positions[first..first + tokens];
                    let asking = Asking { row: pass.rows[first], layer: number, head, sharing, size, positions };
                    let start = head * sharing * size;
                    let queries = Rows { start: pass.mixed.0.add(first * mixed + start), width: mixed, narrow: false };
                    asking.attend(queries, pass.read.from(first), start, &mut scratch);
                });
                if number == self.layers.len() - 1 && pass.wanted.len() < count {
                    // Nothing reads the others any more.
                    worker.share(1, |_| {
                        for (place, &token) in pass.wanted.iter().enumerate().filter(|(place, token)| place < token) {
                            for (values, width) in [(pass.states, hidden), (Shared(pass.read.start), read)] {
                                values.at(place * width, width).copy_from_slice(values.read(token * width, width));
                            }
                        }
                    });
                    count = pass.wanted.len();
                }
                self.project(&layer.attention_out, pass.read, count, worker, pass.states, add);
                self.norm(pass, &layer.norm_feed, count, worker);
                worker.share(layer.feed_in.panels(), |panel| {
                    layer.feed_in.multiply(pass.normed, count, panel, |row, sums| {
                        let halves = sums.as_chunks::<16>().0;
                        pass.gated.put(row, panel * 16, &elements::gated(&halves[0], &halves[1]));
                    });
                });
                self.project(&layer.feed_out, pass.gated, count, worker, pass.states, add);
            }
        }
        worker.share(count, |row| {
            // SAFETY: a row a unit.
            elements::normalise(unsafe { pass.states.at(row * hidden, hidden) }, &self.norm, self.epsilon);
        });
    }

    /// Return rows that a product reads.
    fn rows(&self, start: *mut f32, width: usize) -> Rows {
        Rows { start, width, narrow: self.narrow }
    }

    /// Normalise states, into a place of their own.
    #[target_feature(enable = "avx512f")]
    unsafe fn norm(&self, pass: &Pass, weights: &[f32], count: usize, worker: &mut Worker) {
        let hidden = self.norm.len();
        let mut normed = vec![0.0; hidden];
        worker.share(count.div_ceil(ROWS), |unit| {
            for row in unit * ROWS..count.min((unit + 1) * ROWS) {
                // SAFETY: rows of this unit.
                unsafe {
                    normed.copy_from_slice(pass.states.read(row * hidden, hidden));
                    elements::normalise(&mut normed, weights, self.epsilon);
                    pass.normed.put(row, 0, &normed);
                }
            }
        });
    }

    /// Multiply rows with weights, a panel a unit.
    #[target_feature(enable = "avx512f")]
    unsafe fn project(
        &self,
        weights: &Packed,
        inputs: Rows,
        count: usize,
        worker: &mut Worker,
        into: Shared,
        take: impl Fn(&mut [f32], &[f32]),
    ) {
        worker.share(weights.panels(), |panel| {
            let wide = (weights.outputs - panel * WIDTH).min(WIDTH);
            // SAFETY: the outputs of a panel are written by one unit.
            unsafe {
                weights.multiply(inputs, count, panel, |row, sums| {
                    take(into.at(row * weights.outputs + panel * WIDTH, wide), sums);
                });
            }
        });
    }

    /// Normalise and turn queries and keys of a token, and store keys and values.
    #[target_feature(enable = "avx512f")]
    unsafe fn turn(&self, pass: &Pass, layer: &Layer, number: usize, token: usize, mixed: &mut [f32]) {
        let (size, position) = (self.size, pass.positions[token]);
        // SAFETY: there are angles for each position, and the row has room for it.
        unsafe {
            let cosines = pass.cosines.read(position * size, size);
            let sines = pass.sines.read(position * size, size);
            for (head, values) in mixed.chunks_exact_mut(size).enumerate() {
                if head < self.heads + self.key_heads {
                    if !layer.norm_heads.is_empty() {
                        elements::normalise(values, &layer.norm_heads[head * size..][..size], self.epsilon);
                    }
                    elements::turn(values, cosines, sines);
                }
                if let Some(entry) = head.checked_sub(self.heads) {
                    let (kind, head) = (entry / self.key_heads, entry % self.key_heads);
                    pass.rows[token].store(number, kind, head, position, values);
                }
            }
        }
    }
}
