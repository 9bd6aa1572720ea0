//! Reading the reference files.

use image::RgbImage;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A folder of reference outputs.
pub struct Reference(PathBuf);

/// An array of bytes.
pub struct Bytes {
    pub shape: Vec<usize>,
    pub values: Vec<u8>,
}

impl Reference {
    /// The folder in the repository, and the large one where it is.
    pub fn all() -> Vec<Reference> {
        let here = crate::common::root().join("tests/golden/corruptions");
        [Some(Reference(here)), Reference::large()].into_iter().flatten().collect()
    }

    /// The large folder; says so if it isn't there.
    pub fn large() -> Option<Reference> {
        let Some(root) = std::env::var_os("ALTIPLANO_REFERENCE") else {
            println!("skipped: ALTIPLANO_REFERENCE is not set, so that its corruptions/ is not compared");
            return None;
        };
        Some(Reference(Path::new(&root).join("corruptions")))
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.0.join(name);
        assert!(self.0.is_dir(), "{} is missing", self.0.display());
        path.exists().then(|| std::fs::read(&path).unwrap())
    }

    /// Shape, type and data of a version 1 `.npy` file.
    fn array(&self, name: &str) -> Option<(Vec<usize>, String, Vec<u8>)> {
        let file = self.read(name)?;
        let end = 10 + usize::from(u16::from_le_bytes([file[8], file[9]]));
        let header = std::str::from_utf8(&file[10..end]).unwrap().to_owned();
        assert!(header.contains("'fortran_order': False"), "{name}");
        let shape = header.split(['(', ')']).nth(1).unwrap();
        let shape = shape.split(',').filter_map(|n| n.trim().parse().ok()).collect();
        Some((shape, header, file[end..].to_vec()))
    }

    /// An array of bytes, if the file is there.
    pub fn bytes(&self, name: &str) -> Option<Bytes> {
        let (shape, header, values) = self.array(name)?;
        assert!(header.contains("|u1") && shape.iter().product::<usize>() == values.len(), "{name}");
        Some(Bytes { shape, values })
    }

    /// An array of doubles, if the file is there.
    pub fn numbers(&self, name: &str) -> Option<Vec<f64>> {
        let (_, header, bytes) = self.array(name)?;
        assert!(header.contains("<f8"), "{name}");
        Some(bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect())
    }

    /// The images before corruption: `cifar32` or `hendrycks224`.
    pub fn clean(&self, set: &str) -> Vec<RgbImage> {
        let name = if set == "cifar32" { "clean_32.npy" } else { "clean_224.npy" };
        let Bytes { shape, values } = self.bytes(name).unwrap_or_else(|| panic!("{name} is missing"));
        let [_, height, width, 3] = shape[..] else { panic!("{name}: {shape:?}") };
        let image = |pixels: &[u8]| RgbImage::from_raw(width as u32, height as u32, pixels.to_vec()).unwrap();
        values.chunks_exact(height * width * 3).map(image).collect()
    }

    /// A JSON file.
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name).unwrap_or_else(|| panic!("{name} is missing"))).unwrap()
    }
}

/// SHA-1 (FIPS 180-4) in hexadecimal, to compare with hashes of outputs that are too large to store.
pub fn sha1(data: &[u8]) -> String {
    let mut state: [u32; 5] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0];
    let mut padded = data.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((data.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut w = [0u32; 80];
        for (w, bytes) in w.iter_mut().zip(block.chunks_exact(4)) {
            *w = u32::from_be_bytes(bytes.try_into().unwrap());
        }
        for t in 16..80 {
            w[t] = (w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (t, w) in w.into_iter().enumerate() {
            let (f, k) = match t / 20 {
                0 => ((b & c) | (!b & d), 0x5A82_7999),
                1 => (b ^ c ^ d, 0x6ED9_EBA1),
                2 => ((b & c) | (b & d) | (c & d), 0x8F1B_BCDC),
                _ => (b ^ c ^ d, 0xCA62_C1D6u32),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(w);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (state, x) in state.iter_mut().zip([a, b, c, d, e]) {
            *state = state.wrapping_add(x);
        }
    }
    state.iter().map(|x| format!("{x:08x}")).collect()
}

#[test]
fn sha1_of_known_texts() {
    assert_eq!(sha1(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    assert_eq!(sha1(b""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
}
