//! Stores: where tensors live that outlive a plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ir::{Graph, Persistent, Role, Shape};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Part, Slab};

/// One tensor of a store.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Offset in `vec4<f32>` from the start of a copy.
    pub offset: u64,
    /// Shape and layout.
    pub shape: Shape,
    /// Name, first value, axes.
    pub info: Persistent,
}

/// Names and places of the tensors of a store; the same in each of its copies.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Tensors by name.
    pub entries: BTreeMap<String, Entry>,
    /// Length of a copy in `vec4<f32>`.
    pub vec4s: u64,
}

impl Contents {
    /// The tensors of `roles` in `graph`.
    ///
    /// # Errors
    /// If two tensors have the same name with different shapes, or an operation writes what only the host may.
    pub fn of(graph: &Graph, roles: &[Role]) -> Result<Self> {
        if roles.contains(&Role::Hyper) {
            only_read(graph)?;
        }
        let mut contents = Contents::default();
        for &role in roles {
            for (id, info) in graph.persistent(role) {
                let shape = graph.shape(id);
                match contents.entries.get(&info.name) {
                    Some(entry) if entry.shape == shape => continue,
                    Some(entry) => return Err(Error::shape(format!("tensor {}", info.name), entry.shape, shape)),
                    None => {}
                }
                let entry = Entry { offset: contents.vec4s, shape, info: info.clone() };
                contents.vec4s += shape.vec4s() as u64;
                contents.entries.insert(info.name.clone(), entry);
            }
        }
        Ok(contents)
    }
}

/// Refuses a graph that writes tensors of [`Role::Hyper`]: the next of the host's numbers would undo it.
fn only_read(graph: &Graph) -> Result<()> {
    let mut written = graph.nodes.iter().flat_map(|node| node.op.operands().1);
    let hosts = |id| graph.tensor(id).persistent.as_ref().filter(|info| info.role == Role::Hyper);
    match written.find_map(hosts) {
        Some(info) => Err(Error::invalid(&info.name, "an operation writes this tensor, which is the host's")),
        None => Ok(()),
    }
}

/// Several copies of the same tensors in device memory: one per network, or one per noise draw.
#[derive(Clone)]
pub struct Store {
    contents: Arc<Contents>,
    copies: Vec<(Slab, u64)>,
}

impl Store {
    /// `copies` zeroed copies.
    ///
    /// # Errors
    /// If they do not fit.
    pub fn new(gpu: &Gpu, contents: Contents, copies: usize, what: &str) -> Result<Self> {
        let bytes = contents.vec4s.max(1) * 16;
        let per_slab = (gpu.report().limits.usual_slab() / bytes).clamp(1, copies.max(1) as u64);
        let mut list = Vec::with_capacity(copies);
        while list.len() < copies {
            let here = per_slab.min((copies - list.len()) as u64);
            let slab = room(gpu, [&contents], here * bytes, what)?;
            list.extend((0..here).map(|i| (slab.clone(), i * bytes / 16)));
        }
        Ok(Store { contents: Arc::new(contents), copies: list })
    }

