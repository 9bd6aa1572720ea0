//! Named tensors on the host, with PyTorch's names, axes and order: files, fresh weights, transfers.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::store::{Contents, Entry, Store};
use crate::graph::{Init, Shape};
use crate::philox::Stream;

/// Purpose word of the random numbers that fill fresh weights.
const INIT_PURPOSE: u32 = 0x494E_4954;

/// A tensor with its axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// Axes, outermost first.
    pub dims: Vec<usize>,
    /// Row-major values.
    pub data: Vec<f32>,
}

/// Tensors by name.
pub type Named = BTreeMap<String, Values>;

/// A short mark of names, axes and values, by which equal tensors are known: CRC-32, for honest mistakes.
pub fn fingerprint(named: &Named) -> String {
    let mut crc = flate2::Crc::new();
    for (name, values) in named {
        crc.update(name.as_bytes());
        values.dims.iter().for_each(|&axis| crc.update(&(axis as u64).to_le_bytes()));
        crc.update(bytemuck::cast_slice(&values.data));
    }
    format!("{:08x}", crc.sum())
}

/// Reads the tensors of a safetensors file as `f32`, and its metadata: whole numbers become floats, `F16`, `BF16` and `F64` are
/// converted.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::File`] if it is not a safetensors file or holds a type that is none of these.
pub fn load(path: &Path) -> Result<(Named, BTreeMap<String, String>)> {
    read(path).map(|(named, metadata, _)| (named, metadata))
}

/// What is in a file: tensors, metadata, and how many tensors had a type that `f32` cannot hold, by that type.
pub(super) type Contained = (Named, BTreeMap<String, String>, BTreeMap<String, usize>);

/// What [`load`] reads, and the types that were converted.
///
/// # Errors
/// Those of [`load`].
pub(super) fn read(path: &Path) -> Result<Contained> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let fail = |why: String| Error::file(path, None, format!("not a usable safetensors file: {why}"));
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02") {
        return Err(Error::file(path, None, pickled(path)));
    }
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| fail(e.to_string()))?;
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let file = SafeTensors::deserialize(&bytes).map_err(|e| fail(e.to_string()))?;
    let (mut named, mut converted) = (Named::new(), BTreeMap::new());
    for (name, view) in file.iter() {
        let (bytes, dtype) = (view.data(), view.dtype());
        let data: Vec<f32> = match dtype {
            Dtype::F32 => bytemuck::pod_collect_to_vec(bytes),
            Dtype::F64 => numbers(bytes, |v: f64| v as f32),
            Dtype::F16 => numbers(bytes, from_half),
            Dtype::BF16 => numbers(bytes, |bits: u16| f32::from_bits(u32::from(bits) << 16)),
            Dtype::I64 => numbers(bytes, |v: i64| v as f32),
            Dtype::I32 => numbers(bytes, |v: i32| v as f32),
            // Raw images that golden cases carry beside the normalised ones.
            Dtype::U8 => continue,
            other => {
                let why = format!("tensor {name} is {other:?}, expected F32, F64, F16, BF16, I64 or I32");
                return Err(fail(why));
            }
        };
        if matches!(dtype, Dtype::F64 | Dtype::F16 | Dtype::BF16) {
            *converted.entry(format!("{dtype:?}")).or_default() += 1;
        }
        named.insert(name.to_owned(), Values { dims: view.shape().to_vec(), data });
    }
    Ok((named, metadata, converted))
}

/// Numbers of another type as `f32`.
fn numbers<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(bytes: &[u8], convert: impl Fn(T) -> f32) -> Vec<f32> {
    bytemuck::pod_collect_to_vec::<u8, T>(bytes).into_iter().map(convert).collect()
}

