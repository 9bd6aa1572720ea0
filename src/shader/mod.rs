//! Shader sources, their permutations, and their validation.
//!
//! A [`Variant`] is a shader of `shaders/` with constants baked in. [`Variant::wgsl`] is its text; [`validate`] runs
//! naga over it, which needs no GPU.

mod interface;
mod preprocess;
mod record;

use std::borrow::Cow;
use std::collections::BTreeMap;

pub use interface::{Binding, Interface, Kind};
pub use preprocess::{Defs, preprocess};
pub use record::{Record, Scalar};

use naga::valid::{Capabilities, ImmediateSlots, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};

use crate::error::{Error, Result};

macro_rules! sources {
    ($($folder:literal: $($name:literal)*;)*) => {
        &[$($(($name, include_str!(concat!("../../shaders/", $folder, $name, ".wgsl"))),)*)*]
    };
}

/// Every shader by name.
const SHADERS: &[(&str, &str)] = sources! {
    "": "ascend" "attack_judge" "attack_start" "attack_step" "batch_norm" "batch_norm_double_grad" "batch_norm_grad" "ceiling" "channel_sum" "combine" "conv2d" "conv2d_filter" "conv2d_filter_subgroup"
        "cross_entropy" "cross_entropy_hessian" "drop_path" "gather" "global_norm" "global_pool" "grouped" "grouped_filter" "image_dot" "max_pool" "moments" "noisy_codes" "perturb" "sgd" "sign_codes" "square_sum" "sum_parts"
        "tally";
};

/// Snippets for `#import`.
const SNIPPETS: &[(&str, &str)] =
    sources! { "shared/": "fold" "hard" "normal" "over_lanes" "pack" "philox" "rectify" "task" "terms"; };

/// The plain list of representative permutations that is checked on every platform's compiler.
const PERMUTATIONS: &str = include_str!("../../shaders/permutations");

/// A shader with its constants.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Variant {
    /// File name in `shaders/`, without `.wgsl`, or the name of an operation of the caller's.
    pub shader: &'static str,
    /// The text, if it is none of `shaders/`.
    pub text: Option<&'static str>,
    /// Records of its task table, which it may import by name.
    pub records: &'static [Record],
    /// Constants and flags.
    pub defs: BTreeMap<&'static str, i64>,
}

impl Variant {
    /// A shader with constants.
    pub fn new<const N: usize>(shader: &'static str, defs: [(&'static str, usize); N]) -> Self {
        Variant {
            shader,
            text: None,
            records: &[],
            defs: defs.into_iter().map(|(name, value)| (name, value as i64)).collect(),
        }
    }

    /// A shader that is none of `shaders/`, to be compiled with checks.
    pub fn own(shader: &'static str, text: &'static str) -> Self {
        Variant { shader, text: Some(text), records: &[], defs: BTreeMap::new() }
    }

    /// The same with one more constant.
    pub fn with(mut self, name: &'static str, value: impl Into<i64>) -> Self {
        self.defs.insert(name, value.into());
        self
    }

    /// Value of a constant, 0 if it is not set.
    pub fn def(&self, name: &str) -> i64 {
        self.defs.get(name).copied().unwrap_or(0)
    }

    /// The WGSL text.
    ///
    /// # Errors
    /// If the preprocessor refuses the source.
    pub fn wgsl(&self) -> Result<String> {
        let find = |list: &'static [(&str, &'static str)], name: &str| {
            list.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
        };
        let fail = |why: String| Error::Shader { shader: self.to_string(), why };
        let source = self.text.or_else(|| find(SHADERS, self.shader)).ok_or_else(|| fail("no such shader".into()))?;
        let defs = self.defs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let import = |name: &str| {
            let record = self.records.iter().find(|record| record.name == name);
            record.map(|record| Cow::Owned(record.wgsl())).or_else(|| find(SNIPPETS, name).map(Cow::Borrowed))
        };
        preprocess(source, &defs, &import).map_err(fail)
    }
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.shader)?;
        self.defs.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

