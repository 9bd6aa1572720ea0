//! What a shader asks of an adapter, read from its module.

use naga::{AddressSpace, Module, StorageAccess};
use serde::Serialize;

use crate::error::{Error, Result};

/// What a binding holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A storage buffer that the shader only reads.
    Read,
    /// A storage buffer that the shader reads and writes.
    ReadWrite,
    /// A uniform buffer.
    Uniform,
    /// A texture or a sampler.
    Other,
}

/// A resource that a shader declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Binding {
    /// Its group; all of this crate's are 0.
    pub group: u32,
    /// Its number in the group.
    pub binding: u32,
    /// What it holds.
    pub kind: Kind,
    /// Bytes that a buffer has at least; an array without length counts one element.
    pub bytes: u32,
}

/// What a compute shader asks of an adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its entry point.
    pub entry: String,
    /// Lanes of a workgroup in x, y, z.
    pub workgroup: [u32; 3],
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Bytes of immediates (push constants): the first workgroup and the first task of a dispatch.
    pub immediates: u32,
    /// Its resources, by group and number.
    pub bindings: Vec<Binding>,
}

impl Interface {
    /// Of a module with one entry point for compute; `name` is for the error.
    ///
    /// # Errors
    /// If there is none or more than one.
    pub fn of(name: &str, module: &Module) -> Result<Self> {
        let points: Vec<_> =
            module.entry_points.iter().filter(|point| point.stage == naga::ShaderStage::Compute).collect();
        let [point] = points[..] else {
            let why = format!("expected one entry point marked @compute, found {}", points.len());
            return Err(Error::Shader { shader: name.into(), why });
        };
        let size = |variable: &naga::GlobalVariable| module.types[variable.ty].inner.size(module.to_ctx());
        let (mut workgroup_bytes, mut immediates) = (0u32, 0u32);
        let mut bindings = vec![];
        for (_, variable) in module.global_variables.iter() {
            let kind = match variable.space {
                AddressSpace::WorkGroup => {
                    workgroup_bytes = workgroup_bytes.saturating_add(size(variable));
                    continue;
                }
                AddressSpace::Immediate => {
                    immediates = immediates.saturating_add(size(variable));
                    continue;
                }
                AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => Kind::ReadWrite,
                AddressSpace::Storage { .. } => Kind::Read,
                AddressSpace::Uniform => Kind::Uniform,
                _ => Kind::Other,
            };
            if let Some(place) = &variable.binding {
                bindings.push(Binding { group: place.group, binding: place.binding, kind, bytes: size(variable) });
            }
        }
        bindings.sort_by_key(|b| (b.group, b.binding));
        let (entry, workgroup) = (point.name.clone(), point.workgroup_size);
        Ok(Interface { entry, workgroup, workgroup_bytes, immediates, bindings })
    }

    /// Lanes of a workgroup.
    pub fn lanes(&self) -> u32 {
        self.workgroup.iter().fold(1, |lanes, n| lanes.saturating_mul(*n))
    }

    /// Storage buffers.
    pub fn storage(&self) -> usize {
        self.bindings.iter().filter(|b| matches!(b.kind, Kind::Read | Kind::ReadWrite)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shader::parse;

    fn interface(text: &str) -> Result<Interface> {
        Interface::of("test", &parse("test", text)?)
    }

    #[test]
    fn reads_what_a_shader_declares() {
        let text = "struct S { a: u32, b: array<u32> }\n\
            @group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;\n\
            @group(0) @binding(0) var<storage, read> a: S;\n\
            @group(0) @binding(1) var<uniform> b: vec4<u32>;\n\
            var<workgroup> w: array<vec4<f32>, 10>;\n\
            struct I { a: u32, b: u32 }\n\
            var<immediate> i: I;\n\
            @compute @workgroup_size(8, 4) fn run() { w[0] = c[b.x + a.b[0] + i.b]; c[0] = w[0]; }";
        let found = interface(text).unwrap();
        assert_eq!((found.entry.as_str(), found.workgroup, found.lanes(), found.storage()), ("run", [8, 4, 1], 32, 2));
        assert_eq!((found.workgroup_bytes, found.immediates), (160, 8));
        let binding = |binding, kind, bytes| Binding { group: 0, binding, kind, bytes };
        let all = [binding(0, Kind::Read, 8), binding(1, Kind::Uniform, 16), binding(2, Kind::ReadWrite, 16)];
        assert_eq!(found.bindings, all);
    }

    #[test]
    fn finds_what_is_asked_of_a_beginning() {
        let reads = |body: &str| {
            let text = format!(
                "struct Begin {{ group: u32, task: u32 }}\n\
                var<immediate> begin: Begin;\n\
                @group(0) @binding(0) var<storage, read_write> c: array<u32>;\n\
                fn task_number() -> u32 {{ return begin.task; }}\n\
                @compute @workgroup_size(1) fn run() {{ c[0] = {body}; }}"
            );
            crate::shader::begins("test", &parse("test", &text).unwrap()).unwrap()
        };
        let found = ["1u", "begin.group", "task_number()", "begin.group + task_number()"].map(reads);
        assert_eq!(found, [[false, false], [true, false], [false, true], [true, true]]);
    }

    #[test]
    fn wants_one_entry_point() {
        for text in ["fn f() {}", "@compute @workgroup_size(1) fn a() {} @compute @workgroup_size(1) fn b() {}"] {
            assert!(interface(text).unwrap_err().to_string().contains("one entry point"));
        }
        assert!(interface("fn f( {}").unwrap_err().to_string().contains("wgsl:1:"));
    }
}