/// An IEEE 754 half-precision number.
fn from_half(bits: u16) -> f32 {
    let (exponent, fraction) = (u32::from(bits >> 10 & 0x1F), u32::from(bits & 0x3FF));
    let magnitude = match exponent {
        // Multiples of 2^-24: subnormal halves are normal singles.
        0 => fraction as f32 * 2f32.powi(-24),
        0x1F => f32::from_bits(0x7F80_0000 | fraction << 13),
        _ => f32::from_bits((exponent + 112) << 23 | fraction << 13),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// What to say of a file of PyTorch's own format.
fn pickled(path: &Path) -> String {
    let (from, mut to) = (path.display(), path.with_extension("safetensors"));
    if to == path {
        to = path.with_extension("converted.safetensors");
    }
    format!(
        "is a PyTorch file, which can hold programs and is not read; convert it in Python:\n    \
         import torch, safetensors.torch\n    \
         state = torch.load('{from}', map_location='cpu', weights_only=True)\n    \
         safetensors.torch.save_file({{k: v.contiguous() for k, v in state.get('state_dict', state).items()}}, '{}')",
        to.display()
    )
}

/// The bytes of a safetensors file.
///
/// # Errors
/// If a tensor's data do not fill its axes.
pub fn to_bytes(named: &Named, metadata: BTreeMap<String, String>) -> Result<Vec<u8>> {
    let views = named.iter().map(|(name, values)| {
        TensorView::new(Dtype::F32, values.dims.clone(), bytemuck::cast_slice(&values.data))
            .map(|view| (name.clone(), view))
            .map_err(|e| Error::invalid(name, e.to_string()))
    });
    let views: Vec<_> = views.collect::<Result<_>>()?;
    let plain = safetensors::serialize(views, None).map_err(|e| Error::invalid("safetensors", e.to_string()))?;
    with_metadata(&plain, &metadata)
}

/// Puts metadata, sorted, at the front of a safetensors header: the library would write them in random order, and equal
/// models should be equal files.
fn with_metadata(file: &[u8], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let fail = || Error::invalid("safetensors", "the header could not be written");
    let (length, rest) = file.split_first_chunk::<8>().ok_or_else(fail)?;
    let (header, data) = rest.split_at_checked(u64::from_le_bytes(*length) as usize).ok_or_else(fail)?;
    let tensors = std::str::from_utf8(header).ok().and_then(|h| h.trim_end().strip_prefix('{')).ok_or_else(fail)?;
    let json = serde_json::to_string(metadata).map_err(|_| fail())?;
    let comma = if tensors == "}" { "" } else { "," };
    let mut header = match metadata.is_empty() {
        true => format!("{{{tensors}"),
        false => format!("{{\"__metadata__\":{json}{comma}{tensors}"),
    };
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    Ok([&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat())
}

/// Position in PyTorch's row-major order of each value in our logical order. Consume it by `for_each`, which is much faster
/// than one by one.
fn torch_indices(shape: Shape) -> impl Iterator<Item = usize> {
    // Lengths of our axes from the outermost, with their strides in PyTorch's order.
    let [(outer, a), (middle, b), (inner, c)] = match shape {
        Shape::Filter { r, s, c, k, .. } => [(r * s, 1), (c, r * s), (k, c * r * s)],
        Shape::Map { n, h, w, c } => [(n, c * h * w), (h * w, 1), (c, h * w)],
        Shape::Vectors { .. } => [(1, 0), (1, 0), (shape.len(), 1)],
    };
    (0..outer).flat_map(move |i| (0..middle).flat_map(move |j| (0..inner).map(move |k| i * a + j * b + k * c)))
}

/// PyTorch's order to our logical order.
pub fn to_logical(shape: Shape, torch: &[f32]) -> Vec<f32> {
    let mut logical = Vec::with_capacity(torch.len());
    torch_indices(shape).for_each(|i| logical.push(torch[i]));
    logical
}

/// Our logical order to PyTorch's.
pub fn to_torch(shape: Shape, logical: &[f32]) -> Vec<f32> {
    let mut torch = vec![0.0; logical.len()];
    torch_indices(shape).enumerate().for_each(|(from, to)| torch[to] = logical[from]);
    torch
}

/// A key of a tensor's name (FNV-1a): random numbers of a tensor depend on its name and not on its neighbours, so that
/// networks that share a tensor share its numbers.
pub fn name_key(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Fresh values for all tensors of a store; each tensor's numbers depend on the seed and its name alone.
pub fn fresh(contents: &Contents, seed: u64) -> Named {
    let values = |(name, entry): (&String, &Entry)| {
        (name.clone(), Values { dims: entry.info.dims.clone(), data: draw(name, entry, seed) })
    };
    contents.entries.par_iter().map(values).collect()
}

/// Fresh values of one tensor.
pub(super) fn draw(name: &str, entry: &Entry, seed: u64) -> Vec<f32> {
    let mut stream = Stream::new(seed, INIT_PURPOSE, name_key(name));
    let length = entry.shape.len();
    match entry.info.init {
        Init::Constant(value) => vec![value; length],
        Init::Uniform { fan_in } => {
            let bound = 1.0 / (fan_in as f64).sqrt();
            (0..length).map(|_| ((2.0 * stream.uniform() - 1.0) * bound) as f32).collect()
        }
        Init::Identity => {
            let side = length.isqrt();
            (0..length).map(|i| if i / side == i % side { 1.0 } else { 0.0 }).collect()
        }
        Init::KaimingNormal { fan_out } => {
            let deviation = (2.0 / fan_out as f64).sqrt();
            (0..length).map(|_| (stream.normal() * deviation) as f32).collect()
        }
    }
}

/// Writes all tensors of a copy of a store; `named` may hold others besides.
///
/// # Errors
/// If one is missing, has other axes, or holds a value that is not finite.
pub fn upload(gpu: &Gpu, store: &Store, copy: usize, named: &Named) -> Result<()> {
    upload_by(gpu, store, copy, |name, entry, stored| lay_out(name, entry, named.get(name), stored))
}

/// Writes all tensors of a copy of a store; `lay` puts one at its place, which holds zeros.
///
/// # Errors
/// What `lay` says.
pub fn upload_by(
    gpu: &Gpu,
    store: &Store,
    copy: usize,
    lay: impl Fn(&str, &Entry, &mut [f32]) -> Result<()>,
) -> Result<()> {
    let contents = store.contents();
    let mut stored = vec![0.0f32; contents.vec4s as usize * 4];
    for (name, entry) in &contents.entries {
        let base = entry.offset as usize * 4;
        lay(name, entry, &mut stored[base..base + entry.shape.vec4s() * 4])?;
    }
    store.write(gpu, copy, &stored)
}

/// Lays out a tensor as the device has it; `stored` holds zeros.
///
/// # Errors
/// If it is missing, has other axes than `entry`, or holds a value that is not finite.
pub(super) fn lay_out(name: &str, entry: &Entry, values: Option<&Values>, stored: &mut [f32]) -> Result<()> {
    let values = values.ok_or_else(|| {
        let why = "is missing from the weights; is it the right architecture (--arch)?";
        Error::invalid(format!("tensor {name}"), why)
    })?;
    if values.dims != entry.info.dims || values.data.len() != entry.shape.len() {
        let (want, have) = (format!("{:?}", entry.info.dims), format!("{:?}", values.dims));
        return Err(Error::shape(format!("tensor {name}"), want, have));
    }
    if let Some(bad) = values.data.iter().position(|v| !v.is_finite()) {
        let why = format!("value {bad} is {}; all must be finite", values.data[bad]);
        return Err(Error::invalid(format!("tensor {name}"), why));
    }
    let logical = to_logical(entry.shape, &values.data);
    entry.shape.storage_indices().zip(&logical).for_each(|(to, value)| stored[to] = *value);
    Ok(())
}

/// Reads all tensors of a copy of a store, waiting for them.
///
/// # Errors
/// If the device fails.
pub fn download_wait(gpu: &Gpu, store: &Store, copy: usize) -> Result<Named> {
    Ok(download_all_wait(gpu, &[(store, copy)])?.pop().unwrap_or_default())
}

/// The same of several copies, which come together.
///
/// # Errors
/// If the device fails.
pub fn download_all_wait(gpu: &Gpu, copies: &[(&Store, usize)]) -> Result<Vec<Named>> {
    let parts = copies.iter().map(|(store, copy)| store.part(*copy)).collect::<Result<Vec<_>>>()?;
    let stored = gpu.read_wait(&parts)?;
    Ok(copies.iter().zip(&stored).map(|((store, _), stored)| named(store.contents(), stored)).collect())
}

/// The tensors of a copy as it is stored.
fn named(contents: &Contents, stored: &[f32]) -> Named {
    let read = |(name, entry): (&String, &Entry)| {
        let base = entry.offset as usize * 4;
        let logical: Vec<f32> = entry.shape.storage_indices().map(|i| stored[base + i]).collect();
        (name.clone(), Values { dims: entry.info.dims.clone(), data: to_torch(entry.shape, &logical) })
    };
    contents.entries.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_models_are_equal_files() {
        let named = Named::from([("a".into(), Values { dims: vec![2], data: vec![1.0, 2.0] })]);
        let metadata: BTreeMap<String, String> = (0..9).map(|i| (format!("key{i}"), format!("v\"{i}"))).collect();
        let bytes = to_bytes(&named, metadata.clone()).unwrap();
        assert_eq!(bytes, to_bytes(&named, metadata.clone()).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(load(&path).unwrap(), (named, metadata));
        assert!(to_bytes(&Named::new(), BTreeMap::new()).is_ok());
    }

    #[test]
    fn halves_are_exact() {
        let cases = [(0x0000, 0.0), (0x3C00, 1.0), (0xC000, -2.0), (0x7BFF, 65504.0), (0x0001, 2f32.powi(-24))];
        assert!(cases.iter().all(|&(bits, value)| from_half(bits) == value));
        assert!(
            from_half(0x7C00) == f32::INFINITY && from_half(0x7E00).is_nan() && from_half(0x8000).is_sign_negative()
        );
        assert_eq!(from_half(0x3555), 0.333_251_95);
        assert_eq!(from_half(0x03FF), 1023.0 * 2f32.powi(-24));
    }

    #[test]
    fn orders_are_inverse() {
        for shape in [Shape::Filter { r: 2, s: 3, c: 5, k: 7, groups: 1 }, Shape::map(2, 3, 4, 5), Shape::vector(6)] {
            let values: Vec<f32> = (0..shape.len()).map(|i| i as f32).collect();
            assert_eq!(to_torch(shape, &to_logical(shape, &values)), values);
        }
        // OIHW to RSCK: w[k=1, c=0, r=0, s=1] of a 2x1x1x2 filter is the last value but one in RSCK order... spelled out.
        let shape = Shape::Filter { r: 1, s: 2, c: 1, k: 2, groups: 1 };
        assert_eq!(to_logical(shape, &[0.0, 1.0, 10.0, 11.0]), [0.0, 10.0, 1.0, 11.0]);
    }
}