/// Parses a text; `name` is for the error.
///
/// # Errors
/// naga's own report, with the position in the text.
pub fn parse(name: &str, text: &str) -> Result<naga::Module> {
    let fail = |why: String| Error::Shader { shader: name.into(), why };
    naga::front::wgsl::parse_str(text).map_err(|e| fail(e.emit_to_string(text)))
}

/// Parses and validates a variant.
///
/// # Errors
/// naga's own report, with the position in the preprocessed text.
pub fn validate(variant: &Variant) -> Result<(naga::Module, naga::valid::ModuleInfo)> {
    validate_text(&variant.to_string(), &variant.wgsl()?)
}

/// Parses and validates a text; `name` is for the error.
///
/// # Errors
/// naga's own report, with the position in the text.
pub fn validate_text(name: &str, text: &str) -> Result<(naga::Module, naga::valid::ModuleInfo)> {
    let module = parse(name, text)?;
    let fail = |why: String| Error::Shader { shader: name.into(), why };
    let info = validator(ValidationFlags::all()).validate(&module).map_err(|e| fail(e.emit_to_string(text)))?;
    Ok((module, info))
}

fn validator(flags: ValidationFlags) -> Validator {
    let mut validator = Validator::new(flags, Capabilities::SUBGROUP | Capabilities::IMMEDIATES);
    validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    validator
}

/// Bytes that say where a dispatch begins; see `shaders/shared/task.wgsl`.
pub(crate) const BEGIN_BYTES: u32 = 8;

/// Whether a shader reads the first workgroup and the first task of its dispatch: where it reads them, a dispatch may begin
/// elsewhere than at 0.
///
/// # Errors
/// naga's report.
pub(crate) fn begins(name: &str, module: &naga::Module) -> Result<[bool; 2]> {
    let fail = |why: String| Error::Shader { shader: name.into(), why };
    let info = validator(ValidationFlags::empty()).validate(module).map_err(|e| fail(e.to_string()))?;
    let used = (!module.entry_points.is_empty()).then(|| info.get_entry_point(0).immediate_slots_used);
    let reads = |word: u32| used.is_some_and(|used| used.contains(ImmediateSlots::from_range(4 * word, 4)));
    Ok([reads(0), reads(1)])
}

/// A variant as SPIR-V, written as the device gets it when shaders are trusted.
///
/// # Errors
/// If it does not validate.
pub fn spirv(variant: &Variant) -> Result<Vec<u32>> {
    use naga::back::spv;
    let (module, info) = validate(variant)?;
    let options = spv::Options {
        lang_version: (1, 3),
        flags: spv::WriterFlags::empty(),
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        ..spv::Options::default()
    };
    let fail = |why: spv::Error| Error::Shader { shader: variant.to_string(), why: why.to_string() };
    spv::write_vec(&module, &info, &options, None).map_err(fail)
}

/// A line of `shaders/permutations`: the shader's name, and its constants.
pub type Permutation = (&'static str, BTreeMap<&'static str, i64>);

/// The lines of `shaders/permutations`; [`crate::kernels::permutations`] makes variants of them.
///
/// # Errors
/// The line that is not of the form `shader NAME=VALUE ...`.
pub fn permutations() -> Result<Vec<Permutation>> {
    let lines = PERMUTATIONS.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let fail = || Error::Shader { shader: line.into(), why: "expected `shader NAME=VALUE ...`".into() };
            let mut words = line.split_whitespace();
            let name = words.next().ok_or_else(fail)?;
            let shader = SHADERS.iter().find(|(n, _)| *n == name).ok_or_else(fail)?.0;
            let defs = words.map(|word| {
                let (name, value) = word.split_once('=').ok_or_else(fail)?;
                Ok((name, value.parse().map_err(|_| fail())?))
            });
            Ok((shader, defs.collect::<Result<_>>()?))
        })
        .collect()
}

/// Names of all shaders.
pub fn names() -> impl Iterator<Item = &'static str> {
    SHADERS.iter().map(|(name, _)| *name)
}
