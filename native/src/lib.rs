//! The scanner of dataset checks: from a block of lines to what is certainly good, without a Python object for each.
//!
//! One-sided on purpose: a line that it takes has no finding but its remarks, and whatever it does not take is
//! read by the exact parser in Python, which alone says what is wrong. Tests hold both to the same answers.

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod decoder;
mod formats;
mod images;
mod json;
mod reshape;
mod rules;
mod scan;
mod shortening;
mod texts;

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use rules::{Format, Rules};
use scan::{Buffers, Found};
use shortening::Shortened;

/// Which methods and meanings there are; a reader that expects another one does not use this module.
const PROTOCOL: u32 = 8;

/// Reads blocks of lines.
#[pyclass(frozen)]
struct Scanner {
    rules: Arc<Rules>,
    buffers: Mutex<Buffers>,
}

#[pymethods]
impl Scanner {
    /// Take the rules as `runner/datasets/rules/formats.py` and `texts.py` name them.
    #[new]
    #[pyo3(signature = (rules, *, images))]
    fn new(rules: &Bound<PyDict>, images: bool) -> PyResult<Self> {
        Ok(Scanner { rules: Arc::new(Rules::new(rules, images)?), buffers: Mutex::default() })
    }

    /// Return another scanner by the same rules, for another thread.
    fn another(&self) -> Self {
        Scanner { rules: self.rules.clone(), buffers: Mutex::default() }
    }

    /// Sort the lines of a block, its first `size` bytes, which `before` others precede; `contents` asks for the contents of all turns too.
    ///
    /// Other threads run meanwhile. The second value are the doubtful lines, as the exact parser takes them.
    fn read<'py>(
        &self,
        py: Python<'py>,
        block: &Bound<'py, PyBytes>,
        size: usize,
        before: usize,
        contents: bool,
    ) -> PyResult<(Found, Vec<Doubtful<'py>>)> {
        let block = beginning(block, size)?;
        let (found, doubtful) = py.detach(|| {
            // What a panic left in the buffers is cleared before it is read.
            let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
            scan::read(block, before, &self.rules, contents, &mut buffers)
        });
        let line = |place| PyBytes::new(py, &block[place]);
        let lines = doubtful.into_iter().map(|(number, place, short, plain)| (number, line(place), short, plain));
        Ok((found, lines.collect()))
    }

    /// Write the lines of a block in another format, texts as they are; leaves those alone that are not certainly good.
    fn reshape<'py>(
        &self,
        py: Python<'py>,
        block: &Bound<'py, PyBytes>,
        size: usize,
        format: &str,
    ) -> PyResult<Reshaped<'py>> {
        let format = Format::named(format).ok_or_else(|| PyValueError::new_err("no such format"))?;
        let block = beginning(block, size)?;
        let (count, rows, left, written) = py.detach(|| {
            let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
            let (count, rows, left) = reshape::reshape(block, format, &self.rules, &mut buffers);
            buffers.shrink();
            (count, rows, left, std::mem::take(&mut buffers.written))
        });
        let made = PyBytes::new(py, &written);
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).written = written;
        Ok((made, count, rows, left))
    }
}

/// Number, bytes, what it is where it can be shortened, and whether it is plain.
type Doubtful<'py> = (usize, Bound<'py, PyBytes>, Option<Shortened>, bool);

fn beginning<'a>(block: &'a Bound<'_, PyBytes>, size: usize) -> PyResult<&'a [u8]> {
    block.as_bytes().get(..size).ok_or_else(|| PyValueError::new_err("the block is shorter"))
}

/// Lines in another format, the numbers of all lines and of those written, and the other lines.
type Reshaped<'py> = (Bound<'py, PyBytes>, usize, usize, Vec<reshape::Left>);

#[pymodule]
fn runner_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("PROTOCOL", PROTOCOL)?;
    #[cfg(target_arch = "x86_64")]
    module.add_class::<decoder::Decoder>()?;
    module.add_class::<Scanner>()
}