    /// A store with one copy for each of `contents`, side by side in as few slabs as will do, so that networks of
    /// different tensors share dispatches.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn packed(gpu: &Gpu, contents: Vec<Contents>, what: &str) -> Result<Vec<Store>> {
        let limit = gpu.report().limits.usual_slab() / 16;
        let mut slabs: Vec<u64> = vec![];
        let mut places = vec![];
        for own in &contents {
            let length = own.vec4s.max(1);
            if slabs.last().is_none_or(|used| used + length > limit) {
                slabs.push(0);
            }
            let last = slabs.len() - 1;
            places.push((last, slabs[last]));
            slabs[last] += length;
        }
        let slab = |length: u64| room(gpu, &contents, length * 16, what);
        let slabs = slabs.into_iter().map(slab).collect::<Result<Vec<_>>>()?;
        let store = |(contents, (slab, offset)): (Contents, (usize, u64))| Store {
            contents: Arc::new(contents),
            copies: vec![(Slab::clone(&slabs[slab]), offset)],
        };
        Ok(contents.into_iter().zip(places).map(store).collect())
    }

    /// A store around slabs that someone else fills.
    pub fn of_slabs(contents: Contents, slabs: Vec<Slab>) -> Self {
        Store { contents: Arc::new(contents), copies: slabs.into_iter().map(|slab| (slab, 0)).collect() }
    }

    /// Names and places.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Number of copies.
    pub fn copies(&self) -> usize {
        self.copies.len()
    }

    /// Slab and offset (in `vec4<f32>`) of a tensor in a copy.
    ///
    /// # Errors
    /// If there is no such tensor or copy.
    pub fn place(&self, copy: usize, name: &str) -> Result<(Slab, u64)> {
        let entry = self.entry(name)?;
        let (slab, base) = self.copy(copy)?;
        Ok((slab.clone(), base + entry.offset))
    }

    /// A tensor of a store.
    pub(crate) fn entry(&self, name: &str) -> Result<&Entry> {
        self.contents.entries.get(name).ok_or_else(|| Error::invalid(name, "there is no tensor of this name"))
    }

    fn copy(&self, copy: usize) -> Result<&(Slab, u64)> {
        self.copies.get(copy).ok_or_else(|| Error::invalid("copy", format!("{copy} of {}", self.copies.len())))
    }

    /// All slabs, each once.
    pub fn slabs(&self) -> Vec<Slab> {
        let mut slabs: Vec<Slab> = vec![];
        for (slab, _) in &self.copies {
            if slabs.last().is_none_or(|last| last.id() != slab.id()) {
                slabs.push(slab.clone());
            }
        }
        slabs
    }

    /// Writes a whole copy, in the memory layout.
    ///
    /// # Errors
    /// If the length is not a copy's.
    pub fn write(&self, gpu: &Gpu, copy: usize, values: &[f32]) -> Result<()> {
        if values.len() as u64 != self.contents.vec4s * 4 {
            return Err(Error::shape("store", self.contents.vec4s * 4, values.len()));
        }
        let (slab, base) = self.copy(copy)?;
        gpu.write(slab, base * 16, bytemuck::cast_slice(values))
    }

    /// Writes words of one tensor, in the memory layout.
    ///
    /// # Errors
    /// If there is no such tensor or it is not that long.
    pub fn write_words(&self, gpu: &Gpu, copy: usize, name: &str, words: &[u32]) -> Result<()> {
        let length = self.entry(name)?.shape.vec4s() * 4;
        if words.len() > length {
            return Err(Error::shape(format!("tensor {name}"), length, words.len()));
        }
        let (slab, offset) = self.place(copy, name)?;
        gpu.write(&slab, offset * 16, bytemuck::cast_slice(words))
    }

    /// Reads a whole copy, waiting for it.
    ///
    /// # Errors
    /// If the device fails.
    pub fn read_wait(&self, gpu: &Gpu, copy: usize) -> Result<Vec<f32>> {
        Ok(gpu.read_wait(&[self.part(copy)?])?.pop().unwrap_or_default())
    }

    /// A whole copy, to be read with others.
    ///
    /// # Errors
    /// If there is no such copy.
    pub fn part(&self, copy: usize) -> Result<Part> {
        let (slab, base) = self.copy(copy)?;
        Ok((slab.clone(), base * 16, self.contents.vec4s * 16))
    }

    /// All copies, to be read or cleared together.
    pub fn parts(&self) -> Vec<Part> {
        self.copies.iter().map(|(slab, base)| (slab.clone(), base * 16, self.contents.vec4s * 16)).collect()
    }

    /// One tensor of a copy, to be read with others.
    ///
    /// # Errors
    /// If there is no such tensor or copy.
    pub fn part_of(&self, copy: usize, name: &str) -> Result<Part> {
        let (slab, offset) = self.place(copy, name)?;
        Ok((slab, offset * 16, self.entry(name)?.shape.vec4s() as u64 * 16))
    }
}

/// Memory for tensors: where all are the host's, that which it alone writes.
fn room<'a>(gpu: &Gpu, contents: impl IntoIterator<Item = &'a Contents>, bytes: u64, what: &str) -> Result<Slab> {
    let mut roles = contents.into_iter().flat_map(|own| own.entries.values()).map(|entry| entry.info.role).peekable();
    match roles.peek().is_some() && roles.all(|role| role == Role::Hyper) {
        true => gpu.host_slab(bytes, what),
        false => gpu.slab(bytes, what),
    }
}
