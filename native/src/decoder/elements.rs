//! What happens to the values between two products.

use std::arch::x86_64::*;

/// Return the bfloat16 nearest to a value, as bits.
pub fn narrowed(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// Return e to the power of each value, to about one unit in the last place; of NaN, NaN.
#[target_feature(enable = "avx512f")]
pub fn exp(values: __m512) -> __m512 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const TERMS: [f32; 6] = [1.987_569_2e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    // In this order: where either is NaN, the instructions return their second operand.
    let values = _mm512_max_ps(_mm512_set1_ps(-87.0), _mm512_min_ps(_mm512_set1_ps(88.0), values));
    let power = _mm512_roundscale_ps::<0>(_mm512_mul_ps(values, _mm512_set1_ps(std::f32::consts::LOG2_E)));
    let rest = _mm512_fnmadd_ps(power, _mm512_set1_ps(LN2_HIGH), values);
    let rest = _mm512_fnmadd_ps(power, _mm512_set1_ps(LN2_LOW), rest);
    let mut sum = _mm512_set1_ps(TERMS[0]);
    for term in &TERMS[1..] {
        sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(*term));
    }
    let sum = _mm512_fmadd_ps(sum, _mm512_mul_ps(rest, rest), _mm512_add_ps(rest, _mm512_set1_ps(1.0)));
    _mm512_scalef_ps(sum, power)
}

/// Return SiLU of 16 values times 16 others.
#[target_feature(enable = "avx512f")]
pub fn gated(gate: &[f32; 16], up: &[f32; 16]) -> [f32; 16] {
    let mut made = [0.0; 16];
    // SAFETY: each has 16 values.
    unsafe {
        let (gate, up) = (_mm512_loadu_ps(gate.as_ptr()), _mm512_loadu_ps(up.as_ptr()));
        let below = _mm512_add_ps(_mm512_set1_ps(1.0), exp(_mm512_sub_ps(_mm512_setzero_ps(), gate)));
        _mm512_storeu_ps(made.as_mut_ptr(), _mm512_mul_ps(_mm512_div_ps(gate, below), up));
    }
    made
}

/// Divide values by the root of their mean square and multiply them with weights; their number is a multiple of 16.
#[target_feature(enable = "avx512f")]
pub fn normalise(values: &mut [f32], weights: &[f32], epsilon: f32) {
    let count = values.len() as f32;
    let (values, weights) = (values.as_chunks_mut::<16>().0, weights.as_chunks::<16>().0);
    // SAFETY: each chunk has 16 values.
    unsafe {
        let mut sum = _mm512_setzero_ps();
        for chunk in values.iter() {
            let chunk = _mm512_loadu_ps(chunk.as_ptr());
            sum = _mm512_fmadd_ps(chunk, chunk, sum);
        }
        let scale = _mm512_set1_ps((_mm512_reduce_add_ps(sum) / count + epsilon).sqrt().recip());
        for (chunk, weights) in values.iter_mut().zip(weights) {
            let scaled = _mm512_mul_ps(_mm512_loadu_ps(chunk.as_ptr()), scale);
            _mm512_storeu_ps(chunk.as_mut_ptr(), _mm512_mul_ps(scaled, _mm512_loadu_ps(weights.as_ptr())));
        }
    }
}

/// Turn a head by the angles of its position; the sines of the first half are negative.
#[target_feature(enable = "avx512f")]
pub fn turn(head: &mut [f32], cosines: &[f32], sines: &[f32]) {
    let half = head.len() / 2;
    let (low, high) = head.split_at_mut(half);
    for place in 0..half {
        let (one, other) = (low[place], high[place]);
        low[place] = one * cosines[place] + other * sines[place];
        high[place] = other * cosines[half + place] + one * sines[half + place];
    }
}

/// Make weights of scores: e to the power of each, which the first `count` have, scaled to a sum of 1. The others are 0.
#[target_feature(enable = "avx512f")]
pub fn soften(scores: &mut [f32], count: usize) {
    scores[count..].fill(f32::NEG_INFINITY);
    let chunks = scores.as_chunks_mut::<16>().0;
    // SAFETY: each chunk has 16 values.
    unsafe {
        let mut most = _mm512_set1_ps(f32::NEG_INFINITY);
        for chunk in chunks.iter() {
            most = _mm512_max_ps(most, _mm512_loadu_ps(chunk.as_ptr()));
        }
        let most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
        let mut sum = _mm512_setzero_ps();
        for (number, chunk) in chunks.iter_mut().enumerate() {
            let here = count.saturating_sub(16 * number).min(16);
            let mask = ((1_u32 << here) - 1) as u16;
            let value = exp(_mm512_sub_ps(_mm512_loadu_ps(chunk.as_ptr()), most));
            let value = _mm512_maskz_mov_ps(mask, value);
            sum = _mm512_add_ps(sum, value);
            _mm512_storeu_ps(chunk.as_mut_ptr(), value);
        }
        let scale = _mm512_set1_ps(_mm512_reduce_add_ps(sum).recip());
        for chunk in chunks {
            _mm512_storeu_ps(chunk.as_mut_ptr(), _mm512_mul_ps(_mm512_loadu_ps(chunk.as_ptr()), scale));
        }
    }
}
